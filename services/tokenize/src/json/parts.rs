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
fn members<'a>(part: &'a Value, key: &str) -> Result<Vec<&'a Value>, LoadError> {
    match part.get(key).and_then(Value::as_array) {
        Some(list) if name(part) == "Sequence" => {
            only("Sequence", part, &["type", key])?;
            Ok(list.iter().collect())
        }
        _ => Ok(vec![part]),
    }
}

/// Refuses a part with another key than these.
fn only(construct: &'static str, part: &Value, keys: &[&str]) -> Result<(), LoadError> {
    let strange =
        part.as_object().and_then(|all| all.keys().find(|key| !keys.contains(&key.as_str())));
    strange.map_or(Ok(()), |key| Err(LoadError::unsupported(construct, key)))
}

/// Refuses a part that must not be there.
pub(super) fn absent(construct: &'static str, part: &Value) -> Result<(), LoadError> {
    if part.is_null() {
        Ok(())
    } else {
        Err(LoadError::unsupported(construct, "of a model that writes; set it to null"))
    }
}

/// The version of the format is 1.0, or is not said.
pub(super) fn version(part: &Value) -> Result<(), LoadError> {
    match part {
        Value::Null => Ok(()),
        Value::String(text) if text == "1.0" => Ok(()),
        other => Err(LoadError::unsupported("version", other.as_str().unwrap_or("no text"))),
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
    let members = members(part, "pretokenizers")?;
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
    match members(part, "normalizers")?.as_slice() {
        [] | [Value::Null] => Ok(false),
        [one] if name(one) == "NFC" => only("normaliser", one, &["type"]).map(|()| true),
        [one] => Err(LoadError::unsupported("normaliser", name(one))),
        _ => Err(LoadError::unsupported("normaliser", "Sequence of two or more")),
    }
}

/// The decoder of a byte-level tokenizer is the byte alphabet, or is not said. What else it says is about
/// offsets and the beginning of a text, and changes nothing of what is printed.
pub(super) fn byte_level_decoder(part: &Value) -> Result<(), LoadError> {
    match name(part) {
        "ByteLevel" => read::<ByteLevel>("decoder", part).map(drop),
        "none" => Ok(()),
        other => Err(LoadError::unsupported("decoder", other)),
    }
}

/// BERT's decoder, or none. What it cleans up concerns printed text, and an encoder prints none.
pub(super) fn word_piece_decoder(part: &Value) -> Result<(), LoadError> {
    match name(part) {
        "WordPiece" => {
            only("decoder", part, &["type", "prefix", "cleanup"])?;
            match part.get("prefix").and_then(Value::as_str) {
                Some("##") | None => Ok(()),
                Some(prefix) => Err(LoadError::unsupported("decoder prefix", prefix)),
            }
        }
        "none" => Ok(()),
        other => Err(LoadError::unsupported("decoder", other)),
    }
}

/// BERT's pre-tokeniser.
pub(super) fn bert_pre_tokenizer(part: &Value) -> Result<(), LoadError> {
    match name(part) {
        "BertPreTokenizer" => only("pre-tokeniser", part, &["type"]),
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Truncation {
    direction: Option<String>,
    max_length: usize,
    strategy: String,
    stride: usize,
}

/// Fewest tokens after which a text may be cut: fewer leave nothing of it.
const LONGEST_MIN: usize = 32;

/// The length at which texts are cut, if they are.
pub(super) fn longest(part: &Value) -> Result<Option<usize>, LoadError> {
    const WHAT: &str = "truncation";
    if part.is_null() {
        return Ok(None);
    }
    let truncation: Truncation = read(WHAT, part)?;
    let right = truncation.direction.as_deref().is_none_or(|direction| direction == "Right");
    // Two texts, of which one is cut first, never stand together here.
    let known = matches!(truncation.strategy.as_str(), "LongestFirst" | "OnlyFirst");
    if !right || !known || truncation.stride != 0 {
        return Err(LoadError::unsupported(
            WHAT,
            "with a stride, from the left, or of a second text",
        ));
    }
    if truncation.max_length < LONGEST_MIN {
        let length = format!("max_length {}, fewer than {LONGEST_MIN}", truncation.max_length);
        return Err(LoadError::unsupported(WHAT, length));
    }
    Ok(Some(truncation.max_length))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Padding {
    #[serde(rename = "strategy")]
    _strategy: Value,
    #[serde(rename = "direction")]
    _direction: String,
    #[serde(rename = "pad_to_multiple_of")]
    _multiple: Option<usize>,
    #[serde(rename = "pad_type_id")]
    _segment: u32,
    pad_id: u32,
    pad_token: String,
}

/// Padding names a special token. It has no effect: texts go through the encoder without any, and a
/// padded place would be masked.
pub(super) fn padding(part: &Value, tokenizer: &Tokenizer) -> Result<(), LoadError> {
    const WHAT: &str = "padding";
    if part.is_null() {
        return Ok(());
    }
    let padding: Padding = read(WHAT, part)?;
    if is_special(tokenizer, TokenId(padding.pad_id), &padding.pad_token) {
        Ok(())
    } else {
        Err(LoadError::Dangling { part: WHAT })
    }
}

/// Whether `id` is the special token `name`: one that the file adds as such, or `[NAME]` of the
/// vocabulary, which no text becomes, since a bracket is a word of its own to BERT.
fn is_special(tokenizer: &Tokenizer, id: TokenId, name: &str) -> bool {
    let bracketed = name.len() > 2 && name.starts_with('[') && name.ends_with(']');
    tokenizer.vocabulary.bytes(id) == name.as_bytes() && (bracketed || tokenizer.is_control(id))
}

/// What a post-processor puts before and after a text.
pub(super) type Frame = (Vec<TokenId>, Vec<TokenId>);

/// Most tokens of a frame; published ones have two.
const FRAME_MAX: usize = 16;

/// The frame that the post-processors put around a single text.
pub(super) fn frame(part: &Value, tokenizer: &Tokenizer) -> Result<Frame, LoadError> {
    const WHAT: &str = "post-processor";
    let mut frame = None;
    for member in members(part, "processors")? {
        let own = match name(member) {
            "none" => continue,
            // It moves offsets, which nobody here asks for.
            "ByteLevel" => {
                read::<ByteLevel>(WHAT, member)?;
                continue;
            }
            "TemplateProcessing" => template(member, tokenizer)?,
            "BertProcessing" => bert(member, tokenizer)?,
            other => return Err(LoadError::unsupported(WHAT, other)),
        };
        if frame.replace(own).is_some() {
            return Err(LoadError::unsupported(WHAT, "Sequence of two frames"));
        }
    }
    let (before, after) = frame.unwrap_or_default();
    let count = before.len() + after.len();
    if count > FRAME_MAX {
        return Err(LoadError::TooMany { what: "tokens around a text", count, max: FRAME_MAX });
    }
    Ok((before, after))
}

/// A special token of a frame, by id and name: plain words that nobody wrote are not put into a text.
fn special(id: &Value, name: &Value, tokenizer: &Tokenizer) -> Result<TokenId, LoadError> {
    let id = id.as_u64().and_then(|id| u32::try_from(id).ok()).map(TokenId);
    let id = id.filter(|id| name.as_str().is_some_and(|name| is_special(tokenizer, *id, name)));
    id.ok_or(LoadError::Dangling { part: "post-processor" })
}

/// `BertProcessing`: a pair of text and id before, and one after.
fn bert(part: &Value, tokenizer: &Tokenizer) -> Result<Frame, LoadError> {
    only("post-processor", part, &["type", "sep", "cls"])?;
    let end = |key: &str| match part.get(key).and_then(Value::as_array).map(Vec::as_slice) {
        Some([name, id]) => Ok(vec![special(id, name, tokenizer)?]),
        _ => Err(LoadError::Dangling { part: "post-processor" }),
    };
    Ok((end("cls")?, end("sep")?))
}

/// `TemplateProcessing`: the items of `single`, with one sequence `A` among special tokens, all of the
/// first segment. What it says about pairs has no effect: two texts never stand together.
fn template(part: &Value, tokenizer: &Tokenizer) -> Result<Frame, LoadError> {
    const WHAT: &str = "post-processor";
    only(WHAT, part, &["type", "single", "pair", "special_tokens"])?;
    let items = part.get("single").and_then(Value::as_array);
    let items = items.ok_or_else(|| LoadError::unsupported(WHAT, name(part)))?;
    let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
    for item in items {
        let segments = ["/SpecialToken/type_id", "/Sequence/type_id"];
        let segments = segments.into_iter().filter_map(|place| item.pointer(place));
        if segments.into_iter().any(|segment| segment.as_u64() != Some(0)) {
            return Err(LoadError::unsupported(WHAT, "TemplateProcessing of another segment"));
        }
        if let Some(text) = item.pointer("/SpecialToken/id").and_then(Value::as_str) {
            let named = part.get("special_tokens").and_then(|all| all.get(text));
            let list = |key| named.and_then(|named| named.get(key)).and_then(Value::as_array);
            let (Some(ids), Some(names)) = (list("ids"), list("tokens")) else {
                return Err(LoadError::Dangling { part: WHAT });
            };
            if ids.len() != names.len() {
                return Err(LoadError::Dangling { part: WHAT });
            }
            let side = if seen { &mut after } else { &mut before };
            for (id, name) in ids.iter().zip(names) {
                side.push(special(id, name, tokenizer)?);
            }
        } else if item.pointer("/Sequence/id").and_then(Value::as_str) == Some("A") && !seen {
            seen = true;
        } else {
            return Err(LoadError::unsupported(WHAT, "TemplateProcessing of another shape"));
        }
    }
    if seen { Ok((before, after)) } else { Err(LoadError::Absent { part: "text of the frame" }) }
}
