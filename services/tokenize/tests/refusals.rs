//! What a tokenizer file may not say, and what text may not do.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use cloister_domain::{Coded as _, TokenId};
use cloister_formats::TokenizerMetadata;
use cloister_samples::tokenizer;
use cloister_tokenize::{Decoder, Tokenizer, template::Template};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A byte-level file: 256 bytes, `ab`, `abc`, and the control token `<|end|>`.
fn byte_level() -> Value {
    tokenizer::byte_level(&[("a", "b"), ("ab", "c")], &["<|end|>"])
}

fn read(file: &Value) -> Tokenizer {
    Tokenizer::from_json(&file.to_string()).unwrap()
}

/// The message with which the file is refused when `pointer` is set to `value`.
fn refused(pointer: &str, value: Value) -> (String, &'static str) {
    let mut file = byte_level();
    *file.pointer_mut(pointer).unwrap() = value;
    let error = Tokenizer::from_json(&file.to_string()).unwrap_err();
    (error.to_string(), error.code())
}

#[test]
fn both_spellings_of_merges_are_read() {
    let mut file = byte_level();
    file["model"]["merges"][1] = json!(["ab", "c"]);
    let tokenizer = read(&file);
    assert_eq!(tokenizer.encode("abcab c"), [257, 256, 32, 99].map(TokenId));
    assert_eq!(tokenizer.vocabulary_size(), 259);
}

#[test]
fn constructs_that_are_not_built_are_refused_by_name() {
    let split = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
    };
    for (pointer, value, name) in [
        ("/model/type", json!("Unigram"), "Unigram"),
        ("/normalizer", json!({"type": "NFKC"}), "NFKC"),
        ("/pre_tokenizer", json!({"type": "Metaspace"}), "Metaspace"),
        ("/pre_tokenizer", split(r"(a+)+$"), r"(a+)+$"),
        ("/pre_tokenizer/add_prefix_space", json!(true), "add_prefix_space"),
        ("/decoder", json!({"type": "Replace"}), "Replace"),
        ("/post_processor", json!({"type": "RobertaProcessing"}), "RobertaProcessing"),
        ("/added_tokens/0/lstrip", json!(true), "lstrip"),
        ("/added_tokens/0/single_word", json!(true), "single_word"),
    ] {
        let (message, code) = refused(pointer, value);
        assert!(message.contains(name) && code == "tokenizer.unsupported", "{message}");
    }
    let mut file = byte_level();
    file["model"]["byte_fallback"] = json!(true);
    let error = Tokenizer::from_json(&file.to_string()).unwrap_err();
    assert!(error.to_string().contains("byte_fallback"), "{error}");
    file["model"]["byte_fallback"] = json!(false);
    file["surprise"] = json!(1);
    assert_eq!(Tokenizer::from_json(&file.to_string()).unwrap_err().code(), "tokenizer.json");
}

