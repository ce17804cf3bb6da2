//! The GGUF format, version 3: metadata, tensor descriptions, padding, tensors.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Stricter than it: the limits of
//! this crate hold, names and keys occur once, arrays are not nested, and every byte of the file belongs
//! to the header, to a tensor, or to padding.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

use std::io::{ErrorKind, Read};

use crate::{DType, Entry, Metadata, Name, Texts, Value, WeightsError, header};

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is read and written.
pub(crate) const VERSION: u32 = 3;
/// Tensors start at multiples of this unless `general.alignment` says otherwise.
pub(crate) const ALIGNMENT: u64 = 32;

/// Most metadata keys.
const KEYS_MAX: u64 = 4096;
/// Most elements of all metadata arrays together; the largest vocabularies have 2¹⁸ tokens, and scores,
/// types and merges come beside.
const ELEMENTS_MAX: u64 = 1 << 21;
/// Longest text, in bytes; chat templates reach some 20 kB.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Longest header, in bytes; a vocabulary of 2¹⁸ tokens with twice as many merges takes 15 MiB.
pub const HEADER_BYTES_MAX: u64 = 24 << 20;

/// A checked header.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Configuration and tokenizer.
    pub metadata: Metadata,
    /// The tensors, by name.
    pub entries: Vec<Entry>,
}

/// Numbers of the element types (ggml.h, `enum ggml_type`).
pub(crate) const fn dtype_number(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q8_0 => 8,
        DType::Bf16 => 30,
    }
}

/// Reads and checks the header of `file`.
///
/// # Errors
///
/// [`WeightsError::Magic`], [`WeightsError::Version`], [`WeightsError::Truncated`], [`WeightsError::HeaderSize`], [`WeightsError::Count`],
/// [`WeightsError::Text`], [`WeightsError::NoName`], [`WeightsError::NameCharacters`], [`WeightsError::ValueKind`], [`WeightsError::Duplicate`], [`WeightsError::Alignment`],
/// and what the layout of the tensors is refused for.
pub fn parse(file: &[u8]) -> Result<Header, WeightsError> {
    let file_bytes = u64::try_from(file.len()).map_err(|_too_large| WeightsError::Truncated)?;
    parse_front(file, file_bytes)
}

/// Reads and checks the header of a file of `file_bytes` of which only the `front` is at hand. A front
/// that ends inside the header is refused as truncated; with [`HEADER_BYTES_MAX`] bytes none does.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_front(front: &[u8], file_bytes: u64) -> Result<Header, WeightsError> {
    parse_stream(front, file_bytes)
}

/// Reads and checks the header of a file of `file_bytes` from its first byte on, in small pieces: of the
/// header only what is returned is kept.
///
/// # Errors
///
/// As [`parse`], and [`WeightsError::Open`] when `file` cannot be read.
pub fn parse_stream(file: impl Read, file_bytes: u64) -> Result<Header, WeightsError> {
    let mut cursor = Cursor { file, scratch: Vec::new(), taken: 0, elements: 0 };
    if cursor.take::<4>()? != MAGIC {
        return Err(WeightsError::Magic);
    }
    let version = cursor.u32()?;
    if version != VERSION {
        return Err(WeightsError::Version { version });
    }
    let tensors = cursor.count("tensors", header::TENSORS_MAX)?;
    let keys = cursor.count("metadata keys", KEYS_MAX)?;
    let mut metadata = Metadata::default();
    for _ in 0..keys {
        let key = cursor.name()?;
        let value = cursor.value(&key)?;
        metadata.insert(key, value)?;
    }
    let alignment = alignment(&metadata)?;
    let mut entries = Vec::new();
    for _ in 0..tensors {
        entries.push(cursor.tensor(alignment)?);
    }
    let data_start =
        cursor.taken.checked_next_multiple_of(alignment).ok_or(WeightsError::Truncated)?;
    // A file without tensors may end before the padding.
    let data_start = data_start.min(file_bytes.max(cursor.taken));
    for entry in &mut entries {
        let from = |offset: u64| {
            let place = data_start.checked_add(offset);
            place.ok_or_else(|| WeightsError::Range { name: Name::of(&entry.name) })
        };
        entry.range = from(entry.range.start)?..from(entry.range.end)?;
    }
    let entries = header::check_layout(entries, data_start, file_bytes, alignment)?;
    Ok(Header { metadata, entries })
}

