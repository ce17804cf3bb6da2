//! The safetensors format: eight bytes of length, a JSON header, the tensors.
//!
//! Source: <https://github.com/huggingface/safetensors>, README, section Format. Stricter than it: names
//! occur once, integers are not weights and are named as skipped, and the limits of this crate hold.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use crate::{DType, Entry, Name, WeightsError, header};

/// Longest header, in bytes; 65 536 tensors with long names need about 12 MiB.
pub const HEADER_BYTES_MAX: u64 = 16 << 20;

/// A checked header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The tensors that hold weights, by name.
    pub entries: Vec<Entry>,
    /// Tensors that hold integers, such as `embeddings.position_ids`: no weights, not used.
    pub skipped: Vec<Name>,
    /// Bytes of all skipped tensors.
    pub skipped_bytes: u64,
}

/// Reads and checks the header of `file`.
///
/// # Errors
///
/// [`WeightsError::Truncated`], [`WeightsError::HeaderSize`], [`WeightsError::Syntax`], [`WeightsError::Count`],
/// [`WeightsError::NoName`], and what the layout of the tensors is refused for.
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
    let Some((length, rest)) = front.split_first_chunk::<8>() else {
        return Err(WeightsError::Truncated);
    };
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > HEADER_BYTES_MAX {
        return Err(WeightsError::HeaderSize { bytes: header_bytes, bytes_max: HEADER_BYTES_MAX });
    }
    let header_end = usize::try_from(header_bytes).map_err(|_too_large| WeightsError::Truncated)?;
    let json = rest.get(..header_end).ok_or(WeightsError::Truncated)?;
    let raw: RawHeader = serde_json::from_slice(json).map_err(|error| syntax(&error))?;
    let count = raw.count;
    if count > header::TENSORS_MAX {
        return Err(WeightsError::Count { what: "tensors", count, count_max: header::TENSORS_MAX });
    }
    let data_start = header_bytes.checked_add(8).ok_or(WeightsError::Truncated)?;
    let mut entries = Vec::with_capacity(raw.entries.len());
    let mut integers = Vec::new();
    for (name, raw) in raw.entries {
        let integer = integer_bytes(&raw.dtype);
        let entry = entry(name, &raw, data_start, integer)?;
        if integer.is_some() {
            integers.push(entry.name.clone());
        }
        entries.push(entry);
    }
    // Skipped tensors take part in the check of the layout: their bytes are accounted for as well.
    let checked = header::check_layout(entries, data_start, file_bytes, 1)?;
    let integers: BTreeSet<String> = integers.into_iter().collect();
    let (skipped, entries): (Vec<Entry>, Vec<Entry>) =
        checked.into_iter().partition(|entry| integers.contains(&entry.name));
    let skipped_bytes = skipped.iter().map(|e| e.range.end.saturating_sub(e.range.start)).sum();
    let skipped = skipped.iter().map(|entry| Name::of(&entry.name)).collect();
    Ok(Header { entries, skipped, skipped_bytes })
}

fn entry(
    name: String,
    raw: &RawEntry,
    data: u64,
    integer: Option<u64>,
) -> Result<Entry, WeightsError> {
    if u64::try_from(name.len()).unwrap_or(u64::MAX) > header::NAME_BYTES_MAX {
        return Err(WeightsError::Count {
            what: "bytes of a name",
            count: u64::try_from(name.len()).unwrap_or(u64::MAX),
            count_max: header::NAME_BYTES_MAX,
        });
    }
    if name.is_empty() {
        return Err(WeightsError::NoName);
    }
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
        None => header::tensor_bytes(&name, dtype, &raw.shape)?,
        Some(bytes) => {
            // The same bounds as for weights, then the size of an integer for that of an element.
            let halves = header::tensor_bytes(&name, DType::Bf16, &raw.shape)?;
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
    Ok(Entry { name, dtype, shape: raw.shape.clone(), range })
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

/// The place of a syntax error; its text may quote the file and is dropped.
fn syntax(error: &serde_json::Error) -> WeightsError {
    WeightsError::Syntax { at: error.column() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The entries in the order of the file; a name that comes twice is an error.
struct RawHeader {
    /// No more than are allowed.
    entries: Vec<(String, RawEntry)>,
    /// How many there are.
    count: u64,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut names = BTreeSet::new();
        let mut entries = Vec::new();
        let mut count = 0u64;
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(de::Error::custom("a name occurs twice"));
            }
            if name == "__metadata__" {
                // Free text about the file's maker; nothing here depends on it.
                let _text: std::collections::BTreeMap<String, String> = map.next_value()?;
                continue;
            }
            count = count.saturating_add(1);
            if count > header::TENSORS_MAX {
                let _only_counted: IgnoredAny = map.next_value()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(RawHeader { entries, count })
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
