//! Q8_0 products with `vpdpbusd`.

use std::arch::x86_64::{
    __m512, __m512i, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps,
    _mm512_set1_epi8, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::avx512::{
    lanes_added, load_i8, load_i32, load_ps, pair_scales, pair_values, pairs_of, tail, whole_pairs,
};
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
    let whole = whole_pairs(&rows, &tokens);
    let mut sums = [[_mm512_setzero_ps(); T]; R];
    let pairs = pairs_of(&rows);
    for i in 0..whole {
        let mut scales = [_mm512_setzero_ps(); R];
        let mut weights = [_mm512_setzero_si512(); R];
        unrolled!(ROW in R {
            // SAFETY: `whole` is the number of pairs of each row.
            let blocks = unsafe { pairs[ROW].get_unchecked(i) };
            (scales[ROW], weights[ROW]) = (pair_scales(blocks), unsigned(blocks));
        });
        unrolled!(TOKEN in T {
            // SAFETY: `whole` is at most the number of pairs of each token.
            let pair = unsafe { tokens[TOKEN].get_unchecked(i) };
            unrolled!(ROW in R {
                sums[ROW][TOKEN] = add_pair(sums[ROW][TOKEN], weights[ROW], scales[ROW], pair);
            });
        });
    }
    if tokens[0].len() > whole {
        for r in 0..R {
            let blocks = tail(rows[r]);
            for t in 0..T {
                let (scales, weights) = (pair_scales(&blocks), unsigned(&blocks));
                sums[r][t] = add_pair(sums[r][t], weights, scales, &tokens[t][whole]);
            }
        }
    }
    lanes_added(&sums)
}

/// `w + 128` of two blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx2")]
fn unsigned(blocks: &[Block; 2]) -> __m512i {
    _mm512_xor_si512(pair_values(blocks), _mm512_set1_epi8(i8::MIN))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add_pair(sum: __m512, weights: __m512i, scales: __m512, pair: &Pair) -> __m512 {
    let exact = _mm512_dpbusd_epi32(load_i32(&pair.starts), weights, load_i8(&pair.values));
    _mm512_fmadd_ps(_mm512_mul_ps(scales, load_ps(&pair.scales)), _mm512_cvtepi32_ps(exact), sum)
}
