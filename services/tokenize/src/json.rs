//! Reads `tokenizer.json`, the format of the package `tokenizers`.
//!
//! Each part is either understood completely or refused by name; an unknown key is refused too.
//! Truncation and padding are habits of use, not of the vocabulary: they are left to the caller.

mod parts;

use std::fmt;

use cloister_domain::TokenId;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;

use crate::{
    LoadError, Tokenizer,
    build::{ByteLevelParts, Named, WordPieceParts, byte_level, word_piece},
    vocabulary::Kind,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(rename = "truncation")]
    _truncation: Option<IgnoredAny>,
    #[serde(rename = "padding")]
    _padding: Option<IgnoredAny>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: ModelFile,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(rename = "fuse_unk")]
    _fuse_unk: Option<bool>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    max_input_chars_per_word: Option<usize>,
    #[serde(rename = "unk_id")]
    _unk_id: Option<IgnoredAny>,
    vocab: Vocab,
    #[serde(default)]
    merges: Vec<Pair>,
}

/// The vocabulary of a model with ids; `None` for the list of scores that Unigram has.
struct Vocab(Option<Vec<(String, u32)>>);

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Vocab(Some(entries)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Vocab(None))
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

/// A merge, written `"a b"` or `["a", "b"]`.
struct Pair(String, String);

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Pair;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pair, E> {
                let (left, right) = text.split_once(' ').ok_or_else(|| E::custom("a merge"))?;
                Ok(Pair(left.to_owned(), right.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pair, A::Error> {
                let mut next =
                    || seq.next_element()?.ok_or_else(|| serde::de::Error::custom("a merge"));
                let pair = Pair(next()?, next()?);
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(pair),
                    Some(_third) => Err(serde::de::Error::custom("a merge")),
                }
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// Supported: byte-level BPE with the pre-tokenisers of GPT-2, Llama 3 and Qwen 2, without
    /// normaliser or with NFC; WordPiece with BERT's normaliser and pre-tokeniser.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] names the first part that would have to be guessed; the others
    /// say what is wrong with the vocabulary.
    pub fn from_json(text: &str) -> Result<Self, LoadError> {
        let mut file: File = serde_json::from_str(text)
            .map_err(|error| LoadError::Json { line: error.line(), column: error.column() })?;
        let kind = match &file.model.kind {
            Some(kind) => kind.as_str(),
            // Files before version 0.10 of the package do not say; only BPE has merges.
            None if !file.model.merges.is_empty() => "BPE",
            None => return Err(LoadError::Absent { part: "model type" }),
        };
        let read = match kind {
            "BPE" => bpe,
            "WordPiece" => wordpiece,
            other => return Err(LoadError::unsupported("model", other)),
        };
        let post_processor = std::mem::take(&mut file.post_processor);
        let mut tokenizer = read(file)?;
        tokenizer.frame = parts::frame(&post_processor, &tokenizer)?;
        Ok(tokenizer)
    }
}

/// Tokens of the model and added ones, each id once; an added token overrides the model's.
fn tokens(
    vocab: Vocab,
    all_added: Vec<Added>,
    normalizer: &Value,
) -> Result<Vec<Named>, LoadError> {
    let vocab = vocab.0.ok_or(LoadError::Absent { part: "token ids" })?;
    let normalised = !normalizer.is_null();
    for added in &all_added {
        let flags = [
            (added.single_word, "single_word"),
            (added.lstrip, "lstrip"),
            (added.rstrip, "rstrip"),
            (added.normalized && normalised, "normalized"),
        ];
        if let Some((_set, flag)) = flags.into_iter().find(|(set, _flag)| *set) {
            return Err(LoadError::unsupported("added token", flag));
        }
    }
    let mut overridden: Vec<u32> = all_added.iter().map(|added| added.id).collect();
    overridden.sort_unstable();
    let plain = vocab
        .into_iter()
        .filter(|(_text, id)| overridden.binary_search(id).is_err())
        .map(|(text, id)| Named { id: TokenId(id), text, kind: Kind::Plain });
    let added = all_added.into_iter().map(|added| Named {
        id: TokenId(added.id),
        text: added.content,
        kind: if added.special { Kind::Control } else { Kind::Added },
    });
    Ok(plain.chain(added).collect())
}

fn bpe(file: File) -> Result<Tokenizer, LoadError> {
    let model = file.model;
    let affixes = [
        (model.continuing_subword_prefix.as_deref(), "continuing_subword_prefix"),
        (model.end_of_word_suffix.as_deref(), "end_of_word_suffix"),
    ];
    if let Some((_text, name)) =
        affixes.iter().find(|(text, _)| text.is_some_and(|t| !t.is_empty()))
    {
        return Err(LoadError::unsupported("BPE model", name));
    }
    if model.dropout.is_some_and(|dropout| dropout > 0.0) {
        return Err(LoadError::unsupported("BPE model", "dropout"));
    }
    if model.byte_fallback {
        return Err(LoadError::unsupported("BPE model", "byte_fallback"));
    }
    parts::byte_level_decoder(&file.decoder)?;
    byte_level(ByteLevelParts {
        tokens: tokens(model.vocab, file.added_tokens, &file.normalizer)?,
        merges: model.merges.into_iter().map(|Pair(left, right)| (left, right)).collect(),
        compose: parts::composes(&file.normalizer)?,
        pattern: parts::pattern(&file.pre_tokenizer)?,
        ignore_merges: model.ignore_merges,
    })
}

fn wordpiece(file: File) -> Result<Tokenizer, LoadError> {
    let model = file.model;
    if let Some(prefix) = model.continuing_subword_prefix.as_deref().filter(|p| *p != "##") {
        return Err(LoadError::unsupported("WordPiece prefix", prefix));
    }
    parts::bert_pre_tokenizer(&file.pre_tokenizer)?;
    parts::word_piece_decoder(&file.decoder)?;
    word_piece(WordPieceParts {
        tokens: tokens(model.vocab, file.added_tokens, &file.normalizer)?,
        normalizer: parts::bert_normalizer(&file.normalizer)?,
        unknown: model.unk_token.unwrap_or_else(|| "[UNK]".to_owned()),
        word_characters_max: model.max_input_chars_per_word.unwrap_or(100),
    })
}
