//! What the trust state accepts and refuses, with metadata written as TUF writes it.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

mod approvals;
mod client;
mod delegations;
mod forms;
mod hybrid;
mod lists;
mod revoked;
mod rotations;
mod support;
mod time;

use cloister_attest::{AnyKey, Speaker, json};
use cloister_bundle::Manifest;
use cloister_domain::{Coded as _, Digest};
use cloister_verify::{RoleName, TrustState, VerifyError, auditors_view, enrol};
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, STRANGER, enrolled, id, key, keys, manifest, pack, release, role,
    root, signed, with,
};

#[test]
fn a_listed_release_of_the_right_publisher_is_verified() {
    let text = release(1, PUBLISHER);
    let state = with(vec![(1, text.clone())]);
    let verified = state.judge(&text).unwrap();
    assert_eq!(verified.get(), &manifest(1));
    assert_eq!(verified.signers().iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["pub"]);
    assert!(!verified.already_promoted());
}

#[test]
fn a_root_is_enrolled_only_with_the_digest_that_was_compared() {
    let text = signed(&root(1), &[1, 2]);
    assert_eq!(enrol(&text, Digest::of(b"other")), Err(VerifyError::Confirmed));
    let once = VerifyError::Threshold { role: RoleName::Root, good: 1, needed: 2 };
    for signers in [vec![1], vec![1, STRANGER]] {
        let text = signed(&root(1), &signers);
        assert_eq!(enrol(&text, Digest::of(&text)), Err(once), "{signers:?}");
    }
    // CVE-2020-15093, CVE-2026-6966: one key's signature, written twice.
    let text = signed(&root(1), &[1, 1]);
    let twice = VerifyError::Field { role: RoleName::Root, field: "signatures" };
    assert_eq!(enrol(&text, Digest::of(&text)), Err(twice));
}

#[test]
fn thresholds_count_persons_and_must_be_possible() {
    let impossible = |change: &dyn Fn(&mut Value)| {
        let mut bad = root(1);
        change(&mut bad);
        assert_eq!(enrolled(&bad).unwrap_err().code(), "bundle.trust.threshold");
    };
    // CVE-2026-23992: a threshold of zero turns verification off.
    impossible(&|root| root["roles"]["targets"]["threshold"] = 0.into());
    impossible(&|root| root["roles"]["root"]["threshold"] = 4.into());
    impossible(&|root| root["x-cloister"]["approvers"]["threshold"] = 3.into());
    // Two keys of one person are one person.
    impossible(&|root| root["x-cloister"]["persons"][id(7)] = "eve".into());
    let mut same = root(1);
    same["x-cloister"]["persons"][id(2)] = "ada".into();
    let once = VerifyError::Threshold { role: RoleName::Root, good: 1, needed: 2 };
    assert_eq!(enrolled(&same), Err(once));
}

#[test]
fn a_signature_has_one_spelling() {
    let text = String::from_utf8(signed(&root(1), &[1, 2])).unwrap();
    let (_, from) = text.split_once("\"sig\":\"").unwrap();
    let sig = from.get(..128).unwrap();
    let upper = text.replace(sig, &sig.to_uppercase());
    assert_ne!(upper, text);
    let once = VerifyError::Threshold { role: RoleName::Root, good: 1, needed: 2 };
    assert_eq!(enrol(upper.as_bytes(), Digest::of(upper.as_bytes())), Err(once));
}

#[test]
fn what_a_facility_adds_is_an_object_or_absent() {
    let wrong = VerifyError::Field { role: RoleName::Root, field: "x-cloister" };
    for other in [json!(null), json!(true), json!("{}"), json!([])] {
        let mut part = root(1);
        part["x-cloister"] = other;
        assert_eq!(enrolled(&part), Err(wrong));
    }
}

