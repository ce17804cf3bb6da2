//! The watch over what began lately: an activation in its probation, and a trial. It has a thread of its
//! own, since an evaluation takes hours and a release that fails does not wait for it.

use std::{sync::atomic::Ordering, thread, time::Duration};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::GenerationId;
use cloister_state::{Activation, Kind};

use crate::{core::Core, error::ActError, slots, switch, trial};

/// How often is looked.
const TICK: Duration = Duration::from_millis(500);

/// After so many falls that changed nothing the time to the next one grows no more: six hours by default. Each
/// leaves records, and approvals expire by their number.
const FALLS_MAX: u32 = 10;

/// An activation, and how it has gone since.
#[derive(Debug)]
struct Watched {
    activation: u64,
    generation: GenerationId,
    since: Stopwatch,
    /// Since it gave a token.
    answered: Stopwatch,
    away: Away,
    /// How often something else was to take over since it answered last.
    falls: u32,
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
        self.note(core, asked, slots::is_held(core, generation), 0)
    }

    /// Notes what came of a question that was asked at `asked`: silence counts from there, and may last twice as
    /// long after each of `falls`.
    fn note(&mut self, core: &Core, asked: Stopwatch, answers: bool, falls: u32) -> bool {
        if answers {
            self.0 = None;
            return false;
        }
        let limit = Duration::from_secs(core.config.update.engine_away_s.into());
        self.0.get_or_insert(asked).elapsed() >= limit * (1 << falls.min(FALLS_MAX))
    }

    /// Whether nothing answered when it was looked last.
    const fn is_begun(&self) -> bool {
        self.0.is_some()
    }
}

impl Watched {
    fn new(activation: u64, generation: GenerationId) -> Self {
        let (since, answered) = (Stopwatch::start(), Stopwatch::start());
        let away = Away::default();
        Self { activation, generation, since, answered, away, falls: 0, stood: false }
    }

    /// Notes whether its engine answers, and now and then, and at the end, whether it still gives a token: an
    /// engine that hangs says as before what it holds. Whether none has for too long.
    fn is_silent_for_long(&mut self, core: &Core, is_over: bool) -> bool {
        let asked = Stopwatch::start();
        let now_and_then = Duration::from_secs(core.config.update.engine_away_s.into());
        let is_due = is_over || self.away.is_begun() || self.answered.elapsed() >= now_and_then;
        let answers = match slots::holder(core, self.generation) {
            None => false,
            Some(_) if !is_due => true,
            Some(slot) => match switch::probe(core, slot, self.generation) {
                Ok(()) => {
                    self.answered = Stopwatch::start();
                    self.falls = 0;
                    true
                }
                Err(error) => {
                    tracing::warn!(code = error.problem().code, "no token from what is active");
                    false
                }
            },
        };
        self.away.note(core, asked, answers, self.falls)
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

/// Looks at what was activated last until it stood its probation: `probation_s` seconds, at whose end its
/// engine answers. Then its floor is raised. When its engine is gone for long before, the generation that
/// it took the place of takes over; what somebody returned to is not left again without anybody's word.
fn watch(core: &Core, memory: &mut Option<Watched>) -> Result<(), ActError> {
    let Some(active) = core.shelf.active()?.map(|active| active.id()) else { return Ok(()) };
    // One that is under way is probed by whoever goes on with it.
    if core.state().under_way()?.is_some() {
        return Ok(());
    }
    let last = core.state().last_promotion(active)?;
    let Some(Activation { activation, kind, stood, .. }) = last else { return Ok(()) };
    let watched = match memory {
        Some(watched) if watched.activation == activation => watched,
        other => other.insert(Watched::new(activation, active)),
    };
    if watched.stood {
        return Ok(());
    }
    // One that stood before the last start is not put on probation again: engines may start slowly.
    let seconds = if stood { 0 } else { core.config.update.probation_s };
    let is_over = watched.since.elapsed() >= Duration::from_secs(seconds.into());
    // An engine takes one question after the other; who examines it finds out what it answers.
    if core.examined.load(Ordering::SeqCst) {
        return Ok(());
    }
    let silent_for_long = seconds > 0 && watched.is_silent_for_long(core, is_over);
    if core.stop.is_set() {
        return Ok(());
    }
    if is_over && !watched.away.is_begun() {
        switch::stand(core, activation)?;
        watched.stood = true;
    }
    if silent_for_long && kind == Kind::Activate {
        watched.away = Away::default();
        watched.falls += 1;
        switch::fall(core, activation)?;
    }
    Ok(())
}
