//! What a volume says of itself. No key is asked, so nothing here is a promise.

mod trust;

use std::{io::Write, path::Path};

use anyhow::{Context as _, Result};
use cloister_attest::dsse::Envelope;
use cloister_bundle::container;
use cloister_domain::{ByteCount, counted, printable};

use crate::volume::{self, Volume};

/// Writes what the volume at `path` says; with `chunks` its payload is read and compared too.
///
/// # Errors
/// When the volume cannot be read or is not of the accepted form.
pub fn inspect(path: &Path, chunks: bool, out: &mut dyn Write) -> Result<()> {
    if volume::is_trust_alone(path)? {
        return trust::describe(path, out).with_context(|| path.display().to_string());
    }
    let volume = Volume::open(path)?;
    let (manifest, head) = (&volume.manifest, &volume.head);
    let release = manifest.release();
    writeln!(
        out,
        "release     {} {}, number {}",
        release.name, release.version, release.release_counter
    )?;
    writeln!(out, "generation  {}", manifest.generation())?;
    writeln!(out, "in words    {}", manifest.generation().0.words(8))?;
    writeln!(out, "volume      {} of {}", head.volume, head.volumes)?;
    writeln!(out, "chunks      {} of {} here", head.chunks, release.index.chunks)?;
    if let Some(carried) = &volume.carried {
        let left_out = (0usize..).zip(0..head.chunks).filter(|(near, _)| !carried.has(*near));
        let left_out = counted(left_out.count() as u64, "chunk");
        writeln!(out, "thin        {left_out} of these left out")?;
    }
    writeln!(out, "unpacked    {}", ByteCount(release.index.plain_bytes))?;
    writeln!(out, "stored      {}", ByteCount(release.index.stored_bytes))?;
    writeln!(out, "licences    {}", release.licences.join(", "))?;
    for signature in Envelope::parse(&volume.envelope)?.signatures {
        // Whoever wrote the volume chose these bytes.
        writeln!(out, "signed by   key {} (not checked)", printable(signature.keyid.as_bytes()))?;
    }
    for (name, text) in container::entries(&volume.meta)? {
        writeln!(out, "metadata    {name}, {}", ByteCount(text.len() as u64))?;
    }
    for file in &release.files {
        writeln!(
            out,
            "file        {}  {}  {}",
            file.sha256.short(),
            file.path,
            ByteCount(file.size)
        )?;
    }
    if chunks {
        volume.check_chunks().with_context(|| path.display().to_string())?;
        writeln!(out, "payload     every chunk has the digest that the manifest names")?;
    }
    Ok(())
}
