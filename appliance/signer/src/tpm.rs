//! Key files that a TPM sealed, by way of `systemd-creds`: the same form that
//! `LoadCredentialEncrypted=` opens for a service, so nothing here speaks to a TPM itself.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use cloister_attest::keyfile::KeyFile;

use crate::{Opened, SignerError, file};

/// The name that is sealed with the key, so that no other credential is taken for one.
const NAME: &str = "--name=cloister-key";
/// What must be unchanged for the TPM to unseal: the state of Secure Boot (PCR 7), systemd's default.
const PCRS: &str = "--tpm2-pcrs=7";
const DEVICE: &str = "--tpm2-device=";

/// The text of a key file, sealed.
pub(crate) fn seal(text: &str, device: Option<&str>) -> Result<Vec<u8>, SignerError> {
    let device = format!("{DEVICE}{}", device.unwrap_or("auto"));
    let mut child = Command::new("systemd-creds")
        .args(["encrypt", "--with-key=tpm2", PCRS, &device, NAME, "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(SignerError::File)?;
    let mut stdin = child.stdin.take().expect("a pipe was asked for");
    stdin.write_all(text.as_bytes()).map_err(SignerError::File)?;
    drop(stdin);
    let output = child.wait_with_output().map_err(SignerError::File)?;
    if output.status.success() { Ok(output.stdout) } else { Err(SignerError::Tpm) }
}

/// Opens a sealed key file.
pub(crate) fn open(path: &Path, device: Option<&str>) -> Result<Opened, SignerError> {
    let device = format!("{DEVICE}{}", device.unwrap_or("auto"));
    let mut child = Command::new("systemd-creds")
        .args(["decrypt", &device, NAME])
        .arg(path)
        .arg("-")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(SignerError::File)?;
    let text = file::read(child.stdout.take().expect("a pipe was asked for"));
    let status = child.wait().map_err(SignerError::File)?;
    if !status.success() {
        return Err(SignerError::Tpm);
    }
    file::ready(&KeyFile::parse(text?.expose()).map_err(SignerError::KeyFile)?)
}
