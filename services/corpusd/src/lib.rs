//! The keeper of the documents: takes in those of releases and the facility's own, finds passages,
//! opens citations and deletes, for the other daemons over one socket.
//!
//! It reads the shelf and writes its own folder alone. Passages and questions become vectors in the
//! engines; where none answers, words alone decide and the answer says so. A deletion is recorded
//! before it is done. No error and no log line holds a document's words or names.

mod answer;
mod core;
mod deletion;
mod engines;
mod error;
mod stage;

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use cloister_config::Role;
use cloister_corpus_store::FileStore;
use cloister_daemon::{Connection, Daemon, Limits};
use cloister_domain::Class;
use cloister_wire::{
    Problem, Reply,
    corpus::{Answer, Request},
};

pub use error::{CorpusError, RecordError, RunError};

use crate::core::Core;

/// Connections at a time: gateway, updater and operators have a few each.
const CONNECTIONS_MAX: usize = 128;

/// How often the thread that fills in vectors looks whether the daemon is to stop.
const BEAT: Duration = Duration::from_millis(500);

/// Beats after which a receipt that recordd did not take is offered again.
const CONFIRM_BEATS: u32 = 20;

/// Serves the corpus until the daemon is told to stop.
///
/// # Errors
/// [`RunError::Store`] if the store cannot be opened; [`RunError::Listen`], [`RunError::Serve`] and
/// [`RunError::Thread`] for the surroundings.
pub fn run(daemon: &Daemon) -> Result<(), RunError> {
    let paths = &daemon.config().paths;
    let store = FileStore::open(&paths.corpus()).map_err(RunError::Store)?;
    let listener = daemon.listener().map_err(RunError::Listen)?;
    let (hint, hints) = mpsc::sync_channel(1);
    let core = Core::new(Box::new(store), daemon.config(), hint);
    debug_assert_eq!(daemon.role(), Role::Corpusd);
    thread::scope(|scope| {
        let filler = thread::Builder::new().name("vectors".to_owned());
        let core = &core;
        filler
            .spawn_scoped(scope, move || fill_in(daemon, core, &hints))
            .map_err(RunError::Thread)?;
        daemon.ready();
        let limits = Limits { connections_max: CONNECTIONS_MAX };
        let served = daemon.serve(listener, limits, |connection| converse(core, &connection));
        // Also when serving failed: the other thread waits for this.
        daemon.stop().set();
        served.map_err(RunError::Serve)
    })
}

/// Does what could not be done at once: vectors that no engine was there for, receipts that could
/// not be recorded.
fn fill_in(daemon: &Daemon, core: &Core, hints: &Receiver<cloister_domain::GenerationId>) {
    deletion::confirm(core);
    let mut beats = 0u32;
    while !daemon.stop().is_set() {
        match hints.recv_timeout(BEAT) {
            Ok(generation) => stage::fill(core, generation, daemon.stop()),
            Err(RecvTimeoutError::Timeout) => {
                beats = beats.wrapping_add(1);
                if beats.is_multiple_of(CONFIRM_BEATS) && core.is_unconfirmed() {
                    deletion::confirm(core);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What an operator may not ask is refused.
fn asked(core: &Core, connection: &Connection, request: Request) -> Reply<Answer> {
    if request.is_a_daemons() {
        connection.daemons_only()?;
    }
    answer::answer(core, request)
}

fn converse(core: &Core, connection: &Connection) {
    loop {
        let reply = match connection.read::<Request>() {
            Ok(None) => return,
            Ok(Some(request)) => asked(core, connection, request),
            Err(cloister_daemon::FrameError::Form { position }) => Err(Problem::new(
                Class::Refused,
                "corpus.request.form",
                format!("the request is not of the documented form, at byte {position}"),
            )),
            Err(error) => {
                tracing::debug!(code = cloister_domain::Coded::code(&error), "a connection ended");
                return;
            }
        };
        if connection.write(&reply).is_err() {
            return;
        }
    }
}
