//! Why a copy did not succeed.

use std::io;

use cloister_bundle::{BundleError, TableError};
use cloister_domain::{ByteCount, Class, Coded};
use cloister_sealed::SealedError;

/// A volume that was refused, or could not be copied. Never names a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuarantineError {
    /// The volume is not of the accepted form, or a chunk is not the signed one.
    #[error(transparent)]
    Form(#[from] BundleError),
    /// A member before the chunks is not the signed one.
    #[error("member {member} of the volume does not have the digest that was signed for it")]
    Member {
        /// Position of the member in the volume, from 0.
        member: u64,
    },
    /// A sealed volume was changed, cut, or is for other appliances.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// A chunk with the right digest is no single frame of the signed size.
    #[error("chunk {chunk} does not unpack to the size that was signed for it")]
    Unpack {
        /// Position of the chunk in the index, from 0.
        chunk: u64,
    },
    /// The plan does not fit the index.
    #[error("the plan does not fit the index")]
    Plan,
    /// The medium cannot be read any further.
    #[error("the medium cannot be read any further; put it in again and import once more")]
    Medium(#[source] io::Error),
    /// Quarantine cannot be written.
    #[error("quarantine cannot be written")]
    Write(#[source] io::Error),
    /// The index cannot be read again.
    #[error("the index of the release cannot be read where it was set aside")]
    Aside(#[source] io::Error),
    /// Too little space.
    #[error("the import needs {needed} of free space and there are {free}; free some first")]
    Space {
        /// What is missing of the release, and the reserve.
        needed: ByteCount,
        /// What is free.
        free: ByteCount,
    },
    /// The caller wanted no more.
    #[error("the import was interrupted; import again to go on where it was")]
    Interrupted,
}

impl QuarantineError {
    /// Why a medium gave no more bytes: what opens a sealed volume says so by its own error.
    pub fn of_medium(error: io::Error) -> Self {
        match error.downcast::<SealedError>() {
            Ok(sealed) => Self::Sealed(sealed),
            Err(other) => Self::Medium(other),
        }
    }

    /// Whether importing the same volume again may succeed, so that quarantine is worth keeping.
    #[must_use]
    pub const fn is_resumable(&self) -> bool {
        match self {
            Self::Form(_) | Self::Member { .. } | Self::Unpack { .. } | Self::Plan => false,
            Self::Sealed(error) => matches!(error, SealedError::Read(_)),
            Self::Medium(_)
            | Self::Write(_)
            | Self::Aside(_)
            | Self::Space { .. }
            | Self::Interrupted => true,
        }
    }
}

impl From<TableError> for QuarantineError {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Form(error) => Self::Form(error),
            TableError::Read(source) => Self::Aside(source),
        }
    }
}

impl Coded for QuarantineError {
    fn class(&self) -> Class {
        match self {
            Self::Form(error) => error.class(),
            Self::Sealed(error) => error.class(),
            Self::Member { .. } | Self::Unpack { .. } => Class::Refused,
            Self::Plan | Self::Medium(_) | Self::Write(_) | Self::Aside(_) => Class::Fault,
            Self::Space { .. } | Self::Interrupted => Class::Busy,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Form(error) => error.code(),
            Self::Sealed(error) => error.code(),
            Self::Member { .. } => "quarantine.member",
            Self::Unpack { .. } => "quarantine.unpack",
            Self::Plan => "quarantine.plan",
            Self::Medium(_) => "quarantine.medium",
            Self::Write(_) => "quarantine.write",
            Self::Aside(_) => "quarantine.aside",
            Self::Space { .. } => "quarantine.space",
            Self::Interrupted => "quarantine.interrupted",
        }
    }
}
