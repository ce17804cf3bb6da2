//! JSON as it passes by: in memory are one piece of the file and one string.
//!
//! Takes exactly what RFC 8259 allows, of UTF-8 only, and shows it to a `serde` visitor. The reader of
//! `serde_json` for streams looks at each byte through several layers, which takes three times as long;
//! half a million tokens are read three times while they are judged.

use std::io::{ErrorKind, Read};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Bytes of the file that are in memory at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Objects and arrays that may stand in each other.
const DEPTH_MAX: u32 = 128;

/// The text is not JSON of the expected shape, or cannot be read. Where is known to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no JSON of the expected shape")]
pub struct NotJson;

impl de::Error for NotJson {
    /// The text is dropped: it may quote the file.
    fn custom<T: std::fmt::Display>(_text: T) -> Self {
        Self
    }
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// Bytes of the line before it.
    pub column: usize,
}

/// JSON that is read from `R`.
#[derive(Debug)]
pub struct JsonStream<R> {
    input: R,
    /// Bytes of a string or number, as they are written, at most.
    bytes_max: usize,
    piece: Vec<u8>,
    /// The next byte in the piece.
    at: usize,
    /// How many the piece has.
    end: usize,
    /// Where the piece begins.
    begins: Place,
    depth: u32,
    /// A string that has escapes or lies in two pieces, or a number.
    text: Vec<u8>,
}

impl<R: Read> JsonStream<R> {
    /// Reads `input`; strings and numbers have at most `bytes_max`, as they are written.
    pub fn new(input: R, bytes_max: usize) -> Self {
        let begins = Place { line: 1, column: 0 };
        let piece = vec![0; PIECE_BYTES];
        Self { input, bytes_max, piece, at: 0, end: 0, begins, depth: 0, text: Vec::new() }
    }

    /// What `seed` makes of the whole text, which is one value.
    ///
    /// # Errors
    /// [`NotJson`]; [`JsonStream::place`] says where.
    pub fn read<T>(
        &mut self,
        seed: impl for<'de> DeserializeSeed<'de, Value = T>,
    ) -> Result<T, NotJson> {
        let value = seed.deserialize(&mut *self)?;
        if self.skip()?.is_none() { Ok(value) } else { Err(NotJson) }
    }

    /// How far it was read.
    #[must_use]
    pub fn place(&self) -> Place {
        let read = self.piece.get(..self.at).unwrap_or_default();
        match read.iter().rposition(|byte| *byte == b'\n') {
            None => Place {
                column: self.begins.column.saturating_add(read.len()),
                line: self.begins.line,
            },
            Some(last) => {
                let lines = read.iter().filter(|byte| **byte == b'\n').count();
                let column = read.len().saturating_sub(last).saturating_sub(1);
                Place { line: self.begins.line.saturating_add(lines), column }
            }
        }
    }

    /// The bytes at hand, of the next piece when this one is used up; none at the end.
    fn fill(&mut self) -> Result<&[u8], NotJson> {
        while self.at >= self.end {
            self.begins = self.place();
            (self.at, self.end) = (0, 0);
            match self.input.read(&mut self.piece) {
                Ok(0) => break,
                Ok(count) => self.end = count.min(self.piece.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_unreadable) => return Err(NotJson),
            }
        }
        Ok(self.piece.get(self.at..self.end).unwrap_or_default())
    }

    fn peek(&mut self) -> Result<Option<u8>, NotJson> {
        if self.at < self.end {
            return Ok(self.piece.get(self.at).copied());
        }
        self.fill().map(|bytes| bytes.first().copied())
    }

    fn next(&mut self) -> Result<u8, NotJson> {
        let byte = self.peek()?.ok_or(NotJson)?;
        self.at = self.at.saturating_add(1);
        Ok(byte)
    }

    /// The first byte behind white space, which stays.
    fn skip(&mut self) -> Result<Option<u8>, NotJson> {
        loop {
            match self.peek()? {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at = self.at.saturating_add(1),
                other => return Ok(other),
            }
        }
    }

