//! Units that are started for each connection (`Accept=yes` of systemd.socket(5)): the supervisor
//! accepts, and the program gets the connection as its standard input.

use std::{
    fs::OpenOptions,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use cloister_config::{Config, Role};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The sockets, and the processes that serve their connections.
#[derive(Debug)]
pub(crate) struct Accepting {
    sockets: Vec<Socket>,
    config_path: PathBuf,
    running: Vec<i32>,
}

/// One socket and what is started for its connections.
#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    program: PathBuf,
    log: PathBuf,
}

impl Accepting {
    /// Binds the sockets.
    pub(crate) fn bind(root: &Path, config_path: &Path, config: &Config) -> Result<Self> {
        let mut sockets = Vec::new();
        for role in [Role::Inspectd, Role::Scand] {
            let path = config.paths.socket(role);
            let listener =
                UnixListener::bind(&path).with_context(|| format!("binding {}", path.display()))?;
            listener.set_nonblocking(true)?;
            let program = std::env::current_exe()?.with_file_name(format!("cloister-{role}"));
            let log = root.join(format!("log/{role}.log"));
            sockets.push(Socket { listener, program, log });
        }
        Ok(Self { sockets, config_path: config_path.to_owned(), running: Vec::new() })
    }

    /// What becomes readable when somebody connects.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.iter().map(|socket| socket.listener.as_fd())
    }

    /// Starts a process for each connection that waits.
    pub(crate) fn accept(&mut self) -> Result<()> {
        for socket in &self.sockets {
            while let Ok((connection, _unnamed)) = socket.listener.accept() {
                let log = OpenOptions::new().create(true).append(true).open(&socket.log)?;
                let mut command = Command::new(&socket.program);
                command
                    .arg("--config")
                    .arg(&self.config_path)
                    .env_remove("RUST_LOG")
                    .stdin(OwnedFd::from(connection))
                    .stdout(Stdio::null())
                    .stderr(log);
                // Reaped with the daemons.
                let child = command
                    .spawn()
                    .with_context(|| format!("starting {}", socket.program.display()))?;
                self.running.push(i32::try_from(child.id())?);
            }
        }
        Ok(())
    }

    /// A process of this supervisor ended.
    pub(crate) fn ended(&mut self, dead: Pid) {
        self.running.retain(|pid| *pid != dead.as_raw());
    }

    /// Ends those that run: nobody waits for their answers.
    pub(crate) fn stop(&self) {
        for pid in &self.running {
            // One that is already gone needs no signal.
            kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap_or_default();
        }
    }
}
