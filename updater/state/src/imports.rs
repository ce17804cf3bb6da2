//! Imports and their state machine.

use std::collections::BTreeSet;

use cloister_domain::{GenerationId, ImportId, RecordIndex};
use cloister_wire::{Problem, intake::Summary, supply::ImportState};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::{
    State, StateError, allowed, digest, index, json, of_json, signed, state_name, state_of,
    unsigned,
};

/// An import whose head was verified.
#[derive(Clone, Debug)]
pub struct NewImport<'a> {
    /// Its number, from [`crate::Series::Import`].
    pub import: ImportId,
    /// What it holds.
    pub summary: &'a Summary,
    /// The signed manifest, byte for byte.
    pub manifest: &'a [u8],
    /// Who operates the import: a user of the machine, and the persons behind that name.
    pub operators: &'a BTreeSet<String>,
    /// The record of the medium.
    pub record: RecordIndex,
}

/// An import as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its number.
    pub import: ImportId,
    /// Where it stands.
    pub state: ImportState,
    /// The release; absent if the head was refused before its name was known.
    pub generation: Option<GenerationId>,
    /// What it holds; absent if the head was refused.
    pub summary: Option<Summary>,
    /// The signed manifest, byte for byte; absent if the head was refused.
    pub manifest: Option<Vec<u8>>,
    /// Why it was refused.
    pub problem: Option<Problem>,
    /// The record that justifies the state.
    pub record: RecordIndex,
}

/// A generation that was promoted at least once, and so may be returned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotable {
    /// The generation.
    pub generation: GenerationId,
    /// The import that brought it.
    pub import: ImportId,
}

/// The code of a person's veto.
const REJECTED: &str = "approval.rejected";

const COLUMNS: &str =
    "SELECT import, state, generation, summary, manifest, problem, record FROM imports";

