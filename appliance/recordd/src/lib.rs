//! The keeper of the one append-only log: takes typed entries over a Unix socket, signs them with
//! the host key, and answers when they are durable and under a signed checkpoint.
//!
//! It is the only writer of `record/` and the only holder of the host key. It decides nothing about
//! trust: who may approve is `cloister-verify`'s to say.

mod error;
mod files;
mod log;

use std::sync::Mutex;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_daemon::{Connection, Daemon, FrameError, Limits};
use cloister_domain::Coded;
use cloister_wire::{
    Problem, Reply,
    record::{Answer, Request},
};

pub use error::RecorddError;

use files::Files;
use log::Log;

/// Connections at a time: the other daemons and a few operators.
const CONNECTIONS_MAX: usize = 64;

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
    daemon
        .serve(listener, limits, |connection| {
            if let Err(error) = converse(&log, &files, &connection) {
                tracing::debug!(code = error.code(), "a conversation ended early");
            }
        })
        .map_err(RecorddError::Serve)
}

fn converse(log: &Mutex<Log>, files: &Files, connection: &Connection) -> Result<(), FrameError> {
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
        if matches!(request, Request::Export) {
            export(log, files, connection)?;
            continue;
        }
        let reply = answer(log, request);
        if let Err(error) = &reply {
            tracing::warn!(code = error.code(), "a request was refused");
        }
        connection.write(&reply.map_err(|error| Problem::of(&error)))?;
    }
}

fn answer(log: &Mutex<Log>, request: Request) -> Result<Answer, RecorddError> {
    let mut log = log.lock().expect("a panic ends the process");
    match request {
        Request::Append(entry) => log.append(&entry),
        Request::Deposit { event, act, envelope } => log.deposit(event, &act, envelope.as_bytes()),
        Request::Head => Ok(log.head()),
        Request::Read { from, count } => log.read(from, count),
        Request::Export => unreachable!("an export is streamed"),
    }
}

/// Sends checkpoint and files. Partial files and the checkpoint are taken at one moment; full files
/// never change, so that no append waits for a slow reader.
fn export(log: &Mutex<Log>, files: &Files, connection: &Connection) -> Result<(), FrameError> {
    let snapshot = log.lock().expect("a panic ends the process").snapshot();
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
        match files.read(&tile) {
            Ok(bytes) => send(tile.path(), &bytes)?,
            Err(error) => return connection.write(&Reply::<Answer>::Err(Problem::of(&error))),
        }
    }
    connection.write(&Reply::Ok(Answer::Done))
}