fn alignment(metadata: &Metadata) -> Result<u64, WeightsError> {
    let alignment = match metadata.get("general.alignment") {
        None => ALIGNMENT,
        Some(_) => u64::from(metadata.count("general.alignment")?.unwrap_or(0)),
    };
    if alignment.is_power_of_two() && (8..=4096).contains(&alignment) {
        Ok(alignment)
    } else {
        Err(WeightsError::Alignment { alignment })
    }
}

/// Reads from the front, within the limit of a header.
struct Cursor<R> {
    file: R,
    /// The last text that was read.
    scratch: Vec<u8>,
    taken: u64,
    /// Elements of all arrays so far.
    elements: u64,
}

impl<R: Read> Cursor<R> {
    /// Counts bytes that are about to be read.
    fn advance(&mut self, count: u64) -> Result<(), WeightsError> {
        let taken = self.taken.checked_add(count).ok_or(WeightsError::Truncated)?;
        if taken > HEADER_BYTES_MAX {
            return Err(WeightsError::HeaderSize { bytes: taken, bytes_max: HEADER_BYTES_MAX });
        }
        self.taken = taken;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], WeightsError> {
        self.advance(u64::try_from(N).map_err(|_too_large| WeightsError::Truncated)?)?;
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(unread)?;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, WeightsError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn u64(&mut self) -> Result<u64, WeightsError> {
        Ok(u64::from_le_bytes(self.take()?))
    }

    fn count(&mut self, what: &'static str, count_max: u64) -> Result<u64, WeightsError> {
        let count = self.u64()?;
        if count > count_max {
            Err(WeightsError::Count { what, count, count_max })
        } else {
            Ok(count)
        }
    }

    /// A text; it is overwritten by the next one.
    fn text(&mut self, bytes_max: u64) -> Result<&str, WeightsError> {
        let length = self.count("bytes of a text", bytes_max)?;
        self.advance(length)?;
        let length = usize::try_from(length).map_err(|_too_large| WeightsError::Truncated)?;
        self.scratch.resize(length, 0);
        self.file.read_exact(&mut self.scratch).map_err(unread)?;
        // The cause would quote the bytes.
        std::str::from_utf8(&self.scratch).map_err(|_quotes| WeightsError::Text)
    }

    fn name(&mut self) -> Result<String, WeightsError> {
        let name = self.text(header::NAME_BYTES_MAX)?;
        header::check_name(name)?;
        Ok(name.to_owned())
    }

    fn value(&mut self, key: &str) -> Result<Value, WeightsError> {
        let kind = self.u32()?;
        if kind == ARRAY { self.array(key) } else { self.scalar(kind, key) }
    }

    fn scalar(&mut self, kind: u32, key: &str) -> Result<Value, WeightsError> {
        Ok(match kind {
            U8 => Value::Unsigned(u64::from(u8::from_le_bytes(self.take()?))),
            I8 => Value::Signed(i64::from(i8::from_le_bytes(self.take()?))),
            U16 => Value::Unsigned(u64::from(u16::from_le_bytes(self.take()?))),
            I16 => Value::Signed(i64::from(i16::from_le_bytes(self.take()?))),
            U32 => Value::Unsigned(u64::from(self.u32()?)),
            I32 => Value::Signed(i64::from(i32::from_le_bytes(self.take()?))),
            F32 => Value::Float(f64::from(f32::from_le_bytes(self.take()?))),
            BOOL => match self.take::<1>()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(WeightsError::ValueKind { key: Name::of(key) }),
            },
            TEXT => Value::Text(self.text(TEXT_BYTES_MAX)?.to_owned()),
            U64 => Value::Unsigned(self.u64()?),
            I64 => Value::Signed(i64::from_le_bytes(self.take()?)),
            F64 => Value::Float(f64::from_le_bytes(self.take()?)),
            _ => return Err(WeightsError::ValueKind { key: Name::of(key) }),
        })
    }

