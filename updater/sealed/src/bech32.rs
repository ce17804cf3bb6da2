//! Bech32 (BIP 173) of 32 bytes, as age writes its keys.

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
/// Words of five bits that 32 bytes take, and of the checksum.
const DATA_WORDS: usize = 52;
const SUM_WORDS: usize = 6;

fn polymod(words: impl Iterator<Item = u8>) -> u32 {
    words.fold(1u32, |sum, word| {
        let top = sum >> 25;
        let next = ((sum & 0x01ff_ffff) << 5) ^ u32::from(word);
        let bits = GENERATOR.iter().enumerate().filter(|(bit, _)| (top >> bit) & 1 == 1);
        bits.fold(next, |next, (_, term)| next ^ term)
    })
}

fn expanded(prefix: &str) -> impl Iterator<Item = u8> {
    let high = prefix.bytes().map(|byte| byte >> 5);
    high.chain(std::iter::once(0)).chain(prefix.bytes().map(|byte| byte & 31))
}

/// The text of `bytes` under a lower-case `prefix`.
pub(crate) fn encode(prefix: &str, bytes: &[u8; 32]) -> String {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| (byte >> (7 ^ (at % 8))) & 1 == 1);
    let word = |number: usize| {
        let bits = (0..5).map(|offset| bit(number.saturating_mul(5).saturating_add(offset)));
        bits.fold(0u8, |word, bit| (word << 1) | u8::from(bit))
    };
    let mut words: Vec<u8> = (0..DATA_WORDS).map(word).collect();
    let padded = words.iter().copied().chain([0; SUM_WORDS]);
    let sum = polymod(expanded(prefix).chain(padded)) ^ 1;
    words.extend(
        [25u32, 20, 15, 10, 5, 0]
            .map(|shift| u8::try_from((sum >> shift) & 31).expect("five bits")),
    );
    let letter = |word: u8| ALPHABET.get(usize::from(word)).copied().map_or('q', char::from);
    let letters = words.into_iter().map(letter);
    prefix.chars().chain(std::iter::once('1')).chain(letters).collect()
}

/// The 32 bytes of `text` under `prefix`, all of one case.
pub(crate) fn decode(prefix: &str, text: &str) -> Option<[u8; 32]> {
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return None;
    }
    let data = lower.strip_prefix(prefix)?.strip_prefix('1')?;
    let value = |letter: u8| {
        let place = ALPHABET.iter().position(|known| *known == letter)?;
        u8::try_from(place).ok()
    };
    let words = data.bytes().map(value).collect::<Option<Vec<u8>>>()?;
    let summed = polymod(expanded(prefix).chain(words.iter().copied())) == 1;
    let (words, _sum) =
        words.split_at_checked(DATA_WORDS).filter(|(_, sum)| sum.len() == SUM_WORDS)?;
    let mut bytes = [0u8; 32];
    for (number, word) in words.iter().enumerate() {
        for (offset, shift) in [4u8, 3, 2, 1, 0].into_iter().enumerate() {
            let at = number.saturating_mul(5).saturating_add(offset);
            let bit = (word >> shift) & 1;
            match bytes.get_mut(at / 8) {
                Some(byte) => *byte |= bit << (7 ^ (at % 8)),
                // What is left of the last word must be zero.
                None if bit == 0 => {}
                None => return None,
            }
        }
    }
    summed.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of any words, with a good sum.
    fn text_of(words: &[u8]) -> String {
        let padded = words.iter().copied().chain([0; SUM_WORDS]);
        let sum = polymod(expanded("age").chain(padded)) ^ 1;
        let sum = [25u32, 20, 15, 10, 5, 0].map(|shift| (sum >> shift) & 31);
        let sum = sum.map(|word| u8::try_from(word).expect("five bits"));
        let letters = words.iter().chain(&sum).map(|word| char::from(ALPHABET[usize::from(*word)]));
        "age1".chars().chain(letters).collect()
    }

    #[test]
    fn a_key_of_another_length_or_with_something_left_over_is_none() {
        let words = [3; DATA_WORDS - 1];
        let with = |last: &[u8]| decode("age", &text_of(&[&words[..], last].concat()));
        assert!(with(&[0]).is_some() && with(&[0b10000]).is_some());
        for left_over in 1..16 {
            assert_eq!(with(&[left_over]), None, "{left_over:05b}");
        }
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[0, 0]), None);
        assert_eq!(with(&[0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn keys_return_and_a_changed_letter_is_found() {
        let bytes = std::array::from_fn(|n| u8::try_from(n * 7).expect("small"));
        let text = encode("age", &bytes);
        assert_eq!(text.len(), 62);
        assert_eq!(decode("age", &text), Some(bytes));
        assert_eq!(decode("age", &text.to_ascii_uppercase()), Some(bytes));
        assert_eq!(decode("agf", &text), None);
        for at in 4..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'q' { b'p' } else { b'q' };
            let other = String::from_utf8(other).expect("letters");
            assert_eq!(decode("age", &other), None);
            let mut mixed = text.clone().into_bytes();
            mixed[at] = mixed[at].to_ascii_uppercase();
            let mixed = String::from_utf8(mixed).expect("letters");
            assert!(mixed == text || decode("age", &mixed).is_none());
        }
    }
}
