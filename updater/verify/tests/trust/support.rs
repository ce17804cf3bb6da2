//! Metadata as TUF writes it, with keys that follow from a seed.

use cloister_attest::json;
use cloister_bundle::container;
use cloister_domain::Digest;
pub(crate) use cloister_samples::{key, manifest, signed as release};
use cloister_verify::{TrustState, VerifyError, enrol, target_path};
use serde_json::{Value, json};

pub(crate) const ROOTS: [u8; 3] = [1, 2, 3];
pub(crate) const IMPORTER: u8 = 4;
pub(crate) const PUBLISHER: u8 = 5;
pub(crate) const APPROVERS: [u8; 2] = [6, 7];
pub(crate) const STRANGER: u8 = 99;

pub(crate) fn id(seed: u8) -> String {
    key(seed).public().key_id()
}

pub(crate) fn role(seeds: &[u8], threshold: u64) -> Value {
    json!({"keyids": seeds.iter().map(|seed| id(*seed)).collect::<Vec<_>>(), "threshold": threshold})
}

pub(crate) fn keys(seeds: &[u8]) -> Value {
    seeds.iter().map(|seed| (id(*seed), key(*seed).public().to_object())).collect()
}

pub(crate) fn signed(signed: &Value, seeds: &[u8]) -> Vec<u8> {
    let message = json::canonical_tuf(signed).unwrap();
    let hex = |bytes: [u8; 64]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signatures: Vec<Value> = seeds
        .iter()
        .map(|seed| json!({"keyid": id(*seed), "sig": hex(key(*seed).sign(&message))}))
        .collect();
    json!({"signatures": signatures, "signed": signed}).to_string().into_bytes()
}

pub(crate) fn root(version: u64) -> Value {
    json!({
        "_type": "root", "spec_version": "1.0.34", "version": version,
        "expires": "2040-01-01T00:00:00Z", "consistent_snapshot": false,
        "keys": keys(&[1, 2, 3, 4, 6, 7]),
        "roles": {
            "root": role(&ROOTS, 2), "targets": role(&[IMPORTER], 1),
            "snapshot": role(&[IMPORTER], 1), "timestamp": role(&[IMPORTER], 1),
        },
        "x-cloister": {
            "persons": {
                id(1): "ada", id(2): "bob", id(3): "cyd", id(4): "imp", id(5): "pub",
                id(6): "eve", id(7): "flo",
            },
            "approvers": role(&APPROVERS, 2),
        },
    })
}

pub(crate) fn enrolled(root: &Value) -> Result<TrustState, VerifyError> {
    let text = signed(root, &[1, 2]);
    enrol(&text, Digest::of(&text))
}

pub(crate) fn listing(text: &[u8]) -> Value {
    json!({"length": text.len(), "hashes": {"sha256": Digest::of(text).to_string()}})
}

/// The importer's three files of one version, listing `releases`; `extra` are further files.
pub(crate) struct Meta {
    pub(crate) version: u64,
    pub(crate) releases: Vec<(u64, Vec<u8>)>,
    pub(crate) signer: u8,
    pub(crate) publisher: Value,
    pub(crate) expires: &'static str,
    pub(crate) extra: Vec<(String, Vec<u8>)>,
    /// `x-cloister` of targets and of timestamp, where it is not null.
    pub(crate) targets_extra: Value,
    pub(crate) timestamp_extra: Value,
    /// `x-cloister` of the snapshot, where it is not null.
    pub(crate) snapshot_extra: Value,
    /// Delegations instead of the one to `publisher`: a list of roles, or what `succinct_roles` says.
    pub(crate) roles: Option<Value>,
    /// Delegated files that the snapshot lists, with their versions.
    pub(crate) delegated: Vec<(String, u64)>,
    /// Further keys of the delegations.
    pub(crate) keys_extra: Value,
    /// What signatures call the importer's key.
    pub(crate) importer_id: Option<&'static str>,
    /// Versions of timestamp, snapshot and targets, where they are not all `version`.
    pub(crate) versions: Option<[u64; 3]>,
    /// What the list says about each release, instead of its length and SHA-256.
    pub(crate) listing: Option<Value>,
}

