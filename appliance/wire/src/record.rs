//! Messages of `cloister-recordd`, the keeper of the one append-only log.

use cloister_domain::{Digest, RecordIndex};
use serde::{Deserialize, Serialize};

/// What an entry of the log is about. The names are part of the record format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The trust root was enrolled; always record 0.
    AnchorEnrolment,
    /// A medium was read: which volumes, how many bytes.
    MediaSeen,
    /// A bundle was verified and lies on the shelf as a candidate.
    ImportAccepted,
    /// A bundle, or a volume that claims to be one, was refused.
    ImportRefused,
    /// Every file of a release was inspected, before the release became a candidate.
    Inspection,
    /// A candidate was judged on this machine.
    Evaluation,
    /// An operator had a candidate judged again, whose approvals are void with that.
    EvaluationAsked,
    /// What the facility demands of releases and approvals is another than before.
    PolicyChange,
    /// A person approved or rejected a candidate (the person's own envelope).
    Approval,
    /// A person allowed a return below the floor (the person's own envelope).
    Downgrade,
    /// A person allowed to go on with a log that was restored from an old copy (the person's own
    /// envelope).
    Acknowledgement,
    /// A person allowed the log to go on under another host key (the person's own envelope).
    Succession,
    /// The log goes on under another host key; the first entry that the new key signs.
    KeySuccession,
    /// An activation is about to happen; always before the switch. Its act ends with `/intent`.
    ActivationIntent,
    /// How an activation ended; exactly one for each intent. Its act is the intent's with `/outcome`
    /// for `/intent`.
    ActivationOutcome,
    /// A candidate begins to answer what others are asked too; nobody sees its answers.
    ShadowStarted,
    /// A canary or a shadow ended, and what it came to.
    TrialEnded,
    /// An operator's wish to return to a retained generation; the switch itself is an activation.
    Rollback,
    /// A generation was pinned to the shelf, or no longer is.
    Pin,
    /// Generations for which nothing speaks are removed from the shelf.
    Sweep,
    /// Every object of the shelf was read again.
    Scrub,
    /// An object of the shelf was damaged at rest; it and what held it are taken off.
    Damage,
    /// An act was asked for and not allowed (one approver alone, an unknown signer, …).
    ActRefused,
    /// Keys or versions of the trust metadata changed.
    TrustUpdate,
    /// An API key was made or withdrawn.
    KeyChange,
    /// A document was deleted: its receipt.
    DocumentDeleted,
    /// The state database was lost and made anew from trust metadata, shelf and log.
    StateRebuilt,
    /// What the shelf holds was listed for the connected side; the list's digest.
    Inventory,
    /// What was verified of a new release, right before the outcome that makes it active (SLSA VSA).
    /// recordd writes it by itself; nobody appends one.
    VerificationSummary,
    /// The programs' version or the settings changed.
    Configuration,
}

/// One digest-named thing that an entry is about (in-toto Statement v1, `subject`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// A name without content: `bundle`, `tree`, `trust-root`, `document`.
    pub name: String,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// An entry that the appliance itself vouches for; recordd signs it with the host key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is about.
    pub event: Event,
    /// The act's own name, such as `import/3/accepted`: appending the same act twice yields the
    /// first entry again, so a retry after a crash leaves one record.
    pub act: String,
    /// The things it is about.
    pub subject: Vec<Subject>,
    /// Facts without content: integers, codes, digests, names from closed alphabets. No floats.
    pub predicate: serde_json::Map<String, serde_json::Value>,
}

/// The most checkpoints that one log is shown to lack: those of six weeks, one an hour. With so many
/// nothing is known of further ones, so that none of them can be gone on without.
pub const EVIDENCE_MAX: usize = 1024;

/// A checkpoint that the log signed and does not contain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// SHA-256 of the checkpoint's text, without the signatures below it: what persons acknowledge.
    pub checkpoint: Digest,
    /// Number of entries that the log had.
    pub size: u64,
    /// The checkpoint with the signatures of the log and of the witnesses that are known.
    pub note: String,
}

