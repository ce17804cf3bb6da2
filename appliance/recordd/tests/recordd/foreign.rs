//! Other people's code, Go's sumdb/note and sumdb/tlog, agrees about exports, proofs, requests and the
//! hashes of every small log.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_domain::Digest;
use cloister_record::{
    Export, Note, WitnessKey, prove,
    tree::{Tree, check_consistency, check_inclusion, leaf_hash},
};
use cloister_wire::record::{Answer, Event, Request};

use crate::support::{Root, key};

/// Where Debian's golang-golang-x-mod-dev lies.
const GO_PATH: &str = "/usr/share/gocode";

/// The foreign verifier, built; nothing where there is no Go or no such package.
fn verifier(folder: &Path) -> Option<PathBuf> {
    let package = Path::new(GO_PATH).join("src/golang.org/x/mod/sumdb/tlog");
    let go = Command::new("go").arg("version").output();
    if !package.exists() || !go.is_ok_and(|output| output.status.success()) {
        let told =
            "skipped: the packages golang-go and golang-golang-x-mod-dev are not installed\n";
        std::io::stderr().write_all(told.as_bytes()).unwrap();
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/tlog_verifier.go");
    let program = folder.join("tlog_verifier");
    let built = Command::new("go")
        .args(["build", "-o"])
        .args([&program, &source])
        .envs([("GO111MODULE", "off"), ("GOPATH", GO_PATH), ("GOTOOLCHAIN", "local")])
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"))
        .status()
        .unwrap();
    assert!(built.success(), "the foreign verifier does not build");
    Some(program)
}

/// Exit status and output.
fn run(program: &Path, words: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(words).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn write(folder: &Path, export: &Export) -> String {
    for (path, bytes) in export {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder.display().to_string()
}

#[test]
fn go_verifies_an_export_with_its_cosignature_a_proof_and_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = verifier(folder.path()) else { return };
    let witness = WitnessKey::new("auditor", key(20).public()).unwrap();
    let root = Root::with(&format!("witnesses = [\"{witness}\"]"));
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let ask = || match running.ask(&Request::Cosigning { witness: None }).unwrap() {
        Answer::Cosigning { text } => text,
        other => panic!("no request: {other:?}"),
    };
    let sign = || {
        let (_, checkpoint, _) = running.head();
        let text = Note::parse(&checkpoint).unwrap().text().to_owned();
        let signature = key(20).sign(WitnessKey::message(&text, 1_800_000_000).as_bytes());
        let signatures = witness.line(1_800_000_000, &signature);
        running.ask(&Request::Accept { checkpoint, signatures }).unwrap();
    };
    for number in 0..299 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    sign();
    let early = running.export();
    for number in 299..520 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    let (_, checkpoint, log_key) = running.head();
    let path = folder.path().join("request");
    fs::write(&path, ask()).unwrap();
    let root_line = |checkpoint: &str| checkpoint.lines().nth(2).unwrap().to_owned();
    let old = root_line(std::str::from_utf8(&early["checkpoint"]).unwrap());
    let words = ["request", path.to_str().unwrap(), &log_key];
    assert!(run(&program, &[&words[..], &[&old]].concat()).0);
    assert!(!run(&program, &[&words[..], &[&root_line(&checkpoint)]].concat()).0);
    sign();

    let export = running.export();
    let place = write(&folder.path().join("export"), &export);
    let witness = witness.to_string();
    let good = ["export", &place, &log_key, &witness];
    let (status, said) = run(&program, &good);
    assert!(status && said.starts_with("521 "), "{said}");
    assert!(said.contains(&root_line(&checkpoint)), "{said}");
    let stranger = WitnessKey::new("auditor", key(21).public()).unwrap().to_string();
    assert!(!run(&program, &["export", &place, &log_key, &stranger]).0);
    for (path, bytes) in &export {
        let target = folder.path().join("export").join(path);
        for place in [0, bytes.len() / 2, bytes.len() - 2] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            fs::write(&target, changed).unwrap();
            assert!(!run(&program, &good).0, "{path}, byte {place}");
        }
        fs::write(&target, bytes).unwrap();
    }

    let log = log_key.parse().unwrap();
    for index in [0, 255, 256, 519] {
        let (proof, entry) = prove(&export, &log, index).unwrap();
        let (record, path) = (folder.path().join("record"), folder.path().join("proof"));
        fs::write(&record, entry).unwrap();
        fs::write(&path, proof.to_text()).unwrap();
        let words = ["proof", record.to_str().unwrap(), path.to_str().unwrap(), &log_key];
        let (status, said) = run(&program, &words);
        assert!(status, "{index}: {said}");
        fs::write(&record, [entry, b" "].concat()).unwrap();
        assert!(!run(&program, &words).0, "another record");
    }
}

#[test]
fn the_hashes_and_proofs_of_go_are_ours() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = verifier(folder.path()) else { return };
    let (status, said) = run(&program, &["vectors", "70"]);
    assert!(status, "{said}");
    let hash = |text: &str| {
        let bytes: [u8; 32] = BASE64_STANDARD.decode(text).unwrap().try_into().unwrap();
        Digest::from_bytes(bytes)
    };
    let mut tree = Tree::new();
    (0..70u64).for_each(|number| tree.push(leaf_hash(number.to_string().as_bytes())));
    let mut lines = 0;
    for line in said.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let size: u64 = words[1].parse().unwrap();
        let root = tree.root_of(size);
        if words[0] == "root" {
            assert_eq!(root, hash(words[2]), "{line}");
            continue;
        }
        let place: u64 = words[2].parse().unwrap();
        let proof: Vec<Digest> = words[3..].iter().map(|text| hash(text)).collect();
        if words[0] == "record" {
            assert_eq!(proof, tree.inclusion(place, size), "{line}");
            let leaf = tree.subtree(0, place).unwrap();
            assert_eq!(check_inclusion(&leaf, place, size, &proof, &root), Ok(()));
        } else {
            assert_eq!(proof, tree.consistency(place, size), "{line}");
            let old = tree.root_of(place);
            assert_eq!(check_consistency((place, &old), (size, &root), &proof), Ok(()));
        }
        lines += 1;
    }
    assert_eq!(lines, 70 * 71);
}
