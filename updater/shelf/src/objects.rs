//! Whole files by content. A name is given only after its bytes were hashed and flushed, so a torn
//! file never has a right name, and adopting twice changes nothing.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::Path,
    thread,
};

use cloister_domain::{ByteCount, Digest, Hasher};
use nix::{
    fcntl::{AT_FDCWD, AtFlags, OFlag, PosixFadviseAdvice, posix_fadvise},
    unistd::{geteuid, linkat},
};

use crate::{
    Shelf, ShelfError,
    durable::{make_folder, remove_if_there, sync_folder},
};

const OBJECT_MODE: u32 = 0o444;
/// Large enough that system calls cost nothing beside hashing; after each the processor is offered to
/// whoever wants it. A thread that answers questions and yields for a moment, as pools of threads do, would
/// else come back after a tick of the clock, idle weight or not.
const BUFFER_BYTES: usize = 64 << 10;

/// A file on the shelf. Having one proves that its bytes were hashed when it was adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    digest: Digest,
    bytes: ByteCount,
}

impl Object {
    /// One whose name is known, to be read again.
    pub(crate) const fn named(digest: Digest, bytes: ByteCount) -> Self {
        Self { digest, bytes }
    }

    /// SHA-256 of its bytes.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its size.
    #[must_use]
    pub const fn bytes(&self) -> ByteCount {
        self.bytes
    }
}

impl Shelf {
    /// The object named `digest`, if the shelf has it.
    ///
    /// # Errors
    /// [`ShelfError::Object`] when it is there with another size than `bytes`.
    pub fn object(&self, digest: Digest, bytes: ByteCount) -> Result<Option<Object>, ShelfError> {
        match fs::symlink_metadata(self.object_path(digest)) {
            Ok(found) if found.is_file() && found.len() == bytes.0 => {
                Ok(Some(Object { digest, bytes }))
            }
            Ok(_) => Err(ShelfError::Object { digest }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ShelfError::Io { act: "look for an object", source }),
        }
    }

    /// The bytes of an object, for reading.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when it cannot be opened.
    pub fn open_object(&self, object: &Object) -> Result<File, ShelfError> {
        OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(self.object_path(object.digest))
            .map_err(ShelfError::io("open an object"))
    }

    /// Takes a finished file of the quarantine: hashes it once more and names it by its content.
    ///
    /// A file that this process owns is linked, exactly the inode that was hashed; a file of
    /// another user, who could still change it, or of another file system is copied while it is
    /// hashed. The quarantined name
    /// stays; its folder is the caller's to remove when the whole import is on the shelf.
    ///
    /// # Errors
    /// [`ShelfError::Content`] when digest or size differ, [`ShelfError::NotAFile`] when `file` is
    /// no plain file, [`ShelfError::Io`] when the disk fails.
    pub fn adopt(
        &self,
        file: &Path,
        expected: Digest,
        bytes: ByteCount,
    ) -> Result<Object, ShelfError> {
        let target = self.object_path(expected);
        let fan = target.parent().expect("an object lies in a folder");
        let flush = || sync_folder(fan).map_err(ShelfError::io("flush a folder of objects"));
        if let Some(object) = self.object(expected, bytes)? {
            // Whoever gave it its name may have been cut off behind that.
            return flush().map(|()| object);
        }
        let source = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
            .open(file)
            .map_err(ShelfError::io("open a finished file"))?;
        let about = source.metadata().map_err(ShelfError::io("examine a finished file"))?;
        if !about.is_file() {
            return Err(ShelfError::NotAFile);
        }
        if about.len() != bytes.0 {
            return Err(ShelfError::Content { expected });
        }
        make_folder(fan).map_err(ShelfError::io("make a folder for objects"))?;
        let device =
            fs::metadata(fan).map_err(ShelfError::io("examine a folder of objects"))?.dev();
        if about.uid() == geteuid().as_raw() && about.dev() == device {
            link(source, expected, &target)
        } else {
            self.copy(source, expected, bytes, &target)
        }?;
        flush().map(|()| Object { digest: expected, bytes })
    }

    fn copy(
        &self,
        mut source: File,
        expected: Digest,
        bytes: ByteCount,
        target: &Path,
    ) -> Result<(), ShelfError> {
        let aside = self.root.join("objects").join(format!(".{expected}"));
        copy_aside(&mut source, expected, bytes, &aside)
            .and_then(|()| fs::rename(&aside, target).map_err(ShelfError::io("name an object")))
            .inspect_err(|_failed| remove_if_there(&aside).unwrap_or_default())
    }
}

/// Copies `source` to `aside`, where a copy that was cut off may lie.
fn copy_aside(
    source: &mut File,
    expected: Digest,
    bytes: ByteCount,
    aside: &Path,
) -> Result<(), ShelfError> {
    let failed = || ShelfError::io("copy a finished file");
    remove_if_there(aside).map_err(failed())?;
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OBJECT_MODE)
        .open(aside)
        .map_err(failed())?;
    let found = pass(source, bytes, |piece| copy.write_all(piece)).map_err(failed())?;
    if found != expected {
        return Err(ShelfError::Content { expected });
    }
    seal(&copy).map_err(failed())
}

/// Links the inode behind `source`, not whatever its path names by now.
fn link(mut source: File, expected: Digest, target: &Path) -> Result<(), ShelfError> {
    let failed = || ShelfError::io("adopt a finished file");
    seal(&source).map_err(|lost| {
        // The system takes for written what it could not write, and would give it back from memory.
        forget(&source);
        failed()(lost)
    })?;
    let found = pass(&mut source, ByteCount(u64::MAX), |_piece| Ok(())).map_err(failed())?;
    if found != expected {
        return Err(ShelfError::Content { expected });
    }
    let through = format!("/proc/self/fd/{}", source.as_raw_fd());
    linkat(AT_FDCWD, through.as_str(), AT_FDCWD, target, AtFlags::AT_SYMLINK_FOLLOW)
        .map_err(|errno| ShelfError::Io { act: "name an object", source: errno.into() })
}

/// Read-only from now on, and on the disk.
fn seal(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(OBJECT_MODE))?;
    file.sync_all()
}

/// What of `file` nobody uses leaves memory: it is asked of the disk next time.
pub(crate) fn forget(file: &File) {
    posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap_or_default();
}

/// Reads at most `bytes` of `source`, hands each piece to `each`, and hashes what it handed over.
pub(crate) fn pass(
    source: &mut File,
    bytes: ByteCount,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<Digest> {
    let mut source = source.take(bytes.0);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Hasher::new();
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        let piece = buffer.get(..count).expect("read returns at most the buffer's length");
        hasher.update(piece);
        each(piece)?;
        thread::yield_now();
    }
}
