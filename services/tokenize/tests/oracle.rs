//! The same token ids and the same rendered conversations as the Python packages `tokenizers` and
//! `transformers`, for Qwen2.5, Llama 3.2 and MiniLM.
//!
//! What they gave is kept in `tests/fixtures/tokenize/expected`; the models' own files come from the
//! package registries (`fetch.sh` there).
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "fixtures are small and our own")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use cloister_domain::{Digest, TokenId};
use cloister_formats::TokenizerMetadata;
use cloister_tokenize::{
    Decoder, Tokenizer,
    template::{Names, Piece, Speaker, Template, Turn},
};
use serde_json::Value;

/// The folder of this test's fixtures.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenize")
}

/// A file of a model, fetched once for all tests.
fn fetched(model: &str, file: &str) -> String {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("fixtures");
        let status = Command::new(fixtures().join("fetch.sh")).arg(&folder).status().unwrap();
        assert!(status.success(), "tests/fixtures/tokenize/fetch.sh needs npm, python3 and pip");
        folder
    });
    fs::read_to_string(folder.join(model).join(file)).unwrap()
}

fn tokenizer(model: &str) -> Tokenizer {
    Tokenizer::from_json(&fetched(model, "tokenizer.json")).unwrap()
}

/// splitmix64 (Steele, Lea and Flood 2014), as in `make.py`.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from(((z ^ (z >> 31)) >> 11) % bound as u64).unwrap()
    }

    /// A character from `low` on, one of `width`.
    fn character(&mut self, low: u32, width: u32) -> char {
        let offset = u32::try_from(self.below(width as usize)).unwrap();
        char::from_u32(low + offset).unwrap()
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

const RANGES: [(u32, u32); 19] = [
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x300, 0x36F),
    (0x370, 0x52F),
    (0x590, 0x6FF),
    (0x900, 0xDFF),
    (0xE00, 0xFFF),
    (0x1100, 0x11FF),
    (0x1E00, 0x20FF),
    (0x2100, 0x2BFF),
    (0x3000, 0x33FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFAFF),
    (0xFE00, 0xFFEF),
    (0x10000, 0x1033F),
    (0x1D400, 0x1D7FF),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF),
];
const SPACES: [&str; 12] = [
    " ", "\t", "\n", "\r\n", "\r", "\u{a0}", "\u{3000}", "\u{2028}", "\u{b}", "\u{c}", "\u{200b}",
    "\u{85}",
];
const DIGITS: [u32; 5] = [0x30, 0x660, 0x966, 0xFF10, 0x1D7CE];
const SHORT: [&str; 12] =
    ["'s", "'S", "'LL", "'ll", "'\u{17f}", "'Ve", "'d", "don't", "'tis", "'", "\u{2019}s", "'re'm"];
const NAMES: [&str; 12] = [
    "<|im_end|>",
    "<|eot_id|>",
    "[CLS]",
    "<|begin_of_text|>",
    "<tool_call>",
    "[MASK]",
    "<|endoftext|>",
    "##a",
    "[UNK]",
    "<|im_start|>",
    "<|",
    "|>",
];
const SIGNS: [&str; 12] =
    ["{\"a\": 1}", "::<>", "...", "--", "/**/", "!!!", "=>", "#![x]", "\\n", "€£¥", "…", "«»"];

fn piece(r: &mut SplitMix, phrases: &[&str]) -> String {
    match r.below(12) {
        0..=4 => r.of(phrases).to_owned(),
        5 => {
            let phrase: Vec<char> = r.of(phrases).chars().collect();
            let start = r.below(phrase.len());
            phrase.into_iter().skip(start).take(1 + r.below(20)).collect()
        }
        6 => {
            let (low, high) = RANGES[r.below(RANGES.len())];
            let count = 1 + r.below(12);
            (0..count).map(|_| r.character(low, high - low + 1)).collect()
        }
        7 => (0..1 + r.below(8)).map(|_| r.of(&SPACES)).collect(),
        8 => {
            let zero = DIGITS[r.below(DIGITS.len())];
            let count = 1 + r.below(12);
            (0..count).map(|_| r.character(zero, 10)).collect()
        }
        9 => r.of(&SHORT).to_owned(),
        10 => r.of(&NAMES).to_owned(),
        _ => r.of(&SIGNS).to_owned(),
    }
}

