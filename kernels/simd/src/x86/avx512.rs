//! AVX-512 without VNNI: dense products, and Q8_0 by multiplying absolute values.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, _mm_add_ps, _mm_add_ss, _mm_cvtph_ps, _mm_cvtsi32_si128,
    _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps, _mm256_add_ps, _mm256_castps256_ps128,
    _mm256_extractf128_ps, _mm256_loadu_si256, _mm512_abs_epi8, _mm512_castps128_ps512,
    _mm512_castps512_ps256, _mm512_castsi256_si512, _mm512_castsi512_ps, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_extractf32x8_ps, _mm512_fmadd_ps,
    _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_madd_epi16,
    _mm512_maddubs_epi16, _mm512_mask_sub_epi8, _mm512_movepi8_mask, _mm512_mul_ps,
    _mm512_permutexvar_ps, _mm512_set1_epi16, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_slli_epi32, _mm512_storeu_ps,
};

use crate::{Word, activations::Pair, q8_0::Block};

/// Kinds of dense weights, as constants so that each gets its own loop.
const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_ps(lanes: &[f32; 16]) -> __m512 {
    // SAFETY: the reference is valid for 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_i32(lanes: &[i32; 16]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn load_i8(lanes: &[i8; 64]) -> __m512i {
    // SAFETY: the reference is valid for 64 bytes, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is valid for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The last block of a row with an odd number of them, beside a block of zeros.
#[inline]
pub(super) fn tail(row: &[Block]) -> [Block; 2] {
    let last = row.as_chunks::<2>().1.first();
    [last.copied().unwrap_or([0; 34]), [0; 34]]
}

/// The 64 values of two blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2")]
pub(super) fn pair_values(blocks: &[Block; 2]) -> __m512i {
    let value = |block: &Block| -> [u8; 32] { *block.last_chunk().expect("a block has 34 bytes") };
    let low = _mm512_castsi256_si512(load_half(&value(&blocks[0])));
    _mm512_inserti64x4::<1>(low, load_half(&value(&blocks[1])))
}

/// The scales of two blocks, eight lanes each.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
pub(super) fn pair_scales(blocks: &[Block; 2]) -> __m512 {
    let both = u32::from_le_bytes([blocks[0][0], blocks[0][1], blocks[1][0], blocks[1][1]]);
    let scales = _mm_cvtph_ps(_mm_cvtsi32_si128(both.cast_signed()));
    let lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_ps(lanes, _mm512_castps128_ps512(scales))
}

/// Adds the lanes: 16 → 8 → 4 → 2 → 1, each time the upper half onto the lower.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2")]
pub(super) fn add_lanes(lanes: __m512) -> f32 {
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// Sums of `R` rows of Q8_0 with `T` tokens.
///
/// `vpmaddubsw` wants one side unsigned and saturates at 32767: `|w| · (±x)` stays below
/// `2 · 128 · 127 = 32512` because activations never are −128.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn q8_0_tile<const R: usize, const T: usize>(
    rows: [&[Block]; R],
    tokens: [&[Pair]; T],
) -> [[f32; T]; R] {
    let whole = whole_pairs(&rows, &tokens);
    let mut sums = [[_mm512_setzero_ps(); T]; R];
    let pairs = pairs_of(&rows);
    for i in 0..whole {
        unrolled!(ROW in R {
            // SAFETY: `whole` is the number of pairs of each row.
            let blocks = unsafe { pairs[ROW].get_unchecked(i) };
            let (scales, weights) = (pair_scales(blocks), pair_values(blocks));
            unrolled!(TOKEN in T {
                // SAFETY: `whole` is at most the number of pairs of each token.
                let pair = unsafe { tokens[TOKEN].get_unchecked(i) };
                sums[ROW][TOKEN] = add_pair(sums[ROW][TOKEN], weights, scales, pair);
            });
        });
    }
    if tokens[0].len() > whole {
        for r in 0..R {
            let blocks = tail(rows[r]);
            for t in 0..T {
                let (scales, weights) = (pair_scales(&blocks), pair_values(&blocks));
                sums[r][t] = add_pair(sums[r][t], weights, scales, &tokens[t][whole]);
            }
        }
    }
    lanes_added(&sums)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn add_pair(sum: __m512, weights: __m512i, scales: __m512, pair: &Pair) -> __m512 {
    let x = load_i8(&pair.values);
    let x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(weights), _mm512_setzero_si512(), x);
    let pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(weights), x);
    let exact = _mm512_cvtepi32_ps(_mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    _mm512_fmadd_ps(_mm512_mul_ps(scales, load_ps(&pair.scales)), exact, sum)
}

/// The whole pairs of blocks of each row.
#[inline]
pub(super) fn pairs_of<'a, const R: usize>(rows: &[&'a [Block]; R]) -> [&'a [[Block; 2]]; R] {
    let mut pairs: [&[[Block; 2]]; R] = [&[]; R];
    for (pairs, row) in pairs.iter_mut().zip(rows) {
        *pairs = row.as_chunks().0;
    }
    pairs
}

