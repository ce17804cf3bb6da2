//! What a command says when it did what it was asked: enough to see a slip of the pen, and what to do
//! next. Whoever wrote a volume steers no terminal with it.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's own")]

use std::{fs, path::Path, process::Command};

use cloister_bundle::container;
use cloister_mint::volume::trust_volume;
use serde_json::json;

/// What the command says in `folder`; it must do what it was asked.
fn told(folder: &Path, words: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cloister-mint"))
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A trust folder of which `imp` is the importer, and where `vendor` publishes.
fn facility(folder: &Path) {
    for person in ["ann", "ben", "imp", "vendor", "eve", "flo"] {
        let public = told(folder, &format!("key create --person {person} --out {person}.key"));
        fs::write(folder.join(format!("{person}.pub")), public).unwrap();
    }
    let roles = "--root @ann.pub --root @ben.pub --importer @imp.pub --approver @eve.pub --approver @flo.pub";
    told(
        folder,
        &format!(
            "root create --trust trust --sign ann.key --sign ben.key --issued 2030-01-01T00:00:00Z {roles}"
        ),
    );
    let delegated =
        told(folder, "delegate --trust trust --key imp.key --publisher @vendor.pub --path demo/*");
    assert!(
        delegated.starts_with("delegated   publisher: 1 of vendor, for demo/*\n"),
        "{delegated}"
    );
    assert!(delegated.contains("\nlist        version 1\n"), "{delegated}");
}

#[test]
fn what_is_taken_back_is_said_and_a_volume_of_metadata_alone_shows_it() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    facility(folder);
    let key = fs::read_to_string(folder.join("vendor.pub")).unwrap();
    let generation = "ab".repeat(32);
    let revoke = format!(
        "revoke --trust trust --key imp.key --below demo=3 --generation {generation} --publisher {}",
        key.trim()
    );
    let first = told(folder, &revoke);
    let said = [
        format!("taken back  the release {generation}"),
        "taken back  every release of demo with a number below 3".to_owned(),
        "list        version 2".to_owned(),
    ];
    for line in &said {
        assert!(first.lines().any(|told| told == line), "{line}: {first}");
    }
    assert!(first.contains(" of vendor\n") && first.contains("\nnext "), "{first}");
    let again = told(folder, &revoke);
    assert!(again.contains("\nlist        version 2, which said so already\n"), "{again}");
    let stamp = "stamp --trust trust --key imp.key --issued 2030-01-02T03:04:05Z --alone alone.clb";
    let stamped = told(folder, stamp);
    assert_eq!(stamped, "stick       number 1, 2030-01-02T03:04:05Z\nwrote alone.clb\n");
    let shown = told(folder, "inspect alone.clb");
    for line in [
        "volume      trust metadata and no release; no signature is checked here".to_owned(),
        "  version   2, expires 2036-01-01T00:00:00Z".to_owned(),
        "  stick     number 1".to_owned(),
        "  time      2030-01-02T03:04:05Z".to_owned(),
        "  lists     0 releases".to_owned(),
        format!("  taken back  release {generation}"),
        "  taken back  every release of demo with a number below 3".to_owned(),
    ] {
        assert!(shown.lines().any(|told| told == line), "{line}: {shown}");
    }
    for part in ["  root      2 of ann (key ", "  approvers 2 of eve (key ", "1 of vendor (key "] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(shown.matches("  taken back  key ").count(), 1, "{shown}");
}

#[test]
fn metadata_that_says_something_else_is_shown_on_its_lines() {
    let scratch = tempfile::tempdir().unwrap();
    let hostile = "\u{1b}[2J\nlist        version 9";
    let targets = json!({"signatures": [{"keyid": hostile}, 7], "signed": {
        "_type": "targets", "expires": hostile, "version": "none",
        "delegations": {"roles": [{"name": hostile, "paths": [hostile, 3], "keyids": [hostile],
            "threshold": 1}, {}, 5], "x-persons": {hostile: hostile}},
        "targets": {hostile: {"hashes": {"sha256": hostile}}},
        "x-cloister": {"revoked": {"bundles": [hostile], "releases": {hostile: hostile},
            "keys": {hostile: hostile}}},
    }});
    let timestamp = json!({"signed": {"_type": "timestamp", "x-cloister": {"sequence_last": 4,
        "issued": hostile}}});
    let files = [
        ("1.root.json", json!({"signed": {"_type": "root", "x-cloister": {"issued": hostile}}})),
        ("a.json", json!([hostile])),
        ("targets.json", targets),
        ("timestamp.json", timestamp),
    ];
    let files = files.map(|(name, value)| (name, value.to_string()));
    let members = files.iter().map(|(name, text)| (*name, text.as_bytes()));
    let volume = trust_volume(&container::archive(members).unwrap()).unwrap();
    fs::write(scratch.path().join("word.clb"), volume).unwrap();
    let shown = told(scratch.path(), "inspect word.clb");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(!shown.lines().any(|line| line.starts_with("list ")), "{shown}");
    assert!(shown.contains("  stick     no number; the last stick had 4\n"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains("[2J")).count(), 9, "{shown}");
}
