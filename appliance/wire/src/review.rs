//! What an approver is shown beside the import itself: what would be different from now, and who
//! vouches for it.

use cloister_domain::{ByteCount, Digest, GenerationId, RecordIndex};
use serde::{Deserialize, Serialize};

use crate::supply::ImportState;

/// Both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// The difference to what is active.
    pub difference: Difference,
    /// Who vouches for the release.
    pub provenance: Provenance,
}

/// A release in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The generation.
    pub generation: GenerationId,
    /// Its name.
    pub name: String,
    /// Its version text.
    pub version: String,
    /// The publisher's release counter.
    pub counter: u64,
}

/// What a file of a release is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The language model.
    Model,
    /// Its tokenizer, where that is a file of its own.
    Tokenizer,
    /// Its chat template.
    Template,
    /// Adapters of the model.
    Adapters,
    /// The model that makes vectors of documents.
    Embedding,
    /// Documents that the release brings.
    Documents,
    /// Questions and bounds by which its publisher has it judged.
    Policy,
    /// Anything else.
    Other,
}

impl Part {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Model,
        Self::Tokenizer,
        Self::Template,
        Self::Adapters,
        Self::Embedding,
        Self::Documents,
        Self::Policy,
        Self::Other,
    ];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Tokenizer => "tokenizer",
            Self::Template => "chat template",
            Self::Adapters => "adapters",
            Self::Embedding => "embedding model",
            Self::Documents => "documents",
            Self::Policy => "publisher's policy",
            Self::Other => "other files",
        }
    }
}

/// How two releases stand to each other in one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Neither has it.
    Absent,
    /// Both have the same.
    Same,
    /// Both have it, and it differs.
    Changed,
    /// Only the candidate has it.
    Added,
    /// Only the active one has it.
    Removed,
}

impl Change {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Absent => "none",
            Self::Same => "the same",
            Self::Changed => "CHANGED",
            Self::Added => "ADDED",
            Self::Removed => "REMOVED",
        }
    }
}

/// One part of two releases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartChange {
    /// Which.
    pub part: Part,
    /// How they stand to each other.
    pub change: Change,
    /// Its size in the active release.
    pub active_bytes: ByteCount,
    /// Its size in the candidate.
    pub candidate_bytes: ByteCount,
}

/// One file that is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Where it lies in the release.
    pub path: String,
    /// How they stand to each other; neither absent nor the same.
    pub change: Change,
    /// Its digest in the active release.
    pub active: Option<Digest>,
    /// Its digest in the candidate.
    pub candidate: Option<Digest>,
}

/// A list of words that the two releases have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordsChange {
    /// `licences`, `features`, `attestations`, `runtime`.
    pub name: String,
    /// Words that both have.
    pub same: Vec<String>,
    /// Words that only the candidate has.
    pub added: Vec<String>,
    /// Words that only the active one has.
    pub removed: Vec<String>,
}

/// A number that the two releases state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberChange {
    /// `plain-bytes`, `ram-bytes`, `floor`, `policy.golden-passed-min`, …
    pub name: String,
    /// The active release's; absent where it states none.
    pub active: Option<u64>,
    /// The candidate's.
    pub candidate: Option<u64>,
}

/// What would be different if the candidate were active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What is active; absent if nothing is, and then everything is added.
    pub active: Option<Named>,
    /// Every part.
    pub parts: Vec<PartChange>,
    /// Files that are not the same, by path; at most [`Difference::FILES_MAX`].
    pub files: Vec<FileChange>,
    /// How many more there are.
    pub files_left_out: u64,
    /// Lists of words.
    pub words: Vec<WordsChange>,
    /// Numbers.
    pub numbers: Vec<NumberChange>,
}

impl Difference {
    /// Files that are listed: more than anybody reads, and few enough for one answer.
    pub const FILES_MAX: usize = 5000;
}

/// A key with a good signature.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Signer {
    /// Its id.
    pub key: String,
    /// Who holds it, by the trust metadata; absent where it says nothing.
    pub person: Option<String>,
}

/// One signed text of the chain from the trust root to the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// `root`, `timestamp`, `snapshot`, `targets`, `manifest`.
    pub text: String,
    /// Its version, or the release's counter.
    pub version: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The role that may sign it.
    pub role: String,
    /// How many persons must.
    pub needed: u64,
    /// Whose good signatures it bears.
    pub signers: Vec<Signer>,
}

/// A statement that travelled with the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attestation {
    /// What it claims, a URI.
    pub predicate_type: String,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its length.
    pub bytes: ByteCount,
}

/// A step of an import with its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where the import went.
    pub state: ImportState,
    /// The record that says so.
    pub record: RecordIndex,
}

/// Who vouches for a release, from the trust root down, and how it came here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Signed texts, the root first, the manifest last.
    pub chain: Vec<Link>,
    /// The number of the last stick; 0 if sticks bear none.
    pub stick: u64,
    /// The latest time that is proven to have passed.
    pub time_floor: Option<String>,
    /// Statements that came with the release.
    pub attestations: Vec<Attestation>,
    /// The import's steps, oldest first.
    pub steps: Vec<Step>,
}
