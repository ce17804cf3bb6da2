//! Activation and rollback: intent, one rename, probe, outcome. The pointer on the shelf is the
//! truth about what is active; whatever is interrupted gets its one outcome later ([`settle`]).

use std::sync::atomic::Ordering;

use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_daemon::clock::Stopwatch;
use cloister_domain::{Class, GenerationId, ImportId, RecordIndex, Sensitive, Slot, TokenCount};
use cloister_shelf::{ShelfError, Shelved};
use cloister_state::{
    Activation, Decision, Import, Kind, NewActivation, Outcome, Series, StateError,
};
use cloister_verify::Approved;
use cloister_wire::{
    engine::{Message, Role},
    record::Event,
    supply::{Answer, ImportState},
};
use serde_json::{Value, json};

use crate::{
    core::{Core, vector_text},
    error::ActError,
    intake::manifest,
    orphan, slots,
};

/// How often an activation may be tried, most of them after a restart, while an engine comes up.
const TRIES: u32 = 60;

/// Entries that are read at a time when an outcome is looked for.
const PAGE: u32 = 64;

/// Switches to what an import brought, if enough persons approved it.
pub(crate) fn activate(core: &Core, import: ImportId) -> Result<Answer, ActError> {
    let watch = Stopwatch::start();
    let _act = core.act();
    settle(core)?;
    let held = core.state().import(import)?;
    let generation = held.generation.ok_or(ActError::NotApproved { import, state: held.state })?;
    let allowed = approved(core, &held, generation)
        .and_then(|approved| Ok((approved, allowed_target(core, generation)?)));
    let (approved, target) = match allowed {
        Ok(allowed) => allowed,
        Err(error) => {
            return Err(core.record_refusal("activate", &[("bundle", generation.0)], error));
        }
    };
    let about = json!({
        "import": import,
        "package": approved.package(),
        "approved_by": approved.persons(),
    });
    switch(core, Kind::Activate, &target, &about, watch)
}

/// Returns to `to`, or to the generation that was active before.
pub(crate) fn rollback(core: &Core, to: Option<GenerationId>) -> Result<Answer, ActError> {
    let watch = Stopwatch::start();
    let _act = core.act();
    settle(core)?;
    roll_back(core, to, "operator", watch)
}

/// The same, for a reason of which the record is told; the caller holds the right to act.
pub(crate) fn roll_back(
    core: &Core,
    to: Option<GenerationId>,
    reason: &str,
    watch: Stopwatch,
) -> Result<Answer, ActError> {
    let chosen = match to {
        Some(to) => Ok(to),
        None => slots::previous(core)?.map(|before| before.id()).ok_or(ActError::NoPrevious),
    };
    let allowed = chosen.and_then(|to| {
        let promoted = core.state().promoted()?;
        if !promoted.iter().any(|promoted| promoted.generation == to) {
            return Err(ActError::NeverPromoted { generation: to });
        }
        allowed_target(core, to)
    });
    let target = match allowed {
        Ok(target) => target,
        Err(error) => {
            let asked = to.or(core.shelf.active()?.map(|active| active.id()));
            return Err(match asked {
                Some(asked) => core.record_refusal("rollback", &[("bundle", asked.0)], error),
                None => error,
            });
        }
    };
    let wish = core.state().next(Series::Refusal)?;
    core.recordd.append(&Core::entry(
        Event::Rollback,
        format!("rollback/{wish}"),
        &[("bundle", target.id().0)],
        json!({ "reason": reason }),
    ))?;
    switch(core, Kind::Rollback, &target, &json!({ "reason": reason }), watch)
}

/// Proof that enough distinct persons approved exactly this package, judged again at this moment.
fn approved(core: &Core, held: &Import, generation: GenerationId) -> Result<Approved, ActError> {
    let (import, state) = (held.import, held.state);
    let needed = core.approvals_needed();
    let decisions = core.state().decisions(import)?;
    if let Some(envelope) = &held.manifest {
        // What was taken back since it came is not activated, whoever approved it.
        core.trust()?.may_activate(envelope)?;
    }
    match state {
        ImportState::Approved | ImportState::Activated => {}
        ImportState::AwaitingApproval => {
            let approving =
                decisions.iter().filter(|decision| decision.decision == Decision::Approve);
            let have = u64::try_from(approving.count()).unwrap_or(u64::MAX);
            return Err(ActError::TooFewApprovals { have, needed });
        }
        ImportState::Receiving
        | ImportState::Received
        | ImportState::Evaluating
        | ImportState::Refused => return Err(ActError::NotApproved { import, state }),
    }
    let evaluation = core.state().evaluation(import)?;
    let package = evaluation.ok_or(StateError::Row { table: "evaluations" })?.package;
    let envelopes: Vec<Vec<u8>> = decisions.into_iter().map(|decision| decision.envelope).collect();
    Ok(core.trust()?.approved(&envelopes, package, generation, needed)?)
}

