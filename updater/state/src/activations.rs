//! Activations and rollbacks: an intent, a bounded number of tries, exactly one outcome.

use cloister_domain::{GenerationId, ImportId, RecordIndex};
use cloister_wire::supply::ImportState;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{State, StateError, digest, imports, index, signed, state_of, unsigned};

/// Why a switch was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To an approved generation.
    Activate,
    /// Back to a retained one.
    Rollback,
    /// Back to one below the floor, by a signed leave.
    Downgrade,
    /// To an approved generation, for some.
    Canary,
}

/// How an activation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The generation is active and answers.
    Promoted,
    /// The pointer was switched, the generation did not answer, and the one before is active again.
    Returned,
    /// The pointer was never switched.
    Aborted,
    /// The canary answers whom it is to answer.
    Begun,
}

impl Outcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Promoted, Self::Returned, Self::Aborted, Self::Begun];

    /// Its name in records and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Returned => "returned",
            Self::Aborted => "aborted",
            Self::Begun => "begun",
        }
    }
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Activate, Self::Rollback, Self::Downgrade, Self::Canary];

    /// Its name in records and in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Rollback => "rollback",
            Self::Downgrade => "downgrade",
            Self::Canary => "canary",
        }
    }
}

/// A switch that is about to be tried.
#[derive(Clone, Copy, Debug)]
pub struct NewActivation {
    /// Its number, from [`crate::Series::Activation`].
    pub activation: u64,
    /// Why.
    pub kind: Kind,
    /// What is to be active.
    pub generation: GenerationId,
    /// What is active now.
    pub from: Option<GenerationId>,
    /// How often it may be tried.
    pub tries: u32,
    /// The record of the intent.
    pub intent: RecordIndex,
}

/// A switch as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Its number.
    pub activation: u64,
    /// Why.
    pub kind: Kind,
    /// What was to be active.
    pub generation: GenerationId,
    /// What was active when it was asked for.
    pub from: Option<GenerationId>,
    /// How often it may still be tried.
    pub tries_left: u32,
    /// Whether it was decided to go back: the generation was switched to and did not answer.
    pub returning: bool,
    /// The record of the intent.
    pub intent: RecordIndex,
    /// How it ended, with the record; `None` while it is under way.
    pub outcome: Option<(Outcome, RecordIndex)>,
    /// Whether what was promoted by it stood its probation.
    pub stood: bool,
}

impl State {
    /// Stores an intent. At most one activation is under way at a time.
    ///
    /// # Errors
    /// [`StateError::Database`], also when another is under way.
    pub fn intend(&mut self, new: &NewActivation) -> Result<(), StateError> {
        insert(&self.connection, new)
    }

    /// Uses up one try, durably, before it is made; returns how many are left after it.
    ///
    /// # Errors
    /// [`StateError::NoTries`], [`StateError::NotUnderWay`], [`StateError::Database`].
    pub fn take_try(&mut self, activation: u64) -> Result<u32, StateError> {
        let under_way = self.under_way()?.filter(|found| found.activation == activation);
        let found = under_way.ok_or(StateError::NotUnderWay { activation })?;
        let left = found
            .tries_left
            .checked_sub(1)
            .ok_or(StateError::NoTries { generation: found.generation })?;
        self.connection
            .execute(
                "UPDATE activations SET tries_left = ?2 WHERE activation = ?1",
                params![signed(activation)?, left],
            )
            .map_err(StateError::sqlite("use up a try"))?;
        Ok(left)
    }

    /// Uses up `tries` more, or what is left of them: the last one took as long as so many do.
    ///
    /// # Errors
    /// [`StateError::NotUnderWay`], [`StateError::Database`].
    pub fn waste_tries(&mut self, activation: u64, tries: u32) -> Result<(), StateError> {
        let changed = self
            .connection
            .execute(
                "UPDATE activations SET tries_left = max(tries_left - ?2, 0)
                 WHERE activation = ?1 AND outcome IS NULL",
                params![signed(activation)?, tries],
            )
            .map_err(StateError::sqlite("use up tries"))?;
        if changed == 1 { Ok(()) } else { Err(StateError::NotUnderWay { activation }) }
    }

    /// Notes, before the pointer is switched back, that this activation goes back.
    ///
    /// # Errors
    /// [`StateError::NotUnderWay`], [`StateError::Database`].
    pub fn go_back(&mut self, activation: u64) -> Result<(), StateError> {
        let changed = self
            .connection
            .execute(
                "UPDATE activations SET goes_back = 1 WHERE activation = ?1 AND outcome IS NULL",
                params![signed(activation)?],
            )
            .map_err(StateError::sqlite("note a return"))?;
        if changed == 1 { Ok(()) } else { Err(StateError::NotUnderWay { activation }) }
    }

