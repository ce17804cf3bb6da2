//! The recipe: every number that the weights depend on, besides the text and the code.

use serde::{Deserialize, Serialize};

use crate::network::Shape;

/// A stretch of training with one sequence length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// How many steps.
    pub steps: usize,
    /// Sequences in a step.
    pub batch: usize,
    /// Tokens in a sequence.
    pub tokens: usize,
    /// Of a hundred sequences, how many are prose.
    pub prose_percent: usize,
    /// Of a hundred sequences, how many are drills in copying; the rest are conversations.
    pub drill_percent: usize,
}

/// What `cloister-tune train` does, and what `model/recipe.json` keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// Of the weights, the prose windows and the conversations.
    pub seed: u64,
    /// The network.
    pub shape: Shape,
    /// In order. Lengths grow, because attention to short texts is cheap and copying is learnt there.
    pub stages: Vec<Stage>,
    /// Learning rate at its peak.
    pub rate: f64,
    /// Steps from zero to the peak; from there a half cosine leads to a twentieth.
    pub warm_up: usize,
    /// Weight decay of AdamW.
    pub decay: f32,
    /// Weight in the loss of conversation tokens that are no part of an answer.
    pub context_weight: f32,
}

impl Recipe {
    /// The recipe of the model in `model/`.
    #[must_use]
    pub fn demo() -> Self {
        serde_json::from_str(include_str!("../model/recipe.json")).expect("the tests read it")
    }

    /// A network and a run that take seconds, for tests.
    #[must_use]
    pub fn tiny() -> Self {
        let mut recipe = Self::demo();
        recipe.shape = Shape {
            vocabulary: 320,
            width: 32,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            head: 8,
            inner: 64,
            context: 64,
        };
        recipe.stages =
            vec![Stage { steps: 60, batch: 4, tokens: 64, prose_percent: 60, drill_percent: 10 }];
        recipe.rate = 6e-3;
        recipe.warm_up = 5;
        recipe
    }

    /// How many steps there are.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The stage of step `step`, counted from zero.
    ///
    /// # Panics
    /// When `step` is not below [`Recipe::steps`].
    #[must_use]
    pub fn stage(&self, step: usize) -> Stage {
        let mut before = 0;
        for stage in &self.stages {
            before += stage.steps;
            if step < before {
                return *stage;
            }
        }
        panic!("step {step} of {before}");
    }

    /// Learning rate of step `step`: a linear rise, then a half cosine (Loshchilov, Hutter 2017).
    #[must_use]
    pub fn rate_at(&self, step: usize) -> f64 {
        if step < self.warm_up {
            return self.rate * (step + 1) as f64 / self.warm_up as f64;
        }
        let done = (step - self.warm_up) as f64 / (self.steps() - self.warm_up) as f64;
        let floor = self.rate / 20.0;
        floor + (self.rate - floor) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls_to_a_twentieth() {
        let recipe = Recipe::demo();
        assert!(recipe.rate_at(0) < recipe.rate / 50.0);
        assert!((recipe.rate_at(recipe.warm_up) - recipe.rate).abs() < 1e-9);
        assert!(recipe.rate_at(recipe.steps() - 1) < recipe.rate / 19.0);
    }

    #[test]
    fn the_demo_network_has_at_most_five_million_parameters() {
        let s = Recipe::demo().shape;
        let layer =
            s.width * (2 * s.heads + 2 * s.kv_heads) * s.head + 3 * s.width * s.inner + 2 * s.width;
        let all = s.vocabulary * s.width + s.layers * layer + s.width;
        assert!(all <= 5_000_000, "{all}");
    }
}