/// Whole pairs of blocks that all rows and all tokens have.
///
/// # Panics
///
/// When rows or tokens differ in length: the loops over pairs rely on this check.
pub(super) fn whole_pairs<const R: usize, const T: usize>(
    rows: &[&[Block]; R],
    tokens: &[&[Pair]; T],
) -> usize {
    let whole = rows[0].len() / 2;
    assert!(rows.iter().all(|row| row.len() / 2 == whole), "rows of one length");
    assert!(tokens.iter().all(|token| token.len() == rows[0].len().div_ceil(2)), "tokens as long");
    whole
}

/// The sums over the lanes of a tile.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2")]
pub(super) fn lanes_added<const R: usize, const T: usize>(
    sums: &[[__m512; T]; R],
) -> [[f32; T]; R] {
    let mut added = [[0.0; T]; R];
    for (added, sums) in added.iter_mut().zip(sums) {
        for (added, sum) in added.iter_mut().zip(sums) {
            *added = add_lanes(*sum);
        }
    }
    added
}

/// Sixteen weights as f32: chunk `i` of 64 bytes for f32, of 32 for the half words.
///
/// # Safety
///
/// The row has more than `i` whole chunks.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
unsafe fn widen<const KIND: u8>(row: &[u8], i: usize) -> __m512 {
    if KIND == F32 {
        // SAFETY: the caller's promise.
        let words = unsafe { row.as_ptr().add(64 * i) };
        // SAFETY: 64 bytes from there belong to the row, and the load needs no alignment.
        let words = unsafe { _mm512_loadu_si512(words.cast()) };
        return _mm512_castsi512_ps(words);
    }
    // SAFETY: the caller's promise.
    let words = unsafe { row.as_ptr().add(32 * i) };
    // SAFETY: 32 bytes from there belong to the row, and the load needs no alignment.
    let words = unsafe { _mm256_loadu_si256(words.cast()) };
    if KIND == F16 {
        _mm512_cvtph_ps(words)
    } else {
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words)))
    }
}

/// The words and values behind the last whole 16, filled up with zeros.
#[inline]
fn dense_tail<const KIND: u8>(row: &[u8], k: usize) -> [u8; 64] {
    let mut bytes = [0; 64];
    let rest = &row[k / 16 * 16 * if KIND == F32 { 4 } else { 2 }..];
    bytes[..rest.len()].copy_from_slice(rest);
    bytes
}