#[test]
fn a_facilitys_field_that_is_not_known_is_refused() {
    let wrong = |role| Err(VerifyError::Field { role, field: "x-cloister" });
    for name in ["more", "x-more", "Persons", "person", "revoked", "sequence", ""] {
        let mut part = root(1);
        part["x-cloister"][name] = json!({});
        assert_eq!(enrolled(&part).map(drop), wrong(RoleName::Root), "{name}");
        let mut part = root(1);
        part["x-cloister"]["approvers"][name] = 1.into();
        assert_eq!(enrolled(&part).map(drop), wrong(RoleName::Root), "{name}");
    }
    let state = enrolled(&root(1)).unwrap();
    let refresh = |change: &dyn Fn(&mut Meta)| {
        let mut meta = Meta::new(1, Vec::new());
        change(&mut meta);
        state.refresh(&meta.bytes()).map(drop)
    };
    assert_eq!(refresh(&|meta| meta.targets_extra = json!({})), Ok(()));
    assert_eq!(refresh(&|meta| meta.targets_extra = json!({"revoked": {}})), Ok(()));
    assert_eq!(refresh(&|meta| meta.snapshot_extra = json!({})), Ok(()));
    for name in ["Revoked", "revocations", "persons", "issued"] {
        let other = json!({"revoked": {}, name: {}});
        let refused = refresh(&|meta| meta.targets_extra = other.clone());
        assert_eq!(refused, wrong(RoleName::Targets), "{name}");
        let other = json!({"issued": "2030-01-01T00:00:00Z", name: "2030-01-01T00:00:00Z"});
        let refused = refresh(&|meta| meta.timestamp_extra = other.clone());
        let expected = if name == "issued" { Ok(()) } else { wrong(RoleName::Timestamp) };
        assert_eq!(refused, expected, "{name}");
        let refused = refresh(&|meta| meta.snapshot_extra = json!({name: 1}));
        assert_eq!(refused, wrong(RoleName::Snapshot), "{name}");
    }
    // Fields of TUF's that others add are theirs.
    let mut part = root(1);
    part["x-other"] = json!({"more": 1});
    part["roles"]["root"]["x-other"] = 1.into();
    assert!(enrolled(&part).is_ok());
}

#[test]
fn a_key_named_twice_or_misnamed_is_refused() {
    let mut twice = root(1);
    let mut object = key(1).public().to_object();
    object["x-note"] = "again".into();
    let other = Digest::of(&json::canonical_tuf(&object).unwrap()).to_string();
    twice["keys"][other] = object;
    let mut misnamed = root(1);
    misnamed["keys"][id(STRANGER)] = key(1).public().to_object();
    let mut listed_twice = root(1);
    listed_twice["roles"]["root"]["keyids"] = json!([id(1), id(1), id(2)]);
    for bad in [twice, misnamed, listed_twice] {
        assert_eq!(enrolled(&bad).unwrap_err().code(), "bundle.trust.field");
    }
}

#[test]
fn maker_importer_and_approver_never_share_a_key() {
    let mut bad = root(1);
    bad["x-cloister"]["approvers"] = role(&[IMPORTER, 6], 2);
    assert_eq!(enrolled(&bad), Err(VerifyError::SharedKey));
    for shared in [IMPORTER, 6] {
        let mut meta = Meta::new(1, Vec::new());
        meta.publisher["keyids"] = json!([id(shared)]);
        let state = enrolled(&root(1)).unwrap();
        assert_eq!(state.refresh(&meta.bytes()), Err(VerifyError::SharedKey));
    }
}

#[test]
fn maker_importer_and_approver_are_never_one_person_with_several_keys() {
    let named = |seed: u8, person: &str| {
        let mut next = root(1);
        next["x-cloister"]["persons"][id(seed)] = person.into();
        next
    };
    assert_eq!(enrolled(&named(IMPORTER, "eve")), Err(VerifyError::SharedPerson));
    // Whom the root names as the publisher's holder, and the list itself.
    for person in ["imp", "eve"] {
        let state = enrolled(&named(PUBLISHER, person)).unwrap();
        let refusal = state.refresh(&Meta::new(1, Vec::new()).bytes());
        assert_eq!(refusal, Err(VerifyError::SharedPerson), "{person}");
    }
    // An officer may be anybody.
    assert!(enrolled(&named(1, "imp")).is_ok());
}

