//! Roles that demand both an Ed25519 and an ML-DSA signature of each person.

use std::collections::BTreeMap;

use cloister_attest::{
    AnyKey, Signer as _, Speaker,
    approval::{Approval, Decision},
    dsse::Envelope,
    json,
    mldsa::{MlDsaSigningKey, ParameterSet},
};
use cloister_domain::{Coded as _, Digest, LogHead, Secret};
use cloister_verify::{RoleName, TrustState, VerifyError, auditors_view};
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, enrolled, id, key, manifest, pack, role, root,
    signed as signed_file, with,
};

const BOTH: [&str; 2] = ["ed25519", "ml-dsa-65"];

fn quantum(seed: u8, set: ParameterSet) -> MlDsaSigningKey {
    MlDsaSigningKey::from_seed(set, &Secret::new(vec![seed; 32])).unwrap()
}

fn object(key: &MlDsaSigningKey) -> (String, Value) {
    let public = AnyKey::from(key.public().clone());
    (public.key_id(), public.to_object())
}

/// A publisher whose releases need both halves; the halves' owners are given by `persons`.
fn demanding(
    persons: [&str; 2],
    algorithms: &[&str],
    envelope: &[u8],
) -> Result<TrustState, VerifyError> {
    let (keyid, object) = object(&quantum(PUBLISHER, ParameterSet::MlDsa65));
    let mut publisher = role(&[PUBLISHER], 1);
    publisher["keyids"] = json!([id(PUBLISHER), keyid]);
    publisher["name"] = "publisher".into();
    publisher["terminating"] = true.into();
    publisher["paths"] = json!(["demo/*"]);
    if !algorithms.is_empty() {
        publisher["x-algorithms"] = json!(algorithms);
    }
    let mut meta = Meta::new(1, vec![(1, envelope.to_vec())]);
    meta.publisher = publisher;
    meta.keys_extra = json!({ keyid.clone(): object });
    let mut root = root(1);
    root["x-cloister"]["persons"][id(PUBLISHER)] = persons[0].into();
    root["x-cloister"]["persons"][keyid] = persons[1].into();
    enrolled(&root)?.refresh(&meta.bytes())
}

fn signed(classical: bool, quantum_key: Option<&MlDsaSigningKey>) -> Envelope {
    let mut envelope = manifest(1).envelope();
    if classical {
        envelope = envelope.sign_with(&key(PUBLISHER));
    }
    match quantum_key {
        Some(key) => envelope.sign_by(key).unwrap(),
        None => envelope,
    }
}

#[test]
fn neither_half_can_be_stripped() {
    let own = quantum(PUBLISHER, ParameterSet::MlDsa65);
    let judged = |envelope: &Envelope| {
        let text = envelope.to_json();
        demanding(["pub", "pub"], &BOTH, &text).unwrap().judge(&text).map(drop)
    };
    assert_eq!(judged(&signed(true, Some(&own))), Ok(()));
    let half = Err(VerifyError::Threshold { role: RoleName::Publisher, good: 0, needed: 1 });
    assert_eq!(judged(&signed(true, None)), half);
    assert_eq!(judged(&signed(false, Some(&own))), half);
    // The same half twice is still one half.
    let twice = signed(true, None).sign_with(&key(PUBLISHER));
    assert_eq!(judged(&twice), half);
    // The other half of a stranger, of the other size, or damaged.
    for other in [quantum(9, ParameterSet::MlDsa65), quantum(PUBLISHER, ParameterSet::MlDsa87)] {
        assert_eq!(judged(&signed(true, Some(&other))), half);
    }
    for at in 0..2 {
        let mut damaged = signed(true, Some(&own));
        let middle = damaged.signatures[at].sig.len() / 2;
        damaged.signatures[at].sig[middle] ^= 1;
        assert_eq!(judged(&damaged), half);
    }
    // Signatures that call each other's keys.
    let mut crossed = signed(true, Some(&own));
    crossed.signatures.swap(0, 1);
    let (first, second) =
        (crossed.signatures[0].keyid.clone(), crossed.signatures[1].keyid.clone());
    (crossed.signatures[0].keyid, crossed.signatures[1].keyid) = (second, first);
    assert_eq!(judged(&crossed), half);
}

