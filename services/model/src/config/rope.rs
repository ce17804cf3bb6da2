//! Frequencies of the rotary embedding and their scalings.

use std::f64::consts::TAU;

use cloister_weights::Metadata;

use super::{Keys, keys};
use crate::{ModelError, batch::Angles};

/// How the frequencies are changed for contexts that are longer than those of the training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scaling {
    /// Not at all.
    Default,
    /// All divided by a factor.
    Linear { factor: f64 },
    /// Low ones divided, high ones kept, a ramp between (Llama 3.1; transformers,
    /// `_compute_llama3_parameters`).
    Llama3 { factor: f64, low: f64, high: f64, original: f64 },
    /// Ramp between divided and kept by the number of turns in the original context (Peng et al. 2023,
    /// section 3; transformers, `_compute_yarn_parameters`).
    Yarn {
        factor: f64,
        original: f64,
        fast: f64,
        slow: f64,
        attention: Option<f64>,
        truncate: bool,
    },
}

/// The rotation of each pair of a head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    /// Radians a position, `[Dh/2]`.
    frequencies: Vec<f32>,
    /// What cosines and sines are multiplied with.
    factor: f32,
}

impl Rope {
    /// Frequencies for heads of `width` at base `theta`.
    pub(crate) fn new(width: usize, theta: f64, scaling: Scaling) -> Self {
        let mut frequencies = plain(width, theta);
        let mut attention = 1.0;
        match scaling {
            Scaling::Default => {}
            Scaling::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= factor),
            Scaling::Llama3 { factor, low, high, original } => {
                for frequency in &mut frequencies {
                    // How many turns fit the original context: below `low` scaled, above `high` kept.
                    let turns = original * *frequency / TAU;
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= (1.0 - kept) / factor + kept;
                }
            }
            Scaling::Yarn { factor, original, fast, slow, attention: given, truncate } => {
                let place = |turns: f64| {
                    count(width) * (original / (turns * TAU)).ln() / (2.0 * theta.ln())
                };
                let (mut low, mut high) = (place(fast), place(slow));
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                (low, high) = (low.max(0.0), high.min(count(width) - 1.0));
                if high <= low {
                    high = low + 0.001;
                }
                for (i, frequency) in frequencies.iter_mut().enumerate() {
                    let scaled = ((count(i) - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= scaled / factor + (1.0 - scaled);
                }
                let usual = if factor <= 1.0 { 1.0 } else { 0.1 * factor.ln() + 1.0 };
                attention = given.unwrap_or(usual);
            }
        }
        Self {
            frequencies: frequencies.into_iter().map(narrow).collect(),
            factor: narrow(attention),
        }
    }

    /// Reads `rope_theta` and `rope_scaling` (transformers 4), or `rope_parameters` (5).
    pub(super) fn from_keys(
        keys: &mut Keys,
        width: usize,
        context: u32,
    ) -> Result<Self, ModelError> {
        let old_theta = keys.number("rope_theta")?;
        let old = keys.object("rope_scaling")?;
        let new = keys.object("rope_parameters")?;
        let (name, parameters) = match (old, new) {
            (Some(_), Some(_)) => return Err(keys::value("rope_parameters")),
            (Some(old), None) => ("rope_scaling", Some(old)),
            (None, new) => ("rope_parameters", new),
        };
        let Some(mut parameters) = parameters else {
            return Ok(Self::new(width, base(old_theta)?, Scaling::Default));
        };
        let theta = match (old_theta, parameters.number("rope_theta")?) {
            (Some(_), Some(_)) => return Err(keys::value("rope_theta")),
            (theta, None) | (None, theta) => base(theta)?,
        };
        parameters.expect_one("partial_rotary_factor")?;
        let legacy = parameters.text("type")?;
        let kind = parameters.text("rope_type")?.or(legacy).unwrap_or_else(|| "default".to_owned());
        let positive = |parameters: &mut Keys, key: &str| match parameters.number(key)? {
            Some(number) if number > 0.0 => Ok(number),
            Some(_) => Err(keys::value(key)),
            None => Err(keys::missing(key)),
        };
        let scaling = match kind.as_str() {
            "default" => Scaling::Default,
            "linear" => Scaling::Linear { factor: positive(&mut parameters, "factor")? },
            "llama3" => Scaling::Llama3 {
                factor: positive(&mut parameters, "factor")?,
                low: positive(&mut parameters, "low_freq_factor")?,
                high: positive(&mut parameters, "high_freq_factor")?,
                original: positive(&mut parameters, "original_max_position_embeddings")?,
            },
            "yarn" => Scaling::Yarn {
                factor: positive(&mut parameters, "factor")?,
                original: parameters
                    .number("original_max_position_embeddings")?
                    .unwrap_or_else(|| f64::from(context)),
                fast: parameters.number("beta_fast")?.unwrap_or(32.0),
                slow: parameters.number("beta_slow")?.unwrap_or(1.0),
                attention: parameters.number("attention_factor")?,
                truncate: parameters.bool("truncate")?.unwrap_or(true),
            },
            _ => return Err(keys::value(name)),
        };
        if let Scaling::Llama3 { low, high, .. } = scaling
            && high <= low
        {
            return Err(keys::value("high_freq_factor"));
        }
        parameters.finish_all()?;
        Ok(Self::new(width, theta, scaling))
    }

    /// Reads the keys `ARCH.rope.*` of a GGUF file; `factors: [Dh/2]` is its `rope_freqs.weight`.
    pub(super) fn from_metadata(
        metadata: &Metadata,
        arch: &str,
        width: usize,
        factors: Option<Vec<f32>>,
    ) -> Result<Self, ModelError> {
        let full = |key: &str| format!("{arch}.rope.{key}");
        let number = |key: &str| metadata.float(&full(key)).map_err(ModelError::Weights);
        let theta = base(number("freq_base")?)?;
        let kind = metadata.text(&full("scaling.type")).map_err(ModelError::Weights)?;
        let factor = number("scaling.factor")?.filter(|factor| *factor > 0.0);
        let original = metadata
            .count(&full("scaling.original_context_length"))
            .map_err(ModelError::Weights)?;
        let scaling = match (kind, factor, original) {
            (None | Some("none"), _, _) => Scaling::Default,
            (Some("linear"), Some(factor), _) => Scaling::Linear { factor },
            (Some("yarn"), Some(factor), Some(original)) => Scaling::Yarn {
                factor,
                original: f64::from(original),
                fast: 32.0,
                slow: 1.0,
                attention: None,
                truncate: true,
            },
            _ => return Err(keys::value(&full("scaling.type"))),
        };
        let mut rope = Self::new(width, theta, scaling);
        for (frequency, factor) in rope.frequencies.iter_mut().zip(factors.into_iter().flatten()) {
            *frequency /= factor;
        }
        Ok(rope)
    }

    /// Cosines and sines of `positions: [R]`.
    pub(crate) fn angles(&self, positions: &[usize]) -> Angles {
        let pairs = self.frequencies.len();
        let mut cos = Vec::with_capacity(positions.len() * pairs);
        let mut sin = Vec::with_capacity(positions.len() * pairs);
        for &position in positions {
            for frequency in &self.frequencies {
                // The product is rounded to f32 as in transformers, so that long positions agree.
                let angle = f64::from(narrow(count(position)) * frequency);
                cos.push(narrow(angle.cos()) * self.factor);
                sin.push(narrow(angle.sin()) * self.factor);
            }
        }
        Angles { pairs, cos, sin }
    }
}

/// `θ^(−2i/Dh)` (Su et al. 2021, section 3.3).
fn plain(width: usize, theta: f64) -> Vec<f64> {
    (0..width / 2).map(|i| theta.powf(-2.0 * count(i) / count(width))).collect()
}

/// The base, 10 000 when not given (the default of all families here).
fn base(theta: Option<f64>) -> Result<f64, ModelError> {
    let theta = theta.unwrap_or(1e4);
    if theta > 1.0 { Ok(theta) } else { Err(keys::value("rope_theta")) }
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).expect("a position fits 32 bits"))
}