    /// Goes past `byte`, behind white space.
    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.skip()? != Some(byte) {
            return Err(NotJson);
        }
        self.at = self.at.saturating_add(1);
        Ok(())
    }

    fn word(&mut self, word: &[u8]) -> Result<(), NotJson> {
        word.iter().try_for_each(|byte| if self.next()? == *byte { Ok(()) } else { Err(NotJson) })
    }

    fn deeper(&mut self) -> Result<(), NotJson> {
        self.at = self.at.saturating_add(1);
        self.depth = self.depth.saturating_add(1);
        if self.depth > DEPTH_MAX { Err(NotJson) } else { Ok(()) }
    }

    /// A string, behind its first quotation mark.
    fn string(&mut self) -> Result<&str, NotJson> {
        let at_hand = self.fill()?;
        let length = plain(at_hand);
        if at_hand.get(length) == Some(&b'"') && length <= self.bytes_max {
            let from = self.at;
            let to = from.saturating_add(length);
            self.at = to.saturating_add(1);
            return str::from_utf8(self.piece.get(from..to).unwrap_or_default()).map_err(not_utf8);
        }
        self.text.clear();
        let mut written = 0usize;
        loop {
            let length = plain(self.fill()?);
            let to = self.at.saturating_add(length);
            written = written.saturating_add(length);
            if written > self.bytes_max {
                return Err(NotJson);
            }
            self.text.extend_from_slice(self.piece.get(self.at..to).unwrap_or_default());
            self.at = to;
            if to < self.end {
                match self.next()? {
                    b'"' => return str::from_utf8(&self.text).map_err(not_utf8),
                    b'\\' => written = written.saturating_add(self.escape()?),
                    _control => return Err(NotJson),
                }
            } else if self.fill()?.is_empty() {
                return Err(NotJson);
            }
        }
    }

    /// Resolves an escape, behind its backslash; how long it is with it.
    fn escape(&mut self) -> Result<usize, NotJson> {
        let byte = match self.next()? {
            same @ (b'"' | b'\\' | b'/') => same,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(),
            _ => return Err(NotJson),
        };
        self.text.push(byte);
        Ok(2)
    }

    /// `\uXXXX`, or two of them for a character beyond the first 65 536; half of a pair is none.
    fn unicode(&mut self) -> Result<usize, NotJson> {
        let high = self.unit()?;
        let (number, length) = if high & 0xFC00 == 0xD800 {
            self.word(b"\\u")?;
            let low = self.unit()?;
            if low & 0xFC00 != 0xDC00 {
                return Err(NotJson);
            }
            let beyond = ((high & 0x3FF) << 10) | (low & 0x3FF);
            (beyond.saturating_add(0x1_0000), 12)
        } else {
            (high, 6)
        };
        let c = char::from_u32(number).ok_or(NotJson)?;
        self.text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(length)
    }

    /// Four digits of base 16.
    fn unit(&mut self) -> Result<u32, NotJson> {
        let mut unit = 0;
        for _digit in 0..4 {
            let digit = char::from(self.next()?).to_digit(16).ok_or(NotJson)?;
            unit = (unit << 4) | digit;
        }
        Ok(unit)
    }

    /// Takes digits into the number's text; how many.
    fn digits(&mut self) -> Result<usize, NotJson> {
        let mut count = 0usize;
        while let Some(digit @ b'0'..=b'9') = self.peek()? {
            self.text.push(digit);
            self.at = self.at.saturating_add(1);
            count = count.saturating_add(1);
            if self.text.len() > self.bytes_max {
                return Err(NotJson);
            }
        }
        Ok(count)
    }

    /// Takes one of `bytes` into the number's text, if it comes next.
    fn takes(&mut self, bytes: &[u8]) -> Result<bool, NotJson> {
        let Some(byte) = self.peek()?.filter(|byte| bytes.contains(byte)) else {
            return Ok(false);
        };
        self.text.push(byte);
        self.at = self.at.saturating_add(1);
        Ok(true)
    }

    /// A short number without sign or fraction, all of which is at hand, as most are.
    fn short(&mut self) -> Option<u64> {
        let at_hand = self.piece.get(self.at..self.end)?;
        let mut number = 0u64;
        let mut length = 0usize;
        loop {
            match at_hand.get(length)? {
                digit @ b'0'..=b'9' if length < 18 && (number > 0 || length == 0) => {
                    let digit = u64::from(digit.saturating_sub(b'0'));
                    number = number.saturating_mul(10).saturating_add(digit);
                    length = length.saturating_add(1);
                }
                b'0'..=b'9' | b'.' | b'e' | b'E' => return None,
                _ if length == 0 => return None,
                _behind => break,
            }
        }
        self.at = self.at.saturating_add(length);
        Some(number)
    }

    fn number<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, NotJson> {
        if let Some(number) = self.short() {
            return visitor.visit_u64(number);
        }
        self.text.clear();
        let minus = self.takes(b"-")?;
        let zero = self.takes(b"0")?;
        let more = self.digits()?;
        let mut whole = true;
        if zero == (more > 0) {
            return Err(NotJson);
        }
        if self.takes(b".")? {
            whole = false;
            if self.digits()? == 0 {
                return Err(NotJson);
            }
        }
        if self.takes(b"eE")? {
            whole = false;
            self.takes(b"+-")?;
            if self.digits()? == 0 {
                return Err(NotJson);
            }
        }
        let text = str::from_utf8(&self.text).map_err(not_utf8)?;
        if whole
            && !minus
            && let Ok(number) = text.parse()
        {
            return visitor.visit_u64(number);
        }
        if whole
            && text != "-0"
            && let Ok(number) = text.parse()
        {
            return visitor.visit_i64(number);
        }
        let number: f64 = text.parse().map_err(|_no_number| NotJson)?;
        if number.is_finite() { visitor.visit_f64(number) } else { Err(NotJson) }
    }
}

