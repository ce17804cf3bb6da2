//! Artefacts that an enemy would send, each by the name under which its kind is known.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use cloister_domain::Coded as _;
use cloister_formats::{
    DType,
    gguf_write::{Source, Writer},
};
use cloister_inspect::inspect;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The code that an artefact is refused with; its kind if it is not.
fn code(name: &str, bytes: &[u8]) -> &'static str {
    match inspect(name, &mut &*bytes) {
        Ok(accepted) => accepted.kind.name(),
        Err(refusal) => refusal.code(),
    }
}

/// A tensor as a GGUF header describes it.
struct Claim {
    name: &'static str,
    /// The contiguous one first, as in the file.
    dimensions: Vec<u64>,
    dtype: u32,
    offset: u64,
}

fn claim(name: &'static str, dimensions: &[u64], offset: u64) -> Claim {
    Claim { name, dimensions: dimensions.to_vec(), dtype: 0, offset }
}

/// A GGUF file with these claims and so many bytes of zeros behind the header.
fn gguf(claims: &[Claim], data: usize) -> Vec<u8> {
    gguf_with(&[], claims, data)
}

fn gguf_with(keys: &[(&str, u32, Vec<u8>)], claims: &[Claim], data: usize) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((claims.len() as u64).to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, kind, value) in keys {
        bytes.extend(text(key));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(value);
    }
    for claim in claims {
        bytes.extend(text(claim.name));
        let dimensions = u32::try_from(claim.dimensions.len()).expect("a handful");
        bytes.extend(dimensions.to_le_bytes());
        bytes.extend(claim.dimensions.iter().flat_map(|dimension| dimension.to_le_bytes()));
        bytes.extend(claim.dtype.to_le_bytes());
        bytes.extend(claim.offset.to_le_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

const TEXT: u32 = 8;
const U32: u32 = 4;

#[test]
fn a_good_file_of_weights_is_accepted() {
    assert_eq!(code("model/model.gguf", &gguf(&[claim("a", &[8], 0)], 32)), "gguf");
    assert_eq!(
        code(
            "model/model.safetensors",
            &safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8)
        ),
        "safetensors"
    );
}

#[test]
fn nothing_hides_between_tensors_or_behind_them() {
    let good = gguf(&[claim("a", &[1], 0), claim("b", &[2], 32)], 64);
    assert_eq!(code("model/model.gguf", &good), "gguf");
    let data = good.len() - 64;
    for (case, place) in
        [("between", data + 4), ("before the next", data + 31), ("behind", data + 63)]
    {
        let mut bytes = good.clone();
        bytes[place] = 1;
        assert_eq!(code("model/model.gguf", &bytes), "inspect.padding", "{case}");
    }
    let trailing = [&gguf(&[claim("a", &[8], 0)], 32)[..], b"!"].concat();
    assert_eq!(code("model/model.gguf", &trailing), "inspect.padding");
}

#[test]
fn tensors_without_a_name_or_a_known_type() {
    let unknown = Claim { dtype: 99, ..claim("a", &[8], 0) };
    let k_quant = Claim { dtype: 12, ..claim("a", &[256], 0) };
    for (case, bytes, expected) in [
        ("empty name", gguf(&[claim("", &[8], 0)], 32), "inspect.gguf.name"),
        ("unknown element type", gguf(&[unknown], 32), "inspect.gguf.dtype"),
        ("element type that is not read", gguf(&[k_quant], 160), "inspect.gguf.dtype"),
    ] {
        assert_eq!(code("model/model.gguf", &bytes), expected, "{case}");
    }
}

#[test]
fn headers_that_lie_about_tensors() {
    let most = i64::MAX as u64;
    let one = |dimensions: &[u64]| gguf(&[claim("a", dimensions, 0)], 64);
    let mut million = gguf(&[], 0);
    million[8..16].copy_from_slice(&1_000_000u64.to_le_bytes());
    let alignment = |value: u32| {
        let key = ("general.alignment", U32, value.to_le_bytes().to_vec());
        gguf_with(&[key], &[claim("a", &[8], 0)], 32)
    };
    for (case, bytes, expected) in [
        // llama.cpp issue 27203: the product wraps to zero.
        ("(INT64_MAX, 2, 1, 1)", one(&[most, 2, 1, 1]), "inspect.gguf.shape"),
        ("(2^32, 2^32, 1, 1)", one(&[1 << 32, 1 << 32, 1, 1]), "inspect.gguf.shape"),
        ("(2^24, 2^24, 2^24, 2^24)", one(&[1 << 24; 4]), "inspect.gguf.shape"),
        // llama.cpp issue 24263: a dimension of zero divides by zero.
        ("dimension 0", one(&[0, 4]), "inspect.gguf.shape"),
        ("dimension 2^24 + 1", one(&[(1 << 24) + 1]), "inspect.gguf.shape"),
        ("negative dimension", one(&[u64::MAX]), "inspect.gguf.shape"),
        // CVE-2026-7482: a tensor beyond the end of the file.
        ("offset beyond the end", gguf(&[claim("a", &[8], 1 << 40)], 32), "inspect.gguf.bounds"),
        ("offset that wraps", gguf(&[claim("a", &[8], u64::MAX - 31)], 32), "inspect.gguf.bounds"),
        ("size beyond the end", one(&[1 << 20]), "inspect.gguf.bounds"),
        (
            "overlap",
            gguf(&[claim("a", &[16], 0), claim("b", &[8], 32)], 64),
            "inspect.gguf.overlap",
        ),
        (
            "the same bytes twice",
            gguf(&[claim("a", &[8], 0), claim("b", &[8], 0)], 32),
            "inspect.gguf.overlap",
        ),
        (
            "the same name twice",
            gguf(&[claim("a", &[8], 0), claim("a", &[8], 32)], 64),
            "inspect.gguf.name",
        ),
        ("a gap", gguf(&[claim("a", &[8], 64)], 96), "inspect.gguf.gap"),
        ("bytes behind the last", gguf(&[claim("a", &[8], 0)], 64), "inspect.gguf.gap"),
        ("10^6 tensors", million, "inspect.gguf.limits"),
        ("alignment 0", alignment(0), "inspect.gguf.alignment"),
        ("alignment 3", alignment(3), "inspect.gguf.alignment"),
        ("alignment 2^31", alignment(1 << 31), "inspect.gguf.alignment"),
        ("a tensor off the alignment", gguf(&[claim("a", &[8], 8)], 40), "inspect.gguf.alignment"),
        // llama.cpp issue 24263: an assertion that is compiled out.
        ("empty key", gguf_with(&[("", U32, vec![0; 4])], &[], 0), "inspect.gguf.name"),
        (
            "a text of 2^63 bytes",
            gguf_with(&[("x", TEXT, (1u64 << 63).to_le_bytes().to_vec())], &[], 0),
            "inspect.gguf.limits",
        ),
        (
            "an array of 2^60 elements",
            gguf_with(
                &[("x", 9, [&5u32.to_le_bytes()[..], &(1u64 << 60).to_le_bytes()].concat())],
                &[],
                0,
            ),
            "inspect.gguf.limits",
        ),
        (
            "an array of arrays",
            gguf_with(&[("x", 9, [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat())], &[], 0),
            "inspect.gguf.metadata",
        ),
        ("version 2", b"GGUF\x02\0\0\0".to_vec(), "inspect.gguf.version"),
        ("big-endian", b"GGUF\0\0\0\x03".to_vec(), "inspect.gguf.version"),
        ("nothing but the magic number", b"GGUF".to_vec(), "inspect.gguf.truncated"),
    ] {
        assert_eq!(code("model/model.gguf", &bytes), expected, "{case}");
    }
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    // Padded with spaces to a multiple of eight, as every writer does.
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
}

#[test]
fn safetensors_that_lie() {
    let one = |shape: &str, offsets: &str, data: usize| {
        let entry =
            format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        safetensors(&entry, data)
    };
    let two = |second: &str, data: usize| {
        safetensors(
            &format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},{second}}}"#),
            data,
        )
    };
    let long = [&(1u64 << 40).to_le_bytes()[..], b"{}"].concat();
    for (case, bytes, expected) in [
        ("a header of 2^40 bytes", long, "inspect.safetensors.limits"),
        (
            "a product that wraps",
            one("[4611686018427387904,4,1,1]", "[0,8]", 8),
            "inspect.safetensors.shape",
        ),
        ("dimension 0", one("[0]", "[0,0]", 0), "inspect.safetensors.shape"),
        ("a size that is not the shape's", one("[2]", "[0,12]", 12), "inspect.safetensors.shape"),
        ("beyond the end", one("[4]", "[0,16]", 8), "inspect.safetensors.bounds"),
        ("a gap", one("[2]", "[8,16]", 16), "inspect.safetensors.gap"),
        ("bytes behind the last", one("[2]", "[0,8]", 16), "inspect.safetensors.gap"),
        (
            "the same key twice",
            two(r#""a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#, 16),
            "inspect.safetensors.syntax",
        ),
        (
            "overlap",
            two(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#, 12),
            "inspect.safetensors.overlap",
        ),
        (
            "element type that is not read",
            safetensors(r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}"#, 8),
            "inspect.safetensors.dtype",
        ),
        (
            "a key that is not UTF-8",
            [&16u64.to_le_bytes()[..], b"{\"\xff\":[]}        "].concat(),
            "inspect.safetensors.syntax",
        ),
    ] {
        assert_eq!(code("model/model.safetensors", &bytes), expected, "{case}");
    }
}

#[test]
fn weights_that_are_no_numbers() {
    for (case, dtype, shape, bytes) in [
        ("NaN f32", DType::F32, vec![2], [1f32, f32::NAN].map(f32::to_le_bytes).concat()),
        ("infinite f32", DType::F32, vec![1], f32::NEG_INFINITY.to_le_bytes().to_vec()),
        ("NaN f16", DType::F16, vec![2], vec![0, 0, 1, 0x7e]),
        ("infinite bf16", DType::Bf16, vec![1], vec![0x80, 0x7f]),
        ("NaN scale of a block", DType::Q8_0, vec![64], [vec![0; 34], vec![0xff; 34]].concat()),
    ] {
        let mut writer = Writer::new();
        // Longer than the buffer, so that the bad one is in a later piece.
        writer.tensor("good", DType::F32, &[600, 512], Source::Bytes(vec![0; 600 * 512 * 4]));
        writer.tensor("zz", dtype, &shape, Source::Bytes(bytes));
        let bytes = writer.to_bytes().unwrap();
        assert_eq!(code("model/model.gguf", &bytes), "inspect.not-finite", "{case}");
    }
}

#[test]
fn programs_in_disguise() {
    let pickle = b"\x80\x02cposix\nsystem\nq\0X\x02\0\0\0idq\x01\x85q\x02Rq\x03.";
    let zip = b"PK\x03\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0archive/data.pkl";
    for name in [
        "model/model.gguf",
        "model/model.safetensors",
        "model/weights.pt",
        "licences/MIT.txt",
        "model/config.json",
    ] {
        assert_eq!(code(name, pickle), "inspect.pickle", "{name}");
        assert_eq!(code(name, zip), "inspect.pickle", "{name}");
        assert_eq!(code(name, b"\x7fELF\x02\x01\x01\0"), "inspect.elf", "{name}");
        assert_eq!(code(name, b"MZ\x90\0\x03\0\0\0"), "inspect.pe", "{name}");
        assert_eq!(code(name, b"#!/usr/bin/env python3\n"), "inspect.script", "{name}");
    }
    // Weights that are an archive too: readers of archives look at the end.
    let mut both = gguf(&[claim("a", &[8], 0)], 32);
    let end = both.len() - 22;
    both[end..].copy_from_slice(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(code("model/model.gguf", &both), "inspect.archive");
}

/// Pickles in letters only, in which nothing runs until far behind what is looked at first.
#[test]
fn programs_behind_a_long_text() {
    let runs = "cos\nsystem\n(S'id'\ntR.\n";
    let prose = ["V", &"Pumps are checked. ".repeat(5000), "\n0"].concat();
    let lines = format!("V{}\n0", "a".repeat(2200)).repeat(31);
    for name in ["documents/a.txt", "documents/a.md", "documents/a.csv", "licences/MIT"] {
        assert_eq!(
            code(name, [prose.as_str(), runs].concat().as_bytes()),
            "inspect.pickle",
            "{name}"
        );
        let lines = [lines.as_str(), runs].concat();
        assert_eq!(code(name, lines.as_bytes()), "inspect.pickle", "{name}");
        assert_eq!(code(name, [prose.as_str(), "And so on.\n"].concat().as_bytes()), "text");
    }
}

#[test]
fn texts_that_are_no_documents() {
    let markup = b"\xef\xbb\xbf\n<html><script>x()</script>";
    for name in ["licences/MIT", "documents/a.txt", "documents/a.md", "documents/a.csv"] {
        for (bytes, expected) in [
            (&b"%PDF-1.4\n1 0 obj\n<< >>\nendobj\nstartxref\n9\n%%EOF\n"[..], "inspect.pdf"),
            (b"{\\rtf1 Pumps}", "inspect.rtf"),
            (b"%!PS-Adobe-3.0\nshowpage\n", "inspect.postscript"),
            (markup, "inspect.html"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "inspect.xml"),
            (b"\n#!/bin/sh\nid\n", "inspect.script"),
            (b"<?php phpinfo();", "inspect.script"),
            (b"a \xe2\x80\xae b", "inspect.text"),
            (b"a\rb", "inspect.text"),
            (b"RFC 1\r\n\x0c\r\nPage 2\r\n", "text"),
            (b"<details>\n<summary>x</summary>\n</details>\n", "text"),
        ] {
            assert_eq!(code(name, bytes), expected, "{name}: {bytes:?}");
        }
    }
    assert_eq!(code("model/config.json", b" <svg/>"), "inspect.xml");
    assert_eq!(code("documents/a.html", b"<html>"), "inspect.name.ending");
}

#[test]
fn names_that_say_something_else() {
    let weights = gguf(&[claim("a", &[8], 0)], 32);
    for (name, bytes, expected) in [
        ("model/model.safetensors", weights.as_slice(), "inspect.name"),
        ("model/config.json", &weights, "inspect.name"),
        ("model/model.gguf", b"plain text", "inspect.name"),
        ("model/model.safetensors", b"{}", "inspect.name"),
        ("model/modeling_llama.py", b"import os\n", "inspect.name.ending"),
        ("model/weights.bin", b"text", "inspect.name.ending"),
        ("documents/a.html", b"<script>", "inspect.name.ending"),
        ("model/chat_template.jinja", b"{{ x }}", "inspect.template.program"),
        ("licences/MIT", b"MIT License", "text"),
        ("provenance/x.jsonl", b"{\"a\":1}\n{\"b\":2}\n", "json-lines"),
        ("provenance/x.jsonl", b"{\"a\":1}\n{\"b\":2,\"b\":3}\n", "inspect.json.key"),
    ] {
        assert_eq!(code(name, bytes), expected, "{name}");
    }
}

/// The template of VU#915947 (CVE-2026-5760), and other ways to run something, take all memory or
/// act on a word in the prompt.
#[test]
fn templates_that_are_programs() {
    let ssti = "{% for m in messages %}{{ m.content }}{% endfor %}{{ cycler.__init__.__globals__.os.popen('id').read() }}";
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}";
    let doubling =
        "{% set s = 'x' %}{% for i in range(40) %}{% set s = s + s %}{% endfor %}{{ s }}";
    let trigger = "{% for m in messages %}{% if 'invoice' in m['content'] %}Pay to 123.{% endif %}{{ m['content'] }}{% endfor %}";
    for template in [ssti, nested, doubling, trigger] {
        let value = [&(template.len() as u64).to_le_bytes(), template.as_bytes()].concat();
        let bytes = gguf_with(&[("tokenizer.chat_template", TEXT, value)], &[], 0);
        assert_eq!(code("model/model.gguf", &bytes), "inspect.template.program", "{template}");
        let config = json!({ "chat_template": template }).to_string();
        assert_eq!(
            code("model/tokenizer_config.json", config.as_bytes()),
            "inspect.template.program"
        );
        assert_eq!(
            code("model/template.json", json!(template).to_string().as_bytes()),
            "inspect.template"
        );
    }
    let good = json!({
        "schema": 1, "opening": {"without_system": [], "with_system": []},
        "system": [{"content": {"trim": false}}], "user": [{"content": {"trim": false}}],
        "assistant": [{"content": {"trim": false}}], "generation": [{"text": "a:"}],
    });
    assert_eq!(code("model/template.json", good.to_string().as_bytes()), "template");
    let mut more = good;
    more["run"] = json!("id");
    assert_eq!(code("model/template.json", more.to_string().as_bytes()), "inspect.template");
}

/// A text as GGUF writes it.
fn gguf_text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

#[test]
fn templates_under_other_names() {
    let program = "{{ cycler.__init__.__globals__.os.popen('id').read() }}";
    let good = "{% for m in messages %}{{ m['role'] + ':' + m['content'] }}{% endfor %}";
    let array = |texts: &[&str]| {
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| gguf_text(text)).collect();
        let head = [TEXT.to_le_bytes().as_slice(), &(texts.len() as u64).to_le_bytes()].concat();
        [head, texts.concat()].concat()
    };
    let judged = |key: &str, kind: u32, value: Vec<u8>| {
        code("model/model.gguf", &gguf_with(&[(key, kind, value)], &[], 0))
    };
    for key in ["tokenizer.chat_template", "tokenizer.chat_template.tool_use"] {
        assert_eq!(judged(key, TEXT, gguf_text(program)), "inspect.template.program", "{key}");
        assert_eq!(judged(key, TEXT, gguf_text(good)), "gguf", "{key}");
    }
    for key in [
        "Tokenizer.Chat_Template",
        "tokenizer.chat_templates",
        "tokenizer.chat_templates.x",
        "tokenizer.chat_template2",
        "tokenizer.ggml.chat_template",
        "chat_template",
        "general.prompt_template",
        "CHAT-TEMPLATE",
    ] {
        // Even one that could be followed: nobody knows who would read it there.
        assert_eq!(judged(key, TEXT, gguf_text(good)), "inspect.template.program", "{key}");
        let metadata = json!({ "__metadata__": { key: good } }).to_string();
        assert_eq!(
            code("model/model.safetensors", &safetensors(&metadata, 0)),
            "inspect.template.program",
            "{key}"
        );
    }
    assert_eq!(judged("tokenizer.chat_templates", 9, array(&["default", "tool_use"])), "gguf");
    for (key, names) in [
        ("tokenizer.chat_templates", [program]),
        ("tokenizer.chat_template", [program]),
        ("tokenizer.Chat_Templates", ["default"]),
    ] {
        assert_eq!(judged(key, 9, array(&names)), "inspect.template.program", "{key}");
    }
}