/// The 2000 texts of `make.py`.
fn texts() -> Vec<String> {
    let phrases = fs::read_to_string(fixtures().join("phrases.txt")).unwrap();
    let phrases: Vec<&str> = phrases.strip_suffix('\n').unwrap().split('\n').collect();
    let text = |index| {
        let mut r = SplitMix(index);
        let mut text = String::new();
        for _ in 0..1 + r.below(6) {
            text.push_str(&piece(&mut r, &phrases));
            if r.below(2) == 1 {
                text.push(' ');
            }
        }
        text
    };
    let texts: Vec<String> = (0..2000).map(text).collect();
    let expected = fs::read_to_string(fixtures().join("expected/texts.sha256")).unwrap();
    let digest = Digest::of(texts.join("\0").as_bytes());
    assert_eq!(digest.to_string(), expected.trim(), "the generators of both sides agree");
    texts
}

fn digest(lists: &[&[TokenId]]) -> String {
    let packed =
        |ids: &[TokenId]| -> Vec<u8> { ids.iter().flat_map(|t| t.0.to_le_bytes()).collect() };
    let lists: Vec<Vec<u8>> = lists.iter().map(|ids| packed(ids)).collect();
    begin(&lists.join(&[0xFF; 4][..]), 8)
}

/// The first `digits` of the SHA-256 of `bytes`.
fn begin(bytes: &[u8], digits: usize) -> String {
    Digest::of(bytes).to_string().chars().take(digits).collect()
}

/// Compares all texts, without and with the added tokens of the file.
fn check_ids(model: &str, tokenizer: &Tokenizer) {
    let expected = fs::read_to_string(fixtures().join(format!("expected/{model}.txt"))).unwrap();
    let texts = texts();
    assert_eq!(expected.lines().count(), texts.len());
    let differs: Vec<usize> = texts
        .iter()
        .zip(expected.lines())
        .enumerate()
        .filter(|(_index, (text, expected))| {
            let plain = tokenizer.encode(text);
            let named = tokenizer.danger_encode_controls(text);
            digest(&[&plain, &named]) != *expected
        })
        .map(|(index, _)| index)
        .collect();
    assert!(
        differs.is_empty(),
        "{model}: {} texts differ, first {:?}",
        differs.len(),
        differs.first()
    );
}

#[test]
fn ids_of_qwen_are_those_of_tokenizers() {
    check_ids("qwen2.5", &tokenizer("qwen2.5"));
}

#[test]
fn ids_of_llama_are_those_of_tokenizers() {
    let llama = tokenizer("llama-3.2");
    check_ids("llama-3.2", &llama);
    assert_eq!(llama.encode_framed("Hello world"), [128_000, 9906, 1917].map(TokenId));
}

#[test]
fn ids_of_minilm_are_those_of_tokenizers() {
    let minilm = tokenizer("minilm");
    check_ids("minilm", &minilm);
    assert_eq!(minilm.encode_framed("Hello world"), [101, 7592, 2088, 102].map(TokenId));
}

#[test]
fn a_gguf_vocabulary_gives_the_same_ids() {
    let file: Value = serde_json::from_str(&fetched("qwen2.5", "tokenizer.json")).unwrap();
    let mut tokens = std::collections::BTreeMap::new();
    for (text, id) in file["model"]["vocab"].as_object().unwrap() {
        tokens.insert(id.as_u64().unwrap(), (text.clone(), 1));
    }
    for added in file["added_tokens"].as_array().unwrap() {
        let kind = if added["special"].as_bool().unwrap() { 3 } else { 4 };
        let text = added["content"].as_str().unwrap().to_owned();
        tokens.insert(added["id"].as_u64().unwrap(), (text, kind));
    }
    let merges = file["model"]["merges"].as_array().unwrap().iter();
    let (texts, types): (Vec<String>, _) = tokens.into_values().unzip();
    let mut vocabulary = TokenizerMetadata {
        model: "gpt2".to_owned(),
        pre: Some("qwen2".to_owned()),
        tokens: texts.into_iter().collect(),
        types,
        merges: merges.map(|merge| merge.as_str().unwrap().to_owned()).collect(),
        eos: Some(151_645),
        ..TokenizerMetadata::default()
    };
    let tokenizer = Tokenizer::from_gguf(vocabulary.clone()).unwrap();
    check_ids("qwen2.5", &tokenizer);
    assert_eq!(tokenizer.end(), tokenizer.control("<|im_end|>"));
    vocabulary.pre = Some("bloom".to_owned());
    let error = Tokenizer::from_gguf(vocabulary).unwrap_err().to_string();
    assert!(error.contains("tokenizer.ggml.pre") && error.contains("bloom"), "{error}");
}

