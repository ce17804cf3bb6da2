//! Key files: read, and written under a passphrase or a TPM's seal.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use cloister_attest::keyfile::{KEY_FILE_BYTES_MAX, KeyFile};
use cloister_domain::Secret;
use zeroize::Zeroizing;

use crate::{Opened, Passphrases, SignerError, sealed, tpm};

/// The shortest new passphrase, in bytes.
const PASSPHRASE_BYTES_MIN: usize = 12;

/// Reads a key file, plain or under a passphrase.
///
/// # Errors
/// [`SignerError::Exposed`] if it holds the key in the clear and others may read it, and what
/// reading and asking can come to.
pub fn key_file(path: &Path, passphrases: &mut Passphrases) -> Result<KeyFile, SignerError> {
    let file = File::open(path).map_err(SignerError::File)?;
    let text = read(&file)?;
    // A sealed file may lie about; one in the clear may not.
    let exposed = file.metadata().map_err(SignerError::File)?.mode() & 0o077 != 0;
    if exposed && !sealed::is_sealed(text.expose()) {
        return Err(SignerError::Exposed);
    }
    parsed(&text, path, passphrases)
}

/// Opens a key file that systemd laid into `$CREDENTIALS_DIRECTORY` and guards itself.
pub(crate) fn open_credential(
    name: &str,
    passphrases: &mut Passphrases,
) -> Result<Opened, SignerError> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(SignerError::Credential)?;
    let path = PathBuf::from(folder).join(name);
    let file = File::open(&path).map_err(|_absent| SignerError::Credential)?;
    ready(&parsed(&read(&file)?, &path, passphrases)?)
}

fn parsed(
    text: &Secret,
    path: &Path,
    passphrases: &mut Passphrases,
) -> Result<KeyFile, SignerError> {
    if sealed::is_sealed(text.expose()) {
        let passphrase = passphrases.ask(&format!("Passphrase of {}", path.display()))?;
        return sealed::open(text.expose(), &passphrase);
    }
    KeyFile::parse(text.expose()).map_err(SignerError::KeyFile)
}

/// The key of a file's content.
pub(crate) fn ready(file: &KeyFile) -> Result<Opened, SignerError> {
    let key = file.key().map_err(SignerError::KeyFile)?;
    Ok(Opened { person: file.person.clone(), signer: Box::new(key) })
}

/// Reads at most a key file's bytes into memory that is wiped.
pub(crate) fn read(mut file: impl std::io::Read) -> Result<Secret, SignerError> {
    // Room for all of it at once, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 << 10));
    let reading = file.by_ref().take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    reading.map_err(SignerError::File)?;
    if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(SignerError::TooLong { max: KEY_FILE_BYTES_MAX });
    }
    Ok(Secret::new(bytes.to_vec()))
}

/// Writes a new file that only its owner may read; never over another.
///
/// # Errors
/// [`SignerError::File`].
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), SignerError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.map_err(SignerError::File)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|cause| {
        // Half a key opens nothing and would stand in the way of the next try.
        std::fs::remove_file(path).unwrap_or_default();
        SignerError::File(cause)
    })
}

/// Writes `file` to the new file `out` under a passphrase that is asked for.
///
/// # Errors
/// [`SignerError::PassphraseShort`] below 12 bytes, and what asking and writing can come to.
pub fn protect(
    file: &KeyFile,
    out: &Path,
    passphrases: &mut Passphrases,
) -> Result<(), SignerError> {
    let passphrase = passphrases.ask_new(&out.display().to_string())?;
    if passphrase.expose().len() < PASSPHRASE_BYTES_MIN {
        return Err(SignerError::PassphraseShort { min: PASSPHRASE_BYTES_MIN });
    }
    write_new(out, sealed::seal(file, &passphrase)?.as_bytes())
}

/// Writes `file` to the new file `out`, sealed by this machine's TPM (`systemd-creds encrypt`) so that
/// no other machine opens it.
///
/// # Errors
/// [`SignerError::Tpm`], [`SignerError::File`].
pub fn protect_with_tpm(
    file: &KeyFile,
    out: &Path,
    device: Option<&str>,
) -> Result<(), SignerError> {
    write_new(out, &tpm::seal(&file.print(), device)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use cloister_attest::Algorithm;

    use super::*;

    fn ada() -> KeyFile {
        let person = "ada".parse().expect("a name");
        let seed = Secret::new((0..32).collect());
        KeyFile { person, algorithm: Algorithm::Ed25519, seed }
    }

    fn lines(folder: &Path, text: &str) -> Passphrases {
        let path = folder.join("lines");
        fs::write(&path, text).expect("written");
        Passphrases::from_file_or_terminal(Some(&path)).expect("lines")
    }

    #[test]
    fn a_key_in_the_clear_is_its_owners_alone_and_a_new_file_is_made_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ada.key");
        write_new(&path, ada().print().as_bytes()).expect("written");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert!(key_file(&path, &mut Passphrases::Nobody).is_ok());
        for mode in [0o640, 0o604, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            let read = key_file(&path, &mut Passphrases::Nobody);
            assert!(matches!(read, Err(SignerError::Exposed)), "{mode:o}");
        }
        let again = write_new(&path, b"another");
        assert!(matches!(again, Err(SignerError::File(_))), "never over another");
        assert!(fs::metadata(&path).is_ok_and(|file| file.len() > 20));
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read_to_its_end() {
        let fits = vec![b' '; usize::try_from(KEY_FILE_BYTES_MAX).expect("small")];
        assert!(read(&fits[..]).is_ok());
        let mut endless = std::io::repeat(b' ');
        let max = KEY_FILE_BYTES_MAX;
        let refused = read(endless.by_ref().take(max << 8));
        assert!(matches!(refused, Err(SignerError::TooLong { max: told }) if told == max));
    }

    #[test]
    fn a_short_passphrase_protects_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("ada.key");
        let refused = protect(&ada(), &out, &mut lines(folder.path(), "eleven byte\n"));
        assert!(matches!(refused, Err(SignerError::PassphraseShort { min: 12 })));
        assert!(!out.exists());
        protect(&ada(), &out, &mut lines(folder.path(), "twelve bytes\n")).expect("written");
    }
}
