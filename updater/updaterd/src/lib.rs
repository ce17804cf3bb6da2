//! The updater: from a verified bundle to the generation that is served, and back.
//!
//! It judges what intaked offers, adopts finished files, has candidates evaluated in the idle engine
//! slot, takes approvals, switches the active generation by one rename, and returns. Each step is a
//! state in a database and a record in the log, the record first: what cannot be recorded does not
//! happen. One act happens at a time; reading waits for none. It never opens a stick and never
//! listens on anything but its Unix socket.

mod adopt;
mod anchor;
mod approve;
mod arriving;
mod books;
mod catch_up;
mod consent;
mod core;
mod difference;
mod error;
mod evaluate;
mod exam;
mod filler;
mod inspect;
mod intake;
mod inventory;
mod look;
mod parked;
mod peers;
mod preflight;
mod provenance;
mod quarantine;
mod rebuild;
mod review;
mod scrub;
mod serve;
mod slots;
mod status;
mod succession;
mod sweep;
mod switch;
mod trial;
mod trusted;
mod turn;
mod unfinished;
mod verdict;
mod watch;
mod worker;

use std::{sync::mpsc, thread};

use cloister_daemon::{Daemon, Limits};

pub use error::UpdaterdError;

/// Operators and intaked; each connection is one conversation.
const CONNECTIONS_MAX: usize = 64;

/// Serves until the daemon is to stop. What an earlier run left unfinished is finished beside it.
///
/// # Errors
/// [`UpdaterdError`], when state, shelf or socket cannot be had, or serving fails for good.
pub fn run(daemon: &Daemon) -> Result<(), UpdaterdError> {
    let (wake, woken) = mpsc::sync_channel(1);
    let core = core::Core::new(daemon.config().clone(), daemon.stop().clone(), wake)?;
    let listener = daemon.listener().map_err(UpdaterdError::Listen)?;
    let core = &core;
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name(String::from("worker"));
        spawned
            .spawn_scoped(scope, move || worker::work(core, &woken))
            .map_err(UpdaterdError::Folder)?;
        let spawned = thread::Builder::new().name(String::from("watch"));
        spawned
            .spawn_scoped(scope, move || watch::keep_watching(core))
            .map_err(UpdaterdError::Folder)?;
        let spawned = thread::Builder::new().name(String::from("scrub"));
        spawned
            .spawn_scoped(scope, move || scrub::keep_reading(core))
            .map_err(UpdaterdError::Folder)?;
        daemon.ready();
        let limits = Limits { connections_max: CONNECTIONS_MAX };
        let served =
            daemon.serve(listener, limits, |connection| serve::converse(core, &connection));
        // The worker ends with the daemon, also when serving failed.
        daemon.stop().set();
        served.map_err(UpdaterdError::Serve)
    })
}
