//! The watch over what began lately: an activation in its probation, and a trial. It has a thread of its
//! own, since an evaluation takes hours and a release that fails does not wait for it.

use std::{thread, time::Duration};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::GenerationId;

use crate::{core::Core, error::ActError, slots, switch, trial};

/// How often is looked.
const TICK: Duration = Duration::from_millis(500);

/// An activation, and how it has gone since.
#[derive(Debug)]
struct Watched {
    generation: GenerationId,
    since: Stopwatch,
    /// Since it gave a token.
    answered: Stopwatch,
    away: Away,
    /// Its probation is over, and older releases may be forbidden by it.
    stood: bool,
}

/// How long nothing has answered for a release.
#[derive(Debug, Default)]
pub(crate) struct Away(Option<Stopwatch>);

impl Away {
    /// Notes whether an engine answers now that it holds the release; whether none has for too long.
    pub(crate) fn too_long(&mut self, core: &Core, generation: GenerationId) -> bool {
        let asked = Stopwatch::start();
        self.note(core, asked, slots::is_held(core, generation))
    }

    /// Notes what came of a question that was asked at `asked`: silence counts from there.
    fn note(&mut self, core: &Core, asked: Stopwatch, answers: bool) -> bool {
        if answers {
            self.0 = None;
            return false;
        }
        let limit = Duration::from_secs(core.config.update.engine_away_s.into());
        self.0.get_or_insert(asked).elapsed() >= limit
    }
}

impl Watched {
    /// Notes whether its engine answers, and now and then whether it still gives a token: an engine that
    /// hangs says as before what it holds. Whether none has for too long.
    fn is_away_too_long(&mut self, core: &Core) -> bool {
        let asked = Stopwatch::start();
        let now_and_then = Duration::from_secs(core.config.update.engine_away_s.into());
        let is_due = self.answered.elapsed() >= now_and_then || self.away.0.is_some();
        let answers = match slots::holder(core, self.generation) {
            None => false,
            Some(_) if !is_due => true,
            Some(slot) => match switch::probe(core, slot, self.generation) {
                Ok(()) => {
                    self.answered = Stopwatch::start();
                    true
                }
                Err(error) => {
                    tracing::warn!(code = error.problem().code, "no token from what is active");
                    false
                }
            },
        };
        self.away.note(core, asked, answers)
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
            answered: Stopwatch::start(),
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
    if !watched.is_away_too_long(core) || core.stop.is_set() {
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
