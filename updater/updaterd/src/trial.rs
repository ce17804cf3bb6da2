//! Trials: a canary answers some people by an approved release; a shadow is asked what they ask while
//! it waits for approvals, and nobody sees its answers. One at a time, with a report, and with an end
//! that nobody has to think of.
//!
//! The shelf's file `trial` says whom gatewayd asks; the database says which trial is under way, and
//! wins: what is interrupted is made true by [`settle`].

use cloister_daemon::{clock::Stopwatch, files::read_limited};
use cloister_domain::{GenerationId, ImportId};
use cloister_promotion::{Act, Change, step};
use cloister_shelf::ShelfError;
use cloister_state::{NewTrial, Outcome, Series};
use cloister_wire::{
    record::Event,
    supply::{Answer, ImportState},
    trial::{Counted, End, FILE_BYTES_MAX, Kind, Scope, Shown, Trial},
};
use serde_json::json;

use crate::{books, consent, core::Core, error::ActError, slots, switch, watch::Away};

/// Seconds between two notes of how long a trial has lasted.
const NOTE_S: u32 = 10;

/// Begins a trial of what an import brought.
pub(crate) fn start(
    core: &Core,
    kind: Kind,
    import: ImportId,
    scope: &Scope,
    seconds: u32,
) -> Result<Answer, ActError> {
    let _act = core.act();
    switch::settle(core)?;
    let begun = check(core, scope, seconds).and_then(|()| match kind {
        Kind::Canary => canary(core, import, scope, seconds),
        Kind::Shadow => shadow(core, import, scope, seconds),
    });
    begun.map_err(|error| {
        let about = core.state().import(import).ok().and_then(|held| held.generation);
        let subject: Vec<_> = about.iter().map(|id| ("bundle", id.0)).collect();
        core.record_refusal("trial", &subject, error)
    })
}

fn check(core: &Core, scope: &Scope, seconds: u32) -> Result<(), ActError> {
    let seconds_max = core.config.update.trial_s_max;
    if !scope.is_possible() || !(1..=seconds_max).contains(&seconds) {
        return Err(ActError::TrialBounds { seconds_max });
    }
    consent::whole_log(core)?;
    match core.state().trial()? {
        Some(Shown { trial, .. }) => Err(ActError::TrialUnderWay { trial }),
        None => Ok(()),
    }
}

/// An activation for those whom the scope covers: intent, pointer, probe, outcome.
fn canary(core: &Core, import: ImportId, scope: &Scope, seconds: u32) -> Result<Answer, ActError> {
    let world = books::world(core, Some(import), None)?;
    let change = step(&world, &Act::StartCanary { import, scope: scope.clone() })?;
    let Change::CanaryStarted { canary, persons } = change else {
        unreachable!("who asks for a canary is answered by one");
    };
    let package = core.state().evaluation(import)?.map(|evaluation| evaluation.package);
    let about = json!({
        "import": import,
        "package": package,
        "approved_by": persons,
        "scope": scope,
        "seconds": seconds,
    });
    let generation = canary.generation;
    let target = core.shelf.shelved(generation)?.ok_or(ShelfError::Absent { generation })?;
    let trial = switch::begin_canary(core, &target, &about, |trial, record| NewTrial {
        trial,
        kind: Kind::Canary,
        import,
        generation,
        scope,
        seconds,
        record,
    })?;
    shown(core, trial)
}

fn shadow(core: &Core, import: ImportId, scope: &Scope, seconds: u32) -> Result<Answer, ActError> {
    let held = core.state().import(import)?;
    let (ImportState::AwaitingApproval, Some(generation)) = (held.state, held.generation) else {
        return Err(ActError::NotAwaiting { import, state: held.state });
    };
    if core.shelf.active()?.is_none() {
        return Err(ActError::NothingActive);
    }
    let target = core.shelf.shelved(generation)?.ok_or(ShelfError::Absent { generation })?;
    core.trust()?.may_activate(&target.manifest()?)?;
    slots::ensure(core, &target)?;
    core.corpusd.stage(&target)?;
    let trial = core.draw(Series::Activation)?;
    core.in_two_writes(|| {
        let record = core.recordd.append(&Core::entry(
            Event::ShadowStarted,
            format!("trial/{trial}"),
            &[("bundle", generation.0)],
            json!({ "trial": trial, "import": import, "scope": scope, "seconds": seconds }),
        ))?;
        let kind = Kind::Shadow;
        let new = NewTrial { trial, kind, import, generation, scope, seconds, record };
        Ok(core.state().begin_trial(&new, None)?)
    })?;
    point(core, trial)?;
    tracing::info!(trial, "a shadow began");
    shown(core, trial)
}