#[expect(clippy::cast_possible_truncation, reason = "transformers computes with f32 here")]
const fn narrow(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_fall_from_one_by_equal_ratios() {
        let rope = Rope::new(4, 1e4, Scaling::Default);
        assert_eq!(rope.frequencies, [1.0, 0.01]);
        let angles = rope.angles(&[0, 2]);
        assert_eq!((angles.cos[0], angles.sin[0]), (1.0, 0.0));
        assert!((angles.sin[2] - 2f32.sin()).abs() < 1e-7);
    }

    #[test]
    fn llama3_keeps_the_high_and_divides_the_low() {
        let scaling = Scaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        let (plain, scaled) = (Rope::new(128, 5e5, Scaling::Default), Rope::new(128, 5e5, scaling));
        assert_eq!(plain.frequencies[0].to_bits(), scaled.frequencies[0].to_bits());
        assert!((plain.frequencies[63] / scaled.frequencies[63] - 8.0).abs() < 1e-5);
    }

    #[test]
    fn yarn_scales_cosines_by_its_attention_factor() {
        let scaling = Scaling::Yarn {
            factor: 4.0,
            original: 64.0,
            fast: 32.0,
            slow: 1.0,
            attention: None,
            truncate: true,
        };
        let angles = Rope::new(64, 1e6, scaling).angles(&[0]);
        assert!((angles.cos[0] - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);
    }
}
