//! Why a daemon does not start, listen or serve.

use std::io;

use cloister_config::{ConfigError, Role};
use cloister_domain::{Class, Coded};

use crate::files::FileError;

/// A daemon that did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The command line is not understood.
    #[error("usage: cloister-{role} [--config PATH]{}", if *.role == Role::Engined { " --slot a|b" } else { "" })]
    Usage {
        /// The daemon.
        role: Role,
    },
    /// The configuration file cannot be read.
    #[error("the configuration file cannot be read; give its path with --config")]
    ConfigFile(#[source] FileError),
    /// The configuration file is not text.
    #[error("the configuration file is not UTF-8")]
    ConfigEncoding,
    /// The configuration is refused; its own text says all.
    #[error(transparent)]
    Config(ConfigError),
    /// A peer that the configuration names is no user of this machine.
    #[error("the configuration lets user {name} connect, and this machine has no such user")]
    User {
        /// The name as configured.
        name: String,
    },
    /// The descriptors that the service manager promised are not there.
    #[error("the service manager passed {promised} descriptors, and number {number} is no socket")]
    Inherited {
        /// How many it promised.
        promised: u32,
        /// The first that is wrong.
        number: u32,
    },
    /// A log is there already: the daemon was started twice in one process.
    #[error("the process has a log already; a daemon is started once")]
    Twice,
    /// The operating system refused what every daemon needs.
    #[error("the system refused to {act}")]
    System {
        /// What was asked of it.
        act: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    pub(crate) fn system(act: &'static str) -> impl FnOnce(nix::Error) -> Self {
        move |errno| Self::System { act, source: errno.into() }
    }
}

impl Coded for StartError {
    fn class(&self) -> Class {
        match self {
            Self::Usage { .. } | Self::ConfigEncoding | Self::Config(_) | Self::User { .. } => {
                Class::Refused
            }
            Self::ConfigFile(_) | Self::Inherited { .. } | Self::Twice | Self::System { .. } => {
                Class::Fault
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Usage { .. } => "daemon.usage",
            Self::ConfigFile(_) => "daemon.config.file",
            Self::ConfigEncoding => "daemon.config.encoding",
            Self::Config(error) => error.code(),
            Self::User { .. } => "daemon.peers.user",
            Self::Inherited { .. } => "daemon.inherited",
            Self::Twice => "daemon.twice",
            Self::System { .. } => "daemon.system",
        }
    }
}

/// A socket that could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process serves this socket.
    #[error("another process serves this socket; a daemon of this appliance runs already")]
    Held,
    /// A lock, folder or socket could not be made.
    #[error("the system refused to {act}")]
    System {
        /// What was asked of it.
        act: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl ListenError {
    pub(crate) fn system(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { act, source }
    }
}

impl Coded for ListenError {
    fn class(&self) -> Class {
        Class::Fault
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Held => "daemon.listen.held",
            Self::System { .. } => "daemon.listen.system",
        }
    }
}

/// A daemon that could not go on accepting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The listener failed.
    #[error("the system refused to {act}")]
    System {
        /// What was asked of it.
        act: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl Coded for ServeError {
    fn class(&self) -> Class {
        Class::Fault
    }

    fn code(&self) -> &'static str {
        match self {
            Self::System { .. } => "daemon.serve.system",
        }
    }
}