/// The generation on the shelf, if it is not active, not taken back, and not below what its successors
/// allow.
fn allowed_target(core: &Core, generation: GenerationId) -> Result<Shelved, ActError> {
    if core.shelf.active()?.is_some_and(|active| active.id() == generation) {
        return Err(ActError::AlreadyActive { generation });
    }
    let target = core.shelf.shelved(generation)?.ok_or(ShelfError::Absent { generation })?;
    core.trust()?.may_activate(&target.manifest()?)?;
    Ok(target)
}

fn switch(
    core: &Core,
    kind: Kind,
    target: &Shelved,
    about: &Value,
    watch: Stopwatch,
) -> Result<Answer, ActError> {
    let generation = target.id();
    let from = core.shelf.active()?.map(|active| active.id());
    let activation = core.state().next(Series::Activation)?;
    let mut subject = vec![("bundle", generation.0)];
    subject.extend(from.map(|from| ("from", from.0)));
    // From here until the database has it, only the log may know of the intent.
    core.intents_unsure.store(true, Ordering::SeqCst);
    let intent = core.recordd.append(&Core::entry(
        Event::ActivationIntent,
        format!("activation/{activation}/intent"),
        &subject,
        json!({ "activation": activation, "kind": kind.name(), "because": about }),
    ))?;
    let new = NewActivation { activation, kind, generation, from, tries: TRIES, intent };
    core.state().intend(&new)?;
    core.intents_unsure.store(false, Ordering::SeqCst);
    let open = core.state().under_way()?.ok_or(StateError::NotUnderWay { activation })?;
    let tried = attempt(core, &open, target);
    let (outcome, failure) = match tried {
        Ok(()) => (Outcome::Promoted, None),
        Err(error) => (retreat(core, &open)?, Some(error)),
    };
    let record = conclude(core, &open, outcome, failure.as_ref())?;
    match failure {
        None => {
            let microseconds = watch.microseconds();
            tracing::info!(activation, microseconds, "switched");
            Ok(Answer::Switched { generation, from, microseconds, record })
        }
        Some(error) if outcome == Outcome::Returned => Err(ActError::Returned(Box::new(error))),
        Some(error) => Err(error),
    }
}

/// Everything that may fail before the pointer moves, the one rename, and the proof that it serves.
fn attempt(core: &Core, open: &Activation, target: &Shelved) -> Result<(), ActError> {
    core.state().take_try(open.activation)?;
    let slot = slots::ensure(core, target)?;
    core.corpusd.stage(target)?;
    core.shelf.activate(target)?;
    probe(core, slot, target.id())
}

/// One token from the generation that is to serve.
fn probe(core: &Core, slot: Slot, generation: GenerationId) -> Result<(), ActError> {
    let engine = core.engine(slot);
    if engine.status()?.generation != Some(generation) {
        return Err(ActError::NotHeld);
    }
    let message = Message { role: Role::User, content: Sensitive::new(String::from("Hello")) };
    match engine.complete(generation, &[message], TokenCount(1)) {
        // Right after the rename readers may have taken every place: an engine with this generation
        // that is full serves.
        Err(ActError::Told(problem)) if problem.class == Class::Busy => Ok(()),
        answered => answered.map(drop),
    }
}

/// Goes back to what was active before, if the pointer was moved at all.
fn retreat(core: &Core, open: &Activation) -> Result<Outcome, ActError> {
    let active = core.shelf.active()?.map(|active| active.id());
    if active != Some(open.generation) {
        return Ok(if open.returning { Outcome::Returned } else { Outcome::Aborted });
    }
    core.state().go_back(open.activation)?;
    match open.from {
        Some(from) => {
            let before =
                core.shelf.shelved(from)?.ok_or(ShelfError::Absent { generation: from })?;
            core.shelf.activate(&before)?;
        }
        None => core.shelf.deactivate()?,
    }
    Ok(Outcome::Returned)
}

