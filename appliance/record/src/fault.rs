//! What can be wrong with an export.

use std::fmt;

use cloister_domain::{Class, Coded};

use crate::RecordError;

/// What is wrong with an export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The log is not one that grew from an earlier checkpoint.
    #[error("the log does not contain its own past of {size} entries, which was brought along")]
    Past {
        /// Entries of the earlier checkpoint.
        size: u64,
    },
    /// A file is missing.
    #[error("the export lacks {path}")]
    Missing {
        /// The file.
        path: String,
    },
    /// A file is there, below `tile/`, that a log of this size does not have.
    #[error("the export holds a file that a log of this size does not have")]
    Extra,
    /// The checkpoint is not the log's.
    #[error("the checkpoint is not one of the log that was named")]
    Checkpoint(#[source] RecordError),
    /// The checkpoint is the log's, and the policy does not accept it.
    #[error("the policy does not accept the checkpoint")]
    Policy(#[source] RecordError),
    /// There is no such entry.
    #[error("the log has {size} records, and none at this position")]
    NoEntry {
        /// Entries of the log.
        size: u64,
    },
    /// A bundle of entries is malformed.
    #[error("{path} is malformed")]
    Bundle {
        /// The file.
        path: String,
        /// How.
        #[source]
        cause: RecordError,
    },
    /// The entries do not hash to the signed root.
    #[error("the entries do not hash to the root that the checkpoint signs")]
    Root,
    /// A tile of hashes does not hold those of the entries.
    #[error("{path} does not hold the hashes of the entries")]
    Tile {
        /// The file.
        path: String,
    },
    /// An entry is malformed, or its signature is wrong.
    #[error("record {seq} is malformed or not signed by whom it must be")]
    Entry {
        /// Its position.
        seq: u64,
        /// How.
        #[source]
        cause: RecordError,
    },
    /// A person signed that the trust root does not know by that name, or not with every key that it
    /// asks for; or the root that was in force there was not brought along.
    #[error(
        "record {seq} is not signed as the trust root in force there asks of the person it names; \
         bring each root along"
    )]
    Person {
        /// Its position.
        seq: u64,
    },
    /// An entry says that it stands elsewhere, follows another, or belongs to another log.
    #[error("record {seq} says that it stands elsewhere or belongs to another log")]
    Chain {
        /// Its position.
        seq: u64,
    },
    /// The first record is not the enrolment of the trust root that was named, or a later one is.
    #[error("record {seq}: the trust root is enrolled once, as record 0, and is the one named")]
    Anchor {
        /// The position.
        seq: u64,
    },
    /// The trust root in force is an older one than one before.
    #[error("record {seq} goes back to an older trust root; none that was succeeded returns")]
    OlderRoot {
        /// The position.
        seq: u64,
    },
    /// The trust root in force was not brought along.
    #[error("record {seq} takes up a trust root that was not brought along; bring each root along")]
    UnknownRoot {
        /// The position.
        seq: u64,
    },
    /// A receipt or a summary that an export carries beside the log is not what the log gives.
    #[error(
        "receipts/{name} is not what the log gives; a receipt of your own is (`records receipt`)"
    )]
    Receipt {
        /// The file's name, as the log gives it.
        name: String,
    },
    /// One act has two records.
    #[error("record {seq} repeats the act of an earlier one")]
    ActTwice {
        /// Its position.
        seq: u64,
    },
    /// An outcome has no intent before it, or an intent follows one that has no outcome yet.
    #[error("record {seq}: each activation has one intent and after it one outcome")]
    Activation {
        /// The position.
        seq: u64,
    },
    /// A new release is activated that was not judged good, or whose verdict does not stand any more.
    #[error(
        "record {seq} activates a release without a record before it that found this package good, \
         or after somebody had it judged again"
    )]
    Unjudged {
        /// The position of the intent.
        seq: u64,
    },
    /// A new release is activated without enough approvals.
    #[error(
        "record {seq} activates a release that {needed} persons must approve who did not import it; \
         of approvals of what was judged there count: {approvals}"
    )]
    Unapproved {
        /// The position of the intent.
        seq: u64,
        /// How many persons must approve.
        needed: u64,
        /// The positions of the approvals that count.
        approvals: Numbers,
    },
    /// A release below the floor is returned to without enough leaves.
    #[error(
        "record {seq} returns below the floor, which {needed} persons must allow for this switch; of \
         their leaves there count: {leaves}"
    )]
    Leave {
        /// The position of the intent.
        seq: u64,
        /// How many persons must allow it.
        needed: u64,
        /// The positions of the leaves that count.
        leaves: Numbers,
    },
    /// A new release is activated that a person rejected.
    #[error("record {seq} activates a release that record {rejection} rejects")]
    Rejected {
        /// The position of the intent.
        seq: u64,
        /// That of the rejection.
        rejection: u64,
    },
    /// Something is returned to that never served.
    #[error("record {seq} returns to a generation that no record before it promoted")]
    NeverServed {
        /// The position.
        seq: u64,
    },
    /// An activation of a kind that no rule allows.
    #[error("record {seq} is an activation of a kind that no rule allows")]
    Kind {
        /// The position.
        seq: u64,
    },
    /// An outcome that does not fit its intent.
    #[error("record {seq} is an outcome that its intent cannot have")]
    Outcome {
        /// The position.
        seq: u64,
    },
    /// The log is given another key, and too few persons said so.
    #[error(
        "record {seq} gives the log another key, which {needed} persons must allow right before it, \
         each word there over this key and the log as it was; of these words are right: {words}"
    )]
    Succession {
        /// The position of the succession.
        seq: u64,
        /// How many persons must allow it.
        needed: u64,
        /// The positions of the words that count.
        words: Numbers,
    },
    /// A succession that names other keys than it must, or that the new key did not sign.
    #[error(
        "record {seq} gives the log a key that does not succeed the one before it, that the log had \
         before, or that did not sign it"
    )]
    Successor {
        /// The position of the succession.
        seq: u64,
    },
    /// A person's word for another key that stands elsewhere, or is about another key or head.
    #[error(
        "record {seq} allows the log another key than the one that takes over right after it, or \
         over another log than it was there"
    )]
    Word {
        /// The position of the word.
        seq: u64,
    },
    /// The summary of what was verified is missing, stands elsewhere, or says something else.
    #[error(
        "record {seq}: the summary of what was verified of a new release stands before the outcome \
         that promotes it, says what the log says, and stands nowhere else"
    )]
    Summary {
        /// The position.
        seq: u64,
    },
}

