//! The set of passages that one question may look at.

/// A set of numbers as bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bitmap {
    words: Vec<u64>,
    count: u32,
}

impl Bitmap {
    pub(crate) fn insert(&mut self, number: u64) {
        let (word, bit) = place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if self.words[word] & bit == 0 {
            self.words[word] |= bit;
            self.count += 1;
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many numbers are in it.
    pub(crate) const fn count(&self) -> u32 {
        self.count
    }
}

fn place(number: u64) -> (usize, u64) {
    let word = usize::try_from(number / 64).expect("passages are fewer than addresses");
    (word, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_in_and_nothing_else() {
        let mut set = Bitmap::default();
        for number in [0, 63, 64, 1000, 64] {
            set.insert(number);
        }
        assert_eq!(set.count(), 4);
        let found: Vec<u64> = (0..2000).filter(|number| set.contains(*number)).collect();
        assert_eq!(found, [0, 63, 64, 1000]);
    }
}