#[test]
fn roles_stay_apart_and_possible_where_bins_are_delegated_to() {
    let state = enrolled(&root(1)).unwrap();
    let bins = |seeds: &[u8], threshold| {
        let mut bins = role(seeds, threshold);
        bins["bit_length"] = 4.into();
        bins["name_prefix"] = "bin".into();
        let mut meta = Meta::new(1, Vec::new());
        meta.roles = Some(bins);
        state.refresh(&meta.bytes())
    };
    assert!(bins(&[PUBLISHER], 1).is_ok());
    for shared in [IMPORTER, 6] {
        assert_eq!(bins(&[shared], 1), Err(VerifyError::SharedKey));
        assert_eq!(bins(&[PUBLISHER, shared], 1), Err(VerifyError::SharedKey));
    }
    assert_eq!(bins(&[PUBLISHER], 5).unwrap_err().code(), "bundle.trust.threshold");
}

#[test]
fn an_older_stick_changes_nothing() {
    let state = with(vec![(1, release(1, PUBLISHER))]);
    let newer = state.refresh(&Meta::new(2, Vec::new()).bytes()).unwrap();
    assert_eq!(newer.stored().vector.targets, 2);
    assert_ne!(newer, state);
    let again = newer.refresh(&Meta::new(1, vec![(1, release(1, PUBLISHER))]).bytes()).unwrap();
    assert_eq!(again, newer);
    assert_eq!(again.judge(&release(1, PUBLISHER)), Err(VerifyError::NotListed));
}

#[test]
fn a_held_version_has_one_content() {
    let held = with(Vec::new());
    let files = Meta::new(1, Vec::new()).files();
    assert_eq!(held.refresh(&pack(&files)).as_ref(), Ok(&held));
    for (at, (name, _)) in files.iter().enumerate() {
        let mut changed = files.clone();
        // White space before the object: the same message with the same signatures.
        changed[at].1.insert(0, b' ');
        let refused = held.refresh(&pack(&changed)).unwrap_err();
        assert_eq!(refused.code(), "bundle.trust.other-content", "{name}");
    }
    let mut other = signed(&root(1), &[1, 2]);
    other.push(b'\n');
    let refused = held.refresh(&pack(&[("1.root.json".to_owned(), other)])).unwrap_err();
    assert_eq!(refused, VerifyError::OtherContent { file: "root.json" });
}

#[test]
fn an_auditor_knows_the_approvers_of_every_root() {
    let mut second = root(2);
    second["x-cloister"]["approvers"] = role(&[7, 8], 2);
    second["keys"] = keys(&[1, 2, 3, 4, 7, 8]);
    let texts = [signed(&root(1), &[1, 2]), signed(&second, &[1, 2])];
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    let (digest, roots) = auditors_view(&texts).unwrap();
    assert_eq!(digest, Digest::of(texts[0]));
    // Each root by its own words: nobody approves under one for having approved under another.
    let eight = id(8);
    let expected = [(texts[0], [("eve", 6), ("flo", 7)]), (texts[1], [("flo", 7), (&eight, 8)])];
    assert_eq!(roots.len(), expected.len());
    for ((text, approvers), root) in expected.into_iter().zip(&roots) {
        let one = |(name, seed): (&str, u8)| {
            (name.parse().unwrap(), Speaker::with(vec![vec![AnyKey::from(key(seed).public())]]))
        };
        assert_eq!(*root, (Digest::of(text), approvers.map(one).into_iter().collect()));
    }
    assert_eq!(auditors_view(&texts[..1]).unwrap().1.len(), 1);
    assert!(auditors_view(&[]).is_err());
    let backwards = [texts[1], texts[0]];
    assert_eq!(auditors_view(&backwards).unwrap_err().code(), "bundle.trust.root-chain");
}

#[test]
fn a_snapshot_neither_drops_nor_lowers_what_it_named() {
    let meta = |version: u64, delegated: &[(&str, u64)]| {
        let mut meta = Meta::new(version, Vec::new());
        meta.delegated = delegated.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        meta.bytes()
    };
    let state = enrolled(&root(1)).unwrap().refresh(&meta(1, &[("a", 2)])).unwrap();
    assert!(state.refresh(&meta(2, &[("a", 2), ("b", 1)])).is_ok());
    let role = RoleName::Delegated;
    assert_eq!(state.refresh(&meta(2, &[])), Err(VerifyError::Removed { role }));
    let lower = state.refresh(&meta(2, &[("a", 1)]));
    assert_eq!(lower, Err(VerifyError::Stale { role, offered: 1, held: 2 }));
}