/// Positions of records, for a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers(pub Vec<u64>);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let numbers: Vec<String> = self.0.iter().map(|seq| format!("record {seq}")).collect();
        f.write_str(&numbers.join(", "))
    }
}

impl Coded for Fault {
    fn class(&self) -> Class {
        Class::Corrupt
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "record.export.missing",
            Self::Extra => "record.export.extra",
            Self::Checkpoint(_) => "record.export.checkpoint",
            Self::Policy(_) => "record.export.policy",
            Self::NoEntry { .. } => "record.export.no-entry",
            Self::Bundle { .. } => "record.export.bundle",
            Self::Root => "record.export.root",
            Self::Tile { .. } => "record.export.tile",
            Self::Entry { .. } => "record.export.entry",
            Self::Person { .. } => "record.export.person",
            Self::Chain { .. } => "record.export.chain",
            Self::Anchor { .. } => "record.export.anchor",
            Self::Receipt { .. } => "record.export.receipt",
            Self::OlderRoot { .. } => "record.export.older-root",
            Self::UnknownRoot { .. } => "record.export.unknown-root",
            Self::ActTwice { .. } => "record.export.act",
            Self::Activation { .. } => "record.export.activation",
            Self::Past { .. } => "record.export.past",
            Self::Unjudged { .. } => "record.export.unjudged",
            Self::Unapproved { .. } => "record.export.unapproved",
            Self::Leave { .. } => "record.export.leave",
            Self::Rejected { .. } => "record.export.rejected",
            Self::NeverServed { .. } => "record.export.never-served",
            Self::Kind { .. } => "record.export.kind",
            Self::Outcome { .. } => "record.export.outcome",
            Self::Succession { .. } => "record.export.succession",
            Self::Successor { .. } => "record.export.successor",
            Self::Word { .. } => "record.export.word",
            Self::Summary { .. } => "record.export.summary",
        }
    }
}
