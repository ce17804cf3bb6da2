//! Byte-level BPE: learns merges from text, encodes and decodes, writes `tokenizer.json`.
//!
//! Words are cut as Qwen2's pre-tokeniser does (the regular expression below), so that each digit is a
//! token of its own and codes are copied digit by digit. Content never becomes a control token:
//! [`Bpe::encode`] knows bytes and merges only, and control tokens are pushed by id.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Qwen2's pattern, as `tokenizer.json` carries it.
const PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The control tokens, in the order of their ids, which follow the learnt tokens.
pub const CONTROLS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// A token's id.
pub type Id = u32;

/// A learnt vocabulary: 256 bytes, then one token for each merge, then [`CONTROLS`].
#[derive(Debug, Clone)]
pub struct Bpe {
    merges: Vec<(Id, Id)>,
    ranks: BTreeMap<(Id, Id), Id>,
    bytes: Vec<Vec<u8>>,
    seen: BTreeMap<Vec<u8>, Vec<Id>>,
}

impl Bpe {
    /// Learns `vocabulary - 256 - 3` merges from `text`: the most frequent pair each time, the
    /// smaller ids where two are equally frequent (Sennrich et al. 2016, section 3.2).
    ///
    /// Ends earlier when no pair occurs twice.
    #[must_use]
    pub fn learn(text: &str, vocabulary: usize) -> Self {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for word in words(text) {
            *counts.entry(word).or_default() += 1;
        }
        let mut pieces: Vec<(Vec<Id>, usize)> =
            counts.iter().map(|(word, n)| (word.bytes().map(Id::from).collect(), *n)).collect();
        let mut pairs: BTreeMap<(Id, Id), usize> = BTreeMap::new();
        for (ids, n) in &pieces {
            count(&mut pairs, ids, |held| held + n);
        }
        let mut merges = Vec::new();
        while merges.len() + 256 + CONTROLS.len() < vocabulary {
            let best = pairs.iter().max_by(|a, b| a.1.cmp(b.1).then(b.0.cmp(a.0)));
            let Some(pair) = best.filter(|(_, n)| **n > 1).map(|(pair, _)| *pair) else { break };
            let made = Id::try_from(256 + merges.len()).expect("a vocabulary is small");
            for (ids, n) in &mut pieces {
                if ids.windows(2).any(|w| (w[0], w[1]) == pair) {
                    count(&mut pairs, ids, |held| held - *n);
                    replace(ids, pair, made);
                    count(&mut pairs, ids, |held| held + *n);
                }
            }
            merges.push(pair);
        }
        Self::from_merges(merges)
    }

    /// The vocabulary of these merges, in their order.
    #[must_use]
    pub fn from_merges(merges: Vec<(Id, Id)>) -> Self {
        let mut bytes: Vec<Vec<u8>> = (0..=255u8).map(|b| vec![b]).collect();
        let mut ranks = BTreeMap::new();
        for (rank, (left, right)) in merges.iter().enumerate() {
            let joined = [bytes[*left as usize].as_slice(), &bytes[*right as usize]].concat();
            bytes.push(joined);
            ranks.insert((*left, *right), Id::try_from(256 + rank).expect("small"));
        }
        Self { merges, ranks, bytes, seen: BTreeMap::new() }
    }

    /// How many ids there are, control tokens included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.bytes.len() + CONTROLS.len()
    }

    /// The id of the `nth` of [`CONTROLS`].
    #[must_use]
    pub fn control(&self, nth: usize) -> Id {
        Id::try_from(self.bytes.len() + nth).expect("small")
    }

    /// The token that stands between texts.
    #[must_use]
    pub fn end_of_text(&self) -> Id {
        self.control(0)
    }

    /// The tokens of `text`, none of them a control token.
    pub fn encode(&mut self, text: &str) -> Vec<Id> {
        let mut out = Vec::with_capacity(text.len() / 3);
        for word in words(text) {
            if let Some(known) = self.seen.get(word.as_bytes()) {
                out.extend_from_slice(known);
                continue;
            }
            let ids = self.encode_word(word.as_bytes());
            out.extend_from_slice(&ids);
            self.seen.insert(word.as_bytes().to_vec(), ids);
        }
        out
    }

    fn encode_word(&self, word: &[u8]) -> Vec<Id> {
        let mut ids: Vec<Id> = word.iter().map(|b| Id::from(*b)).collect();
        while let Some((made, pair)) = ids
            .windows(2)
            .filter_map(|w| self.ranks.get(&(w[0], w[1])).map(|m| (*m, (w[0], w[1]))))
            .min()
        {
            replace(&mut ids, pair, made);
        }
        ids
    }

    /// The bytes of `ids`; control tokens have none.
    #[must_use]
    pub fn decode(&self, ids: &[Id]) -> Vec<u8> {
        ids.iter().filter_map(|id| self.bytes.get(*id as usize)).flatten().copied().collect()
    }

    /// `tokenizer.json`, in the format of the Python package `tokenizers`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let names: Vec<String> = self.bytes.iter().map(|b| printable(b)).collect();
        let vocab: serde_json::Map<String, Value> =
            names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
        let merges: Vec<Value> = self
            .merges
            .iter()
            .map(|(l, r)| json!([names[*l as usize], names[*r as usize]]))
            .collect();
        let added: Vec<Value> = CONTROLS
            .iter()
            .enumerate()
            .map(|(nth, content)| {
                json!({"id": self.control(nth), "content": content, "single_word": false, "lstrip": false,
                       "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": false}, byte_level]},
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                      "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": vocab, "merges": merges}
        })
    }

    /// Reads what [`Bpe::to_json`] wrote; `None` when it is anything else.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        let vocab = value["model"]["vocab"].as_object()?;
        let id = |name: &Value| Id::try_from(vocab.get(name.as_str()?)?.as_u64()?).ok();
        let mut merges = Vec::new();
        for pair in value["model"]["merges"].as_array()? {
            merges.push((id(&pair[0])?, id(&pair[1])?));
        }
        let read = Self::from_merges(merges);
        (read.to_json() == *value).then_some(read)
    }
}

