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

/// A text as one line that steers no terminal, whatever the names in it; quotes stand for themselves.
#[must_use]
pub fn in_line(text: &str) -> String {
    let shown = |c: char| match c {
        '\'' | '"' | '\\' => c.to_string(),
        c => printable(c.encode_utf8(&mut [0; 4]).as_bytes()),
    };
    text.chars().map(shown).collect()
}

/// What a parser of command lines (clap) says on several lines, as one sentence: what is wrong, and where
/// the whole page is. What follows repeats that page.
#[must_use]
pub fn usage_line(told: &str) -> String {
    let told = told.split("\n\nUsage:").next().unwrap_or_default();
    let told = told.split("\n\nFor more information").next().unwrap_or_default();
    let words: Vec<&str> = told.trim_start_matches("error: ").split_whitespace().collect();
    format!("{}; see --help", in_line(&words.join(" ")))
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

    #[test]
    fn a_page_about_a_command_line_becomes_one_sentence() {
        let page = "error: unexpected argument '--x' found\n\n  tip: a tip\n\nUsage: cloister\n\nFor more \
                    information, try '--help'.\n";
        assert_eq!(usage_line(page), "unexpected argument '--x' found tip: a tip; see --help");
        let short = "error: no\n\nFor more information, try '--help'.\n";
        assert_eq!(usage_line(short), "no; see --help");
        assert_eq!(usage_line("error: 'a\u{1b}[2J'"), "'a\\u{1b}[2J'; see --help");
    }
}