/// The one outcome of an intent: a record, then the state with the ratchets that a promotion raises.
fn conclude(
    core: &Core,
    open: &Activation,
    outcome: Outcome,
    failure: Option<&ActError>,
) -> Result<RecordIndex, ActError> {
    let active = core.shelf.active()?.map(|active| active.id());
    let mut subject = vec![("bundle", open.generation.0)];
    subject.extend(active.map(|active| ("active", active.0)));
    let code = failure.map(|error| error.problem().code);
    let record = core.recordd.append(&Core::entry(
        Event::ActivationOutcome,
        outcome_act(open.activation),
        &subject,
        json!({
            "activation": open.activation,
            "intent": open.intent,
            "kind": open.kind.name(),
            "outcome": outcome.name(),
            "code": code,
        }),
    ))?;
    store_outcome(core, open, outcome, record)?;
    Ok(record)
}

fn store_outcome(
    core: &Core,
    open: &Activation,
    outcome: Outcome,
    record: RecordIndex,
) -> Result<(), ActError> {
    if outcome != Outcome::Promoted {
        return Ok(core.state().conclude(open.activation, outcome, None, record)?);
    }
    let absent = ShelfError::Absent { generation: open.generation };
    let shelved = core.shelf.shelved(open.generation)?.ok_or(absent)?;
    let trust = core.trust()?.promoted(&manifest(&shelved.manifest()?)?);
    let vector = vector_text(&trust);
    core.state().conclude(open.activation, outcome, Some(&vector), record)?;
    core.take_trust(trust);
    Ok(())
}

/// Gives an interrupted activation its outcome; nothing to do when none is open. The caller holds
/// the right to act.
///
/// The pointer still on the old generation: aborted, or returned if a return had been decided. On the
/// new one: it is probed again, and promoted or, when its tries are used up, returned.
pub(crate) fn settle(core: &Core) -> Result<(), ActError> {
    let under_way = core.state().under_way()?;
    let Some(open) = under_way else { return orphan::close(core) };
    if let Some((outcome, record)) = recorded(core, &open)? {
        return store_outcome(core, &open, outcome, record);
    }
    let active = core.shelf.active()?.filter(|active| active.id() == open.generation);
    let (outcome, failure) = match active {
        Some(active) if !open.returning => match attempt(core, &open, active.shelved()) {
            Ok(()) => (Outcome::Promoted, None),
            Err(error @ ActError::State(StateError::NoTries { .. })) => {
                (retreat(core, &open)?, Some(error))
            }
            // Engines may still be starting: another try later.
            Err(error) => return Err(error),
        },
        _ => (retreat(core, &open)?, None),
    };
    conclude(core, &open, outcome, failure.as_ref())?;
    tracing::info!(activation = open.activation, outcome = outcome.name(), "settled");
    Ok(())
}

/// The outcome that the log holds already, if the crash came between log and database.
fn recorded(core: &Core, open: &Activation) -> Result<Option<(Outcome, RecordIndex)>, ActError> {
    let mut from = RecordIndex(open.intent.0.saturating_add(1));
    loop {
        let page = core.recordd.read(from, PAGE)?;
        for (index, entry) in (from.0..).zip(&page) {
            if let Some(outcome) = outcome_in(entry, open.activation) {
                return Ok(Some((outcome, RecordIndex(index))));
            }
        }
        if page.is_empty() {
            return Ok(None);
        }
        from.0 = from.0.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
    }
}

fn outcome_in(entry: &str, activation: u64) -> Option<Outcome> {
    let envelope = Envelope::parse(entry.as_bytes()).ok()?;
    let predicate = Statement::of(&envelope).ok()?.predicate;
    let text =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    if text(&predicate, "act")? != outcome_act(activation) {
        return None;
    }
    let name = text(predicate.get("facts")?, "outcome")?;
    Outcome::ALL.into_iter().find(|known| known.name() == name)
}

fn outcome_act(activation: u64) -> String {
    format!("activation/{activation}/outcome")
}
