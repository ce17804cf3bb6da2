//! Which chunks of its range a thin volume carries.
//!
//! `clb/41-carried` follows the index of a volume that leaves chunks out: one bit for each chunk of
//! the range that the head names, the first in the lowest bit of the first byte, the bits behind the
//! last zero. Like the head it is a hint that nobody signed: what a chunk must hash to stands in the
//! index, and a chunk that is nowhere stays missing.

use crate::BundleError;

/// The bits of a thin volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    bits: Vec<u8>,
    chunks: u64,
}

impl Carried {
    /// Bytes of the member for a range of `chunks`.
    #[must_use]
    pub const fn bytes(chunks: u64) -> u64 {
        chunks.div_ceil(8)
    }

    /// From one truth for each chunk of the range.
    #[must_use]
    pub fn of(carried: &[bool]) -> Self {
        let byte =
            |eight: &[bool]| eight.iter().rev().fold(0u8, |byte, bit| (byte << 1) | u8::from(*bit));
        let chunks = u64::try_from(carried.len()).expect("a count fits 64 bits");
        Self { bits: carried.chunks(8).map(byte).collect(), chunks }
    }

    /// Reads the member of a volume with `chunks` chunks in its range.
    ///
    /// # Errors
    /// [`BundleError::Carried`] for another length, and for a bit behind the last.
    pub fn parse(bits: Vec<u8>, chunks: u64) -> Result<Self, BundleError> {
        let sized = u64::try_from(bits.len()) == Ok(Self::bytes(chunks));
        let used = u32::try_from(chunks % 8).map_err(|_never| BundleError::Carried)?;
        let behind = match (used, bits.last()) {
            (0, _) | (_, None) => 0,
            (used, Some(last)) => last >> used,
        };
        if sized && behind == 0 { Ok(Self { bits, chunks }) } else { Err(BundleError::Carried) }
    }

    /// The member's bytes.
    #[must_use]
    pub fn encode(&self) -> &[u8] {
        &self.bits
    }

    /// Whether chunk `number` of the range, from 0, is carried.
    #[must_use]
    pub fn has(&self, number: usize) -> bool {
        let Some(byte) = self.bits.get(number / 8) else { return false };
        byte & (1 << (number % 8)) != 0
    }

    /// Chunks in the range.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_chunk_is_the_lowest_bit() {
        let carried = Carried::of(&[true, false, false, true, false, false, false, false, true]);
        assert_eq!(carried.encode(), [0b1001, 1]);
        assert_eq!(Carried::parse(vec![0b1001, 1], 9), Ok(carried));
        assert_eq!(Carried::parse(Vec::new(), 0), Ok(Carried::of(&[])));
        assert_eq!(Carried::of(&[false; 17]).chunks(), 17);
        assert_eq!([0, 1, 8, 9, 16].map(Carried::bytes), [0, 1, 1, 2, 2]);
    }

    #[test]
    fn other_lengths_and_bits_behind_the_last_are_refused() {
        for (bits, chunks) in [(vec![0], 9), (vec![0, 0, 0], 9), (vec![0, 2], 9), (vec![0x80], 7)] {
            assert_eq!(Carried::parse(bits, chunks), Err(BundleError::Carried));
        }
    }

    proptest! {
        #[test]
        fn each_bit_returns(carried in prop::collection::vec(any::<bool>(), 0..100)) {
            let made = Carried::of(&carried);
            let read = Carried::parse(made.encode().to_vec(), carried.len() as u64);
            prop_assert_eq!(&read, &Ok(made.clone()));
            for (number, bit) in carried.iter().enumerate() {
                prop_assert_eq!(made.has(number), *bit);
            }
            prop_assert!(!made.has(carried.len()));
        }
    }
}
