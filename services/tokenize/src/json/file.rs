//! What is kept of a `tokenizer.json` as it passes by: its tokens in one list, its small parts as they
//! stand there, of its merges the number.

use std::{cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::Found;
use crate::{
    LoadError,
    vocabulary::{Kind, Listed},
};

/// What all small parts together may take: so much for each value, and its text. The largest known
/// part is a table of 320 kB.
const PARTS_BYTES_MAX: usize = 2 << 20;
const VALUE_BYTES: usize = 64;

/// A file without its merges.
#[derive(Default)]
pub(super) struct File {
    pub(super) version: Value,
    pub(super) truncation: Value,
    pub(super) padding: Value,
    pub(super) normalizer: Value,
    pub(super) pre_tokenizer: Value,
    pub(super) post_processor: Value,
    pub(super) decoder: Value,
    /// Those of the model and the added ones.
    pub(super) tokens: Listed,
    /// Whether an added token is looked for in text that was normalised.
    pub(super) normalised: bool,
    pub(super) model: Model,
}

/// What a model says beside its vocabulary.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "the file format has them")]
pub(super) struct Model {
    pub(super) kind: Option<String>,
    pub(super) dropout: Option<f64>,
    pub(super) unknown: Option<String>,
    pub(super) prefix: Option<String>,
    pub(super) suffix: Option<String>,
    pub(super) byte_fallback: bool,
    pub(super) ignore_merges: bool,
    pub(super) names_unknown_id: bool,
    pub(super) word_characters_max: Option<usize>,
    /// Whether the vocabulary has ids; the list of scores that Unigram has does not.
    pub(super) has_ids: bool,
    /// How many there are.
    pub(super) merges: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the file format has them")]
struct Added {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// Reads a [`File`].
pub(super) struct Files<'a> {
    found: &'a Found,
    /// What small parts may still take.
    left: Cell<usize>,
}

impl<'a> Files<'a> {
    pub(super) fn new(found: &'a Found) -> Self {
        Self { found, left: Cell::new(PARTS_BYTES_MAX) }
    }

    fn part(&self) -> Part<'_> {
        Part { found: self.found, left: &self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Files<'_> {
    type Value = File;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<File, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Files<'_> {
    type Value = File;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tokenizer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let mut file = File::default();
        let mut has_model = false;
        while let Some(key) = map.next_key::<String>()? {
            let part = match key.as_str() {
                "version" => &mut file.version,
                "truncation" => &mut file.truncation,
                "padding" => &mut file.padding,
                "normalizer" => &mut file.normalizer,
                "pre_tokenizer" => &mut file.pre_tokenizer,
                "post_processor" => &mut file.post_processor,
                "decoder" => &mut file.decoder,
                "added_tokens" => {
                    map.next_value_seed(AddedTokens { found: self.found, file: &mut file })?;
                    continue;
                }
                "model" => {
                    has_model = true;
                    map.next_value_seed(Models { files: &self, file: &mut file })?;
                    continue;
                }
                _ => return Err(de::Error::custom("an unknown key")),
            };
            *part = map.next_value_seed(self.part())?;
        }
        if has_model { Ok(file) } else { Err(de::Error::missing_field("model")) }
    }
}

/// Lists added tokens.
struct AddedTokens<'a> {
    found: &'a Found,
    file: &'a mut File,
}

impl<'de> DeserializeSeed<'de> for AddedTokens<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for AddedTokens<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("added tokens")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(added) = seq.next_element::<Added>()? {
            let flags = [
                (added.single_word, "single_word"),
                (added.lstrip, "lstrip"),
                (added.rstrip, "rstrip"),
            ];
            if let Some((_set, flag)) = flags.into_iter().find(|(set, _flag)| *set) {
                return Err(self.found.refused(LoadError::unsupported("added token", flag)));
            }
            self.file.normalised |= added.normalized;
            let kind = if added.special { Kind::Control } else { Kind::Added };
            let listed = self.file.tokens.push(added.id, &added.content, kind);
            listed.map_err(|cause| self.found.refused(cause))?;
        }
        Ok(())
    }
}

/// Reads the model into the file.
struct Models<'a, 'b> {
    files: &'a Files<'b>,
    file: &'a mut File,
}

impl<'de> DeserializeSeed<'de> for Models<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Models<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (found, model) = (self.files.found, &mut self.file.model);
        let mut has_vocabulary = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => model.kind = map.next_value()?,
                "dropout" => model.dropout = map.next_value()?,
                "unk_token" => model.unknown = map.next_value()?,
                "continuing_subword_prefix" => model.prefix = map.next_value()?,
                "end_of_word_suffix" => model.suffix = map.next_value()?,
                "fuse_unk" => drop(map.next_value::<Option<bool>>()?),
                "byte_fallback" => model.byte_fallback = map.next_value()?,
                "ignore_merges" => model.ignore_merges = map.next_value()?,
                "max_input_chars_per_word" => model.word_characters_max = map.next_value()?,
                "unk_id" => {
                    model.names_unknown_id = !map.next_value_seed(self.files.part())?.is_null();
                }
                "vocab" => {
                    has_vocabulary = true;
                    let tokens = &mut self.file.tokens;
                    model.has_ids = map.next_value_seed(Vocab { found, tokens })?;
                }
                "merges" => model.merges = map.next_value_seed(Count)?,
                _ => return Err(de::Error::custom("an unknown key")),
            }
        }
        if has_vocabulary { Ok(()) } else { Err(de::Error::missing_field("vocab")) }
    }
}

/// Lists a model's tokens; whether they have ids.
struct Vocab<'a> {
    found: &'a Found,
    tokens: &'a mut Listed,
}

impl<'de> DeserializeSeed<'de> for Vocab<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Vocab<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vocabulary")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let start = |tokens: &Listed| tokens.start();
        let mut from = start(self.tokens);
        while map.next_key_seed(Word { found: self.found, tokens: self.tokens })?.is_some() {
            let id: u32 = map.next_value()?;
            let closed = self.tokens.close(from, id, Kind::Plain);
            closed.map_err(|cause| self.found.refused(cause))?;
            from = start(self.tokens);
        }
        Ok(true)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(false)
    }
}

/// Writes a token's text down.
struct Word<'a> {
    found: &'a Found,
    tokens: &'a mut Listed,
}

impl<'de> DeserializeSeed<'de> for Word<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Word<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.tokens.write(text).map_err(|cause| self.found.refused(cause))
    }
}

/// Counts merges.
struct Count;

impl<'de> DeserializeSeed<'de> for Count {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Count {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Reads a small part.
#[derive(Clone, Copy)]
struct Part<'a> {
    found: &'a Found,
    left: &'a Cell<usize>,
}

impl Part<'_> {
    /// A value with a text of so many bytes is kept.
    fn take<E: de::Error>(&self, text_bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(VALUE_BYTES + text_bytes);
        let (count, max) = (PARTS_BYTES_MAX + 1, PARTS_BYTES_MAX);
        let left = left.ok_or_else(|| {
            self.found.refused(LoadError::TooMany { what: "bytes of small parts", count, max })
        })?;
        self.left.set(left);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        self.take(0).map(|()| Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        self.take(0).map(|()| value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        self.take(0).map(|()| value.into())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        self.take(0).map(|()| value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        self.take(0).map(|()| value.into())
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.take(value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut values = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(key.len())?;
            values.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Object(values))
    }
}
