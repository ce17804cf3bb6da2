//! Why a root, a release or an approval is not trusted.

use std::fmt;

use cloister_attest::AttestError;
use cloister_bundle::BundleError;
use cloister_domain::{Class, Coded};

/// Whose signature is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleName {
    /// The keepers of the trust root.
    Root,
    /// The importer, on what is current.
    Timestamp,
    /// The importer, on what belongs together.
    Snapshot,
    /// The importer, on which releases may enter.
    Targets,
    /// A role that targets, or another such role, delegates to.
    Delegated,
    /// The maker of a release.
    Publisher,
    /// The persons who approve a release inside the enclave.
    Approver,
}

impl RoleName {
    /// The name in TUF's files, and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
            Self::Delegated => "delegated targets",
            Self::Publisher => "publisher",
            Self::Approver => "approver",
        }
    }

    /// What `_type` says in a file of the role.
    pub(crate) const fn file_type(self) -> &'static str {
        if matches!(self, Self::Delegated) { Self::Targets.name() } else { self.name() }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal, each with what the person who holds the stick can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The file to enrol is not the one whose digest the officers compared.
    #[error("the root file does not have the digest that was confirmed; compare the paper again")]
    Confirmed,
    /// Metadata is not well-formed JSON, or too long.
    #[error("the {role} metadata is malformed")]
    Metadata {
        /// Whose.
        role: RoleName,
        /// What the reader met.
        #[source]
        cause: AttestError,
    },
    /// Metadata lacks a field, or has one out of range.
    #[error("the {role} metadata has no proper field '{field}'")]
    Field {
        /// Whose.
        role: RoleName,
        /// The field.
        field: &'static str,
    },
    /// A file of the chain is not there.
    #[error("the stick brings no {role} metadata; write it again on the connected side")]
    Missing {
        /// Whose.
        role: RoleName,
    },
    /// A role asks for no signature, or for more persons than it has.
    #[error("the {role} role asks for {threshold} persons and has {persons}")]
    Impossible {
        /// The role.
        role: RoleName,
        /// Its threshold.
        threshold: u64,
        /// Distinct persons with a usable key.
        persons: u64,
    },
    /// Two roles that must stay apart share a key.
    #[error("a key serves two roles that must stay apart")]
    SharedKey,
    /// Two roles that must stay apart share a person.
    #[error("one person serves two roles that must stay apart, by whatever keys")]
    SharedPerson,
    /// Good signatures of too few persons.
    #[error("{good} of {needed} required {role} signatures are good")]
    Threshold {
        /// The role.
        role: RoleName,
        /// Distinct persons with a good signature.
        good: u64,
        /// Persons needed.
        needed: u64,
    },
    /// Nobody who signed holds a key of the role.
    #[error("nobody who signed is known for the {role} role")]
    UnknownSigner {
        /// The role.
        role: RoleName,
    },
    /// A root's version does not follow its predecessor's.
    #[error("the chain of roots breaks: version {found} where {expected} must stand")]
    RootChain {
        /// The version that must come.
        expected: u64,
        /// The version found.
        found: u64,
    },
    /// Metadata is older than what was accepted before, under the same keys.
    #[error("the {role} metadata is older (v{offered}) than what is held (v{held})")]
    Stale {
        /// Whose.
        role: RoleName,
        /// The version offered.
        offered: u64,
        /// The version held.
        held: u64,
    },
    /// The medium's number is lower than one that was taken in, under the same keys.
    #[error("the medium has number {offered}, and number {held} was here already; get the latest")]
    Sequence {
        /// The number offered.
        offered: u64,
        /// The highest that was accepted.
        held: u64,
    },
    /// The medium's number is the last one's, and its timestamp is a newer one.
    #[error(
        "number {number} was here already, on a medium with an older timestamp: each has a number of \
         its own; have this one stamped again"
    )]
    SequenceUsed {
        /// The number of both.
        number: u64,
    },
    /// A file has the version of one that is held, and other bytes.
    #[error(
        "{file} has the version that is held and another content: the medium is of another facility, \
         or that version was written twice"
    )]
    OtherContent {
        /// Which one.
        file: &'static str,
    },
    /// Metadata is not the version or the bytes that the role above names.
    #[error("the {role} metadata is not the one that belongs to the rest")]
    Mixed {
        /// Whose.
        role: RoleName,
    },
    /// A snapshot no longer names a file that the one before it named.
    #[error("the snapshot no longer names {role} metadata that it named before")]
    Removed {
        /// Whose.
        role: RoleName,
    },
    /// The time that a timestamp states is too far ahead of what is proven to have passed.
    #[error(
        "the timestamp is {days} days ahead of what is known; beyond {max} the officers must vouch \
         for it in a new root"
    )]
    TimeStep {
        /// Days ahead.
        days: u64,
        /// Days allowed.
        max: u64,
    },
    /// The importer revoked the release, or the release is below the least that was left valid.
    #[error("the importer revoked this release; ask for one that replaces it")]
    Revoked,
    /// Too few of the publishers who signed still have a valid key.
    #[error("the importer revoked a key that this release was signed with; have it signed again")]
    RevokedKey,
    /// Metadata had expired at a time that is proven to have passed.
    #[error("the {role} metadata has expired; ask for a newer stick")]
    Expired {
        /// Whose.
        role: RoleName,
    },
    /// The importer does not list the release, or lists other bytes.
    #[error("the importer's current list does not hold this release; ask for a newer stick")]
    NotListed,
    /// No publisher may make releases of that name.
    #[error("no publisher is allowed to make releases of this name")]
    OutOfScope,
    /// The release is older than one that was accepted or promoted, or differs under the same number.
    #[error(
        "the bundle is older (release {offered}) than one that was accepted before (release {held})"
    )]
    Rollback {
        /// The release's counter.
        offered: u64,
        /// The highest counter accepted or promoted under this name.
        held: u64,
    },
    /// The release's own form is wrong.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An approval's form is wrong.
    #[error("the approval is malformed")]
    Approval(#[source] AttestError),
    /// An approval names another person than the holder of its key.
    #[error("the approval names another person than the holder of its key")]
    OtherPerson,
    /// Stored trust files are not those that the vector names.
    #[error("the stored trust state contradicts itself")]
    Corrupt,
}

