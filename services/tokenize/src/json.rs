//! Reads `tokenizer.json`, the format of the package `tokenizers`.
//!
//! Each part is either understood completely or refused by name; an unknown key is refused too. The
//! file passes by in small pieces, twice: once for everything but the merges, and once for these, which
//! are checked against the vocabulary as they come. Of the file only what the tokenizer needs is kept.

mod file;
mod merges;
mod parts;

use std::{cell::Cell, io::Read};

use cloister_formats::{JsonStream, Place};
use file::{File, Files, Model};
use serde::de::{self, DeserializeSeed};

use crate::{
    LoadError, Tokenizer,
    build::{ByteLevelParts, WordPieceParts, byte_level, word_piece},
};

/// Longest string of a file, as it is written; the longest of a known one has 320 kB.
const STRING_BYTES_MAX: usize = 1 << 20;
/// Longest word that WordPiece may be told to cut; published files say 100 or 200.
const WORD_CHARACTERS_MAX: usize = 1000;

/// Why reading ended, when it was for another reason than the syntax.
#[derive(Default)]
struct Found(Cell<Option<LoadError>>);

impl Found {
    /// Notes `cause`, and gives what ends the parser.
    fn refused<E: de::Error>(&self, cause: LoadError) -> E {
        self.0.set(Some(cause));
        E::custom("refused")
    }

    /// What `seed` makes of the whole of `text`.
    fn read<T>(
        &self,
        text: impl Read,
        seed: impl for<'de> DeserializeSeed<'de, Value = T>,
    ) -> Result<T, LoadError> {
        let mut text = JsonStream::new(text, STRING_BYTES_MAX);
        text.read(seed).map_err(|_wrong| {
            let Place { line, column } = text.place();
            self.0.take().unwrap_or(LoadError::Json { line, column })
        })
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
        Self::from_json_stream(|| text.as_bytes())
    }

    /// As [`Tokenizer::from_json`], of a file that `open` reads from its start as often as it is asked.
    /// Takes at most 40 MiB, whatever the file holds.
    ///
    /// # Errors
    /// As [`Tokenizer::from_json`]; [`LoadError::Json`] too where the file cannot be read.
    pub fn from_json_stream<R: Read>(mut open: impl FnMut() -> R) -> Result<Self, LoadError> {
        let found = Found::default();
        let mut file = found.read(open(), Files::new(&found))?;
        parts::version(&file.version)?;
        let kind = match &file.model.kind {
            Some(kind) => kind.as_str(),
            // Files before version 0.10 of the package do not say; only BPE has merges.
            None if file.model.merges > 0 => "BPE",
            None => return Err(LoadError::Absent { part: "model type" }),
        };
        let post_processor = std::mem::take(&mut file.post_processor);
        let (truncation, padding) =
            (std::mem::take(&mut file.truncation), std::mem::take(&mut file.padding));
        let mut tokenizer = match kind {
            "BPE" => {
                parts::absent("truncation", &truncation)?;
                parts::absent("padding", &padding)?;
                bpe(file, &mut open)?
            }
            "WordPiece" => wordpiece(file)?,
            other => return Err(LoadError::unsupported("model", other)),
        };
        tokenizer.frame = parts::frame(&post_processor, &tokenizer)?;
        tokenizer.longest = parts::longest(&truncation)?;
        parts::padding(&padding, &tokenizer)?;
        Ok(tokenizer)
    }
}

/// The tokens of the model and the added ones, if they are what they are said to be.
fn united(file: &mut File) -> Result<(), LoadError> {
    if !file.model.has_ids {
        return Err(LoadError::Absent { part: "token ids" });
    }
    if file.normalised && !file.normalizer.is_null() {
        return Err(LoadError::unsupported("added token", "normalized"));
    }
    file.tokens.unite()
}

/// Refuses what a model of `kind` says that would have to change what it does.
fn none_of(kind: &'static str, said: &[(bool, &str)]) -> Result<(), LoadError> {
    match said.iter().find(|(said, _name)| *said) {
        Some((_said, name)) => Err(LoadError::unsupported(kind, name)),
        None => Ok(()),
    }
}

fn bpe<R: Read>(mut file: File, open: &mut impl FnMut() -> R) -> Result<Tokenizer, LoadError> {
    let model: &Model = &file.model;
    let says = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    // Every byte has a token, so nothing is ever unknown: `unk_token` and `fuse_unk` have no effect.
    none_of(
        "BPE model",
        &[
            (says(&model.prefix), "continuing_subword_prefix"),
            (says(&model.suffix), "end_of_word_suffix"),
            (model.dropout.is_some_and(|dropout| dropout != 0.0), "dropout"),
            (model.byte_fallback, "byte_fallback"),
            (model.word_characters_max.is_some(), "max_input_chars_per_word"),
            (model.names_unknown_id, "unk_id"),
        ],
    )?;
    parts::byte_level_decoder(&file.decoder)?;
    let compose = parts::composes(&file.normalizer)?;
    let pattern = parts::pattern(&file.pre_tokenizer)?;
    united(&mut file)?;
    let distinct = file.tokens.distinct();
    let ignore_merges = file.model.ignore_merges;
    let parts = ByteLevelParts { tokens: file.tokens, compose, pattern, ignore_merges };
    let found = Found::default();
    let read = byte_level(parts, |list| found.read(open(), merges::Merges::new(list, &found)))?;
    // A merge that makes a control token is the graver mistake of the two, and said first.
    distinct.map(|()| read)
}

fn wordpiece(mut file: File) -> Result<Tokenizer, LoadError> {
    let model: &Model = &file.model;
    if let Some(prefix) = model.prefix.as_deref().filter(|prefix| *prefix != "##") {
        return Err(LoadError::unsupported("WordPiece prefix", prefix));
    }
    let word_characters_max = model.word_characters_max.unwrap_or(100);
    none_of(
        "WordPiece model",
        &[
            (model.suffix.is_some(), "end_of_word_suffix"),
            (model.dropout.is_some(), "dropout"),
            (model.byte_fallback, "byte_fallback"),
            (model.ignore_merges, "ignore_merges"),
            (model.merges > 0, "merges"),
            (model.names_unknown_id, "unk_id"),
            (word_characters_max > WORD_CHARACTERS_MAX, "max_input_chars_per_word"),
        ],
    )?;
    parts::bert_pre_tokenizer(&file.pre_tokenizer)?;
    parts::word_piece_decoder(&file.decoder)?;
    let normalizer = parts::bert_normalizer(&file.normalizer)?;
    united(&mut file)?;
    file.tokens.distinct()?;
    let unknown = file.model.unknown.unwrap_or_else(|| "[UNK]".to_owned());
    word_piece(WordPieceParts { tokens: file.tokens, normalizer, unknown, word_characters_max })
}
