//! The bytes of format version 1, which docs/formats/record.md shows, never change.

#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::collections::BTreeMap;

use cloister_attest::{
    SigningKey, Speaker,
    approval::{Approval, Decision},
};
use cloister_domain::{Digest, GenerationId, LogHead, Secret};
use cloister_record::{
    Checkpoint, Export, Fault, Host, Place, Time, Trust, VerifierKey, sign,
    tiles::{self, Kind},
    tree::{Tree, leaf_hash},
    verify,
};
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::{Value, json};

const ORIGIN: &str = "hospital-north/appliance-1";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).unwrap()
}

fn entry(event: Event, act: &str, subject: &[(&str, Digest)], facts: &Value) -> Entry {
    let named =
        |(name, sha256): &(&str, Digest)| Subject { name: (*name).to_owned(), sha256: *sha256 };
    Entry {
        event,
        act: act.to_owned(),
        subject: subject.iter().map(named).collect(),
        predicate: facts.as_object().unwrap().clone(),
    }
}

fn signed(before: &[Vec<u8>], entry: &Entry) -> Vec<u8> {
    let prev = before.last().map(|text| Digest::of(text));
    let place = Place { seq: before.len() as u64, prev };
    let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
    let boot_id = Some("b5c1a1a3-54a5-4c5e-9d0a-3f6d8f6f2b11".to_owned());
    sign(entry, place, &host, &Time { rtc_s: 1_795_262_400, boot_id }, &key(1)).unwrap()
}

/// The three records of the page.
fn records() -> Vec<Vec<u8>> {
    let (bundle, package) = (Digest::of(b"a release"), Digest::of(b"what review shows"));
    let mut records = Vec::new();
    let root = [("trust-root", Digest::of(b"a trust root"))];
    let enrolment =
        entry(Event::AnchorEnrolment, "anchor/enrolment", &root, &json!({"version": 1}));
    records.push(signed(&records, &enrolment));
    let approval = Approval {
        package,
        bundle: GenerationId(bundle),
        policy: Digest::of(b"a policy"),
        evidence: Digest::of(b"what was found"),
        log: LogHead { origin: ORIGIN.to_owned(), size: 1 },
        decision: Decision::Approve,
        person: "ada".parse().unwrap(),
        comment: String::new(),
    };
    records.push(approval.sign(&key(9)).unwrap().to_json());
    let facts = json!({"approved_by": ["ada"], "from": null});
    let intent =
        entry(Event::ActivationIntent, "activation/1/intent", &[("bundle", bundle)], &facts);
    records.push(signed(&records, &intent));
    records
}

fn export() -> Export {
    let records = records();
    let mut tree = Tree::new();
    records.iter().for_each(|record| tree.push(leaf_hash(record)));
    let (size, root) = (tree.size(), tree.root());
    let note = Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key(1)).unwrap();
    let mut export = Export::from([("checkpoint".to_owned(), note.into_bytes())]);
    for tile in tiles::all(size) {
        let bytes = match tile.kind {
            Kind::Entries => tiles::bundle(&records).unwrap(),
            Kind::Hashes { .. } => tile.hashes(&tree),
        };
        export.insert(tile.path(), bytes);
    }
    export
}

#[test]
fn the_bytes_of_version_1_are_these() {
    let stored: [(&str, &[u8]); 3] = [
        ("checkpoint", include_bytes!("v1/checkpoint")),
        ("tile/0/000.p/3", include_bytes!("v1/tile/0/000.p/3")),
        ("tile/entries/000.p/3", include_bytes!("v1/tile/entries/000.p/3")),
    ];
    let stored: Export =
        stored.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect();
    assert_eq!(export(), stored);
    let log = VerifierKey::new(ORIGIN, key(1).public()).unwrap();
    assert_eq!(
        log.to_string(),
        "hospital-north/appliance-1+5ee03e60+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
    );
    let root = Digest::of(b"a trust root");
    let ada = BTreeMap::from([(
        "ada".parse().unwrap(),
        Speaker::with(vec![vec![key(9).public().into()]]),
    )]);
    let approvers = vec![(root, ada)];
    let report = verify(&stored, &Trust { log, root, approvers, policy: None });
    // The bytes are whole. That one person's word is not enough to serve a release is another matter.
    assert_eq!(report.faults, [Fault::Kind { seq: 2 }]);
    assert_eq!(report.open_intent.as_deref(), Some("activation/1/intent"));
}
