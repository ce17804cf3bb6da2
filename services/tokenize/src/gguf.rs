//! A tokenizer from the metadata of a GGUF file (keys `tokenizer.ggml.*`).
//!
//! The metadata says only the name of the pre-tokeniser; what stands behind a name is known here.

use cloister_domain::TokenId;
use cloister_formats::TokenizerMetadata;

use crate::{
    LoadError, Tokenizer,
    build::{ByteLevelParts, Named, WordPieceParts, byte_level, word_piece},
    split::Pattern,
    vocabulary::Kind,
    wordpiece::BertNormalizer,
};

impl Tokenizer {
    /// Makes the tokenizer that the metadata describe.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] names a model, pre-tokeniser or token type that is not built; the
    /// others say what is wrong with the vocabulary.
    pub fn from_gguf(file: &TokenizerMetadata) -> Result<Self, LoadError> {
        let mut tokenizer = match file.model.as_str() {
            "gpt2" => bpe(file)?,
            "bert" => bert(file)?,
            other => return Err(LoadError::unsupported("tokenizer.ggml.model", other)),
        };
        let special = [file.bos, file.eos, file.unknown, file.separator];
        if special.into_iter().flatten().any(|id| text(file, id).is_none()) {
            return Err(LoadError::Dangling { part: "GGUF metadata" });
        }
        let bert = file.model == "bert";
        let before = file.bos.filter(|_id| file.add_bos.unwrap_or(bert));
        let after = file.separator.filter(|_id| bert).or(file.eos);
        let after = after.filter(|_id| file.add_eos.unwrap_or(bert));
        let framing = |id: Option<u32>| id.map(TokenId).into_iter().collect();
        tokenizer.frame = (framing(before), framing(after));
        tokenizer.end = file.eos.map(TokenId);
        Ok(tokenizer)
    }
}

fn text(file: &TokenizerMetadata, id: u32) -> Option<&String> {
    file.tokens.get(usize::try_from(id).ok()?)
}

/// Tokens with their kinds; `spell` gives a plain token the form of `tokenizer.json`.
fn tokens(file: &TokenizerMetadata, spell: fn(&str) -> String) -> Result<Vec<Named>, LoadError> {
    if file.types.len() != file.tokens.len() {
        return Err(LoadError::Absent { part: "token types" });
    }
    let named = (0u32..).zip(&file.tokens).zip(&file.types).map(|((id, text), kind)| {
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

fn bpe(file: &TokenizerMetadata) -> Result<Tokenizer, LoadError> {
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
fn bert(file: &TokenizerMetadata) -> Result<Tokenizer, LoadError> {
    let spell = |text: &str| match text.strip_prefix('\u{2581}') {
        Some(start) => start.to_owned(),
        None => format!("##{text}"),
    };
    let unknown = file.unknown.and_then(|id| text(file, id));
    let unknown = unknown.ok_or(LoadError::Absent { part: "unknown token" })?.clone();
    word_piece(WordPieceParts {
        tokens: tokens(file, spell)?,
        // The format has no key for it; llama.cpp knows only this one.
        normalizer: BertNormalizer { clean: true, ideographs: true, accents: true, lower: true },
        unknown,
        word_characters_max: 100,
    })
}
