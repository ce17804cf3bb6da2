//! A tokenizer from the metadata of a GGUF file (keys `tokenizer.ggml.*`).
//!
//! The metadata says only the name of the pre-tokeniser; what stands behind a name is known here.

use std::borrow::Cow;

use cloister_domain::TokenId;
use cloister_formats::TokenizerMetadata;

use crate::{
    LoadError, Tokenizer,
    build::{ByteLevelParts, WordPieceParts, byte_level, word_piece},
    split::Pattern,
    vocabulary::{Kind, Listed},
    wordpiece::BertNormalizer,
};

impl Tokenizer {
    /// Makes the tokenizer that the metadata describe.
    ///
    /// # Errors
    /// [`LoadError::Unsupported`] names a model, pre-tokeniser or token type that is not built; the
    /// others say what is wrong with the vocabulary.
    pub fn from_gguf(mut file: TokenizerMetadata) -> Result<Self, LoadError> {
        let special = [file.bos, file.eos, file.unknown, file.separator];
        let dangles = special.into_iter().flatten().any(|id| text(&file, id).is_none());
        let mut tokenizer = match file.model.as_str() {
            "gpt2" => bpe(&mut file)?,
            "bert" => bert(&mut file)?,
            other => return Err(LoadError::unsupported("tokenizer.ggml.model", other)),
        };
        if dangles {
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

fn text(file: &TokenizerMetadata, id: u32) -> Option<&str> {
    file.tokens.get(usize::try_from(id).ok()?)
}

/// Tokens with their kinds, which the metadata are left without; `spell` gives a plain token the form
/// of `tokenizer.json`.
fn tokens(
    file: &mut TokenizerMetadata,
    spell: impl Fn(&str) -> Cow<'_, str>,
) -> Result<Listed, LoadError> {
    if file.types.len() != file.tokens.len() {
        return Err(LoadError::Absent { part: "token types" });
    }
    let (texts, kinds) = (std::mem::take(&mut file.tokens), std::mem::take(&mut file.types));
    let mut listed = Listed::default();
    for ((id, text), kind) in (0u32..).zip(texts.iter()).zip(kinds) {
        let kind = match kind {
            1 => Kind::Plain,
            2 | 3 => Kind::Control,
            4 => Kind::Added,
            5 => Kind::Unused,
            other => {
                return Err(LoadError::unsupported("token type", other.to_string()));
            }
        };
        let text = if kind == Kind::Plain { spell(text) } else { Cow::Borrowed(text) };
        listed.push(id, &text, kind)?;
    }
    Ok(listed)
}

fn bpe(file: &mut TokenizerMetadata) -> Result<Tokenizer, LoadError> {
    const PRE: &str = "tokenizer.ggml.pre";
    let pre = file.pre.as_deref().ok_or(LoadError::Absent { part: PRE })?;
    // What the models' own `tokenizer.json` say beside the pattern.
    let (pattern, compose, ignore_merges) = match pre {
        "gpt-2" => (Pattern::Gpt2, false, false),
        "llama-bpe" => (Pattern::Llama3, false, true),
        "qwen2" => (Pattern::Qwen2, true, false),
        other => return Err(LoadError::unsupported(PRE, other)),
    };
    let tokens = tokens(file, |text| Cow::Borrowed(text))?;
    let merges = &file.merges;
    byte_level(ByteLevelParts { tokens, compose, pattern, ignore_merges }, |list| {
        merges.iter().try_for_each(|merge| {
            let index = list.len();
            let (left, right) = merge.split_once(' ').ok_or(LoadError::Merge { index })?;
            list.push(left, right)
        })
    })
}

/// GGUF marks the beginning of a word with U+2581 where `tokenizer.json` marks its continuation.
fn bert(file: &mut TokenizerMetadata) -> Result<Tokenizer, LoadError> {
    fn spell(text: &str) -> Cow<'_, str> {
        match text.strip_prefix('\u{2581}') {
            Some(start) => Cow::Borrowed(start),
            None => Cow::Owned(format!("##{text}")),
        }
    }
    let unknown = file.unknown.and_then(|id| text(file, id));
    let unknown = unknown.ok_or(LoadError::Absent { part: "unknown token" })?.to_owned();
    word_piece(WordPieceParts {
        tokens: tokens(file, spell)?,
        // The format has no key for it; llama.cpp knows only this one.
        normalizer: BertNormalizer { clean: true, ideographs: true, accents: true, lower: true },
        unknown,
        word_characters_max: 100,
    })
}
