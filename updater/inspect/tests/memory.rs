//! What the worst artefacts take while they are judged: each by a process of its own, whose largest
//! size the kernel knows. The files lie on the disk, as those of a release do.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a line of /proc, and files of our own")]

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use cloister_domain::Coded as _;
use cloister_inspect::{Refusal, Source, inspect};
use serde_json::{Value, json};

/// Most that the process may have had, whatever it judged.
const PEAK_BYTES_MAX: u64 = 48 << 20;

struct OnDisk(File);

impl Source for OnDisk {
    fn bytes(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refusal> {
        self.0.read_exact_at(buffer, offset).map_err(|_shorter| Refusal::Unreadable)
    }
}

/// Says to the process that it judges one file only: its path, and its name in a release.
const ONE: &str = "CLOISTER_INSPECT_ONE";

/// What came of the file that `wish` asks for, and the largest resident size of the process in bytes.
fn judged(wish: &str) -> String {
    let (path, name) = wish.split_once(' ').unwrap();
    let code = match inspect(name, &mut OnDisk(File::open(path).unwrap())) {
        Ok(accepted) => accepted.kind.name(),
        Err(refusal) => refusal.code(),
    };
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024;
    format!("judged: {code} {peak}")
}

/// What another process makes of a file.
fn judged_apart(path: &Path, name: &str) -> (String, u64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "no_artefact_takes_more_than_an_inspector_has"])
        .env(ONE, format!("{} {name}", path.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find_map(|line| line.split_once("judged: ")).unwrap().1;
    let (code, peak) = line.split_once(' ').unwrap();
    (code.to_owned(), peak.parse().unwrap())
}

/// Pieces of small letters, each longer one made of a shorter one and a letter, and how they are made.
fn pieces(count: usize) -> (Vec<String>, Vec<String>) {
    let (mut pieces, mut merges): (Vec<String>, Vec<String>) =
        (('a'..='z').map(String::from).collect(), Vec::new());
    let mut shorter = 0;
    while pieces.len() < count {
        for letter in 'a'..='z' {
            merges.push(format!("{} {letter}", pieces[shorter]));
            pieces.push(format!("{}{letter}", pieces[shorter]));
        }
        shorter += 1;
    }
    (pieces, merges)
}

/// A tokenizer with so many tokens, and so many merges in two spellings or more.
fn tokenizer(tokens: usize, merges: usize, change: impl FnOnce(&mut Value)) -> String {
    let mut file = cloister_samples::tokenizer::byte_level(&[], &[]);
    let (pieces, made) = pieces(tokens - 256);
    let vocabulary = file["model"]["vocab"].as_object_mut().unwrap();
    for piece in &pieces[26..] {
        vocabulary.insert(piece.clone(), json!(vocabulary.len()));
    }
    let again = pieces.iter().filter(|piece| piece.len() > 2).map(|piece| {
        let (first, rest) = piece.split_at(1);
        format!("{first} {rest}")
    });
    file["model"]["merges"] = made.into_iter().chain(again).take(merges).collect();
    change(&mut file);
    file.to_string()
}

/// A text of a GGUF file.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// The beginning of a GGUF file with so many keys.
fn front(keys: u64) -> Vec<u8> {
    [b"GGUF\x03\0\0\0".as_slice(), &0u64.to_le_bytes(), &keys.to_le_bytes()].concat()
}

/// A GGUF file with so many chat templates.
fn programs(count: usize, program: &str) -> Vec<u8> {
    let key = |number: usize| format!("tokenizer.chat_template.{number}");
    let one = |number| [text(&key(number)), 8u32.to_le_bytes().to_vec(), text(program)].concat();
    [front(count as u64), (0..count).flat_map(one).collect()].concat()
}

/// A GGUF file with one array of texts.
fn gguf(texts: impl Iterator<Item = String>) -> Vec<u8> {
    let texts: Vec<String> = texts.collect();
    let mut bytes = front(1);
    bytes.extend(text("x"));
    bytes.extend(9u32.to_le_bytes());
    bytes.extend(8u32.to_le_bytes());
    bytes.extend((texts.len() as u64).to_le_bytes());
    texts.iter().for_each(|one| bytes.extend(text(one)));
    bytes
}

fn safetensors(header: &str) -> Vec<u8> {
    let padding = " ".repeat(header.len().next_multiple_of(8) - header.len());
    let bytes = (header.len() + padding.len()) as u64;
    [&bytes.to_le_bytes(), header.as_bytes(), padding.as_bytes()].concat()
}

/// A file, what a release calls it, and what comes of it.
struct Case(PathBuf, &'static str, &'static str);

/// Writes files into a folder.
struct Written<'a> {
    folder: &'a Path,
    cases: Vec<Case>,
}

impl Written<'_> {
    fn add(&mut self, file: &str, name: &'static str, expected: &'static str, bytes: &[u8]) {
        let path = self.folder.join(file);
        fs::write(&path, bytes).unwrap();
        self.cases.push(Case(path, name, expected));
    }
}

