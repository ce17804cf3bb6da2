//! What a proof is of: the files that the programs are made of which it runs.

use std::process::Command;

use anyhow::{Result, ensure};
use cloister_domain::{Digest, Hasher};
use cloister_stage::release::{checkout, read_file};

use super::{Progress, said};

/// The sources of a proof that goes on over several runs.
#[derive(Debug)]
pub(super) struct Sources {
    folders: &'static [&'static str],
    digest: Digest,
}

impl Sources {
    /// Tells `progress` of the tracked files in `folders` as they are; if they were others when an earlier run
    /// was interrupted, the proof begins again.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn tell(progress: &mut Progress, folders: &'static [&'static str]) -> Result<Self> {
        let digest = digest(folders)?;
        progress.about(digest);
        Ok(Self { folders, digest })
    }

    /// Checks that they are as they were.
    ///
    /// # Errors
    /// When they are not, or cannot be read.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(digest(self.folders)? == self.digest, "the sources changed meanwhile");
        Ok(())
    }
}

/// Of the tracked files in `folders`, and of what they are built with.
///
/// # Errors
/// When one cannot be read.
pub(super) fn digest(folders: &[&str]) -> Result<Digest> {
    let mut list = Command::new("git");
    list.arg("-C").arg(checkout()).args(["ls-files", "-z", "--", "Cargo.lock"]).args(folders);
    let mut hasher = Hasher::new();
    for name in said(&mut list)?.split_terminator('\0') {
        let file = checkout().join(name);
        // A tracked file may have been deleted.
        if file.is_file() {
            hasher.update(name.as_bytes());
            hasher.update(Digest::of(&read_file(&file)?).as_bytes());
        }
    }
    Ok(hasher.finish())
}