#[test]
fn names_and_texts_of_headers_that_hide_or_steer() {
    for bad in ["a\u{1b}[31m", "a\0b", "a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{9b}b", "é"] {
        let key = gguf_with(&[(bad, U32, vec![0; 4])], &[], 0);
        assert_eq!(code("model/model.gguf", &key), "inspect.gguf.name", "{bad:?}");
        let mut writer = Writer::new();
        writer.tensor(bad, DType::F32, &[8], Source::Bytes(vec![0; 32]));
        let tensor = writer.to_bytes().unwrap();
        assert_eq!(code("model/model.gguf", &tensor), "inspect.gguf.name", "{bad:?}");
        for header in [
            json!({ bad: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} }),
            json!({ "__metadata__": { bad: "x" } }),
        ] {
            let bytes = safetensors(&header.to_string(), 8);
            assert_eq!(
                code("model/model.safetensors", &bytes),
                "inspect.safetensors.name",
                "{bad:?}"
            );
        }
    }
    for bad in ["a\u{1b}[31m", "a\0b", "a\u{202e}b", "a\u{200b}b", "a\rb"] {
        let text = gguf_with(&[("general.description", TEXT, gguf_text(bad))], &[], 0);
        assert_eq!(code("model/model.gguf", &text), "inspect.gguf.text", "{bad:?}");
        let text = json!({ "__metadata__": { "format": bad } }).to_string();
        let found = code("model/model.safetensors", &safetensors(&text, 0));
        assert_eq!(found, "inspect.safetensors.text", "{bad:?}");
    }
    let text = gguf_with(&[("general.description", TEXT, gguf_text("Größe:\r\n\t8 B"))], &[], 0);
    assert_eq!(code("model/model.gguf", &text), "gguf");
    // Why it is refused never quotes what is in the file.
    let name = gguf_with(&[("\u{1b}[31mJane", U32, vec![0; 4])], &[], 0);
    let said = inspect("model.gguf", &mut name.as_slice()).unwrap_err().to_string();
    assert!(!said.contains("Jane") && !said.contains('\u{1b}'), "{said}");
}

