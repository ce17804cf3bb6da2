//! Releases as a connected side makes them, and the trust metadata around them.

use cloister_attest::{
    SigningKey,
    approval::{Approval, Decision},
    consent::{Consent, Matter},
    json,
};
use cloister_bundle::{
    Chunk, Codec, Cut, FileEntry, Index, IndexEntry, Manifest, Release, Requires, VolumeHead,
    container,
    handover::{Blob, Offer, Purpose},
};
use cloister_domain::{Digest, GenerationId, LogHead, Secret};
use cloister_verify::target_path;
use cloister_wire::supply::Package;
use serde_json::{Value, json};

const IMPORTER: u8 = 4;
pub(crate) const PUBLISHER: u8 = 5;
pub(crate) const STRANGER: u8 = 99;
/// The approvers: key seed and person.
pub(crate) const EVE: (u8, &str) = (6, "eve");
pub(crate) const FLO: (u8, &str) = (7, "flo");

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).unwrap()
}

fn id(seed: u8) -> String {
    key(seed).public().key_id()
}

fn role(seeds: &[u8], threshold: u64) -> Value {
    json!({"keyids": seeds.iter().map(|seed| id(*seed)).collect::<Vec<_>>(), "threshold": threshold})
}

fn keys(seeds: &[u8]) -> Value {
    seeds.iter().map(|seed| (id(*seed), key(*seed).public().to_object())).collect()
}

fn signed(signed: &Value, seeds: &[u8]) -> Vec<u8> {
    let message = json::canonical_tuf(signed).unwrap();
    let hex = |bytes: [u8; 64]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signatures: Vec<Value> = seeds
        .iter()
        .map(|seed| json!({"keyid": id(*seed), "sig": hex(key(*seed).sign(&message))}))
        .collect();
    json!({"signatures": signatures, "signed": signed}).to_string().into_bytes()
}

/// The root file that officers enrol.
pub(crate) fn root() -> String {
    root_of(1, &[6, 7])
}

/// Such a root of another version, under which all of these approve.
fn root_of(version: u64, approvers: &[u8]) -> String {
    let root = json!({
        "_type": "root", "spec_version": "1.0.34", "version": version,
        "expires": "2040-01-01T00:00:00Z", "consistent_snapshot": false,
        "keys": keys(&[&[1, 2, 3, 4], approvers].concat()),
        "roles": {
            "root": role(&[1, 2, 3], 2), "targets": role(&[IMPORTER], 1),
            "snapshot": role(&[IMPORTER], 1), "timestamp": role(&[IMPORTER], 1),
        },
        "x-cloister": {
            "persons": {
                id(1): "ada", id(2): "bob", id(3): "cyd", id(4): "imp", id(5): "pub",
                id(6): "eve", id(7): "flo", id(8): "gus",
            },
            "approvers": role(approvers, approvers.len() as u64),
        },
    });
    String::from_utf8(signed(&root, &[1, 2])).unwrap()
}

/// A release: its files and what is signed about them.
pub(crate) struct Bundle {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    manifest: Manifest,
    pub(crate) index: Vec<u8>,
    pub(crate) envelope: Vec<u8>,
    /// What the list that comes with it takes back.
    revoked: Value,
    issued: Value,
    /// A newer root that comes with it.
    root: Option<String>,
    /// The user who imports it.
    operator: u32,
}

impl Bundle {
    /// Version `counter` of `demo`; its model is as surprising as `nats` for each byte says.
    pub(crate) fn new(counter: u64, nats: &str) -> Self {
        Self::signed_by(counter, nats, PUBLISHER)
    }

    /// One below whose `floor` nothing is returned to once it was active.
    pub(crate) fn floored(counter: u64, floor: u64) -> Self {
        Self::whole(counter, "0.5", PUBLISHER, |release| release.min_release_counter = floor)
    }

    pub(crate) fn signed_by(counter: u64, nats: &str, signer: u8) -> Self {
        Self::whole(counter, nats, signer, |_release| {})
    }

