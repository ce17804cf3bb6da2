//! What goes on without being asked: outcomes of interrupted activations, slots after a restart,
//! adoptions that were cut off, and evaluations.

use std::{collections::BTreeMap, sync::mpsc, time::Duration};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::ImportId;
use cloister_wire::supply::ImportState;

use crate::{
    adopt, books,
    core::Core,
    error::ActError,
    evaluate::{self, Left},
    slots, switch, unfinished,
};

/// How often an engine may break off over one candidate before the candidate is refused.
const STRIKES_MAX: u32 = 3;
/// First and longest pause while something does not answer.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest pause after an active release broke off.
const BESIDE_MAX: Duration = Duration::from_hours(1);
/// How often the daemon's wish to stop is noticed.
const TICK: Duration = Duration::from_millis(500);

/// What is remembered between rounds; a restart forgets it and begins anew.
#[derive(Default)]
struct Memory {
    restored: bool,
    strikes: BTreeMap<ImportId, u32>,
    beside: BTreeMap<ImportId, Beside>,
}

/// How often the active release broke off while it was measured beside a candidate, and since when it was not.
struct Beside {
    times: u32,
    since: Stopwatch,
}

impl Beside {
    /// Each time it lasts three times as long until the active release, which people use, is asked again.
    fn is_too_early(&self) -> bool {
        let pause = PAUSE_MIN.saturating_mul(3u32.saturating_pow(self.times));
        self.since.elapsed() < pause.min(BESIDE_MAX)
    }
}

/// Works until the daemon is to stop.
pub(crate) fn work(core: &Core, woken: &mpsc::Receiver<()>) {
    let mut memory = Memory::default();
    let mut pause = PAUSE_MIN;
    while !core.stop.is_set() {
        match round(core, &mut memory) {
            Ok(()) if memory.beside.is_empty() => pause = PAUSE_MIN,
            Ok(()) => {
                wait(core, woken, Some(PAUSE_MAX));
                continue;
            }
            Err(error) => {
                tracing::debug!(code = error.problem().code, "something does not answer yet");
                pause = (pause * 2).min(PAUSE_MAX);
                // What was this round's own word is no reason to hurry.
                while woken.try_recv().is_ok() {}
                wait(core, woken, Some(pause));
                continue;
            }
        }
        wait(core, woken, None);
    }
}

/// Waits for a word, for the pause to end, or for the daemon's end.
fn wait(core: &Core, woken: &mpsc::Receiver<()>, pause: Option<Duration>) {
    let since = Stopwatch::start();
    while !core.stop.is_set() && pause.is_none_or(|pause| since.elapsed() < pause) {
        let slice = pause.map_or(TICK, |pause| pause.min(TICK));
        if woken.recv_timeout(slice).is_ok() {
            return;
        }
        core.hold_room();
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
    memory.beside.retain(|import, _| waiting.iter().any(|held| held.import == *import));
    for import in waiting {
        held_up = held_up.and(evaluate(core, memory, import.import));
    }
    let _act = core.act();
    held_up.and(core.sweep_once())
}

fn evaluate(core: &Core, memory: &mut Memory, import: ImportId) -> Result<(), ActError> {
    if memory.beside.get(&import).is_some_and(Beside::is_too_early) {
        return Ok(());
    }
    match evaluate::evaluate(core, import)? {
        Left::Judged => {
            memory.strikes.remove(&import);
            memory.beside.remove(&import);
            Ok(())
        }
        Left::Beside(error) => {
            tracing::warn!(code = error.problem().code, "the active release broke off");
            let times = memory.beside.get(&import).map_or(0, |before| before.times + 1);
            memory.beside.insert(import, Beside { times, since: Stopwatch::start() });
            core.state().note_trouble(import, Some(&error.problem()))?;
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
