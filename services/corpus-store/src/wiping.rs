//! Files that are overwritten before they are unlinked.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use tantivy::directory::{
    Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, WatchCallback, WatchHandle,
    WritePtr,
    error::{DeleteError, LockError, OpenReadError, OpenWriteError},
};

/// Overwrites the bytes of `file` from `from` on with zeros and makes that last. On a journalling
/// file system this reaches the file's own blocks; copies in journals, snapshots and worn flash
/// cells are beyond any program.
pub(crate) fn wipe(file: &mut File, from: u64) -> io::Result<()> {
    use std::io::Seek as _;
    static ZEROS: [u8; 65536] = [0; 65536];
    let mut left = file.metadata()?.len().saturating_sub(from);
    file.seek(io::SeekFrom::Start(from))?;
    while left > 0 {
        let count = left.min(65536);
        let zeros = &ZEROS[..usize::try_from(count).expect("at most 65536")];
        file.write_all(zeros)?;
        left -= count;
    }
    file.sync_data()
}

/// Overwrites and unlinks a file; one that is not there is gone already.
pub(crate) fn wipe_and_unlink(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(path) {
        Ok(mut file) => wipe(&mut file, 0)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    fs::remove_file(path)
}

/// The folder of the index of words: as tantivy's own, but its files are overwritten before they are
/// unlinked. tantivy unlinks a file only when no reader in this process holds its segment.
#[derive(Clone, Debug)]
pub(crate) struct WipingDirectory {
    inner: MmapDirectory,
    folder: PathBuf,
}

impl WipingDirectory {
    pub(crate) fn open(folder: &Path) -> tantivy::Result<Self> {
        Ok(Self { inner: MmapDirectory::open(folder)?, folder: folder.to_owned() })
    }
}

impl Directory for WipingDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        let failed =
            |error| DeleteError::IoError { io_error: Arc::new(error), filepath: path.to_owned() };
        if let Ok(mut file) = OpenOptions::new().write(true).open(self.folder.join(path)) {
            wipe(&mut file, 0).map_err(failed)?;
        }
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        self.inner.open_write(path)
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.inner.atomic_write(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.inner.acquire_lock(lock)
    }

    fn watch(&self, callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(callback)
    }
}
