//! The key-value part of a GGUF file: configuration and tokenizer.

use std::collections::BTreeMap;

use crate::{Name, Texts, WeightsError};

/// One metadata value; the widths of numbers are not kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Any unsigned integer.
    Unsigned(u64),
    /// Any signed integer.
    Signed(i64),
    /// `f32` or `f64`.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array of texts.
    Texts(Texts),
    /// An array of integers of any width.
    Integers(Vec<i64>),
    /// An array of floats.
    Floats(Vec<f64>),
    /// An array of truth values.
    Bools(Vec<bool>),
}

const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// All metadata of a file, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(BTreeMap<String, Value>);

impl Metadata {
    /// Adds a value; a key comes once.
    pub(crate) fn insert(&mut self, key: String, value: Value) -> Result<(), WeightsError> {
        if self.0.contains_key(&key) {
            return Err(WeightsError::Duplicate { name: Name::of(&key) });
        }
        self.0.insert(key, value);
        Ok(())
    }

    /// All keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// A text, if the key is there.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Value`] when the key holds something else; so do the functions below.
    pub fn text(&self, key: &str) -> Result<Option<&str>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(key)),
        }
    }

    /// A count that fits 32 bits, if the key is there.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Value`].
    pub fn count(&self, key: &str) -> Result<Option<u32>, WeightsError> {
        let number = match self.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(number)) => u32::try_from(*number).ok(),
            Some(Value::Signed(number)) => u32::try_from(*number).ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong(key))
    }

    /// A finite number, if the key is there.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Value`].
    pub fn float(&self, key: &str) -> Result<Option<f64>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) if number.is_finite() => Ok(Some(*number)),
            Some(_) => Err(wrong(key)),
        }
    }

    /// A truth value, if the key is there.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Value`].
    pub fn bool(&self, key: &str) -> Result<Option<bool>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong(key)),
        }
    }

    /// The texts of an array, if the key is there.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Value`].
    pub fn texts(&self, key: &str) -> Result<Option<&Texts>, WeightsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(wrong(key)),
        }
    }

    /// The tokenizer that the file carries, if it carries one.
    ///
    /// # Errors
    ///
    /// [`WeightsError::Value`] when a tokenizer key has the wrong kind, or the token types are not one a token.
    pub fn tokenizer(&self) -> Result<Option<TokenizerMetadata>, WeightsError> {
        let keys = self.0.iter().filter(|(key, _value)| key.starts_with("tokenizer."));
        Self(keys.map(|(key, value)| (key.clone(), value.clone())).collect()).into_tokenizer()
    }

    /// As [`Metadata::tokenizer`], without a second copy of the vocabulary.
    ///
    /// # Errors
    ///
    /// As [`Metadata::tokenizer`].
    pub fn into_tokenizer(mut self) -> Result<Option<TokenizerMetadata>, WeightsError> {
        const TOKENS: &str = "tokenizer.ggml.tokens";
        const MERGES: &str = "tokenizer.ggml.merges";
        let Some(model) = self.text("tokenizer.ggml.model")?.map(str::to_owned) else {
            return Ok(None);
        };
        let types = self.token_types()?;
        self.0.remove(TOKEN_TYPES);
        let count = self.texts(TOKENS)?.map_or(0, Texts::len);
        if !types.is_empty() && types.len() != count {
            return Err(wrong(TOKEN_TYPES));
        }
        self.texts(MERGES)?;
        let mut taken = |key| match self.0.remove(key) {
            Some(Value::Texts(texts)) => texts,
            _ => Texts::default(),
        };
        let (tokens, merges) = (taken(TOKENS), taken(MERGES));
        let id = |name: &str| self.count(&format!("tokenizer.ggml.{name}_token_id"));
        Ok(Some(TokenizerMetadata {
            model,
            pre: self.text("tokenizer.ggml.pre")?.map(str::to_owned),
            tokens,
            types,
            merges,
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            unknown: id("unknown")?,
            separator: id("seperator")?,
            padding: id("padding")?,
            add_bos: self.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: self.bool("tokenizer.ggml.add_eos_token")?,
            chat_template: self.text("tokenizer.chat_template")?.map(str::to_owned),
        }))
    }

    fn token_types(&self) -> Result<Vec<i32>, WeightsError> {
        match self.get(TOKEN_TYPES) {
            None => Ok(Vec::new()),
            Some(Value::Integers(types)) => types
                .iter()
                .map(|&t| i32::try_from(t).map_err(|_too_large| wrong(TOKEN_TYPES)))
                .collect(),
            Some(_) => Err(wrong(TOKEN_TYPES)),
        }
    }
}

fn wrong(key: &str) -> WeightsError {
    WeightsError::Value { key: Name::of(key) }
}

/// The tokenizer in a GGUF file, as written (`tokenizer.ggml.*`; gguf-py, `constants.py`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerMetadata {
    /// `gpt2` (byte-level BPE), `bert` (`WordPiece`) and others.
    pub model: String,
    /// Name of the pre-tokenizer.
    pub pre: Option<String>,
    /// Texts of the tokens, by id.
    pub tokens: Texts,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty when not given.
    pub types: Vec<i32>,
    /// Merges in order of rank, the two halves separated by a space.
    pub merges: Texts,
    /// Begin of sequence.
    pub bos: Option<u32>,
    /// End of sequence.
    pub eos: Option<u32>,
    /// End of turn.
    pub eot: Option<u32>,
    /// The unknown token.
    pub unknown: Option<u32>,
    /// The separator of two texts.
    pub separator: Option<u32>,
    /// The padding token.
    pub padding: Option<u32>,
    /// Whether `bos` is put in front.
    pub add_bos: Option<bool>,
    /// Whether `eos` is put behind.
    pub add_eos: Option<bool>,
    /// The chat template, unread.
    pub chat_template: Option<String>,
}
