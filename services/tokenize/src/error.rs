//! Why a tokenizer file is not taken.

use cloister_domain::{Class, Coded, TokenId};

/// A tokenizer that cannot be used exactly as its maker meant it.
///
/// `name` fields repeat a short piece of the model's own file, never a person's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The text is no JSON of the expected shape.
    #[error("the tokenizer file is not understood at line {line}, column {column}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A part of the file asks for something that is not built.
    #[error("the tokenizer's {construct} is not supported: {name}")]
    Unsupported {
        /// Which part of the file.
        construct: &'static str,
        /// What it says there, at most 120 characters.
        name: String,
    },
    /// A part that the kind of tokenizer needs is absent.
    #[error("the tokenizer lacks its {part}")]
    Absent {
        /// Which part.
        part: &'static str,
    },
    /// More tokens or merges than any known model has.
    #[error("the tokenizer has {count} {what}; at most {max} are read")]
    TooMany {
        /// Tokens or merges.
        what: &'static str,
        /// How many there are, or the id that is too large.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// Two texts claim one id, or one text has two.
    #[error("token {} is given twice: its id has another text, or its text another id", id.0)]
    Twice {
        /// The id.
        id: TokenId,
    },
    /// A token of a byte-level vocabulary has a character outside the byte alphabet.
    #[error("token {} is not written in the byte alphabet", id.0)]
    Alphabet {
        /// The token.
        id: TokenId,
    },
    /// A byte has no token, so some text could not be encoded.
    #[error("byte {byte:#04x} has no token")]
    Byte {
        /// The byte.
        byte: u8,
    },
    /// A merge names or makes a text that is no token, or is not two texts.
    #[error("merge {index} does not join two tokens to a third")]
    Merge {
        /// Counted from 0.
        index: usize,
    },
    /// A merge that stands in the list before: readers differ in which of the two counts.
    #[error("merge {index} joins the same two tokens as one before it; keep the one that is meant")]
    MergeTwice {
        /// Counted from 0.
        index: usize,
    },
    /// A merge would let plain text become a control token.
    #[error("merge {index} makes a control token out of plain text")]
    ControlMerge {
        /// Counted from 0.
        index: usize,
    },
    /// The file names a special token that its vocabulary does not hold as one.
    #[error("the {part} names a token that the vocabulary does not hold, or not as a special one")]
    Dangling {
        /// Which part of the file.
        part: &'static str,
    },
}

impl LoadError {
    /// A construct that is refused by name; the name is cut and made printable.
    pub(crate) fn unsupported(construct: &'static str, name: impl AsRef<str>) -> Self {
        let plain = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
        Self::Unsupported { construct, name: name.as_ref().chars().take(120).map(plain).collect() }
    }
}

impl Coded for LoadError {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Json { .. } => "tokenizer.json",
            Self::Unsupported { .. } => "tokenizer.unsupported",
            Self::Absent { .. } => "tokenizer.absent",
            Self::TooMany { .. } => "tokenizer.too-many",
            Self::Twice { .. } => "tokenizer.token.twice",
            Self::Alphabet { .. } => "tokenizer.token.alphabet",
            Self::Byte { .. } => "tokenizer.token.byte",
            Self::Merge { .. } => "tokenizer.merge",
            Self::MergeTwice { .. } => "tokenizer.merge.twice",
            Self::ControlMerge { .. } => "tokenizer.merge.control",
            Self::Dangling { .. } => "tokenizer.dangling",
        }
    }
}
