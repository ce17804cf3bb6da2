//! Messages of `cloister-updaterd`, the keeper of trust, quarantine and shelf.

use std::fmt;

use cloister_domain::{ByteCount, Digest, GenerationId, ImportId, LogHead, RecordIndex, Slot};
use serde::{Deserialize, Serialize};

use crate::{Problem, intake::Summary, review::Review, trial};

/// Where an import stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportState {
    /// The head is verified; chunks are being copied into quarantine.
    Receiving,
    /// All chunks are there; files are being hashed and adopted.
    Received,
    /// On the shelf as a candidate; being loaded and judged in the idle slot.
    Evaluating,
    /// Judged good; waiting for approvals.
    AwaitingApproval,
    /// Enough distinct persons approved.
    Approved,
    /// The generation was activated at least once.
    Activated,
    /// Refused; the reason is in the record.
    Refused,
}

impl fmt::Display for ImportState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Receiving => "receiving",
            Self::Received => "received; being hashed again",
            Self::Evaluating => "being evaluated",
            Self::AwaitingApproval => "awaiting approval",
            Self::Approved => "approved",
            Self::Activated => "activated",
            Self::Refused => "refused",
        })
    }
}

/// A figure of an evaluation beside that of the active generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// `heldout-millibits-per-byte`, `golden-passed`, `retrieval-hit3-permille`, …
    pub name: String,
    /// The candidate's, as an integer in the unit that the name ends with.
    pub candidate: i64,
    /// The active generation's, where one is active.
    pub active: Option<i64>,
    /// Which generation that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<GenerationId>,
    /// The bound that decided, if this figure decides.
    pub bound: Option<i64>,
    /// Whether the bound holds.
    pub passed: bool,
}

/// What a scanner said about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scan {
    /// No scanner is configured.
    Off,
    /// It found nothing.
    Clean,
    /// It found something.
    Infected,
    /// The file is larger than what the scanner is given.
    TooLarge,
    /// It did not come to a verdict.
    Failed,
}

impl Scan {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Off => "no scanner",
            Self::Clean => "clean",
            Self::Infected => "infected",
            Self::TooLarge => "not scanned: too large",
            Self::Failed => "not scanned: the scanner failed",
        }
    }
}

/// How one file of a release was inspected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspected {
    /// Its number: the release's files from 0 on in the order of the manifest, then its evidence.
    pub file: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// What it is: `gguf`, `tokenizer`, `text`, …; unknown if it was refused.
    pub kind: Option<String>,
    /// Why it was refused.
    pub code: Option<String>,
    /// What the scanner said.
    pub scan: Scan,
}

/// The inspection of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The inspecting program and its version.
    pub tool: String,
    /// Files that nothing was found against.
    pub accepted: u64,
    /// Files that were refused.
    pub refused: u64,
    /// Files that no scanner looked at, though one is configured.
    pub not_scanned: u64,
    /// The files, refused ones first; at most [`Inspection::LISTED_MAX`].
    pub files: Vec<Inspected>,
}

impl Inspection {
    /// Files that are listed by name; so many fit a record.
    pub const LISTED_MAX: usize = 100;
}

/// What an approval binds together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Digest over the manifest and the two below.
    pub digest: Digest,
    /// Digest of the policy that judged: the publisher's and the facility's.
    pub policy: Digest,
    /// Digest of what was found: inspection and evaluation.
    pub evidence: Digest,
    /// The log at the moment of asking; an approval outlives so many records and no more.
    pub log: LogHead,
}

/// An import as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The import.
    pub import: ImportId,
    /// Where it stands.
    pub state: ImportState,
    /// What it holds; absent if the head was refused.
    pub summary: Option<Summary>,
    /// The inspection of its files, once there is one.
    pub inspection: Option<Inspection>,
    /// The evaluation, once there is one.
    pub figures: Vec<Figure>,
    /// Users of this machine who imported its volumes.
    pub imported_by: Vec<String>,
    /// Persons who approved; what their approvals come to is judged by the next act.
    pub approved_by: Vec<String>,
    /// Approvals needed.
    pub approvals_needed: u32,
    /// What an approval must name, once there is an evaluation.
    pub package: Option<Package>,
    /// The shadows and canaries that it had, oldest first.
    pub trials: Vec<trial::Shown>,
    /// Why it was refused.
    pub problem: Option<Problem>,
    /// What an approver is shown beside this; only in the answer to `Review`, while the release is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Box<Review>>,
}