impl State {
    /// Stores an import whose head was verified, in state `Receiving`.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn receive(&mut self, new: &NewImport<'_>) -> Result<(), StateError> {
        let failed = StateError::sqlite("store an import");
        let change = self.connection.transaction().map_err(&failed)?;
        change
            .execute(
                "INSERT INTO imports (import, state, generation, summary, manifest, record)
                 VALUES (?1, 'receiving', ?2, ?3, ?4, ?5)",
                params![
                    signed(new.import.0)?,
                    new.summary.generation.to_string(),
                    json(new.summary),
                    new.manifest,
                    signed(new.record.0)?
                ],
            )
            .map_err(&failed)?;
        note(&change, new.import, ImportState::Receiving, new.record)?;
        imported_by(&change, new.import, new.operators)?;
        change.commit().map_err(&failed)
    }

    /// Keeps who operated the import of a volume, each name once.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn imported_by(
        &mut self,
        import: ImportId,
        operators: &BTreeSet<String>,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("store the operators");
        let change = self.connection.transaction().map_err(&failed)?;
        imported_by(&change, import, operators)?;
        change.commit().map_err(&failed)
    }

    /// Who operated the import of any of its volumes, by name.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn operators(&self, import: ImportId) -> Result<Vec<String>, StateError> {
        let failed = StateError::sqlite("read the operators");
        let mut statement = self
            .connection
            .prepare("SELECT operator FROM importers WHERE import = ?1 ORDER BY operator")
            .map_err(&failed)?;
        statement
            .query_map([signed(import.0)?], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(&failed)
    }

    /// From now on an import's release is known by the signatures of another envelope, which came with a
    /// later volume.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn sign_anew(&mut self, import: ImportId, manifest: &[u8]) -> Result<(), StateError> {
        self.connection
            .execute(
                "UPDATE imports SET manifest = ?2 WHERE import = ?1 AND manifest <> ?2",
                params![signed(import.0)?, manifest],
            )
            .map_err(StateError::sqlite("store a manifest"))?;
        Ok(())
    }

    /// Stores an import whose head was refused.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn receive_refused(
        &mut self,
        import: ImportId,
        generation: Option<GenerationId>,
        problem: &Problem,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("store a refused import");
        let change = self.connection.transaction().map_err(&failed)?;
        change
            .execute(
                "INSERT INTO imports (import, state, generation, problem, record)
                 VALUES (?1, 'refused', ?2, ?3, ?4)",
                params![
                    signed(import.0)?,
                    generation.map(|id| id.to_string()),
                    json(problem),
                    signed(record.0)?
                ],
            )
            .map_err(&failed)?;
        note(&change, import, ImportState::Refused, record)?;
        change.commit().map_err(&failed)
    }

    /// Moves an import on, because of `record`.
    ///
    /// # Errors
    /// [`StateError::Transition`] when the state machine has no such step,
    /// [`StateError::UnknownImport`], [`StateError::Database`].
    pub fn advance(
        &mut self,
        import: ImportId,
        to: ImportState,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("move an import on");
        let change = self.connection.transaction().map_err(&failed)?;
        step(&change, import, to, record)?;
        change.commit().map_err(&failed)
    }

    /// Refuses an import, because of `record`.
    ///
    /// # Errors
    /// As [`State::advance`].
    pub fn refuse(
        &mut self,
        import: ImportId,
        problem: &Problem,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("refuse an import");
        let change = self.connection.transaction().map_err(&failed)?;
        refuse_in(&change, import, problem, record)?;
        change.commit().map_err(&failed)
    }

    /// Notes why an import makes no headway at present, without moving it; `None` clears the note.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn note_trouble(
        &mut self,
        import: ImportId,
        problem: Option<&Problem>,
    ) -> Result<(), StateError> {
        self.connection
            .execute(
                "UPDATE imports SET problem = ?2 WHERE import = ?1 AND state <> 'refused'",
                params![signed(import.0)?, problem.map(json)],
            )
            .map_err(StateError::sqlite("note a trouble"))?;
        Ok(())
    }

    /// The import numbered `import`.
    ///
    /// # Errors
    /// [`StateError::UnknownImport`], [`StateError::Row`], [`StateError::Database`].
    pub fn import(&self, import: ImportId) -> Result<Import, StateError> {
        let found = self.imports_where("WHERE import = ?1", params![signed(import.0)?])?;
        found.into_iter().next().ok_or(StateError::UnknownImport { import })
    }

    /// The newest import of `generation` that was not refused.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn import_of(&self, generation: GenerationId) -> Result<Option<Import>, StateError> {
        let found = self.imports_where(
            "WHERE generation = ?1 AND state <> 'refused' ORDER BY import DESC LIMIT 1",
            params![generation.to_string()],
        )?;
        Ok(found.into_iter().next())
    }

    /// Whether a person rejected `generation`, whichever import brought it.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn is_rejected(&self, generation: GenerationId) -> Result<bool, StateError> {
        let refused = self.imports_where(
            "WHERE generation = ?1 AND state = 'refused'",
            params![generation.to_string()],
        )?;
        let rejected = |import: &Import| {
            import.problem.as_ref().is_some_and(|problem| problem.code == REJECTED)
        };
        Ok(refused.iter().any(rejected))
    }

    /// The newest `count` imports and each that is not over, newest first: refused ones push out nothing
    /// that waits for somebody.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn imports(&self, count: u32) -> Result<Vec<Import>, StateError> {
        self.imports_where(
            "WHERE state NOT IN ('refused', 'activated')
               OR import IN (SELECT import FROM imports ORDER BY import DESC LIMIT ?1)
             ORDER BY import DESC",
            params![count],
        )
    }

    /// The imports in `state`, oldest first.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn imports_in(&self, state: ImportState) -> Result<Vec<Import>, StateError> {
        self.imports_where("WHERE state = ?1 ORDER BY import", params![state_name(state)])
    }

    fn imports_where(
        &self,
        rest: &str,
        values: &[&dyn rusqlite::ToSql],
    ) -> Result<Vec<Import>, StateError> {
        let failed = StateError::sqlite("read imports");
        let mut statement =
            self.connection.prepare(&format!("{COLUMNS} {rest}")).map_err(&failed)?;
        let mut rows = statement.query(values).map_err(&failed)?;
        let mut imports = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            imports.push(Raw::of(row).map_err(&failed)?.import()?);
        }
        Ok(imports)
    }

    /// The steps of an import, oldest first, each with its record.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn steps(&self, import: ImportId) -> Result<Vec<(ImportState, RecordIndex)>, StateError> {
        let failed = StateError::sqlite("read the steps of an import");
        let mut statement = self
            .connection
            .prepare("SELECT state, record FROM transitions WHERE import = ?1 ORDER BY serial")
            .map_err(&failed)?;
        let rows: Vec<(String, i64)> = statement
            .query_map([signed(import.0)?], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(&failed)?;
        rows.into_iter().map(|(state, record)| Ok((state_of(&state)?, index(record)?))).collect()
    }

    /// The generations that were promoted, newest first.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn promoted(&self) -> Result<Vec<Promotable>, StateError> {
        let failed = StateError::sqlite("read the promoted generations");
        let mut statement = self
            .connection
            .prepare("SELECT generation, import FROM promoted ORDER BY record DESC")
            .map_err(&failed)?;
        let rows: Vec<(String, i64)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(&failed)?;
        rows.into_iter()
            .map(|(generation, import)| {
                Ok(Promotable {
                    generation: GenerationId(digest(&generation, "promoted")?),
                    import: ImportId(unsigned(import)?),
                })
            })
            .collect()
    }
}