#[test]
fn plain_text_comes_back_and_never_becomes_a_control_token() {
    for model in ["qwen2.5", "llama-3.2"] {
        let tokenizer = tokenizer(model);
        for text in texts() {
            let ids = tokenizer.encode(&text);
            assert!(ids.iter().all(|id| !tokenizer.is_control(*id)));
            let mut decoder = Decoder::new();
            let mut streamed: String = ids.iter().map(|id| decoder.push(&tokenizer, *id)).collect();
            streamed.push_str(&decoder.finish());
            assert_eq!(streamed, tokenizer.decode(&ids));
            // Qwen composes to NFC; what is composed already comes back as it was.
            assert_eq!(tokenizer.encode(&streamed), ids);
            assert!(model == "qwen2.5" || streamed == text);
        }
    }
}

#[test]
fn a_million_equal_characters_take_a_moment() {
    let text = "a".repeat(1_000_000);
    for model in ["qwen2.5", "llama-3.2", "minilm"] {
        let tokenizer = tokenizer(model);
        let ids = tokenizer.encode(&text);
        assert!(!ids.is_empty() && ids.len() < 500_000, "{model}: {}", ids.len());
    }
}

/// The template of a model: the one named in `chats.json`, else the model's own.
fn template(entry: &Value) -> Template {
    let model = entry["tokenizer"].as_str().unwrap();
    let config: Value = serde_json::from_str(&fetched(model, "tokenizer_config.json")).unwrap();
    let jinja = entry["jinja"].as_str().or(config["chat_template"].as_str()).unwrap();
    let names = Names { bos: config["bos_token"].as_str(), eos: config["eos_token"].as_str() };
    Template::from_jinja(jinja, names).unwrap()
}

#[test]
fn rendered_chats_are_those_of_transformers() {
    let chats = fs::read_to_string(fixtures().join("chats.json")).unwrap();
    let chats: Value = serde_json::from_str(&chats).unwrap();
    let expected = fs::read_to_string(fixtures().join("expected/chats.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (name, entry) in chats["templates"].as_object().unwrap() {
        let template = template(entry);
        assert_eq!(Template::from_json(&template.to_json()).unwrap(), template);
        let tokenizer = tokenizer(entry["tokenizer"].as_str().unwrap());
        let rows = expected[name].as_array().unwrap();
        let conversations = chats["conversations"].as_array().unwrap();
        assert_eq!((conversations.len(), rows.len()), (20, 40));
        for (index, row) in rows.iter().enumerate() {
            let turns: Vec<Turn<'_>> =
                conversations[index / 2].as_array().unwrap().iter().map(turn).collect();
            let pieces = template.render(&turns, index % 2 == 1, None).unwrap();
            let text: String = pieces.iter().map(written).collect();
            assert_eq!(
                begin(text.as_bytes(), 16),
                row[0].as_str().unwrap(),
                "{name}, conversation {}",
                index / 2
            );
            let ids = template.tokens(&tokenizer, &turns, index % 2 == 1, None).unwrap();
            // In the last conversation people write names of control tokens: theirs stay text.
            if index / 2 == 19 {
                let controls = pieces.iter().filter(|p| matches!(p, Piece::Control(_))).count();
                assert_eq!(ids.iter().filter(|id| tokenizer.is_control(**id)).count(), controls);
            } else {
                assert_eq!(digest(&[&ids]), row[1].as_str().unwrap(), "{name}, {}", index / 2);
            }
        }
    }
}

fn turn(message: &Value) -> Turn<'_> {
    let speaker = match message["role"].as_str().unwrap() {
        "system" => Speaker::System,
        "user" => Speaker::User,
        _ => Speaker::Assistant,
    };
    Turn { speaker, content: message["content"].as_str().unwrap() }
}

fn written(piece: &Piece) -> String {
    match piece {
        Piece::Control(name) => name.clone(),
        Piece::Text(text) => text.expose().clone(),
    }
}
