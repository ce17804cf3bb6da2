//! Trials: one under way at most, its counts, and its one end.

use cloister_domain::{GenerationId, ImportId, RecordIndex};
use cloister_wire::trial::{Counted, End, Kind, Report, Scope, Shown};
use rusqlite::{Row, params};

use crate::{
    Evaluation, NewActivation, State, StateError, digest, json, of_json, signed, unsigned,
};

const TABLE: &str = "trials";

/// A trial that is about to begin.
#[derive(Clone, Debug)]
pub struct NewTrial<'a> {
    /// Its number, from [`crate::Series::Activation`].
    pub trial: u64,
    /// What kind.
    pub kind: Kind,
    /// The import that brought the release.
    pub import: ImportId,
    /// The release.
    pub generation: GenerationId,
    /// Whose questions.
    pub scope: &'a Scope,
    /// How long at most.
    pub seconds: u32,
    /// The record of it: of a canary, the intent of its activation.
    pub record: RecordIndex,
}

impl State {
    /// Stores a trial, and with a canary the activation that begins it. At most one is under way.
    ///
    /// # Errors
    /// [`StateError::Database`], also when another is under way.
    pub fn begin_trial(
        &mut self,
        new: &NewTrial<'_>,
        intent: Option<&NewActivation>,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("store a trial");
        let change = self.connection.transaction().map_err(&failed)?;
        change
            .execute(
                "INSERT INTO trials (trial, kind, import, generation, scope, seconds, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    signed(new.trial)?,
                    json(&new.kind),
                    signed(new.import.0)?,
                    new.generation.to_string(),
                    json(new.scope),
                    new.seconds,
                    signed(new.record.0)?
                ],
            )
            .map_err(&failed)?;
        if let Some(intent) = intent {
            crate::activations::insert(&change, intent)?;
        }
        change.commit().map_err(&failed)
    }

    /// The trial under way, if there is one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn trial(&self) -> Result<Option<Shown>, StateError> {
        Ok(self.trials_where("ended IS NULL", 0)?.pop())
    }

    /// The trial of that number, if there was one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn trial_numbered(&self, trial: u64) -> Result<Option<Shown>, StateError> {
        Ok(self.trials_where("trial = ?1", trial)?.pop())
    }

    /// The trials that the release of an import had, oldest first.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn trials_of(&self, import: ImportId) -> Result<Vec<Shown>, StateError> {
        self.trials_where("import = ?1", import.0)
    }

    fn trials_where(&self, rest: &str, value: u64) -> Result<Vec<Shown>, StateError> {
        let failed = StateError::sqlite("read trials");
        let query = format!(
            "SELECT trial, kind, import, generation, scope, seconds, lasted_s, before, counted, ended
             FROM trials WHERE ?1 = ?1 AND {rest} ORDER BY trial"
        );
        let mut statement = self.connection.prepare(&query).map_err(&failed)?;
        let rows = statement.query_map([signed(value)?], Raw::of).map_err(&failed)?;
        rows.map(|row| row.map_err(&failed)?.shown()).collect()
    }

    /// Notes how long a trial under way has lasted and what was counted. Counts of an earlier run of gatewayd
    /// are added to those of the present one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn note_trial(
        &mut self,
        trial: u64,
        lasted_s: u32,
        counted: Option<&Counted>,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("note a trial");
        let change = self.connection.transaction().map_err(&failed)?;
        if let Some(counted) = counted {
            let (run, before, last): (Option<String>, Option<String>, Option<String>) = change
                .query_row(
                    "SELECT run, before, counted FROM trials WHERE trial = ?1",
                    [signed(trial)?],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .map_err(&failed)?;
            let mut sum = report(before.as_deref())?;
            let now = counted.run.to_string();
            if run.is_some_and(|run| run != now) {
                sum = sum.with(report(last.as_deref())?);
            }
            change
                .execute(
                    "UPDATE trials SET run = ?2, before = ?3, counted = ?4
                     WHERE trial = ?1 AND ended IS NULL",
                    params![signed(trial)?, now, json(&sum), json(&counted.report)],
                )
                .map_err(&failed)?;
        }
        change
            .execute(
                "UPDATE trials SET lasted_s = ?2 WHERE trial = ?1 AND ended IS NULL",
                params![signed(trial)?, lasted_s],
            )
            .map_err(&failed)?;
        change.commit().map_err(&failed)
    }

    /// Ends a trial, with the report that `trial` bears. `evaluation` takes the place of its import's, where the report belongs to what is
    /// approved.
    ///
    /// # Errors
    /// [`StateError::Database`].
    pub fn end_trial(
        &mut self,
        trial: &Shown,
        end: End,
        record: RecordIndex,
        evaluation: Option<&Evaluation>,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("end a trial");
        let change = self.connection.transaction().map_err(&failed)?;
        change
            .execute(
                "UPDATE trials SET ended = ?2, end_record = ?3, lasted_s = ?4, before = NULL, counted = ?5
                 WHERE trial = ?1 AND ended IS NULL",
                params![
                    signed(trial.trial)?,
                    json(&end),
                    signed(record.0)?,
                    trial.lasted_s,
                    json(&trial.report)
                ],
            )
            .map_err(&failed)?;
        if let Some(evaluation) = evaluation {
            change
                .execute(
                    "UPDATE evaluations SET evidence = ?2, package = ?3, record = ?4
                     WHERE import = ?1",
                    params![
                        signed(trial.import.0)?,
                        evaluation.evidence.to_string(),
                        evaluation.package.to_string(),
                        signed(record.0)?
                    ],
                )
                .map_err(&failed)?;
        }
        change.commit().map_err(&failed)
    }
}

fn report(text: Option<&str>) -> Result<Report, StateError> {
    text.map_or_else(|| Ok(Report::default()), |text| of_json(text, TABLE))
}

/// A row before its texts are read.
struct Raw {
    trial: i64,
    kind: String,
    import: i64,
    generation: String,
    scope: String,
    seconds: u32,
    lasted_s: u32,
    before: Option<String>,
    counted: Option<String>,
    ended: Option<String>,
}

impl Raw {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            trial: row.get(0)?,
            kind: row.get(1)?,
            import: row.get(2)?,
            generation: row.get(3)?,
            scope: row.get(4)?,
            seconds: row.get(5)?,
            lasted_s: row.get(6)?,
            before: row.get(7)?,
            counted: row.get(8)?,
            ended: row.get(9)?,
        })
    }

    fn shown(self) -> Result<Shown, StateError> {
        let counted = report(self.counted.as_deref())?;
        Ok(Shown {
            trial: unsigned(self.trial)?,
            kind: of_json(&self.kind, TABLE)?,
            import: ImportId(unsigned(self.import)?),
            generation: GenerationId(digest(&self.generation, TABLE)?),
            scope: of_json(&self.scope, TABLE)?,
            seconds: self.seconds,
            lasted_s: self.lasted_s,
            report: report(self.before.as_deref())?.with(counted),
            ended: self.ended.map(|text| of_json(&text, TABLE)).transpose()?,
        })
    }
}
