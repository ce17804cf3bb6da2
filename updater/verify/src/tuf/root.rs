//! The trust root: who holds which key, who speaks for which role, and how one root follows another.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::Algorithm;
use cloister_domain::Digest;
use serde_json::Value;

use super::{
    keys::{Algorithms, Authority, Persons, keys},
    metadata::{Metadata, is_known, persons},
};
use crate::{Instant, RoleName, VerifyError};

/// A root that signs itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    metadata: Metadata,
    /// Who holds keys that others name.
    pub(crate) persons: Persons,
    pub(crate) timestamp: Authority,
    pub(crate) snapshot: Authority,
    pub(crate) targets: Authority,
    pub(crate) approvers: Option<Authority>,
    own: Authority,
    consistent: bool,
}

impl Root {
    /// Reads a root that signs itself (section 5.3.4, its second half).
    ///
    /// # Errors
    /// [`VerifyError::Metadata`] and [`VerifyError::Field`] for its form,
    /// [`VerifyError::Threshold`] and [`VerifyError::UnknownSigner`] for its signatures.
    pub fn parse(text: &[u8], algorithms: &dyn Algorithms) -> Result<Self, VerifyError> {
        let root = Self::unsigned(text, algorithms)?;
        root.metadata.signed_by(&root.own)?;
        Ok(root)
    }

    /// Reads what may become a root, whoever signed it so far.
    ///
    /// # Errors
    /// As [`Root::parse`], but for its signatures.
    pub(crate) fn unsigned(text: &[u8], algorithms: &dyn Algorithms) -> Result<Self, VerifyError> {
        let role = RoleName::Root;
        let metadata = Metadata::parse(text, role)?;
        let extra = metadata.optional("x-cloister");
        let persons = match extra.and_then(|extra| extra.get("persons")) {
            None => BTreeMap::new(),
            Some(value) => persons(value).ok_or(metadata.wrong("x-cloister"))?,
        };
        let wrong = metadata.wrong("keys");
        let persons = Persons::named(persons);
        let keys = keys(metadata.field("keys")?, &persons, algorithms, wrong)?;
        let persons = persons.of_others(&keys);
        let roles = metadata.field("roles")?;
        let authority = |role: RoleName| {
            let value = roles.get(role.name()).ok_or(metadata.wrong("roles"))?;
            Authority::parse(value, &keys, role)
        };
        let approvers = extra.and_then(|extra| extra.get("approvers"));
        let fields = ["keyids", "threshold", "x-algorithms"];
        if !approvers.is_none_or(|approvers| is_known(approvers, &fields)) {
            return Err(metadata.wrong("x-cloister"));
        }
        let approvers = approvers
            .map(|value| Authority::parse(value, &keys, RoleName::Approver))
            .transpose()?
            // What approvers sign is for auditors too, whose own programs may know nothing else.
            .map(|approvers| approvers.or_demanding(Algorithm::Ed25519));
        let consistent = metadata.optional("consistent_snapshot").and_then(Value::as_bool);
        let root = Self {
            persons,
            timestamp: authority(RoleName::Timestamp)?,
            snapshot: authority(RoleName::Snapshot)?,
            targets: authority(RoleName::Targets)?,
            own: authority(role)?,
            approvers,
            consistent: consistent.unwrap_or(false),
            metadata,
        };
        root.own.possible(role)?;
        Ok(root)
    }

    /// Reads the root that must follow `self`, signed by both (section 5.3.3 to 5.3.5).
    ///
    /// # Errors
    /// As [`Root::parse`], and [`VerifyError::RootChain`] for another version than the next.
    pub fn followed_by(
        &self,
        text: &[u8],
        algorithms: &dyn Algorithms,
    ) -> Result<Self, VerifyError> {
        let next = Self::parse(text, algorithms)?;
        next.metadata.signed_by(&self.own)?;
        let expected = self.version().saturating_add(1);
        if next.version() != expected {
            return Err(VerifyError::RootChain { expected, found: next.version() });
        }
        Ok(next)
    }

    /// The version; from 1.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.metadata.version
    }

    /// SHA-256 of the file.
    #[must_use]
    pub const fn sha256(&self) -> Digest {
        self.metadata.sha256
    }

    /// Whether file names carry versions and digests (section 6.2).
    #[must_use]
    pub const fn consistent_snapshot(&self) -> bool {
        self.consistent
    }

    /// Refuses a role below the root's own that asks for more persons than it has.
    pub(crate) fn possible(&self) -> Result<(), VerifyError> {
        self.timestamp.possible(RoleName::Timestamp)?;
        self.snapshot.possible(RoleName::Snapshot)?;
        self.targets.possible(RoleName::Targets)?;
        self.approvers.iter().try_for_each(|approvers| approvers.possible(RoleName::Approver))
    }

    /// The keys whose versions are compared with each other.
    pub(crate) fn ratchet_keys(&self) -> [BTreeSet<Digest>; 3] {
        [&self.timestamp, &self.snapshot, &self.targets].map(Authority::keys)
    }

    /// A field of the facility's own.
    pub(crate) fn extra(&self, field: &str) -> Option<&Value> {
        self.metadata.optional("x-cloister")?.get(field)
    }

    /// The refusal for a bad field.
    pub(crate) const fn wrong(&self, field: &'static str) -> VerifyError {
        self.metadata.wrong(field)
    }

    /// Refuses a root that expired at or before `now`; asked of the last of a chain only.
    pub(crate) fn unexpired(&self, now: Option<&Instant>) -> Result<(), VerifyError> {
        self.metadata.unexpired(now)
    }
}