#[test]
fn both_halves_are_one_persons() {
    let own = quantum(PUBLISHER, ParameterSet::MlDsa65);
    let text = signed(true, Some(&own)).to_json();
    // Two persons with a half each are nobody with both, so the role could never be met.
    let refusal = demanding(["pub", "other"], &BOTH, &text).unwrap_err();
    assert_eq!(refusal.code(), "bundle.trust.threshold");
    // Nor can an algorithm be demanded of which the person has no key.
    let refusal = demanding(["pub", "pub"], &["ed25519", "ml-dsa-87"], &text).unwrap_err();
    assert_eq!(refusal.code(), "bundle.trust.threshold");
    // Where nothing is demanded, either half speaks for the person, once.
    let state = demanding(["pub", "pub"], &[], &text).unwrap();
    assert_eq!(state.judge(&text).unwrap().signers().len(), 1);
}

#[test]
fn a_demand_names_algorithms_that_are_known_each_once() {
    let meta = Meta::new(1, Vec::new()).bytes();
    for wrong in [
        json!([]),
        json!(null),
        json!("ed25519"),
        json!({}),
        json!([7]),
        json!(["none"]),
        json!(["ed25519", "none"]),
        json!(["Ed25519"]),
        json!(["ed25519", "ed25519"]),
    ] {
        let field = |role| Err(VerifyError::Field { role, field: "x-algorithms" });
        for (name, role) in [
            ("root", RoleName::Root),
            ("timestamp", RoleName::Timestamp),
            ("snapshot", RoleName::Snapshot),
            ("targets", RoleName::Targets),
        ] {
            let mut root = root(1);
            root["roles"][name]["x-algorithms"] = wrong.clone();
            assert_eq!(enrolled(&root).map(drop), field(role), "{wrong}");
            let wider = json!(["ed25519"]);
            root["roles"][name]["x-algorithms"] = wider;
            assert!(enrolled(&root).unwrap().refresh(&meta).is_ok());
        }
        let mut root = root(1);
        root["x-cloister"]["approvers"]["x-algorithms"] = wrong.clone();
        assert_eq!(enrolled(&root).map(drop), field(RoleName::Approver), "{wrong}");
        let mut meta = Meta::new(1, Vec::new());
        meta.publisher["x-algorithms"] = wrong.clone();
        let refused = with(Vec::new()).refresh(&Meta { version: 2, ..meta }.bytes());
        assert_eq!(refused.map(drop), field(RoleName::Publisher), "{wrong}");
    }
}

#[test]
fn approvers_may_be_asked_for_both_halves_too() {
    let own = quantum(6, ParameterSet::MlDsa87);
    let (keyid, object) = object(&own);
    let mut root = root(1);
    root["keys"][&keyid] = object;
    root["x-cloister"]["persons"][&keyid] = "eve".into();
    root["x-cloister"]["approvers"] = json!({
        "keyids": [id(6), keyid], "threshold": 1, "x-algorithms": ["ed25519", "ml-dsa-87"],
    });
    let state = enrolled(&root).unwrap();
    let approval = Approval {
        package: Digest::of(b"p"),
        bundle: manifest(1).generation(),
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        log: LogHead { origin: "enclave/one".to_owned(), size: 1 },
        decision: Decision::Approve,
        person: "eve".parse().unwrap(),
        comment: String::new(),
    };
    let classical = approval.sign(&key(6)).unwrap();
    let refusal = state.approval(&classical.to_json()).unwrap_err();
    assert_eq!(refusal.code(), "approval.threshold");
    let quantum_alone = approval.unsigned().unwrap().sign_by(&own).unwrap();
    let refusal = state.approval(&quantum_alone.to_json()).unwrap_err();
    assert_eq!(refusal.code(), "approval.threshold");
    let both = classical.sign_by(&own).unwrap();
    assert!(state.approval(&both.to_json()).is_ok());
    assert_eq!(own.public().as_bytes().len(), 2592);
    // An auditor is told of both, and that somebody without the other half cannot approve.
    root["x-cloister"]["approvers"]["keyids"] = json!([id(6), keyid, id(7)]);
    let text = signed_file(&root, &[1, 2]);
    let [eve, flo] = [6, 7].map(|seed| vec![AnyKey::from(key(seed).public())]);
    let speakers = BTreeMap::from([
        ("eve".parse().unwrap(), Speaker::with(vec![eve, vec![own.public().clone().into()]])),
        ("flo".parse().unwrap(), Speaker::with(vec![flo, Vec::new()])),
    ]);
    assert_eq!(auditors_view(&[&text]).unwrap().1, [(Digest::of(&text), speakers)]);
}