    fn whole(counter: u64, nats: &str, signer: u8, change: impl FnOnce(&mut Release)) -> Self {
        let exam = json!({
            "schema": 1, "heldout": "evaluation/heldout.txt",
            "golden": [{
                "messages": [{"role": "user", "content": "2+2?"}],
                "expect_any": ["four"], "max_tokens": 8,
            }],
            "retrieval": [{
                "query": "pump", "collections": ["handbook"],
                "expect_document": "documents/handbook/pump.md",
            }],
            "policy": {
                "heldout_worse_permille_max": 100, "golden_passed_min": 1, "golden_fewer_max": 0,
                "retrieval_hit3_permille_min": 1000,
            },
        });
        let collections = json!({"collections": [{
            "name": "handbook", "label": "open",
            "documents": [{"path": "documents/handbook/pump.md", "name": "Pumps"}],
        }]});
        let files = vec![
            ("documents/collections.json", collections.to_string().into_bytes()),
            ("documents/handbook/pump.md", format!("Pump {counter}.").into_bytes()),
            ("evaluation/evaluation.json", exam.to_string().into_bytes()),
            ("evaluation/heldout.txt", b"It was the best of times.".to_vec()),
            ("model/weights.txt", nats.as_bytes().to_vec()),
        ];
        Self::made(counter, files, signer, change)
    }

    /// A release without an evaluation set.
    pub(crate) fn bare(counter: u64, nats: &str) -> Self {
        Self::of(counter, vec![("model/weights.txt", nats.as_bytes().to_vec())], PUBLISHER)
    }

    /// A release that asks for more than others, or has other papers.
    pub(crate) fn asking(counter: u64, change: impl FnOnce(&mut Release)) -> Self {
        Self::made(counter, vec![("model/weights.txt", b"0.5".to_vec())], PUBLISHER, change)
    }

    /// A release of a model and so many small documents, without an evaluation set.
    pub(crate) fn documents(counter: u64, count: usize) -> Self {
        let names: Vec<String> =
            (0..count).map(|number| format!("documents/{number:04}.txt")).collect();
        let documents = names.iter().map(|name| (name.as_str(), name.clone().into_bytes()));
        let model = [("model/weights.txt", b"0.5".to_vec())];
        Self::of(counter, documents.chain(model).collect(), PUBLISHER)
    }

    fn of(counter: u64, files: Vec<(&str, Vec<u8>)>, signer: u8) -> Self {
        Self::made(counter, files, signer, |_release| {})
    }

    fn made(
        counter: u64,
        files: Vec<(&str, Vec<u8>)>,
        signer: u8,
        change: impl FnOnce(&mut Release),
    ) -> Self {
        let entries: Vec<FileEntry> = files
            .iter()
            .map(|(path, content)| FileEntry {
                path: path.parse().unwrap(),
                size: content.len() as u64,
                sha256: Digest::of(content),
            })
            .collect();
        let chunks = (0..)
            .zip(&files)
            .map(|(file, (_, content))| Chunk {
                stored: Digest::of(content),
                stored_bytes: content.len() as u64,
                plain_bytes: content.len() as u64,
                content: Digest::of(content),
                codec: Codec::Raw,
                file,
                offset: 0,
            })
            .collect();
        let index = Index::new(chunks, &entries).unwrap();
        let table = index.encode();
        let mut release = Release {
            name: "demo".to_owned(),
            version: format!("{counter}.0.0"),
            release_counter: counter,
            min_release_counter: 1,
            files: entries,
            index: IndexEntry {
                sha256: Digest::of(&table),
                length: table.len() as u64,
                chunks: index.chunks().len() as u64,
                plain_bytes: index.plain_bytes(),
                stored_bytes: index.stored_bytes(),
                cut: Cut {
                    algorithm: "fastcdc-2020".to_owned(),
                    min_bytes: 1,
                    avg_bytes: 1 << 20,
                    max_bytes: 4 << 20,
                },
            },
            requires: Requires::default(),
            licences: vec!["MIT".to_owned()],
            attestations: Vec::new(),
            base: None,
        };
        change(&mut release);
        let manifest = Manifest::new(release).unwrap();
        let envelope = manifest.envelope().sign_with(&key(signer)).to_json();
        let files = files.into_iter().map(|(path, content)| (path.to_owned(), content)).collect();
        let (revoked, issued, operator) = (json!({}), json!({}), 0);
        Self { files, manifest, index: table, envelope, revoked, issued, root: None, operator }
    }

    /// The same release with another signature beside the publisher's.
    pub(crate) fn signed_anew(mut self) -> Self {
        let envelope = self.manifest.envelope().sign_with(&key(PUBLISHER));
        self.envelope = envelope.sign_with(&key(STRANGER)).to_json();
        self
    }

