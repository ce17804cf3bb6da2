//! Attention of one query, and the rotation of queries and keys.

use crate::{dot, narrow, softmax};

/// One query `[Dh]` over keys and values `[T, Dh]`: `softmax(q·kᵀ · scale) · v` (Vaswani et al. 2017, eq. 1).
///
/// # Panics
///
/// When the lengths do not fit.
#[must_use]
pub fn attention_row(query: &[f32], keys: &[f32], values: &[f32], scale: f32) -> Vec<f32> {
    let width = query.len();
    assert!(
        keys.len() == values.len() && keys.len().is_multiple_of(width),
        "keys, values: [T, Dh]"
    );
    let mut scores: Vec<f32> =
        keys.chunks_exact(width).map(|key| narrow(dot(query, key) * f64::from(scale))).collect();
    softmax(&mut scores);
    let mut sums = vec![0f64; width];
    for (score, value) in scores.iter().zip(values.chunks_exact(width)) {
        for (sum, value) in sums.iter_mut().zip(value) {
            *sum += f64::from(*score) * f64::from(*value);
        }
    }
    sums.into_iter().map(narrow).collect()
}

/// Rotates the pairs `(i, i + Dh/2)` of a head (Su et al. 2021, eq. 34, in the order of Hugging Face files).
///
/// # Panics
///
/// When `cos` and `sin` are not half as long as the head.
pub fn rope_halves(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = head.len() / 2;
    assert!(cos.len() == half && sin.len() == half, "rope: cos and sin are [Dh/2]");
    for i in 0..half {
        (head[i], head[i + half]) = rotated(head[i], head[i + half], cos[i], sin[i]);
    }
}

/// Rotates the pairs `(2i, 2i + 1)` of a head (Su et al. 2021, eq. 34).
///
/// # Panics
///
/// When `cos` and `sin` are not half as long as the head.
pub fn rope_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = head.len() / 2;
    assert!(cos.len() == half && sin.len() == half, "rope: cos and sin are [Dh/2]");
    for i in 0..half {
        (head[2 * i], head[2 * i + 1]) = rotated(head[2 * i], head[2 * i + 1], cos[i], sin[i]);
    }
}

fn rotated(a: f32, b: f32, cos: f32, sin: f32) -> (f32, f32) {
    let (a, b, cos, sin) = (f64::from(a), f64::from(b), f64::from(cos), f64::from(sin));
    (narrow(a * cos - b * sin), narrow(a * sin + b * cos))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_sees_one_key_returns_its_value() {
        assert_eq!(attention_row(&[1.0, 2.0], &[3.0, 4.0], &[5.0, 6.0], 0.5), [5.0, 6.0]);
        let half = attention_row(&[1.0, 0.0], &[1.0, 0.0, 1.0, 9.0], &[2.0, 0.0, 4.0, 0.0], 1.0);
        assert!((half[0] - 3.0).abs() < 1e-6);
    }

    #[test]
    fn a_quarter_turn_moves_each_pair() {
        let mut head = [1.0, 2.0, 3.0, 4.0];
        rope_halves(&mut head, &[0.0, 0.0], &[1.0, 1.0]);
        assert_eq!(head, [-3.0, -4.0, 1.0, 2.0]);
        let mut head = [1.0, 2.0, 3.0, 4.0];
        rope_neighbours(&mut head, &[0.0, 0.0], &[1.0, 1.0]);
        assert_eq!(head, [-2.0, 1.0, -4.0, 3.0]);
    }
}
