//! Activations as the Q8_0 kernels want them.

use cloister_scalar::{BLOCK, quantise_activations};

/// Two blocks of 32, which the kernels take at once: one 512-bit register.
pub(crate) const PAIR: usize = 2 * BLOCK;

/// Two quantised blocks with everything about them that does not depend on the weights.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Pair {
    /// The values, −127 to 127.
    pub(crate) values: [i8; PAIR],
    /// −128 times the sum of each four values: what the unsigned form of the weights adds too much.
    pub(crate) starts: [i32; 16],
    /// The scale of the block that each four values belong to.
    pub(crate) scales: [f32; 16],
}

/// Rows of activations `[T, K]`, quantised in blocks of 32 to signed bytes with an f32 scale.
///
/// A row with an odd number of blocks ends with a block of zeros.
pub struct Activations {
    k: usize,
    pairs: Vec<Pair>,
}

impl Activations {
    /// Quantises `x: [T, K]` ([`quantise_activations`] defines the rounding).
    ///
    /// # Panics
    ///
    /// When `K` is no positive multiple of 32 or `x` is not whole rows.
    #[must_use]
    pub fn quantise(x: &[f32], k: usize) -> Self {
        assert!(k > 0 && k.is_multiple_of(BLOCK), "K is whole blocks");
        assert!(x.len().is_multiple_of(k), "activations: [T, K]");
        let mut pairs = Vec::with_capacity(x.len() / k * k.div_ceil(PAIR));
        for row in x.chunks_exact(k) {
            for pair in quantise_activations(row).chunks(2) {
                let mut values = [0; PAIR];
                let mut scales = [0.0; 16];
                for (i, block) in pair.iter().enumerate() {
                    values[i * BLOCK..(i + 1) * BLOCK].copy_from_slice(&block.values);
                    scales[i * 8..(i + 1) * 8].fill(block.scale);
                }
                let four = |i: usize| -> i32 {
                    values[4 * i..4 * i + 4].iter().map(|&value: &i8| i32::from(value)).sum()
                };
                pairs.push(Pair {
                    values,
                    starts: std::array::from_fn(|i| -128 * four(i)),
                    scales,
                });
            }
        }
        Self { k, pairs }
    }

    /// `K`.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.k
    }

    /// `T`.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.pairs.len() / self.k.div_ceil(PAIR)
    }

    /// The pairs of one token.
    pub(crate) fn token(&self, t: usize) -> &[Pair] {
        let pairs = self.k.div_ceil(PAIR);
        &self.pairs[t * pairs..(t + 1) * pairs]
    }
}

impl std::fmt::Debug for Activations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Activations([{}, {}])", self.tokens(), self.k)
    }
}
