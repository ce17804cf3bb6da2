//! What the importer takes back: a release, everything below a counter, a publisher's key.

use cloister_domain::{Coded as _, Digest};
use cloister_verify::VerifyError;
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, STRANGER, enrolled, id, key, keys, manifest, pack, release, role,
    root, signed,
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
        assert!(after.is_revoked(&texts[0].1) && !after.is_revoked(&texts[1].1));
        assert!(after.judge(&texts[1].1).is_ok());
        assert_eq!(after.may_activate(&texts[1].1), Ok(()));
        // What was taken back stays so when the state returns from the disk.
        let again = cloister_verify::TrustState::load(after.stored().clone()).unwrap();
        assert_eq!(again.judge(&texts[0].1), Err(VerifyError::Revoked));
    }
}

#[test]
fn what_a_revoked_key_signed_is_taken_back_also_below_the_floor() {
    let text = release(1, PUBLISHER);
    let list = || vec![(1, text.clone())];
    let before = enrolled(&root(1)).unwrap().refresh(&Meta::new(1, list()).bytes()).unwrap();
    let keys = json!({ id(PUBLISHER): key(PUBLISHER).public().to_object() });
    let meta = taking_back(&json!({"keys": keys}), publisher(&[8], 1), list());
    let mut next = manifest(3).release().clone();
    next.min_release_counter = 2;
    let next = cloister_bundle::Manifest::new(next).unwrap();
    let after = before.refresh(&meta.bytes()).unwrap().promoted(&next);
    // Persons may let one go below the floor; to this one nobody goes.
    assert_eq!(after.may_activate(&text), Err(VerifyError::RevokedKey));
    assert!(after.is_revoked(&text));
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
        // And is the only one that vouches.
        let keys = after.vouchers(&both).map(|vouchers| vouchers.keys);
        let ids = keys.map(|keys| keys.into_iter().map(|(id, _person)| id).collect::<Vec<_>>());
        assert_eq!(ids, counts.then(|| vec![id(NEW)]), "{seeds:?}");
    }
    // Nor where the list leaves nobody who may sign that name.
    for roles in [json!([]), json!({"name": "others", "paths": ["other/*"]})] {
        let mut meta = taking_back(&json!({"keys": keys}), publisher(&[NEW], 1), list());
        match roles.as_object() {
            None => meta.roles = Some(roles),
            Some(other) => {
                other.iter().for_each(|(field, value)| meta.publisher[field] = value.clone());
            }
        }
        let after = before.refresh(&meta.bytes()).unwrap();
        assert_eq!(after.may_activate(&text), Err(VerifyError::RevokedKey));
        assert!(after.is_revoked(&text) && after.is_revoked(&both));
        meta.targets_extra = json!({});
        let kept = before.refresh(&meta.bytes()).unwrap();
        assert_eq!(kept.may_activate(&text), Ok(()), "nothing was taken back");
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

/// Root `version`, whose importer is another.
fn exchanged(version: u64, importer: u8) -> (String, Vec<u8>) {
    let mut next = root(version);
    next["keys"] = keys(&[1, 2, 3, 6, 7, importer]);
    for name in ["targets", "snapshot", "timestamp"] {
        next["roles"][name] = role(&[importer], 1);
    }
    next["x-cloister"]["persons"][id(importer)] = "new".into();
    (format!("{version}.root.json"), signed(&next, &[1, 2]))
}

#[test]
fn what_was_taken_back_stays_so_when_a_root_comes_without_the_new_importers_files() {
    let text = release(1, PUBLISHER);
    let before = enrolled(&root(1)).unwrap();
    let before = before.refresh(&Meta::new(1, vec![(1, text.clone())]).bytes()).unwrap();
    let bundle = json!({"bundles": [manifest(1).generation().0.to_string()]});
    let by_key = json!({"keys": { id(PUBLISHER): key(PUBLISHER).public().to_object() }});
    for (list, refusal) in [(bundle, VerifyError::Revoked), (by_key, VerifyError::RevokedKey)] {
        let meta = taking_back(&list, publisher(&[PUBLISHER], 1), vec![(1, text.clone())]);
        let revoked = before.refresh(&meta.bytes()).unwrap();
        let alone = revoked.refresh(&pack(&[exchanged(2, 10)])).unwrap();
        assert_eq!(alone.stored().vector.targets, 0, "the old importer's files are void");
        let twice = alone.refresh(&pack(&[exchanged(2, 10), exchanged(3, 11)])).unwrap();
        for state in [&alone, &twice] {
            let again = cloister_verify::TrustState::load(state.stored().clone()).unwrap();
            for state in [state, &again] {
                assert_eq!(state.may_activate(&text), Err(refusal), "{list}");
                assert!(state.is_revoked(&text));
            }
        }
        // The new importer's list is the one that counts, once it is there.
        let mut newest = Meta::new(1, vec![(1, text.clone())]);
        newest.signer = 11;
        let healed = twice.refresh(&newest.bytes()).unwrap();
        assert_eq!(healed.may_activate(&text), Ok(()));
        assert_eq!(healed.stored().files.len(), 4, "nothing is kept beside");
        let again = cloister_verify::TrustState::load(healed.stored().clone()).unwrap();
        assert_eq!(again.may_activate(&text), Ok(()));
    }
}

#[test]
fn trust_metadata_holds_no_file_of_another_name() {
    let state = enrolled(&root(1)).unwrap();
    for name in [
        "z.json",
        "0.root.json",
        "01.root.json",
        "+1.root.json",
        "18446744073709551616.root.json",
        "root.json",
        "1.timestamp.json",
        "1.revoked.json",
        "1.publisher.json",
        "timestamp.json2",
    ] {
        let mut meta = Meta::new(1, Vec::new());
        meta.extra = vec![(name.to_owned(), b"{}".to_vec())];
        let refusal = state.refresh(&meta.bytes()).unwrap_err();
        assert_eq!(refusal.code(), "bundle.meta", "{name}");
    }
}

#[test]
fn a_new_station_cannot_send_an_older_list_of_the_same_importer() {
    const STATION: u8 = 10;
    let text = release(1, PUBLISHER);
    let list = || vec![(1, text.clone())];
    let bundle = json!({"bundles": [manifest(1).generation().0.to_string()]});
    let mut newest = taking_back(&bundle, publisher(&[PUBLISHER], 1), list());
    newest.version = 3;
    let before = enrolled(&root(1)).unwrap();
    let before = before.refresh(&Meta::new(2, list()).bytes()).unwrap();
    let before = before.refresh(&newest.bytes()).unwrap();
    let mut next = root(2);
    next["keys"] = keys(&[1, 2, 3, 4, 6, 7, STATION]);
    next["roles"]["timestamp"] = role(&[STATION], 1);
    next["x-cloister"]["persons"][id(STATION)] = "station".into();
    let next = ("2.root.json".to_owned(), signed(&next, &[1, 2]));
    let with_its_timestamp = |meta: &Meta| {
        let mut files = meta.files();
        let timestamp = files.iter_mut().find(|(name, _)| name == "timestamp.json").unwrap();
        let value: Value = serde_json::from_slice(&timestamp.1).unwrap();
        timestamp.1 = signed(&value["signed"], &[STATION]);
        files.push(next.clone());
        files.sort();
        pack(&files)
    };
    let alone = before.refresh(&pack(std::slice::from_ref(&next))).unwrap();
    for state in [&before, &alone] {
        let older = state.refresh(&with_its_timestamp(&Meta::new(2, list())));
        assert_eq!(older.unwrap_err().code(), "bundle.trust.stale");
        let same = state.refresh(&with_its_timestamp(&newest)).unwrap();
        assert_eq!(same.may_activate(&text), Err(VerifyError::Revoked));
        assert_eq!(same.stored().vector.void, [0; 3]);
        let again = cloister_verify::TrustState::load(same.stored().clone()).unwrap();
        assert_eq!(again.judge(&text), Err(VerifyError::Revoked));
    }
    let loaded = cloister_verify::TrustState::load(alone.stored().clone()).unwrap();
    assert_eq!(loaded, alone);
    assert_eq!(loaded.stored().vector.void, [0, 3, 3]);
}

#[test]
fn a_version_has_one_content_under_a_newer_timestamp_too() {
    let state = enrolled(&root(1)).unwrap();
    let state = state.refresh(&Meta::new(1, vec![(1, release(1, PUBLISHER))]).bytes()).unwrap();
    // Timestamp 2 over another snapshot and list of version 1.
    let mut other = Meta::new(1, vec![(2, release(2, PUBLISHER))]);
    other.timestamp_extra = json!({"sequence": 9});
    let mut files = other.files();
    let timestamp = files.iter_mut().find(|(name, _)| name == "timestamp.json").unwrap();
    let mut value: Value = serde_json::from_slice(&timestamp.1).unwrap();
    value["signed"]["version"] = 2.into();
    timestamp.1 = signed(&value["signed"], &[IMPORTER]);
    let refusal = state.refresh(&pack(&files)).unwrap_err();
    assert_eq!(refusal.code(), "bundle.trust.other-content");
}
