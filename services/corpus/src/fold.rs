//! Words out of text: the same for passages and questions.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use crate::stem::stem;

/// Longest word that is kept whole, in bytes; longer ones are cut, so that a line of base64 is no
/// key of the index.
pub const TERM_BYTES_MAX: usize = 64;

/// The words of `text` in order, folded: compatibility forms decomposed (NFKD), marks dropped, lower
/// case, English endings cut. Scripts written without spaces give a word for each character.
pub(crate) fn words(text: &str) -> Vec<String> {
    raw_words(text).iter().map(|word| stem(word)).collect()
}

/// As [`words`], before endings are cut.
pub(crate) fn raw_words(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let folded = text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    for character in folded.chain([' ']) {
        let alone = stands_alone(character);
        if !character.is_alphanumeric() || alone {
            push(&mut found, &mut word);
            if alone {
                found.push(character.to_string());
            }
        } else {
            word.push(character);
        }
    }
    found
}

fn push(found: &mut Vec<String>, word: &mut String) {
    if word.is_empty() {
        return;
    }
    while word.len() > TERM_BYTES_MAX {
        word.pop();
    }
    found.push(std::mem::take(word));
}

/// Whether a character of this script is a word: Han, Hiragana, Katakana, Thai, Lao and Khmer write
/// without spaces. Pairs of neighbours, which are ranked too, do the rest.
const fn stands_alone(character: char) -> bool {
    matches!(character,
        '\u{3041}'..='\u{30ff}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{323af}'
        | '\u{e01}'..='\u{eff}'
        | '\u{1780}'..='\u{17ff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_a_word_are_one() {
        assert_eq!(words("Pumps"), words("pump"));
        assert_eq!(words("F\u{fc}llung"), ["fullung"]);
        assert_eq!(words("P-7/a"), ["p", "7", "a"]);
        assert_eq!(words("\u{6c34}\u{6cf5}"), ["\u{6c34}", "\u{6cf5}"]);
        assert_eq!(words("\u{fb01}lter"), ["filter"]);
    }

    proptest! {
        #[test]
        fn words_are_short_and_not_empty(text in any::<String>()) {
            for word in words(&text) {
                prop_assert!(!word.is_empty() && word.len() <= TERM_BYTES_MAX);
            }
        }
    }
}
