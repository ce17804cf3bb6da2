//! Products with weights of Q8_0.

use cloister_scalar::{BLOCK, BLOCK_BYTES};

use crate::{Activations, Kernels, activations::Pair, kernels::Level};

/// One block of weights as stored: an f16 scale and 32 signed bytes.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// Rows of weights that a call walks through before it turns to the next tokens.
const TOKENS_AT_ONCE: usize = 64;

impl Kernels {
    /// `y[n][t] = Σₖ w[n][k] · x[t][k]` with `weights: [N, K]` in blocks of Q8_0 and `y: [N, T]`.
    ///
    /// Integer sums are exact; the sums over blocks are f32 in 16 lanes.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn product_q8_0(self, weights: &[u8], x: &Activations, y: &mut [f32]) {
        let blocks = x.width() / BLOCK;
        let (weights, rest) = weights.as_chunks::<BLOCK_BYTES>();
        assert!(rest.is_empty() && weights.len().is_multiple_of(blocks), "weights: [N, K]");
        let (rows, tokens) = (weights.len() / blocks, x.tokens());
        assert_eq!(y.len(), rows * tokens, "product: y [N, T]");
        for first in (0..tokens).step_by(TOKENS_AT_ONCE) {
            let last = tokens.min(first + TOKENS_AT_ONCE);
            let some = Tokens { x, range: first..last, tokens };
            self.some_tokens(weights, blocks, &some, y);
        }
    }

    fn some_tokens(self, weights: &[Block], blocks: usize, x: &Tokens<'_>, y: &mut [f32]) {
        let mut rows = weights.chunks_exact(blocks);
        let mut outs = y.chunks_exact_mut(x.tokens);
        while rows.len() >= 4 {
            let four: [&[Block]; 4] = std::array::from_fn(|_| rows.next().expect("four are left"));
            let out: [&mut [f32]; 4] = std::array::from_fn(|_| outs.next().expect("one a row"));
            self.rows(four, x, out);
        }
        for (row, out) in rows.zip(outs) {
            self.rows([row], x, [out]);
        }
    }

    fn rows<const R: usize>(self, rows: [&[Block]; R], x: &Tokens<'_>, mut out: [&mut [f32]; R]) {
        let mut t = x.range.start;
        while t + 4 <= x.range.end {
            let sums = self.tile(rows, std::array::from_fn::<_, 4, _>(|i| x.x.token(t + i)));
            for (out, sums) in out.iter_mut().zip(sums) {
                out[t..t + 4].copy_from_slice(&sums);
            }
            t += 4;
        }
        for t in t..x.range.end {
            let sums = self.tile(rows, [x.x.token(t)]);
            for (out, [sum]) in out.iter_mut().zip(sums) {
                out[t] = sum;
            }
        }
    }

    fn tile<const R: usize, const T: usize>(
        self,
        rows: [&[Block]; R],
        tokens: [&[Pair]; T],
    ) -> [[f32; T]; R] {
        match self.0 {
            Level::Portable => crate::portable::q8_0_tile(rows, tokens),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(cpu) => cpu.q8_0_tile(rows, tokens),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(cpu) => cpu.q8_0_tile(rows, tokens),
            #[cfg(target_arch = "x86_64")]
            Level::Vnni(cpu) => cpu.q8_0_tile(rows, tokens),
        }
    }
}

/// The tokens of one walk through the weights.
struct Tokens<'a> {
    x: &'a Activations,
    range: std::ops::Range<usize>,
    tokens: usize,
}
