//! Activation, canary and rollback: intent, one rename, probe, outcome. The pointer on the shelf is the
//! truth about what is active; whatever is interrupted gets its one outcome later ([`settle`]).

use std::{collections::BTreeSet, ops::ControlFlow, time::Duration};

use cloister_attest::{dsse::Envelope, statement::Statement};
use cloister_daemon::{FrameError, clock::Stopwatch};
use cloister_domain::{Digest, GenerationId, ImportId, Principal, RecordIndex, Slot};
use cloister_promotion::{self as promotion, Act, Change, Refusal, step};
use cloister_shelf::{ShelfError, Shelved};
use cloister_state::{Activation, Kind, NewActivation, NewTrial, Outcome, Series, StateError};
use cloister_wire::{record::Event, supply::Answer, trial::End};
use serde_json::{Value, json};

use crate::{
    anchor, books,
    catch_up::catch_up,
    consent,
    core::{Core, is_refusal, vector_text},
    error::ActError,
    intake::manifest,
    slots, trial,
};

/// How often an activation may be tried, most of them after a restart, while an engine comes up.
const TRIES: u32 = 60;
/// Seconds that one of them is worth, the longest pause between two; an engine that is silent for longer
/// uses up more.
const TRY_S: u32 = 2;

/// Switches to what an import brought, if enough persons approved it.
pub(crate) fn activate(core: &Core, import: ImportId) -> Result<Answer, ActError> {
    let watch = Stopwatch::start();
    let _act = core.act();
    settle(core)?;
    let world = books::world(core, Some(import), None)?;
    let generation = world.candidates.get(&import).map(|candidate| candidate.generation);
    let subject: Vec<(&str, Digest)> = generation.iter().map(|id| ("bundle", id.0)).collect();
    let allowed =
        consent::whole_log(core).and_then(|()| Ok(step(&world, &Act::Activate { import })?));
    let change = allowed.map_err(|error| core.record_refusal("activate", &subject, error))?;
    let package = core.state().evaluation(import)?.map(|evaluation| evaluation.package);
    let about = |persons: &BTreeSet<Principal>| json!({ "import": import, "package": package, "approved_by": persons });
    carry_out(core, &change, about, watch)
}

/// Returns to `to`, or to the generation that was active before.
pub(crate) fn rollback(core: &Core, to: Option<GenerationId>) -> Result<Answer, ActError> {
    let watch = Stopwatch::start();
    let _act = core.act();
    core.make_room();
    let left = core.shelf.active()?.map(|active| active.id());
    let settled = settle_with(core, Patience::None)?;
    let now = core.shelf.active()?.map(|active| active.id());
    // What was interrupted and does not answer was left just now: that is what is asked for.
    match (settled, now) {
        (Some(record), Some(generation)) if now != left && to.is_none_or(|to| to == generation) => {
            let microseconds = watch.microseconds();
            Ok(Answer::Switched { generation, from: left, microseconds, record })
        }
        _ => roll_back(core, to, "operator", watch),
    }
}

/// The same, for a reason of which the record is told; the caller holds the right to act.
pub(crate) fn roll_back(
    core: &Core,
    to: Option<GenerationId>,
    reason: &str,
    watch: Stopwatch,
) -> Result<Answer, ActError> {
    core.make_room();
    let chosen = match to {
        Some(to) => Ok(to),
        None => slots::previous(core)?.map(|before| before.id()).ok_or(ActError::NoPrevious),
    };
    let allowed = chosen.and_then(|to| {
        let world = books::world(core, None, Some(to))?;
        let leaves = consent::leaves(core, to)?;
        Ok(step(&world, &Act::Rollback { to, leaves })?)
    });
    let change = match allowed {
        Ok(change) => change,
        Err(error) => {
            let asked = to.or(core.shelf.active()?.map(|active| active.id()));
            return Err(match asked {
                Some(asked) => core.record_refusal("rollback", &[("bundle", asked.0)], error),
                None => error,
            });
        }
    };
    let wish = core.draw(Series::Refusal)?;
    core.recordd.append(&Core::entry(
        Event::Rollback,
        format!("rollback/{wish}"),
        &[("bundle", target(&change).0)],
        json!({ "reason": reason }),
    ))?;
    let about = |persons: &BTreeSet<Principal>| {
        if persons.is_empty() {
            json!({ "reason": reason })
        } else {
            json!({ "reason": reason, "authorised_by": persons })
        }
    };
    carry_out(core, &change, about, watch)
}