    /// An array. Memory grows with the bytes that are there, never with the count that is claimed.
    fn array(&mut self, key: &str) -> Result<Value, WeightsError> {
        let wrong = || WeightsError::ValueKind { key: Name::of(key) };
        let kind = self.u32()?;
        let count = self.count("elements of arrays", ELEMENTS_MAX.saturating_sub(self.elements))?;
        self.elements = self.elements.saturating_add(count);
        let mut array = match kind {
            TEXT => return self.texts(count),
            F32 | F64 => Value::Floats(Vec::new()),
            BOOL => Value::Bools(Vec::new()),
            U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64 => Value::Integers(Vec::new()),
            _ => return Err(wrong()),
        };
        for _ in 0..count {
            match (&mut array, self.scalar(kind, key)?) {
                (Value::Floats(floats), Value::Float(float)) => floats.push(float),
                (Value::Bools(bools), Value::Bool(bool)) => bools.push(bool),
                (Value::Integers(all), Value::Signed(one)) => all.push(one),
                (Value::Integers(all), Value::Unsigned(one)) => {
                    all.push(i64::try_from(one).map_err(|_too_large| wrong())?);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(array)
    }

    fn texts(&mut self, count: u64) -> Result<Value, WeightsError> {
        let mut texts = Texts::default();
        for _ in 0..count {
            let text = self.text(TEXT_BYTES_MAX)?;
            texts.push(text).ok_or(WeightsError::Truncated)?;
        }
        Ok(Value::Texts(texts))
    }

    /// A tensor; its range is counted from the start of the data.
    fn tensor(&mut self, alignment: u64) -> Result<Entry, WeightsError> {
        let name = self.name()?;
        let rank = self.u32()?;
        if rank > 4 {
            return Err(WeightsError::Shape { name: Name::of(&name) });
        }
        let mut shape = Vec::new();
        for _ in 0..rank {
            shape.push(self.u64()?);
        }
        // The file names the contiguous dimension first.
        shape.reverse();
        let dtype = match self.u32()? {
            0 => DType::F32,
            1 => DType::F16,
            8 => DType::Q8_0,
            30 => DType::Bf16,
            _ => return Err(WeightsError::DType { name: Name::of(&name) }),
        };
        let offset = self.u64()?;
        let bytes = header::tensor_bytes(&name, dtype, &shape)?;
        if !offset.is_multiple_of(alignment) {
            return Err(WeightsError::Misaligned { name: Name::of(&name) });
        }
        let end = offset.checked_add(bytes);
        let end = end.ok_or_else(|| WeightsError::Range { name: Name::of(&name) })?;
        Ok(Entry { name, dtype, shape, range: offset..end })
    }
}

fn unread(cause: std::io::Error) -> WeightsError {
    if cause.kind() == ErrorKind::UnexpectedEof {
        WeightsError::Truncated
    } else {
        WeightsError::Open(cause)
    }
}

// Numbers of the value kinds (gguf.md, `enum gguf_metadata_value_type`).
pub(crate) const U8: u32 = 0;
pub(crate) const I8: u32 = 1;
pub(crate) const U16: u32 = 2;
pub(crate) const I16: u32 = 3;
pub(crate) const U32: u32 = 4;
pub(crate) const I32: u32 = 5;
pub(crate) const F32: u32 = 6;
pub(crate) const BOOL: u32 = 7;
pub(crate) const TEXT: u32 = 8;
pub(crate) const ARRAY: u32 = 9;
pub(crate) const U64: u32 = 10;
pub(crate) const I64: u32 = 11;
pub(crate) const F64: u32 = 12;

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "the tests' own bytes"
)]
mod tests {
    use super::*;
    use crate::gguf_write::{Source, Writer};
    use cloister_domain::Coded;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.text("general.architecture", "llama");
        writer.count("llama.block_count", 2);
        writer.float("llama.rope.freq_base", 1e4);
        writer.bool("tokenizer.ggml.add_bos_token", true);
        writer.texts("tokenizer.ggml.tokens", ["a", "b"]);
        writer.integers("tokenizer.ggml.token_type", &[1, 3]);
        writer.tensor("a", DType::F32, &[2, 3], Source::Bytes(vec![1; 24]));
        writer.tensor("b", DType::Q8_0, &[1, 32], Source::Bytes(vec![2; 34]));
        writer.to_bytes().unwrap()
    }

