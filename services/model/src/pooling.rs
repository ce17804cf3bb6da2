//! From the hidden states of a text to its vector.

use std::path::Path;

use serde::Deserialize;

use crate::{ModelError, folder};

/// Largest `pooling.json`.
const POOLING_BYTES_MAX: u64 = 4096;

/// How hidden states become a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pooling {
    pooling: Kind,
    normalize: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// The mean over all tokens (Reimers and Gurevych 2019, section 3).
    Mean,
    /// The state of the first token.
    Cls,
}

impl Pooling {
    /// Reads `pooling.json`; without one, mean and normalised.
    pub(crate) fn load(model: &Path) -> Result<Self, ModelError> {
        const FILE: &str = "pooling.json";
        let path = model.join(FILE);
        if !path.exists() {
            return Ok(Self { pooling: Kind::Mean, normalize: true });
        }
        let bytes = folder::read_limited(&path, FILE, POOLING_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| folder::syntax(FILE, &error))
    }

    /// The vector of `states: [T, D]`, T at least 1.
    pub(crate) fn pool(self, states: &[f32], width: usize) -> Vec<f32> {
        let mut sums = vec![0f64; width];
        let rows = match self.pooling {
            Kind::Mean => states,
            Kind::Cls => &states[..width],
        };
        for row in rows.chunks_exact(width) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += f64::from(*x);
            }
        }
        let norm = sums.iter().map(|x| x * x).sum::<f64>().sqrt();
        // The mean's divisor cancels in the direction. The bound is that of torch's `normalize`.
        let divisor = if self.normalize { norm.max(1e-12) } else { rows_of(rows, width) };
        #[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
        sums.iter().map(|x| (x / divisor) as f32).collect()
    }
}

fn rows_of(rows: &[f32], width: usize) -> f64 {
    let count = u32::try_from(rows.len() / width).expect("a text is short");
    f64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooled_vectors_have_length_one_when_asked() {
        let states = [3.0, 0.0, 0.0, 4.0];
        let mean = |normalize| Pooling { pooling: Kind::Mean, normalize }.pool(&states, 2);
        assert_eq!(mean(false), [1.5, 2.0]);
        assert_eq!(mean(true), [0.6, 0.8]);
        assert_eq!(Pooling { pooling: Kind::Cls, normalize: true }.pool(&states, 2), [1.0, 0.0]);
    }

    #[test]
    fn an_unknown_way_of_pooling_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pooling.json");
        for (text, accepted) in [
            (r#"{"pooling":"mean","normalize":true}"#, true),
            (r#"{"pooling":"cls","normalize":false}"#, true),
            (r#"{"pooling":"last","normalize":true}"#, false),
            (r#"{"pooling":"mean"}"#, false),
            (r#"{"pooling":"mean","normalize":true,"prompt":"x"}"#, false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Pooling::load(folder.path()).is_ok(), accepted, "{text}");
        }
    }
}