#[test]
fn metadata_has_the_bytes_that_are_listed() {
    let state = enrolled(&root(1)).unwrap();
    let mut files = Meta::new(1, Vec::new()).files();
    let targets = files.iter_mut().find(|(name, _)| name == "targets.json").unwrap();
    // White space before the object: the same message with the same signatures.
    targets.1.insert(0, b' ');
    let mixed = Err(VerifyError::Mixed { role: RoleName::Targets });
    assert_eq!(state.refresh(&pack(&files)), mixed);
}

#[test]
fn parts_of_two_sets_do_not_mix() {
    let state = enrolled(&root(1)).unwrap();
    let (old, new) = (Meta::new(1, Vec::new()).files(), Meta::new(2, Vec::new()).files());
    for name in ["snapshot.json", "targets.json"] {
        let mixed: Vec<_> = new
            .iter()
            .map(
                |file| {
                    if file.0 == name { old.iter().find(|f| f.0 == name).unwrap() } else { file }
                },
            )
            .cloned()
            .collect();
        let refusal = state.refresh(&pack(&mixed)).unwrap_err();
        assert_eq!(refusal.code(), "bundle.trust.mixed", "{name}");
        let without: Vec<_> = new.iter().filter(|file| file.0 != name).cloned().collect();
        let refusal = state.refresh(&pack(&without)).unwrap_err();
        assert_eq!(refusal.code(), "bundle.trust.missing", "{name}");
    }
}

#[test]
fn other_signers_are_refused_by_what_they_lack() {
    let cases: [(Vec<u8>, &str); 4] = [
        (release(1, STRANGER), "bundle.signature.unknown-signer"),
        (release(1, IMPORTER), "bundle.signature.unknown-signer"),
        (manifest(1).envelope().to_json(), "bundle.signature.unknown-signer"),
        (
            {
                let mut envelope = manifest(1).envelope().sign_with(&key(PUBLISHER));
                envelope.signatures[0].sig[0] ^= 1;
                envelope.to_json()
            },
            "bundle.signature.threshold",
        ),
    ];
    for (text, code) in cases {
        let state = with(vec![(1, text.clone())]);
        assert_eq!(state.judge(&text).unwrap_err().code(), code);
    }
    let state = enrolled(&root(1)).unwrap();
    let mut meta = Meta::new(1, Vec::new());
    meta.signer = PUBLISHER;
    let refusal = state.refresh(&meta.bytes()).unwrap_err();
    assert_eq!(refusal, VerifyError::UnknownSigner { role: RoleName::Timestamp });
}

#[test]
fn a_publisher_is_held_to_its_paths_and_the_importer_to_its_list() {
    let text = release(1, PUBLISHER);
    let mut meta = Meta::new(1, vec![(1, text.clone())]);
    meta.publisher["paths"] = json!(["other/*"]);
    let state = enrolled(&root(1)).unwrap().refresh(&meta.bytes()).unwrap();
    assert_eq!(state.judge(&text), Err(VerifyError::OutOfScope));
    let state = with(vec![(2, release(2, PUBLISHER))]);
    assert_eq!(state.judge(&text), Err(VerifyError::NotListed));
    // The same payload, signed twice: other bytes than the importer saw.
    let state = with(vec![(1, text)]);
    let twice = manifest(1).envelope().sign_with(&key(PUBLISHER)).sign_with(&key(STRANGER));
    assert_eq!(state.judge(&twice.to_json()), Err(VerifyError::NotListed));
    let enrolled_only = enrolled(&root(1)).unwrap();
    assert_eq!(enrolled_only.judge(b"{}").unwrap_err().code(), "bundle.trust.missing");
}

