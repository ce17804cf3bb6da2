//! A database that was lost, made anew from what the log and the shelf tell: everything in one
//! transaction, so that it is lost still, or whole.

use cloister_attest::consent::Matter;
use cloister_domain::{Digest, GenerationId, ImportId, Principal, RecordIndex};
use cloister_wire::{
    Problem,
    intake::Summary,
    supply::{ImportState, Inspection},
    trial::Shown,
};
use rusqlite::{Transaction, params};

use crate::{
    Activation, Approval, Evaluation, Series, State, StateError, Trust,
    evaluations::store_decision, json, series_name, signed, state_name, trust::store_trust_in,
};

/// An import as it stood.
#[derive(Clone, Debug)]
pub struct PastImport {
    /// Its number.
    pub import: ImportId,
    /// Its steps, oldest first, each with its record; the last one is where it stands.
    pub steps: Vec<(ImportState, RecordIndex)>,
    /// The release.
    pub generation: Option<GenerationId>,
    /// What it holds.
    pub summary: Option<Summary>,
    /// The signed manifest, byte for byte.
    pub manifest: Option<Vec<u8>>,
    /// Why it was refused.
    pub problem: Option<Problem>,
    /// Who operated the import of its volumes.
    pub operators: Vec<String>,
    /// What its inspection found.
    pub inspection: Option<(Inspection, RecordIndex)>,
    /// Its evaluation.
    pub evaluation: Option<(Evaluation, RecordIndex)>,
    /// What persons decided about it.
    pub approvals: Vec<Approval>,
}

/// The highest release of a name that passed its evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The name.
    pub name: String,
    /// Its counter.
    pub counter: u64,
    /// The release.
    pub generation: GenerationId,
    /// The record of the evaluation.
    pub record: RecordIndex,
}

/// A trial as it stood.
#[derive(Clone, Debug)]
pub struct PastTrial {
    /// The trial, with what it came to.
    pub shown: Shown,
    /// The record that began it.
    pub record: RecordIndex,
    /// The record of its end.
    pub end: Option<RecordIndex>,
}

/// A person's consent.
#[derive(Clone, Debug)]
pub struct PastConsent {
    /// To what.
    pub matter: Matter,
    /// Whose.
    pub person: Principal,
    /// The person's own envelope, byte for byte.
    pub envelope: Vec<u8>,
    /// The record of it.
    pub record: RecordIndex,
}

/// Everything that a database holds.
#[derive(Clone, Debug)]
pub struct Past {
    /// What is trusted.
    pub trust: Trust,
    /// The last number of each series.
    pub series: Vec<(Series, u64)>,
    /// The highest counters, by name.
    pub counters: Vec<Counted>,
    /// The imports.
    pub imports: Vec<PastImport>,
    /// The activations; at most one without an outcome.
    pub activations: Vec<Activation>,
    /// The trials; at most one without an end.
    pub trials: Vec<PastTrial>,
    /// What persons allowed beside releases, oldest first.
    pub consents: Vec<PastConsent>,
    /// What was promoted, by which import and which record.
    pub promoted: Vec<(GenerationId, ImportId, RecordIndex)>,
    /// What is pinned, with its record.
    pub pins: Vec<(GenerationId, RecordIndex)>,
    /// The facility's policies, oldest first.
    pub policies: Vec<(Digest, RecordIndex)>,
}

impl State {
    /// Fills a database in which nothing is enrolled.
    ///
    /// # Errors
    /// [`StateError::Enrolled`] for any other, which then stays as it is; [`StateError::Range`],
    /// [`StateError::Database`].
    pub fn rebuild(&mut self, past: &Past) -> Result<(), StateError> {
        if self.trust()?.is_some() {
            return Err(StateError::Enrolled);
        }
        let change = self.connection.transaction().map_err(failed())?;
        // Numbers may have been given out for refusals of before the enrolment.
        change.execute("DELETE FROM series", []).map_err(failed())?;
        for (series, last) in &past.series {
            change
                .execute(
                    "INSERT INTO series (name, last) VALUES (?1, ?2)",
                    params![series_name(*series), signed(*last)?],
                )
                .map_err(failed())?;
        }
        for Counted { name, counter, generation, record } in &past.counters {
            let of = (name.as_str(), *counter, *generation);
            crate::trust::raise_counter(&change, of.0, of.1, of.2, *record)?;
        }
        past.imports.iter().try_for_each(|import| store_import(&change, import))?;
        past.activations.iter().try_for_each(|one| store_activation(&change, one))?;
        for (generation, import, record) in &past.promoted {
            change
                .execute(
                    "INSERT INTO promoted (generation, import, record) VALUES (?1, ?2, ?3)",
                    params![generation.to_string(), signed(import.0)?, signed(record.0)?],
                )
                .map_err(failed())?;
        }
        for (generation, record) in &past.pins {
            change
                .execute(
                    "INSERT INTO pins (generation, record) VALUES (?1, ?2)",
                    params![generation.to_string(), signed(record.0)?],
                )
                .map_err(failed())?;
        }
        for (policy, record) in &past.policies {
            change
                .execute(
                    "INSERT INTO policies (policy, record) VALUES (?1, ?2)",
                    params![policy.to_string(), signed(record.0)?],
                )
                .map_err(failed())?;
        }
        past.trials.iter().try_for_each(|trial| store_trial(&change, trial))?;
        for PastConsent { matter, person, envelope, record } in &past.consents {
            crate::consents::insert(&change, matter, person, envelope, *record)?;
        }
        store_trust_in(&change, &past.trust.files, &past.trust.vector, past.trust.record)?;
        change.commit().map_err(failed())
    }
}

