//! What both formats say about a tensor, and the checks that both need.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

use std::ops::Range;

use crate::{Name, WeightsError};

/// Elements in a block of Q8_0 (ggml-common.h, `QK8_0`).
pub const Q8_0_BLOCK: usize = 32;
/// Bytes in a block of Q8_0: an f16 scale, then 32 signed bytes (ggml-common.h, `block_q8_0`).
pub const Q8_0_BLOCK_BYTES: usize = 34;

/// The exponent's bits of a binary16.
const F16_EXPONENT: u16 = 0x7c00;
/// The exponent's bits of the upper half of a binary32.
const BF16_EXPONENT: u16 = 0x7f80;

/// Most tensors in a file. Mixture models with separate experts have about 50 000.
pub(crate) const TENSORS_MAX: u64 = 65_536;
/// Longest name of a tensor or key, in bytes.
pub(crate) const NAME_BYTES_MAX: u64 = 256;
/// Largest dimension of a tensor.
const DIMENSION_MAX: u64 = 1 << 24;
/// Most dimensions of a tensor.
pub(crate) const RANK_MAX: usize = 4;

/// The type of a tensor's elements, as far as they are read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// Blocks of 32 signed bytes with one f16 scale.
    Q8_0,
}

impl DType {
    /// Bytes of a row of `elements`; `None` when they are not whole blocks or overflow.
    #[must_use]
    pub const fn row_bytes(self, elements: u64) -> Option<u64> {
        match self {
            Self::F32 => elements.checked_mul(4),
            Self::F16 | Self::Bf16 => elements.checked_mul(2),
            Self::Q8_0 => {
                if !elements.is_multiple_of(32) {
                    return None;
                }
                match elements.checked_div(32) {
                    Some(blocks) => blocks.checked_mul(34),
                    None => None,
                }
            }
        }
    }

    /// Bytes that are read together: an element, or a block.
    #[must_use]
    pub const fn unit_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => Q8_0_BLOCK_BYTES,
        }
    }

    /// Whether no element in `bytes`, which are whole units, is NaN or infinite. Of a block only the
    /// scale can be.
    #[must_use]
    pub fn all_finite(self, bytes: &[u8]) -> bool {
        // An exponent of all ones is what NaN and the infinities have in common. No early end inside a
        // slice, so that it is done with vectors.
        let halves = |ones: u16| {
            let words = bytes.as_chunks::<2>().0.iter();
            !words.fold(false, |bad, word| bad | (u16::from_le_bytes(*word) & ones == ones))
        };
        match self {
            Self::F32 => {
                let ones = f32::INFINITY.to_bits();
                let words = bytes.as_chunks::<4>().0.iter();
                !words.fold(false, |bad, word| bad | (u32::from_le_bytes(*word) & ones == ones))
            }
            Self::F16 => halves(F16_EXPONENT),
            Self::Bf16 => halves(BF16_EXPONENT),
            Self::Q8_0 => bytes.as_chunks::<Q8_0_BLOCK_BYTES>().0.iter().all(|block| {
                let [low, high, ..] = *block;
                u16::from_le_bytes([low, high]) & F16_EXPONENT != F16_EXPONENT
            }),
        }
    }

    /// What a tensor's first byte must be a multiple of, so that elements can be read in place.
    pub(crate) const fn alignment(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 | Self::Q8_0 => 2,
        }
    }
}

/// One tensor of a file: row-major, the last dimension the contiguous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the file.
    pub name: String,
    /// Type of its elements.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Where its bytes lie, counted from the start of the file.
    pub range: Range<u64>,
}

/// Checks the name of a tensor or a key: not empty, printable ASCII. GGUF demands ASCII of keys, and no
/// published model has another name; what steers a terminal or is not seen is no name.
///
/// # Errors
///
/// [`WeightsError::NoName`], [`WeightsError::NameCharacters`].
pub(crate) fn check_name(name: &str) -> Result<(), WeightsError> {
    if name.is_empty() {
        return Err(WeightsError::NoName);
    }
    if name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(WeightsError::NameCharacters { name: Name::of(name) })
    }
}

/// Bytes of a tensor of this shape.
///
/// # Errors
///
/// [`WeightsError::Shape`] when a dimension is not in 1 to 2²⁴, when there are more than four, when a row is not
/// whole blocks, or when the size does not fit 63 bits.
pub(crate) fn tensor_bytes(name: &str, dtype: DType, shape: &[u64]) -> Result<u64, WeightsError> {
    let refused = || WeightsError::Shape { name: Name::of(name) };
    if shape.len() > RANK_MAX || shape.iter().any(|&n| n == 0 || n > DIMENSION_MAX) {
        return Err(refused());
    }
    let (&row, outer) = shape.split_last().unwrap_or((&1, &[]));
    let row_bytes = u128::from(dtype.row_bytes(row).ok_or_else(refused)?);
    let bytes = outer.iter().try_fold(row_bytes, |bytes, &n| bytes.checked_mul(u128::from(n)));
    let bytes = bytes.and_then(|bytes| u64::try_from(bytes).ok()).ok_or_else(refused)?;
    if i64::try_from(bytes).is_ok() { Ok(bytes) } else { Err(refused()) }
}

/// Checks that the tensors cover the file from `data_start` to `file_bytes` without overlap, with gaps of
/// padding only (below `alignment`), and returns them in the order of their names.
///
/// # Errors
///
/// [`WeightsError::Range`], [`WeightsError::Overlap`], [`WeightsError::Uncovered`], [`WeightsError::Misaligned`], [`WeightsError::Duplicate`].
pub(crate) fn check_layout(
    mut entries: Vec<Entry>,
    data_start: u64,
    file_bytes: u64,
    alignment: u64,
) -> Result<Vec<Entry>, WeightsError> {
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let mut covered = data_start;
    for entry in &entries {
        let name = || Name::of(&entry.name);
        if entry.range.end > file_bytes || entry.range.start > entry.range.end {
            return Err(WeightsError::Range { name: name() });
        }
        if !entry.range.start.is_multiple_of(entry.dtype.alignment()) {
            return Err(WeightsError::Misaligned { name: name() });
        }
        let Some(gap) = entry.range.start.checked_sub(covered) else {
            return Err(WeightsError::Overlap { name: name() });
        };
        if gap >= alignment {
            return Err(WeightsError::Uncovered { bytes: gap });
        }
        covered = entry.range.end;
    }
    let rest = file_bytes.saturating_sub(covered);
    if rest >= alignment {
        return Err(WeightsError::Uncovered { bytes: rest });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    for (one, next) in entries.iter().zip(entries.iter().skip(1)) {
        if one.name == next.name {
            return Err(WeightsError::Duplicate { name: Name::of(&one.name) });
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_shapes_are_refused() {
        let most = u64::MAX >> 1;
        for shape in [
            vec![most, 2, 1, 1],
            vec![0],
            vec![1, 0],
            vec![DIMENSION_MAX + 1],
            vec![DIMENSION_MAX; 4],
            vec![1; 5],
        ] {
            let refused = tensor_bytes("x", DType::F32, &shape);
            assert!(matches!(refused, Err(WeightsError::Shape { .. })), "{shape:?}");
        }
        assert_eq!(tensor_bytes("x", DType::F32, &[]).unwrap(), 4);
        assert_eq!(tensor_bytes("x", DType::Bf16, &[3, 5]).unwrap(), 30);
        assert_eq!(tensor_bytes("x", DType::Q8_0, &[2, 64]).unwrap(), 136);
        assert!(tensor_bytes("x", DType::Q8_0, &[64, 2]).is_err());
    }
}
