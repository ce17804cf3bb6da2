//! The byte alphabet of GPT-2: each byte as one printable character.
//!
//! Bytes that print in Latin-1 stand for themselves; the other 68 take U+0100 and following, in
//! order (`bytes_to_unicode` of openai/gpt-2, `src/encoder.py`).

/// Whether `byte` is written as the character of its own number.
const fn prints(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// Bytes that do not print, in order; the `n`th is written U+0100 + n.
const HIDDEN: [u8; 68] = {
    let mut hidden = [0; 68];
    let (mut byte, mut count) = (0u8, 0);
    loop {
        if !prints(byte) {
            hidden[count] = byte;
            count += 1;
        }
        if byte == u8::MAX {
            break hidden;
        }
        byte += 1;
    }
};

/// The byte that `c` stands for.
fn byte(c: char) -> Option<u8> {
    let number = u32::from(c);
    match u8::try_from(number) {
        Ok(byte) => prints(byte).then_some(byte),
        Err(_large) => HIDDEN.get(usize::try_from(number - 0x100).ok()?).copied(),
    }
}

/// Appends the bytes that a token written in the alphabet stands for; `None` at a foreign character.
pub(crate) fn append(token: &str, bytes: &mut Vec<u8>) -> Option<()> {
    for c in token.chars() {
        bytes.push(byte(c)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_one_character() {
        let written: String = (0u32..0x144).filter_map(char::from_u32).collect();
        let mut all: Vec<u8> = written.chars().filter_map(byte).collect();
        all.sort_unstable();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
        let bytes = |token| {
            let mut bytes = Vec::new();
            append(token, &mut bytes).map(|()| bytes)
        };
        assert_eq!(bytes("Ġhé"), Some(b" h\xE9".to_vec()));
        assert_eq!(bytes("Ċ"), Some(b"\n".to_vec()));
        for foreign in [" ", "中", "\u{144}", "\u{AD}"] {
            assert_eq!(bytes(foreign), None);
        }
    }
}
