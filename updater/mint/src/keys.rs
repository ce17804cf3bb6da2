//! Keys of persons: made, guarded, opened, and shown by their public half.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cloister_attest::{
    Algorithm, AnyKey, PublicKey, Signer as _,
    keyfile::KeyFile,
    mldsa::{MlDsaKey, ParameterSet},
};
use cloister_domain::{Principal, Secret};
use cloister_signer::{Opened, Passphrases, SignerError, Spec};

use crate::{
    error::{FileError, MintError},
    files,
};

/// The largest file of public halves, in bytes.
const HOLDERS_BYTES_MAX: u64 = 64 << 10;

/// A person's public key: `ada=<64 hexadecimal digits>`, or `ada=ml-dsa-65:<its digits>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who holds the key.
    pub person: Principal,
    /// The public half.
    pub key: AnyKey,
}

impl FromStr for Holder {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (person, key) =
            text.split_once('=').ok_or_else(|| anyhow!("a holder is written PERSON=PUBLICKEY"))?;
        Ok(Self { person: person.parse()?, key: public(key)? })
    }
}

fn public(text: &str) -> Result<AnyKey> {
    let Some((word, digits)) = text.split_once(':') else {
        return Ok(PublicKey::from_hex(text)?.into());
    };
    let set = match Algorithm::of_word(word) {
        Some(Algorithm::Ed25519) => return Ok(PublicKey::from_hex(digits)?.into()),
        Some(Algorithm::MlDsa65) => ParameterSet::MlDsa65,
        Some(Algorithm::MlDsa87) => ParameterSet::MlDsa87,
        None => return Err(anyhow!("a key's algorithm is ed25519, ml-dsa-65 or ml-dsa-87")),
    };
    let bytes = unhex(digits).context("a public key is lower-case hexadecimal digits")?;
    Ok(MlDsaKey::parse(set, &bytes)?.into())
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let plain = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if !digits.len().is_multiple_of(2) || !digits.bytes().all(plain) {
        return None;
    }
    digits
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=", self.person)?;
        if self.key.algorithm() != Algorithm::Ed25519 {
            write!(f, "{}:", self.key.algorithm())?;
        }
        f.write_str(&self.key.to_hex())
    }
}

/// What a person writes to name holders: one, or `@FILE` with one a line, such as the two halves of
/// one person.
#[derive(Clone, Debug)]
pub enum Holders {
    /// One.
    One(Box<Holder>),
    /// Those whom a file names.
    File(PathBuf),
}

impl FromStr for Holders {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None => Self::One(Box::new(text.parse()?)),
        })
    }
}

impl Holders {
    fn read(self) -> Result<Vec<Holder>> {
        let path = match self {
            Self::One(holder) => return Ok(vec![*holder]),
            Self::File(path) => path,
        };
        let bytes = files::read_limited(&path, HOLDERS_BYTES_MAX)?;
        let lines = String::from_utf8(bytes)
            .map_err(|_quotes_it| FileError::Text { path: path.clone() })?;
        let mut holders = Vec::new();
        for (line, text) in (1..).zip(lines.lines()) {
            let shown = || MintError::HolderLine { path: path.clone(), line };
            holders.push(text.parse().map_err(|_quotes_it: anyhow::Error| shown())?);
        }
        ensure!(!holders.is_empty(), MintError::NoHolder { path });
        Ok(holders)
    }
}

/// All holders of several arguments.
///
/// # Errors
/// When a file that one names cannot be read, or has no holders.
pub fn all(arguments: Vec<Holders>) -> Result<Vec<Holder>> {
    let read = arguments.into_iter().map(Holders::read).collect::<Result<Vec<_>>>()?;
    Ok(read.into_iter().flatten().collect())
}

/// What keeps a key file from whoever finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing but its mode, 0600.
    Mode,
    /// A passphrase, asked for.
    Passphrase,
    /// This machine's TPM, or the one that is named.
    Tpm(Option<String>),
}