/// What stays on the shelf.
impl State {
    /// The generations that were promoted, the one that was activated last first.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn latest_promoted(&self) -> Result<Vec<GenerationId>, StateError> {
        self.generations(
            "SELECT generation FROM promoted ORDER BY (
               SELECT max(activation) FROM activations
               WHERE activations.generation = promoted.generation AND outcome = 'promoted'
             ) DESC, record DESC",
            "promoted",
        )
    }

    /// The generations that are pinned to the shelf.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn pinned(&self) -> Result<BTreeSet<GenerationId>, StateError> {
        let pinned = self.generations("SELECT generation FROM pins", "pins")?;
        Ok(pinned.into_iter().collect())
    }

    /// Adds to the seconds of uptime since the shelf was read again; how many they are.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn add_uptime(&mut self, seconds: u64) -> Result<u64, StateError> {
        let failed = StateError::sqlite("count the uptime");
        let change = self.connection.transaction().map_err(&failed)?;
        let total: i64 = change
            .query_row(
                "INSERT INTO scrub (one, uptime_s) VALUES (1, ?1)
                 ON CONFLICT (one) DO UPDATE SET uptime_s = uptime_s + ?1 RETURNING uptime_s",
                [signed(seconds)?],
                |row| row.get(0),
            )
            .map_err(&failed)?;
        change.commit().map_err(&failed)?;
        unsigned(total)
    }

    /// The shelf was read again: the uptime counts from here.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn forget_uptime(&mut self) -> Result<(), StateError> {
        self.connection
            .execute("DELETE FROM scrub", [])
            .map_err(StateError::sqlite("count the uptime"))?;
        Ok(())
    }

    /// Pins a generation by a record, or, without one, no longer.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn pin(
        &mut self,
        generation: GenerationId,
        record: Option<RecordIndex>,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("store a pin");
        let name = generation.to_string();
        match record {
            Some(record) => self.connection.execute(
                "INSERT INTO pins (generation, record) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![name, signed(record.0)?],
            ),
            None => self.connection.execute("DELETE FROM pins WHERE generation = ?1", [name]),
        }
        .map_err(failed)?;
        Ok(())
    }

    fn generations(
        &self,
        query: &str,
        table: &'static str,
    ) -> Result<Vec<GenerationId>, StateError> {
        let failed = StateError::sqlite("read generations");
        let mut statement = self.connection.prepare(query).map_err(&failed)?;
        let names: Vec<String> = statement
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect)
            .map_err(&failed)?;
        names.iter().map(|name| digest(name, table).map(GenerationId)).collect()
    }
}

/// A row before its texts are read.
struct Raw {
    import: i64,
    state: String,
    generation: Option<String>,
    summary: Option<String>,
    manifest: Option<Vec<u8>>,
    problem: Option<String>,
    record: i64,
}

impl Raw {
    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            import: row.get(0)?,
            state: row.get(1)?,
            generation: row.get(2)?,
            summary: row.get(3)?,
            manifest: row.get(4)?,
            problem: row.get(5)?,
            record: row.get(6)?,
        })
    }

    fn import(self) -> Result<Import, StateError> {
        let generation =
            self.generation.map(|text| digest(&text, "imports").map(GenerationId)).transpose()?;
        Ok(Import {
            import: ImportId(unsigned(self.import)?),
            state: state_of(&self.state)?,
            generation,
            summary: self.summary.map(|text| of_json(&text, "imports")).transpose()?,
            manifest: self.manifest,
            problem: self.problem.map(|text| of_json(&text, "imports")).transpose()?,
            record: index(self.record)?,
        })
    }
}

/// One step of the state machine inside a transaction.
fn imported_by(
    connection: &Connection,
    import: ImportId,
    operators: &BTreeSet<String>,
) -> Result<(), StateError> {
    for operator in operators {
        connection
            .execute(
                "INSERT INTO importers (import, operator) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![signed(import.0)?, operator],
            )
            .map_err(StateError::sqlite("store an operator"))?;
    }
    Ok(())
}

pub(crate) fn step(
    change: &Transaction<'_>,
    import: ImportId,
    to: ImportState,
    record: RecordIndex,
) -> Result<(), StateError> {
    let failed = StateError::sqlite("move an import on");
    let from: Option<String> = change
        .query_row("SELECT state FROM imports WHERE import = ?1", [signed(import.0)?], |row| {
            row.get(0)
        })
        .optional()
        .map_err(&failed)?;
    let from = state_of(&from.ok_or(StateError::UnknownImport { import })?)?;
    if !allowed(from, to) {
        return Err(StateError::Transition { import, from, to });
    }
    change
        .execute(
            "UPDATE imports SET state = ?2, record = ?3, problem = NULL WHERE import = ?1",
            params![signed(import.0)?, state_name(to), signed(record.0)?],
        )
        .map_err(&failed)?;
    note(change, import, to, record)
}

pub(crate) fn refuse_in(
    change: &Transaction<'_>,
    import: ImportId,
    problem: &Problem,
    record: RecordIndex,
) -> Result<(), StateError> {
    step(change, import, ImportState::Refused, record)?;
    change
        .execute(
            "UPDATE imports SET problem = ?2 WHERE import = ?1",
            params![signed(import.0)?, json(problem)],
        )
        .map_err(StateError::sqlite("refuse an import"))?;
    Ok(())
}

fn note(
    change: &Transaction<'_>,
    import: ImportId,
    state: ImportState,
    record: RecordIndex,
) -> Result<(), StateError> {
    change
        .execute(
            "INSERT INTO transitions (import, state, record) VALUES (?1, ?2, ?3)",
            params![signed(import.0)?, state_name(state), signed(record.0)?],
        )
        .map_err(StateError::sqlite("note a step"))?;
    Ok(())
}