/// What a switch leads to.
fn target(change: &Change) -> GenerationId {
    let Change::Switched { to, .. } = change else {
        unreachable!("who asks for a switch is answered by one");
    };
    *to
}

/// Does what the rules answered; `about` says in the record whose word carries it.
fn carry_out(
    core: &Core,
    change: &Change,
    about: impl FnOnce(&BTreeSet<Principal>) -> Value,
    watch: Stopwatch,
) -> Result<Answer, ActError> {
    let Change::Switched { kind, to, persons, .. } = change else {
        unreachable!("who asks for a switch is answered by one");
    };
    let kind = match kind {
        promotion::Kind::Activate => Kind::Activate,
        promotion::Kind::Rollback => Kind::Rollback,
        promotion::Kind::Downgrade => Kind::Downgrade,
    };
    let target = core.shelf.shelved(*to)?.ok_or(ShelfError::Absent { generation: *to })?;
    // The slot of a trial of another release is about to be taken.
    let trial = core.state().trial()?;
    if let Some(trial) = trial.as_ref().filter(|trial| trial.generation != *to) {
        trial::end(core, trial, End::Switched)?;
    }
    let switched = switch(core, kind, &target, &about(persons), watch);
    let switched = switched.inspect_err(|_error| core.wake())?;
    // A trial of what is active now has nothing left to try; the worker ends it if this cannot.
    if let Err(error) = trial::settle(core) {
        tracing::warn!(code = error.problem().code, "the trial of what became active goes on");
    }
    Ok(switched)
}

/// Begins a canary of `target`: an activation for some, with the trial that `new` makes of its number
/// and its intent. The caller holds the right to act.
pub(crate) fn begin_canary<'a>(
    core: &Core,
    target: &Shelved,
    about: &Value,
    new: impl FnOnce(u64, RecordIndex) -> NewTrial<'a>,
) -> Result<u64, ActError> {
    let open = intend(core, Kind::Canary, target.id(), about, |core, intent| {
        core.state().begin_trial(&new(intent.activation, intent.intent), Some(intent))
    })
    .inspect_err(|_error| core.wake())?;
    let tried = attempt(core, &open, target);
    not_cut_off(core, &tried)?;
    let concluded = || {
        let outcome = if tried.is_ok() { Outcome::Begun } else { retreat(core, &open)? };
        conclude(core, &open, outcome, tried.as_ref().err())?;
        trial::settle(core)
    };
    concluded().inspect_err(|_error| core.wake())?;
    tried.map(|()| open.activation)
}

fn switch(
    core: &Core,
    kind: Kind,
    target: &Shelved,
    about: &Value,
    watch: Stopwatch,
) -> Result<Answer, ActError> {
    let generation = target.id();
    let open = intend(core, kind, generation, about, |core, intent| core.state().intend(intent))?;
    let (from, activation) = (open.from, open.activation);
    let tried = attempt(core, &open, target);
    not_cut_off(core, &tried)?;
    let (outcome, failure) = match tried {
        Ok(()) => (Outcome::Promoted, None),
        Err(error) => (retreat(core, &open)?, Some(error)),
    };
    let record = conclude(core, &open, outcome, failure.as_ref())?;
    match failure {
        None => {
            let microseconds = watch.microseconds();
            tracing::info!(activation, microseconds, "switched");
            // What was retained until now may have nothing left that speaks for it, and what was damaged
            // and had to stay can go.
            core.leave_unfinished();
            Ok(Answer::Switched { generation, from, microseconds, record })
        }
        Some(error) if outcome == Outcome::Returned => Err(ActError::Returned(Box::new(error))),
        Some(error) => Err(error),
    }
}

