//! Why an import or inspection did not come to its end.

use std::io;

use cloister_daemon::{FrameError, ListenError, ServeError};
use cloister_domain::{Class, Coded};
use cloister_quarantine::QuarantineError;
use cloister_wire::Problem;

/// A daemon that ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The socket cannot be had.
    #[error("intaked cannot listen")]
    Listen(#[source] ListenError),
    /// The socket cannot be served any more.
    #[error("intaked cannot serve")]
    Serve(#[source] ServeError),
}

impl Coded for RunError {
    fn class(&self) -> Class {
        match self {
            Self::Listen(error) => error.class(),
            Self::Serve(error) => error.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Listen(error) => error.code(),
            Self::Serve(error) => error.code(),
        }
    }
}

/// An import or inspection that did not come to its end. Never names a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntakeError {
    /// Nothing can be opened there.
    #[error("intaked cannot open that path; is the medium mounted, and readable for its user?")]
    Open(#[source] io::Error),
    /// The path is relative.
    #[error("the path must begin with /")]
    Relative,
    /// What is there is no medium.
    #[error("that path is neither a volume file, a device, nor a folder; links are not followed")]
    Kind,
    /// A folder without volumes.
    #[error("the folder holds no volume (*.clb)")]
    NoVolume,
    /// A folder with too much in it.
    #[error("the folder holds more than {max} entries; name one volume")]
    Crowded {
        /// How many are looked at.
        max: usize,
    },
    /// A folder with volumes of different releases.
    #[error("the folder holds volumes of {releases} releases; name one volume")]
    Several {
        /// How many releases there are.
        releases: usize,
    },
    /// An import runs already.
    #[error("another import is running; try again when it has ended")]
    Importing,
    /// The volume is wrong or cannot be copied.
    #[error(transparent)]
    Copy(#[from] QuarantineError),
    /// All given volumes are copied and do not hold all of the release.
    #[error(
        "the release has {volumes} volumes; {missing_chunks} chunks are on those still to come"
    )]
    MoreVolumes {
        /// Volumes of the release, as the volume says.
        volumes: u32,
        /// Chunks that are not there yet.
        missing_chunks: u64,
    },
    /// updaterd refused.
    #[error("{0}")]
    Refused(Problem),
    /// updaterd cannot be talked to.
    #[error("intaked and updaterd lost each other")]
    Updaterd(#[source] FrameError),
    /// updaterd said something that does not belong here.
    #[error("updaterd answered out of turn")]
    OutOfTurn,
    /// The client went away.
    #[error("the client went away")]
    Client(#[source] FrameError),
}

impl Coded for IntakeError {
    fn class(&self) -> Class {
        match self {
            Self::Open(_) | Self::Updaterd(_) | Self::OutOfTurn | Self::Client(_) => Class::Fault,
            Self::Relative
            | Self::Kind
            | Self::NoVolume
            | Self::Crowded { .. }
            | Self::Several { .. } => Class::Refused,
            Self::Importing | Self::MoreVolumes { .. } => Class::Busy,
            Self::Copy(error) => error.class(),
            Self::Refused(problem) => problem.class,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Open(_) => "intake.open",
            Self::Relative => "intake.path.relative",
            Self::Kind => "intake.path.kind",
            Self::NoVolume => "intake.volume.none",
            Self::Crowded { .. } => "intake.folder.crowded",
            Self::Several { .. } => "intake.volume.several",
            Self::Importing => "intake.busy",
            Self::Copy(error) => error.code(),
            Self::MoreVolumes { .. } => "intake.volume.more",
            Self::Refused(_) => "intake.refused",
            Self::Updaterd(_) => "intake.updaterd",
            Self::OutOfTurn => "intake.updaterd.turn",
            Self::Client(_) => "intake.client",
        }
    }
}
