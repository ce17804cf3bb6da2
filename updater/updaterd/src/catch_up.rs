//! What the log says and the database does not, because the daemon died, or the log fell silent, between
//! the two writes of an act. The record is the first of them, so the log is never behind.
//!
//! A database that is behind by more than one act is an older copy that somebody put back. Nothing is
//! decided by it: what persons took back since would count again.

use std::sync::atomic::Ordering;

use cloister_domain::{ImportId, RecordIndex};
use cloister_state::{Judgement, NewActivation, NewTrial, PastConsent, State, StateError};
use cloister_wire::{
    record::Event,
    supply::ImportState,
    trial::{Kind, Shown},
};
use serde_json::json;

use crate::{
    anchor, approve, books,
    core::{Core, UNPOISONED, trust_files, vector_text},
    error::ActError,
    evaluate,
    rebuild::{
        self,
        history::{History, Told},
    },
    switch, trial,
};

/// Makes the database say what the log says, where that is unsure. The caller holds the right to act.
///
/// # Errors
/// [`ActError::OlderDatabase`], and those of the log and of the database; what was unsure stays so.
pub(crate) fn catch_up(core: &Core) -> Result<(), ActError> {
    let Some(history) = history_if_unsure(core)? else { return Ok(()) };
    trust(core, &history)?;
    policy(core, &history)?;
    intent(core, &history)?;
    // Before any decision: what was promoted is not open to one.
    switch::take_outcome(core)?;
    asked(core, &history)?;
    pins(core, &history)?;
    consents(core, &history)?;
    operators(core, &history)?;
    shadow(core, &history)?;
    trial_end(core, &history)?;
    approve::take_in(core)?;
    refusals(core, &history)?;
    damage(core, &history);
    configuration(core, &history)?;
    core.unsure.store(false, Ordering::SeqCst);
    Ok(())
}

/// Refuses where the database is an older copy: nothing is decided, drawn or taken off by it.
///
/// # Errors
/// As [`catch_up`].
pub(crate) fn may_act(core: &Core) -> Result<(), ActError> {
    history_if_unsure(core).map(drop)
}

/// What the log says, where the database may say something else.
fn history_if_unsure(core: &Core) -> Result<Option<History>, ActError> {
    if core.older.load(Ordering::SeqCst) {
        return Err(ActError::OlderDatabase);
    }
    if !core.unsure.load(Ordering::SeqCst) || core.enrolled().is_none() {
        return Ok(None);
    }
    let history = rebuild::read(core)?;
    if is_older_copy(&core.state(), &history)? {
        core.older.store(true, Ordering::SeqCst);
        tracing::error!("the state database is an older copy; nothing is decided by it");
        return Err(ActError::OlderDatabase);
    }
    Ok(Some(history))
}