/// Why a release stays on the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is active.
    Active,
    /// It was active before.
    Previous,
    /// A canary answers by it.
    Canary,
    /// An engine holds it.
    Slot(Slot),
    /// Somebody pinned it.
    Pinned,
    /// It is one of the last that were active.
    Retained,
    /// An import that is under way brought it.
    Import(ImportId),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Previous => f.write_str("active before"),
            Self::Canary => f.write_str("canary"),
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Pinned => f.write_str("pinned"),
            Self::Retained => f.write_str("retained"),
            Self::Import(import) => write!(f, "import {import}"),
        }
    }
}

/// A generation on the shelf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// The generation.
    pub generation: GenerationId,
    /// Its name.
    pub name: String,
    /// Its version text.
    pub version: String,
    /// The publisher's release counter.
    pub counter: u64,
    /// The slot that holds it, if any.
    pub slot: Option<Slot>,
    /// Whether `active` points at it.
    pub active: bool,
    /// Whether it was ever promoted.
    pub promoted: bool,
    /// Whether the importer took it back: it is not activated (again).
    pub revoked: bool,
    /// Why it stays on the shelf; without a reason the next sweep removes it.
    pub kept: Vec<Reason>,
}

/// What is trusted, and how fresh it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Version of the trust root.
    pub root_version: u64,
    /// Version of the importer's list; 0 before one came.
    pub targets_version: u64,
    /// The number of the last stick; 0 if sticks bear none.
    pub stick: u64,
    /// The latest time that is proven to have passed, such as `2030-01-31T00:00:00Z`.
    pub time_floor: Option<String>,
}

/// The state of supply as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether the state database was lost: nothing is done until it is rebuilt.
    #[serde(default)]
    pub lost: bool,
    /// Whether the state database is an older copy of what the log tells: nothing is decided by it.
    #[serde(default)]
    pub older: bool,
    /// What the programs are and how they are set, as the log names it.
    #[serde(default)]
    pub configuration: Option<Digest>,
    /// SHA-256 of the enrolled trust root (its newest version), if one is enrolled.
    pub trust_root: Option<Digest>,
    /// What it vouches for, if one is enrolled.
    pub trust: Option<Trust>,
    /// The trial under way.
    pub trial: Option<trial::Shown>,
    /// Whether the log was restored from an old copy, and who allows to go on.
    pub restored_log: Option<RestoredLog>,
    /// Whether the log's key is lost, and what persons must allow before anything is done.
    #[serde(default)]
    pub lost_key: Option<LostKey>,
    /// Generations on the shelf, newest first.
    pub generations: Vec<Generation>,
    /// Imports, newest first: the last 50, and each that is not over. Their files are left out, which
    /// `Review` lists.
    pub imports: Vec<Import>,
}

/// A log that lacks records which it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredLog {
    /// The checkpoints that show it, each with those who allow to go on without it.
    pub lacks: Vec<Lacking>,
    /// Persons who must allow each, before anything is imported, approved or switched to.
    pub needed: u32,
}

/// A checkpoint that the log signed and does not contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lacking {
    /// SHA-256 of the checkpoint's text.
    pub checkpoint: Digest,
    /// Number of records that the log had.
    pub size: u64,
    /// Persons who allow to go on.
    pub acknowledged_by: Vec<String>,
}

impl RestoredLog {
    /// The checkpoints that too few persons acknowledged.
    pub fn open(&self) -> impl Iterator<Item = &Lacking> {
        let needed = usize::try_from(self.needed).unwrap_or(usize::MAX);
        self.lacks.iter().filter(move |lacking| lacking.acknowledged_by.len() < needed)
    }
}

/// A log whose key is lost, on a machine that has another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostKey {
    /// The log's name.
    pub origin: String,
    /// Number of its entries.
    pub size: u64,
    /// Merkle root over them.
    pub root: Digest,
    /// The verifier key that is lost, for comparison with the paper.
    pub log_key: String,
    /// The verifier key that waits to succeed it.
    pub successor: String,
    /// Persons who must allow that, before anything that leaves a record is done; absent while the state
    /// database is lost too.
    pub needed: Option<u32>,
}

