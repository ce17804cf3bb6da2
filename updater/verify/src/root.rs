//! The trust root: who holds which key, who speaks for which role, and how one root follows another.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::PublicKey;
use cloister_domain::{Digest, Principal};
use serde_json::Value;

use crate::{
    Instant, RoleName, VerifyError,
    metadata::{Authority, KEYS_MAX, Keys, Metadata, keys},
};

/// Where TUF's targets list the manifest of a release: `<name>/<version>.json`.
#[must_use]
pub fn target_path(name: &str, version: &str) -> String {
    format!("{name}/{version}.json")
}

/// A root that was accepted: enrolled, or reached from an enrolled one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) version: u64,
    pub(crate) sha256: Digest,
    pub(crate) persons: BTreeMap<String, Principal>,
    pub(crate) timestamp: Authority,
    pub(crate) snapshot: Authority,
    pub(crate) targets: Authority,
    pub(crate) approvers: Authority,
    own: Authority,
    expires: Instant,
}

impl Root {
    /// Reads a root that signs itself (TUF 1.0.34, section 5.3.4, its second half).
    pub(crate) fn parse(text: &[u8]) -> Result<Self, VerifyError> {
        Ok(Self::read(text)?.0)
    }

    /// Reads the root that must follow `self`, signed by both (section 5.3.3 to 5.3.5).
    pub(crate) fn followed_by(&self, text: &[u8]) -> Result<Self, VerifyError> {
        let (next, metadata) = Self::read(text)?;
        metadata.signed_by(&self.own)?;
        let expected = self.version.saturating_add(1);
        if next.version != expected {
            return Err(VerifyError::RootChain { expected, found: next.version });
        }
        Ok(next)
    }

    fn read(text: &[u8]) -> Result<(Self, Metadata), VerifyError> {
        let role = RoleName::Root;
        let metadata = Metadata::parse(text, role)?;
        let extra = metadata.field("x-cloister")?;
        let persons = persons(extra).ok_or(metadata.wrong("x-cloister"))?;
        let keys: Keys = keys(metadata.field("keys")?, &persons, metadata.wrong("keys"))?;
        let roles = metadata.field("roles")?;
        let authority = |role: RoleName| {
            let value = roles.get(role.name()).ok_or(metadata.wrong("roles"))?;
            Authority::parse(value, &keys, role)
        };
        let approvers = extra.get("approvers").ok_or(metadata.wrong("x-cloister"))?;
        let root = Self {
            version: metadata.version,
            sha256: Digest::of(text),
            timestamp: authority(RoleName::Timestamp)?,
            snapshot: authority(RoleName::Snapshot)?,
            targets: authority(RoleName::Targets)?,
            own: authority(role)?,
            approvers: Authority::parse(approvers, &keys, RoleName::Approver)?,
            expires: metadata.expires.clone(),
            persons,
        };
        // Who lets a release in does not also approve it.
        if !root.targets.keys().is_disjoint(&root.approvers.keys()) {
            return Err(VerifyError::SharedKey);
        }
        metadata.signed_by(&root.own)?;
        Ok((root, metadata))
    }

    /// The keys whose versions are compared with each other.
    pub(crate) fn importer_keys(&self) -> [BTreeSet<PublicKey>; 3] {
        [&self.timestamp, &self.snapshot, &self.targets].map(Authority::keys)
    }

    /// Refuses a root that expired before `floor`; asked of the last of a chain only.
    pub(crate) fn unexpired(&self, floor: Option<&Instant>) -> Result<(), VerifyError> {
        if floor.is_some_and(|floor| self.expires <= *floor) {
            return Err(VerifyError::Expired { role: RoleName::Root });
        }
        Ok(())
    }
}

/// `x-cloister.persons`: key id to person. TUF signs and keeps fields that it does not know.
fn persons(extra: &Value) -> Option<BTreeMap<String, Principal>> {
    let persons = extra.get("persons")?.as_object().filter(|all| all.len() <= KEYS_MAX)?;
    persons
        .iter()
        .map(|(keyid, person)| Some((keyid.clone(), person.as_str()?.parse().ok()?)))
        .collect()
}
