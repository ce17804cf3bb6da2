//! Q8_0 products with `vpdpbusd`.

use std::arch::x86_64::{
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_setzero_ps, _mm512_xor_si512,
};

use super::avx512::{add_lanes, load_i8, load_i32, load_ps, pair_scales, pair_values, tail};
use crate::{activations::Pair, q8_0::Block};

/// Sums of `R` rows with `T` tokens.
///
/// `vpdpbusd` wants one side unsigned: `w XOR 0x80` is `w + 128`, and `Pair::starts` takes the surplus of
/// `128 · Σx` away again, so every i32 lane is exact.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn q8_0_tile<const R: usize, const T: usize>(
    rows: [&[Block]; R],
    tokens: [&[Pair]; T],
) -> [[f32; T]; R] {
    let count = tokens[0].len();
    let whole = rows[0].len() / 2;
    // Slices of one known length: the bounds are checked here and not in the loop.
    let tokens = tokens.map(|token| &token[..count]);
    let pairs = rows.map(|row| &row.as_chunks::<2>().0[..whole]);
    let tails = rows.map(tail);
    let flip = _mm512_set1_epi8(i8::MIN);
    let mut sums = [[_mm512_setzero_ps(); T]; R];
    for i in 0..count {
        for r in 0..R {
            let blocks = if i < whole { &pairs[r][i] } else { &tails[r] };
            let weights = _mm512_xor_si512(pair_values(blocks), flip);
            let scales = pair_scales(blocks);
            for t in 0..T {
                let pair = &tokens[t][i];
                let starts = load_i32(&pair.starts);
                let exact = _mm512_dpbusd_epi32(starts, weights, load_i8(&pair.values));
                let scale = _mm512_mul_ps(scales, load_ps(&pair.scales));
                sums[r][t] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(exact), sums[r][t]);
            }
        }
    }
    sums.map(|sums| sums.map(|lanes| add_lanes(lanes)))
}