impl Request {
    /// Whether it adds a record: a person does not write what the host key signs.
    #[must_use]
    pub const fn grows_the_log(&self) -> bool {
        matches!(self, Self::Append(_) | Self::Deposit { .. } | Self::Succeed { .. })
    }
}

/// A request to recordd.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Sign and append; answered when it is durable with [`Answer::Appended`].
    Append(Entry),
    /// Append a DSSE envelope that a person signed, byte for byte; answered as `Append` is.
    Deposit {
        /// What it is about.
        event: Event,
        /// The act's own name.
        act: String,
        /// The envelope's JSON text as received.
        envelope: String,
    },
    /// Go on under the host key that the machine has now: appends the persons' envelopes, byte for byte,
    /// and [`Event::KeySuccession`] after them, all or nothing; answered with [`Answer::Appended`] for
    /// the latter.
    Succeed {
        /// The envelopes' JSON texts as received, each by another person.
        envelopes: Vec<String>,
    },
    /// Ask for size, root and checkpoint.
    Head,
    /// Read entries `from ..` (at most `count`) as envelope texts.
    Read {
        /// First entry.
        from: RecordIndex,
        /// How many at most.
        count: u32,
    },
    /// Ask for every file of an export; answered by many [`Answer::File`] and one [`Answer::Done`].
    Export,
    /// As `Export`, of the log as it was when a witness cosigned it last.
    ExportWitnessed,
    /// Ask for a request to a witness; answered with [`Answer::Cosigning`].
    Cosigning {
        /// The name of the witness's key; may be absent where there is one witness.
        witness: Option<String>,
    },
    /// Hand in what a witness answered, or any checkpoint of this log that somebody kept; answered with
    /// [`Answer::Cosigned`].
    Accept {
        /// A checkpoint that this log signed.
        checkpoint: String,
        /// Signature lines that belong below it; may be empty.
        signatures: String,
    },
}

/// A key that waits to succeed the log's, and what persons sign for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successor {
    /// The verifier key that the log would have (C2SP signed-note text form).
    pub log_key: String,
    /// The id of that key.
    pub key: Digest,
    /// SHA-256 of the text (origin, size, root) of the head as it is.
    pub checkpoint: Digest,
}

/// An answer of recordd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The entry is durable and under the checkpoint.
    Appended {
        /// Its position.
        index: RecordIndex,
        /// RFC 6962 leaf hash of the envelope.
        leaf: Digest,
    },
    /// The state of the log.
    Head {
        /// The log's name in its checkpoints (C2SP tlog-checkpoint, origin line).
        origin: String,
        /// Number of entries.
        size: u64,
        /// Merkle root over them.
        root: Digest,
        /// The signed checkpoint. While a successor waits, the last one that the log's key signed, which
        /// may be of fewer entries.
        checkpoint: String,
        /// The verifier key of the log (C2SP signed-note text form).
        log_key: String,
        /// The keys that the log had before, oldest first: what they signed then stays good.
        #[serde(default)]
        former_keys: Vec<String>,
        /// The key that the machine has in the place of the log's, which is lost: nothing is recorded
        /// before persons allow it to succeed. Absent while there is none.
        #[serde(default)]
        successor: Option<Successor>,
        /// Checkpoints that this log signed and no longer contains: the state was restored from an old
        /// copy, and nothing that it lost may be taken for never done. At most [`EVIDENCE_MAX`].
        #[serde(default)]
        rolled_back: Vec<Evidence>,
    },
    /// The body of an `add-checkpoint` request (C2SP tlog-witness).
    Cosigning {
        /// Its text.
        text: String,
    },
    /// Cosignatures are kept.
    Cosigned {
        /// Number of entries of the checkpoint.
        size: u64,
        /// The names of the witnesses who cosigned it so far.
        witnesses: Vec<String>,
    },
    /// Entries, oldest first.
    Entries(Vec<String>),
    /// One file of an export.
    File {
        /// Its path inside the export: letters, digits, `.`, `/`, `-`, `_` only.
        path: String,
        /// Its bytes, base64 (RFC 4648, padded).
        base64: String,
    },
    /// The export is complete.
    Done,
}
