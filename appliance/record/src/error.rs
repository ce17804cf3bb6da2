//! Why bytes are not the note, checkpoint, bundle or entry that they should be.

use cloister_attest::AttestError;
use cloister_domain::{Class, Coded};

/// Why something cannot be read from, or put into, the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A verifier key is not `NAME+ID+BASE64` with the id of its name and key.
    #[error("this is not a verifier key; it reads NAME+ID+KEY, as `records export` prints it")]
    VerifierKey,
    /// A note is not text, an empty line, and signature lines.
    #[error("the note is not in the form of a signed note")]
    Note,
    /// A note has no signature, or a wrong one, by the key that it should have one of.
    #[error("the note has no good signature by the log's key")]
    NoteSignature,
    /// A signature line that bears a witness's name and id is not that witness's.
    #[error("a cosignature bears the name of a witness that did not make it")]
    Cosignature,
    /// Too few of a policy's witnesses cosigned a checkpoint.
    #[error("too few witnesses cosigned the checkpoint for the quorum that the policy asks for")]
    Quorum,
    /// A policy names logs, and not this one.
    #[error("the policy names logs, and the log of this key and name is none of them")]
    PolicyLog,
    /// A note's text is not origin, size and root.
    #[error("the note's text is not a checkpoint")]
    Checkpoint,
    /// An entry bundle ends in the middle of an entry, or holds another number of them.
    #[error("an entry bundle does not hold the {expected} entries that its name says")]
    Bundle {
        /// Entries expected.
        expected: u64,
    },
    /// A Merkle proof does not lead to the root.
    #[error("a Merkle proof does not lead from what it proves to the root")]
    Proof,
    /// A text is no proof.
    #[error("the text is not a proof as `records prove` writes it")]
    ProofForm,
    /// What is to be a receipt has no record in it, or its printed parts do not make a whole.
    #[error("this is no receipt: a proof with its record, or all printed parts of one")]
    Receipt,
    /// An entry is larger than the log takes.
    #[error("a record of {bytes} bytes is larger than the {max} allowed")]
    TooLong {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// An act's name is empty, too long, or has other characters.
    #[error("an act's name is 1 to 200 characters of a-z, 0-9, '.', '_', '-' and '/'")]
    Act,
    /// The act of an intent does not end with `/intent`, or that of an outcome with `/outcome`.
    #[error("an intent's act ends with /intent, and its outcome's is the same with /outcome")]
    ActPair,
    /// The envelope or its statement is malformed.
    #[error("the envelope of a record is malformed")]
    Envelope(#[source] AttestError),
    /// The predicate lacks a field, or one is of another kind.
    #[error("the statement is not a record's")]
    Statement,
    /// A fact is a fraction or a number beyond 2^53.
    #[error("a record's facts hold integers below 2^53 only")]
    Number,
    /// An event that a person signs was sent as the host's, or the other way round.
    #[error("approvals are signed by persons, all other records by the host")]
    Signer,
}

impl Coded for RecordError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::VerifierKey => "record.verifier-key",
            Self::Note => "record.note",
            Self::NoteSignature => "record.note.signature",
            Self::Cosignature => "record.cosignature",
            Self::Quorum => "record.quorum",
            Self::PolicyLog => "record.policy.other-log",
            Self::Checkpoint => "record.checkpoint",
            Self::Bundle { .. } => "record.bundle",
            Self::Proof => "record.proof",
            Self::ProofForm => "record.proof.form",
            Self::Receipt => "record.receipt",
            Self::TooLong { .. } => "record.too-long",
            Self::Act => "record.act",
            Self::ActPair => "record.act.pair",
            Self::Envelope(_) => "record.envelope",
            Self::Statement => "record.statement",
            Self::Number => "record.number",
            Self::Signer => "record.signer",
        }
    }
}