/// An auditor may check Ed25519 alone, so an approver's key of that kind signs whatever else does.
#[test]
fn approvers_of_whom_no_algorithm_is_asked_sign_with_ed25519() {
    let own = quantum(6, ParameterSet::MlDsa65);
    let (keyid, object) = object(&own);
    let mut root = root(1);
    root["keys"][&keyid] = object;
    root["x-cloister"]["persons"][&keyid] = "eve".into();
    let text = |envelope: Envelope| envelope.to_json();
    let approval = Approval {
        package: Digest::of(b"p"),
        bundle: manifest(1).generation(),
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        log: LogHead { origin: "enclave/one".to_owned(), size: 1 },
        decision: Decision::Approve,
        person: "eve".parse().unwrap(),
        comment: String::new(),
    };
    let half = approval.unsigned().unwrap().sign_by(&own).unwrap();
    let whole = approval.sign(&key(6)).unwrap();
    for demanded in [json!(null), json!(["ed25519"])] {
        let mut root = root.clone();
        root["x-cloister"]["approvers"] = json!({"keyids": [id(6), keyid], "threshold": 1});
        if demanded.is_array() {
            root["x-cloister"]["approvers"]["x-algorithms"] = demanded;
        }
        let state = enrolled(&root).unwrap();
        let refusal = state.approval(&text(half.clone())).unwrap_err();
        assert_eq!(refusal.code(), "approval.threshold");
        assert!(state.approval(&text(whole.clone())).is_ok());
        // The other half may stand beside it, and an auditor knows its name.
        assert!(state.approval(&text(whole.clone().sign_by(&own).unwrap())).is_ok());
        let (_, roots) = auditors_view(&[&signed_file(&root, &[1, 2])]).unwrap();
        let eve = roots[0].1.values().next().unwrap();
        assert_eq!((eve.keys.len(), eve.demanded.len()), (2, 1));
        assert_eq!(eve.demanded[0], [AnyKey::from(key(6).public())]);
    }
    // Nobody could approve under this one.
    root["x-cloister"]["approvers"] = json!({"keyids": [keyid], "threshold": 1});
    assert_eq!(enrolled(&root).unwrap_err().code(), "bundle.trust.threshold");
}

/// A signed file with the signatures whose key ids pass, and with one more.
fn with_quantum(text: &[u8], keeps: &dyn Fn(&str) -> bool, key: &MlDsaSigningKey) -> Vec<u8> {
    let mut file = json::parse_strict(text, json::DEPTH_MAX).unwrap();
    let message = json::canonical_tuf(&file["signed"]).unwrap();
    let sig: String =
        key.sign(&message).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    let signatures = file["signatures"].as_array_mut().unwrap();
    signatures.retain(|one| keeps(one["keyid"].as_str().unwrap()));
    signatures.push(json!({"keyid": object(key).0, "sig": sig}));
    file.to_string().into_bytes()
}

#[test]
fn stations_may_be_asked_for_both_halves_too() {
    let own = quantum(IMPORTER, ParameterSet::MlDsa65);
    let (keyid, object) = object(&own);
    for (at, role) in [("timestamp", RoleName::Timestamp), ("snapshot", RoleName::Snapshot)] {
        let mut root = root(1);
        root["keys"][&keyid] = object.clone();
        root["x-cloister"]["persons"][&keyid] = "imp".into();
        root["roles"][at] = json!({
            "keyids": [id(IMPORTER), keyid], "threshold": 1, "x-algorithms": BOTH,
        });
        let state = enrolled(&root).unwrap();
        let files = Meta::new(1, Vec::new()).files();
        let judged = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
            let mut files = files.clone();
            let file = files.iter_mut().find(|(name, _)| *name == format!("{at}.json")).unwrap();
            file.1 = change(&file.1);
            state.refresh(&pack(&files)).map(drop)
        };
        let half = Err(VerifyError::Threshold { role, good: 0, needed: 1 });
        assert_eq!(judged(&<[u8]>::to_vec), half);
        assert_eq!(judged(&|text| with_quantum(text, &|_keyid| false, &own)), half);
        let stranger = quantum(9, ParameterSet::MlDsa65);
        assert_eq!(judged(&|text| with_quantum(text, &|_keyid| true, &stranger)), half);
        assert_eq!(judged(&|text| with_quantum(text, &|_keyid| true, &own)), Ok(()));
    }
}
