//! Why an import or inspection did not come to its end.

use std::io;

use cloister_daemon::{FrameError, ListenError, ServeError, credentials::CredentialError};
use cloister_domain::{Class, Coded, ImportId};
use cloister_quarantine::QuarantineError;
use cloister_wire::{Problem, intake::Missing};

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
    /// An entry of a folder that is called like a volume.
    #[error("a link, a folder or a device, and no file; it was not followed")]
    Entry,
    /// A device with something else at its start.
    #[error(
        "the device does not begin with a volume; if it holds a file system, import as root, or \
         start import-medium@ with the device's name and import its folder under media/"
    )]
    NotRaw,
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
    /// The named import does not wait for volumes.
    #[error("import {import} waits for no volume; `cloister status` shows which do")]
    NotParked {
        /// The import.
        import: ImportId,
    },
    /// The medium holds nothing of the release that the named import waits for.
    #[error(
        "the medium holds no volume of import {import}'s release; the import waits as before, for \
         another medium"
    )]
    OtherRelease {
        /// The import.
        import: ImportId,
    },
    /// Nothing on the medium is a volume of a release; the first problem of those that were recorded.
    #[error("{0}")]
    Unreadable(Problem),
    /// A file is another one than a moment ago.
    #[error("a file of the medium changed while it was read; write the medium again")]
    Changed,
    /// A medium with many volumes of trust metadata.
    #[error(
        "more than {max} volumes of trust metadata lie here, so nothing is taken; one says everything: \
         bring the newest alone"
    )]
    ManyTrust {
        /// How many are read.
        max: usize,
    },
    /// The key of sealed volumes cannot be had.
    #[error("the key that opens sealed volumes cannot be had")]
    Key(#[source] CredentialError),
    /// An import runs already.
    #[error("another import is running; try again when it has ended")]
    Importing,
    /// The volume is wrong or cannot be copied.
    #[error(transparent)]
    Copy(#[from] QuarantineError),
    /// One of several volumes is wrong or cannot be copied.
    #[error("volume {volume}: {cause}")]
    InVolume {
        /// Its number, as it says itself.
        volume: u32,
        /// What is wrong with it.
        cause: QuarantineError,
    },
    /// All given volumes are copied and do not hold all of the release.
    #[error("{missing}; put in a medium that holds one and import again, in any order")]
    MoreVolumes {
        /// What is still to come.
        missing: Missing,
    },
    /// Everything was read, and chunks that thin volumes left out are not on the shelf.
    #[error(
        "{missing}; take a request for them to the connected side (`cloister inventory --needs`), or \
         import a volume that carries them"
    )]
    NeedsChunks {
        /// What is still to come.
        missing: Missing,
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

impl IntakeError {
    /// The same, with the volume's number, where it is the volume that is wrong.
    pub(crate) fn in_volume(self, volume: u32) -> Self {
        match self {
            Self::Copy(cause) => Self::InVolume { volume, cause },
            Self::Refused(Problem { class, code, message }) => Self::Refused(Problem {
                class,
                code,
                message: format!("volume {volume}: {message}"),
            }),
            other => other,
        }
    }

    /// As the client hears it: the problem that updaterd named, or this error's own.
    pub(crate) fn problem(&self) -> Problem {
        match self {
            Self::Refused(problem) | Self::Unreadable(problem) => problem.clone(),
            other => Problem::of(other),
        }
    }

    /// Whether updaterd does not believe this volume's head.
    pub(crate) const fn is_of_the_head(&self) -> bool {
        matches!(self, Self::Refused(Problem { class: Class::Refused, .. }))
    }

    /// Whether this volume is wrong, so that another copy of it may be right.
    pub(crate) const fn is_of_the_volume(&self) -> bool {
        matches!(self, Self::Copy(error) if !error.is_resumable())
    }

    /// Whether the same medium may be read again with another end.
    pub(crate) const fn is_resumable(&self) -> bool {
        matches!(self, Self::Copy(error) if error.is_resumable())
    }

    /// Why an import waits.
    pub(crate) const fn of(missing: Missing) -> Self {
        if missing.volumes.is_empty() {
            Self::NeedsChunks { missing }
        } else {
            Self::MoreVolumes { missing }
        }
    }
}

impl Coded for IntakeError {
    fn class(&self) -> Class {
        match self {
            Self::Open(_) | Self::Updaterd(_) | Self::OutOfTurn | Self::Client(_) => Class::Fault,
            Self::Relative
            | Self::Kind
            | Self::Entry
            | Self::NotRaw
            | Self::NoVolume
            | Self::Crowded { .. }
            | Self::Several { .. }
            | Self::NotParked { .. }
            | Self::Changed
            | Self::ManyTrust { .. }
            | Self::OtherRelease { .. } => Class::Refused,
            Self::Importing | Self::MoreVolumes { .. } | Self::NeedsChunks { .. } => Class::Busy,
            Self::Key(error) => error.class(),
            Self::Copy(error) | Self::InVolume { cause: error, .. } => error.class(),
            Self::Refused(problem) | Self::Unreadable(problem) => problem.class,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Open(_) => "intake.open",
            Self::Relative => "intake.path.relative",
            Self::Kind => "intake.path.kind",
            Self::Entry => "intake.entry.kind",
            Self::NotRaw => "intake.device.filesystem",
            Self::NoVolume => "intake.volume.none",
            Self::Crowded { .. } => "intake.folder.crowded",
            Self::Several { .. } => "intake.volume.several",
            Self::NotParked { .. } => "intake.import.not-parked",
            Self::OtherRelease { .. } => "intake.volume.other",
            Self::Unreadable(_) => "intake.unreadable",
            Self::Changed => "intake.changed",
            Self::ManyTrust { .. } => "intake.trust.many",
            Self::Key(error) => error.code(),
            Self::Importing => "intake.busy",
            Self::Copy(error) | Self::InVolume { cause: error, .. } => error.code(),
            Self::MoreVolumes { .. } => "intake.volume.more",
            Self::NeedsChunks { .. } => "intake.chunks.needed",
            Self::Refused(_) => "intake.refused",
            Self::Updaterd(_) => "intake.updaterd",
            Self::OutOfTurn => "intake.updaterd.turn",
            Self::Client(_) => "intake.client",
        }
    }
}
