//! Tables that find a number by what it stands for, five bytes a slot: a vocabulary of 2¹⁹ tokens and its
//! merges fit the cage of the process that judges them. What a number stands for lies with the caller.

use std::hash::{BuildHasher as _, Hash};

use cloister_domain::TokenId;
use hashbrown::{DefaultHashBuilder, HashTable, hash_table::Entry};

use crate::vocabulary::{Kind, Vocabulary};

/// Numbers by what they stand for. Each table draws a seed, so that no file is slow to find things in.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    numbers: HashTable<u32>,
    seed: DefaultHashBuilder,
}

impl Slots {
    /// Room for `count` numbers.
    pub(crate) fn with_room(count: usize) -> Self {
        Self { numbers: HashTable::with_capacity(count), seed: DefaultHashBuilder::default() }
    }

    /// The number that stands for `key`; `of` says what each number stands for.
    pub(crate) fn find<K: Hash + Eq>(&self, key: &K, of: impl Fn(u32) -> K) -> Option<u32> {
        self.numbers.find(self.seed.hash_one(key), |number| of(*number) == *key).copied()
    }

    /// Adds `number` unless another stands for the same; says whether it did.
    pub(crate) fn add<K: Hash + Eq>(&mut self, number: u32, of: impl Fn(u32) -> K) -> bool {
        let (key, seed) = (of(number), &self.seed);
        let same = |number: &u32| of(*number) == key;
        match self.numbers.entry(seed.hash_one(&key), same, |number| seed.hash_one(of(*number))) {
            Entry::Occupied(_other) => false,
            Entry::Vacant(room) => {
                room.insert(number);
                true
            }
        }
    }
}

/// Tokens by their bytes.
#[derive(Clone, Debug)]
pub(crate) struct Index(Slots);

impl Index {
    /// The tokens of `vocabulary` that `takes` agrees to; of equal ones the last.
    pub(crate) fn of(vocabulary: &Vocabulary, takes: impl Fn(Kind) -> bool) -> Self {
        let mut slots = Slots::with_room(vocabulary.len());
        for (id, bytes, kind) in vocabulary.iter().rev() {
            if takes(kind) && !bytes.is_empty() {
                slots.add(id.0, |number| vocabulary.bytes(TokenId(number)));
            }
        }
        Self(slots)
    }

    /// The token of `vocabulary`, of which this is an index, with these bytes.
    pub(crate) fn get(&self, vocabulary: &Vocabulary, bytes: &[u8]) -> Option<TokenId> {
        self.0.find(&bytes, |number| vocabulary.bytes(TokenId(number))).map(TokenId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let square = |number: u32| u64::from(number) * u64::from(number);
        let mut slots = Slots::with_room(100);
        assert!((0..50_000).all(|number| slots.add(number, square)));
        assert!((0..50_000).all(|number| slots.find(&square(number), square) == Some(number)));
        assert_eq!(slots.find(&3, square), None);
    }

    #[test]
    fn of_equal_ones_the_first_stays() {
        let half = |number: u32| number / 2;
        let mut slots = Slots::with_room(4);
        assert_eq!([4, 5, 6].map(|number| slots.add(number, half)), [true, false, true]);
        assert_eq!(slots.find(&2, half), Some(4));
    }
}
