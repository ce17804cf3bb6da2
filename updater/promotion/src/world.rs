//! The books as an act finds them.

use std::collections::{BTreeMap, BTreeSet};

use cloister_domain::{Digest, GenerationId, ImportId, Principal};
use cloister_wire::{supply::ImportState, trial::Scope};

/// Everything that decides over an act. The caller reads it in one piece, so that no other act
/// happens between reading and doing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct World {
    /// What root and configuration ask for.
    pub facility: Facility,
    /// Records in the log.
    pub log_size: u64,
    /// How many it had when a switch was written into it last; a leave of before is used up.
    pub last_switch: u64,
    /// What `active` names.
    pub active: Option<GenerationId>,
    /// What some people are answered by instead.
    pub canary: Option<Canary>,
    /// Imports that have a release; those that the act is not about may be left out.
    pub candidates: BTreeMap<ImportId, Candidate>,
    /// Releases; those that the act is not about may be left out.
    pub generations: BTreeMap<GenerationId, Generation>,
}

/// What root and configuration ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Facility {
    /// Persons who must approve, and who must sign a downgrade.
    pub approvals_needed: u64,
    /// Records after which an approval has expired.
    pub approval_records_max: u64,
}

/// A release that was imported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The release.
    pub generation: GenerationId,
    /// Where the import stands.
    pub state: ImportState,
    /// Who operated the import of any of its volumes.
    pub importers: BTreeSet<Principal>,
    /// What approvals must name, once the release was evaluated.
    pub package: Option<Package>,
    /// Digest of the policy that would judge it now.
    pub policy: Digest,
    /// How many records the log had once the release was judged last; an approval of before is void, even
    /// of the same package.
    pub judged_at: u64,
    /// Decisions about this import whose signatures hold under the root of now, oldest first.
    pub decisions: Vec<Decision>,
}

/// What an approval binds together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Digest over the manifest and the two below.
    pub digest: Digest,
    /// The policy that judged.
    pub policy: Digest,
    /// What was found: inspection and evaluation.
    pub evidence: Digest,
}

/// A person's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// For.
    Approve,
    /// Against; it outweighs all approvals.
    Reject,
}

/// What one person signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// Who.
    pub person: Principal,
    /// What.
    pub verdict: Verdict,
    /// The release that the person named.
    pub generation: GenerationId,
    /// The package that the person named.
    pub package: Package,
    /// How many records the log had when it was shown to the person.
    pub log_size: u64,
}

/// A release on the shelf, or once there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts")]
pub struct Generation {
    /// Its bytes are on the shelf.
    pub retained: bool,
    /// It was active once, for everybody.
    pub promoted: bool,
    /// The importer took it back.
    pub revoked: bool,
    /// Its counter is below the floor of its name.
    pub below_floor: bool,
}

/// An approved release that answers some people before all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Canary {
    /// The import that brought it.
    pub import: ImportId,
    /// The release.
    pub generation: GenerationId,
    /// Whom it answers.
    pub scope: Scope,
}

/// A person's signed leave to go below the floor, once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leave {
    /// Who.
    pub person: Principal,
    /// The release to return to.
    pub to: GenerationId,
    /// The release that is active.
    pub from: GenerationId,
    /// How many records the log had when the person signed; a leave ages as an approval does, and the
    /// next switch uses it up.
    pub log_size: u64,
}
