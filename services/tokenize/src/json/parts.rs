//! The small parts of `tokenizer.json`: each is recognised whole or refused by name.

use cloister_domain::TokenId;
use serde::Deserialize;
use serde_json::Value;

use crate::{LoadError, Tokenizer, split::Pattern, wordpiece::BertNormalizer};

/// The `type` of a part, or what stands in its place.
fn name(part: &Value) -> &str {
    match part {
        Value::Null => "none",
        other => other.get("type").and_then(Value::as_str).unwrap_or("without a type"),
    }
}

/// The members of a `Sequence` part, or the part alone.
fn members<'a>(part: &'a Value, key: &str) -> Vec<&'a Value> {
    match part.get(key).and_then(Value::as_array) {
        Some(list) if name(part) == "Sequence" => list.iter().collect(),
        _ => vec![part],
    }
}

/// Reads a part whose keys are all known.
fn read<'de, T: Deserialize<'de>>(
    construct: &'static str,
    part: &'de Value,
) -> Result<T, LoadError> {
    T::deserialize(part).map_err(|_quotes_the_file| LoadError::unsupported(construct, name(part)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ByteLevel {
    #[serde(rename = "type")]
    _kind: String,
    #[serde(default)]
    add_prefix_space: bool,
    #[serde(rename = "trim_offsets")]
    _trim_offsets: Option<bool>,
    #[serde(default = "yes")]
    use_regex: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    #[serde(rename = "type")]
    _kind: String,
    pattern: SplitPattern,
    behavior: String,
    invert: bool,
}

#[derive(Deserialize)]
enum SplitPattern {
    Regex(String),
    String(String),
}

/// The pattern of a byte-level pre-tokeniser.
pub(super) fn pattern(part: &Value) -> Result<Pattern, LoadError> {
    const WHAT: &str = "pre-tokeniser";
    let members = members(part, "pretokenizers");
    let (split, bytes) = match members.as_slice() {
        [bytes] => (None, bytes),
        [split, bytes] => (Some(split), bytes),
        _ => return Err(LoadError::unsupported(WHAT, "Sequence of three or more")),
    };
    if name(bytes) != "ByteLevel" {
        return Err(LoadError::unsupported(WHAT, name(bytes)));
    }
    let bytes: ByteLevel = read(WHAT, bytes)?;
    if bytes.add_prefix_space {
        return Err(LoadError::unsupported(WHAT, "ByteLevel with add_prefix_space"));
    }
    let Some(split) = split else {
        return match bytes.use_regex {
            true => Ok(Pattern::Gpt2),
            false => Err(LoadError::unsupported(WHAT, "ByteLevel without use_regex")),
        };
    };
    if name(split) != "Split" {
        return Err(LoadError::unsupported(WHAT, name(split)));
    }
    let split: Split = read(WHAT, split)?;
    if split.behavior != "Isolated" || split.invert || bytes.use_regex {
        return Err(LoadError::unsupported(WHAT, format!("Split that is {}", split.behavior)));
    }
    match split.pattern {
        SplitPattern::Regex(regex) => {
            Pattern::of_regex(&regex).ok_or_else(|| LoadError::unsupported(WHAT, regex))
        }
        SplitPattern::String(text) => Err(LoadError::unsupported(WHAT, text)),
    }
}

/// Whether a byte-level tokenizer composes its text to NFC.
pub(super) fn composes(part: &Value) -> Result<bool, LoadError> {
    match members(part, "normalizers").as_slice() {
        [] | [Value::Null] => Ok(false),
        [one] if name(one) == "NFC" => Ok(true),
        [one] => Err(LoadError::unsupported("normaliser", name(one))),
        _ => Err(LoadError::unsupported("normaliser", "Sequence of two or more")),
    }
}

/// The decoder of a byte-level tokenizer is the byte alphabet, or is not said.
pub(super) fn byte_level_decoder(part: &Value) -> Result<(), LoadError> {
    match name(part) {
        "ByteLevel" | "none" => Ok(()),
        other => Err(LoadError::unsupported("decoder", other)),
    }
}

/// BERT's decoder, or none.
pub(super) fn word_piece_decoder(part: &Value) -> Result<(), LoadError> {
    match name(part) {
        "WordPiece" | "none" => Ok(()),
        other => Err(LoadError::unsupported("decoder", other)),
    }
}

/// BERT's pre-tokeniser.
pub(super) fn bert_pre_tokenizer(part: &Value) -> Result<(), LoadError> {
    match name(part) {
        "BertPreTokenizer" => Ok(()),
        other => Err(LoadError::unsupported("pre-tokeniser", other)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bert {
    #[serde(rename = "type")]
    _kind: String,
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

/// BERT's normaliser.
pub(super) fn bert_normalizer(part: &Value) -> Result<BertNormalizer, LoadError> {
    if name(part) != "BertNormalizer" {
        return Err(LoadError::unsupported("normaliser", name(part)));
    }
    let bert: Bert = read("normaliser", part)?;
    Ok(BertNormalizer {
        clean: bert.clean_text,
        ideographs: bert.handle_chinese_chars,
        // Unless it is said, accents go exactly when case goes (Google's `tokenization.py`).
        accents: bert.strip_accents.unwrap_or(bert.lowercase),
        lower: bert.lowercase,
    })
}

/// What a post-processor puts before and after a text.
pub(super) type Frame = (Vec<TokenId>, Vec<TokenId>);

/// The frame that the post-processors put around a single text.
pub(super) fn frame(part: &Value, tokenizer: &Tokenizer) -> Result<Frame, LoadError> {
    const WHAT: &str = "post-processor";
    let mut frame = (Vec::new(), Vec::new());
    for member in members(part, "processors") {
        match name(member) {
            // It moves offsets, which nobody here asks for.
            "none" | "ByteLevel" => {}
            "TemplateProcessing" => frame = template(member, tokenizer)?,
            "BertProcessing" => {
                let end = |key: &str| {
                    let id = member.get(key).and_then(|pair| pair.get(1)).and_then(Value::as_u64);
                    id.and_then(|id| u32::try_from(id).ok())
                        .map(TokenId)
                        .filter(|id| (id.0 as usize) < tokenizer.vocabulary_size())
                        .ok_or(LoadError::Dangling { part: WHAT })
                };
                frame = (vec![end("cls")?], vec![end("sep")?]);
            }
            other => return Err(LoadError::unsupported(WHAT, other)),
        }
    }
    Ok(frame)
}

/// `TemplateProcessing`: the items of `single`, with one sequence `A` among special tokens.
fn template(part: &Value, tokenizer: &Tokenizer) -> Result<Frame, LoadError> {
    const WHAT: &str = "post-processor";
    let items = part.get("single").and_then(Value::as_array);
    let items = items.ok_or_else(|| LoadError::unsupported(WHAT, name(part)))?;
    let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
    for item in items {
        if let Some(special) = item.pointer("/SpecialToken/id").and_then(Value::as_str) {
            let ids = part.get("special_tokens").and_then(|all| all.get(special)?.get("ids"));
            let side = if seen { &mut after } else { &mut before };
            for id in ids.and_then(Value::as_array).into_iter().flatten() {
                let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).map(TokenId);
                let id = id.filter(|id| (id.0 as usize) < tokenizer.vocabulary_size());
                side.push(id.ok_or(LoadError::Dangling { part: WHAT })?);
            }
        } else if item.pointer("/Sequence/id").and_then(Value::as_str) == Some("A") && !seen {
            seen = true;
        } else {
            return Err(LoadError::unsupported(WHAT, "TemplateProcessing of another shape"));
        }
    }
    if seen { Ok((before, after)) } else { Err(LoadError::Absent { part: "text of the frame" }) }
}
