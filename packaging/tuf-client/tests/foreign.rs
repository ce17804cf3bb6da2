//! Another implementation, the Python package `tuf`, as judge of the verifier and as its partner.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cloister_bundle::container;
use cloister_domain::Digest;
use cloister_mint::{
    importer::{Delegation, Importer},
    keys::Holder,
    trust::{Folder, Roles},
};
use cloister_samples::{key, signed};
use cloister_stage::outside;
use cloister_verify::{enrol, target_path};

/// Runs a script of `tests/clients` and returns what it wrote.
fn script(name: &str, words: &[&str]) -> Output {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let output = Command::new(outside::python().unwrap())
        .arg(scripts.join(name))
        .args(words)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}{failed}");
    output
}

#[test]
fn both_clients_judge_every_repository_alike() {
    let output =
        script("tuf_oracle.py", &[env!("CARGO_BIN_EXE_cloister-tuf-client"), "--seeds", "80"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let sum: serde_json::Value = serde_json::from_str(said.trim()).unwrap();
    assert!(sum["cases"].as_u64().unwrap() > 100, "{said}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path)))
        .collect();
    files.sort();
    files
}

#[expect(clippy::disallowed_methods, reason = "files that the test itself had written")]
fn read(path: &PathBuf) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn a_repository_that_python_tuf_wrote_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (good, other) = (signed(1, 1), signed(1, 2));
    let manifest = folder.path().join("manifest");
    std::fs::write(&manifest, &good).unwrap();
    let path = target_path("demo", "1.0.0");
    let publisher = key(1).public().to_hex();
    script(
        "tuf_repository.py",
        &["write", text(folder.path()), &path, text(&manifest), &publisher],
    );
    let root = read(&folder.path().join("1.root.json"));
    let state = enrol(&root, Digest::of(&root)).unwrap();
    assert_eq!(state.approvals_needed(), Some(2));
    let files = files(folder.path());
    let members = files.iter().map(|(name, text)| (name.as_str(), text.as_slice()));
    let state = state.refresh(&container::archive(members).unwrap()).unwrap();
    assert!(state.judge(&good).is_ok());
    assert!(state.judge(&other).is_err());
    // A bit of any of its files, and nothing is taken.
    for at in 0..files.len() {
        let mut damaged = files.clone();
        let middle = damaged[at].1.len() / 2;
        damaged[at].1[middle] ^= 1;
        let members = damaged.iter().map(|(name, text)| (name.as_str(), text.as_slice()));
        assert!(state.refresh(&container::archive(members).unwrap()).is_err(), "{}", files[at].0);
    }
}

#[test]
fn python_tuf_reads_what_mint_writes() {
    let folder = tempfile::tempdir().unwrap();
    let trust = Folder::at(folder.path()).unwrap();
    let holder = |name: &str, seed: u8| Holder {
        person: name.parse().unwrap(),
        key: key(seed).public().into(),
    };
    let roles = Roles {
        root: vec![holder("ada", 1), holder("bob", 2), holder("cyd", 3)],
        root_threshold: 2,
        importers: vec![holder("imp", 4)],
        approvers: vec![holder("eve", 6), holder("flo", 7)],
        approvals: 2,
        publishers: vec![holder("pub", 5)],
        expires: "2099-01-01T00:00:00Z".to_owned(),
        ..Roles::default()
    };
    trust.create_root(&roles, &[key(1), key(2)]).unwrap();
    let delegation = Delegation {
        name: "publisher".to_owned(),
        publishers: vec![holder("pub", 5)],
        threshold: 1,
        paths: vec!["demo/*".to_owned()],
        algorithms: Vec::new(),
    };
    let keys = [key(4)];
    let importer = Importer::new(&keys, "2098-01-01T00:00:00Z");
    trust.delegate(&delegation, &importer).unwrap();
    trust.rotate_root(&roles, &[key(1), key(3)]).unwrap();
    let envelope = signed(1, 5);
    trust.admit(&envelope, &importer).unwrap();
    trust.stamp(&importer).unwrap();
    let path = target_path("demo", "1.0.0");
    let output = script("tuf_repository.py", &["read", text(folder.path()), &path]);
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed["hashes"]["sha256"], Digest::of(&envelope).to_string());
    assert_eq!(listed["length"], envelope.len());
}
