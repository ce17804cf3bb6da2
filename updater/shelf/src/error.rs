//! What can go wrong on the shelf.

use std::io;

use cloister_domain::{Class, Coded, Digest, GenerationId};

/// A failure of the shelf. File names inside a release are never quoted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// The disk or the file system failed.
    #[error("could not {act}; check the disk and try again")]
    Io {
        /// What was attempted.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another process has the shelf open for writing.
    #[error("another process writes to this shelf; only one updater may run")]
    Held,
    /// A file that was to be adopted is not the one that was promised.
    #[error(
        "a finished file does not have the digest {expected} that the manifest names; import the bundle again"
    )]
    Content {
        /// The digest that the manifest names.
        expected: Digest,
    },
    /// A file that was to be adopted is a link, a device or a folder.
    #[error("a finished file is not a plain file; import the bundle again")]
    NotAFile,
    /// A path inside a release would leave the release's folder.
    #[error("a path inside the release leaves the release; the bundle is malformed")]
    Path,
    /// The generation is not on the shelf.
    #[error(
        "generation {generation} is not on the shelf; the newest release of its name comes back from its \
         own bundle, an older one only as a new release"
    )]
    Absent {
        /// The generation.
        generation: GenerationId,
    },
    /// A pointer of the shelf does not name a generation that is there.
    #[error(
        "the pointer `{name}` of the shelf names nothing; put a backup of the state back, see the runbook `rebuild`"
    )]
    Pointer {
        /// The pointer: `active`, `slots/a` or `slots/b`.
        name: &'static str,
    },
    /// Stored bytes have another size than their name promises.
    #[error(
        "object {digest} of the shelf has another size than it was adopted with; import its bundle again"
    )]
    Object {
        /// The object's name.
        digest: Digest,
    },
}

impl ShelfError {
    /// For `map_err`: the disk failed at `act`.
    pub(crate) fn io(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { act, source }
    }
}

impl Coded for ShelfError {
    fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::Held => Class::Fault,
            Self::Content { .. } | Self::NotAFile | Self::Path | Self::Absent { .. } => {
                Class::Refused
            }
            Self::Pointer { .. } | Self::Object { .. } => Class::Corrupt,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "shelf.io",
            Self::Held => "shelf.held",
            Self::Content { .. } => "shelf.content",
            Self::NotAFile => "shelf.not-a-file",
            Self::Path => "shelf.path",
            Self::Absent { .. } => "shelf.absent",
            Self::Pointer { .. } => "shelf.pointer",
            Self::Object { .. } => "shelf.object",
        }
    }
}
