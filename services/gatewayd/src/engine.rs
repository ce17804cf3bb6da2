//! Asking the engine that holds the generation which answers a caller.
//!
//! The pointer `active` says which generation serves, and a canary which one serves some callers before
//! it; each engine refuses at once what is meant for another. During a switch the pointer may move
//! between reading it and asking, so both are tried again for a bounded time.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use cloister_daemon::{Connection, FrameError, clock::Stopwatch};
use cloister_domain::{Coded as _, GenerationId};
use cloister_wire::engine::{Event, Request, Status};

use crate::{http_problem::HttpProblem, shared::Shared, trial::Part};

/// How long an engine may be away (starting, switching) before the caller is told.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two rounds over the slots.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a state may take to be told.
const STATUS_LIMIT: Duration = Duration::from_secs(5);
/// An engine's words for "not I, or not now": another generation, or on its way out.
const ELSEWHERE: [&str; 3] = ["engine.generation.mismatch", "engine.draining", "engine.stopping"];
/// Engines that may vanish in the middle of one request before it is given up: once is a restart,
/// twice may be the request's own doing.
const CUTS_MAX: u32 = 1;

/// The generation that `active` names.
pub(crate) fn active(shared: &Shared) -> Option<GenerationId> {
    let target = fs::read_link(&shared.active).ok()?;
    target.file_name()?.to_str()?.parse().ok()
}

/// The hold that a caller has on the engine that works for it. When the caller goes away, or its
/// time is over, the engine's connection is closed, and the engine stops.
#[derive(Debug, Default)]
pub(crate) struct Hold(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    is_ended: bool,
    is_out_of_time: bool,
    cuts: u32,
    connection: Option<Arc<Connection>>,
}

impl Hold {
    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Ends the work that is under way and all that would follow.
    pub(crate) fn end(&self) {
        let mut held = self.held();
        held.is_ended = true;
        if let Some(connection) = held.connection.take() {
            connection.shut();
        }
    }

    /// As [`Hold::end`], because the time for the answer is over.
    pub(crate) fn end_in_time(&self) {
        let mut held = self.held();
        held.is_out_of_time = !held.is_ended;
        drop(held);
        self.end();
    }

    /// Whether it was the time that ended it, while the caller still waited.
    pub(crate) fn is_out_of_time(&self) -> bool {
        self.held().is_out_of_time
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.held().is_ended
    }

    /// Takes hold of a connection; false if nobody waits any more.
    fn take(&self, connection: &Arc<Connection>) -> bool {
        let mut held = self.held();
        held.connection = Some(Arc::clone(connection));
        !held.is_ended
    }

    /// Takes back that an engine vanished since there were `cuts`; whether one did.
    pub(crate) fn forgive(&self, cuts: u32) -> bool {
        let mut held = self.held();
        std::mem::replace(&mut held.cuts, cuts) > cuts
    }

    fn cuts(&self) -> u32 {
        self.held().cuts
    }

    /// Notes that an engine vanished; whether another may be asked.
    fn may_go_on_after_cut(&self) -> bool {
        let mut held = self.held();
        held.cuts += 1;
        held.cuts <= CUTS_MAX
    }
}

/// Ends its hold when it is dropped, as the future of a caller that went away is.
#[derive(Debug)]
pub(crate) struct EndsWithCaller(pub(crate) Arc<Hold>);

impl Drop for EndsWithCaller {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A conversation with an engine whose first event was heard.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) connection: Arc<Connection>,
    pub(crate) first: Event,
}

/// The generations that may answer a caller, the first that can before the others.
pub(crate) fn serving(shared: &Shared, part: Option<&Part>) -> Vec<GenerationId> {
    part.and_then(Part::canary).into_iter().chain(active(shared)).collect()
}

/// Runs `attempt` with a generation that may answer the caller until an engine takes it, for a bounded
/// time.
///
/// `attempt` is given the generation and makes the whole request for it, so that evidence and
/// answer come from one generation. It must not be called on the event loop. What a canary cannot
/// answer, the active generation does.
pub(crate) fn with_serving<T>(
    shared: &Shared,
    hold: &Hold,
    part: Option<&Part>,
    mut attempt: impl FnMut(GenerationId) -> Result<Option<T>, HttpProblem>,
) -> Result<T, HttpProblem> {
    let begun = Stopwatch::start();
    while !hold.is_ended() {
        let canary = part.and_then(|part| Some((part, part.canary()?)));
        if let Some((part, generation)) = canary {
            let cuts = hold.cuts();
            let attempted = attempt(generation);
            let vanished = hold.forgive(cuts);
            match attempted {
                Ok(Some(done)) => return Ok(done),
                Ok(None) if !vanished => {}
                Err(problem) if !problem.is_fault() => return Err(problem),
                Ok(None) | Err(_) => part.count_failure(&shared.trials, generation),
            }
        }
        if let Some(generation) = active(shared)
            && let Some(done) = attempt(generation)?
        {
            return Ok(done);
        }
        if begun.elapsed() > PATIENCE {
            return Err(HttpProblem::loading());
        }
        std::thread::park_timeout(PAUSE);
    }
    Err(HttpProblem::out_of_time())
}

/// Begins `request` with whichever engine holds its generation; `None` if neither does.
///
/// A refusal is the answer of the engine that holds it.
pub(crate) fn begin(
    shared: &Shared,
    hold: &Hold,
    request: &Request,
) -> Result<Option<Begun>, HttpProblem> {
    for socket in shared.engines() {
        if let Some(begun) = try_slot(socket, hold, shared.answer_limit, request)? {
            return Ok(Some(begun));
        }
    }
    Ok(None)
}

fn try_slot(
    socket: &Path,
    hold: &Hold,
    limit: Duration,
    request: &Request,
) -> Result<Option<Begun>, HttpProblem> {
    let Ok(connection) = Connection::connect(socket) else { return Ok(None) };
    connection.set_timeout(Some(limit));
    let connection = Arc::new(connection);
    if !hold.take(&connection) {
        return Err(HttpProblem::out_of_time());
    }
    match connection.ask::<_, Event>(request) {
        Ok(Event::Problem(problem)) if ELSEWHERE.contains(&problem.code.as_str()) => Ok(None),
        Ok(Event::Problem(problem)) | Err(FrameError::TurnedAway(problem)) => {
            Err(HttpProblem::of(&problem))
        }
        Ok(first) => Ok(Some(Begun { connection, first })),
        Err(_ended_by_us) if hold.is_ended() => Err(HttpProblem::out_of_time()),
        Err(FrameError::TooLong { .. }) => Err(HttpProblem::too_large(frame_bytes_max())),
        Err(error) => {
            tracing::warn!(code = error.code(), "an engine vanished while it was asked");
            if hold.may_go_on_after_cut() { Ok(None) } else { Err(HttpProblem::loading()) }
        }
    }
}

/// The largest message to an engine, as a size.
fn frame_bytes_max() -> usize {
    usize::try_from(cloister_wire::FRAME_BYTES_MAX).expect("32 MiB fit")
}

/// The state of the engine that holds `generation`.
pub(crate) fn status(shared: &Shared, generation: GenerationId) -> Option<Status> {
    shared.engines().iter().find_map(|socket| {
        let connection = Connection::connect(socket).ok()?;
        connection.set_timeout(Some(STATUS_LIMIT));
        match connection.ask::<_, Event>(&Request::Status).ok()? {
            Event::Status(status) if status.generation == Some(generation) => Some(status),
            _ => None,
        }
    })
}