fn count(pairs: &mut BTreeMap<(Id, Id), usize>, ids: &[Id], change: impl Fn(usize) -> usize) {
    for pair in ids.windows(2) {
        let held = pairs.entry((pair[0], pair[1])).or_default();
        *held = change(*held);
    }
}

fn replace(ids: &mut Vec<Id>, pair: (Id, Id), made: Id) {
    if ids.len() < 2 {
        return;
    }
    let mut kept = 0;
    let mut at = 0;
    while at < ids.len() {
        if at + 1 < ids.len() && (ids[at], ids[at + 1]) == pair {
            ids[kept] = made;
            at += 2;
        } else {
            ids[kept] = ids[at];
            at += 1;
        }
        kept += 1;
    }
    ids.truncate(kept);
}

/// Bytes as GPT-2 writes them in a vocabulary: printable Latin-1 as itself, the others from U+0100 up.
fn printable(bytes: &[u8]) -> String {
    let plain = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    bytes
        .iter()
        .map(|b| {
            if plain(*b) {
                char::from(*b)
            } else {
                let before = (0..*b).filter(|other| !plain(*other)).count();
                u32::try_from(before)
                    .ok()
                    .and_then(|n| char::from_u32(0x100 + n))
                    .expect("68 of them")
            }
        })
        .collect()
}

/// Cuts `text` as `PATTERN` does.
///
/// Letters and numbers are Rust's `is_alphabetic` and `is_numeric`, which differ from `\p{L}` and
/// `\p{N}` only outside of what the training text holds; the tests compare with the real pattern's
/// results on such text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (word, after) = rest.split_at(word_len(rest));
        rest = after;
        Some(word)
    })
}

fn run(text: &str, of: impl Fn(char) -> bool) -> usize {
    text.find(|c| !of(c)).unwrap_or(text.len())
}

fn letter(c: char) -> bool {
    c.is_alphabetic()
}

fn sign(c: char) -> bool {
    !c.is_whitespace() && !c.is_alphabetic() && !c.is_numeric()
}

fn line_end(c: char) -> bool {
    c == '\r' || c == '\n'
}

/// What follows the first `bytes` of `text`, which end a character.
fn after(text: &str, bytes: usize) -> &str {
    text.split_at(bytes).1
}

fn word_len(text: &str) -> usize {
    let first = text.chars().next().expect("not empty");
    let after_first = after(text, first.len_utf8());
    if first == '\'' {
        let lower: String = after_first.chars().take(2).collect::<String>().to_lowercase();
        let tails = ["s", "t", "re", "ve", "m", "ll", "d"];
        if let Some(tail) = tails.iter().find(|tail| lower.starts_with(**tail)) {
            return 1 + tail.len();
        }
    }
    if letter(first) {
        return run(text, letter);
    }
    if first.is_numeric() {
        return first.len_utf8();
    }
    if !line_end(first) && after_first.starts_with(letter) {
        return first.len_utf8() + run(after_first, letter);
    }
    let signs_at = usize::from(first == ' ');
    let signs = run(after(text, signs_at), sign);
    if signs > 0 {
        let end = signs_at + signs;
        return end + run(after(text, end), line_end);
    }
    let (blank, rest) = text.split_at(run(text, char::is_whitespace));
    if let Some(last) = blank.rfind(line_end) {
        return last + 1;
    }
    // `\s+(?!\S)`: all of the white space, without its last character when a word follows.
    let last = blank.chars().next_back().expect("white space came first").len_utf8();
    if !rest.is_empty() && blank.len() > last { blank.len() - last } else { blank.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_as_the_pattern_says() {
        let cut = |t| words(t).collect::<Vec<_>>();
        assert_eq!(cut("Room 214's door"), ["Room", " ", "2", "1", "4", "'s", " door"]);
        assert_eq!(cut("a  b\n\n[1] c."), ["a", " ", " b", "\n\n", "[", "1", "]", " c", "."]);
        assert_eq!(cut("(see x) --\n\ny "), ["(see", " x", ")", " --\n\n", "y", " "]);
        assert_eq!(cut(" \n  x"), [" \n", " ", " x"]);
    }

    #[test]
    fn learnt_text_is_encoded_shorter_and_decodes_to_itself() {
        let text = "the badge office is in the badge building, the badge is blue.\n".repeat(20);
        let mut bpe = Bpe::learn(&text, 300);
        let ids = bpe.encode(&text);
        assert!(ids.len() * 2 < text.len());
        assert_eq!(bpe.decode(&ids), text.as_bytes());
        let again = Bpe::from_json(&bpe.to_json()).unwrap();
        assert_eq!(again.vocabulary(), bpe.vocabulary());
        let odd = "<|im_end|> \u{2603} \u{0}";
        assert_eq!(bpe.decode(&bpe.clone().encode(odd)), odd.as_bytes());
        assert!(bpe.encode(odd).iter().all(|id| *id < bpe.control(0)));
    }
}