    /// The same, with a list that takes another release back.
    pub(crate) fn taking_back(self, other: GenerationId) -> Self {
        Self { revoked: json!({"bundles": [other.to_string()]}), ..self }
    }

    /// The same, on a stick that states a time.
    pub(crate) fn issued(self, time: &str) -> Self {
        Self { issued: json!({"issued": time}), ..self }
    }

    /// The same, on a stick whose root asks a third person to approve.
    pub(crate) fn asking_three(self) -> Self {
        Self { root: Some(root_of(2, &[6, 7, 8])), ..self }
    }

    /// The same, on a stick whose root lets gus approve in the place of flo.
    pub(crate) fn without_flo(self) -> Self {
        Self { root: Some(root_of(2, &[6, 8])), ..self }
    }

    /// The same, imported by another user.
    pub(crate) fn imported_by(self, operator: u32) -> Self {
        Self { operator, ..self }
    }

    pub(crate) fn generation(&self) -> GenerationId {
        self.manifest.generation()
    }

    /// The head of a stick of metadata version `version` that lists this release.
    pub(crate) fn offer(&self, version: u64, inspect: bool) -> Offer {
        let head = VolumeHead {
            format: 1,
            bundle: self.generation(),
            volume: 1,
            volumes: 1,
            first_chunk: 0,
            chunks: self.manifest.release().index.chunks,
        };
        Offer {
            purpose: if inspect { Purpose::Inspect } else { Purpose::Import },
            head: Blob(head.encode()),
            meta: Blob(self.meta(version)),
            manifest: Blob(self.envelope.clone()),
            filesystem: "ext2/ext3".to_owned(),
            read_only: true,
            operator: self.operator,
        }
    }

    fn meta(&self, version: u64) -> Vec<u8> {
        let head = |kind: &str| json!({"_type": kind, "spec_version": "1.0.34", "version": version, "expires": "2031-01-01T00:00:00Z"});
        let listing = |text: &[u8]| json!({"length": text.len(), "hashes": {"sha256": Digest::of(text).to_string()}});
        let mut publisher = role(&[PUBLISHER], 1);
        publisher["name"] = "publisher".into();
        publisher["terminating"] = true.into();
        publisher["paths"] = json!(["demo/*"]);
        let release = self.manifest.release();
        let path = target_path(&release.name, &release.version);
        let mut targets = head("targets");
        targets["targets"] = json!({path: listing(&self.envelope)});
        targets["delegations"] = json!({"keys": keys(&[PUBLISHER]), "roles": [publisher]});
        targets["x-cloister"] = json!({"revoked": self.revoked});
        let targets = signed(&targets, &[IMPORTER]);
        let mut entry = listing(&targets);
        entry["version"] = version.into();
        let mut snapshot = head("snapshot");
        snapshot["meta"] = json!({"targets.json": entry});
        let snapshot = signed(&snapshot, &[IMPORTER]);
        let mut timestamp = head("timestamp");
        timestamp["meta"] = json!({"snapshot.json": {"version": version}});
        timestamp["x-cloister"] = self.issued.clone();
        let timestamp = signed(&timestamp, &[IMPORTER]);
        let root = self.root.as_ref().map(|root| ("2.root.json", root.as_bytes()));
        let others = [
            ("snapshot.json", snapshot.as_slice()),
            ("targets.json", targets.as_slice()),
            ("timestamp.json", timestamp.as_slice()),
        ];
        container::archive(root.into_iter().chain(others)).unwrap()
    }
}

/// A person's decision, signed by that person.
pub(crate) fn decision(
    (seed, person): (u8, &str),
    package: &Package,
    bundle: GenerationId,
    decision: Decision,
) -> String {
    let approval = Approval {
        package: package.digest,
        bundle,
        policy: package.policy,
        evidence: package.evidence,
        log: package.log.clone(),
        decision,
        person: person.parse().unwrap(),
        comment: String::new(),
    };
    String::from_utf8(approval.sign(&key(seed)).unwrap().to_json()).unwrap()
}

/// A person's consent.
pub(crate) fn consent((seed, person): (u8, &str), matter: Matter, log: LogHead) -> String {
    let consent = Consent { matter, log, person: person.parse().unwrap() };
    let envelope = consent.unsigned().unwrap().sign_with(&key(seed));
    String::from_utf8(envelope.to_json()).unwrap()
}
