//! The training loop.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use burn::backend::{Autodiff, Flex};
use burn::grad_clipping::GradientClippingConfig;
use burn::module::AutodiffModule;
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::prelude::{Backend, ElementConversion, Int, Tensor};
use burn::tensor::TensorData;

use crate::bpe::{Bpe, Id};
use crate::conversation;
use crate::dice::Dice;
use crate::facts;
use crate::folder::Model;
use crate::fused::Fused;
use crate::network::{Frame, Network};
use crate::plant::plant;
use crate::prose::{self, Prose};
use crate::recipe::{Recipe, Stage};

/// The backend that trains.
type Tape = Autodiff<Flex>;

/// Steps between two lines of progress and two writings of the folder.
const REPORT_STEPS: usize = 50;

/// Conversations that each line of progress asks.
const PROBES: usize = 40;

/// How much generated text the tokenizer learns from, beside the prose.
const LEARN_CONVERSATIONS: usize = 600;

/// What sequences are cut from.
#[derive(Debug)]
pub struct Source {
    bpe: Bpe,
    prose: Vec<Id>,
    paragraphs: Vec<Vec<String>>,
    dice: Dice,
    seed: u64,
    context_weight: f32,
}

/// A batch: `tokens`, `targets` and `weights` are `[batch, tokens]`, row by row.
#[derive(Debug, Default)]
pub struct Batch {
    tokens: Vec<i32>,
    targets: Vec<Id>,
    weights: Vec<f32>,
}

impl Source {
    /// Learns the tokenizer and cuts the prose into tokens.
    #[must_use]
    pub fn new(recipe: &Recipe, prose: &Prose) -> Self {
        let paragraphs = prose::sentences(&prose.training);
        let mut dice = Dice::new(recipe.seed);
        let mut text = prose.training.clone();
        for _ in 0..LEARN_CONVERSATIONS {
            let made = conversation::make(1500, &paragraphs, &mut dice);
            text.push_str(&made.system.unwrap_or_default());
            for (question, answer) in &made.turns {
                text.push_str(&format!("\n{question}\n{answer}\n"));
            }
        }
        let mut bpe = Bpe::learn(&text, recipe.shape.vocabulary);
        let mut tokens = Vec::new();
        for entry in prose.training.split("\n\n").filter(|entry| !entry.is_empty()) {
            tokens.push(bpe.end_of_text());
            tokens.extend(bpe.encode(entry));
        }
        Self {
            bpe,
            prose: tokens,
            paragraphs,
            dice,
            seed: recipe.seed,
            context_weight: recipe.context_weight,
        }
    }

    /// The tokenizer.
    #[must_use]
    pub fn bpe(&self) -> &Bpe {
        &self.bpe
    }

    /// The next sequences.
    pub fn batch(&mut self, stage: Stage) -> Batch {
        let mut out = Batch::default();
        for _ in 0..stage.batch {
            let (ids, weights) = self.sequence(stage);
            let signed = |id: &Id| i32::try_from(*id).expect("ids are small");
            out.tokens.extend(ids[..stage.tokens].iter().map(signed));
            out.targets.extend(&ids[1..=stage.tokens]);
            out.weights.extend(&weights[1..=stage.tokens]);
        }
        out
    }

    /// A few pieces of random tokens or made-up sentences, said again and again in changing order: from
    /// the second time on, each token but a piece's first follows from what was said before.
    fn drill(&mut self, count: usize) -> (Vec<Id>, Vec<f32>) {
        let random = self.dice.chance(50);
        let pieces: Vec<Vec<Id>> = (0..self.dice.between(1, 4))
            .map(|_| {
                if random {
                    let length = self.dice.between(4, 20);
                    (0..length).map(|_| self.prose[self.dice.below(self.prose.len())]).collect()
                } else {
                    self.bpe.encode(&format!(" {}", facts::alone(&mut self.dice).sentence))
                }
            })
            .collect();
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        let mut weight = 0.0;
        while ids.len() < count {
            self.dice.shuffle(&mut order);
            for piece in order.iter().map(|index| &pieces[*index]) {
                weights.push(0.0);
                weights.resize(ids.len() + piece.len(), weight);
                ids.extend(piece);
            }
            weight = 1.0;
        }
        ids.truncate(count);
        weights.truncate(count);
        (ids, weights)
    }

    /// How many of [`PROBES`] questions of this stage's length the model answers exactly; always the
    /// same questions, which training meets by chance only.
    fn probe(&self, model: &mut Model<Flex>, stage: Stage) -> Result<usize> {
        let mut dice = Dice::new(!self.seed);
        let mut right = 0;
        for _ in 0..PROBES {
            let mut talk =
                conversation::make(stage.tokens.min(400) * 27 / 10, &self.paragraphs, &mut dice);
            talk.turns.truncate(1);
            right += usize::from(model.answers_exactly(&talk)?);
        }
        Ok(right)
    }

    /// One token more than the stage says, and the weight of each as a target.
    fn sequence(&mut self, stage: Stage) -> (Vec<Id>, Vec<f32>) {
        let count = stage.tokens + 1;
        let kind = self.dice.below(100);
        if kind < stage.prose_percent {
            let from = self.dice.below(self.prose.len() - count);
            return (self.prose[from..from + count].to_vec(), vec![1.0; count]);
        }
        if kind < stage.prose_percent + stage.drill_percent {
            return self.drill(count);
        }
        let (mut ids, mut weights) = (Vec::new(), Vec::new());
        while ids.len() < count {
            let bytes = (count - ids.len()) * 27 / 10;
            let made = conversation::make(bytes.max(160), &self.paragraphs, &mut self.dice);
            let rendered = made.render(&mut self.bpe, false);
            ids.extend(&rendered.ids);
            let weight = |spoken: &bool| if *spoken { 1.0 } else { self.context_weight };
            weights.extend(rendered.spoken.iter().map(weight));
        }
        ids.truncate(count);
        weights.truncate(count);
        (ids, weights)
    }
}