/// Writes a new key file, readable by its owner only, and returns the public half.
///
/// Without a `seed` the operating system gives 32 random bytes; with one the key is a function of it.
///
/// # Errors
/// When the file exists already or cannot be written, or the seed has not 32 bytes.
pub fn create(
    path: &Path,
    person: &Principal,
    algorithm: Algorithm,
    seed: Option<Secret>,
    guard: &Guard,
    passphrases: &mut Passphrases,
) -> Result<Holder> {
    let seed = match seed {
        Some(seed) => seed,
        None => {
            let mut bytes = vec![0; 32];
            getrandom::fill(&mut bytes).map_err(|_cause| MintError::Random)?;
            Secret::new(bytes)
        }
    };
    let file = KeyFile { person: person.clone(), algorithm, seed };
    let key = file.key()?.public();
    write(path, &file, guard, passphrases)?;
    Ok(Holder { person: person.clone(), key })
}

/// Writes a copy of the key file `from` under another guard; the old one is the person's to destroy.
///
/// # Errors
/// When the one cannot be opened or the other not written.
pub fn protect(
    from: &Path,
    out: &Path,
    guard: &Guard,
    passphrases: &mut Passphrases,
) -> Result<()> {
    let file = read(from, cloister_signer::key_file(from, passphrases))?;
    write(out, &file, guard, passphrases)
}

fn write(path: &Path, file: &KeyFile, guard: &Guard, passphrases: &mut Passphrases) -> Result<()> {
    let done = match guard {
        Guard::Mode => cloister_signer::write_new(path, file.print().as_bytes()),
        Guard::Passphrase => cloister_signer::protect(file, path, passphrases),
        Guard::Tpm(device) => cloister_signer::protect_with_tpm(file, path, device.as_deref()),
    };
    written(path, done)
}

/// What came of writing a key to `path`.
pub(crate) fn written<T>(path: &Path, done: Result<T, SignerError>) -> Result<T> {
    named(path, done, FileError::writing)
}

/// What came of reading the file `path` for keys.
pub(crate) fn read<T>(path: &Path, done: Result<T, SignerError>) -> Result<T> {
    named(path, done, FileError::reading)
}

fn named<T>(
    path: &Path,
    done: Result<T, SignerError>,
    name: fn(&Path, io::Error) -> FileError,
) -> Result<T> {
    done.map_err(|error| match error {
        SignerError::File(cause) => name(path, cause).into(),
        error => anyhow::Error::new(error).context(path.display().to_string()),
    })
}

/// Opens a key wherever it is kept.
///
/// # Errors
/// When it cannot be opened.
pub fn open(spec: &Spec, passphrases: &mut Passphrases) -> Result<Opened> {
    let opened = cloister_signer::open(spec, passphrases);
    match spec {
        Spec::File(path) | Spec::Tpm { path, .. } => read(path, opened),
        _ => opened.with_context(|| format!("cannot use {spec}")),
    }
}

/// The public half of an opened key.
#[must_use]
pub fn holder(opened: &Opened) -> Holder {
    Holder { person: opened.person.clone(), key: opened.signer.public() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_returns_from_its_text_and_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut lines = String::new();
        for algorithm in Algorithm::ALL {
            let path = folder.path().join(algorithm.word());
            let person = "ada".parse().expect("a name");
            let seed = Some(Secret::new(vec![1; 32]));
            let made =
                create(&path, &person, algorithm, seed, &Guard::Mode, &mut Passphrases::Nobody);
            let made = made.expect("a key");
            assert_eq!(made.to_string().parse::<Holder>().expect("its own text"), made);
            let opened = open(&Spec::File(path), &mut Passphrases::Nobody).expect("its own file");
            assert_eq!(holder(&opened), made);
            lines.push_str(&format!("{made}\n"));
        }
        let list = folder.path().join("ada.pub");
        files::write_whole(&list, |out| Ok(out.write_all(lines.as_bytes())?)).expect("written");
        let named: Holders = format!("@{}", list.display()).parse().expect("three lines");
        assert_eq!(all(vec![named]).expect("read").len(), 3);
        for broken in ["ada", "ada=00", "ada=rsa:00", "ada=ml-dsa-65:0g", "ada=ml-dsa-65:00"] {
            assert!(broken.parse::<Holder>().is_err(), "{broken}");
        }
    }
}
