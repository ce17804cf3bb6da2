//! Whatever holds a private key and signs with it: a file, a token, a credential.

use std::error::Error;

use cloister_domain::{Class, Coded};

use crate::{AnyKey, SigningKey};

/// One private key, wherever it is kept.
pub trait Signer {
    /// The public half.
    fn public(&self) -> AnyKey;

    /// Signs `message` as the key's scheme says: Ed25519 the message itself, ML-DSA TAP 21's form.
    ///
    /// # Errors
    /// [`SignError`], when the holder of the key would not or could not sign.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError>;
}

/// Why there is no signature.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// What holds the key failed: a token was drawn, a PIN expired.
    #[error("what holds the key would not sign")]
    Holder(#[source] Box<dyn Error + Send + Sync>),
    /// A signature came back that does not fit the key: another key, or a fault while signing. It
    /// is kept from everybody, for a faulty signature can give the key away.
    #[error("the signature that was made does not fit its key; it was thrown away")]
    Misfit,
    /// Each attempt to sign was rejected, which chance alone does not do (FIPS 204, appendix C).
    #[error("no attempt at a signature succeeded; the machine's arithmetic is not sound")]
    Attempts,
}

impl Coded for SignError {
    fn class(&self) -> Class {
        Class::Fault
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Holder(_) => "attest.sign.holder",
            Self::Misfit => "attest.sign.misfit",
            Self::Attempts => "attest.sign.attempts",
        }
    }
}

impl Signer for SigningKey {
    fn public(&self) -> AnyKey {
        AnyKey::Ed25519(Self::public(self))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        Ok(Self::sign(self, message).to_vec())
    }
}

impl<S: Signer + ?Sized> Signer for &S {
    fn public(&self) -> AnyKey {
        (**self).public()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        (**self).sign(message)
    }
}

impl<S: Signer + ?Sized> Signer for Box<S> {
    fn public(&self) -> AnyKey {
        (**self).public()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        (**self).sign(message)
    }
}

/// Signs with whatever holds the key and hands the signature out only if it verifies.
///
/// # Errors
/// Those of [`Signer::sign`], and [`SignError::Misfit`].
pub fn sign_checked(signer: &dyn Signer, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let signature = signer.sign(message)?;
    match signer.public().verify(message, &signature) {
        Ok(()) => Ok(signature),
        Err(_misfit) => Err(SignError::Misfit),
    }
}
