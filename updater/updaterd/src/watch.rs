//! The watch over what began lately: an activation in its probation, and a trial. It has a thread of its
//! own, since an evaluation takes hours and a release that fails does not wait for it.

use std::{thread, time::Duration};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::{GenerationId, Slot};

use crate::{core::Core, error::ActError, slots, switch, trial};

/// How often is looked.
const TICK: Duration = Duration::from_millis(500);

/// An activation, and how it has gone since.
#[derive(Debug)]
struct Watched {
    generation: GenerationId,
    since: Stopwatch,
    away: Away,
    /// Its probation is over, and older releases may be forbidden by it.
    stood: bool,
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

/// Watches until the daemon is to stop.
pub(crate) fn keep_watching(core: &Core) {
    let (mut fresh, mut tried) = (None, None);
    while !core.stop.is_set() {
        if let Err(error) = watch(core, &mut fresh) {
            tracing::warn!(code = error.problem().code, "a fresh activation could not be watched");
        }
        if let Err(error) = trial::watch(core, &mut tried) {
            tracing::warn!(code = error.problem().code, "a trial could not be watched");
        }
        thread::park_timeout(TICK);
    }
}

/// Looks at what was activated in the last `probation_s` seconds; when its engine is gone for long,
/// the generation before takes over. When it stood that time, its floor is raised.
fn watch(core: &Core, memory: &mut Option<Watched>) -> Result<(), ActError> {
    let probation = Duration::from_secs(core.config.update.probation_s.into());
    let Some(active) = core.shelf.active()?.map(|active| active.id()) else { return Ok(()) };
    let watched = match memory {
        Some(watched) if watched.generation == active => watched,
        other => other.insert(Watched {
            generation: active,
            since: Stopwatch::start(),
            away: Away::default(),
            stood: false,
        }),
    };
    if watched.since.elapsed() >= probation {
        if !watched.stood {
            switch::raise_floor(core)?;
            watched.stood = true;
        }
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
