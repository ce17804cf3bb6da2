//! What the importer takes back: a release, everything below a counter, a publisher's key.

use cloister_domain::{Coded as _, Digest};
use cloister_verify::VerifyError;
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, STRANGER, enrolled, id, key, manifest, release, role, root,
};

/// The importer's second set of files, which takes `revoked` back and delegates to `publisher`.
fn taking_back(revoked: &Value, publisher: Value, listed: Vec<(u64, Vec<u8>)>) -> Meta {
    let mut meta = Meta::new(2, listed);
    meta.publisher = publisher;
    meta.targets_extra = json!({ "revoked": revoked });
    meta
}

fn publisher(seeds: &[u8], threshold: u64) -> Value {
    let mut publisher = role(seeds, threshold);
    publisher["name"] = "publisher".into();
    publisher["terminating"] = true.into();
    publisher["paths"] = json!(["demo/*"]);
    publisher
}

#[test]
fn a_revoked_release_neither_enters_nor_is_activated_again() {
    let texts: Vec<(u64, Vec<u8>)> = (1..=3).map(|n| (n, release(n, PUBLISHER))).collect();
    let before = enrolled(&root(1)).unwrap().refresh(&Meta::new(1, texts.clone()).bytes()).unwrap();
    assert_eq!(before.may_activate(&texts[0].1), Ok(()));
    for revoked in [
        json!({"bundles": [manifest(1).generation().0.to_string(), Digest::of(b"x").to_string()]}),
        json!({"releases": {"demo": 2, "other": 9}}),
    ] {
        let meta = taking_back(&revoked, publisher(&[PUBLISHER], 1), texts.clone());
        let after = before.refresh(&meta.bytes()).unwrap();
        assert_eq!(after.judge(&texts[0].1), Err(VerifyError::Revoked));
        assert_eq!(after.may_activate(&texts[0].1), Err(VerifyError::Revoked));
        assert!(after.judge(&texts[1].1).is_ok());
        assert_eq!(after.may_activate(&texts[1].1), Ok(()));
        // What was taken back stays so when the state returns from the disk.
        let again = cloister_verify::TrustState::load(after.stored().clone()).unwrap();
        assert_eq!(again.judge(&texts[0].1), Err(VerifyError::Revoked));
    }
}

#[test]
fn a_revoked_key_counts_no_more_and_an_exchanged_one_leaves_its_releases() {
    const NEW: u8 = 8;
    let text = release(1, PUBLISHER);
    let before = enrolled(&root(1))
        .unwrap()
        .refresh(&Meta::new(1, vec![(1, text.clone())]).bytes())
        .unwrap();
    let keys = json!({ id(PUBLISHER): key(PUBLISHER).public().to_object() });
    let both = manifest(1).envelope().sign_with(&key(PUBLISHER)).sign_with(&key(NEW)).to_json();
    let list = || vec![(1, text.clone())];
    // Exchanged: the old key is no publisher's any more, what it signed stays.
    let meta = taking_back(&json!({}), publisher(&[NEW], 1), list());
    let exchanged = before.refresh(&meta.bytes()).unwrap();
    assert_eq!(exchanged.judge(&text).unwrap_err().code(), "bundle.signature.unknown-signer");
    assert_eq!(exchanged.may_activate(&text), Ok(()));
    // Revoked: nothing that hangs on it is activated, even where the list still names the key.
    for seeds in [&[PUBLISHER][..], &[NEW], &[PUBLISHER, NEW]] {
        let meta = taking_back(&json!({"keys": keys}), publisher(seeds, 1), list());
        let after = before.refresh(&meta.bytes());
        let after = after.unwrap();
        assert_eq!(after.judge(&text), Err(VerifyError::RevokedKey), "{seeds:?}");
        assert_eq!(after.may_activate(&text), Err(VerifyError::RevokedKey), "{seeds:?}");
        // Another person's signature beside it still counts.
        let counts = seeds.contains(&NEW);
        assert_eq!(after.may_activate(&both).is_ok(), counts, "{seeds:?}");
    }
    // Of two needed, one is left.
    let meta = taking_back(&json!({"keys": keys}), publisher(&[PUBLISHER, NEW], 2), list());
    let after = before.refresh(&meta.bytes()).unwrap();
    assert_eq!(after.may_activate(&both), Err(VerifyError::RevokedKey));
}

#[test]
fn a_list_that_is_not_understood_is_refused() {
    let before = enrolled(&root(1)).unwrap();
    for revoked in [
        json!([]),
        json!({"bundles": {}}),
        json!({"bundles": ["x"]}),
        json!({"releases": {"demo": -1}}),
        json!({"releases": {"demo": "2"}}),
        json!({"keys": {"a": {"keytype": "ed25519"}}}),
        json!({"keys": []}),
        json!({"other": []}),
    ] {
        let meta = taking_back(&revoked, publisher(&[PUBLISHER], 1), Vec::new());
        let refusal = before.refresh(&meta.bytes()).unwrap_err();
        assert_eq!(refusal.code(), "bundle.trust.field", "{revoked}");
    }
}

#[test]
fn only_the_importer_takes_back() {
    let before = enrolled(&root(1)).unwrap();
    for signer in [PUBLISHER, STRANGER] {
        let mut meta = taking_back(&json!({}), publisher(&[PUBLISHER], 1), Vec::new());
        meta.signer = signer;
        assert!(before.refresh(&meta.bytes()).is_err());
    }
    let meta = taking_back(&json!({}), publisher(&[PUBLISHER], 1), Vec::new());
    assert_eq!(meta.signer, IMPORTER);
    assert!(before.refresh(&meta.bytes()).is_ok());
}
