//! The folder of trusted metadata: `<role>.json`, byte for byte as received.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::http::ANSWER_BYTES_MAX;

/// A folder in which each role has one file.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder at `path`, which is made if it is not there.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    /// The file of a role, if there is one that can be read.
    pub(crate) fn read(&self, role: &str) -> Option<Vec<u8>> {
        read_limited(&self.path(role)).ok()
    }

    /// Replaces the file of a role, whole or not at all.
    pub(crate) fn write(&self, role: &str, text: &[u8]) -> Result<()> {
        write_whole(&self.path(role), text)
    }

    fn path(&self, role: &str) -> PathBuf {
        self.0.join(format!("{}.json", quoted(role, "")))
    }
}

/// A file's content, up to the largest that is ever written here.
pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(ANSWER_BYTES_MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Replaces a file, whole or not at all.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file lies in a folder")?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(content)?;
    new.persist(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

/// `text` with everything but letters, digits, `_.-~` and `kept` in percent signs (RFC 3986), so that
/// it is one component of a path or URL, whatever it holds.
pub(crate) fn quoted(text: &str, kept: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte);
        if plain || kept.as_bytes().contains(&byte) {
            quoted.push(byte.into());
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_never_leaves_the_folder() {
        assert_eq!(quoted("../a b", ""), "..%2Fa%20b");
        assert_eq!(quoted("a/é?", "/"), "a/%C3%A9%3F");
        let folder = tempfile::tempdir().expect("a folder");
        let inside = Folder::at(&folder.path().join("in")).expect("made");
        inside.write("../out", b"{}").expect("written");
        assert!(!folder.path().join("out.json").exists());
        assert_eq!(inside.read("../out").as_deref(), Some(&b"{}"[..]));
        assert_eq!(inside.read("none"), None);
    }
}