/// An object of a million keys.
fn keys() -> String {
    let mut keys = String::from("{");
    (0..1_000_000).for_each(|key| write!(keys, "\"{key:x}\":0,").unwrap());
    keys + "\"\":0}"
}

fn tokenizers(written: &mut Written<'_>) {
    let limits = "inspect.tokenizer.limits";
    let mut add = |file, expected, text: String| {
        written.add(file, "tokenizer.json", expected, text.as_bytes());
    };
    let deep = |file: &mut Value| {
        file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![0; 4_000_000]});
    };
    let added = |file: &mut Value| {
        let one = |id: u32| {
            json!({"id": 1000 + id, "content": format!("<|{id}|>"), "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        };
        file["added_tokens"] = (0..70_000).map(one).collect();
    };
    add("largest", "tokenizer", tokenizer(520_000, 780_000, |_file| {}));
    add("more", limits, tokenizer(600_000, 1000, |_file| {}));
    add("deep", limits, tokenizer(1000, 100, deep));
    add("added", limits, tokenizer(1000, 100, added));
    add("string", "inspect.json", format!("\"{}\"", "\\n".repeat(15_000_000)));
}

fn documents(written: &mut Written<'_>) {
    written.add("keys", "a.json", "json", keys().as_bytes());
    let key = format!("{{\"{}\":0}}", "\\n".repeat(8_000_000));
    written.add("one-key", "a.json", "json", key.as_bytes());
    let key = format!("{{\"{}\":0}}", "ж".repeat(8_000_000));
    written.add("one-foreign-key", "a.json", "json", key.as_bytes());
}

fn weights(written: &mut Written<'_>) {
    written.add("texts", "a.gguf", "gguf", &gguf((0..2_000_000).map(|_one| String::new())));
    written.add("long", "a.gguf", "gguf", &gguf((0..23).map(|_one| "x".repeat(1 << 20))));
    let entry = |i: u32| {
        let (name, from, to) = ("n".repeat(240), 2 * i, 2 * i + 2);
        format!(r#""{name}{i}":{{"dtype":"F16","shape":[1],"data_offsets":[{from},{to}]}}"#)
    };
    let names: Vec<String> = (0..40_000).map(entry).collect();
    let names = [safetensors(&format!("{{{}}}", names.join(","))), vec![0; 80_000]].concat();
    written.add("names", "a.safetensors", "safetensors", &names);
    let shape = "1,".repeat(7_500_000);
    let shape = format!(r#"{{"a":{{"dtype":"F32","shape":[{shape}1],"data_offsets":[0,4]}}}}"#);
    written.add("shape", "a.safetensors", "inspect.safetensors.shape", &safetensors(&shape));
    let metadata = format!(r#"{{"__metadata__":{}}}"#, keys().replace(":0", ":\"\""));
    let expected = "inspect.safetensors.limits";
    written.add("metadata", "a.safetensors", expected, &safetensors(&metadata));
}

/// Chat templates, which are followed: small programs that would write, nest or go on for ever.
fn templates(written: &mut Written<'_>) {
    const TURNS: &str = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}\
        {% if add_generation_prompt %}<|assistant|>{% endif %}";
    let program = "inspect.template.program";
    let mut add = |file, expected, count, text: &str| {
        written.add(file, "a.gguf", expected, &programs(count, &[text, TURNS].concat()));
    };
    let long = format!("{{% set x = '{}' %}}", "y".repeat(30_000));
    let comments = "{# #}\n".repeat(10_000);
    add("eight", "gguf", 8, &comments);
    add("nine", program, 9, "");
    add("written", program, 1, &[long.as_str(), &"{{ x }}".repeat(4000)].concat());
    add("doubled", program, 1, &["{% set x = 'a' %}", &"{% set x = x ~ x %}".repeat(26)].concat());
    add("chain", program, 1, &format!("{{% set x = 1{} %}}", "+1".repeat(28_000)));
    add("filters", program, 1, &format!("{{% set x = 'a'{} %}}", "|trim".repeat(9000)));
}

#[test]
fn no_artefact_takes_more_than_an_inspector_has() {
    if let Ok(wish) = std::env::var(ONE) {
        writeln!(std::io::stdout(), "{}", judged(&wish)).unwrap();
        return;
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inspect-memory");
    fs::create_dir_all(&folder).unwrap();
    let mut written = Written { folder: &folder, cases: Vec::new() };
    tokenizers(&mut written);
    documents(&mut written);
    weights(&mut written);
    templates(&mut written);
    for Case(path, name, expected) in written.cases {
        let (code, peak) = judged_apart(&path, name);
        let case = path.display();
        assert_eq!(code, expected, "{case}");
        assert!(peak < PEAK_BYTES_MAX, "{case}: {} KiB", peak >> 10);
    }
    fs::remove_dir_all(&folder).unwrap();
}
