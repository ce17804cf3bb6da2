//! A tokenizer from the metadata of a GGUF file (keys `tokenizer.ggml.*`).
//!
//! The metadata says only the name of the pre-tokeniser; what stands behind a name is known here.

use cloister_domain::TokenId;

use crate::{
    LoadError, Tokenizer,
    build::{ByteLevelParts, Named, WordPieceParts, byte_level, word_piece},
    split::Pattern,
    vocabulary::Kind,
    wordpiece::BertNormalizer,
};

/// The metadata, as the caller took it from the file.
#[derive(Clone, Debug, Default)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `bert` (WordPiece).
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id (llama.cpp's `llama_token_type`, 1 to 6).
    pub token_types: Vec<i32>,
    /// `tokenizer.ggml.merges`, each two tokens with a space between.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`; for `bert` also known as `cls_token_id`.
    pub bos: Option<TokenId>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos: Option<TokenId>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unknown: Option<TokenId>,
    /// `tokenizer.ggml.seperator_token_id` (spelled so in the format).
    pub separator: Option<TokenId>,
    /// `tokenizer.ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
}

impl Tokenizer {
    /// Makes the tokenizer that the metadata describe.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] names a model, pre-tokeniser or token type that is not built; the
    /// others say what is wrong with the vocabulary.
    pub fn from_gguf(file: &GgufVocabulary) -> Result<Self, LoadError> {
        let mut tokenizer = match file.model.as_str() {
            "gpt2" => bpe(file)?,
            "bert" => bert(file)?,
            other => return Err(LoadError::unsupported("tokenizer.ggml.model", other)),
        };
        let exists = |id: TokenId| (id.0 as usize) < file.tokens.len();
        for id in [file.bos, file.eos, file.unknown, file.separator].into_iter().flatten() {
            if !exists(id) {
                return Err(LoadError::Dangling { part: "GGUF metadata" });
            }
        }
        let bert = file.model == "bert";
        let before = file.bos.filter(|_id| file.add_bos.unwrap_or(bert));
        let after = file.separator.filter(|_id| bert).or(file.eos);
        let after = after.filter(|_id| file.add_eos.unwrap_or(bert));
        tokenizer.frame = (before.into_iter().collect(), after.into_iter().collect());
        tokenizer.end = file.eos;
        Ok(tokenizer)
    }
}

/// Tokens with their kinds; `spell` gives a plain token the form of `tokenizer.json`.
fn tokens(file: &GgufVocabulary, spell: fn(&str) -> String) -> Result<Vec<Named>, LoadError> {
    if file.token_types.len() != file.tokens.len() {
        return Err(LoadError::Absent { part: "token types" });
    }
    let named = (0u32..).zip(&file.tokens).zip(&file.token_types).map(|((id, text), kind)| {
        let kind = match kind {
            1 => Kind::Plain,
            2 | 3 => Kind::Control,
            4 => Kind::Added,
            5 => Kind::Unused,
            other => {
                return Err(LoadError::unsupported("token type", other.to_string()));
            }
        };
        let text = if kind == Kind::Plain { spell(text) } else { text.clone() };
        Ok(Named { id: TokenId(id), text, kind })
    });
    named.collect()
}

fn bpe(file: &GgufVocabulary) -> Result<Tokenizer, LoadError> {
    const PRE: &str = "tokenizer.ggml.pre";
    let pre = file.pre.as_deref().ok_or(LoadError::Absent { part: PRE })?;
    // What the models' own `tokenizer.json` say beside the pattern.
    let (pattern, compose, ignore_merges) = match pre {
        "gpt-2" => (Pattern::Gpt2, false, false),
        "llama-bpe" => (Pattern::Llama3, false, true),
        "qwen2" => (Pattern::Qwen2, true, false),
        other => return Err(LoadError::unsupported(PRE, other)),
    };
    let merges = file.merges.iter().enumerate().map(|(index, merge)| {
        let (left, right) = merge.split_once(' ').ok_or(LoadError::Merge { index })?;
        Ok((left.to_owned(), right.to_owned()))
    });
    let merges = merges.collect::<Result<_, LoadError>>()?;
    let tokens = tokens(file, str::to_owned)?;
    byte_level(ByteLevelParts { tokens, merges, compose, pattern, ignore_merges })
}

/// GGUF marks the beginning of a word with U+2581 where `tokenizer.json` marks its continuation.
fn bert(file: &GgufVocabulary) -> Result<Tokenizer, LoadError> {
    let spell = |text: &str| match text.strip_prefix('\u{2581}') {
        Some(start) => start.to_owned(),
        None => format!("##{text}"),
    };
    let unknown = file.unknown.and_then(|id| file.tokens.get(id.0 as usize));
    let unknown = unknown.ok_or(LoadError::Absent { part: "unknown token" })?.clone();
    word_piece(WordPieceParts {
        tokens: tokens(file, spell)?,
        // The format has no key for it; llama.cpp knows only this one.
        normalizer: BertNormalizer { clean: true, ideographs: true, accents: true, lower: true },
        unknown,
        word_characters_max: 100,
    })
}
