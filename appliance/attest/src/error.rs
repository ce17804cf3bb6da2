//! What can be wrong with a key, a signature, an envelope or its JSON.

use cloister_domain::{Class, Coded};

/// Why bytes are not the key, signature, text or statement that they claim to be.
///
/// No variant quotes its input: a position and a kind are all that leaves the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// A public key is not 32 bytes that encode a point in the one canonical way.
    #[error("a public key is not the canonical encoding of a point")]
    KeyEncoding,
    /// A public key lies in the small subgroup, where one signature fits every message.
    #[error("a public key is a point of small order")]
    KeySmallOrder,
    /// A key object names another type or scheme than `ed25519`, or lacks a field.
    #[error("a key object is not an ed25519 key")]
    KeyObject,
    /// A key object names a type or scheme that is none of ours.
    #[error("a key object names an algorithm that is not supported")]
    KeyScheme,
    /// An ML-DSA key has another length than its parameter set says.
    #[error("an ML-DSA key has {bytes} bytes instead of {needed}")]
    KeyLength {
        /// Bytes given.
        bytes: usize,
        /// Bytes of a key of the parameter set.
        needed: usize,
    },
    /// An ML-DSA key's text is not the one PEM spelling of a key of its scheme.
    #[error("an ML-DSA key is not the PEM text of a key of its scheme")]
    KeyPem,
    /// A seed is not 32 bytes.
    #[error("a signing key's seed has {bytes} bytes instead of 32")]
    Seed {
        /// Bytes given.
        bytes: usize,
    },
    /// A signature has not the length of its scheme, or a part of it is not canonical.
    #[error("a signature is not in canonical form")]
    SignatureEncoding,
    /// A signature is well formed and does not fit key and message.
    #[error("a signature does not fit its key and message")]
    SignatureWrong,
    /// A private key file is not in its two-line form.
    #[error("this is not a private key file of cloister-mint")]
    KeyFile,
    /// A text is longer than its kind may be.
    #[error("a signed text has {bytes} bytes, more than the {max} allowed")]
    TooLong {
        /// Bytes given.
        bytes: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not JSON in UTF-8, or something follows the value.
    #[error("the text is not JSON (line {line}, column {column})")]
    JsonSyntax {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An object names a key twice; readers disagree on which value counts.
    #[error("an object names a key twice (line {line}, column {column})")]
    JsonDuplicateKey {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Objects and arrays are nested too deeply.
    #[error("the JSON is nested more than {max} deep")]
    JsonDepth {
        /// Depth allowed.
        max: usize,
    },
    /// There are more values than anybody needs.
    #[error("the JSON holds more values than the {max} allowed")]
    JsonSize {
        /// Values allowed; an object that is not empty counts as twelve.
        max: u32,
    },
    /// A number is not an integer of at most 53 bits.
    #[error("a number is not an integer below 2^53")]
    JsonNumber,
    /// An envelope lacks a field, has one of another type, or is not base64 where it must be.
    #[error("the envelope is not a DSSE envelope")]
    Envelope,
    /// An envelope carries more signatures than anybody needs.
    #[error("an envelope has {count} signatures, more than the {max} allowed")]
    TooManySignatures {
        /// Signatures given.
        count: usize,
        /// Signatures allowed.
        max: usize,
    },
    /// The payload is of another type than an in-toto statement.
    #[error("the envelope's payload is not an in-toto statement")]
    PayloadType,
    /// The payload lacks a field of an in-toto statement v1, or has one of another type.
    #[error("the payload is not an in-toto statement of version 1")]
    Statement,
    /// A text is not the RFC 8785 text of an envelope or a statement, or says more than these have fields.
    #[error("the envelope or its statement is not in its one canonical form")]
    NotCanonical,
    /// The statement's predicate is of another type than the reader expects.
    #[error("the statement is of another kind than expected")]
    PredicateType,
    /// The predicate lacks a field, has an unknown one, or one out of range.
    #[error("the statement's predicate is not what its type promises")]
    Predicate,
}

impl Coded for AttestError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::KeyEncoding => "attest.key.encoding",
            Self::KeySmallOrder => "attest.key.small-order",
            Self::KeyObject => "attest.key.object",
            Self::KeyScheme => "attest.key.scheme",
            Self::KeyLength { .. } => "attest.key.length",
            Self::KeyPem => "attest.key.pem",
            Self::Seed { .. } => "attest.key.seed",
            Self::SignatureEncoding => "attest.signature.encoding",
            Self::SignatureWrong => "attest.signature.wrong",
            Self::KeyFile => "attest.key.file",
            Self::TooLong { .. } => "attest.too-long",
            Self::JsonSyntax { .. } => "attest.json.syntax",
            Self::JsonDuplicateKey { .. } => "attest.json.duplicate-key",
            Self::JsonDepth { .. } => "attest.json.depth",
            Self::JsonSize { .. } => "attest.json.size",
            Self::JsonNumber => "attest.json.number",
            Self::Envelope => "attest.envelope",
            Self::TooManySignatures { .. } => "attest.envelope.signatures",
            Self::PayloadType => "attest.payload-type",
            Self::Statement => "attest.statement",
            Self::NotCanonical => "attest.statement.form",
            Self::PredicateType => "attest.predicate-type",
            Self::Predicate => "attest.predicate",
        }
    }
}
