//! Products with weights of f32, f16 and bf16, and the sums of an attention.

use crate::{Kernels, kernels::Level};

/// The type of a dense weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Word {
    /// Bytes of one word.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Weights `[N, K]`, little-endian words at any alignment.
#[derive(Clone, Copy)]
pub struct Dense<'a> {
    /// The type of the words.
    pub word: Word,
    /// The words.
    pub bytes: &'a [u8],
}

impl std::fmt::Debug for Dense<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dense({:?}, {} bytes)", self.word, self.bytes.len())
    }
}

/// Tokens that one walk through the weights serves: 64 rows of 2048 f32 fit the second-level cache.
const TOKENS_AT_ONCE: usize = 64;

impl Kernels {
    /// `y[n][t] = Σₖ w[n][k] · x[t][k]` with `x: [T, K]` and `y: [N, T]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn product(self, weights: Dense<'_>, x: &[f32], k: usize, y: &mut [f32]) {
        if k == 0 {
            y.fill(0.0);
            return;
        }
        let row_bytes = k * weights.word.bytes();
        let (rows, tokens) = (weights.bytes.len() / row_bytes, x.len() / k);
        assert_eq!(
            (weights.bytes.len(), x.len(), y.len()),
            (rows * row_bytes, tokens * k, rows * tokens),
            "product: [N, K] [T, K] [N, T]"
        );
        for first in (0..tokens).step_by(TOKENS_AT_ONCE) {
            let range = first..tokens.min(first + TOKENS_AT_ONCE);
            let mut outs = y.chunks_exact_mut(tokens);
            let mut rows = weights.bytes.chunks_exact(row_bytes);
            while rows.len() >= 4 {
                let four = std::array::from_fn(|_| rows.next().expect("four are left"));
                let out: [&mut [f32]; 4] = std::array::from_fn(|_| outs.next().expect("one a row"));
                self.dense_rows(weights.word, four, x, k, range.clone(), out);
            }
            for (row, out) in rows.zip(outs) {
                self.dense_rows(weights.word, [row], x, k, range.clone(), [out]);
            }
        }
    }

    fn dense_rows<const R: usize>(
        self,
        word: Word,
        rows: [&[u8]; R],
        x: &[f32],
        k: usize,
        tokens: std::ops::Range<usize>,
        mut out: [&mut [f32]; R],
    ) {
        let token = |t: usize| &x[t * k..(t + 1) * k];
        let mut t = tokens.start;
        while t + 4 <= tokens.end {
            let sums =
                self.dense_tile(word, rows, std::array::from_fn::<_, 4, _>(|i| token(t + i)));
            for (out, sums) in out.iter_mut().zip(sums) {
                out[t..t + 4].copy_from_slice(&sums);
            }
            t += 4;
        }
        for t in t..tokens.end {
            for (out, [sum]) in out.iter_mut().zip(self.dense_tile(word, rows, [token(t)])) {
                out[t] = sum;
            }
        }
    }

    fn dense_tile<const R: usize, const T: usize>(
        self,
        word: Word,
        rows: [&[u8]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R] {
        match self.0 {
            Level::Portable => crate::portable::dense_tile(word, rows, tokens),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(cpu) => cpu.dense_tile(word, rows, tokens),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(cpu) => cpu.dense_tile(word, rows, tokens),
            #[cfg(target_arch = "x86_64")]
            Level::Vnni(cpu) => cpu.avx512().dense_tile(word, rows, tokens),
        }
    }

    /// `Σ xᵢyᵢ`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    #[must_use]
    pub fn dot(self, x: &[f32], y: &[f32]) -> f32 {
        let mut sum = [0.0];
        self.dots(x, y, &mut sum);
        sum[0]
    }

    /// `sums[t] = Σᵢ x[i] · rows[t][i]`: the scores of a query against keys `[T, n]`.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn dots(self, x: &[f32], rows: &[f32], sums: &mut [f32]) {
        assert_eq!(rows.len(), x.len() * sums.len(), "dots: rows are [T, n]");
        match self.0 {
            Level::Portable => crate::portable::dots(x, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(cpu) => cpu.dots(x, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(cpu) => cpu.dots(x, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Vnni(cpu) => cpu.avx512().dots(x, rows, sums),
        }
    }

    /// `sums[i] += Σₜ factors[t] · rows[t][i]` in the order of the rows: values `[T, n]` under an attention.
    ///
    /// # Panics
    ///
    /// When the lengths do not fit.
    pub fn accumulate(self, factors: &[f32], rows: &[f32], sums: &mut [f32]) {
        assert_eq!(rows.len(), factors.len() * sums.len(), "accumulate: rows are [T, n]");
        match self.0 {
            Level::Portable => crate::portable::accumulate(factors, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(cpu) => cpu.accumulate(factors, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(cpu) => cpu.accumulate(factors, rows, sums),
            #[cfg(target_arch = "x86_64")]
            Level::Vnni(cpu) => cpu.avx512().accumulate(factors, rows, sums),
        }
    }
}
