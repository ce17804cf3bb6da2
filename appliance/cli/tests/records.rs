//! The record's verbs on an auditor's machine, through the program itself: no daemon, an export and keys.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test helper fails by panicking and reads its own files"
)]

use std::{
    ffi::OsString,
    fs,
    os::unix::{ffi::OsStringExt as _, fs::symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cloister_attest::SigningKey;
use cloister_domain::{Digest, Secret};
use cloister_record::{
    Checkpoint, Export, Host, Place, Time, VerifierKey, sign,
    tiles::{self, Kind, WIDTH},
    tree::{Tree, leaf_hash},
};
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::{Value, json};

const ORIGIN: &str = "enclave/one";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).unwrap()
}

/// A trust root with nobody who approves, since nothing here is approved.
fn root() -> Vec<u8> {
    let officer = key(8).public();
    let role = json!({"keyids": [officer.key_id()], "threshold": 1});
    let signed = json!({
        "_type": "root", "consistent_snapshot": false, "expires": "2040-01-01T00:00:00Z",
        "keys": {officer.key_id(): officer.to_object()},
        "roles": {"root": role, "snapshot": role, "targets": role, "timestamp": role},
        "spec_version": "1.0.34", "version": 1,
    });
    let message = cloister_attest::json::canonical_tuf(&signed).unwrap();
    let sig: String = key(8).sign(&message).iter().map(|byte| format!("{byte:02x}")).collect();
    let signatures = json!([{"keyid": officer.key_id(), "sig": sig}]);
    json!({"signatures": signatures, "signed": signed}).to_string().into_bytes()
}

/// A log that says it promoted something; a receipt shows what a record says, and judges nothing.
fn texts() -> Vec<Vec<u8>> {
    let bundle = Digest::of(b"bundle");
    let entries = [
        (Event::AnchorEnrolment, "anchor", "trust-root", Digest::of(&root()), json!({})),
        (Event::KeyChange, "key/1/created", "key", bundle, json!({})),
        (Event::KeyChange, "key/2/created", "key", bundle, json!({})),
    ];
    chain(&entries)
}

fn chain(entries: &[(Event, &str, &str, Digest, Value)]) -> Vec<Vec<u8>> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    for (event, act, name, sha256, facts) in entries {
        let entry = Entry {
            event: *event,
            act: (*act).to_owned(),
            subject: vec![Subject { name: (*name).to_owned(), sha256: *sha256 }],
            predicate: facts.as_object().unwrap().clone(),
        };
        let place =
            Place { seq: texts.len() as u64, prev: texts.last().map(|text| Digest::of(text)) };
        let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
        let time = Time { rtc_s: 1_800_000_000, boot_id: None };
        texts.push(sign(&entry, place, &host, &time, &key(1)).unwrap());
    }
    texts
}

/// The files of the log with these entries.
fn export(texts: &[Vec<u8>]) -> Export {
    let mut tree = Tree::new();
    texts.iter().for_each(|text| tree.push(leaf_hash(text)));
    let (size, root) = (tree.size(), tree.root());
    let note = Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key(1)).unwrap();
    let mut export = Export::from([("checkpoint".to_owned(), note.into_bytes())]);
    for tile in tiles::all(size) {
        let first = usize::try_from(tile.index * WIDTH).unwrap();
        let width = usize::try_from(tile.width).unwrap();
        let bytes = match tile.kind {
            Kind::Entries => tiles::bundle(&texts[first..first + width]).unwrap(),
            Kind::Hashes { .. } => tile.hashes(&tree),
        };
        export.insert(tile.path(), bytes);
    }
    export
}

/// An auditor's desk: an export, the root, and the log's key.
struct Desk {
    folder: tempfile::TempDir,
    log_key: String,
}