    /// Stores how an activation ended. When it was promoted, its generation may be returned to from
    /// now on, and the import that brought it is `Activated`.
    ///
    /// # Errors
    /// [`StateError::NotUnderWay`], [`StateError::Database`].
    pub fn conclude(
        &mut self,
        activation: u64,
        outcome: Outcome,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let under_way = self.under_way()?.filter(|found| found.activation == activation);
        let found = under_way.ok_or(StateError::NotUnderWay { activation })?;
        let failed = StateError::sqlite("store an outcome");
        let change = self.connection.transaction().map_err(&failed)?;
        change
            .execute(
                "UPDATE activations SET outcome = ?2, record = ?3 WHERE activation = ?1",
                params![signed(activation)?, outcome.name(), signed(record.0)?],
            )
            .map_err(&failed)?;
        if outcome == Outcome::Promoted {
            // What awaits approval may have been approved by persons whose keys count again.
            let import: Option<(i64, String)> = change
                .query_row(
                    "SELECT import, state FROM imports WHERE generation = ?1 AND (state = 'activated'
                       OR ?2 AND state IN ('approved', 'awaiting-approval'))
                     ORDER BY state = 'awaiting-approval', import DESC LIMIT 1",
                    params![found.generation.to_string(), found.kind == Kind::Activate],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
                .map_err(&failed)?;
            if let Some((import, state)) = import {
                let id = ImportId(unsigned(import)?);
                let state = state_of(&state)?;
                if state == ImportState::AwaitingApproval {
                    imports::step(&change, id, ImportState::Approved, record)?;
                }
                if state != ImportState::Activated {
                    imports::step(&change, id, ImportState::Activated, record)?;
                }
                change
                    .execute(
                        "INSERT INTO promoted (generation, import, record) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO NOTHING",
                        params![found.generation.to_string(), import, signed(record.0)?],
                    )
                    .map_err(&failed)?;
            }
        }
        change.commit().map_err(&failed)
    }

    /// Notes that what an activation promoted stood its probation. The caller has raised its floor.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn stand(&mut self, activation: u64) -> Result<(), StateError> {
        self.connection
            .execute(
                "UPDATE activations SET stood = 1 WHERE activation = ?1 AND outcome = 'promoted'",
                params![signed(activation)?],
            )
            .map_err(StateError::sqlite("note the end of a probation"))?;
        Ok(())
    }

    /// The activation that has no outcome yet, if there is one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn under_way(&self) -> Result<Option<Activation>, StateError> {
        self.activation_where("WHERE outcome IS NULL", params![])
    }

    /// How an activation ended; `None` while it is under way, or if there was none.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn outcome(&self, activation: u64) -> Result<Option<Outcome>, StateError> {
        Ok(self
            .activation(activation)?
            .and_then(|found| found.outcome)
            .map(|(outcome, _record)| outcome))
    }

    /// How many records the log had when a switch was written into it last; canaries switch nothing.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn last_switch(&self) -> Result<u64, StateError> {
        let last: Option<i64> = self
            .connection
            .query_row("SELECT max(intent) FROM activations WHERE kind <> 'canary'", [], |row| {
                row.get(0)
            })
            .map_err(StateError::sqlite("look for the last switch"))?;
        last.map_or(Ok(0), |intent| unsigned(intent.saturating_add(1)))
    }

    /// The activation of that number, if there was one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn activation(&self, activation: u64) -> Result<Option<Activation>, StateError> {
        self.activation_where("WHERE activation = ?1", params![signed(activation)?])
    }

    /// The last activation that made `generation` active, if there is one; its `from` is the
    /// generation before.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn last_promotion(
        &self,
        generation: GenerationId,
    ) -> Result<Option<Activation>, StateError> {
        self.activation_where(
            "WHERE outcome = 'promoted' AND generation = ?1 ORDER BY activation DESC LIMIT 1",
            params![generation.to_string()],
        )
    }

    fn activation_where(
        &self,
        rest: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Option<Activation>, StateError> {
        let failed = StateError::sqlite("read activations");
        let query = format!(
            "SELECT activation, kind, generation, came_from, tries_left, goes_back, intent,
             outcome, record, stood
             FROM activations {rest}"
        );
        let row = self
            .connection
            .query_row(&query, values, |row| {
                Ok(Raw {
                    activation: row.get(0)?,
                    kind: row.get(1)?,
                    generation: row.get(2)?,
                    from: row.get(3)?,
                    tries_left: row.get(4)?,
                    returning: row.get(5)?,
                    intent: row.get(6)?,
                    outcome: row.get(7)?,
                    record: row.get(8)?,
                    stood: row.get(9)?,
                })
            })
            .optional()
            .map_err(&failed)?;
        row.map(Raw::activation).transpose()
    }
}

/// Stores an intent.
pub(crate) fn insert(connection: &Connection, new: &NewActivation) -> Result<(), StateError> {
    connection
        .execute(
            "INSERT INTO activations (activation, kind, generation, came_from, tries_left, intent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                signed(new.activation)?,
                new.kind.name(),
                new.generation.to_string(),
                new.from.map(|id| id.to_string()),
                new.tries,
                signed(new.intent.0)?
            ],
        )
        .map_err(StateError::sqlite("store an intent"))?;
    Ok(())
}

/// A row before its texts are read.
struct Raw {
    activation: i64,
    kind: String,
    generation: String,
    from: Option<String>,
    tries_left: u32,
    returning: bool,
    intent: i64,
    outcome: Option<String>,
    record: Option<i64>,
    stood: bool,
}

impl Raw {
    fn activation(self) -> Result<Activation, StateError> {
        const TABLE: &str = "activations";
        let bad = || StateError::Row { table: TABLE };
        let outcome = match (self.outcome, self.record) {
            (None, None) => None,
            (Some(name), Some(record)) => {
                let known = Outcome::ALL.into_iter().find(|known| known.name() == name);
                Some((known.ok_or_else(bad)?, index(record)?))
            }
            _ => return Err(bad()),
        };
        Ok(Activation {
            activation: unsigned(self.activation)?,
            kind: Kind::ALL.into_iter().find(|known| known.name() == self.kind).ok_or_else(bad)?,
            generation: GenerationId(digest(&self.generation, TABLE)?),
            from: self.from.map(|text| digest(&text, TABLE).map(GenerationId)).transpose()?,
            tries_left: self.tries_left,
            returning: self.returning,
            intent: index(self.intent)?,
            outcome,
            stood: self.stood,
        })
    }
}
