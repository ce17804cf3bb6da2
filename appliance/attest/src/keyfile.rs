//! The text of a private key file: who holds it, and the seed.
//!
//! ```text
//! cloister-key-v1 ed25519 ada
//! 9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60
//! ```
//!
//! `cloister-mint key create` writes such a file for a person; `cloister approve` reads it. No
//! daemon ever does.

use cloister_domain::{Principal, Secret};
use zeroize::Zeroizing;

use crate::{AttestError, SigningKey};

/// First word of the file.
const MARK: &str = "cloister-key-v1";
/// The largest key file, in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 1024;

/// A person's signing key with the person's name.
#[derive(Debug)]
pub struct KeyFile {
    /// Who holds the key, by the name that the trust metadata gives it.
    pub person: Principal,
    /// The key.
    pub key: SigningKey,
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
        let good = (words.next(), words.next()) == (Some(MARK), Some("ed25519"));
        let (Some(person), None, true) = (words.next(), words.next(), good) else {
            return Err(AttestError::KeyFile);
        };
        let person = person.parse().map_err(|_name| AttestError::KeyFile)?;
        let bytes = unhex(seed).ok_or(AttestError::KeyFile)?;
        Ok(Self { person, key: SigningKey::from_seed(&Secret::new(bytes))? })
    }

    /// The text of a key file for `person` and `seed` (32 bytes).
    #[must_use]
    pub fn print(person: &Principal, seed: &Secret) -> Zeroizing<String> {
        let mut text = Zeroizing::new(format!("{MARK} ed25519 {person}\n"));
        for byte in seed.expose() {
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
        let person: Principal = "ada".parse().expect("a name");
        let seed = Secret::new((0..32).collect());
        let text = KeyFile::print(&person, &seed);
        let read = KeyFile::parse(text.as_bytes()).expect("its own text");
        assert_eq!(read.person, person);
        assert_eq!(read.key.public(), SigningKey::from_seed(&seed).expect("32 bytes").public());
        for broken in [
            "",
            "x",
            text.trim_start_matches("c"),
            &format!("{}x", text.as_str()),
            &text.to_uppercase(),
        ] {
            assert!(KeyFile::parse(broken.as_bytes()).is_err());
        }
    }
}
