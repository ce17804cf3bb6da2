//! Classes of characters, with the boundaries that published tokenizer files were made with.

mod tables;

/// Whether `c` lies in one of the sorted inclusive ranges `first, last, first, last, …`.
fn within(ranges: &[u32], c: char) -> bool {
    // The number of bounds below `c`: odd inside a range, even outside; a hit on a bound is inside.
    match ranges.binary_search(&u32::from(c)) {
        Ok(_bound) => true,
        Err(below) => below % 2 == 1,
    }
}

/// `\p{L}`.
pub(crate) fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { within(&tables::LETTERS, c) }
}

/// `\p{N}`.
pub(crate) fn is_number(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { within(&tables::NUMBERS, c) }
}

/// Whether BERT's clean-up drops `c`.
pub(crate) fn is_cleaned(c: char) -> bool {
    within(&tables::CLEANED, c)
}

/// Whether `c` is a nonspacing mark, such as a combining accent.
pub(crate) fn is_mark(c: char) -> bool {
    !c.is_ascii() && within(&tables::MARKS, c)
}

/// Whether BERT makes a word of `c` alone because it is punctuation.
pub(crate) fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { within(&tables::PUNCTUATION, c) }
}

/// Whether BERT makes a word of `c` alone because it is a Chinese character (the blocks of Google's
/// `tokenization.py`, with the upper bounds of the package `tokenizers`).
pub(crate) fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0x20000..=0x2A6DF
        | 0x2A700..=0x2B81F
        | 0x2B920..=0x2CEAF
        | 0x2F800..=0x2FA1F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_sorted_and_apart() {
        for table in [
            &tables::LETTERS[..],
            &tables::NUMBERS,
            &tables::CLEANED,
            &tables::MARKS,
            &tables::PUNCTUATION,
        ] {
            assert!(table.len().is_multiple_of(2));
            assert!(table.chunks(2).all(|range| range[0] <= range[1]));
            assert!(table[1..table.len() - 1].chunks(2).all(|gap| gap[0] < gap[1]));
        }
    }

    #[test]
    fn bounds_of_a_range_are_inside_it() {
        for (c, letter) in [('µ', true), ('´', false), ('ª', true), ('×', false), ('中', true)]
        {
            assert_eq!(is_letter(c), letter, "U+{:04X}", u32::from(c));
        }
        assert!(is_number('٣') && is_number('Ⅷ') && is_number('½') && !is_number('中'));
        assert!(is_mark('\u{301}') && !is_mark('a'));
        assert!(is_punctuation('$') && is_punctuation('。') && !is_punctuation('€'));
        assert!(is_cleaned('\0') && is_cleaned('\u{200D}') && !is_cleaned('\t'));
    }
}
