//! The stream against `serde_json`, over good, damaged and random texts in pieces of every size.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::*;

/// Gives out a few bytes at a time, so that everything lies in two pieces somewhere.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.1.min(buffer.len());
        self.0.read(buffer.get_mut(..count).unwrap_or_default())
    }
}

fn read(text: &[u8], drop: usize) -> Result<Value, NotJson> {
    JsonStream::new(Drops(text, drop), 1000).read(std::marker::PhantomData)
}

/// As `serde_json` reads it, however it comes.
fn check(text: &[u8]) {
    let expected = serde_json::from_slice::<Value>(text).ok();
    for drop in [1, 2, 3, 7, 1000] {
        let shown = String::from_utf8_lossy(text);
        let read = read(text, drop).ok();
        // It takes longer numbers than another; neither keeps all their digits.
        let same = read.as_ref().map(Value::to_string) == expected.as_ref().map(Value::to_string);
        let close = |one: &Value, other: &Value| match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => (one - other).abs() <= one.abs() * 1e-12,
            _ => false,
        };
        let close = read.as_ref().zip(expected.as_ref()).is_some_and(|(a, b)| close(a, b));
        assert!(same || close, "{shown:?} in {drop}: {read:?} {expected:?}");
    }
}

const GOOD: &[&str] = &[
    "0",
    "-0",
    "1",
    "-1",
    "10",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "1.5",
    "-0.25e2",
    "1E+2",
    "2e-3",
    "\"\"",
    "\"ab\"",
    " \"a\" ",
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[ ]",
    "{ }",
    "[1,2]",
    " [ 1 , 2 ] ",
    "{\"a\":1}",
    "{ \"a\" : [ ] , \"b\" : { } }",
    r#""\u00e9\uD83D\uDE00\n\"\\\/\b\f\r\t""#,
    "\"é漢😀\"",
    r#""\u0000""#,
    "\n\t\r 1\n",
];
const BAD: &[&str] = &[
    "",
    " ",
    "01",
    "-",
    "+1",
    "1.",
    ".5",
    "1e",
    "1e+",
    "1e999",
    "00",
    "-01",
    "1 2",
    "[1,]",
    "[,1]",
    "[,]",
    "[1 2]",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{1:2}",
    "{a:1}",
    "[",
    "{",
    "]",
    "}",
    "[}",
    "{]",
    "\"",
    "\"a",
    "\"\n\"",
    "\"\u{1}\"",
    r#""\x""#,
    r#""\u12""#,
    r#""\uD800""#,
    r#""\uDC00""#,
    r#""\uD800\u0041""#,
    r#""\uD800x""#,
    "nul",
    "nulll",
    "tru",
    "True",
    "NaN",
    "Infinity",
    "'a'",
    "// c\n1",
    "[1]]",
    "\u{FEFF}1",
    "\u{A0}1",
];

#[test]
fn what_is_json_is_what_it_is_to_serde_json() {
    for text in GOOD {
        assert!(read(text.as_bytes(), 3).is_ok(), "{text:?}");
        check(text.as_bytes());
        for place in 0..text.len() {
            check(text.as_bytes().get(..place).unwrap_or_default());
        }
    }
    for text in BAD {
        assert!(read(text.as_bytes(), 3).is_err(), "{text:?}");
        check(text.as_bytes());
    }
    for bytes in [&b"\"\xff\""[..], b"\"\xc3\"", b"\"\xed\xa0\x80\"", b"\xff", b"{\"\xff\":1}"] {
        check(bytes);
    }
}

#[test]
fn there_are_bounds() {
    let long = |count: usize| format!("\"{}\"", "x".repeat(count));
    assert!(read(long(1000).as_bytes(), 7).is_ok() && read(long(1000).as_bytes(), 9999).is_ok());
    assert!(read(long(1001).as_bytes(), 7).is_err() && read(long(1001).as_bytes(), 9999).is_err());
    let escaped = |count: usize| format!("\"{}\"", "\\n".repeat(count));
    assert!(read(escaped(500).as_bytes(), 7).is_ok());
    assert!(read(escaped(501).as_bytes(), 9999).is_err());
    assert!(read("1".repeat(300).as_bytes(), 7).is_ok());
    assert!(read(format!("0.{}", "1".repeat(1000)).as_bytes(), 7).is_err());
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(read(deep(128).as_bytes(), 7).is_ok());
    assert!(read(deep(129).as_bytes(), 7).is_err());
}

#[test]
fn places_are_lines_and_columns() {
    for drop in [1, 3, 1000] {
        let mut stream = JsonStream::new(Drops(b"{\n \"a\": 1,\n  \"b\": x}", drop), 9);
        assert!(stream.read(std::marker::PhantomData::<IgnoredAny>).is_err());
        assert_eq!(stream.place(), Place { line: 3, column: 7 });
    }
}

#[test]
fn types_of_rust_are_read() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Read {
        number: u32,
        some: Option<String>,
        none: Option<bool>,
        all: BTreeMap<String, f64>,
    }
    let text = br#"{"number":7,"some":"x","none":null,"all":{"a":1,"b":-2.5}}"#;
    let all = [("a", 1.0), ("b", -2.5)].map(|(key, value)| (key.to_owned(), value)).into();
    let expected = Read { number: 7, some: Some("x".to_owned()), none: None, all };
    let mut stream = JsonStream::new(text.as_slice(), 9);
    assert_eq!(stream.read(std::marker::PhantomData), Ok(expected));
    let mut stream = JsonStream::new(br#"{"number":-7}"#.as_slice(), 9);
    assert!(stream.read(std::marker::PhantomData::<Read>).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_as_serde_json_reads_it(
        parts in prop::collection::vec(
            prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\""), Just("\\"),
                Just("\"a\""), Just("\"é\":"), Just("1"), Just("0"), Just("-"), Just("."), Just("e"), Just("null"),
                Just("true"), Just(" "), Just("\n"), Just("\\u00"), Just("\\uD83D\\uDE00"), Just("u"), Just("\u{1}"),
                Just("{\"k\":"), Just("[1,"), Just("[]"), Just("{}"),
            ],
            0..12,
        ),
    ) {
        check(parts.concat().as_bytes());
    }

    #[test]
    fn damaged_json_is_read_as_serde_json_reads_it(place in 0..80usize, byte: u8) {
        let mut text = br#"{"a": [1, -2.5e3, "x\u00e9\n", {"b": null}], "c": {"d": true, "e": ""}}"#.to_vec();
        if let Some(one) = text.get_mut(place) {
            *one = byte;
        }
        check(&text);
    }
}