/// A request to updaterd. Each has one answer, a [`crate::Reply`] of [`Answer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Enrol the trust root: a TUF root file that came by another way than the stick.
    Enrol {
        /// The file's text.
        root: String,
        /// The digest that the officers compared; the file must have it.
        confirmed: Digest,
    },
    /// The state of everything.
    Status,
    /// One import.
    Review {
        /// The import.
        import: ImportId,
    },
    /// Give an import up that waits for volumes: it is refused, and its quarantine cleared.
    Discard {
        /// The import.
        import: ImportId,
    },
    /// Judge a release again: its policy changed, or its approvals expired.
    Evaluate {
        /// The import.
        import: ImportId,
    },
    /// A person's signed approval or rejection (DSSE, in-toto statement `approval/v1`).
    Approve {
        /// The envelope's JSON text.
        envelope: String,
    },
    /// A person's signed consent: to a return below the floor (DSSE, in-toto statement `downgrade/v1`)
    /// or to going on with a restored log (`acknowledgement/v1`).
    Consent {
        /// The envelope's JSON text.
        envelope: String,
    },
    /// Let the machine's host key succeed the log's, which is lost: persons' signed consents (DSSE, in-toto
    /// statement `succession/v1`), all at once.
    Succeed {
        /// The envelopes' JSON texts.
        envelopes: Vec<String>,
    },
    /// Try a release out: a canary if it is approved, a shadow while it waits for approvals.
    StartTrial {
        /// What kind.
        kind: trial::Kind,
        /// The import that brought it.
        import: ImportId,
        /// Whose questions.
        scope: trial::Scope,
        /// How long at most.
        seconds: u32,
    },
    /// End the trial under way.
    EndTrial,
    /// Switch to an approved generation.
    Activate {
        /// The import that brought it.
        import: ImportId,
    },
    /// Keep a generation on the shelf whatever comes after it, or no longer.
    Pin {
        /// The generation.
        generation: GenerationId,
        /// Whether it is to stay.
        pinned: bool,
    },
    /// Read the whole shelf again; answered when that is done.
    Scrub,
    /// Remove from the shelf what nothing speaks for.
    Sweep {
        /// Only say what would go.
        pretend: bool,
    },
    /// Make the state database anew that was lost.
    Rebuild,
    /// Return to a retained, once-promoted generation; the one before unless another is named.
    Rollback {
        /// The generation to return to.
        to: Option<GenerationId>,
    },
}

/// An answer of updaterd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The root is enrolled.
    Enrolled {
        /// Its digest.
        root: Digest,
        /// The record of it; always 0.
        record: RecordIndex,
    },
    /// The state of everything.
    Status(Box<Status>),
    /// One import.
    Import(Box<Import>),
    /// The shelf was read again.
    Scrubbed {
        /// Objects that were read.
        objects: u64,
        /// Their size.
        bytes: ByteCount,
        /// Those that were damaged; they and what held them are off the shelf.
        damaged: Vec<Digest>,
    },
    /// What a sweep removed, or would.
    Swept {
        /// Releases.
        generations: Vec<GenerationId>,
        /// Objects that nothing names any more; 0 if it only was asked.
        objects: u64,
        /// Their size.
        bytes: ByteCount,
    },
    /// A consent counts.
    Consented {
        /// Persons who consent to the same by now.
        persons: Vec<String>,
        /// Persons who must.
        needed: u32,
    },
    /// The log goes on under the machine's host key.
    Succeeded {
        /// The log's verifier key from now on.
        log_key: String,
        /// The record of it.
        record: RecordIndex,
    },
    /// The trial, as it stands or ended.
    Trial(Box<trial::Shown>),
    /// The state database is there again.
    Rebuilt {
        /// Records that it was made from.
        records: u64,
        /// Imports.
        imports: u64,
        /// Activations and rollbacks.
        activations: u64,
        /// The record of it.
        record: RecordIndex,
    },
    /// The switch is done.
    Switched {
        /// What is active now.
        generation: GenerationId,
        /// What was active before.
        from: Option<GenerationId>,
        /// From request to answer.
        microseconds: u64,
        /// The record of the outcome.
        record: RecordIndex,
    },
}
