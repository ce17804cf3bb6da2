//! Key files: made, read, and shown by their public half.

use std::{fmt, path::Path, str::FromStr};

use anyhow::{Context as _, Result, anyhow};
use cloister_attest::{
    PublicKey, SigningKey,
    keyfile::{KEY_FILE_BYTES_MAX, KeyFile},
};
use cloister_domain::{Principal, Secret};

use crate::files;

/// A person's public key, written `ada=<64 hexadecimal digits>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who holds the key.
    pub person: Principal,
    /// The public half.
    pub key: PublicKey,
}

impl FromStr for Holder {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (person, key) =
            text.split_once('=').ok_or_else(|| anyhow!("a holder is written PERSON=PUBLICKEY"))?;
        Ok(Self { person: person.parse()?, key: PublicKey::from_hex(key)? })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.person, self.key.to_hex())
    }
}

/// Writes a new key file, readable by its owner only, and returns the public half.
///
/// Without a `seed` the operating system gives 32 random bytes; with one the key is a function of it.
///
/// # Errors
/// When the file exists already or cannot be written, or the seed has not 32 bytes.
pub fn create(path: &Path, person: &Principal, seed: Option<Secret>) -> Result<Holder> {
    let seed = match seed {
        Some(seed) => seed,
        None => {
            let mut bytes = vec![0; 32];
            getrandom::fill(&mut bytes).context("the operating system gives no random bytes")?;
            Secret::new(bytes)
        }
    };
    let key = SigningKey::from_seed(&seed)?.public();
    files::write_private(path, KeyFile::print(person, &seed).as_bytes())?;
    Ok(Holder { person: person.clone(), key })
}

/// Reads a key file.
///
/// # Errors
/// When it cannot be read or is not a key file.
pub fn load(path: &Path) -> Result<KeyFile> {
    let text = Secret::new(files::read_limited(path, KEY_FILE_BYTES_MAX)?);
    KeyFile::parse(text.expose()).with_context(|| format!("{} is no key file", path.display()))
}

/// The public half of a key file's content.
#[must_use]
pub fn holder(file: &KeyFile) -> Holder {
    Holder { person: file.person.clone(), key: file.key.public() }
}