/// A WordPiece file that says everything the reader knows.
fn word_piece() -> Value {
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 128, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [{"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false,
                          "rstrip": false, "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[PAD]", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [], "special_tokens": {"[PAD]": {"id": "[PAD]", "ids": [0], "tokens": ["[PAD]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 2, "##b": 3, "##a": 4, "##": 5}},
    })
}

/// What comes of `base` with `value` at `pointer`, whether something stands there or not.
fn code_with(mut base: Value, pointer: &str, value: Value) -> &'static str {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    base.pointer_mut(parent).unwrap()[key] = value;
    match Tokenizer::from_json(&base.to_string()) {
        Ok(_taken) => "taken",
        Err(error) => error.code(),
    }
}

fn truncation(length: u32) -> Value {
    json!({"direction": "Right", "max_length": length, "strategy": "LongestFirst", "stride": 0})
}

#[test]
fn what_an_encoder_asks_for_is_done_or_refused() {
    for (pointer, value, code) in [
        ("/version", json!("2.0"), "tokenizer.unsupported"),
        ("/truncation", truncation(1), "tokenizer.unsupported"),
        ("/truncation", truncation(31), "tokenizer.unsupported"),
        ("/truncation/stride", json!(5), "tokenizer.unsupported"),
        ("/truncation/direction", json!("Left"), "tokenizer.unsupported"),
        ("/truncation/strategy", json!("OnlySecond"), "tokenizer.unsupported"),
        ("/truncation/more", json!(1), "tokenizer.unsupported"),
        ("/padding/pad_id", json!(2), "tokenizer.dangling"),
        ("/padding/pad_token", json!("a"), "tokenizer.dangling"),
        ("/padding/more", json!(1), "tokenizer.unsupported"),
        ("/normalizer/more", json!(1), "tokenizer.unsupported"),
        ("/pre_tokenizer/more", json!(1), "tokenizer.unsupported"),
        ("/decoder/prefix", json!("@@"), "tokenizer.unsupported"),
        ("/decoder/more", json!(1), "tokenizer.unsupported"),
        ("/post_processor/more", json!(1), "tokenizer.unsupported"),
        ("/post_processor/special_tokens", json!({}), "tokenizer.dangling"),
        ("/post_processor/special_tokens/[PAD]/ids", json!([2]), "tokenizer.dangling"),
        ("/post_processor/special_tokens/[PAD]/ids", json!([99]), "tokenizer.dangling"),
        (
            "/post_processor/special_tokens/[PAD]",
            json!({"ids": vec![0; 17], "tokens": vec!["[PAD]"; 17]}),
            "tokenizer.too-many",
        ),
        (
            "/post_processor/special_tokens/[PAD]",
            json!({"ids": [2], "tokens": ["a"]}),
            "tokenizer.dangling",
        ),
        (
            "/post_processor/special_tokens/[PAD]",
            json!({"ids": [0], "tokens": []}),
            "tokenizer.dangling",
        ),
        ("/post_processor/special_tokens/[PAD]", json!({"ids": [1], "tokens": ["[UNK]"]}), "taken"),
        ("/post_processor/single/1/Sequence/type_id", json!(1), "tokenizer.unsupported"),
        (
            "/post_processor",
            json!({"type": "Sequence", "processors": [
            {"type": "BertProcessing", "cls": ["[PAD]", 0], "sep": ["[PAD]", 0]},
            {"type": "BertProcessing", "cls": ["[PAD]", 0], "sep": ["[PAD]", 0]}]}),
            "tokenizer.unsupported",
        ),
        (
            "/post_processor",
            json!({"type": "BertProcessing", "cls": ["a", 0], "sep": ["[PAD]", 0]}),
            "tokenizer.dangling",
        ),
        (
            "/post_processor",
            json!({"type": "BertProcessing", "cls": ["[PAD]", 0], "sep": ["[PAD]", 0]}),
            "taken",
        ),
        ("/model/max_input_chars_per_word", json!(1001), "tokenizer.unsupported"),
        ("/model/ignore_merges", json!(true), "tokenizer.unsupported"),
        ("/model/byte_fallback", json!(true), "tokenizer.unsupported"),
        ("/model/merges", json!(["a b"]), "tokenizer.unsupported"),
        ("/model/unk_id", json!(1), "tokenizer.unsupported"),
        ("/added_tokens/0/normalized", json!(true), "tokenizer.unsupported"),
        ("/added_tokens/0/content", json!("b"), "tokenizer.token.twice"),
        ("/added_tokens/0/id", json!(7), "tokenizer.token.twice"),
        ("/truncation", json!(null), "taken"),
        ("/padding", json!(null), "taken"),
    ] {
        let shown = format!("{pointer} {value}");
        assert_eq!(code_with(word_piece(), pointer, value), code, "{shown}");
    }
}

#[test]
fn what_a_model_that_writes_asks_for_is_done_or_refused() {
    for (pointer, value, code) in [
        ("/truncation", truncation(128), "tokenizer.unsupported"),
        ("/padding", json!({}), "tokenizer.unsupported"),
        ("/normalizer", json!({"type": "NFC", "more": 1}), "tokenizer.unsupported"),
        ("/pre_tokenizer/more", json!(1), "tokenizer.unsupported"),
        ("/decoder/more", json!(1), "tokenizer.unsupported"),
        ("/post_processor", json!({"type": "ByteLevel", "more": 1}), "tokenizer.unsupported"),
        ("/model/dropout", json!(-0.5), "tokenizer.unsupported"),
        ("/model/unk_id", json!(0), "tokenizer.unsupported"),
        ("/model/max_input_chars_per_word", json!(9), "tokenizer.unsupported"),
        ("/model/more", json!(1), "tokenizer.json"),
    ] {
        let shown = format!("{pointer} {value}");
        assert_eq!(code_with(byte_level(), pointer, value), code, "{shown}");
    }
}

#[test]
fn texts_are_cut_where_the_file_says() {
    let tokenizer = read(&word_piece());
    assert_eq!(tokenizer.longest(), Some(128));
    assert_eq!(tokenizer.encode_framed(&"a ".repeat(500)).len(), 128);
    assert_eq!(tokenizer.encode_framed("aba"), [0, 2, 3, 4].map(TokenId));
    assert_eq!(tokenizer.encode("## aab"), [1, 1, 2, 4, 3].map(TokenId));
}

#[test]
fn parts_may_stand_in_any_order_and_have_bounds() {
    let file = byte_level();
    let reversed: serde_json::Map<String, Value> = file
        .as_object()
        .unwrap()
        .iter()
        .rev()
        .map(|(key, part)| (key.clone(), part.clone()))
        .collect();
    let reversed = Value::Object(reversed);
    assert_eq!(read(&reversed).encode("abcd"), read(&file).encode("abcd"));
    for (pointer, value) in [
        ("/normalizer", json!({"type": "Sequence", "normalizers": vec![0; 40_000]})),
        ("/model/merges", json!(vec!["a b"; 800_000])),
    ] {
        let (message, code) = refused(pointer, value);
        assert_eq!(code, "tokenizer.too-many", "{message}");
    }
    assert_eq!(refused("/normalizer", json!("x".repeat(2 << 20))).1, "tokenizer.json");
}

#[test]
fn vocabularies_that_do_not_hold_together_are_refused() {
    for (pointer, value, code) in [
        ("/model/merges", json!(["a z z"]), "tokenizer.merge"),
        ("/model/merges", json!(["a x"]), "tokenizer.merge"),
        ("/model/merges", json!(["a b", "ab c", "a b"]), "tokenizer.merge.twice"),
        ("/model/merges", json!(["a b", ["a", "b"]]), "tokenizer.merge.twice"),
        ("/model/merges", json!(["ab"]), "tokenizer.json"),
        ("/model/merges", json!([["a", "b", "c"]]), "tokenizer.json"),
        ("/model/vocab/ab", json!(97), "tokenizer.token.twice"),
        ("/model/vocab/ab", json!(4_000_000_000u32), "tokenizer.too-many"),
        ("/model/vocab/ab", json!(-1), "tokenizer.json"),
        ("/model/vocab", json!({}), "tokenizer.token.byte"),
        ("/model/vocab", json!([["a", 0.5]]), "tokenizer.absent"),
    ] {
        assert_eq!(refused(pointer, value).1, code);
    }
    let mut file = byte_level();
    file["model"]["vocab"]["中"] = json!(259);
    let error = Tokenizer::from_json(&file.to_string()).unwrap_err();
    assert_eq!(error.code(), "tokenizer.token.alphabet");
}

#[test]
fn no_merge_makes_a_control_token() {
    let mut file = byte_level();
    file["added_tokens"][0]["content"] = json!("abcd");
    file["model"]["merges"].as_array_mut().unwrap().push(json!("abc d"));
    let error = Tokenizer::from_json(&file.to_string()).unwrap_err();
    assert_eq!(error.code(), "tokenizer.merge.control");
}

#[test]
fn errors_quote_nothing_but_names() {
    for text in ["", "{", "[]", "\"patient Jane Doe\"", "{\"patient\": \"Jane Doe\"}"] {
        let error = Tokenizer::from_json(text).unwrap_err().to_string();
        assert!(!error.contains("Jane"), "{error}");
        let error = Template::from_json(text).unwrap_err().to_string();
        assert!(!error.contains("Jane"), "{error}");
    }
}

#[test]
fn names_of_control_tokens_are_plain_text() {
    let tokenizer = read(&byte_level());
    let text = "x<|end|>y";
    assert!(tokenizer.encode(text).iter().all(|id| !tokenizer.is_control(*id)));
    assert_eq!(tokenizer.danger_encode_controls(text), [120, 258, 121].map(TokenId));
    assert_eq!(tokenizer.decode(&tokenizer.encode(text)), text);
    assert_eq!(tokenizer.decode(&tokenizer.danger_encode_controls(text)), "xy");
}

#[test]
fn characters_come_whole_and_broken_ones_are_marked() {
    let tokenizer = read(&byte_level());
    let mut decoder = Decoder::new();
    let pieces: Vec<String> = [0xF0, 0x9F, 0x99, 0x82, 0xE4, 0x61, 0xFF, 0xC3]
        .map(|byte| decoder.push(&tokenizer, TokenId(byte)))
        .to_vec();
    assert_eq!(pieces, ["", "", "", "🙂", "", "\u{FFFD}a", "\u{FFFD}", ""]);
    assert_eq!(decoder.finish(), "\u{FFFD}");
    assert_eq!(tokenizer.decode(&[TokenId(9999)]), "");
}

#[test]
fn a_gguf_word_vocabulary_is_read() {
    let tokens = ["[UNK]", "[CLS]", "[SEP]", "\u{2581}hel", "lo", "\u{2581}!"];
    let mut file = TokenizerMetadata {
        model: "bert".to_owned(),
        tokens: tokens.into_iter().collect(),
        types: vec![2, 3, 3, 1, 1, 1],
        bos: Some(1),
        separator: Some(2),
        unknown: Some(0),
        ..TokenizerMetadata::default()
    };
    let tokenizer = Tokenizer::from_gguf(file.clone()).unwrap();
    assert_eq!(tokenizer.encode_framed("Héllo! lo"), [1, 3, 4, 5, 0, 2].map(TokenId));
    file.types[3] = 9;
    assert!(Tokenizer::from_gguf(file.clone()).unwrap_err().to_string().contains("token type"));
    file.types.pop();
    assert_eq!(Tokenizer::from_gguf(file.clone()).unwrap_err().code(), "tokenizer.absent");
    file.model = "t5".to_owned();
    assert!(Tokenizer::from_gguf(file.clone()).unwrap_err().to_string().contains("t5"));
}

/// llama.cpp takes the first of two, and Hugging Face the last.
#[test]
fn a_gguf_merge_stands_there_once() {
    let file = byte_level();
    let mut tokens: Vec<(u64, &str)> = file["model"]["vocab"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(text, id)| (id.as_u64().unwrap(), text.as_str()))
        .collect();
    tokens.sort_unstable();
    let with = |merges: &[&str]| {
        Tokenizer::from_gguf(TokenizerMetadata {
            model: "gpt2".to_owned(),
            pre: Some("gpt-2".to_owned()),
            types: vec![1; tokens.len()],
            tokens: tokens.iter().map(|(_id, text)| *text).collect(),
            merges: merges.iter().copied().collect(),
            ..TokenizerMetadata::default()
        })
    };
    assert!(with(&["a b", "ab c"]).is_ok());
    assert_eq!(with(&["a b", "ab c", "a b"]).unwrap_err().code(), "tokenizer.merge.twice");
}

proptest! {
    #[test]
    fn text_comes_back(text in "\\PC*|[ab c<|>\\r\\n\\t\u{301}é🙂]*") {
        let tokenizer = read(&byte_level());
        let ids = tokenizer.encode(&text);
        prop_assert_eq!(tokenizer.decode(&ids), text);
    }

    #[test]
    fn streamed_text_is_the_whole_text(bytes in prop::collection::vec(0u32..259, 0..60)) {
        let tokenizer = read(&byte_level());
        let ids: Vec<TokenId> = bytes.iter().map(|id| TokenId(*id)).collect();
        let mut decoder = Decoder::new();
        let mut text: String = ids.iter().map(|id| decoder.push(&tokenizer, *id)).collect();
        text.push_str(&decoder.finish());
        let printed: Vec<u8> = ids
            .iter()
            .flat_map(|id| match id.0 {
                256 => b"ab".to_vec(),
                257 => b"abc".to_vec(),
                258 => Vec::new(),
                byte => vec![u8::try_from(byte).unwrap()],
            })
            .collect();
        prop_assert_eq!(text, String::from_utf8_lossy(&printed).into_owned());
    }

    #[test]
    fn any_template_is_taken_or_refused(
        text in prop::collection::vec(
            prop_oneof![
                Just("{{"), Just("}}"), Just("{%"), Just("%}"), Just("{#"), Just("#}"), Just("-"),
                Just(" if "), Just(" for "), Just(" in "), Just("messages"), Just(" m "),
                Just("endfor"), Just("endif"), Just("else"), Just("set"), Just("="), Just("'"),
                Just("("), Just("["), Just(":"), Just("]"), Just("."), Just("content"),
                Just("role"), Just(" not "), Just(" is "), Just("defined"), Just("|"), Just("trim"),
                Just("+"), Just("\n"), Just("1"), Just("é"), Just("loop.index0"), Just("\\"),
            ],
            0..40,
        ),
    ) {
        // Whatever it is, it neither panics nor runs for ever.
        let taken = Template::from_jinja(&text.concat(), Default::default());
        if let Ok(template) = taken {
            prop_assert_eq!(Template::from_json(&template.to_json()), Ok(template));
        }
    }
}
