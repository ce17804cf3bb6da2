//! A state folder that can be looked at: one on a disk, or one in a model of a file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Larger than any file here.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What a judge needs to see of a state folder.
pub(crate) trait Tree {
    /// The names in a folder, in order; none where there is no folder.
    ///
    /// # Errors
    /// When it cannot be listed, or a name is not UTF-8.
    fn names(&self, folder: &Path) -> Result<Vec<String>>;

    /// The bytes of a file.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    fn read(&self, file: &Path) -> Result<Arc<[u8]>>;

    /// The bytes of a file, whole blocks of zeros at its end perhaps left out; and how many it has with them.
    ///
    /// # Errors
    /// As [`Tree::read`].
    fn front(&self, file: &Path) -> Result<(Vec<u8>, usize)> {
        let bytes = self.read(file)?;
        Ok((bytes.to_vec(), bytes.len()))
    }

    /// Where a link points; `None` where there is none.
    ///
    /// # Errors
    /// When something else is there.
    fn link(&self, path: &Path) -> Result<Option<PathBuf>>;

    /// Whether there is a folder.
    fn is_folder(&self, path: &Path) -> bool;

    /// Whether anything is there.
    fn is_there(&self, path: &Path) -> bool;

    /// SHA-256 of a file.
    ///
    /// # Errors
    /// As [`Tree::read`].
    fn digest(&self, file: &Path) -> Result<String> {
        Ok(sha256(&self.read(file)?))
    }
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnDisk;

impl Tree for OnDisk {
    fn names(&self, folder: &Path) -> Result<Vec<String>> {
        names(folder)
    }

    fn read(&self, file: &Path) -> Result<Arc<[u8]>> {
        Ok(read(file)?.into())
    }

    fn link(&self, path: &Path) -> Result<Option<PathBuf>> {
        match fs::read_link(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            target => Ok(Some(target?)),
        }
    }

    fn is_folder(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
    }

    fn is_there(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok()
    }
}

/// The names in a folder, in order; none where there is no folder.
///
/// # Errors
/// When it cannot be listed, or a name is not UTF-8.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut names = Vec::new();
    for entry in listing {
        let name = entry?.file_name();
        names.push(name.to_str().context("a name that is not UTF-8")?.to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// The bytes of a file.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    cloister_daemon::files::read_limited(path, FILE_BYTES_MAX).context(name)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
