//! One token from one row of logits.

use std::cmp::Ordering;

use cloister_domain::{Class, Coded, TokenId};

use crate::Pcg32;

/// A request's wishes that cannot be met, or logits that mean nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// The temperature is no number from 0 to 2.
    #[error("the temperature must be from 0 to 2")]
    Temperature,
    /// `top_p` is no number above 0 and up to 1.
    #[error("top_p must be above 0 and at most 1")]
    TopP,
    /// The model gave NaN or an infinity; nothing drawn from it would mean anything.
    #[error("the model computed a value that is no number (token {}); it must not serve", token.0)]
    NotFinite {
        /// The first such token.
        token: TokenId,
    },
    /// There are no logits.
    #[error("the model gave no logits")]
    Empty,
}

impl Coded for SampleError {
    fn class(&self) -> Class {
        match self {
            Self::Temperature | Self::TopP => Class::Refused,
            Self::NotFinite { .. } | Self::Empty => Class::Corrupt,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Temperature => "engine.sampling.temperature",
            Self::TopP => "engine.sampling.top-p",
            Self::NotFinite { .. } => "engine.logits.not-finite",
            Self::Empty => "engine.logits.empty",
        }
    }
}

/// How tokens are drawn; checked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    temperature: f32,
    top_k: usize,
    top_p: f32,
}

impl Settings {
    /// Checks a request: `temperature` in [0, 2] where 0 is greedy, `top_p` in (0, 1], and the
    /// `top_k` likeliest tokens where 0 is all.
    ///
    /// # Errors
    /// [`SampleError::Temperature`], [`SampleError::TopP`].
    pub fn new(temperature: f32, top_k: u32, top_p: f32) -> Result<Self, SampleError> {
        if !(0.0..=2.0).contains(&temperature) {
            return Err(SampleError::Temperature);
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(SampleError::TopP);
        }
        Ok(Self { temperature, top_k: usize::try_from(top_k).unwrap_or(usize::MAX), top_p })
    }

    /// Always the likeliest token.
    #[must_use]
    pub const fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0 }
    }
}

/// Draws the tokens of one answer.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Settings,
    generator: Pcg32,
}

/// A token that may be drawn, with its weight: its probability up to a common factor.
type Weighted = (TokenId, f64);

/// Heavier first; of equal weight the lower id.
fn heavier(left: &Weighted, right: &Weighted) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

impl Sampler {
    /// A sampler for one answer; `seed` decides all its draws.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        // The stream is fixed: it keeps other uses of a seed apart from this one.
        Self { settings, generator: Pcg32::new(seed, 0x636C_6F69_7374_6572) }
    }

    /// The next token from `logits: [V]`.
    ///
    /// Temperature first, then top-k, then top-p (Holtzman et al. 2020, section 3.1) on what is
    /// left, each on renormalised probabilities. Equal logits are ordered by id.
    ///
    /// # Errors
    /// [`SampleError::NotFinite`], [`SampleError::Empty`].
    pub fn draw(&mut self, logits: &[f32]) -> Result<TokenId, SampleError> {
        let likeliest = likeliest(logits)?;
        if self.settings.temperature <= 0.0 {
            return Ok(likeliest.0);
        }
        let temperature = f64::from(self.settings.temperature);
        let most = f64::from(likeliest.1);
        let weight = |logit: &f32| ((f64::from(*logit) - most) / temperature).exp();
        let mut tokens: Vec<Weighted> = ids().zip(logits.iter().map(weight)).collect();
        self.keep_top_k(&mut tokens);
        self.keep_top_p(&mut tokens);
        let total: f64 = tokens.iter().map(|token| token.1).sum();
        let mut rest = self.generator.next_unit() * total;
        for (token, weight) in &tokens {
            rest -= weight;
            if rest < 0.0 {
                return Ok(*token);
            }
        }
        // Rounding left a crumb; the likeliest token is always among the kept.
        Ok(likeliest.0)
    }

    fn keep_top_k(&self, tokens: &mut Vec<Weighted>) {
        let top_k = self.settings.top_k;
        if top_k > 0 && top_k < tokens.len() {
            tokens.select_nth_unstable_by(top_k - 1, heavier);
            tokens.truncate(top_k);
            tokens.sort_unstable_by(heavier);
        }
    }

    fn keep_top_p(&self, tokens: &mut Vec<Weighted>) {
        let top_p = f64::from(self.settings.top_p);
        if top_p >= 1.0 {
            return;
        }
        let total: f64 = tokens.iter().map(|token| token.1).sum();
        // Tokens lighter than this weigh less than 1 - p together, so the nucleus has none of them:
        // sorting the others is enough.
        #[expect(clippy::cast_precision_loss, reason = "a vocabulary is far below 2^53")]
        let least = (1.0 - top_p) * total / tokens.len() as f64;
        tokens.retain(|token| token.1 >= least);
        tokens.sort_unstable_by(heavier);
        let mut sum = 0.0;
        let reached = tokens.iter().position(|token| {
            sum += token.1;
            sum >= top_p * total
        });
        tokens.truncate(reached.map_or(tokens.len(), |last| last + 1));
    }
}

