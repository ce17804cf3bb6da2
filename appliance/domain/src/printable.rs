//! Foreign text as a terminal may show it.

/// Letters, digits, signs and spaces stand for themselves; anything that moves a cursor, changes a
/// colour, turns the line around or cannot be seen stands there as an escape, and so do bytes that are
/// no text.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                // The marks that change direction, and those without width.
                '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}' => text.extend(c.escape_unicode()),
                plain => text.extend(plain.escape_debug()),
            }
        }
        text.extend(chunk.invalid().escape_ascii().map(char::from));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_speak_to_a_terminal() {
        for (bytes, wanted) in [
            (&b"notes.txt"[..], "notes.txt"),
            ("Übung \u{4e2d}".as_bytes(), "Übung \u{4e2d}"),
            (b"\x1b[2Jx\r\n", "\\u{1b}[2Jx\\r\\n"),
            ("a\u{202e}gpj".as_bytes(), "a\\u{202e}gpj"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("\u{9b}31m".as_bytes(), "\\u{9b}31m"),
        ] {
            assert_eq!(printable(bytes), wanted);
        }
    }
}