#[test]
fn what_was_promoted_is_never_undercut() {
    let texts: Vec<(u64, Vec<u8>)> = (1..=3).map(|n| (n, release(n, PUBLISHER))).collect();
    let state = with(texts.clone());
    let state = state.promoted(&manifest(1)).promoted(&manifest(2));
    assert_eq!(state.judge(&texts[0].1), Err(VerifyError::Rollback { offered: 1, held: 2 }));
    assert!(state.judge(&texts[1].1).unwrap().already_promoted());
    assert!(!state.judge(&texts[2].1).unwrap().already_promoted());
    // Promoting the older retained one again does not lower anything.
    assert_eq!(state.promoted(&manifest(1)), state);
    assert_eq!(state.promoted(&manifest(2)), state);
    // Equality is not newer: another release under the same number.
    let mut twin = manifest(2).release().clone();
    twin.licences = vec!["MIT".to_owned()];
    let twin_manifest = Manifest::new(twin).unwrap();
    let twin = twin_manifest.envelope().sign_with(&key(PUBLISHER)).to_json();
    let other = state.refresh(&Meta::new(2, vec![(2, twin.clone())]).bytes()).unwrap();
    assert_eq!(state.promoted(&twin_manifest), state);
    assert_eq!(other.judge(&twin), Err(VerifyError::Rollback { offered: 2, held: 2 }));
    assert_eq!(other.may_activate(&texts[0].1), Ok(()));
    let mut raised = manifest(3).release().clone();
    raised.min_release_counter = 2;
    let raised = other.promoted(&Manifest::new(raised).unwrap());
    assert_eq!(
        raised.may_activate(&texts[0].1),
        Err(VerifyError::Rollback { offered: 1, held: 2 })
    );
    assert_eq!(raised.may_activate(&texts[1].1), Ok(()));
}

#[test]
fn an_older_release_that_is_promoted_after_a_newer_one_forbids_what_it_forbids() {
    let texts: Vec<(u64, Vec<u8>)> = (1..=3).map(|n| (n, release(n, PUBLISHER))).collect();
    let state = with(texts.clone()).promoted(&manifest(3));
    let mut raised = manifest(2).release().clone();
    raised.min_release_counter = 2;
    let state = state.promoted(&Manifest::new(raised).unwrap());
    let below = Err(VerifyError::Rollback { offered: 1, held: 2 });
    assert_eq!(state.may_activate(&texts[0].1), below);
    assert_eq!(state.may_activate(&texts[2].1), Ok(()));
    // What is newest stays so.
    assert!(state.judge(&texts[2].1).unwrap().already_promoted());
    assert_eq!(state.judge(&texts[1].1), Err(VerifyError::Rollback { offered: 2, held: 3 }));
}

#[test]
fn the_state_returns_from_what_was_stored() {
    let state = with(vec![(1, release(1, PUBLISHER))]).promoted(&manifest(1));
    let vector = serde_json::to_string(&state.stored().vector).unwrap();
    let mut stored = state.stored().clone();
    stored.vector = serde_json::from_str(&vector).unwrap();
    assert_eq!(TrustState::load(stored.clone()), Ok(state));
    assert_eq!(stored.vector.root_sha256, Digest::of(&stored.files["root.json"]));
    let lies: [fn(&mut cloister_verify::Vector); 5] = [
        |vector| vector.root = 2,
        |vector| vector.root_sha256 = Digest::of(b"other"),
        |vector| vector.timestamp = 2,
        |vector| vector.snapshot = 2,
        |vector| vector.targets = 0,
    ];
    for lie in lies {
        let mut other = stored.clone();
        lie(&mut other.vector);
        assert_eq!(TrustState::load(other), Err(VerifyError::Corrupt));
    }
    // Before any importer's file came.
    let begun = enrolled(&root(1)).unwrap();
    assert_eq!(TrustState::load(begun.stored().clone()).as_ref(), Ok(&begun));
    assert_eq!(begun.root_digest(), begun.stored().vector.root_sha256);
    let mut other = stored;
    other.files.insert("root.json".to_owned(), signed(&root(1), &[2, 3]).into());
    assert_eq!(TrustState::load(other), Err(VerifyError::Corrupt));
}

#[test]
fn truncated_metadata_is_refused_at_every_length() {
    let state = enrolled(&root(1)).unwrap();
    let bytes = Meta::new(1, Vec::new()).bytes();
    for length in 0..bytes.len() {
        assert!(state.refresh(&bytes[..length]).is_err(), "cut at {length}");
    }
}
