//! JSON that means one thing to every reader: no key twice, nested within a bound. Fractions are
//! allowed, which models' configurations have; values are looked at and not kept.
//!
//! The reader of what is signed (`cloister_attest::json`) is another: it keeps the tree, knows no
//! fractions and bounds the number of values below that of a large tokenizer. Its module says why
//! there are two.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::Refusal;

/// Nesting that a document may have; tokenizers and configurations have less than ten.
const DEPTH_MAX: u32 = 32;

/// The key under which models' configurations carry a template.
const TEMPLATE_KEY: &str = "chat_template";

/// Checks that `text` is one JSON value and nothing else.
pub(crate) fn check(text: &[u8]) -> Result<(), Refusal> {
    let found = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let strict = Strict { depth: 0, template: false, found: &found };
    let outcome = strict.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    // The error's own text quotes the document.
    outcome.map_err(|cause| {
        let (line, column) = (cause.line(), cause.column());
        match found.get() {
            Some(Finding::Key) => Refusal::JsonKey { line, column },
            Some(Finding::Depth) => Refusal::JsonDepth { max: DEPTH_MAX },
            Some(Finding::Template) => Refusal::Jinja,
            None => Refusal::Json { line, column },
        }
    })
}

#[derive(Clone, Copy)]
enum Finding {
    Key,
    Depth,
    Template,
}

/// What is kept of a key, since an object may have a million. Equal keys are always seen; two others are
/// taken for equal, and a good document refused, once in 10^7 of such objects.
fn digest(key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Looks at a value at `depth`.
#[derive(Clone, Copy)]
struct Strict<'a> {
    depth: u32,
    /// Whether the value stands where a template would.
    template: bool,
    found: &'a Cell<Option<Finding>>,
}

impl Strict<'_> {
    fn refuse<E: de::Error>(&self, finding: Finding) -> E {
        self.found.set(Some(finding));
        E::custom("refused")
    }

    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.template {
            return Err(self.refuse(Finding::Template));
        }
        if self.depth >= DEPTH_MAX {
            return Err(self.refuse(Finding::Depth));
        }
        Ok(Self { depth: self.depth.saturating_add(1), ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, _value: &str) -> Result<(), E> {
        if self.template { Err(self.refuse(Finding::Template)) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = BTreeSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let template = key == TEMPLATE_KEY;
            if !keys.insert(digest(&key)) {
                return Err(self.refuse(Finding::Key));
            }
            entries.next_value_seed(Self { template, ..inner })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Coded as _;

    use super::*;

    #[test]
    fn one_value_that_means_one_thing_passes() {
        for text in [r#"{"a": [1, -2.5e3, null, true, "x"], "b": {"a": {}}}"#, "0", "\"x\""] {
            assert!(check(text.as_bytes()).is_ok(), "{text}");
        }
        assert!(check(br#"{"chat_template": null}"#).is_ok());
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        let deep = "[".repeat(33) + &"]".repeat(33);
        let absurd = "[".repeat(1_000_000);
        for (text, code) in [
            (r#"{"a": 1, "a": 2}"#, "inspect.json.key"),
            (r#"{"a": {"b": 1, "\u0062": 2}}"#, "inspect.json.key"),
            (deep.as_str(), "inspect.json.depth"),
            (absurd.as_str(), "inspect.json.depth"),
            ("", "inspect.json"),
            ("{} {}", "inspect.json"),
            (r#"{"a": 1,}"#, "inspect.json"),
            (r#"{"a": NaN}"#, "inspect.json"),
            (r#"{"a": 1e999}"#, "inspect.json"),
            ("{\"a\": \"\n\"}", "inspect.json"),
            (r#"{"chat_template": "{{ x }}"}"#, "inspect.template.program"),
            (r#"{"x": {"chat_template": [{"name": "default"}]}}"#, "inspect.template.program"),
        ] {
            let start: String = text.chars().take(30).collect();
            assert_eq!(check(text.as_bytes()).expect_err("refused").code(), code, "{start}");
        }
        assert_eq!(check(b"{\"\xff\": 1}").expect_err("refused").code(), "inspect.json");
        let quoting = check(b"\"patient Jane Doe\" x").expect_err("refused").to_string();
        assert!(!quoting.contains("Jane"), "{quoting}");
    }
}
