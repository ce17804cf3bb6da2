//! Sealing volumes, so that only the appliances that they are for can read them.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use cloister_sealed::{Chance, Identity, Recipient, is_sealed, seal};
use zeroize::Zeroizing;

use crate::files;

/// Seals a finished volume in its place for `recipients`. What the importer had to sign is signed
/// before: a sealed volume does not change any more.
///
/// # Errors
/// When it is sealed already, or cannot be read or written.
pub fn volume(path: &Path, recipients: &[Recipient]) -> Result<()> {
    let shown = || format!("cannot read {}", path.display());
    let start = files::read_start(path, cloister_sealed::INTRO.len() as u64)?;
    ensure!(!is_sealed(&start), "{} is sealed already", path.display());
    let plain = BufReader::with_capacity(1 << 20, File::open(path).with_context(shown)?);
    let shares = recipients.iter().map(|_| random()).collect::<Result<_>>()?;
    let chance = Chance { file_key: random()?, nonce: random()?, shares };
    files::write_whole(path, |out| Ok(seal(plain, recipients, &chance, out)?))
}

/// Makes an identity file (mode 0600) for an appliance; what to seal for.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create_identity(path: &Path) -> Result<Recipient> {
    let identity = Identity::from_random(*Zeroizing::new(random()?));
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = opened.with_context(|| format!("cannot create {}", path.display()))?;
    file.write_all(identity.to_file().expose())?;
    file.sync_all()?;
    Ok(identity.recipient())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}