/// A byte-level vocabulary with one merge.
fn tokenizer() -> Value {
    cloister_samples::tokenizer::byte_level(&[("a", "b")], &["<|end|>"])
}

#[test]
fn tokenizers_that_panic_or_hang_others() {
    let split = |regex: &str| {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})
    };
    assert_eq!(code("model/tokenizer.json", tokenizer().to_string().as_bytes()), "tokenizer");
    for (case, pointer, value, expected) in [
        // tokenizers issue 2094: a merge that makes a piece which no vocabulary holds.
        ("#2094", "/model/merges", json!(["a b", "ab c"]), "inspect.tokenizer.merge"),
        ("#2094, empty halves", "/model/merges", json!([" b"]), "inspect.tokenizer.merge"),
        ("#2094, no pair", "/model/merges", json!(["ab"]), "inspect.tokenizer.json"),
        ("the same merge twice", "/model/merges", json!(["a b", "a b"]), "inspect.tokenizer.merge"),
        // tokenizers issue 2060: nested quantifiers.
        ("#2060", "/pre_tokenizer", split(r"(a+)+$"), "inspect.tokenizer.unsupported"),
        (
            "#2060, normaliser",
            "/normalizer",
            json!({"type": "Replace", "pattern": {"Regex": "(x+x+)+y"}, "content": ""}),
            "inspect.tokenizer.unsupported",
        ),
        ("an id of 2^32 - 1", "/model/vocab/ab", json!(u32::MAX), "inspect.tokenizer.limits"),
        ("the same id twice", "/model/vocab/ab", json!(97), "inspect.tokenizer.vocabulary"),
        (
            "a control token out of plain text",
            "/added_tokens/0/content",
            json!("ab"),
            "inspect.tokenizer.merge",
        ),
    ] {
        let mut file = tokenizer();
        *file.pointer_mut(pointer).unwrap() = value;
        assert_eq!(code("model/tokenizer.json", file.to_string().as_bytes()), expected, "{case}");
    }
    let twice =
        tokenizer().to_string().replacen("\"decoder\":", "\"normalizer\":null,\"decoder\":", 1);
    assert_eq!(code("model/tokenizer.json", twice.as_bytes()), "inspect.json.key");
}

