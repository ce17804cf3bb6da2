//! What the updater remembers: imports, evaluations, approvals, activations, trust metadata and the
//! highest release counters, in one SQLite database.
//!
//! Each change is one transaction, flushed before it returns (`synchronous=FULL`), and it stores
//! the index of the record that justifies it; the record is written first. An import moves along
//! [`ImportState`] only as [`allowed`] says. The database decides nothing else: who may approve,
//! what is served and what is good are judged by its caller, and `shelf/active` is the truth about
//! what is active.

mod activations;
mod consents;
mod error;
mod evaluations;
mod imports;
mod inspections;
mod rebuild;
mod schema;
mod trials;
mod trust;

use std::path::Path;

use cloister_domain::{Digest, RecordIndex};
use cloister_wire::supply::ImportState;
use rusqlite::{Connection, OptionalExtension};

pub use activations::{Activation, Kind, NewActivation, Outcome};
pub use error::StateError;
pub use evaluations::{Approval, Decision, Evaluation, Judgement};
pub use imports::{Import, NewImport, Promotable};
pub use rebuild::{Counted, Past, PastConsent, PastImport, PastTrial};
pub use trials::NewTrial;
pub use trust::{Trust, TrustFile};

/// The open database.
#[derive(Debug)]
pub struct State {
    connection: Connection,
}

/// A series of numbers that are each given once, also across crashes, so that the names of acts
/// built from them never repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// Imports.
    Import,
    /// Activations, rollbacks and trials.
    Activation,
    /// Acts that were asked for and not allowed.
    Refusal,
}

impl State {
    /// Opens the database at `path`; makes it when it is missing.
    ///
    /// # Errors
    /// [`StateError::Newer`] when a later version wrote it, [`StateError::Database`] when SQLite fails.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        Ok(Self { connection: schema::open(path)? })
    }

    /// The number of `series` that was given out last; 0 if none was.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn last(&self, series: Series) -> Result<u64, StateError> {
        let name = series_name(series);
        self.connection
            .query_row("SELECT last FROM series WHERE name = ?1", [name], |row| row.get(0))
            .optional()
            .map_err(StateError::sqlite("look for the last number"))?
            .map_or(Ok(0), unsigned)
    }

    /// The next number of `series`; never given again.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn next(&mut self, series: Series) -> Result<u64, StateError> {
        let (name, failed) = (series_name(series), StateError::sqlite("give out a number"));
        // Alone the statement would commit when it is dropped, and nobody would hear that it could not.
        let change = self.connection.transaction().map_err(&failed)?;
        let number: i64 = change
            .query_row(
                "INSERT INTO series (name, last) VALUES (?1, 1)
                 ON CONFLICT (name) DO UPDATE SET last = last + 1 RETURNING last",
                [name],
                |row| row.get(0),
            )
            .map_err(&failed)?;
        change.commit().map_err(&failed)?;
        unsigned(number)
    }
}

const fn series_name(series: Series) -> &'static str {
    match series {
        Series::Import => "import",
        Series::Activation => "activation",
        Series::Refusal => "refusal",
    }
}

/// Whether an import may go from one state to another.
#[must_use]
pub const fn allowed(from: ImportState, to: ImportState) -> bool {
    use ImportState::{
        Activated, Approved, AwaitingApproval, Evaluating, Received, Receiving, Refused,
    };
    matches!(
        (from, to),
        (Receiving, Received | Refused)
            | (Received, Evaluating | Refused)
            | (Evaluating, AwaitingApproval | Refused)
            | (AwaitingApproval, Approved | Evaluating | Refused)
            | (Approved, Activated | Evaluating | Refused)
    )
}

const STATES: [(ImportState, &str); 7] = [
    (ImportState::Receiving, "receiving"),
    (ImportState::Received, "received"),
    (ImportState::Evaluating, "evaluating"),
    (ImportState::AwaitingApproval, "awaiting-approval"),
    (ImportState::Approved, "approved"),
    (ImportState::Activated, "activated"),
    (ImportState::Refused, "refused"),
];

fn state_name(state: ImportState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).expect("the table holds every state").1
}

fn state_of(name: &str) -> Result<ImportState, StateError> {
    let found = STATES.iter().find(|(_, known)| *known == name);
    Ok(found.ok_or(StateError::Row { table: "imports" })?.0)
}

/// SQLite's integers are signed; ours never pass 2^53.
fn signed(number: u64) -> Result<i64, StateError> {
    i64::try_from(number).map_err(|_cause| StateError::Range)
}

fn unsigned(number: i64) -> Result<u64, StateError> {
    u64::try_from(number).map_err(|_cause| StateError::Range)
}

fn index(number: i64) -> Result<RecordIndex, StateError> {
    unsigned(number).map(RecordIndex)
}

fn digest(text: &str, table: &'static str) -> Result<Digest, StateError> {
    text.parse().map_err(|_cause| StateError::Row { table })
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data has a JSON form")
}

fn of_json<T: serde::de::DeserializeOwned>(
    text: &str,
    table: &'static str,
) -> Result<T, StateError> {
    serde_json::from_str(text).map_err(|_cause| StateError::Row { table })
}
