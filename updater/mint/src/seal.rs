//! Sealing volumes, so that only the appliances that they are for can read them.

use std::{io::BufReader, path::Path};

use anyhow::{Result, ensure};
use cloister_attest::json;
use cloister_bundle::container;
use cloister_domain::Digest;
use cloister_sealed::{Chance, Identity, Recipient, is_sealed, seal};
use cloister_verify::target_path;
use zeroize::Zeroizing;

use crate::{
    error::MintError,
    files, keys,
    volume::{Volume, is_trust_alone},
};

/// Seals a finished volume in its place for `recipients`. What the importer had to sign is signed
/// before: a sealed volume does not change any more.
///
/// # Errors
/// When it is no volume, is sealed already, brings a release that its own metadata does not list, or
/// cannot be read or written.
pub fn volume(path: &Path, recipients: &[Recipient]) -> Result<()> {
    sealable(path)?;
    let plain = BufReader::with_capacity(1 << 20, files::open(path)?);
    let shares = recipients.iter().map(|_| random()).collect::<Result<_>>()?;
    let chance = Chance { file_key: random()?, nonce: random()?, shares };
    files::write_whole(path, |out| Ok(seal(plain, recipients, &chance, out)?))
}

/// Refuses what [`volume`] would not seal, before the first of several volumes is sealed.
///
/// # Errors
/// As [`volume`].
pub fn sealable(path: &Path) -> Result<()> {
    let start = files::read_start(path, cloister_sealed::INTRO.len() as u64)?;
    ensure!(!is_sealed(&start), MintError::SealedAlready { path: path.to_owned() });
    ensure!(
        is_trust_alone(path)? || lists_itself(&Volume::open(path)?)?,
        MintError::NotAdmitted { path: path.to_owned() }
    );
    Ok(())
}

/// Whether the importer's list that a volume brings has its release.
fn lists_itself(volume: &Volume) -> Result<bool> {
    let release = volume.manifest.release();
    let path = target_path(&release.name, &release.version);
    let digest = Digest::of(&volume.envelope).to_string();
    for (name, text) in container::entries(&volume.meta)? {
        let list = name == "targets.json" || name.ends_with(".targets.json");
        let file = if list { json::parse_strict(text, json::DEPTH_MAX)? } else { continue };
        if file["signed"]["targets"][&path]["hashes"]["sha256"] == digest {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes an identity file (mode 0600) for an appliance; what to seal for.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create_identity(path: &Path) -> Result<Recipient> {
    let identity = Identity::from_random(*Zeroizing::new(random()?));
    keys::written(path, cloister_signer::write_new(path, identity.to_file().expose()))?;
    Ok(identity.recipient())
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_cause| MintError::Random)?;
    Ok(bytes)
}
