//! Tables that find a number by what it stands for, four bytes a slot: a vocabulary of 2¹⁹ tokens and its
//! merges fit the cage of the process that judges them.

use cloister_domain::TokenId;

use crate::{
    LoadError,
    vocabulary::{Kind, Vocabulary},
};

/// Bits of a slot that hold the number; the others hold part of the hash, which spares most comparisons.
const NUMBER_BITS: u32 = 20;
/// One more than the largest number, which takes all its bits: it would make an empty slot.
const NUMBERS: u32 = (1 << NUMBER_BITS) - 1;
const EMPTY: u32 = u32::MAX;
/// Slots that are looked at for one key. Of keys that nobody chose, at two thirds full, one in 10⁴⁰
/// needs more.
const PROBES_MAX: usize = 256;
/// The golden ratio of 2⁶⁴ (Knuth, vol. 3, section 6.4).
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of `bytes`, of fixed seed: the tables are the same on every machine.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().copied().chain([last]).map(u64::from_le_bytes);
    let mixed = words
        .fold(bytes.len() as u64, |hash, word| (hash.rotate_left(23) ^ word).wrapping_mul(GOLDEN));
    hash_word(mixed)
}

/// The hash of one word.
pub(crate) fn hash_word(word: u64) -> u64 {
    let mixed = word.wrapping_mul(GOLDEN);
    (mixed ^ (mixed >> 32)).wrapping_mul(GOLDEN)
}

/// Numbers below [`NUMBERS`], found by the hash of what they stand for.
#[derive(Clone, Debug)]
pub(crate) struct Slots(Box<[u32]>);

impl Slots {
    /// Room for `count` numbers, of which a third of the slots stays free.
    pub(crate) fn with_room(count: usize) -> Self {
        let slots = (count + count / 2).next_power_of_two().max(16);
        Self(vec![EMPTY; slots].into())
    }

    fn tag(hash: u64) -> u32 {
        // The index is made of the bits below these.
        (hash >> 52) as u32
    }

    /// The slots of a key in the order in which they are looked at: steps of 1, 2, 3, … reach all of them.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> {
        let mask = self.0.len() - 1;
        let first = (hash >> 32) as usize;
        (0..PROBES_MAX.min(self.0.len())).scan(first, move |place, step| {
            *place = place.wrapping_add(step);
            Some(*place & mask)
        })
    }

    /// The number with this hash that `is` meant.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = Self::tag(hash);
        for place in self.places(hash) {
            let slot = self.0[place];
            if slot == EMPTY {
                return None;
            }
            let number = slot & NUMBERS;
            if slot >> NUMBER_BITS == tag && is(number) {
                return Some(number);
            }
        }
        None
    }

    /// Puts `number` in the place of the one that `is` meant, or into a free slot.
    ///
    /// # Errors
    /// [`LoadError::Crowded`] when there is none within reach.
    pub(crate) fn put(
        &mut self,
        hash: u64,
        number: u32,
        is: impl Fn(u32) -> bool,
    ) -> Result<(), LoadError> {
        assert!(number < NUMBERS, "numbers below 2^20 - 1");
        let tag = Self::tag(hash);
        let places = self.places(hash);
        let free = |slot: u32| slot == EMPTY || (slot >> NUMBER_BITS == tag && is(slot & NUMBERS));
        let place = { places }.find(|place| free(self.0[*place])).ok_or(LoadError::Crowded)?;
        self.0[place] = tag << NUMBER_BITS | number;
        Ok(())
    }
}

/// Tokens by their bytes.
#[derive(Clone, Debug)]
pub(crate) struct Index(Slots);

impl Index {
    /// The tokens of `vocabulary` that `takes` agrees to; of equal ones the last.
    ///
    /// # Errors
    /// [`LoadError::Crowded`].
    pub(crate) fn of(
        vocabulary: &Vocabulary,
        takes: impl Fn(Kind) -> bool,
    ) -> Result<Self, LoadError> {
        let mut slots = Slots::with_room(vocabulary.len());
        for (id, bytes, kind) in vocabulary.iter() {
            if takes(kind) && !bytes.is_empty() {
                let is = |number| vocabulary.bytes(TokenId(number)) == bytes;
                slots.put(hash_bytes(bytes), id.0, is)?;
            }
        }
        Ok(Self(slots))
    }

    /// The token of `vocabulary`, of which this is an index, with these bytes.
    pub(crate) fn get(&self, vocabulary: &Vocabulary, bytes: &[u8]) -> Option<TokenId> {
        let is = |number| vocabulary.bytes(TokenId(number)) == bytes;
        self.0.find(hash_bytes(bytes), is).map(TokenId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_found_and_nothing_else() {
        let keys: Vec<u64> = (0..50_000u64).map(|n| n * n).collect();
        let mut slots = Slots::with_room(keys.len());
        let is = |key: u64| move |number: u32| u64::from(number) * u64::from(number) == key;
        for (number, key) in (0u32..).zip(&keys) {
            slots.put(hash_word(*key), number, is(*key)).expect("room");
        }
        for (number, key) in (0u32..).zip(&keys) {
            assert_eq!(slots.find(hash_word(*key), is(*key)), Some(number));
        }
        assert_eq!(slots.find(hash_word(3), is(3)), None);
    }

    #[test]
    fn keys_that_were_chosen_to_collide_are_refused() {
        let mut slots = Slots::with_room(100_000);
        let outcome = (0..1000).try_for_each(|number| slots.put(7, number, |_other| false));
        assert_eq!(outcome, Err(LoadError::Crowded));
        assert_eq!(slots.find(7, |_other| false), None);
    }
}