fn not_utf8(_quotes_nothing: std::str::Utf8Error) -> NotJson {
    NotJson
}

/// How many bytes stand for themselves in a string, from the first one on.
fn plain(bytes: &[u8]) -> usize {
    let special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
    bytes.iter().position(special).unwrap_or(bytes.len())
}

impl<'de, R: Read> Deserializer<'de> for &mut JsonStream<R> {
    type Error = NotJson;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotJson> {
        match self.skip()?.ok_or(NotJson)? {
            b'"' => {
                self.at = self.at.saturating_add(1);
                visitor.visit_str(self.string()?)
            }
            b'{' => {
                self.deeper()?;
                let value = visitor.visit_map(Members { stream: self, first: true })?;
                self.depth = self.depth.saturating_sub(1);
                self.expect(b'}').map(|()| value)
            }
            b'[' => {
                self.deeper()?;
                let value = visitor.visit_seq(Members { stream: self, first: true })?;
                self.depth = self.depth.saturating_sub(1);
                self.expect(b']').map(|()| value)
            }
            b't' => self.word(b"true").and_then(|()| visitor.visit_bool(true)),
            b'f' => self.word(b"false").and_then(|()| visitor.visit_bool(false)),
            b'n' => self.word(b"null").and_then(|()| visitor.visit_unit()),
            b'-' | b'0'..=b'9' => self.number(visitor),
            _ => Err(NotJson),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, NotJson> {
        if self.skip()? == Some(b'n') {
            self.word(b"null").and_then(|()| visitor.visit_none())
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, NotJson> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What stands in an object or an array.
struct Members<'a, R> {
    stream: &'a mut JsonStream<R>,
    first: bool,
}

impl<R: Read> Members<'_, R> {
    /// Whether there is another, before `close`, behind the comma that parts them.
    fn another(&mut self, close: u8) -> Result<bool, NotJson> {
        let next = self.stream.skip()?;
        if next == Some(close) {
            return Ok(false);
        }
        if !std::mem::replace(&mut self.first, false) {
            self.stream.expect(b',')?;
        }
        Ok(true)
    }
}

impl<'de, R: Read> SeqAccess<'de> for Members<'_, R> {
    type Error = NotJson;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, NotJson> {
        if self.another(b']')? { seed.deserialize(&mut *self.stream).map(Some) } else { Ok(None) }
    }
}

impl<'de, R: Read> MapAccess<'de> for Members<'_, R> {
    type Error = NotJson;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, NotJson> {
        if !self.another(b'}')? {
            return Ok(None);
        }
        if self.stream.skip()? != Some(b'"') {
            return Err(NotJson);
        }
        seed.deserialize(&mut *self.stream).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, NotJson> {
        self.stream.expect(b':')?;
        seed.deserialize(&mut *self.stream)
    }
}

#[cfg(test)]
mod tests;
