//! The text of a private key file: who holds it, the algorithm, and the seed.
//!
//! ```text
//! cloister-key-v1 ed25519 ada
//! 9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60
//! ```
//!
//! The second word is an [`Algorithm`]'s; every algorithm's key comes from a seed of 32 bytes.
//! `cloister-mint key create` writes such a file for a person; `cloister approve` reads it. No
//! daemon ever does.

use cloister_domain::{Principal, Secret};
use zeroize::Zeroizing;

use crate::{
    Algorithm, AnyKey, AttestError, SignError, Signer, SigningKey,
    mldsa::{MlDsaSigningKey, ParameterSet},
};

/// First word of the file.
const MARK: &str = "cloister-key-v1";
/// The largest key file, in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 1024;

/// A private key of any algorithm, made from its seed.
#[derive(Clone, Debug)]
pub enum FileKey {
    /// For Ed25519.
    Ed25519(SigningKey),
    /// For ML-DSA.
    MlDsa(MlDsaSigningKey),
}

impl FileKey {
    /// Derives the key of `algorithm` from its seed.
    ///
    /// # Errors
    /// [`AttestError::Seed`] unless the seed has 32 bytes.
    pub fn from_seed(algorithm: Algorithm, seed: &Secret) -> Result<Self, AttestError> {
        let quantum = |set| MlDsaSigningKey::from_seed(set, seed).map(Self::MlDsa);
        match algorithm {
            Algorithm::Ed25519 => SigningKey::from_seed(seed).map(Self::Ed25519),
            Algorithm::MlDsa65 => quantum(ParameterSet::MlDsa65),
            Algorithm::MlDsa87 => quantum(ParameterSet::MlDsa87),
        }
    }
}

impl Signer for FileKey {
    fn public(&self) -> AnyKey {
        match self {
            Self::Ed25519(key) => Signer::public(key),
            Self::MlDsa(key) => Signer::public(key),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match self {
            Self::Ed25519(key) => Signer::sign(key, message),
            Self::MlDsa(key) => Signer::sign(key, message),
        }
    }
}

/// A person's seed with the person's name and the algorithm.
#[derive(Debug)]
pub struct KeyFile {
    /// Who holds the key, by the name that the trust metadata gives it.
    pub person: Principal,
    /// What the key is for.
    pub algorithm: Algorithm,
    /// The seed, 32 bytes.
    pub seed: Secret,
}

impl KeyFile {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// [`AttestError::KeyFile`] if it is not such a text.
    pub fn parse(text: &[u8]) -> Result<Self, AttestError> {
        let text = std::str::from_utf8(text).map_err(|_content| AttestError::KeyFile)?;
        let mut lines = text.lines();
        let (head, seed) = (lines.next(), lines.next());
        let (Some(head), Some(seed), None) = (head, seed, lines.next()) else {
            return Err(AttestError::KeyFile);
        };
        let mut words = head.split(' ');
        let (mark, algorithm, person) = (words.next(), words.next(), words.next());
        let algorithm = algorithm.and_then(Algorithm::of_word);
        let (Some(MARK), Some(algorithm), Some(person), None) =
            (mark, algorithm, person, words.next())
        else {
            return Err(AttestError::KeyFile);
        };
        let person = person.parse().map_err(|_name| AttestError::KeyFile)?;
        let bytes = unhex(seed).ok_or(AttestError::KeyFile)?;
        Ok(Self { person, algorithm, seed: Secret::new(bytes) })
    }

    /// The key itself.
    ///
    /// # Errors
    /// [`AttestError::Seed`] unless the seed has 32 bytes.
    pub fn key(&self) -> Result<FileKey, AttestError> {
        FileKey::from_seed(self.algorithm, &self.seed)
    }

    /// The text of the file.
    #[must_use]
    pub fn print(&self) -> Zeroizing<String> {
        // Room for all of it at once, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str(&format!("{MARK} {} {}\n", self.algorithm, self.person));
        for byte in self.seed.expose() {
            text.push_str(&format!("{byte:02x}"));
        }
        text.push('\n');
        text
    }
}

/// 32 bytes from 64 lower-case hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let plain = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if digits.len() != 64 || !plain {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_returns_from_its_text() {
        for algorithm in Algorithm::ALL {
            let person: Principal = "ada".parse().expect("a name");
            let file = KeyFile { person, algorithm, seed: Secret::new((0..32).collect()) };
            let text = file.print();
            let read = KeyFile::parse(text.as_bytes()).expect("its own text");
            assert_eq!((&read.person, read.algorithm), (&file.person, algorithm));
            assert_eq!(read.seed, file.seed);
            let key = read.key().expect("32 bytes");
            assert_eq!(key.public().algorithm(), algorithm);
            let signature = key.sign(b"x").expect("a signature");
            assert_eq!(key.public().verify(b"x", &signature), Ok(()));
        }
    }

    #[test]
    fn another_text_is_no_key_file() {
        let text = format!("cloister-key-v1 ed25519 ada\n{}\n", "0a".repeat(32));
        assert!(KeyFile::parse(text.as_bytes()).is_ok());
        for broken in [
            "",
            "x",
            text.trim_start_matches("c"),
            &format!("{text}x"),
            &text.to_uppercase(),
            &text.replace("ed25519", "ml-dsa-44"),
            &text.replace(" ada", ""),
        ] {
            assert!(KeyFile::parse(broken.as_bytes()).is_err());
        }
    }
}