fn shown(core: &Core, trial: u64) -> Result<Answer, ActError> {
    let found = core.state().trial_numbered(trial)?;
    Ok(Answer::Trial(Box::new(found.ok_or(ActError::NoTrial)?)))
}

/// Says on the shelf what the trial under way is.
pub(crate) fn point(core: &Core, trial: u64) -> Result<(), ActError> {
    let found = core.state().trial_numbered(trial)?.ok_or(ActError::NoTrial)?;
    let Shown { kind, generation, scope, seconds, .. } = found;
    let text = serde_json::to_vec(&Trial { trial, kind, generation, scope, seconds });
    let text = text.expect("names, digests and numbers");
    Ok(core.shelf.set_trial(Some(&text)).inspect_err(|_error| core.wake())?)
}

/// Says on the shelf that no trial is under way. The file is all that gatewayd asks: where it cannot be
/// taken away, the worker does it.
pub(crate) fn unpoint(core: &Core) -> Result<(), ActError> {
    Ok(core.shelf.set_trial(None).inspect_err(|_error| core.wake())?)
}

/// Whether the shelf names this trial.
pub(crate) fn is_pointed(core: &Core, trial: u64) -> Result<bool, ActError> {
    Ok(pointed(core)?.is_some_and(|named| named == trial))
}

/// The trial that the shelf names. What cannot be read names none, and is written anew.
fn pointed(core: &Core) -> Result<Option<u64>, ActError> {
    let Some(text) = core.shelf.trial(FILE_BYTES_MAX)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&text).map_or(0, |trial: Trial| trial.trial)))
}

/// Ends the trial under way by an operator's word.
pub(crate) fn end_by_word(core: &Core) -> Result<Answer, ActError> {
    let _act = core.act();
    switch::settle(core)?;
    let trial = core.state().trial()?.ok_or(ActError::NoTrial)?;
    end(core, &trial, End::Asked)?;
    shown(core, trial.trial)
}

/// Ends the trial under way if it is of `generation`. The caller holds the right to act.
pub(crate) fn end_of(core: &Core, generation: GenerationId, why: End) -> Result<(), ActError> {
    let trial = core.state().trial()?;
    match trial.filter(|trial| trial.generation == generation) {
        Some(trial) => end(core, &trial, why),
        None => Ok(()),
    }
}

/// Ends a trial: a record with its report, the state, the shelf. The report of a shadow is part of
/// what is approved from then on.
pub(crate) fn end(core: &Core, trial: &Shown, why: End) -> Result<(), ActError> {
    if let Some(counted) = counted(core, trial.trial) {
        core.state().note_trial(trial.trial, trial.lasted_s, Some(&counted))?;
    }
    let found = core.state().trial_numbered(trial.trial)?;
    let trial = found.ok_or(ActError::NoTrial)?;
    let waits = core.state().import(trial.import)?.state == ImportState::AwaitingApproval;
    let evaluation =
        if trial.kind == Kind::Shadow && waits { books::package_with(core, &trial)? } else { None };
    let mut subject = vec![("bundle", trial.generation.0)];
    subject.extend(evaluation.iter().map(|evaluation| ("package", evaluation.package)));
    let entry = Core::entry(
        Event::TrialEnded,
        format!("trial/{}/end", trial.trial),
        &subject,
        json!({
            "trial": trial.trial,
            "kind": trial.kind,
            "import": trial.import,
            "ended": why,
            "lasted_s": trial.lasted_s,
            "report": trial.report,
        }),
    );
    core.make_room();
    core.in_two_writes(|| {
        let record = core.recordd.append(&entry)?;
        Ok(core.state().end_trial(&trial, why, record, evaluation.as_ref())?)
    })?;
    unpoint(core)?;
    tracing::info!(trial = trial.trial, "a trial ended");
    // Evaluations may wait for the slot.
    core.wake();
    Ok(())
}

