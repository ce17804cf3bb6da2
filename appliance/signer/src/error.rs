//! What can keep a key from signing.

use std::{error::Error, io};

use cloister_attest::AttestError;
use cloister_domain::{Class, Coded};

/// Why a key could not be opened or protected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The text after `--key` names no key.
    #[error("a key is written PATH, file:PATH, tpm:PATH, credential:NAME or pkcs11:…")]
    Spec,
    /// A PKCS #11 URI is malformed or has an attribute that is not understood.
    #[error("the pkcs11: URI is not understood; give token, serial, object or id, and module-path")]
    Uri,
    /// A PKCS #11 URI carries the PIN.
    #[error("the pkcs11: URI carries a PIN, which every process could read; leave it out")]
    UriPin,
    /// A PKCS #11 URI does not say which driver to load.
    #[error("the pkcs11: URI needs ?module-path= with the full path of the token's driver")]
    UriModule,
    /// The file cannot be read or written.
    #[error("a key's file cannot be read or written")]
    File(#[source] io::Error),
    /// Others than the owner may read a file that holds a key in the clear.
    #[error("others may read this key file; give it mode 0600 (chmod 600)")]
    Exposed,
    /// The file is larger than a key file may be.
    #[error("a key's file is larger than {max} bytes")]
    TooLong {
        /// Bytes allowed.
        max: u64,
    },
    /// The text is no key file.
    #[error("this is not a key file")]
    KeyFile(#[source] AttestError),
    /// A protected key file is malformed, or asks for more work than any of ours.
    #[error("this is not a key file under a passphrase")]
    Sealed,
    /// The passphrase is wrong, or the file was changed.
    #[error("the passphrase does not open this key, or the file was changed")]
    Passphrase,
    /// A new passphrase is too short.
    #[error("a passphrase needs at least {min} bytes; five words chosen by dice are good")]
    PassphraseShort {
        /// Bytes needed.
        min: usize,
    },
    /// The new passphrase was not typed the same twice.
    #[error("the two passphrases differ")]
    PassphraseTwice,
    /// Nobody can be asked: there is no terminal, or the file of passphrases is used up.
    #[error("a passphrase or PIN is needed and nobody can be asked; give --passphrase-file")]
    NobodyToAsk,
    /// The person broke off.
    #[error("broken off")]
    BrokenOff,
    /// The machine gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// systemd did not pass the credential.
    #[error("systemd passed no credential of this name (LoadCredential=)")]
    Credential,
    /// `systemd-creds` would not seal or unseal.
    #[error("the TPM would not seal or unseal the key; systemd-creds says why")]
    Tpm,
    /// The token's driver cannot be loaded, or fails.
    #[error("the token or its driver failed")]
    Token(#[source] Box<dyn Error + Send + Sync>),
    /// No token has such a key.
    #[error("no inserted token has this Ed25519 key")]
    TokenAbsent,
    /// Several keys fit.
    #[error("{count} keys fit the pkcs11: URI; add token, serial, object or id")]
    TokenSeveral {
        /// How many.
        count: usize,
    },
    /// The PIN is wrong or locked.
    #[error("the token refused the PIN; after a few wrong ones it locks")]
    Pin,
    /// A key on the token is no good Ed25519 key.
    #[error("the token's key is not a usable Ed25519 key")]
    TokenKey(#[source] AttestError),
    /// Nothing says who holds the key on the token.
    #[error("the token's key has no person's name as its label; add x-person=NAME to the URI")]
    TokenPerson,
}

impl Coded for SignerError {
    fn class(&self) -> Class {
        match self {
            Self::File(_) | Self::Random | Self::Tpm | Self::Token(_) => Class::Fault,
            _ => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Spec => "signer.spec",
            Self::Uri => "signer.uri",
            Self::UriPin => "signer.uri.pin",
            Self::UriModule => "signer.uri.module",
            Self::File(_) => "signer.file",
            Self::Exposed => "signer.exposed",
            Self::TooLong { .. } => "signer.too-long",
            Self::KeyFile(_) => "signer.key-file",
            Self::Sealed => "signer.sealed",
            Self::Passphrase => "signer.passphrase",
            Self::PassphraseShort { .. } => "signer.passphrase.short",
            Self::PassphraseTwice => "signer.passphrase.twice",
            Self::NobodyToAsk => "signer.nobody-to-ask",
            Self::BrokenOff => "signer.broken-off",
            Self::Random => "signer.random",
            Self::Credential => "signer.credential",
            Self::Tpm => "signer.tpm",
            Self::Token(_) => "signer.token",
            Self::TokenAbsent => "signer.token.absent",
            Self::TokenSeveral { .. } => "signer.token.several",
            Self::Pin => "signer.token.pin",
            Self::TokenKey(_) => "signer.token.key",
            Self::TokenPerson => "signer.token.person",
        }
    }
}
