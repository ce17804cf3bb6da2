//! A copy of the checkout's tracked files to break things in, with a build folder of its own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use cloister_stage::{
    programs,
    release::{checkout, read_file},
};

use crate::prove::said;

/// The copy. It lies beside the checkout's build and is kept, so that it builds quickly again.
pub(crate) struct Copy {
    /// The files.
    pub(crate) tree: PathBuf,
    /// What is built from them.
    pub(crate) build: PathBuf,
}

impl Copy {
    /// The copy for a purpose called `name`; its files are those of [`Copy::restore`].
    pub(crate) fn make(name: &str) -> Result<Self> {
        let folder = programs()?.parent().context("no build folder")?.join(name);
        let copy = Self { tree: folder.join("tree"), build: folder.join("build") };
        fs::create_dir_all(&copy.tree)?;
        fs::create_dir_all(&copy.build)?;
        Ok(copy)
    }

    /// Makes the copy equal to the checkout. A file that is equal is not touched, so that cargo builds
    /// anew what differs and no more.
    pub(crate) fn restore(&self) -> Result<()> {
        let listed = said(Command::new("git").arg("-C").arg(checkout()).args(["ls-files", "-z"]))?;
        let tracked: BTreeSet<&str> =
            listed.split('\0').filter(|name| checkout().join(name).is_file()).collect();
        for name in &tracked {
            let (from, to) = (checkout().join(name), self.tree.join(name));
            let bytes = read_file(&from)?;
            if read_file(&to).is_ok_and(|held| held == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
            fs::write(&to, bytes)?;
            fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        }
        remove_others(&self.tree, &self.tree, &tracked)
    }
}

/// Removes the files below `folder` that are not in `tracked`, by their names from `tree` on.
fn remove_others(tree: &Path, folder: &Path, tracked: &BTreeSet<&str>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(tree, &path, tracked)?;
        } else if !path.strip_prefix(tree)?.to_str().is_some_and(|name| tracked.contains(name)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