fn ids() -> impl Iterator<Item = TokenId> {
    (0..=u32::MAX).map(TokenId)
}

/// The token with the largest logit (the lowest id of several) and that logit.
fn likeliest(logits: &[f32]) -> Result<(TokenId, f32), SampleError> {
    let mut best: Option<(TokenId, f32)> = None;
    for (token, logit) in ids().zip(logits) {
        if !logit.is_finite() {
            return Err(SampleError::NotFinite { token });
        }
        if best.is_none_or(|(_token, most)| *logit > most) {
            best = Some((token, *logit));
        }
    }
    best.ok_or(SampleError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sampler(temperature: f32, top_k: u32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Settings::new(temperature, top_k, top_p).expect("in range"), seed)
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let token = Sampler::new(Settings::greedy(), 9).draw(&[0.0, 3.0, -1.0, 3.0]);
        assert_eq!(token, Ok(TokenId(1)));
    }

    #[test]
    fn values_that_are_no_numbers_are_found() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for mut one in [Sampler::new(Settings::greedy(), 0), sampler(1.0, 2, 0.5, 0)] {
                let error = one.draw(&[0.0, bad, f32::NAN]).expect_err("not finite");
                assert_eq!(error, SampleError::NotFinite { token: TokenId(1) });
                assert_eq!(error.code(), "engine.logits.not-finite");
            }
        }
        assert_eq!(Sampler::new(Settings::greedy(), 0).draw(&[]), Err(SampleError::Empty));
    }

    #[test]
    fn wishes_out_of_range_are_refused() {
        for temperature in [-0.1, 2.1, f32::NAN] {
            assert_eq!(Settings::new(temperature, 0, 1.0), Err(SampleError::Temperature));
        }
        for top_p in [0.0, -1.0, 1.1, f32::NAN] {
            assert_eq!(Settings::new(1.0, 0, top_p), Err(SampleError::TopP));
        }
    }

    #[test]
    fn shares_are_the_softmax() {
        let logits = [1.0f32, 0.0, -1.0];
        let total: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let mut one = sampler(1.0, 0, 1.0, 7);
        let mut counts = [0u32; 3];
        for _draw in 0..20_000 {
            counts[one.draw(&logits).expect("finite").0 as usize] += 1;
        }
        for (count, logit) in counts.iter().zip(logits) {
            let share = f64::from(logit).exp() / total;
            // Four standard deviations of a binomial count.
            let deviation = 4.0 * (20_000.0 * share * (1.0 - share)).sqrt();
            assert!((f64::from(*count) - 20_000.0 * share).abs() < deviation, "{counts:?}");
        }
    }

    #[test]
    fn truncation_keeps_the_smallest_sufficient_set() {
        // Probabilities 0.5, 0.3, 0.15, 0.05.
        let logits = [0.15f32, 0.5, 0.05, 0.3].map(f32::ln);
        for (top_k, top_p, kept) in [
            (0, 0.5, vec![1]),
            (0, 0.79, vec![1, 3]),
            (0, 0.81, vec![0, 1, 3]),
            (2, 1.0, vec![1, 3]),
            (3, 0.4, vec![1]),
            (9, 1.0, vec![0, 1, 2, 3]),
        ] {
            let mut one = sampler(1.0, top_k, top_p, 3);
            let drawn: std::collections::BTreeSet<u32> =
                (0..2_000).map(|_draw| one.draw(&logits).expect("finite").0).collect();
            assert_eq!(drawn.into_iter().collect::<Vec<_>>(), kept, "k {top_k} p {top_p}");
        }
    }

    proptest! {
        #[test]
        fn the_same_seed_draws_the_same_tokens(
            logits in prop::collection::vec(-30.0f32..30.0, 1..200),
            seed: u64, temperature in 0.0f32..=2.0, top_k in 0u32..50, top_p in 0.01f32..=1.0,
        ) {
            let (mut one, mut two) = (
                sampler(temperature, top_k, top_p, seed), sampler(temperature, top_k, top_p, seed),
            );
            for _draw in 0..4 {
                let token = one.draw(&logits).expect("finite");
                prop_assert!((token.0 as usize) < logits.len());
                prop_assert_eq!(Ok(token), two.draw(&logits));
            }
        }
    }
}