/// Makes shelf and database agree after an interruption. The caller holds the right to act, and no
/// activation is under way.
pub(crate) fn settle(core: &Core) -> Result<(), ActError> {
    let Some(trial) = core.state().trial()? else {
        return if core.shelf.trial(FILE_BYTES_MAX)?.is_some() { unpoint(core) } else { Ok(()) };
    };
    if core.shelf.active()?.is_some_and(|active| active.id() == trial.generation) {
        return end(core, &trial, End::Promoted);
    }
    if trial.kind == Kind::Canary {
        let begun = core.state().outcome(trial.trial)?;
        if begun != Some(Outcome::Begun) {
            return end(core, &trial, End::NotBegun);
        }
    }
    if is_pointed(core, trial.trial)? { Ok(()) } else { point(core, trial.trial) }
}

/// What gatewayd counted; none while it has counted nothing of this trial.
fn counted(core: &Core, trial: u64) -> Option<Counted> {
    let bytes = read_limited(&core.config.paths.trial_counts(), FILE_BYTES_MAX).ok()?;
    let counted: Counted = serde_json::from_slice(&bytes).ok()?;
    (counted.trial == trial).then_some(counted)
}

/// What the worker remembers of a trial between two looks.
#[derive(Debug)]
pub(crate) struct Watched {
    trial: u64,
    since: Stopwatch,
    /// How long it had lasted before.
    before_s: u32,
    noted_s: u32,
    noted: Option<Counted>,
    away: Away,
}

/// Looks at the trial under way: notes what it came to, and ends it when it is time.
pub(crate) fn watch(core: &Core, memory: &mut Option<Watched>) -> Result<(), ActError> {
    let Some(trial) = core.state().trial()? else {
        *memory = None;
        return Ok(());
    };
    let fresh = || Watched {
        trial: trial.trial,
        since: Stopwatch::start(),
        before_s: trial.lasted_s,
        noted_s: trial.lasted_s,
        noted: None,
        away: Away::default(),
    };
    let watched = match memory {
        Some(watched) if watched.trial == trial.trial => watched,
        other => other.insert(fresh()),
    };
    let passed = u32::try_from(watched.since.elapsed().as_secs()).unwrap_or(u32::MAX);
    let counted = counted(core, trial.trial);
    // gatewayd's clock went on while there was no updater.
    let told_s = counted.as_ref().map_or(0, |counted| counted.lasted_s);
    let lasted_s = watched.before_s.saturating_add(passed).max(told_s);
    if counted != watched.noted || lasted_s.saturating_sub(watched.noted_s) >= NOTE_S {
        core.state().note_trial(trial.trial, lasted_s, counted.as_ref())?;
        (watched.noted, watched.noted_s) = (counted, lasted_s);
    }
    let Some(trial) = core.state().trial_numbered(trial.trial)? else { return Ok(()) };
    let away = watched.away.too_long(core, trial.generation);
    let Some(why) = over(core, &trial, lasted_s, away)? else { return Ok(()) };
    core.state().note_trial(trial.trial, lasted_s, None)?;
    let _act = core.act();
    switch::settle(core)?;
    let still = core.state().trial()?;
    match still.filter(|still| still.trial == trial.trial) {
        Some(still) => end(core, &still, why),
        None => Ok(()),
    }
}

/// Whether a trial is over, and why.
fn over(core: &Core, trial: &Shown, lasted_s: u32, away: bool) -> Result<Option<End>, ActError> {
    let failed = trial.report.candidate.failed;
    let stands = match core.state().import(trial.import)?.state {
        ImportState::AwaitingApproval => true,
        ImportState::Approved | ImportState::Activated => trial.kind == Kind::Canary,
        _ => false,
    };
    if !stands {
        return Ok(Some(End::Void));
    }
    let Some(shelved) = core.shelf.shelved(trial.generation)? else { return Ok(Some(End::Gone)) };
    Ok(if core.trust()?.is_revoked(&shelved.manifest()?) {
        Some(End::TakenBack)
    } else if failed > u64::from(core.config.update.trial_failures_max) {
        Some(End::Failures)
    } else if lasted_s >= trial.seconds {
        Some(End::Time)
    } else if away {
        Some(End::Engine)
    } else {
        None
    })
}
