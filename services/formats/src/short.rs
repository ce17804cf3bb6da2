//! JSON whose strings are short, as it passes by.

use std::io::{Error, ErrorKind, Read, Result};

/// Reads JSON from `R` and fails at a string that is longer than a bound, so that a parser, which holds
/// one string at a time, needs no more memory than that.
#[derive(Debug)]
pub struct ShortStrings<R> {
    inner: R,
    bytes_max: usize,
    /// Bytes of the string that is being read, none outside of one.
    inside: Option<usize>,
    /// Whether the last byte takes the next one's meaning away.
    escaped: bool,
}

impl<R: Read> ShortStrings<R> {
    /// Strings of at most `bytes_max`, as they are written.
    pub const fn new(inner: R, bytes_max: usize) -> Self {
        Self { inner, bytes_max, inside: None, escaped: false }
    }

    fn pass(&mut self, byte: u8) -> Result<()> {
        let Some(length) = self.inside else {
            self.inside = (byte == b'"').then_some(0);
            return Ok(());
        };
        if byte == b'"' && !self.escaped {
            self.inside = None;
            return Ok(());
        }
        self.escaped = byte == b'\\' && !self.escaped;
        self.inside = Some(length.saturating_add(1));
        if length >= self.bytes_max { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
    }
}

impl<R: Read> Read for ShortStrings<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = buffer.get(..count).ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
        read.iter().try_for_each(|byte| self.pass(*byte))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_has_a_bound_and_what_is_around_it_has_none() {
        let passes = |text: &str, bytes_max| {
            let mut read = Vec::new();
            // One byte at a time, so that what is escaped lies in the next piece.
            let mut reader = ShortStrings::new(text.as_bytes(), bytes_max);
            let mut byte = [0];
            loop {
                match reader.read(&mut byte) {
                    Ok(0) => return read == text.as_bytes(),
                    Ok(_one) => read.push(byte[0]),
                    Err(_long) => return false,
                }
            }
        };
        for (text, good) in [
            (r#"{"abc": 123456789, "def": [null, null]}"#, true),
            (r#"{"abcd": 1}"#, false),
            (r#"["a\""]"#, true),
            (r#"["a\\", "b"]"#, true),
            (r#"["a\"b"]"#, false),
            (r#"["", "", ""]"#, true),
        ] {
            assert_eq!(passes(text, 3), good, "{text}");
        }
    }
}
