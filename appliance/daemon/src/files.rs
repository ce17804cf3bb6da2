//! Files read within a bound and written whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use cloister_domain::{Class, Coded};
use nix::fcntl::OFlag;

/// A file that could not be read or written. Names the act, never the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file is longer than the reader allows.
    #[error("the file is longer than {max} bytes")]
    TooLong {
        /// The bound.
        max: u64,
    },
    /// The operating system refused.
    #[error("the system refused to {act} a file")]
    System {
        /// What was asked of it.
        act: &'static str,
        /// Its answer.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// Whether there is no such file.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::System { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    fn system(act: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { act, source }
    }
}

impl Coded for FileError {
    fn class(&self) -> Class {
        match self {
            Self::TooLong { .. } => Class::Refused,
            Self::System { .. } => Class::Fault,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "file.too-long",
            Self::System { .. } => "file.system",
        }
    }
}

/// The bytes of a file that has at most `bytes_max`.
///
/// # Errors
/// [`FileError::TooLong`] after reading no more than the bound and one byte;
/// [`FileError::System`], for which [`FileError::is_not_found`] may hold.
pub fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(FileError::system("open"))?;
    let mut bytes = Vec::new();
    let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes);
    let count = read.map_err(FileError::system("read"))?;
    if u64::try_from(count).is_ok_and(|count| count <= bytes_max) {
        Ok(bytes)
    } else {
        Err(FileError::TooLong { max: bytes_max })
    }
}

/// Puts `bytes` at `path` so that whoever looks, even after a power cut, sees the old file or the
/// new one: written beside it (`.NAME.new`), synced, renamed, and the folder synced.
///
/// `mode` is set as given, whatever the umask. One writer of a path at a time.
///
/// # Errors
/// [`FileError::System`]; the old file is then still there, unless only the last sync failed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    copy_atomic(path, &mut { bytes }, mode)
}

/// As [`write_atomic`], with what `from` gives to its end, a little at a time.
///
/// # Errors
/// As [`write_atomic`], and when `from` cannot be read.
pub fn copy_atomic(path: &Path, from: &mut impl io::Read, mode: u32) -> Result<(), FileError> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(FileError::System { act: "name", source });
    };
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".new");
    let beside = folder.join(beside);
    let mut write = || {
        // What a write that was cut off left behind is not reused: its mode may be another.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        io::copy(from, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_folder(folder)
    };
    write()
        .inspect_err(|_failed| fs::remove_file(&beside).unwrap_or_default())
        .map_err(FileError::system("write"))
}

/// A file on the file system of `folder` that has no name and is gone when it is closed.
///
/// # Errors
/// Those of open(2), also where the file system cannot have such a file.
pub fn set_aside(folder: &Path) -> io::Result<File> {
    let flags = (OFlag::O_TMPFILE | OFlag::O_CLOEXEC).bits();
    OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(folder)
}

/// Makes renames and new names in `folder` last.
///
/// # Errors
/// Those of opening and of fsync(2).
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    // `Path::parent` of a bare name is the empty path, which means here.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_at_the_bound_is_read_and_one_beyond_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(&path, b"12345").expect("written");
        assert_eq!(read_limited(&path, 5).expect("within"), b"12345");
        assert_eq!(read_limited(&path, 4).expect_err("beyond").code(), "file.too-long");
        assert!(read_limited(&folder.path().join("none"), 4).expect_err("none").is_not_found());
        assert!(read_limited(Path::new("/dev/zero"), 4).is_err(), "an endless file is bounded");
    }

    #[test]
    fn what_is_set_aside_has_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut aside = set_aside(folder.path()).expect("set aside");
        io::Write::write_all(&mut aside, b"words").expect("written");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
        io::Seek::rewind(&mut aside).expect("rewound");
        let path = folder.path().join("file");
        copy_atomic(&path, &mut aside, 0o600).expect("copied");
        assert_eq!(read_limited(&path, 9).expect("there"), b"words");
        assert!(set_aside(&path).is_err(), "no folder");
    }

    #[test]
    fn a_copy_that_breaks_off_leaves_the_old_file() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("a medium's fault"))
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        write_atomic(&path, b"old", 0o600).expect("written");
        let mut begun = io::Read::chain(&b"new"[..], Broken);
        assert_eq!(
            copy_atomic(&path, &mut begun, 0o600).expect_err("broken").code(),
            "file.system"
        );
        assert_eq!(read_limited(&path, 9).expect("there"), b"old");
    }

    #[test]
    fn a_file_is_replaced_with_exactly_the_mode() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        fs::write(folder.path().join(".file.new"), b"cut off").expect("written");
        write_atomic(&path, b"one", 0o444).expect("written");
        write_atomic(&path, b"two", 0o600).expect("replaced");
        assert_eq!(read_limited(&path, 9).expect("there"), b"two");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
