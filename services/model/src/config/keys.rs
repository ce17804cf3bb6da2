//! The keys of a `config.json`, taken one by one until none is left.

use std::{collections::BTreeMap, fmt};

use cloister_weights::{Metadata, Name};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

use crate::{ModelError, folder};

/// Keys that change no number of a forward pass: training, generation, provenance.
const INERT: &[&str] = &[
    "_name_or_path",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "bos_token_id",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "dtype",
    "eos_token_id",
    "gradient_checkpointing",
    "hidden_dropout_prob",
    "id2label",
    "initializer_range",
    "label2id",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "torch_dtype",
    "transformers_version",
    "use_cache",
];

/// An object's keys that were not used yet. A key with the value `null` counts as absent.
#[derive(Debug)]
pub(crate) struct Keys(BTreeMap<String, Value>);

impl Keys {
    /// Reads a `config.json`; a key that comes twice is an error.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ModelError> {
        serde_json::from_slice(json).map_err(|error| folder::syntax("config.json", &error))
    }

    /// Takes a key.
    fn take(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    /// Takes a count that fits 32 bits.
    pub(crate) fn count(&mut self, key: &str) -> Result<Option<u32>, ModelError> {
        let Some(taken) = self.take(key) else { return Ok(None) };
        let count = taken.as_u64().and_then(|count| u32::try_from(count).ok());
        count.map(Some).ok_or_else(|| value(key))
    }

    /// Takes a size, with its default.
    pub(crate) fn size(&mut self, key: &str, default: u32) -> Result<usize, ModelError> {
        Ok(super::index(self.count(key)?.unwrap_or(default)))
    }

    /// Takes a finite number.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<f64>, ModelError> {
        let Some(taken) = self.take(key) else { return Ok(None) };
        taken.as_f64().filter(|number| number.is_finite()).map(Some).ok_or_else(|| value(key))
    }

    /// Takes the small number under a norm's root.
    pub(crate) fn epsilon(&mut self, key: &str, default: f64) -> Result<f32, ModelError> {
        let number = self.number(key)?.unwrap_or(default);
        if (0.0..1.0).contains(&number) { Ok(epsilon_value(number)) } else { Err(value(key)) }
    }

    /// Takes a truth value.
    pub(crate) fn bool(&mut self, key: &str) -> Result<Option<bool>, ModelError> {
        let Some(taken) = self.take(key) else { return Ok(None) };
        taken.as_bool().map(Some).ok_or_else(|| value(key))
    }

    /// Takes a text.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>, ModelError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(value(key)),
        }
    }

    /// Takes a text that can only be this one.
    pub(crate) fn expect_text(&mut self, key: &str, only: &str) -> Result<(), ModelError> {
        if self.text(key)?.is_none_or(|text| text == only) { Ok(()) } else { Err(value(key)) }
    }

    /// Takes a truth value that can only be this one.
    pub(crate) fn expect_bool(&mut self, key: &str, only: bool) -> Result<(), ModelError> {
        if self.bool(key)?.is_none_or(|bool| bool == only) { Ok(()) } else { Err(value(key)) }
    }

    /// Takes a number that can only be 1.
    pub(crate) fn expect_one(&mut self, key: &str) -> Result<(), ModelError> {
        let one = self.number(key)?.is_none_or(|number| (number - 1.0).abs() < f64::EPSILON);
        if one { Ok(()) } else { Err(value(key)) }
    }

    /// Takes a list of texts that can only hold these. Another one of `architectures` is a family without
    /// a forward pass, as an unknown `model_type` is: a reranker has the `model_type` of its encoder.
    pub(crate) fn expect_all(&mut self, key: &str, only: &[&str]) -> Result<(), ModelError> {
        let list = match self.take(key) {
            None => return Ok(()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(value(key)),
        };
        list.iter().try_for_each(|one| match one.as_str() {
            Some(text) if only.contains(&text) => Ok(()),
            Some(text) if key == "architectures" => {
                Err(ModelError::Architecture { name: Name::of(text) })
            }
            _ => Err(value(key)),
        })
    }

    /// Takes a token id.
    pub(crate) fn id(&mut self, key: &str) -> Result<Option<u32>, ModelError> {
        Ok(self.ids(key)?.and_then(|ids| ids.first().copied()))
    }

    /// Takes a token id or a list of them.
    pub(crate) fn ids(&mut self, key: &str) -> Result<Option<Vec<u32>>, ModelError> {
        let list = match self.take(key) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(one) => vec![one],
        };
        let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
        list.iter().map(id).collect::<Option<Vec<u32>>>().map(Some).ok_or_else(|| value(key))
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, key: &str) -> Result<Option<Self>, ModelError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self(map.into_iter().collect()))),
            Some(_) => Err(value(key)),
        }
    }

    /// Refuses what is left, unless it changes no number.
    pub(crate) fn finish(mut self) -> Result<(), ModelError> {
        for key in INERT {
            self.0.remove(*key);
        }
        self.finish_all()
    }

    /// Refuses whatever is left.
    pub(crate) fn finish_all(self) -> Result<(), ModelError> {
        match self.0.into_iter().find(|(_, value)| !value.is_null()) {
            Some((key, _)) => Err(ModelError::KeyUnknown { key: Name::of(&key) }),
            None => Ok(()),
        }
    }
}

/// A key is not there.
pub(super) fn missing(key: &str) -> ModelError {
    ModelError::KeyMissing { key: Name::of(key) }
}

/// A key has a value that cannot be used.
pub(crate) fn value(key: &str) -> ModelError {
    ModelError::KeyValue { key: Name::of(key) }
}

/// An epsilon as the f32 that it is used as.
#[expect(clippy::cast_possible_truncation, reason = "transformers computes with it in f32 too")]
pub(super) const fn epsilon_value(number: f64) -> f32 {
    number as f32
}

/// Refuses a key of a GGUF file that belongs to the architecture and is not understood. Keys of
/// `general.`, `tokenizer.` and `quantize.` change no number of a forward pass.
pub(super) fn check_metadata(metadata: &Metadata, arch: &str) -> Result<(), ModelError> {
    const USED: &[&str] = &[
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.finetuned",
        "vocab_size",
    ];
    if metadata
        .text("general.type")
        .map_err(ModelError::Weights)?
        .is_some_and(|kind| kind != "model")
    {
        return Err(value("general.type"));
    }
    for key in metadata.keys() {
        let known = match key.split_once('.') {
            Some(("general" | "tokenizer" | "quantize", _)) => true,
            Some((prefix, rest)) => prefix == arch && USED.contains(&rest),
            None => false,
        };
        if !known {
            return Err(ModelError::KeyUnknown { key: Name::of(key) });
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = BTreeMap::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if keys.insert(key, value).is_some() {
                return Err(de::Error::custom("a key comes twice"));
            }
        }
        Ok(Keys(keys))
    }
}