/// A probe that the daemon's own end broke off says nothing about the release: the next start goes on.
fn not_cut_off(core: &Core, tried: &Result<(), ActError>) -> Result<(), ActError> {
    if tried.is_err() && core.stop.is_set() { Err(ActError::Stopping) } else { Ok(()) }
}

/// Writes an intent into the log and, by `store`, into the database.
fn intend(
    core: &Core,
    kind: Kind,
    generation: GenerationId,
    about: &Value,
    store: impl FnOnce(&Core, &NewActivation) -> Result<(), StateError>,
) -> Result<Activation, ActError> {
    let from = core.shelf.active()?.map(|active| active.id());
    let activation = core.draw(Series::Activation)?;
    let mut subject = vec![("bundle", generation.0)];
    subject.extend(from.map(|from| ("from", from.0)));
    core.in_two_writes(|| {
        let intent = core.recordd.append(&Core::entry(
            Event::ActivationIntent,
            format!("activation/{activation}/intent"),
            &subject,
            json!({ "activation": activation, "kind": kind.name(), "because": about }),
        ))?;
        let new = NewActivation { activation, kind, generation, from, tries: TRIES, intent };
        Ok(store(core, &new)?)
    })?;
    Ok(core.state().under_way()?.ok_or(StateError::NotUnderWay { activation })?)
}

/// Everything that may fail before the pointer moves, the one rename, and the proof that it serves.
fn attempt(core: &Core, open: &Activation, target: &Shelved) -> Result<(), ActError> {
    core.state().take_try(open.activation)?;
    let slot = slots::ensure(core, target)?;
    core.corpusd.stage(target)?;
    match open.kind {
        Kind::Canary => trial::point(core, open.activation)?,
        Kind::Activate | Kind::Rollback | Kind::Downgrade => {
            core.shelf.activate(target)?;
        }
    }
    probe(core, slot, target.id())
}

/// Whether the pointer that `open` moves names what it is to name.
fn is_pointed(core: &Core, open: &Activation) -> Result<bool, ActError> {
    Ok(match open.kind {
        Kind::Canary => trial::is_pointed(core, open.activation)?,
        Kind::Activate | Kind::Rollback | Kind::Downgrade => {
            core.shelf.active()?.is_some_and(|active| active.id() == open.generation)
        }
    })
}

/// One token from the generation that is to serve, in the time that it has for it.
pub(crate) fn probe(core: &Core, slot: Slot, generation: GenerationId) -> Result<(), ActError> {
    let engine = core.engine(slot);
    if engine.status()?.generation != Some(generation) {
        return Err(ActError::NotHeld);
    }
    let seconds = core.config.update.probe_s;
    match engine.serves(generation, Duration::from_secs(seconds.into())) {
        Err(ActError::Peer { cause: FrameError::TimedOut, .. }) => {
            Err(ActError::Silent { seconds })
        }
        answered => answered,
    }
}

/// Goes back to what was active before, if the pointer was moved at all.
fn retreat(core: &Core, open: &Activation) -> Result<Outcome, ActError> {
    if !is_pointed(core, open)? {
        return Ok(if open.returning { Outcome::Returned } else { Outcome::Aborted });
    }
    core.make_room();
    core.state().go_back(open.activation)?;
    if open.kind == Kind::Canary {
        core.shelf.set_trial(None)?;
        return Ok(Outcome::Returned);
    }
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
    let entry = Core::entry(
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
    );
    core.in_two_writes(|| {
        let record = core.recordd.append(&entry)?;
        store_outcome(core, open, outcome, record)?;
        Ok(record)
    })
}

