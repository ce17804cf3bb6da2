//! AVX2 and AVX-512. A value of one of these types proves that the CPU has the features of its name.
#![expect(unsafe_code, reason = "vector instructions, after the CPU was asked for them")]

/// Runs `body` with a constant index: once for a count of 1, else for 0 to 3. Only so do the sums of a tile
/// stay in registers; a loop over a generic count kept them in memory, at a fifth of the speed.
macro_rules! unrolled {
    ($index:ident in $count:ident $body:block) => {{
        {
            const $index: usize = 0;
            $body
        }
        if $count > 1 {
            {
                const $index: usize = 1;
                $body
            }
            {
                const $index: usize = 2;
                $body
            }
            {
                const $index: usize = 3;
                $body
            }
        }
    }};
}

mod avx2;
mod avx512;
mod vnni;

use crate::{Word, activations::Pair, q8_0::Block};

/// AVX2, FMA and F16C are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

/// AVX-512 F, BW, DQ and VL are there, and what [`Avx2`] has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

/// AVX-512 VNNI is there, and what [`Avx512`] has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnni(Avx512);

impl Avx2 {
    /// Asks the CPU.
    pub(crate) fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    pub(crate) fn q8_0_tile<const R: usize, const T: usize>(
        self,
        rows: [&[Block]; R],
        tokens: [&[Pair]; T],
    ) -> [[f32; T]; R] {
        // SAFETY: `self` exists, so `new` saw AVX2, FMA and F16C.
        unsafe { avx2::q8_0_tile(rows, tokens) }
    }

    pub(crate) fn dense_tile<const R: usize, const T: usize>(
        self,
        word: Word,
        rows: [&[u8]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R] {
        // SAFETY: `self` exists, so `new` saw AVX2, FMA and F16C.
        unsafe { avx2::dense_tile(word, rows, tokens) }
    }

    pub(crate) fn dots(self, x: &[f32], rows: &[f32], sums: &mut [f32]) {
        // SAFETY: `self` exists, so `new` saw AVX2, FMA and F16C.
        unsafe { avx2::dots(x, rows, sums) }
    }

    pub(crate) fn accumulate(self, factors: &[f32], rows: &[f32], sums: &mut [f32]) {
        // SAFETY: `self` exists, so `new` saw AVX2, FMA and F16C.
        unsafe { avx2::accumulate(factors, rows, sums) }
    }
}

impl Avx512 {
    /// Asks the CPU; hypervisors mask single features, so each is asked for.
    pub(crate) fn new() -> Option<Self> {
        let has = Avx2::new().is_some()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        has.then_some(Self(()))
    }

    pub(crate) fn q8_0_tile<const R: usize, const T: usize>(
        self,
        rows: [&[Block]; R],
        tokens: [&[Pair]; T],
    ) -> [[f32; T]; R] {
        // SAFETY: `self` exists, so `new` saw AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C.
        unsafe { avx512::q8_0_tile(rows, tokens) }
    }

    pub(crate) fn dense_tile<const R: usize, const T: usize>(
        self,
        word: Word,
        rows: [&[u8]; R],
        tokens: [&[f32]; T],
    ) -> [[f32; T]; R] {
        // SAFETY: `self` exists, so `new` saw AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C.
        unsafe { avx512::dense_tile(word, rows, tokens) }
    }

    pub(crate) fn dots(self, x: &[f32], rows: &[f32], sums: &mut [f32]) {
        // SAFETY: `self` exists, so `new` saw AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C.
        unsafe { avx512::dots(x, rows, sums) }
    }

    pub(crate) fn accumulate(self, factors: &[f32], rows: &[f32], sums: &mut [f32]) {
        // SAFETY: `self` exists, so `new` saw AVX-512 F, BW, DQ and VL, AVX2, FMA and F16C.
        unsafe { avx512::accumulate(factors, rows, sums) }
    }
}

impl Vnni {
    /// Asks the CPU.
    pub(crate) fn new() -> Option<Self> {
        let avx512 = Avx512::new()?;
        is_x86_feature_detected!("avx512vnni").then_some(Self(avx512))
    }

    /// What this CPU can do besides.
    pub(crate) const fn avx512(self) -> Avx512 {
        self.0
    }

    pub(crate) fn q8_0_tile<const R: usize, const T: usize>(
        self,
        rows: [&[Block]; R],
        tokens: [&[Pair]; T],
    ) -> [[f32; T]; R] {
        // SAFETY: `self` exists, so `new` saw AVX-512 VNNI and what `Avx512` has.
        unsafe { vnni::q8_0_tile(rows, tokens) }
    }
}
