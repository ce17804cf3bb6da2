//! Identifiers: each meaning has its own type, so that two never meet by accident.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// One release as approved and served: model, tokenizer, template, documents and policy together.
///
/// It is the SHA-256 of the signed manifest's payload, so the name binds every byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GenerationId(pub Digest);

impl fmt::Display for GenerationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for GenerationId {
    type Err = crate::DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// One attempt to bring a bundle in; counted from 1 by the state database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImportId(pub u64);

impl fmt::Display for ImportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of a record in the log; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecordIndex(pub u64);

impl fmt::Display for RecordIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How far a log had come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHead {
    /// Its name, the origin line of its checkpoints.
    pub origin: String,
    /// How many records it had.
    pub size: u64,
}

/// A document: the SHA-256 of its collection, name and original bytes (each length-prefixed).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentId(pub Digest);

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DocumentId {
    type Err = crate::DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A citable passage: document id, then the byte range in the document's extracted text.
///
/// Written `DOCUMENT:START-END`; the range is half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CitationId {
    /// The document cited.
    pub document: DocumentId,
    /// First byte of the passage.
    pub start: u64,
    /// One past the last byte of the passage.
    pub end: u64,
}

/// A text that is not `DOCUMENT:START-END` with START < END.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a citation is DOCUMENT:START-END, as the answer gave it")]
pub struct CitationIdError;

impl fmt::Display for CitationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}-{}", self.document, self.start, self.end)
    }
}

impl FromStr for CitationId {
    type Err = CitationIdError;

    fn from_str(text: &str) -> Result<Self, CitationIdError> {
        let (document, range) = text.split_once(':').ok_or(CitationIdError)?;
        let (start, end) = range.split_once('-').ok_or(CitationIdError)?;
        let number = |digits: &str| -> Result<u64, CitationIdError> {
            let value: u64 = digits.parse().map_err(|_ignored| CitationIdError)?;
            // One spelling only: no sign, no leading zero.
            if value.to_string() == digits { Ok(value) } else { Err(CitationIdError) }
        };
        let id = Self {
            document: document.parse().map_err(|_ignored| CitationIdError)?,
            start: number(start)?,
            end: number(end)?,
        };
        if id.start < id.end { Ok(id) } else { Err(CitationIdError) }
    }
}

impl TryFrom<String> for CitationId {
    type Error = CitationIdError;

    fn try_from(text: String) -> Result<Self, CitationIdError> {
        text.parse()
    }
}

impl From<CitationId> for String {
    fn from(id: CitationId) -> Self {
        id.to_string()
    }
}

/// One of the two engine processes: one serves, the other is idle or holds a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// `cloister-engined@a`.
    A,
    /// `cloister-engined@b`.
    B,
}

impl Slot {
    /// Both slots, in order.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other slot.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The instance name: `a` or `b`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slot is `a` or `b`")]
pub struct SlotError;

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        Self::ALL.into_iter().find(|slot| slot.name() == text).ok_or(SlotError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_citation_has_one_spelling() {
        let document = DocumentId(Digest::of(b"d"));
        let id = CitationId { document, start: 0, end: 10 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for range in
            ["", "1", "1-", "-1", "01-2", "+1-2", "2-2", "3-2", "1-2-3", "1-99999999999999999999"]
        {
            assert_eq!(format!("{document}:{range}").parse::<CitationId>(), Err(CitationIdError));
        }
    }
}
