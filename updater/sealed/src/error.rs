//! What can be wrong with a sealed file or its keys.

use std::io;

use cloister_domain::{Class, Coded};

/// Why a sealed file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealedError {
    /// The header is not of the accepted form.
    #[error("the sealed volume's header is not of the form age-encryption.org/v1")]
    Header,
    /// None of the identities is a recipient.
    #[error("the volume is sealed for other appliances; have it sealed for this one's recipient")]
    NoMatch,
    /// The header was changed after it was sealed.
    #[error("the sealed volume's header was changed")]
    Mac,
    /// A block was changed, moved or cut off, or something follows the last.
    #[error("the sealed volume was changed or cut (block {block})")]
    Payload {
        /// The block of 64 KiB, from 0.
        block: u64,
    },
    /// A recipient or identity is malformed.
    #[error("that is no age X25519 {what}")]
    Key {
        /// `recipient` or `identity`.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("the sealed volume cannot be read")]
    Read(#[source] io::Error),
}

impl Coded for SealedError {
    fn class(&self) -> Class {
        match self {
            Self::Read(_) => Class::Fault,
            Self::Header | Self::NoMatch | Self::Mac | Self::Payload { .. } | Self::Key { .. } => {
                Class::Refused
            }
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Header => "sealed.header",
            Self::NoMatch => "sealed.recipient",
            Self::Mac => "sealed.header.mac",
            Self::Payload { .. } => "sealed.payload",
            Self::Key { .. } => "sealed.key",
            Self::Read(_) => "sealed.read",
        }
    }
}
