//! Asking the engine that holds the active generation.
//!
//! The pointer `active` says which generation serves; each engine refuses at once what is meant for
//! another. During a switch the pointer may move between reading it and asking, so both are tried
//! again for a bounded time.

use std::{fs, path::Path, time::Duration};

use cloister_daemon::{Connection, clock::Stopwatch};
use cloister_domain::GenerationId;
use cloister_wire::engine::{Event, Request, Status};

use crate::{
    http_problem::HttpProblem,
    shared::{ANSWER_LIMIT, Shared},
};

/// How long an engine may be away (starting, switching) before the caller is told.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two rounds over the slots.
const PAUSE: Duration = Duration::from_millis(50);
/// The engine's word for "I hold another generation".
const MISMATCH: &str = "engine.generation.mismatch";

/// The generation that `active` names.
pub(crate) fn active(shared: &Shared) -> Option<GenerationId> {
    let target = fs::read_link(&shared.active).ok()?;
    target.file_name()?.to_str()?.parse().ok()
}

/// A conversation with an engine whose first event was heard.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) connection: Connection,
    pub(crate) first: Event,
}

/// What one round over the slots came to.
enum Round {
    Begun(Box<Begun>),
    Nobody,
}

/// Runs `attempt` with the active generation until an engine takes it, for a bounded time.
///
/// `attempt` is given the generation and makes the whole request for it, so that evidence and
/// answer come from one generation. It must not be called on the event loop.
pub(crate) fn with_active<T>(
    shared: &Shared,
    mut attempt: impl FnMut(GenerationId) -> Result<Option<T>, HttpProblem>,
) -> Result<T, HttpProblem> {
    let begun = Stopwatch::start();
    loop {
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
}

/// Begins `request` with whichever engine holds its generation; `None` if neither does.
///
/// A refusal is the answer of the engine that holds it.
pub(crate) fn begin(shared: &Shared, request: &Request) -> Result<Option<Begun>, HttpProblem> {
    for socket in shared.engines() {
        if let Round::Begun(begun) = try_slot(socket, request) {
            if let Event::Problem(problem) = &begun.first {
                return Err(HttpProblem::of(problem));
            }
            return Ok(Some(*begun));
        }
    }
    Ok(None)
}

fn try_slot(socket: &Path, request: &Request) -> Round {
    let Ok(connection) = Connection::connect(socket) else { return Round::Nobody };
    connection.set_timeout(Some(ANSWER_LIMIT));
    match connection.ask::<_, Event>(request) {
        Ok(Event::Problem(problem)) if problem.code == MISMATCH => Round::Nobody,
        Ok(first) => Round::Begun(Box::new(Begun { connection, first })),
        // The engine died or is not there: the other one, or the next round, may do.
        Err(_gone) => Round::Nobody,
    }
}

/// The state of the engine that holds `generation`.
pub(crate) fn status(shared: &Shared, generation: GenerationId) -> Option<Status> {
    shared.engines().iter().find_map(|socket| {
        let connection = Connection::connect(socket).ok()?;
        connection.set_timeout(Some(Duration::from_secs(5)));
        match connection.ask::<_, Event>(&Request::Status).ok()? {
            Event::Status(status) if status.generation == Some(generation) => Some(status),
            _ => None,
        }
    })
}
