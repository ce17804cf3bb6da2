//! The tracked files of the checkout.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

/// One text file of the tree.
#[derive(Debug)]
pub struct Source {
    /// Its path from the root of the checkout.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// The lines before the unit tests, numbered from 1.
    pub fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            matches!(pair, [first, second] if first.trim() == "#[cfg(test)]" && second.starts_with("mod "))
        });
        let end = tests.unwrap_or(lines.len());
        lines.into_iter().take(end).enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Whether this is a Rust file outside the folders and files of tests.
    #[must_use]
    pub fn is_production_rust(&self) -> bool {
        self.path.ends_with(".rs")
            && !self.path.starts_with("tests/")
            && !self.path.contains("/tests/")
            && !self.path.ends_with("/tests.rs")
    }
}

/// The checkout.
#[derive(Debug)]
pub struct Tree {
    /// Its root.
    pub root: PathBuf,
    /// Every tracked or new file that is text of at most 1 MiB.
    pub sources: Vec<Source>,
}

impl Tree {
    /// Reads the checkout that this crate lies in.
    ///
    /// # Errors
    /// When git or a file cannot be read.
    pub fn read() -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .context("listing the tree with git")?;
        anyhow::ensure!(listed.status.success(), "git ls-files failed");
        let mut sources = Vec::new();
        for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
            let path = root.join(name);
            let known =
                fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= 1 << 20);
            if !known {
                continue;
            }
            #[expect(clippy::disallowed_methods, reason = "the size was checked above")]
            let bytes = fs::read(&path)?;
            if let Ok(text) = String::from_utf8(bytes) {
                sources.push(Source { path: name.to_owned(), text });
            }
        }
        Ok(Self { root, sources })
    }

    /// The text of one file.
    ///
    /// # Errors
    /// When the tree has no such file.
    pub fn text(&self, path: &str) -> Result<&str> {
        self.sources
            .iter()
            .find(|source| source.path == path)
            .map(|source| source.text.as_str())
            .with_context(|| format!("the tree has no {path}"))
    }
}
