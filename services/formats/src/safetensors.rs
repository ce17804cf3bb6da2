//! The safetensors format: eight bytes of length, a JSON header, the tensors.
//!
//! Source: <https://github.com/huggingface/safetensors>, README, section Format. Stricter than it: names
//! occur once, integers are not weights and are named as skipped, and the limits of this crate hold.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufReader, ErrorKind, Read},
};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};

use crate::{DType, Entry, Name, ShortStrings, WeightsError, header};

/// Longest header, in bytes; 65 536 tensors with long names need about 12 MiB.
pub const HEADER_BYTES_MAX: u64 = 16 << 20;
/// Longest text in a header, in bytes, as it is written there.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most texts about the file's maker, and bytes of all of them together.
const METADATA_MAX: usize = 4096;
const METADATA_BYTES_MAX: usize = 4 << 20;
/// Bytes of a header that are in memory at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// A checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors that hold weights, by name.
    pub entries: Vec<Entry>,
    /// Tensors that hold integers, such as `embeddings.position_ids`: no weights, not used.
    pub skipped: Vec<Name>,
    /// Bytes of all skipped tensors.
    pub skipped_bytes: u64,
    /// What the file says about its maker (`__metadata__`); nothing here depends on it.
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of `file`.
///
/// # Errors
///
/// [`WeightsError::Truncated`], [`WeightsError::HeaderSize`], [`WeightsError::Syntax`], [`WeightsError::Count`],
/// [`WeightsError::NoName`], [`WeightsError::NameCharacters`], and what the layout of the tensors is refused for.
pub fn parse(file: &[u8]) -> Result<Header, WeightsError> {
    let file_bytes = u64::try_from(file.len()).map_err(|_too_large| WeightsError::Truncated)?;
    parse_front(file, file_bytes)
}

/// Reads and checks the header of a file of `file_bytes` of which only the `front` is at hand: its
/// first eight bytes say how long the header behind them is.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_front(front: &[u8], file_bytes: u64) -> Result<Header, WeightsError> {
    if let Some((length, rest)) = front.split_first_chunk::<8>() {
        let bytes = u64::from_le_bytes(*length);
        let short = usize::try_from(bytes).map_or(true, |bytes| bytes > rest.len());
        if short && bytes <= HEADER_BYTES_MAX {
            return Err(WeightsError::Truncated);
        }
    }
    parse_stream(front, file_bytes)
}

/// Reads and checks the header of a file of `file_bytes` from its first byte on, in small pieces: of the
/// header only what is returned is kept.
///
/// # Errors
///
/// As [`parse`], and [`WeightsError::Open`] when `file` cannot be read.
pub fn parse_stream(mut file: impl Read, file_bytes: u64) -> Result<Header, WeightsError> {
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(unread)?;
    let header_bytes = u64::from_le_bytes(length);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(WeightsError::HeaderSize { bytes: header_bytes, bytes_max: HEADER_BYTES_MAX });
    }
    let data_start = header_bytes.checked_add(8).ok_or(WeightsError::Truncated)?;
    if data_start > file_bytes {
        return Err(WeightsError::Truncated);
    }
    let found = Cell::new(None);
    let text = ShortStrings::new(file.take(header_bytes), TEXT_BYTES_MAX);
    let text = BufReader::with_capacity(BUFFER_BYTES, text);
    let mut deserializer = serde_json::Deserializer::from_reader(text);
    let read = Tensors { data_start, found: &found }.deserialize(&mut deserializer);
    let read = read.and_then(|read| deserializer.end().map(|()| read));
    let Listed { entries, integers, metadata } =
        read.map_err(|error| found.take().unwrap_or_else(|| unparsed(error)))?;
    // Skipped tensors take part in the check of the layout: their bytes are accounted for as well.
    let checked = header::check_layout(entries, data_start, file_bytes, 1)?;
    let (skipped, entries): (Vec<Entry>, Vec<Entry>) =
        checked.into_iter().partition(|entry| integers.contains(&entry.range.start));
    let skipped_bytes = skipped.iter().map(|e| e.range.end.saturating_sub(e.range.start)).sum();
    let skipped = skipped.iter().map(|entry| Name::of(&entry.name)).collect();
    Ok(Header { entries, skipped, skipped_bytes, metadata })
}