fn failed() -> impl Fn(rusqlite::Error) -> StateError {
    StateError::sqlite("rebuild")
}

fn store_import(change: &Transaction<'_>, import: &PastImport) -> Result<(), StateError> {
    let number = signed(import.import.0)?;
    let Some((state, record)) = import.steps.last() else { return Ok(()) };
    change
        .execute(
            "INSERT INTO imports (import, state, generation, summary, manifest, problem, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                number,
                state_name(*state),
                import.generation.map(|id| id.to_string()),
                import.summary.as_ref().map(json),
                import.manifest,
                import.problem.as_ref().map(json),
                signed(record.0)?
            ],
        )
        .map_err(failed())?;
    for (state, record) in &import.steps {
        change
            .execute(
                "INSERT INTO transitions (import, state, record) VALUES (?1, ?2, ?3)",
                params![number, state_name(*state), signed(record.0)?],
            )
            .map_err(failed())?;
    }
    for operator in &import.operators {
        change
            .execute(
                "INSERT INTO importers (import, operator) VALUES (?1, ?2)",
                params![number, operator],
            )
            .map_err(failed())?;
    }
    store_findings(change, number, import)
}

/// What was found of an import, and what persons decided about it.
fn store_findings(
    change: &Transaction<'_>,
    number: i64,
    import: &PastImport,
) -> Result<(), StateError> {
    if let Some((inspection, record)) = &import.inspection {
        change
            .execute(
                "INSERT INTO inspections (import, inspection, record) VALUES (?1, ?2, ?3)",
                params![number, json(inspection), signed(record.0)?],
            )
            .map_err(failed())?;
    }
    if let Some((evaluation, record)) = &import.evaluation {
        change
            .execute(
                "INSERT INTO evaluations (import, figures, policy, evidence, package, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    number,
                    json(&evaluation.figures),
                    evaluation.policy.to_string(),
                    evaluation.evidence.to_string(),
                    evaluation.package.to_string(),
                    signed(record.0)?
                ],
            )
            .map_err(failed())?;
    }
    for approval in &import.approvals {
        store_decision(change, import.import, approval)?;
    }
    Ok(())
}

fn store_trial(change: &Transaction<'_>, trial: &PastTrial) -> Result<(), StateError> {
    let PastTrial { shown, record, end } = trial;
    change
        .execute(
            "INSERT INTO trials
             (trial, kind, import, generation, scope, seconds, record, lasted_s, before, ended,
              end_record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                signed(shown.trial)?,
                json(&shown.kind),
                signed(shown.import.0)?,
                shown.generation.to_string(),
                json(&shown.scope),
                shown.seconds,
                signed(record.0)?,
                shown.lasted_s,
                json(&shown.report),
                shown.ended.as_ref().map(json),
                end.map(|end| signed(end.0)).transpose()?
            ],
        )
        .map_err(failed())?;
    Ok(())
}

fn store_activation(change: &Transaction<'_>, one: &Activation) -> Result<(), StateError> {
    let outcome = one.outcome.map(|(outcome, _)| outcome.name());
    let record = one.outcome.map(|(_, record)| signed(record.0)).transpose()?;
    change
        .execute(
            "INSERT INTO activations
             (activation, kind, generation, came_from, tries_left, goes_back, intent, outcome, record,
              stood)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                signed(one.activation)?,
                one.kind.name(),
                one.generation.to_string(),
                one.from.map(|id| id.to_string()),
                one.tries_left,
                one.returning,
                signed(one.intent.0)?,
                outcome,
                record,
                one.stood
            ],
        )
        .map_err(failed())?;
    Ok(())
}
