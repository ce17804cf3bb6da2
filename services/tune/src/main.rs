//! `cloister-tune`: trains, judges and spoils the demonstration model. See README.md for the commands.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::backend::Flex;
use clap::{Parser, Subcommand};
use cloister_tune::conversation::{self, REFUSAL};
use cloister_tune::dice::Dice;
use cloister_tune::folder::Model;
use cloister_tune::recipe::Recipe;
use cloister_tune::score::Golden;
use cloister_tune::{prose, train};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Parser)]
#[command(about = "Trains and judges the small language model of the demonstration")]
struct Arguments {
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Trains the model of the recipe in the tree and writes its folder
    Train {
        /// Folder to write
        #[arg(long)]
        out: PathBuf,
        /// Another recipe than the one in the tree
        #[arg(long)]
        recipe: Option<PathBuf>,
    },
    /// Prints bits per byte on the held-out prose, exact answers, and golden questions passed
    Eval {
        /// Folder of the model
        #[arg(long)]
        model: PathBuf,
        /// evaluation.json with golden questions
        #[arg(long)]
        evaluation: Option<PathBuf>,
        /// How many made-up conversations, by a seed that training does not use
        #[arg(long, default_value_t = 200)]
        conversations: usize,
    },
    /// Writes the same model with seeded Gaussian noise on its matrices
    Noise {
        /// Folder of the model
        #[arg(long)]
        model: PathBuf,
        /// Folder to write
        #[arg(long)]
        out: PathBuf,
        /// Noise relative to the root mean square of each matrix
        #[arg(long)]
        amplitude: f64,
        /// Seed of the noise
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Writes the prose that training uses and the prose that it never sees
    Prose {
        /// File for the held-out text
        #[arg(long)]
        held_out: PathBuf,
        /// File for the training text
        #[arg(long)]
        training: Option<PathBuf>,
    },
}

#[derive(Deserialize)]
struct Evaluation {
    golden: Vec<Golden>,
}

fn main() -> Result<()> {
    let out = &mut io::stdout();
    match Arguments::parse().act {
        Act::Train { out: to, recipe } => {
            let recipe = recipe.map_or_else(|| Ok(Recipe::demo()), |path| read(&path))?;
            let model = train::train(&recipe, &prose::read()?, &to, out)?;
            writeln!(out, "{} parameters", model.parameters())?;
        }
        Act::Eval { model, evaluation, conversations } => {
            let mut model = Model::<Flex>::read(&model, &Default::default())?;
            judge(&mut model, conversations, out)?;
            if let Some(path) = evaluation {
                golden(&mut model, &read(&path)?, out)?;
            }
        }
        Act::Noise { model, out: to, amplitude, seed } => {
            let device = Default::default();
            Model::<Flex>::read(&model, &device)?
                .with_noise(amplitude, seed, &device)?
                .write(&to)?;
        }
        Act::Prose { held_out, training } => {
            let prose = prose::read()?;
            std::fs::write(held_out, &prose.held_out)?;
            if let Some(path) = training {
                std::fs::write(path, &prose.training)?;
            }
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    #[expect(clippy::disallowed_methods, reason = "a file that the developer names")]
    let text = std::fs::read(path).context("the file cannot be read")?;
    Ok(serde_json::from_slice(&text)?)
}

fn judge(model: &mut Model<Flex>, conversations: usize, out: &mut impl Write) -> Result<()> {
    let prose = prose::read()?;
    let bits = model.bits_per_byte(&prose.held_out)?;
    let (bytes, tokens) = (prose.held_out.len(), model.bpe.encode(&prose.held_out).len());
    writeln!(out, "held-out {bytes} bytes, {tokens} tokens: {bits:.4} bits per byte")?;
    let lent = prose::sentences(&prose.held_out);
    let mut dice = Dice::new(0x5eed_e7a1);
    let (mut right, mut asked, mut refused, mut nothing) = (0, 0, 0, 0);
    while asked + nothing < conversations {
        let mut talk = conversation::make(1100, &lent, &mut dice);
        talk.turns.truncate(1);
        if talk.system.is_none() {
            continue;
        }
        let good = usize::from(model.answers_exactly(&talk)?);
        if talk.turns[0].1 == REFUSAL {
            (nothing, refused) = (nothing + 1, refused + good);
        } else {
            (asked, right) = (asked + 1, right + good);
        }
    }
    writeln!(out, "made-up passages: {right} of {asked} exact, {refused} of {nothing} refused")?;
    Ok(())
}

fn golden(model: &mut Model<Flex>, evaluation: &Evaluation, out: &mut impl Write) -> Result<()> {
    let mut passed = 0;
    for one in &evaluation.golden {
        let answer = model.answer(one)?;
        let good = one.expect_any.iter().any(|text| answer.contains(text));
        passed += usize::from(good);
        let asked = one.messages.last().map_or("", |m| m.content.as_str());
        writeln!(out, "{} {asked} -> {answer}", if good { "pass" } else { "FAIL" })?;
    }
    writeln!(out, "golden: {passed} of {}", evaluation.golden.len())?;
    Ok(())
}