    fn code(bytes: &[u8]) -> &'static str {
        parse(bytes).expect_err("refused").code()
    }

    /// The sample with `new` in place of the only occurrence of `old` after `anchor`.
    fn changed(anchor: &[u8], skip: usize, new: &[u8]) -> Vec<u8> {
        let mut bytes = sample();
        let at =
            bytes.windows(anchor.len()).position(|w| w == anchor).unwrap() + anchor.len() + skip;
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        let header = parse(&sample()).unwrap();
        assert_eq!(header.metadata.text("general.architecture").unwrap(), Some("llama"));
        assert_eq!(header.metadata.count("llama.block_count").unwrap(), Some(2));
        assert_eq!(
            header.metadata.get("tokenizer.ggml.token_type"),
            Some(&Value::Integers(vec![1, 3]))
        );
        assert_eq!(header.entries[0].shape, [2, 3]);
        assert_eq!(header.entries[1].range.end - header.entries[1].range.start, 34);
        assert!(header.entries[0].range.start.is_multiple_of(32));
    }

    #[test]
    fn what_lies_about_itself_is_refused() {
        // A tensor's description: name, u32 rank, u64 dimensions, u32 type, u64 offset.
        let description = b"\x01\0\0\0\0\0\0\0a".as_slice();
        // Skip the one in the token list: the description is followed by its rank.
        let rank = [description, &[2, 0, 0, 0]].concat();
        let huge = i64::MAX.to_le_bytes();
        for (bytes, expected) in [
            (b"GGML\x03\0\0\0".to_vec(), "weights.magic"),
            (b"GGUF\x02\0\0\0".to_vec(), "weights.version"),
            (b"GGUF\x03\0\0\0".to_vec(), "weights.truncated"),
            (changed(b"GGUF\x03\0\0\0", 0, &u64::MAX.to_le_bytes()), "weights.count"),
            (changed(b"GGUF\x03\0\0\0", 0, &1_000_000u64.to_le_bytes()), "weights.count"),
            (changed(b"GGUF\x03\0\0\0", 8, &u64::MAX.to_le_bytes()), "weights.count"),
            (changed(b"general.architecture", 0, &99u32.to_le_bytes()), "weights.value.kind"),
            (changed(b"general.architecture", 4, &huge), "weights.count"),
            (changed(b"general.architecture", 12, b"\xff"), "weights.text"),
            (changed(b"tokenizer.ggml.tokens", 4, &ARRAY.to_le_bytes()), "weights.value.kind"),
            (changed(b"tokenizer.ggml.tokens", 8, &huge), "weights.count"),
            (changed(&rank, 0, &huge), "weights.tensor.shape"),
            (changed(&rank, 0, &[0; 8]), "weights.tensor.shape"),
            (changed(&rank, 16, &3u32.to_le_bytes()), "weights.tensor.type"),
            (changed(&rank, 20, &1u64.to_le_bytes()), "weights.tensor.misaligned"),
            (changed(&rank, 20, &(1u64 << 40).to_le_bytes()), "weights.uncovered"),
            (changed(&rank, 20, &32u64.to_le_bytes()), "weights.uncovered"),
            (changed(&rank, 20, &(u64::MAX - 31).to_le_bytes()), "weights.tensor.range"),
            (changed(b"llama.block_count", 0, &BOOL.to_le_bytes()), "weights.value.kind"),
        ] {
            assert_eq!(code(&bytes), expected);
        }
        let whole = sample();
        for length in 0..whole.len() - 34 {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_front_is_enough_and_too_short_a_one_is_told_apart() {
        let whole = sample();
        let size = u64::try_from(whole.len()).unwrap();
        // All but the last tensor's bytes.
        let front = whole.len() - 64;
        assert_eq!(parse_front(&whole[..front], size).unwrap(), parse(&whole).unwrap());
        let short = parse_front(&whole[..100], size).expect_err("refused");
        assert_eq!(short.code(), "weights.truncated");
    }

    #[test]
    fn nothing_is_nameless() {
        let mut writer = Writer::new();
        writer.text("", "x");
        assert_eq!(code(&writer.to_bytes().unwrap()), "weights.no-name");
        let mut writer = Writer::new();
        writer.tensor("", DType::F16, &[16], Source::Bytes(vec![0; 32]));
        assert_eq!(code(&writer.to_bytes().unwrap()), "weights.no-name");
    }

    #[test]
    fn names_are_printable() {
        for name in ["a\0b", "a\u{1b}[31m", "a\n", "a\u{202e}b", "a\u{200b}", "poids.é", "\u{7f}"]
        {
            let mut writer = Writer::new();
            writer.text(name, "x");
            assert_eq!(code(&writer.to_bytes().unwrap()), "weights.name.characters", "{name:?}");
            let mut writer = Writer::new();
            writer.tensor(name, DType::F16, &[16], Source::Bytes(vec![0; 32]));
            assert_eq!(code(&writer.to_bytes().unwrap()), "weights.name.characters", "{name:?}");
        }
        let mut writer = Writer::new();
        writer.tensor("dense 1/kernel:0", DType::F16, &[16], Source::Bytes(vec![0; 32]));
        assert!(parse(&writer.to_bytes().unwrap()).is_ok());
    }

    #[test]
    fn all_arrays_together_have_a_bound() {
        let elements = vec![0; usize::try_from(ELEMENTS_MAX / 2).unwrap()];
        let mut writer = Writer::new();
        writer.integers("a", &elements).integers("b", &elements);
        assert!(parse(&writer.to_bytes().unwrap()).is_ok());
        writer.integers("c", &[1]);
        assert_eq!(code(&writer.to_bytes().unwrap()), "weights.count");
    }

    #[test]
    fn a_bad_alignment_and_a_double_key_are_refused() {
        for alignment in [0, 1, 24, 8192] {
            let mut writer = Writer::new();
            writer.count("general.alignment", alignment);
            writer.text("general.architecture", "llama");
            assert_eq!(code(&writer.to_bytes().unwrap()), "weights.alignment");
        }
        let mut writer = Writer::new();
        writer.text("x", "1").text("x", "2");
        assert_eq!(code(&writer.to_bytes().unwrap()), "weights.duplicate");
        let mut writer = Writer::new();
        writer.tensor("x", DType::F16, &[16], Source::Bytes(vec![0; 32]));
        writer.tensor("x", DType::F16, &[16], Source::Bytes(vec![0; 32]));
        assert_eq!(code(&writer.to_bytes().unwrap()), "weights.duplicate");
    }

    proptest::proptest! {
        #[test]
        fn no_flipped_bytes_make_the_parser_panic(
            flips in proptest::collection::vec((0usize..400, proptest::prelude::any::<u8>()), 1..4)
        ) {
            let mut bytes = sample();
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            }
            let _refused_or_read = parse(&bytes);
        }
    }
}
