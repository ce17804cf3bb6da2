//! English endings, cut as Porter's first step does ("An algorithm for suffix stripping", Program
//! 14(3), 1980, steps 1a to 1c): plurals, -ed and -ing, final y. The later steps, which join words
//! of different meaning, are left out.

/// `word` without its ending, if it is written in a-z alone; other words stay as they are.
pub(crate) fn stem(word: &str) -> String {
    let mut word = word.to_owned();
    if word.len() > 2 && word.bytes().all(|c| c.is_ascii_lowercase()) {
        plural(&mut word);
        past_and_gerund(&mut word);
        if word.ends_with('y') && has_vowel(&word, word.len() - 1) {
            word.pop();
            word.push('i');
        }
    }
    word
}

/// Step 1a.
fn plural(word: &mut String) {
    let cut = if word.ends_with("sses") || word.ends_with("ies") {
        2
    } else if word.ends_with("ss") || !word.ends_with('s') {
        0
    } else {
        1
    };
    word.truncate(word.len() - cut);
}

/// Step 1b.
fn past_and_gerund(word: &mut String) {
    if word.ends_with("eed") {
        if measure(word, word.len() - 3) > 0 {
            word.pop();
        }
        return;
    }
    let ending = ["ed", "ing"]
        .into_iter()
        .find(|ending| word.ends_with(ending) && has_vowel(word, word.len() - ending.len()));
    let Some(ending) = ending else { return };
    word.truncate(word.len() - ending.len());
    let length = word.len();
    if word.ends_with("at") || word.ends_with("bl") || word.ends_with("iz") {
        word.push('e');
    } else if doubled(word) && !word.ends_with(['l', 's', 'z']) {
        word.pop();
    } else if measure(word, length) == 1 && short(word) {
        word.push('e');
    }
}

fn consonant(word: &[u8], at: usize) -> bool {
    match word[at] {
        b'a' | b'e' | b'i' | b'o' | b'u' => false,
        b'y' => at == 0 || !consonant(word, at - 1),
        _ => true,
    }
}

fn has_vowel(word: &str, end: usize) -> bool {
    (0..end).any(|at| !consonant(word.as_bytes(), at))
}

/// How often a vowel is followed by a consonant before `end` (the paper's m).
fn measure(word: &str, end: usize) -> usize {
    let word = word.as_bytes();
    (1..end).filter(|at| consonant(word, *at) && !consonant(word, at - 1)).count()
}

fn doubled(word: &str) -> bool {
    let word = word.as_bytes();
    matches!(word, [.., a, b] if a == b) && consonant(word, word.len() - 1)
}

/// Consonant, vowel, consonant at the end, the last not w, x or y (the paper's *o).
fn short(word: &str) -> bool {
    let word = word.as_bytes();
    let length = word.len();
    length >= 3
        && consonant(word, length - 3)
        && !consonant(word, length - 2)
        && consonant(word, length - 1)
        && !matches!(word[length - 1], b'w' | b'x' | b'y')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_papers_examples_hold() {
        for (word, stemmed) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("caress", "caress"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agree"),
            ("plastered", "plaster"),
            ("bled", "bled"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflate"),
            ("troubled", "trouble"),
            ("sized", "size"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("hissing", "hiss"),
            ("failing", "fail"),
            ("filing", "file"),
            ("happy", "happi"),
            ("sky", "sky"),
        ] {
            assert_eq!(stem(word), stemmed);
        }
    }

    proptest! {
        #[test]
        fn any_word_has_a_stem(word in "[a-z]{1,12}|\\PC{1,12}") {
            prop_assert!(!stem(&word).is_empty());
        }
    }
}