impl Coded for VerifyError {
    fn class(&self) -> Class {
        match self {
            Self::Corrupt => Class::Corrupt,
            Self::Bundle(cause) => cause.class(),
            Self::Confirmed
            | Self::Metadata { .. }
            | Self::Field { .. }
            | Self::Missing { .. }
            | Self::Impossible { .. }
            | Self::SharedKey
            | Self::SharedPerson
            | Self::Threshold { .. }
            | Self::UnknownSigner { .. }
            | Self::RootChain { .. }
            | Self::Stale { .. }
            | Self::Sequence { .. }
            | Self::SequenceUsed { .. }
            | Self::Mixed { .. }
            | Self::OtherContent { .. }
            | Self::Expired { .. }
            | Self::Removed { .. }
            | Self::TimeStep { .. }
            | Self::Revoked
            | Self::RevokedKey
            | Self::NotListed
            | Self::OutOfScope
            | Self::Rollback { .. }
            | Self::Approval(_)
            | Self::OtherPerson => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Threshold { role: RoleName::Approver, .. } => "approval.threshold",
            Self::UnknownSigner { role: RoleName::Approver } => "approval.unknown-signer",
            Self::Confirmed => "bundle.trust.confirmed",
            Self::Metadata { .. } => "bundle.trust.metadata",
            Self::Field { .. } => "bundle.trust.field",
            Self::Missing { .. } => "bundle.trust.missing",
            Self::Impossible { .. } => "bundle.trust.threshold",
            Self::SharedKey => "bundle.trust.shared-key",
            Self::SharedPerson => "bundle.trust.shared-person",
            Self::Threshold { .. } => "bundle.signature.threshold",
            Self::UnknownSigner { .. } => "bundle.signature.unknown-signer",
            Self::RootChain { .. } => "bundle.trust.root-chain",
            Self::Stale { .. } => "bundle.trust.stale",
            Self::Sequence { .. } => "bundle.trust.sequence",
            Self::SequenceUsed { .. } => "bundle.trust.sequence.used",
            Self::Mixed { .. } => "bundle.trust.mixed",
            Self::OtherContent { .. } => "bundle.trust.other-content",
            Self::Expired { .. } => "bundle.trust.expired",
            Self::Removed { .. } => "bundle.trust.removed",
            Self::TimeStep { .. } => "bundle.trust.time-step",
            Self::Revoked => "bundle.revoked",
            Self::RevokedKey => "bundle.revoked.key",
            Self::NotListed => "bundle.trust.not-listed",
            Self::OutOfScope => "bundle.trust.scope",
            Self::Rollback { .. } => "bundle.rollback",
            Self::Bundle(cause) => cause.code(),
            Self::Approval(_) => "approval.form",
            Self::OtherPerson => "approval.person",
            Self::Corrupt => "trust.corrupt",
        }
    }
}
