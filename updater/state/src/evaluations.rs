//! Evaluations and what people decided about them.

use cloister_domain::{Digest, ImportId, Principal, RecordIndex};
use cloister_wire::{
    Problem,
    supply::{Figure, ImportState},
};
use rusqlite::{OptionalExtension, Transaction, params};

use crate::{
    State, StateError, digest, imports, index, json, of_json, signed, trust::raise_counter,
};

/// The figures of a candidate and the digests that bind an approval to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The figures, each with its bound and whether it holds.
    pub figures: Vec<Figure>,
    /// Digest of the policy that judged them.
    pub policy: Digest,
    /// Digest of what was found: inspection and figures.
    pub evidence: Digest,
    /// Digest over manifest, policy and evidence: what an approval names.
    pub package: Digest,
}

/// How an evaluation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Good enough to be shown to approvers.
    Passed,
    /// Refused.
    Refused(Problem),
}

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// For.
    Approve,
    /// Against; a veto.
    Reject,
}

/// A person's decision as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Who decided.
    pub person: Principal,
    /// What.
    pub decision: Decision,
    /// The person's own envelope, byte for byte.
    pub envelope: Vec<u8>,
    /// The record of it.
    pub record: RecordIndex,
}

impl State {
    /// An import that waits for approvals, or has them, is to be judged again; what was decided is void.
    ///
    /// # Errors
    /// [`StateError::Transition`], [`StateError::UnknownImport`], [`StateError::Database`].
    pub fn evaluate_again(
        &mut self,
        import: ImportId,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("begin an evaluation");
        let change = self.connection.transaction().map_err(&failed)?;
        imports::step(&change, import, ImportState::Evaluating, record)?;
        change
            .execute("DELETE FROM approvals WHERE import = ?1", [signed(import.0)?])
            .map_err(&failed)?;
        change.commit().map_err(&failed)
    }

    /// Stores the evaluation of an import and moves it on; a passed one raises the release counter.
    /// One that is there already is replaced.
    ///
    /// # Errors
    /// [`StateError::Transition`], [`StateError::UnknownImport`], [`StateError::Database`].
    pub fn evaluated(
        &mut self,
        import: ImportId,
        evaluation: &Evaluation,
        judgement: &Judgement,
        record: RecordIndex,
    ) -> Result<(), StateError> {
        let summary = self.import(import)?.summary;
        let failed = StateError::sqlite("store an evaluation");
        let change = self.connection.transaction().map_err(&failed)?;
        change
            .execute(
                "INSERT INTO evaluations (import, figures, policy, evidence, package, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (import) DO UPDATE
                 SET figures = ?2, policy = ?3, evidence = ?4, package = ?5, record = ?6",
                params![
                    signed(import.0)?,
                    json(&evaluation.figures),
                    evaluation.policy.to_string(),
                    evaluation.evidence.to_string(),
                    evaluation.package.to_string(),
                    signed(record.0)?
                ],
            )
            .map_err(&failed)?;
        match judgement {
            Judgement::Passed => {
                imports::step(&change, import, ImportState::AwaitingApproval, record)?;
                if let Some(held) = summary {
                    raise_counter(&change, &held.name, held.counter, held.generation, record)?;
                }
            }
            Judgement::Refused(problem) => imports::refuse_in(&change, import, problem, record)?,
        }
        change.commit().map_err(&failed)
    }