impl Batch {
    /// The loss of `network` on this batch.
    pub fn loss<B: Fused>(
        self,
        network: &Network<B>,
        recipe: &Recipe,
        stage: Stage,
        frame: &Frame,
        device: &B::Device,
    ) -> Tensor<B, 1> {
        let tokens = TensorData::new(self.tokens, [stage.batch, stage.tokens]);
        let tokens = Tensor::<B, 2, Int>::from_data(tokens, device);
        network.loss(&recipe.shape, frame, tokens, self.targets, self.weights)
    }
}

/// Trains by `recipe` and writes the folder `to`, also every so many steps on the way.
///
/// Progress goes to `out`, one line each time: step, loss (mean since the last line), rate.
///
/// # Errors
/// When the text in the tree is damaged, or the folder cannot be written.
pub fn train(
    recipe: &Recipe,
    prose: &Prose,
    to: &Path,
    out: &mut impl Write,
) -> Result<Model<Flex>> {
    let device = Default::default();
    Tape::seed(&device, recipe.seed);
    let mut source = Source::new(recipe, prose);
    let shape = recipe.shape;
    writeln!(out, "prose {} tokens, vocabulary {}", source.prose.len(), source.bpe.vocabulary())?;
    let random = Network::<Tape>::new(&shape, &device);
    let mut network = plant(random, &shape, &mut Dice::new(recipe.seed), &device);
    let mut optimiser = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_epsilon(1e-8)
        .with_weight_decay(recipe.decay)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init::<Tape, Network<Tape>>();
    let mut frame = Frame::new(&shape, recipe.stage(0).tokens);
    let (mut sum, mut since) = (0.0, 0);
    for step in 0..recipe.steps() {
        let stage = recipe.stage(step);
        if frame.tokens() != stage.tokens {
            frame = Frame::new(&shape, stage.tokens);
        }
        let loss = source.batch(stage).loss(&network, recipe, stage, &frame, &device);
        sum += loss.clone().into_scalar().elem::<f64>();
        since += 1;
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        network = optimiser.step(recipe.rate_at(step), network, gradients);
        if (step + 1) % REPORT_STEPS == 0 || step + 1 == recipe.steps() {
            let mut model = Model { shape, bpe: source.bpe.clone(), network: network.valid() };
            model.write(to).context("the model cannot be written")?;
            let exact = source.probe(&mut model, stage)?;
            let mean = sum / f64::from(since);
            writeln!(out, "step {} loss {mean:.4} exact {exact} of {PROBES}", step + 1)?;
            out.flush()?;
            (sum, since) = (0.0, 0);
        }
    }
    let recipe = serde_json::to_string_pretty(recipe)? + "\n";
    std::fs::write(to.join("recipe.json"), recipe).context("the recipe cannot be written")?;
    Model::read(to, &device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tiny_network_learns_in_a_few_steps_and_comes_back_from_its_folder() {
        let whole = prose::read().unwrap();
        let cut = |text: &str, bytes: usize| {
            text.split_inclusive("\n\n")
                .scan(0, |n, e| {
                    *n += e.len();
                    (*n < bytes).then_some(e)
                })
                .collect()
        };
        let prose = Prose { training: cut(&whole.training, 60_000), held_out: String::new() };
        let recipe = Recipe::tiny();
        let folder = tempfile::tempdir().unwrap();
        let mut lines = Vec::new();
        let mut model = train(&recipe, &prose, folder.path(), &mut lines).unwrap();
        let before = Network::<Flex>::new(&recipe.shape, &Default::default());
        let mut untrained = Model { shape: recipe.shape, bpe: model.bpe.clone(), network: before };
        let text = "The keeper of the north archive is Tom Quelst.";
        let trained_bits = model.bits_per_byte(text).unwrap();
        assert!(trained_bits < 0.9 * untrained.bits_per_byte(text).unwrap(), "{trained_bits}");

        let ids = model.bpe.encode(text);
        let mut again = Model::<Flex>::read(folder.path(), &Default::default()).unwrap();
        assert_eq!(
            again.continue_greedily(&ids, 8).unwrap(),
            model.continue_greedily(&ids, 8).unwrap()
        );
        let worse =
            model.with_noise(1.0, 1, &Default::default()).unwrap().bits_per_byte(text).unwrap();
        assert!(worse > trained_bits);
        assert!((again.bits_per_byte(text).unwrap() - trained_bits).abs() < 1e-9);
        let second = tempfile::tempdir().unwrap();
        again.write(second.path()).unwrap();
        for file in ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
        {
            assert_eq!(
                crate::folder::read(&folder.path().join(file)).unwrap(),
                crate::folder::read(&second.path().join(file)).unwrap()
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_sequences() {
        let prose = Prose { training: prose::read().unwrap().training, held_out: String::new() };
        let stage = Recipe::tiny().stage(0);
        let make = || Source::new(&Recipe::tiny(), &prose).batch(stage);
        assert_eq!(make().tokens, make().tokens);
    }
}