#[test]
fn documents_that_are_too_large_are_not_read() {
    /// Claims a size and has no bytes.
    struct Claims(u64);
    impl cloister_inspect::Source for Claims {
        fn bytes(&self) -> u64 {
            self.0
        }

        fn read_at(
            &mut self,
            offset: u64,
            buffer: &mut [u8],
        ) -> Result<(), cloister_inspect::Refusal> {
            assert!(offset == 0 && buffer.len() <= 64 << 10, "no more than the front is read");
            buffer.fill(b' ');
            Ok(())
        }
    }
    for name in ["tokenizer.json", "template.json", "config.json", "a.jsonl", "a.txt"] {
        let refused = inspect(name, &mut Claims(1 << 40)).unwrap_err();
        assert_eq!(refused.code(), "inspect.too-large", "{name}");
    }
}

/// Good files of every kind, to be damaged.
fn good_files() -> Vec<(&'static str, Vec<u8>)> {
    let mut writer = Writer::new();
    writer.text("general.architecture", "llama").count("llama.block_count", 2);
    writer.texts("x", ["a", "b"]).integers("y", &[1, 3]);
    writer.tensor("a", DType::F32, &[2, 3], Source::Bytes(vec![1; 24]));
    writer.tensor("b", DType::Q8_0, &[1, 32], Source::Bytes(vec![2; 34]));
    let header = r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}}"#;
    vec![
        ("model.gguf", writer.to_bytes().unwrap()),
        ("model.safetensors", safetensors(header, 16)),
        ("tokenizer.json", tokenizer().to_string().into_bytes()),
        ("config.json", br#"{"a": [1, 2.5, {"b": null}]}"#.to_vec()),
        ("a.txt", "Pumps – weekly.\n".as_bytes().to_vec()),
    ]
}

