//! The bytes of a file in blocks that copies share, so that thousands of states cost what differs in them.

use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};

use crate::tree::sha256;

/// Bytes of a block, which is what file systems and some disks write whole.
pub(crate) const BLOCK: usize = 4096;

/// Odd, and without a pattern (the golden ratio's bits, as in SplitMix64).
const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// What a file holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bytes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    length: usize,
    /// None is a block of zeros. Behind the length the last one has zeros.
    blocks: Vec<Option<Arc<Block>>>,
    sum: OnceLock<u128>,
    sha256: OnceLock<String>,
}

impl Clone for Inner {
    /// One that is to be changed; what is known of the bytes is not taken along.
    fn clone(&self) -> Self {
        let (sum, sha256) = (OnceLock::new(), OnceLock::new());
        Self { length: self.length, blocks: self.blocks.clone(), sum, sha256 }
    }
}

/// Bytes that never change once another file may share them.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: [u8; BLOCK],
    sum: OnceLock<u128>,
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes, sum: OnceLock::new() }
    }
}

impl Bytes {
    /// A file with these bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut of = Self::default();
        of.write(0, bytes);
        of
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.length
    }

    /// Its blocks, whole; none is a block of zeros.
    pub(crate) fn blocks(&self) -> &[Option<Arc<Block>>] {
        &self.0.blocks
    }

    /// All of them.
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.first(self.0.blocks.len())
    }

    /// All of them but whole blocks of zeros at the end.
    pub(crate) fn front(&self) -> Vec<u8> {
        self.first(self.0.blocks.iter().rposition(Option::is_some).map_or(0, |last| last + 1))
    }

    fn first(&self, blocks: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(blocks * BLOCK);
        for block in self.0.blocks.iter().take(blocks) {
            bytes.extend_from_slice(block.as_ref().map_or(&[0; BLOCK], |block| &block.bytes));
        }
        bytes.truncate(self.0.length);
        bytes
    }

    /// SHA-256 of them, in digits.
    pub(crate) fn sha256(&self) -> &str {
        self.0.sha256.get_or_init(|| sha256(&self.to_vec()))
    }

    /// A number that two files have in common only where all their bytes are the same.
    pub(crate) fn sum(&self) -> u128 {
        *self.0.sum.get_or_init(|| {
            let blocks = (1u128..).zip(&self.0.blocks);
            let sums = blocks.filter_map(|(at, block)| Some(mixed(at, block.as_ref()?.sum())));
            sums.fold(mixed(0, self.0.length as u128), u128::wrapping_add)
        })
    }

    fn inner(&mut self) -> &mut Inner {
        let inner = Arc::make_mut(&mut self.0);
        (inner.sum, inner.sha256) = (OnceLock::new(), OnceLock::new());
        inner
    }

    /// Cuts it off, or has zeros follow.
    pub(crate) fn set_length(&mut self, length: usize) {
        let inner = self.inner();
        inner.blocks.resize(length.div_ceil(BLOCK), None);
        if length < inner.length
            && let Some(place) = inner.blocks.last_mut()
            && let Some(last) = place
        {
            let end = (length - 1) % BLOCK + 1;
            let last = Arc::make_mut(last);
            last.sum = OnceLock::new();
            last.bytes[end..].fill(0);
            if last.bytes == [0; BLOCK] {
                *place = None;
            }
        }
        inner.length = length;
    }

    /// Puts bytes at a place, behind the end too.
    pub(crate) fn write(&mut self, at: usize, mut bytes: &[u8]) {
        if self.0.length < at + bytes.len() {
            self.set_length(at + bytes.len());
        }
        let (inner, mut at) = (self.inner(), at);
        while !bytes.is_empty() {
            let from = at % BLOCK;
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - from));
            let place = &mut inner.blocks[at / BLOCK];
            let fresh = || Arc::new(Block { bytes: [0; BLOCK], sum: OnceLock::new() });
            let block = Arc::make_mut(place.get_or_insert_with(fresh));
            block.sum = OnceLock::new();
            block.bytes[from..from + now.len()].copy_from_slice(now);
            // Zeros have one form, so that equal files have one sum.
            if block.bytes == [0; BLOCK] {
                *place = None;
            }
            at += now.len();
            bytes = rest;
        }
    }
}

impl Block {
    /// Its bytes.
    pub(crate) const fn bytes(&self) -> &[u8; BLOCK] {
        &self.bytes
    }

    fn sum(&self) -> u128 {
        *self.sum.get_or_init(|| summed(&self.bytes))
    }
}

/// Half of the SHA-256 of `bytes`.
pub(crate) fn summed(bytes: &[u8]) -> u128 {
    let sum: [u8; 32] = Sha256::digest(bytes).into();
    let (half, _other) = sum.split_at(16);
    half.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// `sum` at a place of many; a sum of these is one of all that lies at all places.
pub(crate) const fn mixed(place: u128, sum: u128) -> u128 {
    let mixed = (sum ^ (place.wrapping_add(1)).wrapping_mul(ODD)).wrapping_mul(ODD);
    (mixed ^ (mixed >> 61)).wrapping_mul(ODD)
}

#[cfg(test)]
mod tests {
    use cloister_stage::Dice;

    use super::*;

    #[test]
    fn blocks_hold_what_a_vector_would_and_equal_files_have_one_sum() {
        let mut dice = Dice::new(7);
        for _round in 0..200 {
            let (mut plain, mut shared) = (Vec::new(), Bytes::default());
            for _step in 0..dice.below(12) {
                if dice.below(3) == 0 {
                    let length = dice.below(3 * BLOCK);
                    plain.resize(length, 0);
                    shared.set_length(length);
                } else {
                    let (at, count) = (dice.below(2 * BLOCK), dice.below(2 * BLOCK));
                    let zeros = dice.below(2) == 0;
                    let bytes = if zeros { vec![0; count] } else { dice.bytes(count) };
                    plain.resize(plain.len().max(at + count), 0);
                    plain[at..at + count].copy_from_slice(&bytes);
                    shared.write(at, &bytes);
                }
                // One that others share is not changed with it.
                let (copy, before) = (shared.clone(), shared.sum());
                shared.write(0, &[1]);
                assert_eq!(copy.to_vec(), plain);
                assert_eq!(copy.sum(), before);
                shared = copy;
            }
            assert_eq!(shared.to_vec(), plain);
            assert_eq!(shared.sum(), Bytes::of(&plain).sum());
            let front = shared.front();
            assert!(plain.starts_with(&front) && plain[front.len()..].iter().all(|b| *b == 0));
            if let Some(first) = plain.first() {
                let mut other = shared.clone();
                other.write(0, &[first ^ 1]);
                assert_ne!(other.sum(), shared.sum());
            }
            let mut longer = shared.clone();
            longer.set_length(plain.len() + 1);
            assert_ne!(longer.sum(), shared.sum());
        }
    }
}
