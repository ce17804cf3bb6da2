//! The only process that opens a medium: reads a volume's head, has updaterd judge it, and copies
//! by the plan that comes back into quarantine.
//!
//! It holds no key, parses no payload, unpacks no byte that was not hashed, opens no TCP socket, and
//! writes nowhere but in quarantine. It can be killed at any byte: the next import of the same
//! volume goes on from what the files in quarantine hash to.

mod error;
mod import;
mod look;
mod medium;
mod pace;
mod reader;
mod survey;
mod trust;
mod updaterd;

use std::sync::{Mutex, TryLockError};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_bundle::receipt::ContentIds;
use cloister_config::Config;
use cloister_daemon::{Connection, Daemon, FrameError, Limits, Stop};
use cloister_domain::Coded as _;
use cloister_quarantine::Parts;
use cloister_wire::intake::{Event, NEEDS_MAX, Request};

pub use error::{IntakeError, RunError};

/// One import, and people who look meanwhile.
const CONNECTIONS_MAX: usize = 16;

/// Serves until the daemon is to stop.
///
/// # Errors
/// [`RunError`] if the socket cannot be had or served.
pub fn run(daemon: &Daemon) -> Result<(), RunError> {
    let listener = daemon.listener().map_err(RunError::Listen)?;
    let intake =
        Intake { config: daemon.config(), stop: daemon.stop(), importing: Mutex::new(None) };
    daemon.ready();
    daemon
        .serve(listener, Limits { connections_max: CONNECTIONS_MAX }, |client| {
            if let Err(error) = intake.converse(&client) {
                tracing::debug!(code = error.code(), "a client went away");
            }
        })
        .map_err(RunError::Serve)
}

/// What every conversation needs.
#[derive(Debug)]
struct Intake<'a> {
    config: &'a Config,
    stop: &'a Stop,
    /// Held by the one import that runs: two would write the same files. It keeps what it knows of
    /// quarantine for the next volume.
    importing: Mutex<Option<Parts>>,
}

impl Intake<'_> {
    /// Answers requests until the client is done.
    fn converse(&self, client: &Connection) -> Result<(), FrameError> {
        while let Some(request) = client.read::<Request>()? {
            let last = match self.answer(&request, client) {
                Ok(last) => last,
                // A client that went away needs no answer.
                Err(IntakeError::Client(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(
                        code = error.code(),
                        error = &error as &dyn std::error::Error,
                        "an import or inspection ended with a problem"
                    );
                    Event::Problem(error.problem())
                }
            };
            client.write(&last)?;
        }
        Ok(())
    }

    /// Does what was asked; gives the last event.
    fn answer(&self, request: &Request, client: &Connection) -> Result<Event, IntakeError> {
        match request {
            Request::Inspect { path } => look::inspect(self.config, &medium::open(path)?, client),
            Request::Check { path, into } => {
                look::check(self.config, &medium::open(path)?, *into, client)
            }
            Request::Needs { import } => {
                let quarantine = self.config.paths.quarantine();
                let mut needs = cloister_quarantine::needs(&quarantine, &import.to_string());
                needs.truncate(NEEDS_MAX);
                let bytes = ContentIds::new(needs).encode();
                Ok(Event::Needs { base64: BASE64_STANDARD.encode(bytes) })
            }
            Request::Import { path, into } => {
                let parts = match self.importing.try_lock() {
                    Ok(guard) => guard,
                    Err(TryLockError::WouldBlock) => return Err(IntakeError::Importing),
                    Err(TryLockError::Poisoned(_)) => panic!("an import panicked"),
                };
                let (config, stop) = (self.config, self.stop);
                import::Turn { config, stop, client, parts }.import(&medium::open(path)?, *into)
            }
        }
    }
}
