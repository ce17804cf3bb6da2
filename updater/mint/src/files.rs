//! Reading within bounds, and writing so that a file is there whole or not at all.

use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Reads a whole file of at most `bytes_max` bytes.
pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut bytes = Vec::new();
    let reading = file.take(bytes_max + 1).read_to_end(&mut bytes);
    reading.with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(bytes.len() as u64 <= bytes_max, "{} is too large", path.display());
    Ok(bytes)
}

/// Reads at most `bytes` bytes from the start of a file.
pub(crate) fn read_start(path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut start = Vec::new();
    file.take(bytes).read_to_end(&mut start)?;
    Ok(start)
}

/// Writes `path` by way of a neighbour that is renamed when it is complete.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let shown = || format!("cannot write {}", path.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&partial).with_context(shown)?);
    write(&mut out)?;
    out.into_inner()
        .map_err(|error| error.into_error())
        .and_then(|file| file.sync_all())
        .with_context(shown)?;
    fs::rename(&partial, path).with_context(shown)
}

/// All regular files under `root` with their paths relative to it, `/` between components, ascending
/// by bytes. A link or anything else that is no file and no folder is refused.
pub(crate) fn walk(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let listing = fs::read_dir(root.join(&folder))
            .with_context(|| format!("cannot list {}", root.join(&folder).display()))?;
        for entry in listing {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                bail!("a name under {} is not UTF-8", root.display());
            };
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            } else {
                bail!("{} is neither a file nor a folder", root.join(&path).display());
            }
        }
    }
    found.sort();
    Ok(found)
}
