//! The keeper of the one append-only log: takes typed entries over a Unix socket, signs them with
//! the host key, and answers when they are durable and under a signed checkpoint.
//!
//! It is the only writer of `record/` and the only holder of the host key. It decides nothing about
//! trust: who may approve is `cloister-verify`'s to say.

mod cosigned;
mod error;
mod files;
mod index;
mod journal;
mod log;
mod round;
mod succession;

use std::sync::{
    Mutex,
    mpsc::{self, Sender},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_daemon::{Connection, Daemon, FrameError, Limits};
use cloister_domain::Coded as _;
use cloister_wire::{
    Problem, Reply,
    record::{Answer, Request},
};

pub use error::RecorddError;

use files::Files;
use log::{Log, Snapshot};
use round::{Job, Wish};

/// Connections at a time: the other daemons with their threads, and a few operators.
const CONNECTIONS_MAX: usize = 128;

/// Keeps the log until told to stop.
///
/// # Errors
/// [`RecorddError`] if the stored log is damaged or another's, or if the socket cannot be had.
pub fn run(daemon: &Daemon) -> Result<(), RecorddError> {
    let log = Log::open(daemon.config(), daemon.peers_are_separate())?;
    let files = log.files().clone();
    let log = Mutex::new(log);
    let listener = daemon.listener().map_err(RecorddError::Listen)?;
    daemon.ready();
    let limits = Limits { connections_max: CONNECTIONS_MAX };
    let (jobs, waiting) = mpsc::channel();
    let log = &log;
    std::thread::scope(|scope| {
        // It ends with the last sender.
        scope.spawn(move || round::keep(log, &waiting));
        let desk = Desk { log, files, jobs };
        daemon
            .serve(listener, limits, |connection| {
                if let Err(error) = desk.converse(&connection) {
                    tracing::debug!(code = error.code(), "a conversation ended early");
                }
            })
            .map_err(RecorddError::Serve)
    })
}

/// Where every connection is served.
struct Desk<'a> {
    log: &'a Mutex<Log>,
    files: Files,
    jobs: Sender<Job>,
}

impl Desk<'_> {
    fn converse(&self, connection: &Connection) -> Result<(), FrameError> {
        loop {
            let request = match connection.read::<Request>() {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(error @ FrameError::Form { .. }) => {
                    connection.write(&Reply::<Answer>::Err(Problem::of(&error)))?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if request.grows_the_log()
                && let Err(problem) = connection.daemons_only()
            {
                tracing::warn!(code = problem.code, uid = connection.peer().uid, "refused");
                connection.write(&Reply::<Answer>::Err(problem))?;
                continue;
            }
            let reply = match request {
                Request::Export => {
                    self.export(connection, Log::snapshot)?;
                    continue;
                }
                Request::ExportWitnessed => {
                    self.export(connection, Log::witnessed_snapshot)?;
                    continue;
                }
                Request::Append(entry) => self.grow(Wish::Append(entry)),
                Request::Deposit { event, act, envelope } => {
                    self.grow(Wish::Deposit { event, act, envelope: envelope.into_bytes() })
                }
                Request::Succeed { envelopes } => self
                    .grow(Wish::Succeed(envelopes.into_iter().map(String::into_bytes).collect())),
                Request::Head => Ok(self.log().head()),
                Request::Read { from, count } => told(self.log().read(from, count)),
                Request::Cosigning { witness } => told(self.log().cosigning(witness.as_deref())),
                Request::Accept { checkpoint, signatures } => {
                    told(self.log().accept(&checkpoint, &signatures))
                }
            };
            if let Err(problem) = &reply {
                tracing::warn!(code = problem.code, "a request was refused");
            }
            connection.write(&reply)?;
        }
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().expect("a panic ends the process")
    }

    /// Waits for the round that takes the wish.
    fn grow(&self, wish: Wish) -> Reply<Answer> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.jobs.send(Job { wish, answer }).expect("rounds are kept while anyone can ask");
        answered.recv().expect("every job is answered")
    }

    /// Sends checkpoint and files. Partial files and the checkpoint are taken at one moment; full files
    /// never change, so that no append waits for a slow reader.
    fn export(
        &self,
        connection: &Connection,
        take: impl FnOnce(&Log) -> Result<Snapshot, RecorddError>,
    ) -> Result<(), FrameError> {
        let snapshot = take(&self.log());
        let snapshot = match snapshot {
            Ok(snapshot) => snapshot,
            Err(error) => return connection.write(&Reply::<Answer>::Err(Problem::of(&error))),
        };
        let send = |path: String, bytes: &[u8]| {
            let base64 = BASE64_STANDARD.encode(bytes);
            connection.write(&Reply::Ok(Answer::File { path, base64 }))
        };
        for (path, bytes) in snapshot.changing {
            send(path, &bytes)?;
        }
        for tile in snapshot.full {
            match self.files.read(&tile) {
                Ok(bytes) => send(tile.path(), &bytes)?,
                Err(error) => return connection.write(&Reply::<Answer>::Err(Problem::of(&error))),
            }
        }
        connection.write(&Reply::Ok(Answer::Done))
    }
}

fn told(answer: Result<Answer, RecorddError>) -> Reply<Answer> {
    answer.map_err(|error| Problem::of(&error))
}