    /// The evaluation of an import, once there is one.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn evaluation(&self, import: ImportId) -> Result<Option<Evaluation>, StateError> {
        let row: Option<[String; 4]> = self
            .connection
            .query_row(
                "SELECT figures, policy, evidence, package FROM evaluations WHERE import = ?1",
                [signed(import.0)?],
                |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]),
            )
            .optional()
            .map_err(StateError::sqlite("read an evaluation"))?;
        row.map(|[figures, policy, evidence, package]| {
            Ok(Evaluation {
                figures: of_json(&figures, "evaluations")?,
                policy: digest(&policy, "evaluations")?,
                evidence: digest(&evidence, "evaluations")?,
                package: digest(&package, "evaluations")?,
            })
        })
        .transpose()
    }

    /// The record of the last judgement of `import`.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn judged_at(&self, import: ImportId) -> Result<Option<RecordIndex>, StateError> {
        let record: Option<i64> = self
            .connection
            .query_row(
                "SELECT record FROM evaluations WHERE import = ?1",
                [signed(import.0)?],
                |row| row.get(0),
            )
            .optional()
            .map_err(StateError::sqlite("read an evaluation"))?;
        record.map(index).transpose()
    }

    /// The import that waits for decisions about `package`, if one does.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn import_of_package(&self, package: Digest) -> Result<Option<ImportId>, StateError> {
        let import: Option<i64> = self
            .connection
            .query_row(
                "SELECT import FROM evaluations WHERE package = ?1 ORDER BY import DESC LIMIT 1",
                [package.to_string()],
                |row| row.get(0),
            )
            .optional()
            .map_err(StateError::sqlite("look for a package"))?;
        import.map(|import| crate::unsigned(import).map(ImportId)).transpose()
    }

    /// Stores a person's decision, in the place of one that the person made before. `to` is where it
    /// moves the import, if anywhere; a move to `Refused` carries its problem.
    ///
    /// # Errors
    /// [`StateError::Transition`], [`StateError::Database`].
    pub fn decided(
        &mut self,
        import: ImportId,
        approval: &Approval,
        to: Option<&Judgement>,
    ) -> Result<(), StateError> {
        let failed = StateError::sqlite("store a decision");
        let record = approval.record;
        let change = self.connection.transaction().map_err(&failed)?;
        store_decision(&change, import, approval)?;
        match to {
            None => {}
            Some(Judgement::Passed) => {
                imports::step(&change, import, ImportState::Approved, record)?;
            }
            Some(Judgement::Refused(problem)) => {
                imports::refuse_in(&change, import, problem, record)?;
            }
        }
        change.commit().map_err(&failed)
    }

    /// The decisions about an import, oldest first.
    ///
    /// # Errors
    /// [`StateError::Row`], [`StateError::Database`].
    pub fn decisions(&self, import: ImportId) -> Result<Vec<Approval>, StateError> {
        let failed = StateError::sqlite("read decisions");
        let mut statement = self
            .connection
            .prepare(
                "SELECT person, decision, envelope, record FROM approvals
                 WHERE import = ?1 ORDER BY record",
            )
            .map_err(&failed)?;
        let rows: Vec<(String, String, Vec<u8>, i64)> = statement
            .query_map([signed(import.0)?], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .and_then(Iterator::collect)
            .map_err(&failed)?;
        rows.into_iter()
            .map(|(person, decision, envelope, record)| {
                let bad = || StateError::Row { table: "approvals" };
                Ok(Approval {
                    person: person.parse().map_err(|_cause| bad())?,
                    decision: [Decision::Approve, Decision::Reject]
                        .into_iter()
                        .find(|known| decision_name(*known) == decision)
                        .ok_or_else(bad)?,
                    envelope,
                    record: index(record)?,
                })
            })
            .collect()
    }
}

/// Stores a person's word, in the place of an earlier one of the same person.
pub(crate) fn store_decision(
    change: &Transaction<'_>,
    import: ImportId,
    approval: &Approval,
) -> Result<(), StateError> {
    change
        .execute(
            "INSERT INTO approvals (import, person, decision, envelope, record)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (import, person) DO UPDATE
             SET decision = ?3, envelope = ?4, record = ?5",
            params![
                signed(import.0)?,
                approval.person.as_str(),
                decision_name(approval.decision),
                approval.envelope,
                signed(approval.record.0)?
            ],
        )
        .map_err(StateError::sqlite("store a decision"))?;
    Ok(())
}

const fn decision_name(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approve",
        Decision::Reject => "reject",
    }
}
