//! AVX2: the same 16 lanes as two registers of eight.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_ps, _mm_add_ss, _mm_cvtph_ps, _mm_cvtsi32_si128, _mm_cvtss_f32,
    _mm_loadu_si128, _mm_movehdup_ps, _mm_movehl_ps, _mm256_add_ps, _mm256_castps256_ps128,
    _mm256_castsi256_ps, _mm256_cvtepi32_ps, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_sign_epi8, _mm256_slli_epi32, _mm256_storeu_ps,
};

use crate::{Word, activations::Pair, q8_0::Block};

/// Kinds of dense weights, as constants so that each gets its own loop.
const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

#[inline]
#[target_feature(enable = "avx2")]
fn load_ps(lanes: &[f32; 8]) -> __m256 {
    // SAFETY: the reference is valid for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(lanes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_u8(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference is valid for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_i8(bytes: &[i8; 32]) -> __m256i {
    // SAFETY: the reference is valid for 32 bytes, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// Adds 16 lanes: 16 → 8 → 4 → 2 → 1, each time the upper half onto the lower.
#[inline]
#[target_feature(enable = "avx2")]
fn add_lanes([low, high]: [__m256; 2]) -> f32 {
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

#[inline]
#[target_feature(enable = "f16c")]
fn scale(block: &Block) -> f32 {
    let half = i32::from(u16::from_le_bytes([block[0], block[1]]));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)))
}

/// Sums of `R` rows of Q8_0 with `T` tokens; even blocks in the lower lanes, odd ones in the upper.
///
/// `vpmaddubsw` saturates at 32767: `|w| · (±x)` stays below `2 · 128 · 127 = 32512` because activations
/// never are −128.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q8_0_tile<const R: usize, const T: usize>(
    rows: [&[Block]; R],
    tokens: [&[Pair]; T],
) -> [[f32; T]; R] {
    let ones = _mm256_set1_epi16(1);
    let mut result = [[0.0; T]; R];
    for (t, token) in tokens.into_iter().enumerate() {
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for (i, pair) in token.iter().enumerate() {
            let (values, _) = pair.values.as_chunks::<32>();
            for half in 0..2 {
                let x = load_i8(&values[half]);
                let scales = _mm256_set1_ps(pair.scales[8 * half]);
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let Some(block) = row.get(2 * i + half) else { continue };
                    let weights = load_u8(block.last_chunk().expect("a block has 34 bytes"));
                    let positive = _mm256_sign_epi8(weights, weights);
                    let exact = _mm256_maddubs_epi16(positive, _mm256_sign_epi8(x, weights));
                    let exact = _mm256_cvtepi32_ps(_mm256_madd_epi16(exact, ones));
                    let scale = _mm256_mul_ps(_mm256_set1_ps(scale(block)), scales);
                    sums[half] = _mm256_fmadd_ps(scale, exact, sums[half]);
                }
            }
        }
        for (result, sums) in result.iter_mut().zip(sums) {
            result[t] = add_lanes(sums);
        }
    }
    result
}

/// Eight weights as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen<const KIND: u8>(row: &[u8], i: usize) -> __m256 {
    if KIND == F32 {
        return _mm256_castsi256_ps(load_u8(&row.as_chunks().0[i]));
    }
    let words: &[u8; 16] = &row.as_chunks().0[i];
    // SAFETY: the reference is valid for 16 bytes, and the load needs no alignment.
    let words = unsafe { _mm_loadu_si128(words.as_ptr().cast()) };
    if KIND == F16 {
        _mm256_cvtph_ps(words)
    } else {
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words)))
    }
}

/// Sums of `R` rows of dense weights with `T` tokens.
#[target_feature(enable = "avx2,fma,f16c")]
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

#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const KIND: u8, const R: usize, const T: usize>(
    rows: [&[u8]; R],
    tokens: [&[f32]; T],
) -> [[f32; T]; R] {
    let word = if KIND == F32 { 4 } else { 2 };
    let k = tokens[0].len();
    let whole = k / 16;
    let heads = rows.map(|row| &row[..whole * 16 * word]);
    let mut result = [[0.0; T]; R];
    for (t, token) in tokens.into_iter().enumerate() {
        let (token, rest) = token.as_chunks::<8>();
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        for i in 0..whole {
            let x = [load_ps(&token[2 * i]), load_ps(&token[2 * i + 1])];
            for (row, sums) in heads.iter().zip(&mut sums) {
                sums[0] = _mm256_fmadd_ps(widen::<KIND>(row, 2 * i), x[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(widen::<KIND>(row, 2 * i + 1), x[1], sums[1]);
            }
        }
        if !k.is_multiple_of(16) {
            let mut last = [0.0; 16];
            let (values, _) = last.split_at_mut(k % 16);
            let whole_of_eight = token.get(2 * whole).map_or(&[][..], |eight| eight);
            values[..whole_of_eight.len()].copy_from_slice(whole_of_eight);
            values[whole_of_eight.len()..].copy_from_slice(rest);
            let (x, _) = last.as_chunks::<8>();
            for (row, sums) in rows.iter().zip(&mut sums) {
                let mut bytes = [0; 64];
                let rest = &row[whole * 16 * word..];
                bytes[..rest.len()].copy_from_slice(rest);
                sums[0] = _mm256_fmadd_ps(widen::<KIND>(&bytes, 0), load_ps(&x[0]), sums[0]);
                sums[1] = _mm256_fmadd_ps(widen::<KIND>(&bytes, 1), load_ps(&x[1]), sums[1]);
            }
        }
        for (result, sums) in result.iter_mut().zip(sums) {
            result[t] = add_lanes(sums);
        }
    }
    result
}

/// See [`crate::Kernels::dots`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn dots(x: &[f32], rows: &[f32], sums: &mut [f32]) {
    if x.is_empty() {
        sums.fill(0.0);
        return;
    }
    for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(x.len())) {
        let mut lanes = [_mm256_setzero_ps(); 2];
        for (x, row) in x.chunks(16).zip(row.chunks(16)) {
            let (x, row) = (super::avx512::filled(x), super::avx512::filled(row));
            for ((lanes, x), row) in lanes.iter_mut().zip(x.as_chunks().0).zip(row.as_chunks().0) {
                *lanes = _mm256_fmadd_ps(load_ps(x), load_ps(row), *lanes);
            }
        }
        *sum = add_lanes(lanes);
    }
}

/// See [`crate::Kernels::accumulate`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn accumulate(factors: &[f32], rows: &[f32], sums: &mut [f32]) {
    let width = sums.len();
    if width == 0 {
        return;
    }
    let eight = |values: &[f32]| {
        let mut lanes = [0.0; 8];
        lanes[..values.len()].copy_from_slice(values);
        lanes
    };
    for (at, sums) in sums.chunks_mut(8).enumerate() {
        let mut lanes = load_ps(&eight(sums));
        for (factor, row) in factors.iter().zip(rows.chunks_exact(width)) {
            let row = load_ps(&eight(&row[at * 8..at * 8 + sums.len()]));
            lanes = _mm256_fmadd_ps(_mm256_set1_ps(*factor), row, lanes);
        }
        let mut out = [0f32; 8];
        // SAFETY: the array is valid for 32 bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), lanes) };
        sums.copy_from_slice(&out[..sums.len()]);
    }
}
