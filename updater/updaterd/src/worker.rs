//! What goes on without being asked: outcomes of interrupted activations, slots after a restart,
//! adoptions that were cut off, evaluations, and the watch over a fresh activation.

use std::{collections::BTreeMap, sync::mpsc, time::Duration};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::{GenerationId, ImportId, Slot};
use cloister_wire::supply::ImportState;

use crate::{
    adopt, books,
    core::Core,
    error::ActError,
    evaluate::{self, Left},
    slots, switch, trial, unfinished,
};

/// How often an engine may break off over one candidate before the candidate is refused.
const STRIKES_MAX: u32 = 3;
/// First and longest pause while something does not answer.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How often a fresh activation is looked at, and the daemon's wish to stop noticed.
const TICK: Duration = Duration::from_millis(500);

/// What is remembered between rounds; a restart forgets it and begins anew.
#[derive(Default)]
struct Memory {
    restored: bool,
    strikes: BTreeMap<ImportId, u32>,
    watched: Option<Watched>,
    trial: Option<trial::Watched>,
}

/// A fresh activation.
struct Watched {
    generation: GenerationId,
    since: Stopwatch,
    away: Away,
}

/// How long nothing has answered for a release.
#[derive(Debug, Default)]
pub(crate) struct Away(Option<Stopwatch>);

impl Away {
    /// Notes whether an engine answers now; whether none has for too long.
    pub(crate) fn too_long(&mut self, core: &Core, generation: GenerationId) -> bool {
        if Slot::ALL.into_iter().any(|slot| slots::holds(core, slot, generation)) {
            self.0 = None;
            return false;
        }
        let limit = Duration::from_secs(core.config.update.engine_away_s.into());
        self.0.get_or_insert_with(Stopwatch::start).elapsed() >= limit
    }
}

/// Works until the daemon is to stop.
pub(crate) fn work(core: &Core, woken: &mpsc::Receiver<()>) {
    let mut memory = Memory::default();
    let mut pause = PAUSE_MIN;
    while !core.stop.is_set() {
        match round(core, &mut memory) {
            Ok(()) => pause = PAUSE_MIN,
            Err(error) => {
                tracing::debug!(code = error.problem().code, "something does not answer yet");
                pause = (pause * 2).min(PAUSE_MAX);
                wait(core, woken, &mut memory, Some(pause));
                continue;
            }
        }
        wait(core, woken, &mut memory, None);
    }
}

/// Waits for a word, for the pause to end, or for the daemon's end; meanwhile watches over a fresh
/// activation.
fn wait(core: &Core, woken: &mpsc::Receiver<()>, memory: &mut Memory, pause: Option<Duration>) {
    let since = Stopwatch::start();
    while !core.stop.is_set() && pause.is_none_or(|pause| since.elapsed() < pause) {
        let slice = pause.map_or(TICK, |pause| pause.min(TICK));
        if woken.recv_timeout(slice).is_ok() {
            return;
        }
        core.hold_room();
        if let Err(error) = watch(core, memory) {
            tracing::warn!(code = error.problem().code, "a fresh activation could not be watched");
        }
        if let Err(error) = trial::watch(core, &mut memory.trial) {
            tracing::warn!(code = error.problem().code, "a trial could not be watched");
        }
    }
}

fn round(core: &Core, memory: &mut Memory) -> Result<(), ActError> {
    core.hold_room();
    {
        let _act = core.act();
        switch::settle(core)?;
        if !memory.restored {
            slots::restore(core)?;
        }
        books::record_policy(core)?;
    }
    if !memory.restored {
        memory.restored = true;
        core.clear_leftovers();
    }
    // What holds one release up does not hold up the others.
    let mut held_up = unfinished::finish(core);
    let received = core.state().imports_in(ImportState::Received)?;
    for import in received {
        match adopt::adopt_if_free(core, import.import) {
            Err(error) if crate::core::is_refusal(&error) => {
                tracing::info!(import = import.import.0, "refused");
            }
            other => held_up = held_up.and(other),
        }
    }
    let waiting = core.state().imports_in(ImportState::Evaluating)?;
    for import in waiting {
        held_up = held_up.and(evaluate(core, memory, import.import));
    }
    let _act = core.act();
    core.sweep();
    held_up
}

fn evaluate(core: &Core, memory: &mut Memory, import: ImportId) -> Result<(), ActError> {
    match evaluate::evaluate(core, import)? {
        Left::Judged => {
            memory.strikes.remove(&import);
            Ok(())
        }
        Left::Displaced => {
            core.wake();
            Ok(())
        }
        Left::Waiting(error) => {
            core.state().note_trouble(import, Some(&error.problem()))?;
            Err(error)
        }
        Left::Struck(error) => {
            let strikes = memory.strikes.entry(import).or_default();
            *strikes += 1;
            tracing::warn!(import = import.0, strikes = *strikes, "an evaluation broke off");
            if *strikes >= STRIKES_MAX {
                memory.strikes.remove(&import);
                return evaluate::strike_out(core, import);
            }
            core.state().note_trouble(import, Some(&error.problem()))?;
            Err(error)
        }
    }
}

/// Looks at what was activated in the last `probation_s` seconds; when its engine is gone for long,
/// the generation before takes over.
fn watch(core: &Core, memory: &mut Memory) -> Result<(), ActError> {
    let probation = Duration::from_secs(core.config.update.probation_s.into());
    let Some(active) = core.shelf.active()?.map(|active| active.id()) else { return Ok(()) };
    let watched = match &mut memory.watched {
        Some(watched) if watched.generation == active => watched,
        other => other.insert(Watched {
            generation: active,
            since: Stopwatch::start(),
            away: Away::default(),
        }),
    };
    if watched.since.elapsed() >= probation {
        return Ok(());
    }
    if !watched.away.too_long(core, active) {
        return Ok(());
    }
    watched.away = Away::default();
    let _act = core.act();
    switch::settle(core)?;
    let still = core.shelf.active()?.is_some_and(|now| now.id() == active);
    if still && slots::previous(core)?.is_some() {
        tracing::error!("the active generation does not answer; returning to the one before");
        switch::roll_back(core, None, "probation", Stopwatch::start())?;
    }
    Ok(())
}