fn unread(cause: std::io::Error) -> WeightsError {
    if cause.kind() == ErrorKind::UnexpectedEof {
        WeightsError::Truncated
    } else {
        WeightsError::Open(cause)
    }
}

/// What a header is refused for that is not what it should be; the error's own text may quote the file.
fn unparsed(error: serde_json::Error) -> WeightsError {
    let at = error.column();
    match error.io_error_kind() {
        Some(ErrorKind::InvalidData) => too_many("bytes of a text", TEXT_BYTES_MAX),
        Some(_kind) => WeightsError::Open(error.into()),
        None => WeightsError::Syntax { at },
    }
}

/// More than `max`; how many more is not counted.
fn too_many(what: &'static str, max: usize) -> WeightsError {
    let count_max = u64::try_from(max).unwrap_or(u64::MAX);
    WeightsError::Count { what, count: count_max.saturating_add(1), count_max }
}

fn entry(
    name: String,
    raw: RawEntry,
    data: u64,
    integer: Option<u64>,
) -> Result<Entry, WeightsError> {
    let printable = || Name::of(&name);
    let dtype = match raw.dtype.as_str() {
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::Bf16,
        // No element of it is ever read; the type only says how it must be aligned.
        _ if integer.is_some() => DType::Bf16,
        _ => return Err(WeightsError::DType { name: printable() }),
    };
    let size = match integer {
        None => header::tensor_bytes(&name, dtype, &raw.shape.0)?,
        Some(bytes) => {
            // The same bounds as for weights, then the size of an integer for that of an element.
            let halves = header::tensor_bytes(&name, DType::Bf16, &raw.shape.0)?;
            let elements = halves.checked_div(2).unwrap_or(0);
            elements.checked_mul(bytes).ok_or_else(|| WeightsError::Shape { name: printable() })?
        }
    };
    let (start, end) = raw.data_offsets;
    if end.checked_sub(start) != Some(size) {
        return Err(WeightsError::Size { name: printable() });
    }
    let from = |offset: u64| {
        data.checked_add(offset).ok_or_else(|| WeightsError::Range { name: printable() })
    };
    let range = from(start)?..from(end)?;
    Ok(Entry { name, dtype, shape: raw.shape.0, range })
}

/// Bytes of an element of an integer type, `None` for every other type.
fn integer_bytes(dtype: &str) -> Option<u64> {
    match dtype {
        "I64" | "U64" => Some(8),
        "I32" | "U32" => Some(4),
        "I16" | "U16" => Some(2),
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

/// Dimensions, of which no more are kept than show that there are too many.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(dimension) = seq.next_element()? {
                    if shape.len() <= header::RANK_MAX {
                        shape.push(dimension);
                    }
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

/// What a header holds.
#[derive(Default)]
struct Listed {
    entries: Vec<Entry>,
    /// Where tensors of integers begin.
    integers: BTreeSet<u64>,
    metadata: BTreeMap<String, String>,
}

/// Reads the object of tensors; what it is refused for, beside the syntax, is put into `found`.
struct Tensors<'a> {
    data_start: u64,
    found: &'a Cell<Option<WeightsError>>,
}

impl Tensors<'_> {
    fn refused<E: de::Error>(&self, cause: WeightsError) -> E {
        self.found.set(Some(cause));
        E::custom("refused")
    }

    /// A name that may be one.
    fn name<E: de::Error>(&self, name: &str) -> Result<(), E> {
        let bytes = u64::try_from(name.len()).unwrap_or(u64::MAX);
        let checked = if bytes > header::NAME_BYTES_MAX {
            let count_max = header::NAME_BYTES_MAX;
            Err(WeightsError::Count { what: "bytes of a name", count: bytes, count_max })
        } else {
            header::check_name(name)
        };
        checked.map_err(|cause| self.refused(cause))
    }
}