fn store_outcome(
    core: &Core,
    open: &Activation,
    outcome: Outcome,
    record: RecordIndex,
) -> Result<(), ActError> {
    if outcome != Outcome::Promoted {
        return Ok(core.state().conclude(open.activation, outcome, record)?);
    }
    core.state().conclude(open.activation, outcome, record)?;
    // What is on probation forbids nothing yet, or there would be no way back from it.
    if core.config.update.probation_s > 0 {
        return Ok(());
    }
    forbid_older(core)?;
    Ok(core.state().stand(open.activation)?)
}

/// The active release stood its probation, which began with `activation`: its floor is raised.
pub(crate) fn stand(core: &Core, activation: u64) -> Result<(), ActError> {
    let _act = core.act();
    settle(core)?;
    let Some(last) = last_of_active(core)?.filter(|last| last.activation == activation) else {
        return Ok(());
    };
    // In this order: what forbids nothing yet is on probation still.
    forbid_older(core)?;
    if last.stood { Ok(()) } else { Ok(core.state().stand(activation)?) }
}

/// The active release fell in its probation, which began with `activation`: what it took the place of
/// takes over, if there is something.
pub(crate) fn fall(core: &Core, activation: u64) -> Result<(), ActError> {
    let _act = core.act();
    settle(core)?;
    let fallen = last_of_active(core)?.is_some_and(|last| last.activation == activation);
    if fallen && slots::previous(core)?.is_some() {
        tracing::error!("the active generation does not answer; returning to the one before");
        roll_back(core, None, "probation", Stopwatch::start())?;
    }
    Ok(())
}

/// The activation by which the active release is active.
fn last_of_active(core: &Core) -> Result<Option<Activation>, ActError> {
    let active = core.shelf.active()?.map(|active| active.id());
    Ok(active.map(|active| core.state().last_promotion(active)).transpose()?.flatten())
}

/// The ratchets after the promotion of what is active: kept beside the database first, then in it.
fn forbid_older(core: &Core) -> Result<(), ActError> {
    let Some(active) = core.shelf.active()? else { return Ok(()) };
    let held = core.trust()?;
    let trust = held.promoted(&manifest(&active.shelved().manifest()?)?);
    if trust == held {
        return Ok(());
    }
    anchor::keep(&core.config.paths.trust(), &trust)?;
    core.state().ratchet(&vector_text(&trust))?;
    anchor::forget_others(&core.config.paths.trust(), &trust);
    core.take_trust(trust);
    Ok(())
}

/// Makes the database catch up with the log, and gives an interrupted activation its outcome. The caller
/// holds the right to act.
///
/// The pointer still on the old generation: aborted, or returned if a return had been decided. On the
/// new one: it is probed again, and promoted or, when its tries are used up, returned.
pub(crate) fn settle(core: &Core) -> Result<(), ActError> {
    settle_with(core, Patience::Tries).map(drop)
}

/// How long one waits for the engine of an interrupted activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    /// For as many tries as it has.
    Tries,
    /// Somebody wants to go back: for one answer, of an engine that is there.
    None,
}

/// As [`settle`]; the record of the outcome, if one was given.
fn settle_with(core: &Core, patience: Patience) -> Result<Option<RecordIndex>, ActError> {
    catch_up(core)?;
    let under_way = core.state().under_way()?;
    let Some(open) = under_way else {
        trial::settle(core)?;
        return Ok(None);
    };
    let record = if let Some((outcome, record)) = recorded(core, &open)? {
        store_outcome(core, &open, outcome, record)?;
        record
    } else {
        let (outcome, failure) = bring_to_an_end(core, &open, patience)?;
        let record = conclude(core, &open, outcome, failure.as_ref())?;
        tracing::info!(activation = open.activation, outcome = outcome.name(), "settled");
        record
    };
    trial::settle(core)?;
    Ok(Some(record))
}

