//! What an enemy does to a volume.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

/// Copies `volume` to `to` with one bit flipped, `back` bytes before its end.
///
/// # Errors
/// When a file cannot be read or written.
pub fn flip_a_bit(volume: &Path, to: &Path, back: u64) -> Result<()> {
    let length = fs::copy(volume, to)?;
    let file = OpenOptions::new().read(true).write(true).open(to)?;
    let place = length.checked_sub(back).context("the volume is shorter than that")?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    file.write_all_at(&[byte[0] ^ 1], place)?;
    Ok(())
}

/// Writes a tar archive to `to` whose second member is a symbolic link; the first is taken from
/// `volume`, so that it looks right at its beginning.
///
/// # Errors
/// When a file cannot be read or written.
pub fn symlink_inside(volume: &Path, to: &Path) -> Result<()> {
    let mut archive = tar::Archive::new(File::open(volume)?);
    let mut first = archive.entries()?.raw(true).next().context("the volume is empty")??;
    let name = first.path()?.into_owned();
    let mut content = Vec::new();
    std::io::copy(&mut first, &mut content)?;
    let mut builder = tar::Builder::new(File::create(to)?);
    let mut header = tar::Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_mode(0o444);
    header.set_mtime(0);
    builder.append_data(&mut header, name, content.as_slice())?;
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    builder.append_link(&mut link, "clb/10-meta", "/etc/passwd")?;
    builder.finish()?;
    Ok(())
}
