//! WordPiece: BERT's normaliser, its words, and the longest-match split of each word.
//!
//! After Google's `tokenization.py` (google-research/bert) and the package `tokenizers`.

use cloister_domain::TokenId;
use unicode_normalization::UnicodeNormalization;

use crate::{
    slots::Index,
    unicode::{is_cleaned, is_ideograph, is_mark, is_punctuation},
    vocabulary::Vocabulary,
};

/// What the pieces that continue a word begin with in the vocabulary.
pub(crate) const CONTINUES: &str = "##";

/// What BERT does to text before it is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "BERT's four switches are independent")]
pub(crate) struct BertNormalizer {
    /// Drop control characters and make each white space a space.
    pub(crate) clean: bool,
    /// Put spaces around Chinese characters.
    pub(crate) ideographs: bool,
    /// Decompose and drop nonspacing marks.
    pub(crate) accents: bool,
    /// Lower case.
    pub(crate) lower: bool,
}

impl BertNormalizer {
    /// The normal form of `text`.
    pub(crate) fn apply(self, text: &str) -> String {
        let mut normal: String = text.chars().filter(|c| !(self.clean && is_cleaned(*c))).collect();
        if self.clean {
            normal = normal.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        }
        if self.ideographs {
            let mut spaced = String::with_capacity(normal.len());
            for c in normal.chars() {
                if is_ideograph(c) {
                    spaced.extend([' ', c, ' ']);
                } else {
                    spaced.push(c);
                }
            }
            normal = spaced;
        }
        if self.accents && !normal.is_ascii() {
            normal = normal.nfd().filter(|c| !is_mark(*c)).collect();
        }
        if self.lower {
            // Character by character: no final sigma, which depends on its neighbours.
            normal = normal.chars().flat_map(char::to_lowercase).collect();
        }
        normal
    }
}

/// The words of normalised `text`: split at white space, punctuation apart.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().flat_map(|mut rest| {
        std::iter::from_fn(move || {
            let first = rest.chars().next()?;
            let length = if is_punctuation(first) {
                first.len_utf8()
            } else {
                rest.find(is_punctuation).unwrap_or(rest.len())
            };
            let (word, tail) = rest.split_at(length);
            rest = tail;
            Some(word)
        })
    })
}

/// A WordPiece vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct WordPiece {
    /// Before words are cut.
    pub(crate) normalizer: BertNormalizer,
    /// The pieces. None is both: a word that begins with punctuation is that one character.
    pub(crate) pieces: Index,
    /// Longest piece in characters; nothing longer is looked up.
    pub(crate) piece_characters_max: usize,
    /// Longer words are unknown.
    pub(crate) word_characters_max: usize,
    /// Stands for a word that cannot be put together.
    pub(crate) unknown: TokenId,
}

impl WordPiece {
    /// Appends the tokens of `text`.
    pub(crate) fn encode(&self, text: &str, vocabulary: &Vocabulary, tokens: &mut Vec<TokenId>) {
        let normal = self.normalizer.apply(text);
        for word in words(&normal) {
            let before = tokens.len();
            if self.split(word, vocabulary, tokens).is_none() {
                tokens.truncate(before);
                tokens.push(self.unknown);
            }
        }
    }

    /// Appends the longest pieces of `word` from the left; `None` when one is not known.
    fn split(&self, word: &str, vocabulary: &Vocabulary, tokens: &mut Vec<TokenId>) -> Option<()> {
        if word.chars().nth(self.word_characters_max).is_some() {
            return None;
        }
        let mut rest = word.to_owned();
        let mut mark = "";
        while rest.len() > mark.len() {
            let (length, token) = self.longest(vocabulary, &rest, mark)?;
            tokens.push(token);
            mark = CONTINUES;
            rest.replace_range(..length, mark);
        }
        Some(())
    }

    /// The longest piece at the start of `rest`, which begins with `mark`: how many bytes, and which.
    fn longest(&self, vocabulary: &Vocabulary, rest: &str, mark: &str) -> Option<(usize, TokenId)> {
        let own = rest.split_at(mark.len()).1;
        let ends = own.char_indices().map(|(at, c)| mark.len() + at + c.len_utf8());
        let ends: Vec<usize> = ends.take(self.piece_characters_max).collect();
        let found = |end: &usize| {
            Some((*end, self.pieces.get(vocabulary, rest.split_at(*end).0.as_bytes())?))
        };
        ends.iter().rev().find_map(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERT: BertNormalizer =
        BertNormalizer { clean: true, ideographs: true, accents: true, lower: true };

    #[test]
    fn text_is_cleaned_spaced_stripped_and_lowered() {
        assert_eq!(BERT.apply("Ré\u{301}sumé\u{0}\u{200D}\tÅΣ中x"), "resume aσ 中 x");
        let cased = BertNormalizer { accents: false, lower: false, ..BERT };
        assert_eq!(cased.apply("É\r\n"), "É  ");
    }

    #[test]
    fn punctuation_stands_alone() {
        assert_eq!(
            words("don't  (x)… a_b").collect::<Vec<_>>(),
            ["don", "'", "t", "(", "x", ")", "…", "a", "_", "b"]
        );
    }
}