impl<'de> DeserializeSeed<'de> for Tensors<'_> {
    type Value = Listed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Listed, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Tensors<'_> {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed, A::Error> {
        let mut names = BTreeSet::new();
        let mut listed = Listed::default();
        let tensors_max = usize::try_from(header::TENSORS_MAX).unwrap_or(usize::MAX);
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(digest(&name)) {
                return Err(de::Error::custom("a name occurs twice"));
            }
            if name == "__metadata__" {
                listed.metadata = map.next_value_seed(Metadata(&self))?;
                continue;
            }
            self.name(&name)?;
            if listed.entries.len() >= tensors_max {
                return Err(self.refused(too_many("tensors", tensors_max)));
            }
            let raw: RawEntry = map.next_value()?;
            let integer = integer_bytes(&raw.dtype);
            let entry = entry(name, raw, self.data_start, integer);
            let entry = entry.map_err(|cause| self.refused(cause))?;
            if integer.is_some() {
                listed.integers.insert(entry.range.start);
            }
            listed.entries.push(entry);
        }
        Ok(listed)
    }
}

/// What is kept of a name to see it again. Equal ones are always seen; two others are taken for equal,
/// and a good header refused, once in 10^10 of the largest headers.
fn digest(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Reads what the file says about its maker.
struct Metadata<'a, 'b>(&'a Tensors<'b>);

impl<'de> DeserializeSeed<'de> for Metadata<'_, '_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata<'_, '_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        let mut bytes = 0usize;
        while let Some((key, text)) = map.next_entry::<String, String>()? {
            self.0.name(&key)?;
            bytes = bytes.saturating_add(text.len());
            if bytes > METADATA_BYTES_MAX || texts.len() >= METADATA_MAX {
                return Err(self.0.refused(too_many("texts of metadata", METADATA_MAX)));
            }
            if texts.insert(key, text).is_some() {
                return Err(de::Error::custom("a key occurs twice"));
            }
        }
        Ok(texts)
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "the tests' own bytes"
)]
mod tests {
    use super::*;
    use cloister_domain::Coded;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn code(bytes: &[u8]) -> &'static str {
        parse(bytes).expect_err("refused").code()
    }

    const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn a_plain_file_is_read() {
        // 54 bytes of header: pad to a multiple of four, as every writer does.
        let header = parse(&file(&format!("{ONE}  "), 8)).unwrap();
        assert_eq!(header.entries.len(), 1);
        assert_eq!(header.entries[0].range, 64..72);
        assert_eq!(header.entries[0].shape, [2]);
    }

    #[test]
    fn integer_tensors_are_skipped_and_named() {
        let json = r#"{"w":{"dtype":"F16","shape":[4],"data_offsets":[16,24]},"embeddings.position_ids":{"dtype":"I64","shape":[1,2],"data_offsets":[0,16]}}"#;
        let header = parse(&file(json, 24)).unwrap();
        assert_eq!(header.skipped, [Name::of("embeddings.position_ids")]);
        assert_eq!(header.skipped_bytes, 16);
        assert_eq!(header.entries.len(), 1);
    }

    #[test]
    fn what_lies_about_itself_is_refused() {
        let with = |shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        for (bytes, expected) in [
            (vec![0; 7], "weights.truncated"),
            (u64::MAX.to_le_bytes().to_vec(), "weights.header.size"),
            (1000u64.to_le_bytes().to_vec(), "weights.truncated"),
            (file("{", 0), "weights.header.syntax"),
            (file(&with("[9223372036854775807,2,1,1]", "[0,8]"), 8), "weights.tensor.shape"),
            (file(&with("[0]", "[0,0]"), 0), "weights.tensor.shape"),
            (file(&with("[2]", "[8,0]"), 8), "weights.tensor.size"),
            (file(&with("[2]", "[0,12]"), 12), "weights.tensor.size"),
            (
                file(&with("[2]", "[18446744073709551608,18446744073709551615]"), 8),
                "weights.tensor.size",
            ),
            (file(&format!("{}  ", with("[2]", "[0,8]")), 7), "weights.tensor.range"),
            (file(&format!("{}  ", with("[2]", "[0,8]")), 9), "weights.uncovered"),
            (file(&format!("{} ", with("[2]", "[1,9]")), 9), "weights.uncovered"),
            (file(&format!("{} ", with("[2]", "[0,8]")), 8), "weights.tensor.misaligned"),
            (
                file(r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8),
                "weights.tensor.type",
            ),
            (file(&format!("{ONE}{ONE}"), 8), "weights.header.syntax"),
        ] {
            assert_eq!(code(&bytes), expected);
        }
        let twice = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}"#;
        assert_eq!(code(&file(twice, 4)), "weights.header.syntax");
        let shared = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}"#;
        assert_eq!(code(&file(&format!("{shared} "), 4)), "weights.tensor.overlap");
    }

    #[test]
    fn names_are_printable_and_metadata_has_bounds() {
        let named = |name: &str| {
            file(&format!(r#"{{"{name}":{{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}}}"#), 2)
        };
        for name in [r"a\u0000b", r"a\u001b[31m", r"a\n", "a\u{202e}b", r"a\u202eb", "a\u{200b}"] {
            assert_eq!(code(&named(name)), "weights.name.characters", "{name:?}");
            let key = file(&format!(r#"{{"__metadata__":{{"{name}":"x"}}}}"#), 0);
            assert_eq!(code(&key), "weights.name.characters", "{name:?}");
        }
        let header = parse(&file(r#"{"__metadata__":{"format":"pt"}}"#, 0)).unwrap();
        assert_eq!(header.metadata["format"], "pt");
        let many: Vec<String> = (0..5000).map(|i| format!(r#""{i}":"""#)).collect();
        assert_eq!(
            code(&file(&format!(r#"{{"__metadata__":{{{}}}}}"#, many.join(",")), 0)),
            "weights.count"
        );
        let long = "x".repeat(TEXT_BYTES_MAX);
        let text = |count: u8| {
            let texts: Vec<String> = (0..count).map(|i| format!(r#""{i}":"{long}""#)).collect();
            file(&format!(r#"{{"__metadata__":{{{}}}}}"#, texts.join(",")), 0)
        };
        assert!(parse(&text(4)).is_ok());
        assert_eq!(code(&text(5)), "weights.count");
        assert_eq!(
            code(&file(&format!(r#"{{"__metadata__":{{"a":"{long}x"}}}}"#), 0)),
            "weights.count"
        );
        let twice = file(r#"{"__metadata__":{"a":"","a":""}}"#, 0);
        assert_eq!(code(&twice), "weights.header.syntax");
    }

    #[test]
    fn a_million_tensors_are_refused() {
        let mut json = String::from("{");
        for i in 0..=header::TENSORS_MAX {
            let comma = if i == 0 { "" } else { "," };
            json.push_str(&format!(
                r#"{comma}"{i}":{{"dtype":"F16","shape":[1],"data_offsets":[{},{}]}}"#,
                2 * i,
                2 * i + 2
            ));
        }
        json.push('}');
        assert_eq!(
            code(&file(&json, 2 * (1 + usize::try_from(header::TENSORS_MAX).unwrap()))),
            "weights.count"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _refused_or_read = parse(&bytes);
        }

        #[test]
        fn no_flipped_byte_makes_the_parser_panic(at in 0usize..80, value in proptest::prelude::any::<u8>()) {
            let mut bytes = file(&format!("{ONE}  "), 8);
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            let _refused_or_read = parse(&bytes);
        }
    }
}
