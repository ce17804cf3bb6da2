//! The portable twin: plain Rust in the same order of operations as the fast kernels, so the same bits.

use half::{bf16, f16};

use crate::{
    Word,
    activations::{PAIR, Pair},
    q8_0::Block,
};

/// Lanes of a sum.
pub(crate) const LANES: usize = 16;

/// Adds the lanes in the fixed order: halves onto each other, 16 → 8 → 4 → 2 → 1.
pub(crate) fn add_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sums of `R` rows of Q8_0 weights with `T` tokens.
pub(crate) fn q8_0_tile<const R: usize, const T: usize>(
    rows: [&[Block]; R],
    tokens: [&[Pair]; T],
) -> [[f32; T]; R] {
    rows.map(|row| tokens.map(|token| q8_0_sum(row, token)))
}

fn q8_0_sum(row: &[Block], token: &[Pair]) -> f32 {
    let mut lanes = [0f32; LANES];
    for (blocks, pair) in row.chunks(2).zip(token) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            let Some(block) = blocks.get(lane / 8) else { continue };
            let at = lane % 8 * 4;
            let four = |i: usize| {
                let weight = i32::from(block[2 + at + i].cast_signed());
                weight * i32::from(pair.values[lane / 8 * (PAIR / 2) + at + i])
            };
            // At most 4 · 128 · 127, which f32 holds exactly.
            #[expect(clippy::cast_precision_loss, reason = "below 2^24")]
            let sum = (0..4).map(four).sum::<i32>() as f32;
            let scale = f16::from_le_bytes([block[0], block[1]]).to_f32() * pair.scales[lane];
            *total = scale.mul_add(sum, *total);
        }
    }
    add_lanes(lanes)
}

/// Sums of `R` rows of dense weights with `T` tokens.
pub(crate) fn dense_tile<const R: usize, const T: usize>(
    word: Word,
    rows: [&[u8]; R],
    tokens: [&[f32]; T],
) -> [[f32; T]; R] {
    let halves = |row: &[u8], from: fn([u8; 2]) -> f32| -> Vec<f32> {
        row.as_chunks::<2>().0.iter().map(|&word| from(word)).collect()
    };
    rows.map(|row| {
        let row: Vec<f32> = match word {
            Word::F32 => row.as_chunks::<4>().0.iter().map(|&w| f32::from_le_bytes(w)).collect(),
            Word::F16 => halves(row, |word| f16::from_le_bytes(word).to_f32()),
            Word::Bf16 => halves(row, |word| bf16::from_le_bytes(word).to_f32()),
        };
        tokens.map(|token| sum(&row, token))
    })
}

fn sum(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    for (x, y) in x.chunks(LANES).zip(y.chunks(LANES)) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane = x.mul_add(*y, *lane);
        }
    }
    add_lanes(lanes)
}

/// See [`crate::Kernels::dots`].
pub(crate) fn dots(x: &[f32], rows: &[f32], sums: &mut [f32]) {
    if x.is_empty() {
        sums.fill(0.0);
        return;
    }
    for (total, row) in sums.iter_mut().zip(rows.chunks_exact(x.len())) {
        *total = sum(x, row);
    }
}

/// See [`crate::Kernels::accumulate`].
pub(crate) fn accumulate(factors: &[f32], rows: &[f32], sums: &mut [f32]) {
    if sums.is_empty() {
        return;
    }
    for (factor, row) in factors.iter().zip(rows.chunks_exact(sums.len())) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum = factor.mul_add(*x, *sum);
        }
    }
}
