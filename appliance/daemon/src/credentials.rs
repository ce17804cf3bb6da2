//! Keys by path: systemd's credentials, and the host key's seed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cloister_config::Config;
use cloister_domain::{Class, Coded, Secret};
use nix::unistd::geteuid;

use crate::files::{self, FileError};

/// The largest identity file: one line and comments.
const IDENTITY_BYTES_MAX: u64 = 4 << 10;
/// Bytes of an Ed25519 seed (RFC 8032, 5.1.5).
const SEED_BYTES: u64 = 32;

/// A key that could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The key's file cannot be read or made.
    #[error("the file of a key cannot be read or made")]
    File(#[source] FileError),
    /// The file is not a seed.
    #[error("a key's file holds {SEED_BYTES} bytes, and this one holds {bytes}")]
    Length {
        /// What it holds.
        bytes: u64,
    },
    /// Others may read the file.
    #[error("a key's file must be the daemon's own with mode 0600 or 0400")]
    Exposed,
    /// The operating system gives no randomness.
    #[error("the system gives no random bytes")]
    Random,
}

impl Coded for CredentialError {
    fn class(&self) -> Class {
        match self {
            Self::File(_) | Self::Random => Class::Fault,
            Self::Length { .. } => Class::Corrupt,
            Self::Exposed => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::File(_) => "credential.file",
            Self::Length { .. } => "credential.length",
            Self::Exposed => "credential.exposed",
            Self::Random => "credential.random",
        }
    }
}

/// The file of the systemd credential `name`, if the service manager passed one (LoadCredential=).
#[must_use]
pub fn path(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name);
    path.exists().then_some(path)
}

/// The seed of the host key, which signs records: from `record.key`, else the credential
/// `host-key`, else `record/host.key` in the state folder, made with mode 0600 if it is not there.
///
/// # Errors
/// [`CredentialError::Exposed`] if others may read the file in the state folder or `record.key`
/// (systemd guards its credentials itself); [`CredentialError::Length`] if it is no seed.
pub fn host_key_seed(config: &Config) -> Result<Secret, CredentialError> {
    if let Some(path) = &config.record.key {
        return guarded_seed(path);
    }
    if let Some(path) = path("host-key") {
        return seed(&path);
    }
    let path = config.paths.record().join("host.key");
    match guarded_seed(&path) {
        Err(CredentialError::File(error)) if error.is_not_found() => made_seed(&path),
        other => other,
    }
}

/// The text of the age identity that opens sealed volumes: from `update.unsealing_key`, else the
/// credential `age-identity`; none where there is neither.
///
/// # Errors
/// [`CredentialError::Exposed`] if others may read the configured file, [`CredentialError::File`] if
/// it cannot be read.
pub fn unsealing_key(config: &Config) -> Result<Option<Secret>, CredentialError> {
    let file = match &config.update.unsealing_key {
        Some(path) => {
            guarded(path)?;
            Some(path.clone())
        }
        None => path("age-identity"),
    };
    let read = |path: PathBuf| files::read_limited(&path, IDENTITY_BYTES_MAX).map(Secret::new);
    file.map(read).transpose().map_err(CredentialError::File)
}

fn guarded_seed(path: &Path) -> Result<Secret, CredentialError> {
    guarded(path)?;
    seed(path)
}

/// Refuses a file that anybody but this user may read.
fn guarded(path: &Path) -> Result<(), CredentialError> {
    use std::os::unix::fs::MetadataExt as _;
    let system = |source| CredentialError::File(FileError::System { act: "look at", source });
    let metadata = fs::metadata(path).map_err(system)?;
    if metadata.mode() & 0o077 != 0 || metadata.uid() != geteuid().as_raw() {
        return Err(CredentialError::Exposed);
    }
    Ok(())
}

fn seed(path: &Path) -> Result<Secret, CredentialError> {
    let bytes = files::read_limited(path, SEED_BYTES).map_err(|error| match error {
        FileError::TooLong { max } => CredentialError::Length { bytes: max + 1 },
        other => CredentialError::File(other),
    })?;
    match u64::try_from(bytes.len()) {
        Ok(SEED_BYTES) => Ok(Secret::new(bytes)),
        _ => Err(CredentialError::Length { bytes: bytes.len().try_into().unwrap_or(u64::MAX) }),
    }
}

fn made_seed(path: &Path) -> Result<Secret, CredentialError> {
    let folder = path.parent().expect("the path was made by joining");
    let system =
        |source| CredentialError::File(FileError::System { act: "make a folder for", source });
    fs::create_dir_all(folder).map_err(system)?;
    let mut seed = vec![0; 32];
    getrandom::fill(&mut seed).map_err(|_code| CredentialError::Random)?;
    files::write_atomic(path, &seed, 0o600).map_err(CredentialError::File)?;
    tracing::info!("a host key was made, since none was given");
    Ok(Secret::new(seed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_host_key_is_made_once_and_guarded() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!("[paths]\nstate = \"{}\"", folder.path().display());
        let config = Config::parse(&text).expect("valid");
        let first = host_key_seed(&config).expect("made");
        assert_eq!(first.expose().len(), 32);
        assert_eq!(host_key_seed(&config).expect("there"), first);

        let path = config.paths.record().join("host.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        assert_eq!(host_key_seed(&config).expect_err("exposed").code(), "credential.exposed");
        files::write_atomic(&path, b"short", 0o600).expect("written");
        assert_eq!(host_key_seed(&config).expect_err("short").code(), "credential.length");
    }
}
