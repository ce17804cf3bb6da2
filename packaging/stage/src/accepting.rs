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

/// The socket of inspectd, and the processes that serve its connections.
#[derive(Debug)]
pub(crate) struct Accepting {
    listener: UnixListener,
    program: PathBuf,
    config_path: PathBuf,
    log: PathBuf,
    running: Vec<i32>,
}

impl Accepting {
    /// Binds the socket.
    pub(crate) fn bind(root: &Path, config_path: &Path, config: &Config) -> Result<Self> {
        let socket = config.paths.socket(Role::Inspectd);
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("binding {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener,
            program: std::env::current_exe()?.with_file_name("cloister-inspectd"),
            config_path: config_path.to_owned(),
            log: root.join("log/inspectd.log"),
            running: Vec::new(),
        })
    }

    /// What becomes readable when somebody connects.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Starts a process for each connection that waits.
    pub(crate) fn accept(&mut self) -> Result<()> {
        while let Ok((connection, _unnamed)) = self.listener.accept() {
            let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
            let mut command = Command::new(&self.program);
            command
                .arg("--config")
                .arg(&self.config_path)
                .env_remove("RUST_LOG")
                .stdin(OwnedFd::from(connection))
                .stdout(Stdio::null())
                .stderr(log);
            // Reaped with the daemons.
            let child =
                command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
            self.running.push(i32::try_from(child.id())?);
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
