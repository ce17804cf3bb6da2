//! The demo's releases: what the connected side lays out before it signs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::facility::Facility;

/// What goes into a release.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Folder of the language model.
    pub model: PathBuf,
    /// Folder of the embedding model, if there is one.
    pub embedding: Option<PathBuf>,
    /// Folder with `documents/`.
    pub documents: PathBuf,
    /// Folder with the evaluation set.
    pub evaluation: PathBuf,
}

/// The root of the checkout that this program was built from.
#[must_use]
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Recipe {
    /// The demo's release with the documents of `version` (`v1` or `v2`).
    #[must_use]
    pub fn demo(version: &str, embedding: Option<PathBuf>) -> Self {
        let demo = checkout().join("tests/fixtures/demo");
        Self {
            model: checkout().join("services/tune/model"),
            embedding,
            documents: demo.join("documents").join(version),
            evaluation: demo.join("evaluation"),
        }
    }

    /// Lays the release tree out under `name` and returns its folder.
    ///
    /// # Errors
    /// When mint refuses a model, or a folder cannot be copied.
    pub fn lay_out(&self, facility: &Facility, name: &str) -> Result<PathBuf> {
        let tree = facility.home().join("trees").join(name);
        fs::create_dir_all(&tree)?;
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path is not UTF-8");
        let (tree_text, model) = (text(&tree)?, text(&self.model)?);
        let mut words =
            vec!["prepare", "--tree", &tree_text, "--model", &model, "--quantise", "q8_0"];
        let embedding = self.embedding.as_deref().map(text).transpose()?;
        if let Some(embedding) = &embedding {
            words.extend(["--embedding", embedding]);
        }
        facility.mint(&words)?;
        copy_folder(&self.documents, &tree.join("documents"))?;
        copy_folder(&self.evaluation, &tree.join("evaluation"))?;
        let licences = tree.join("licences");
        fs::create_dir_all(&licences)?;
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            fs::copy(checkout().join(licence), licences.join(format!("{licence}.txt")))?;
        }
        Ok(tree)
    }
}

/// Adds a file of 1 MiB that no earlier release holds, so that an import must read it.
///
/// # Errors
/// When it cannot be written.
pub fn add_fresh_bytes(tree: &Path) -> Result<()> {
    let mut text = String::new();
    let mut digest = cloister_domain::Digest::of(b"fresh bytes");
    while text.len() < 1 << 20 {
        text.push_str(&digest.to_string());
        digest = cloister_domain::Digest::of(digest.as_bytes());
    }
    let folder = tree.join("provenance");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join("serials.txt"), text)?)
}

/// Copies a folder of files and folders.
///
/// # Errors
/// When something cannot be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The bytes of a file of at most 1 GiB.
///
/// # Errors
/// When it cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    Ok(cloister_daemon::files::read_limited(path, 1 << 30)?)
}