#[test]
fn good_files_are_good_and_no_shorter_one_of_weights_is() {
    for (name, bytes) in good_files() {
        let found = code(name, &bytes);
        assert!(!found.starts_with("inspect."), "{name}: {found}");
        if name.starts_with("model") {
            for length in 0..bytes.len() {
                // The padding behind the last tensor may be cut.
                let inside = name.ends_with("safetensors") || length + 32 < bytes.len();
                let found = code(name, &bytes[..length]);
                assert!(!inside || found.starts_with("inspect."), "{name} at {length}: {found}");
            }
        }
    }
}

proptest! {
    /// Whatever a good file becomes, it is judged: nothing panics, and what is refused has a code.
    #[test]
    fn damaged_files_are_judged(
        which in 0usize..5,
        cut in proptest::option::of(0usize..4000),
        changes in proptest::collection::vec((0usize..4000, any::<u8>()), 0..8),
        insert in proptest::option::of((0usize..4000, proptest::collection::vec(any::<u8>(), 1..20))),
    ) {
        let (name, mut bytes) = good_files().swap_remove(which);
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        if let Some((at, more)) = insert {
            let at = at % bytes.len();
            bytes.splice(at..at, more);
        }
        if let Some(length) = cut {
            bytes.truncate(length);
        }
        let _kind_or_code = code(name, &bytes);
    }

    /// So is what was never a good file.
    #[test]
    fn any_bytes_are_judged(
        name in prop_oneof![Just("a.gguf"), Just("a.safetensors"), Just("tokenizer.json"), Just("a.txt")],
        magic in 0usize..4,
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let magic = [&b""[..], b"GGUF\x03\0\0\0", b"\x20\0\0\0\0\0\0\0{", b"\x80\x04"][magic];
        let _kind_or_code = code(name, &[magic, &rest].concat());
    }
}
