//! Q8_0: 32 signed bytes with one f16 scale; and activations quantised the same way with an f32 scale.

use half::f16;

use crate::narrow;

/// Elements in a block (ggml-common.h, `QK8_0`).
pub const BLOCK: usize = 32;
/// Bytes in a block: an f16 scale, then the elements (ggml-common.h, `block_q8_0`).
pub const BLOCK_BYTES: usize = 34;

/// 32 activations as signed bytes in ±127; −128 never occurs, which the fast kernels rely on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantisedBlock {
    /// What each value is multiplied with; NaN when an activation is not finite.
    pub scale: f32,
    /// The values.
    pub values: [i8; BLOCK],
}

/// Quantises weights as ggml does (ggml-quants.c, `quantize_row_q8_0_ref`): scale `max|x| / 127`, values
/// rounded with halves away from zero, the scale then stored as f16.
///
/// # Panics
///
/// When the number of weights is no multiple of 32.
#[must_use]
pub fn quantise_q8_0(weights: &[f32]) -> Vec<u8> {
    assert!(weights.len().is_multiple_of(BLOCK), "Q8_0 has whole blocks");
    let mut bytes = Vec::with_capacity(weights.len() / BLOCK * BLOCK_BYTES);
    for block in weights.as_chunks::<BLOCK>().0 {
        let max = block.iter().fold(0f32, |max, x| max.max(x.abs()));
        let scale = max / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        bytes.extend(f16::from_f32(scale).to_le_bytes());
        bytes.extend(block.iter().map(|x| byte((x * inverse).round()).cast_unsigned()));
    }
    bytes
}

/// The weights that blocks of Q8_0 stand for.
///
/// # Panics
///
/// When the bytes are not whole blocks.
#[must_use]
pub fn dequantise_q8_0(bytes: &[u8]) -> Vec<f32> {
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    assert!(rest.is_empty(), "Q8_0 has whole blocks");
    let of = |block: &[u8; BLOCK_BYTES]| -> [f32; BLOCK] {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        std::array::from_fn(|i| scale * f32::from(block[2 + i].cast_signed()))
    };
    blocks.iter().flat_map(of).collect()
}

/// Quantises activations in blocks of 32: scale `max|x| / 127`, values rounded with halves to even.
///
/// # Panics
///
/// When their number is no multiple of 32.
#[must_use]
pub fn quantise_activations(x: &[f32]) -> Vec<QuantisedBlock> {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "activations come in whole blocks");
    blocks.iter().map(quantise_block).collect()
}

fn quantise_block(x: &[f32; BLOCK]) -> QuantisedBlock {
    if !x.iter().all(|x| x.is_finite()) {
        return QuantisedBlock { scale: f32::NAN, values: [0; BLOCK] };
    }
    let max = x.iter().fold(0f32, |max, x| max.max(x.abs()));
    let scale = max / 127.0;
    // Below the smallest normal number the inverse would overflow; such a block counts as zero.
    if scale < f32::MIN_POSITIVE {
        return QuantisedBlock { scale: 0.0, values: [0; BLOCK] };
    }
    let inverse = 1.0 / scale;
    QuantisedBlock { scale, values: x.map(|x| byte((x * inverse).round_ties_even())) }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped before")]
const fn byte(x: f32) -> i8 {
    x.clamp(-127.0, 127.0) as i8
}

/// `y[n][t] = Σ` over blocks of `scale(w) · scale(x) · Σ w·x`: weights `[N, K]` in Q8_0, activations
/// `[T, K/32]`, result `[N, T]`.
///
/// # Panics
///
/// When the lengths do not fit.
pub fn product_q8_0(weights: &[u8], x: &[QuantisedBlock], k: usize, y: &mut [f32]) {
    assert!(k > 0 && k.is_multiple_of(BLOCK), "K is whole blocks");
    let blocks = k / BLOCK;
    let (weights, rest) = weights.as_chunks::<BLOCK_BYTES>();
    assert!(rest.is_empty() && weights.len().is_multiple_of(blocks), "weights: [N, K]");
    let (n, t) = (weights.len() / blocks, x.len() / blocks);
    assert_eq!((x.len(), y.len()), (t * blocks, n * t), "product_q8_0: x [T, K/32], y [N, T]");
    for (row, out) in weights.chunks_exact(blocks).zip(y.chunks_exact_mut(t.max(1))) {
        for (token, y) in x.chunks_exact(blocks).zip(out) {
            *y = narrow(row.iter().zip(token).map(|(w, x)| block_product(w, x)).sum());
        }
    }
}

fn block_product(w: &[u8; BLOCK_BYTES], x: &QuantisedBlock) -> f64 {
    let scale = f16::from_le_bytes([w[0], w[1]]).to_f64() * f64::from(x.scale);
    let sum: i32 =
        w[2..].iter().zip(x.values).map(|(w, x)| i32::from(w.cast_signed()) * i32::from(x)).sum();
    scale * f64::from(sum)
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use super::*;

    #[test]
    fn quantised_weights_are_within_half_a_step() {
        let weights: Vec<f32> = (0..64).map(|i| ((i * 37 % 64) as f32 - 31.0) * 0.013).collect();
        let bytes = quantise_q8_0(&weights);
        assert_eq!(bytes.len(), 68);
        let max = weights.iter().fold(0f32, |m, x| m.max(x.abs()));
        for (w, d) in weights.iter().zip(dequantise_q8_0(&bytes)) {
            // Half a step of rounding, and 127 steps of an f16 scale that is off by 2⁻¹¹.
            assert!((w - d).abs() <= max / 127.0 * (0.5 + 127.0 / 2048.0), "{w} {d}");
        }
        assert_eq!(quantise_q8_0(&[0.0; 32]), [0; 34]);
    }

    #[test]
    fn activations_that_are_not_finite_spoil_their_block_only() {
        let mut x = [1.0; 64];
        x[3] = f32::INFINITY;
        let blocks = quantise_activations(&x);
        assert!(blocks[0].scale.is_nan());
        assert_eq!(blocks[1].values, [127; 32]);
        assert_eq!(quantise_activations(&[1e-40; 32])[0].scale.to_bits(), 0);
    }

    #[test]
    fn a_product_of_blocks_by_hand() {
        let mut weights = vec![0x00, 0x38]; // 0.5
        weights.extend([2u8; 32]);
        let x = [QuantisedBlock { scale: 0.25, values: [-3; 32] }];
        let mut y = [0.0];
        product_q8_0(&weights, &x, 32, &mut y);
        assert_eq!(y, [0.5 * 0.25 * -6.0 * 32.0]);
    }
}
