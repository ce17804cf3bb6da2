//! JSON that means one thing: strict reading, and the two canonical forms that signatures use.
//!
//! `cloister-inspect` walks the documents of a release by a reader of its own, and the two stay apart.
//! This one keeps the tree, which must fit a canonical form: integers only, and so few values that the
//! tree is small. That one judges texts of up to 48 MiB with fractions in them and keeps nothing
//! but the keys of the objects that are open. Alike are a key that stands twice and the nesting; a walk
//! for both would hand each value to a caller that chooses, and judge a stick's documents beside the
//! code of signatures, which the inspecting process does without.

use std::{cell::Cell, cmp::Ordering, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::AttestError;

/// The largest integer that every JSON reader keeps: `2^53 - 1` (RFC 8785, appendix D).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Nesting that the readers of this workspace allow.
pub const DEPTH_MAX: usize = 32;

/// What the values of one text may count for. Text is short and its tree is not: an object takes some 700
/// bytes even if it holds one key, a text of one letter some 80, everything else some 40. This much takes
/// about 10 MB; the largest manifest counts for four fifths of it.
const SIZE_MAX: u32 = 1 << 17;
/// What an object that is not empty counts for, beside what it holds.
const OBJECT_SIZE: u32 = 6;
/// What a text counts for, and a key, beside the value that it is or names.
const TEXT_SIZE: u32 = 1;

/// Reads one JSON value and nothing else: UTF-8, no key twice, integers of at most 53 bits only,
/// nested at most `depth_max` deep, and so few values that its tree takes about 10 MB at most.
///
/// # Errors
/// The `Json…` variants of [`AttestError`].
pub fn parse_strict(text: &[u8], depth_max: usize) -> Result<Value, AttestError> {
    let found = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let left = Cell::new(SIZE_MAX);
    let strict = Strict { depth: 0, depth_max, left: &left, found: &found };
    let value = strict.deserialize(&mut deserializer).and_then(|value| {
        deserializer.end()?;
        Ok(value)
    });
    value.map_err(|cause| {
        let (line, column) = (cause.line(), cause.column());
        match found.get() {
            Some(Finding::DuplicateKey) => AttestError::JsonDuplicateKey { line, column },
            Some(Finding::Depth) => AttestError::JsonDepth { max: depth_max },
            Some(Finding::Size) => AttestError::JsonSize { max: SIZE_MAX },
            Some(Finding::Number) => AttestError::JsonNumber,
            None => AttestError::JsonSyntax { line, column },
        }
    })
}

#[derive(Clone, Copy)]
enum Finding {
    DuplicateKey,
    Depth,
    Size,
    Number,
}

/// Reads a value at `depth` and leaves in `found` why it refused one.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: usize,
    depth_max: usize,
    /// Values that the text may still hold.
    left: &'a Cell<u32>,
    found: &'a Cell<Option<Finding>>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(&self, finding: Finding) -> E {
        self.found.set(Some(finding));
        E::custom("refused")
    }

    fn count<E: de::Error>(&self, values: u32) -> Result<(), E> {
        let left = self.left.get().checked_sub(values).ok_or_else(|| self.refuse(Finding::Size))?;
        self.left.set(left);
        Ok(())
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth < self.depth_max {
            Ok(Self { depth: self.depth + 1, ..self })
        } else {
            Err(self.refuse(Finding::Depth))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() <= INTEGER_MAX {
            Ok(Value::from(value))
        } else {
            Err(self.refuse(Finding::Number))
        }
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        if value <= INTEGER_MAX {
            Ok(Value::from(value))
        } else {
            Err(self.refuse(Finding::Number))
        }
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Value, E> {
        Err(self.refuse(Finding::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.count(TEXT_SIZE)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Value, E> {
        self.count(TEXT_SIZE)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.count(if map.is_empty() { OBJECT_SIZE + TEXT_SIZE } else { TEXT_SIZE })?;
            if map.contains_key(&key) {
                return Err(self.refuse(Finding::DuplicateKey));
            }
            let value = entries.next_value_seed(inner)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// The canonical form of RFC 8785 for values without fractions.
///
/// # Errors
/// [`AttestError::JsonNumber`] for a number that is not an integer below 2^53.
pub fn canonical(value: &Value) -> Result<Vec<u8>, AttestError> {
    Form { escape: rfc8785_string, order: by_utf16 }.text(value)
}

/// The canonical form that TUF signs (OLPC canonical JSON, TUF 1.0.34, section 4.2): it differs
/// from RFC 8785 in leaving control characters bare and in ordering keys by code point.
///
/// # Errors
/// As [`canonical`].
pub fn canonical_tuf(value: &Value) -> Result<Vec<u8>, AttestError> {
    Form { escape: olpc_string, order: |a, b| a.cmp(b) }.text(value)
}

/// What the two forms differ in.
#[derive(Clone, Copy)]
struct Form {
    escape: fn(&str, &mut Vec<u8>),
    order: fn(&str, &str) -> Ordering,
}

impl Form {
    fn text(self, value: &Value) -> Result<Vec<u8>, AttestError> {
        let mut out = Vec::new();
        self.write(value, &mut out)?;
        Ok(out)
    }

    fn write(self, value: &Value, out: &mut Vec<u8>) -> Result<(), AttestError> {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(number) => {
                let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
                if magnitude.is_none_or(|magnitude| magnitude > INTEGER_MAX) {
                    return Err(AttestError::JsonNumber);
                }
                out.extend_from_slice(number.to_string().as_bytes());
            }
            Value::String(text) => (self.escape)(text, out),
            Value::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    self.write(item, out)?;
                }
                out.push(b']');
            }
            Value::Object(map) => self.write_object(map, out)?,
        }
        Ok(())
    }

    fn write_object(self, map: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), AttestError> {
        let mut entries: Vec<(&String, &Value)> = map.iter().collect();
        entries.sort_by(|a, b| (self.order)(a.0, b.0));
        out.push(b'{');
        for (index, (key, value)) in entries.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            (self.escape)(key, out);
            out.push(b':');
            self.write(value, out)?;
        }
        out.push(b'}');
        Ok(())
    }
}

/// RFC 8785, section 3.2.3: keys are ordered by their UTF-16 code units.
fn by_utf16(a: &str, b: &str) -> Ordering {
    a.encode_utf16().cmp(b.encode_utf16())
}

/// RFC 8785, section 3.2.2.2.
fn rfc8785_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn olpc_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> AttestError {
        parse_strict(text.as_bytes(), 4).expect_err("refused")
    }

    #[test]
    fn a_key_named_twice_is_refused_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"\u0061":2}}]"#] {
            assert!(matches!(refusal(text), AttestError::JsonDuplicateKey { .. }), "{text}");
        }
    }

    #[test]
    fn numbers_are_integers_of_53_bits() {
        for text in ["1.5", "1.0", "1e3", "-0", "9007199254740992", "-9007199254740992"] {
            assert_eq!(refusal(text), AttestError::JsonNumber, "{text}");
        }
        assert_eq!(parse_strict(b"9007199254740991", 0), Ok(Value::from(INTEGER_MAX)));
        assert_eq!(
            parse_strict(b"-9007199254740991", 0),
            Ok(Value::from(-9_007_199_254_740_991i64))
        );
    }

    #[test]
    fn depth_is_bounded() {
        assert!(parse_strict(b"[[[[1]]]]", 4).is_ok());
        assert_eq!(refusal("[[[[[1]]]]]"), AttestError::JsonDepth { max: 4 });
        let deep = "[".repeat(100_000);
        assert_eq!(parse_strict(deep.as_bytes(), 32), Err(AttestError::JsonDepth { max: 32 }));
    }

    #[test]
    fn the_tree_of_a_short_text_is_bounded() {
        let size = AttestError::JsonSize { max: SIZE_MAX };
        let many = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
        let fits = usize::try_from(SIZE_MAX).expect("it fits") - 1;
        assert!(parse_strict(many("0", fits).as_bytes(), 4).is_ok());
        assert_eq!(refusal(&many("0", fits + 1)), size);
        // One value, six for the object, one for its key, one within it.
        assert!(parse_strict(many(r#"{"":0}"#, fits / 9).as_bytes(), 4).is_ok());
        assert_eq!(refusal(&many(r#"{"":0}"#, fits / 9 + 1)), size);
        assert!(parse_strict(many(r#""""#, fits / 2).as_bytes(), 4).is_ok());
        assert_eq!(refusal(&many(r#""""#, fits / 2 + 1)), size);
        assert_eq!(refusal(&many("[[]]", fits / 2 + 1)), size);
    }

    #[test]
    fn other_texts_are_refused_by_position() {
        for text in
            ["", "{}x", "\u{feff}{}", "{'a':1}", "[1,]", "nan", r#""\ud800""#, "01", "1e999"]
        {
            assert!(matches!(refusal(text), AttestError::JsonSyntax { .. }), "{text}");
        }
        assert!(parse_strict(b"\"\xff\"", 4).is_err());
    }

    #[test]
    fn the_example_of_rfc_8785_for_keys_is_ordered_by_utf_16() {
        let text = "{\"\\u20ac\":0,\"\\r\":1,\"\\ufb33\":2,\"1\":3,\"\\ud83d\\ude00\":4,\"\\u0080\":5,\"\\u00f6\":6}";
        let value = parse_strict(text.as_bytes(), 4).expect("good JSON");
        let expected = "{\"\\r\":1,\"1\":3,\"\u{80}\":5,\"\u{f6}\":6,\"\u{20ac}\":0,\"\u{1f600}\":4,\"\u{fb33}\":2}";
        assert_eq!(canonical(&value).expect("integers"), expected.as_bytes());
        // By code point the emoji comes last.
        let tuf = canonical_tuf(&value).expect("integers");
        assert!(tuf.ends_with("\"\u{1f600}\":4}".as_bytes()) && tuf.starts_with(b"{\"\r\":1"));
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back_and_is_a_fixed_point(keys in prop::collection::btree_map(".*", any::<u32>(), 0..8)) {
            let value = serde_json::to_value(&keys).expect("a map");
            let text = canonical(&value).expect("integers");
            let back = parse_strict(&text, 2).expect("our own text");
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(canonical(&back).expect("integers"), text);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = parse_strict(&bytes, 8) {
                prop_assert!(canonical(&value).is_ok());
            }
        }
    }
}
