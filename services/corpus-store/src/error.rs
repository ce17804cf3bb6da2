//! Why the store did not do it. Texts of SQLite and tantivy quote what they were given, so only
//! their kinds are kept.

use std::io;

use cloister_domain::{Class, Coded};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// SQLite failed.
    #[error("the document database failed to {act} (SQLite code {code})")]
    Database {
        /// What was asked of it.
        act: &'static str,
        /// SQLite's extended result code; 0 if the failure is not SQLite's.
        code: i32,
    },
    /// The index of words failed.
    #[error("the index of words failed to {act} ({kind})")]
    Words {
        /// What was asked of it.
        act: &'static str,
        /// The kind of its error.
        kind: &'static str,
    },
    /// A file of the store failed.
    #[error("the corpus cannot {act}")]
    File {
        /// What was tried.
        act: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A file of the store was written by a newer version.
    #[error("the document database has format {found}; this version reads {known}")]
    Format {
        /// Its format.
        found: i64,
        /// The one known here.
        known: i64,
    },
    /// A facility document that is there under another label.
    #[error("the same document is there under another label; delete it first")]
    OtherLabel,
    /// A document that a release holds.
    #[error("the document is part of a release; it comes and goes with that release")]
    Bundled,
    /// No such document of the facility.
    #[error("the facility has no such document; `cloister corpus list` shows those you may see")]
    Absent,
    /// A vector that does not belong to its space.
    #[error("a vector is not of {width} finite components and length 1")]
    Vector {
        /// What its space has.
        width: u32,
    },
    /// Two of the three stores disagree, or stored bytes are not what they were.
    #[error("the corpus is damaged: {what}")]
    Inconsistent {
        /// In which way.
        what: &'static str,
    },
}

impl StoreError {
    pub(crate) fn database(act: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |error| {
            let code = error.sqlite_error().map_or(0, |error| error.extended_code);
            Self::Database { act, code }
        }
    }

    pub(crate) fn file(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { act, source }
    }

    pub(crate) fn words<E: Into<tantivy::TantivyError>>(
        act: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |error| {
            use tantivy::TantivyError as T;
            let kind = match error.into() {
                T::OpenDirectoryError(_) => "folder",
                T::OpenReadError(_) => "open to read",
                T::OpenWriteError(_) => "open to write",
                T::LockFailure(..) => "held by another process",
                T::IoError(_) => "input or output",
                T::DataCorruption(_) => "corrupt",
                T::IncompatibleIndex(_) => "another version",
                T::ErrorInThread(_) => "thread",
                _ => "internal",
            };
            Self::Words { act, kind }
        }
    }
}

/// SQLite's primary codes for a file that is not what it was.
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_NOTADB: i32 = 26;

impl Coded for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Database { code, .. }
                if matches!(code & 0xff, SQLITE_CORRUPT | SQLITE_NOTADB) =>
            {
                Class::Corrupt
            }
            Self::Words { kind: "corrupt", .. } | Self::Inconsistent { .. } => Class::Corrupt,
            Self::Database { .. } | Self::Words { .. } | Self::File { .. } => Class::Fault,
            Self::Format { .. }
            | Self::OtherLabel
            | Self::Bundled
            | Self::Absent
            | Self::Vector { .. } => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Database { .. } => "corpus.store.database",
            Self::Words { .. } => "corpus.store.words",
            Self::File { .. } => "corpus.store.file",
            Self::Format { .. } => "corpus.store.format",
            Self::OtherLabel => "corpus.document.label",
            Self::Bundled => "corpus.document.bundled",
            Self::Absent => "corpus.document.absent",
            Self::Vector { .. } => "corpus.vector",
            Self::Inconsistent { .. } => "corpus.store.inconsistent",
        }
    }
}