impl Desk {
    fn with(texts: &[Vec<u8>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, bytes) in export(texts) {
            let target = folder.path().join("export").join(path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, bytes).unwrap();
        }
        fs::write(folder.path().join("root.json"), root()).unwrap();
        fs::write(folder.path().join("policy"), "quorum none\n").unwrap();
        let log_key = VerifierKey::new(ORIGIN, key(1).public()).unwrap().to_string();
        Self { folder, log_key }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, words: &[&str]) -> (bool, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_cloister"))
            .current_dir(self.folder.path())
            .arg("records")
            .args(words)
            .output()
            .unwrap();
        (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }

    /// Whether the export is good, and what was said.
    fn verify(&self) -> (bool, String) {
        self.run(&["verify", "--log-key", &self.log_key, "--root", "root.json", "export"])
    }

    fn receipt(&self, words: &[&str]) -> (bool, String) {
        self.run(&[&["receipt", "--log-key", &self.log_key, "export"], words].concat())
    }

    fn verify_receipt(&self, name: &str) -> (bool, String) {
        self.run(&["verify-receipt", "--policy", "policy", "--log-key", &self.log_key, name])
    }
}

#[test]
fn an_export_is_verified_and_a_file_of_no_name_is_found() {
    let desk = Desk::with(&texts());
    let (good, said) = desk.verify();
    assert!(good && said.contains("3 records under root"), "{said}");
    fs::write(desk.at("export/tile").join(no_text()), b"x").unwrap();
    let (good, said) = desk.verify();
    assert!(!good && said.contains("a file that a log of this size does not have"), "{said}");
}

#[test]
fn a_link_is_no_file_of_a_log() {
    let whole = Desk::with(&texts());
    for path in ["checkpoint", "tile", "tile/0", "tile/0/000.p/3", "tile/entries/000.p/3"] {
        let desk = Desk::with(&texts());
        assert!(desk.verify().0);
        let there = desk.at("export").join(path);
        fs::rename(&there, desk.at("aside")).unwrap();
        symlink(whole.at("export").join(path), there).unwrap();
        let (good, said) = desk.verify();
        assert!(!good && said.contains("FAULT"), "{path}: {said}");
    }
    for target in ["export/tile", "nowhere"] {
        let desk = Desk::with(&texts());
        symlink(whole.at(target), desk.at("export/tile/more")).unwrap();
        let (good, said) = desk.verify();
        assert!(!good && said.contains("a file that a log of this size"), "{target}: {said}");
    }
}

/// A name that is no text.
fn no_text() -> OsString {
    OsString::from_vec(b"a\xffb".to_vec())
}

#[test]
fn a_receipt_says_what_was_recorded_and_about_what() {
    let desk = Desk::with(&texts());
    let (done, text) = desk.receipt(&["1"]);
    assert!(done, "{text}");
    fs::write(desk.at("receipt"), &text).unwrap();
    let (good, said) = desk.verify_receipt("receipt");
    let key = format!("key {}", Digest::of(b"bundle"));
    assert!(good && said.contains("record 1 of 3 of enclave/one"), "{said}");
    assert!(said.contains("key-change") && said.contains(&key), "{said}");
    // Another record with the proof of this one.
    let (_, other) = desk.receipt(&["2"]);
    let extra =
        |text: &str| text.lines().find(|line| line.starts_with("extra")).unwrap().to_owned();
    fs::write(desk.at("mixed"), text.replace(&extra(&text), &extra(&other))).unwrap();
    assert!(!desk.verify_receipt("mixed").0);
}

#[test]
fn a_page_of_codes_is_read_by_a_decoder_of_others() {
    let desk = Desk::with(&texts());
    let (done, said) = desk.receipt(&["1", "2", "--qr", "page.svg"]);
    assert!(done && said.contains("codes"), "{said}");
    let page = fs::read_to_string(desk.at("page.svg")).unwrap();
    let mut lines = codes(&page);
    assert!(lines.len() > 2, "{said}");
    lines.reverse();
    fs::write(desk.at("scanned"), lines.join("\n")).unwrap();
    let (good, said) = desk.verify_receipt("scanned");
    assert!(good && said.contains("record 1 of 3") && said.contains("record 2 of 3"), "{said}");
    lines.pop();
    fs::write(desk.at("scanned"), lines.join("\n")).unwrap();
    assert!(!desk.verify_receipt("scanned").0, "a code is missing");
}

/// What a decoder reads off the page as it is drawn, four dots a unit.
fn codes(page: &str) -> Vec<String> {
    const DOTS: usize = 4;
    let view = page.split("viewBox=\"0 0 ").nth(1).unwrap().split('"').next().unwrap();
    let (width, height) = view.split_once(' ').unwrap();
    let (width, height): (usize, usize) = (width.parse().unwrap(), height.parse().unwrap());
    let mut dark = vec![false; width * height];
    // The first path is the white ground.
    for path in page.split("<path d=\"").skip(1) {
        let drawn = path.split('"').next().unwrap();
        for module in drawn.split('M').filter(|module| !module.is_empty()) {
            let place = module.strip_suffix("h1v1h-1z").unwrap();
            let (x, y) = place.split_once(' ').unwrap();
            dark[y.parse::<usize>().unwrap() * width + x.parse::<usize>().unwrap()] = true;
        }
    }
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(width * DOTS, height * DOTS, |x, y| {
            if dark[y / DOTS * width + x / DOTS] { 0 } else { 255 }
        });
    image.detect_grids().iter().map(|grid| grid.decode().unwrap().1).collect()
}

/// Whole exports as others read them, with what lies beside the log.
#[test]
fn of_the_vectors_the_program_says_what_is_expected() {
    let desk = Desk::with(&texts());
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/vectors");
    for name in ["plain", "succession", "downgrade", "canary", "broken-importer", "broken-asked"] {
        let at = |file: &str| all.join(name).join(file).display().to_string();
        let expected = fs::read(all.join(name).join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&expected).unwrap();
        let log_key = fs::read_to_string(at("log.key")).unwrap();
        let mut words = vec!["--json".to_owned(), "verify".to_owned(), at("export")];
        words.extend(["--log-key".to_owned(), log_key.trim_end().to_owned()]);
        for (option, file) in
            [("root", "root.1.json"), ("root", "root.2.json"), ("policy", "policy")]
        {
            if all.join(name).join(file).exists() {
                words.push(format!("--{option}={}", at(file)));
            }
        }
        let (good, said) = desk.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let faults = expected["faults"].as_array().unwrap();
        assert_eq!(good, faults.is_empty(), "{name}: {said}");
        let printed: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
        for fact in ["open", "root", "size"] {
            let of = if fact == "open" { "open_intent" } else { fact };
            assert_eq!(printed[of], expected[fact], "{name}: {fact}");
        }
        assert_eq!(printed["log_key"], *expected["keys"].as_array().unwrap().last().unwrap());
        assert_eq!(printed["faults"].as_array().map(Vec::len), Some(faults.len()), "{name}");
    }
}

/// Receipts that lie beside the log are what the log gives, or not there at all.
#[test]
fn receipts_beside_a_log_that_are_not_its_own_are_found() {
    let desk = Desk::with(&texts());
    let beside = desk.at("export/receipts");
    fs::create_dir(&beside).unwrap();
    assert!(desk.verify().0);
    fs::write(beside.join("7.receipt"), b"x").unwrap();
    assert!(!desk.verify().0);
}

#[test]
fn an_empty_log_and_an_export_that_is_none_are_no_good_ones() {
    let desk = Desk::with(&[]);
    let (good, said) = desk.verify();
    assert!(!good && said.contains("record 0: the trust root is enrolled once"), "{said}");
    let path: &Path = &desk.at("export/checkpoint");
    fs::remove_file(path).unwrap();
    assert!(!desk.verify().0);
}
