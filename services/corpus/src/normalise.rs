//! The one text of a document that is stored, cut, searched and cited.

use unicode_normalization::UnicodeNormalization as _;

/// The text that is kept of a document: line ends become `\n`, characters that a reader cannot see
/// are taken out, and what remains is in canonical composition (NFC; Unicode Annex 15).
///
/// Taken out are control characters but tab and line feed, zero-width spaces, direction overrides
/// and the tag characters U+E0000 to U+E007F: with them a document can say to a program what it
/// does not say to a person. Joiners (U+200C, U+200D) stay, since scripts need them. Doing it twice
/// changes nothing.
#[must_use]
pub fn normalise(text: &str) -> String {
    let mut characters = text.chars().peekable();
    let lines = std::iter::from_fn(move || {
        let character = characters.next()?;
        Some(match character {
            '\r' => {
                characters.next_if_eq(&'\n');
                '\n'
            }
            '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
            other => other,
        })
    });
    lines.filter(|character| is_seen(*character)).nfc().collect()
}

/// Whether a person can see `character`, or text needs it.
fn is_seen(character: char) -> bool {
    match character {
        '\n' | '\t' => true,
        '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fff9}'..='\u{fffb}' => false,
        '\u{e0000}'..='\u{e007f}' => false,
        other => !other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_ends_and_spellings_become_one() {
        assert_eq!(normalise("a\r\nb\rc\u{2028}d"), "a\nb\nc\nd");
        assert_eq!(normalise("e\u{301}"), "\u{e9}");
        assert_eq!(normalise("\u{feff}a\u{0}\u{200b}b\u{202e}c\u{e0041}"), "abc");
        assert_eq!(normalise("e\u{200b}\u{301}"), "\u{e9}", "what was apart is composed");
    }

    proptest! {
        #[test]
        fn doing_it_twice_changes_nothing(text in any::<String>()) {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn no_unseen_character_is_left(text in any::<String>()) {
            prop_assert!(normalise(&text).chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }
    }
}
