//! What every daemon of the appliance needs from the machine it runs on: arguments and
//! configuration, the redacting log, signals and orderly stop, readiness and watchdog, inherited or
//! bound sockets, framed connections with a checked peer, files written whole, and the clocks.
//!
//! A daemon's `main` is
//!
//! ```no_run
//! # use cloister_config::Role;
//! # use cloister_daemon::{Daemon, Limits, ServeError};
//! fn main() -> std::process::ExitCode {
//!     cloister_daemon::program(Role::Recordd, |daemon| {
//!         let listener = daemon.listener().expect("a socket");
//!         daemon.ready();
//!         daemon.serve(listener, Limits { connections_max: 64 }, |connection| {
//!             while let Ok(Some(request)) = connection.read::<String>() {
//!                 if connection.write(&request).is_err() {
//!                     return;
//!                 }
//!             }
//!         })
//!     })
//! }
//! ```

mod arguments;
mod births;
#[cfg(test)]
mod bpf;
mod cage;
pub mod caged;
mod cell;
pub mod clock;
mod connection;
pub mod credentials;
mod error;
pub mod files;
mod idle;
mod inherited;
mod listen;
mod log;
mod notify;
mod passing;
mod pen;
mod process;
pub mod reserve;
mod serve;
mod stop;
#[cfg(test)]
mod testing;

use std::{error::Error, io::Write as _, path::Path, process::ExitCode, sync::Mutex};

use cloister_config::{Config, Role};
use cloister_domain::{Coded, Slot};

pub use connection::{Connection, FrameError, Peer};
pub use process::forget_peak_memory;

pub use idle::at_idle_weight;

pub use error::{ListenError, ServeError, StartError};
pub use serve::Limits;
pub use stop::Stop;

use arguments::Arguments;

/// Largest configuration file, in bytes; the reference page itself is a tenth of it.
const CONFIG_BYTES_MAX: u64 = 256 << 10;

/// The whole of a daemon's `main`: starts as `role`, runs, and says why it ended.
///
/// What went wrong before there is a log goes to standard error.
pub fn program<E: Coded + Error + 'static>(
    role: Role,
    run: impl FnOnce(&Daemon) -> Result<(), E>,
) -> ExitCode {
    let daemon = match Daemon::start(role) {
        Ok(daemon) => daemon,
        Err(error) => {
            // Nobody is left to be told when standard error is gone too.
            writeln!(std::io::stderr(), "cloister-{}: {error} [{}]", role.name(), error.code())
                .unwrap_or_default();
            return ExitCode::FAILURE;
        }
    };
    match run(&daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = error.code(), error = &error as &dyn Error, "ended");
            ExitCode::FAILURE
        }
    }
}

/// A running daemon: its configuration and its ties to whatever started it.
#[derive(Debug)]
pub struct Daemon {
    role: Role,
    slot: Option<Slot>,
    config: Config,
    /// Users that may connect and ask anything.
    peers: Vec<u32>,
    /// Further users, who may not ask what only daemons may.
    operators: Vec<u32>,
    /// Descriptors from the service manager that nobody has asked for yet.
    inherited: Mutex<Vec<inherited::Inherited>>,
    /// Locks beside the sockets that were bound here, held while the daemon lives.
    locks: Mutex<Vec<listen::SocketLock>>,
    stop: Stop,
    pulse: notify::Pulse,
}

impl Daemon {
    /// Starts as `role`: takes `--config PATH` (and `--slot a|b` for an engine) from the command
    /// line, reads the configuration, turns core dumps off, sends the log through the redacting
    /// layer to the journal or to standard error, gives an import idle weight, shuts those daemons in
    /// that read what strangers wrote, and catches SIGTERM and SIGINT.
    ///
    /// From here on a panic logs its place, never its text, and ends the process. Call it first in
    /// `main`, before any thread is started, and once.
    ///
    /// # Errors
    /// [`StartError`]; nothing was bound or written.
    pub fn start(role: Role) -> Result<Self, StartError> {
        let arguments = Arguments::parse(role, std::env::args_os().skip(1))?;
        let config = read_config(&arguments)?;
        let inherited = inherited::adopt_once()?;
        log::install(config.log.level)?;
        process::no_core_dumps()?;
        process::panics_name_the_place_only();
        if role == Role::Intaked {
            let idle = idle::enter().is_ok();
            tracing::info!(idle, "weight");
        }
        if let Some(cage) = cage::Cage::of(role, &config) {
            let landlock = cage.enter()?;
            tracing::info!(landlock, "shut in");
        }
        let daemon = Self::assemble(role, arguments.slot, config, inherited)?;
        daemon.stop.on_signals()?;
        tracing::info!(role = role.name(), "started");
        Ok(daemon)
    }

    /// A daemon inside a process that runs several, or inside a test: neither log, signals, panic
    /// hook nor inherited descriptors are touched. [`Daemon::stop`] ends it.
    ///
    /// # Errors
    /// [`StartError::User`] for a peer that is not a user of this machine,
    /// [`StartError::System`] if no pipe can be made.
    pub fn embedded(role: Role, slot: Option<Slot>, config: Config) -> Result<Self, StartError> {
        Self::assemble(role, slot, config, Vec::new())
    }

    fn assemble(
        role: Role,
        slot: Option<Slot>,
        config: Config,
        inherited: Vec<inherited::Inherited>,
    ) -> Result<Self, StartError> {
        let peers = serve::users(config.peers.of(role))?;
        let operators = serve::users(config.operators.of(role))?;
        Ok(Self {
            role,
            slot,
            config,
            peers,
            operators,
            inherited: Mutex::new(inherited),
            locks: Mutex::new(Vec::new()),
            stop: Stop::new()?,
            pulse: notify::Pulse::new(),
        })
    }

    /// Which daemon this is.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The engine's slot; absent for all others.
    #[must_use]
    pub const fn slot(&self) -> Option<Slot> {
        self.slot
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Tells whether, and waits until, the daemon is to stop; can be handed to threads.
    #[must_use]
    pub const fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Whether the configuration lets any user but the daemon's own, and root, connect.
    ///
    /// Without such a list all daemons run as one user, which records say (`peers=shared`).
    #[must_use]
    pub fn peers_are_separate(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Tells the service manager that the daemon serves, and keeps its watchdog content from here on.
    ///
    /// Does nothing without `NOTIFY_SOCKET`.
    pub fn ready(&self) {
        notify::ready(&self.stop, &self.pulse);
    }
}

fn read_config(arguments: &Arguments) -> Result<Config, StartError> {
    const DEFAULT: &str = "/etc/cloister/cloister.toml";
    let bytes = match &arguments.config {
        Some(path) => files::read_limited(path, CONFIG_BYTES_MAX),
        None => match files::read_limited(Path::new(DEFAULT), CONFIG_BYTES_MAX) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        },
    }
    .map_err(StartError::ConfigFile)?;
    let text = String::from_utf8(bytes).map_err(|_quotes_the_text| StartError::ConfigEncoding)?;
    Config::parse(&text).map_err(StartError::Config)
}
