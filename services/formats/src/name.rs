//! Names from a weights file, safe to print.

use std::fmt;

/// Longest name that is kept, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// A tensor's or key's name as an error may show it: printable ASCII, at most 128 bytes; what does not
/// fit is replaced by `?` or cut.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Makes `text` safe to print.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let shown = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { '?' };
        Self(text.bytes().take(NAME_BYTES_MAX).map(shown).collect())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_breaks_a_line_and_is_never_long() {
        assert_eq!(Name::of("blk.0\n\u{1b}[31m\u{202e}").as_str(), "blk.0??[31m???");
        assert_eq!(Name::of(&"x".repeat(10_000)).as_str().len(), NAME_BYTES_MAX);
    }
}
