//! Products with weights of f32.

use crate::narrow;

/// `Σ xᵢyᵢ`.
///
/// # Panics
///
/// When the lengths differ.
#[must_use]
pub fn dot(x: &[f32], y: &[f32]) -> f64 {
    assert_eq!(x.len(), y.len(), "dot: x and y are [n]");
    x.iter().zip(y).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `y[n][t] = Σₖ w[n][k] · x[t][k]`: weights `[N, K]`, activations `[T, K]`, result `[N, T]`.
///
/// # Panics
///
/// When the lengths do not fit.
pub fn product(weights: &[f32], x: &[f32], k: usize, y: &mut [f32]) {
    if k == 0 {
        y.fill(0.0);
        return;
    }
    let (n, t) = (weights.len() / k, x.len() / k);
    assert_eq!(
        (weights.len(), x.len(), y.len()),
        (n * k, t * k, n * t),
        "product: [N,K] [T,K] [N,T]"
    );
    for (row, out) in weights.chunks_exact(k).zip(y.chunks_exact_mut(t.max(1))) {
        for (token, y) in x.chunks_exact(k).zip(out) {
            *y = narrow(dot(row, token));
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use super::*;

    #[test]
    fn a_product_by_hand() {
        let mut y = [0.0; 4];
        product(&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0, 0.5, -1.0], 2, &mut y);
        assert_eq!(y, [3.0, -1.5, 7.0, -2.5]);
        product(&[], &[1.0, 2.0], 2, &mut []);
        let mut none = [9.0; 2];
        product(&[], &[], 0, &mut none);
        assert_eq!(none, [0.0; 2]);
    }
}