/// Whether the log tells of more than the act that may have been cut off last.
fn is_older_copy(state: &State, history: &History) -> Result<bool, ActError> {
    // Numbers are drawn before the record that bears them.
    for (series, last) in history.series() {
        if last > state.last(series)? {
            return Ok(true);
        }
    }
    // An outcome is recorded after the database has the intent.
    for activation in history.activations.values().filter(|activation| activation.outcome.is_some())
    {
        if state.activation(activation.activation)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the programs are and how they are set is in the log, so that an answer that names it can be told
/// from others. It changes with a start only.
fn configuration(core: &Core, history: &History) -> Result<(), ActError> {
    let digest = core.config.digest();
    if history.configuration == Some(digest) {
        return Ok(());
    }
    core.recordd.append(&Core::entry(
        Event::Configuration,
        format!("configuration/{}/{digest}", history.size),
        &[("configuration", digest)],
        json!({ "version": env!("CARGO_PKG_VERSION") }),
    ))?;
    Ok(())
}

/// Trust metadata that was recorded is in force. It lies beside the database, and was stored first.
fn trust(core: &Core, history: &History) -> Result<(), ActError> {
    let kept = core.state().trust()?.map(|trust| trust.record);
    let told = history.trusted.as_ref().map(|told| told.record);
    if told <= kept {
        return Ok(());
    }
    let (trust, record) = rebuild::trust_of(core, history)?;
    core.state().advance_trust(&trust_files(&trust), &vector_text(&trust), record)?;
    anchor::keep(&core.config.paths.trust(), &trust)?;
    core.take_trust(trust);
    tracing::warn!(record = record.0, "trust metadata that was cut off is in force");
    Ok(())
}

/// The policy that was recorded last is known: going back to the one before is a change as well.
fn policy(core: &Core, history: &History) -> Result<(), ActError> {
    let Some((digest, record)) = history.policies.last() else { return Ok(()) };
    if core.state().policy()? == Some(*digest) {
        return Ok(());
    }
    Ok(core.state().keep_policy(*digest, *record)?)
}

/// An intent that only the log holds switched nothing; the caller gives it its one outcome.
fn intent(core: &Core, history: &History) -> Result<(), ActError> {
    let Some((_, open)) = history.activations.last_key_value() else { return Ok(()) };
    let known = core.state().activation(open.activation)?.is_some();
    if known || open.outcome.is_some() {
        return Ok(());
    }
    let new = NewActivation {
        activation: open.activation,
        kind: open.kind,
        generation: open.generation,
        from: open.from,
        tries: 0,
        intent: open.intent,
    };
    Ok(core.state().intend(&new)?)
}

/// What was decided before somebody had a release judged again is void.
fn asked(core: &Core, history: &History) -> Result<(), ActError> {
    for (import, told) in &history.imports {
        let Some(record) = told.asked else { continue };
        let held = core.state().import(*import)?.state;
        let judged = matches!(held, ImportState::AwaitingApproval | ImportState::Approved);
        if judged && stands_since(core, *import)? < Some(record) {
            core.state().evaluate_again(*import, record)?;
        }
    }
    Ok(())
}

/// The record of an import's last step.
fn stands_since(core: &Core, import: ImportId) -> Result<Option<RecordIndex>, ActError> {
    Ok(core.state().steps(import)?.last().map(|(_, record)| *record))
}

/// How an import stands in the database; `None` for one that only the log has, whose volume is offered anew.
fn standing(core: &Core, import: ImportId) -> Result<Option<ImportState>, ActError> {
    match core.state().import(import) {
        Ok(held) => Ok(Some(held.state)),
        Err(StateError::UnknownImport { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Who operated an import does not approve it, whoever of the two knows that.
fn operators(core: &Core, history: &History) -> Result<(), ActError> {
    for (import, told) in &history.imports {
        if standing(core, *import)?.is_none() {
            continue;
        }
        let known = core.state().operators(*import)?;
        if told.operators.iter().any(|operator| !known.contains(operator)) {
            core.state().imported_by(*import, &told.operators)?;
        }
    }
    Ok(())
}

/// What was refused in the log stays refused, though it would do better today.
fn refusals(core: &Core, history: &History) -> Result<(), ActError> {
    for (import, told) in &history.imports {
        let Some((ImportState::Refused, record)) = told.steps.last() else { continue };
        let Some(held) = standing(core, *import)? else { continue };
        if matches!(held, ImportState::Refused | ImportState::Activated) {
            continue;
        }
        refuse(core, *import, told, *record)?;
        tracing::warn!(import = import.0, "a refusal that was cut off holds");
        // Let go of, nothing of it is left in quarantine.
        drop(core.try_quarantine(*import));
        // Its slot and what it brought to the shelf are the worker's.
        core.leave_unfinished();
    }
    Ok(())
}

/// What was recorded as damaged leaves the shelf, which takes its reading again: the worker does it.
fn damage(core: &Core, history: &History) {
    let mut known = core.damaged.lock().expect(UNPOISONED);
    if history.damaged.is_some() && *known != history.damaged {
        *known = history.damaged;
        core.leave_unfinished();
    }
}

/// Refuses by a record that the log has, with the verdict if that was the reason.
fn refuse(core: &Core, import: ImportId, told: &Told, record: RecordIndex) -> Result<(), ActError> {
    let problem = rebuild::refused_as(told);
    let Some((evaluation, _)) = told.evaluation.as_ref().filter(|_| told.is_worse()) else {
        return Ok(core.state().refuse(import, &problem, record)?);
    };
    let worse = Judgement::Refused(evaluate::failed(&evaluation.figures));
    Ok(core.state().evaluated(import, evaluation, &worse, record)?)
}

/// What was pinned stays, and what was let go may go.
fn pins(core: &Core, history: &History) -> Result<(), ActError> {
    let pinned = core.state().pinned()?;
    for generation in history.unpinned.intersection(&pinned) {
        core.state().pin(*generation, None)?;
    }
    for (generation, record) in &history.pins {
        if !pinned.contains(generation) {
            core.state().pin(*generation, Some(*record))?;
        }
    }
    Ok(())
}

/// What a person allowed last, about each release and checkpoint.
fn consents(core: &Core, history: &History) -> Result<(), ActError> {
    let Some(last) = history.consents.last() else { return Ok(()) };
    let known = core.state().consents(&last.matter)?;
    if known.contains(&last.envelope) || core.trust()?.consent(&last.envelope).is_err() {
        return Ok(());
    }
    let PastConsent { matter, person, envelope, record } = last;
    Ok(core.state().consent(matter, person, envelope, *record)?)
}

/// A shadow whose beginning was recorded has begun; the caller says so on the shelf.
fn shadow(core: &Core, history: &History) -> Result<(), ActError> {
    let Some((_, past)) = history.trials.last_key_value() else { return Ok(()) };
    let Shown { trial, kind, import, generation, scope, seconds, .. } = &past.shown;
    let known = core.state().trial_numbered(*trial)?.is_some();
    if *kind != Kind::Shadow || past.end.is_some() || known {
        return Ok(());
    }
    let new = NewTrial {
        trial: *trial,
        kind: *kind,
        import: *import,
        generation: *generation,
        scope,
        seconds: *seconds,
        record: past.record,
    };
    Ok(core.state().begin_trial(&new, None)?)
}

/// A trial whose end was recorded has ended as the record says, whatever was counted since.
fn trial_end(core: &Core, history: &History) -> Result<(), ActError> {
    let open = core.state().trial()?;
    let Some(open) = open else { return Ok(()) };
    let Some(past) = history.trials.get(&open.trial) else { return Ok(()) };
    let (Some(record), Some(why)) = (past.end, past.shown.ended) else { return Ok(()) };
    let told = history.imports.get(&past.shown.import);
    let evaluation = match told {
        Some(told) => evaluation_by(core, &past.shown, record, told)?,
        None => None,
    };
    core.state().end_trial(&past.shown, why, record, evaluation.as_ref())?;
    trial::unpoint(core)
}

/// The evaluation that the end of a shadow led to.
fn evaluation_by(
    core: &Core,
    shadow: &Shown,
    record: RecordIndex,
    told: &Told,
) -> Result<Option<cloister_state::Evaluation>, ActError> {
    let judged = told.evaluation.as_ref().filter(|(_, since)| *since == record);
    let Some((evaluation, _)) = judged else { return Ok(None) };
    let evaluation = books::with_shadows(core, shadow, evaluation, &told.shadows)?;
    Ok(Some(evaluation))
}