impl Meta {
    pub(crate) fn new(version: u64, releases: Vec<(u64, Vec<u8>)>) -> Self {
        let mut publisher = role(&[PUBLISHER], 1);
        publisher["name"] = "publisher".into();
        publisher["terminating"] = true.into();
        publisher["paths"] = json!(["demo/*"]);
        let expires = "2031-01-01T00:00:00Z";
        Self {
            version,
            releases,
            signer: IMPORTER,
            publisher,
            expires,
            extra: Vec::new(),
            targets_extra: Value::Null,
            timestamp_extra: Value::Null,
            snapshot_extra: Value::Null,
            roles: None,
            delegated: Vec::new(),
            keys_extra: json!({}),
            importer_id: None,
            versions: None,
            listing: None,
        }
    }

    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let [of_timestamp, of_snapshot, of_targets] = self.versions.unwrap_or([self.version; 3]);
        let head = |kind: &str, version: u64| json!({"_type": kind, "spec_version": "1.0.34", "version": version, "expires": self.expires});
        let list: Value = self
            .releases
            .iter()
            .map(|(counter, text)| {
                let entry = self.listing.clone().unwrap_or_else(|| listing(text));
                (target_path("demo", &format!("{counter}.0.0")), entry)
            })
            .collect();
        let mut targets = head("targets", of_targets);
        targets["targets"] = list;
        let roles = self.roles.clone().unwrap_or_else(|| json!([self.publisher]));
        let mut all = keys(&[PUBLISHER, 1, 4, 6, 8, STRANGER]);
        for (keyid, object) in self.keys_extra.as_object().unwrap() {
            all[keyid] = object.clone();
        }
        let kind = if roles.is_object() { "succinct_roles" } else { "roles" };
        targets["delegations"] = json!({"keys": all, kind: roles});
        if !self.targets_extra.is_null() {
            targets["x-cloister"] = self.targets_extra.clone();
        }
        let signed = |part: &Value| match self.importer_id {
            None => signed(part, &[self.signer]),
            Some(called) => renamed(&signed(part, &[self.signer]), &id(self.signer), called),
        };
        let targets = signed(&targets);
        let mut snapshot = head("snapshot", of_snapshot);
        let mut entry = listing(&targets);
        entry["version"] = of_targets.into();
        snapshot["meta"] = json!({"targets.json": entry});
        for (name, version) in &self.delegated {
            snapshot["meta"][format!("{name}.json")] = json!({"version": version});
        }
        if !self.snapshot_extra.is_null() {
            snapshot["x-cloister"] = self.snapshot_extra.clone();
        }
        let snapshot = signed(&snapshot);
        let mut timestamp = head("timestamp", of_timestamp);
        timestamp["meta"] = json!({"snapshot.json": {"version": of_snapshot}});
        if !self.timestamp_extra.is_null() {
            timestamp["x-cloister"] = self.timestamp_extra.clone();
        }
        let timestamp = signed(&timestamp);
        let mut files = self.extra.clone();
        files.extend([
            ("snapshot.json".to_owned(), snapshot),
            ("targets.json".to_owned(), targets),
            ("timestamp.json".to_owned(), timestamp),
        ]);
        files.sort();
        files
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        pack(&self.files())
    }
}

pub(crate) fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members = files.iter().map(|(name, text)| (name.as_str(), text.as_slice()));
    container::archive(members).unwrap()
}

pub(crate) fn with(releases: Vec<(u64, Vec<u8>)>) -> TrustState {
    let state = enrolled(&root(1)).unwrap();
    state.refresh(&Meta::new(1, releases).bytes()).unwrap()
}

/// A signed file whose signatures call a key otherwise.
fn renamed(text: &[u8], keyid: &str, called: &str) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(text).unwrap();
    for signature in file["signatures"].as_array_mut().unwrap() {
        if signature["keyid"] == keyid {
            signature["keyid"] = called.into();
        }
    }
    file.to_string().into_bytes()
}