/// Sums of `R` rows of dense weights with `T` tokens.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn dense_tile<const R: usize, const T: usize>(
    word: Word,
    rows: [&[u8]; R],
    tokens: [&[f32]; T],
) -> [[f32; T]; R] {
    match word {
        Word::F32 => tile::<F32, R, T>(rows, tokens),
        Word::F16 => tile::<F16, R, T>(rows, tokens),
        Word::Bf16 => tile::<BF16, R, T>(rows, tokens),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn tile<const KIND: u8, const R: usize, const T: usize>(
    rows: [&[u8]; R],
    tokens: [&[f32]; T],
) -> [[f32; T]; R] {
    let k = tokens[0].len();
    let row_bytes = k * if KIND == F32 { 4 } else { 2 };
    assert!(rows.iter().all(|row| row.len() == row_bytes), "rows of one length");
    assert!(tokens.iter().all(|token| token.len() == k), "tokens as long");
    let whole = k / 16;
    let mut chunks: [&[[f32; 16]]; T] = [&[]; T];
    for (chunks, token) in chunks.iter_mut().zip(&tokens) {
        *chunks = token.as_chunks().0;
    }
    let mut sums = [[_mm512_setzero_ps(); T]; R];
    for i in 0..whole {
        let mut weights = [_mm512_setzero_ps(); R];
        unrolled!(ROW in R {
            // SAFETY: each row has k words, so `whole` chunks of sixteen.
            weights[ROW] = unsafe { widen::<KIND>(rows[ROW], i) };
        });
        unrolled!(TOKEN in T {
            // SAFETY: each token has k values, so `whole` chunks of sixteen.
            let x = load_ps(unsafe { chunks[TOKEN].get_unchecked(i) });
            unrolled!(ROW in R {
                sums[ROW][TOKEN] = _mm512_fmadd_ps(weights[ROW], x, sums[ROW][TOKEN]);
            });
        });
    }
    if !k.is_multiple_of(16) {
        for r in 0..R {
            let row = dense_tail::<KIND>(rows[r], k);
            // SAFETY: 64 bytes hold a chunk of any kind.
            let weights = unsafe { widen::<KIND>(&row, 0) };
            for t in 0..T {
                let x = load_ps(&filled(tokens[t].as_chunks::<16>().1));
                sums[r][t] = _mm512_fmadd_ps(weights, x, sums[r][t]);
            }
        }
    }
    lanes_added(&sums)
}

/// Up to 16 values and zeros behind them.
#[inline]
pub(super) fn filled(rest: &[f32]) -> [f32; 16] {
    let mut lanes = [0.0; 16];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// See [`crate::Kernels::dots`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn dots(x: &[f32], rows: &[f32], sums: &mut [f32]) {
    if x.is_empty() {
        sums.fill(0.0);
        return;
    }
    let (x_whole, x_rest) = x.as_chunks::<16>();
    for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(x.len())) {
        let (row_whole, row_rest) = row.as_chunks::<16>();
        let mut lanes = _mm512_setzero_ps();
        for (x, row) in x_whole.iter().zip(row_whole) {
            lanes = _mm512_fmadd_ps(load_ps(x), load_ps(row), lanes);
        }
        if !x_rest.is_empty() {
            lanes = _mm512_fmadd_ps(load_ps(&filled(x_rest)), load_ps(&filled(row_rest)), lanes);
        }
        *sum = add_lanes(lanes);
    }
}

/// See [`crate::Kernels::accumulate`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn accumulate(factors: &[f32], rows: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    if width == 0 {
        return;
    }
    for (at, sums) in sums.chunks_mut(16).enumerate() {
        let mut lanes = load_ps(&filled(sums));
        for (factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
            let row = &row[at * 16..at * 16 + sums.len()];
            let row = match row.first_chunk::<16>() {
                Some(row) => load_ps(row),
                None => load_ps(&filled(row)),
            };
            lanes = _mm512_fmadd_ps(_mm512_set1_ps(*factor), row, lanes);
        }
        let mut out = [0f32; 16];
        // SAFETY: the array is valid for 64 bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), lanes) };
        sums.copy_from_slice(&out[..sums.len()]);
    }
}
