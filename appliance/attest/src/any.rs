//! A key of any algorithm that is trusted with anything.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use crate::{
    AttestError, PublicKey,
    mldsa::{MlDsaKey, ParameterSet},
};

/// The algorithms, by the words that key files and policies call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ML-DSA-65 (FIPS 204) in TAP 21's form.
    MlDsa65,
    /// ML-DSA-87 (FIPS 204) in TAP 21's form.
    MlDsa87,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::MlDsa65, Self::MlDsa87];

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
        }
    }

    /// The algorithm of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.word() == word)
    }

    /// Whether a quantum computer leaves it standing: the half that joins Ed25519 where a role demands
    /// both.
    #[must_use]
    pub const fn is_post_quantum(self) -> bool {
        match self {
            Self::Ed25519 => false,
            Self::MlDsa65 | Self::MlDsa87 => true,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A public key. The algorithm is the key's: no signature, envelope or message ever chooses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnyKey {
    /// An Ed25519 key.
    Ed25519(PublicKey),
    /// An ML-DSA key; its bytes lie apart, they are kilobytes.
    MlDsa(Box<MlDsaKey>),
}

impl AnyKey {
    /// Which algorithm the key is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::MlDsa(key) => match key.set() {
                ParameterSet::MlDsa65 => Algorithm::MlDsa65,
                ParameterSet::MlDsa87 => Algorithm::MlDsa87,
            },
        }
    }

    /// Reads a TUF key object of either type.
    ///
    /// # Errors
    /// [`AttestError::KeyScheme`] for a type or scheme that is none of ours (TUF lets a reader pass
    /// over such a key), else as [`PublicKey::from_object`] and [`MlDsaKey::from_object`].
    pub fn from_object(object: &Value) -> Result<Self, AttestError> {
        match object.get("keytype").and_then(Value::as_str) {
            Some("ed25519") => PublicKey::from_object(object).map(Self::Ed25519),
            Some("ml-dsa") => MlDsaKey::from_object(object).map(|key| Self::MlDsa(Box::new(key))),
            _ => Err(AttestError::KeyScheme),
        }
    }

    /// The key as TUF writes it.
    #[must_use]
    pub fn to_object(&self) -> Value {
        match self {
            Self::Ed25519(key) => key.to_object(),
            Self::MlDsa(key) => key.to_object(),
        }
    }

    /// The name that signatures call the key by: SHA-256 of its canonical TUF key object.
    #[must_use]
    pub fn key_id(&self) -> String {
        match self {
            Self::Ed25519(key) => key.key_id(),
            Self::MlDsa(key) => key.key_id(),
        }
    }

    /// The key's own bytes as lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let bytes: &[u8] = match self {
            Self::Ed25519(key) => key.as_bytes(),
            Self::MlDsa(key) => key.as_bytes(),
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Accepts a signature of `message` as the key's scheme says.
    ///
    /// # Errors
    /// [`AttestError::SignatureEncoding`] and [`AttestError::SignatureWrong`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        match self {
            Self::Ed25519(key) => key.verify(message, signature),
            Self::MlDsa(key) => key.verify(message, signature),
        }
    }
}

/// The keys of a person who may speak for a role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Speaker {
    /// Every key that the person holds for the role. Each signature is to name one of them.
    pub keys: BTreeSet<AnyKey>,
    /// Sets of these keys. One key of each must have signed.
    pub demanded: Vec<Vec<AnyKey>>,
}

impl Speaker {
    /// One who must sign with a key of each of `demanded`, and holds no others.
    #[must_use]
    pub fn with(demanded: Vec<Vec<AnyKey>>) -> Self {
        Self { keys: demanded.iter().flatten().cloned().collect(), demanded }
    }
}

impl From<PublicKey> for AnyKey {
    fn from(key: PublicKey) -> Self {
        Self::Ed25519(key)
    }
}

impl From<MlDsaKey> for AnyKey {
    fn from(key: MlDsaKey) -> Self {
        Self::MlDsa(Box::new(key))
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Secret;

    use super::*;
    use crate::{Signer as _, SigningKey, mldsa::MlDsaSigningKey};

    fn pair() -> (SigningKey, MlDsaSigningKey) {
        let seed = Secret::new(vec![7; 32]);
        let mldsa = MlDsaSigningKey::from_seed(ParameterSet::MlDsa65, &seed).expect("32 bytes");
        (SigningKey::from_seed(&seed).expect("32 bytes"), mldsa)
    }

    #[test]
    fn a_key_returns_from_its_object_with_its_algorithm() {
        let (classical, quantum) = pair();
        let keys = [AnyKey::from(classical.public()), quantum.public().clone().into()];
        for (key, algorithm) in keys.iter().zip([Algorithm::Ed25519, Algorithm::MlDsa65]) {
            assert_eq!(AnyKey::from_object(&key.to_object()).as_ref(), Ok(key));
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(Algorithm::of_word(algorithm.word()), Some(algorithm));
        }
        let other = serde_json::json!({"keytype": "rsa", "scheme": "rsassa-pss-sha256"});
        assert_eq!(AnyKey::from_object(&other), Err(AttestError::KeyScheme));
    }

    #[test]
    fn no_signature_fits_a_key_of_the_other_algorithm() {
        let (classical, quantum) = pair();
        let keys = [AnyKey::from(classical.public()), quantum.public().clone().into()];
        let short = crate::Signer::sign(&classical, b"x").expect("a signature");
        let long = quantum.sign(b"x").expect("a signature");
        assert_eq!(keys[0].verify(b"x", &short), Ok(()));
        assert_eq!(keys[1].verify(b"x", &long), Ok(()));
        assert_eq!(keys[0].verify(b"x", &long), Err(AttestError::SignatureEncoding));
        assert_eq!(keys[1].verify(b"x", &short), Err(AttestError::SignatureEncoding));
    }
}
