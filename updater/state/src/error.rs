//! What can go wrong with the database.

use cloister_domain::{Class, Coded, GenerationId, ImportId};
use cloister_wire::supply::ImportState;

/// A failure of the state database. SQLite's own words are never passed on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// SQLite failed.
    #[error("the state database could not {act} (SQLite code {code}); check the disk")]
    Database {
        /// What was attempted.
        act: &'static str,
        /// SQLite's extended result code; -1 when the failure is not SQLite's.
        code: i32,
    },
    /// The database was written by a later version of this program.
    #[error(
        "the state database has version {found}, this program knows {known}; install the newer program"
    )]
    Newer {
        /// The version on disk.
        found: i32,
        /// The newest version known.
        known: i32,
    },
    /// A stored row cannot be read back.
    #[error(
        "a row of `{table}` in the state database cannot be read; have the database made anew, see the \
         runbook `rebuild`"
    )]
    Row {
        /// The table.
        table: &'static str,
    },
    /// A number does not fit the database.
    #[error("a number is too large for the state database")]
    Range,
    /// There is no such import.
    #[error("there is no import {import}; `status` lists them")]
    UnknownImport {
        /// The import asked for.
        import: ImportId,
    },
    /// There is no such activation, or it has its outcome already.
    #[error("activation {activation} is not under way")]
    NotUnderWay {
        /// The activation asked for.
        activation: u64,
    },
    /// The state machine has no such step.
    #[error("import {import} cannot go from {from:?} to {to:?}")]
    Transition {
        /// The import.
        import: ImportId,
        /// Where it stands.
        from: ImportState,
        /// Where it was to go.
        to: ImportState,
    },
    /// A trust root is enrolled already.
    #[error("a trust root is enrolled already; rotation comes with a signed bundle")]
    Enrolled,
    /// No trust root is enrolled.
    #[error("no trust root is enrolled; enrol one first")]
    NotEnrolled,
    /// An attempt was to be made and none is left.
    #[error("no attempt is left to activate generation {generation}")]
    NoTries {
        /// The generation.
        generation: GenerationId,
    },
}

impl StateError {
    /// Whether the file is no database, or a damaged one (SQLite result codes 26 and 11).
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Database { code, .. } if matches!(*code & 0xff, 11 | 26))
    }

    /// Whether the disk is full (13).
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Database { code, .. } if *code & 0xff == 13)
    }

    /// For `map_err`: SQLite failed at `act`.
    pub(crate) fn sqlite(act: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |error| Self::Database {
            act,
            code: error.sqlite_error().map_or(-1, |inner| inner.extended_code),
        }
    }
}

impl Coded for StateError {
    fn class(&self) -> Class {
        match self {
            Self::Database { .. } | Self::Newer { .. } | Self::Range => Class::Fault,
            Self::Row { .. } => Class::Corrupt,
            Self::UnknownImport { .. }
            | Self::NotUnderWay { .. }
            | Self::Transition { .. }
            | Self::Enrolled
            | Self::NotEnrolled
            | Self::NoTries { .. } => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Database { .. } => "state.database",
            Self::Newer { .. } => "state.newer",
            Self::Row { .. } => "state.row",
            Self::Range => "state.range",
            Self::UnknownImport { .. } => "import.unknown",
            Self::NotUnderWay { .. } => "activation.not-under-way",
            Self::Transition { .. } => "import.transition",
            Self::Enrolled => "trust.already-enrolled",
            Self::NotEnrolled => "trust.not-enrolled",
            Self::NoTries { .. } => "activation.tries",
        }
    }
}