/// What becomes of an interrupted activation; an error if that is to be seen later.
fn bring_to_an_end(
    core: &Core,
    open: &Activation,
    patience: Patience,
) -> Result<(Outcome, Option<ActError>), ActError> {
    let pointed = is_pointed(core, open)? && !open.returning;
    let target = if pointed { core.shelf.shelved(open.generation)? } else { None };
    let Some(target) = target else { return Ok((retreat(core, open)?, None)) };
    if let Err(error) = still_allowed(core, open, &target) {
        if !is_refusal(&error) {
            return Err(error);
        }
        tracing::warn!(
            code = error.problem().code,
            "an interrupted switch is not allowed any more"
        );
        let outcome = retreat(core, open)?;
        // Its slot was not given up while it was active.
        core.leave_unfinished();
        return Ok((outcome, Some(error)));
    }
    let tried = match patience {
        Patience::None if !slots::is_held(core, target.id()) => Err(ActError::NotHeld),
        _ => attempt(core, open, &target),
    };
    not_cut_off(core, &tried)?;
    match tried {
        Ok(()) if open.kind == Kind::Canary => Ok((Outcome::Begun, None)),
        Ok(()) => Ok((Outcome::Promoted, None)),
        Err(error) => {
            let spent = matches!(error, ActError::State(StateError::NoTries { .. }));
            if spent || patience == Patience::None {
                return Ok((retreat(core, open)?, Some(error)));
            }
            // Engines may still be starting: another try later.
            if let ActError::Silent { seconds } = error {
                core.state().waste_tries(open.activation, seconds / TRY_S)?;
            }
            Err(error)
        }
    }
}

/// Asks the rules again, as if the pointer had not moved: persons may have rejected the release meanwhile, or
/// had it judged anew, and its importer may have taken it back.
fn still_allowed(core: &Core, open: &Activation, target: &Shelved) -> Result<(), ActError> {
    match open.kind {
        Kind::Activate | Kind::Canary => {
            let import = import_of(core, open)?.ok_or(Refusal::Package)?;
            let mut world = books::world(core, Some(import), None)?;
            world.active = open.from;
            step(&world, &Act::Activate { import })?;
            Ok(())
        }
        // What is left of a downgrade's leave was used up by its intent.
        Kind::Rollback | Kind::Downgrade if core.trust()?.is_revoked(&target.manifest()?) => {
            Err(Refusal::Revoked.into())
        }
        Kind::Rollback | Kind::Downgrade => Ok(()),
    }
}

/// The import whose approvals carry an activation: the one that its intent names.
fn import_of(core: &Core, open: &Activation) -> Result<Option<ImportId>, ActError> {
    let intent = core.recordd.read(open.intent, 1)?;
    let named = intent.first().and_then(|entry| {
        let envelope = Envelope::parse(entry.as_bytes()).ok()?;
        let predicate = Statement::of(&envelope).ok()?.predicate;
        predicate.get("facts")?.get("because")?.get("import")?.as_u64()
    });
    match named {
        Some(import) => Ok(Some(ImportId(import))),
        None => Ok(core.state().import_of(open.generation)?.map(|import| import.import)),
    }
}

/// Stores the outcome of the activation under way if the log holds it already. The caller holds the right
/// to act.
pub(crate) fn take_outcome(core: &Core) -> Result<(), ActError> {
    let Some(open) = core.state().under_way()? else { return Ok(()) };
    match recorded(core, &open)? {
        Some((outcome, record)) => store_outcome(core, &open, outcome, record),
        None => Ok(()),
    }
}

/// The outcome that the log holds already, if the crash came between log and database.
fn recorded(core: &Core, open: &Activation) -> Result<Option<(Outcome, RecordIndex)>, ActError> {
    let mut found = None;
    core.recordd.each(RecordIndex(open.intent.0.saturating_add(1)), |index, entry| {
        found = outcome_in(entry, open.activation).map(|outcome| (outcome, index));
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(found)
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
