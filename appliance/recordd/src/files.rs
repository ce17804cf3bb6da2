//! The log's folder: checkpoint and tiles, each written whole and made durable.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use cloister_daemon::{
    files::{FileError, read_limited, sync_folder, write_atomic},
    reserve::{self, Reserve},
};
use cloister_record::{
    Keys, VerifierKey,
    tiles::{self, Kind, Tile, WIDTH},
};

use crate::RecorddError as Error;

/// The largest file: a bundle of 256 entries of 64 KiB.
const FILE_BYTES_MAX: u64 = 256 * (64 << 10);

/// The public keys of the log, a line each.
const KEYS: &str = "log.keys";

/// The largest file of keys: hundreds.
const KEYS_BYTES_MAX: u64 = 256 << 10;

/// Mode of every file; the folder above them admits the daemon alone.
const MODE: u32 = 0o644;

/// The folder of a log.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    reserve: Arc<Reserve>,
    /// Folders below it whose names are known to last.
    lasting: Arc<Mutex<BTreeSet<PathBuf>>>,
}

impl Files {
    /// The folder, made with mode 0700 if it is not there.
    pub(crate) fn open(folder: PathBuf, reserve_bytes: u64) -> Result<Self, Error> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        // Its name lasts before anything in it is acknowledged.
        let made = made.and_then(|()| folder.parent().map_or(Ok(()), sync_folder));
        made.map_err(|source| Error::Disk(FileError::System { act: "make a folder for", source }))?;
        let reserve = Arc::new(Reserve::new(folder.join("reserve"), reserve_bytes));
        let files = Self { folder, reserve, lasting: Arc::default() };
        files.hold_again();
        Ok(files)
    }

    /// The checkpoint as stored, if there is one.
    pub(crate) fn checkpoint(&self) -> Result<Option<String>, Error> {
        let bytes = match read_limited(&self.folder.join("checkpoint"), FILE_BYTES_MAX) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other.map_err(Error::Read)?,
        };
        let damaged = |_quotes| Error::Damaged { what: "checkpoint" };
        String::from_utf8(bytes).map(Some).map_err(damaged)
    }

    /// The keys that the log was known to have when the files were written last, oldest first: the
    /// checkpoint is by one of them. What is no key is passed over.
    pub(crate) fn keys(&self) -> Result<Vec<VerifierKey>, Error> {
        let bytes = match read_limited(&self.folder.join(KEYS), KEYS_BYTES_MAX) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            other => other.map_err(Error::Read)?,
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Keeps the keys, for the start after the last of them is lost; before a checkpoint by a new one.
    pub(crate) fn keep_keys(&self, keys: &Keys) -> Result<(), Error> {
        let lines: String = keys.all().map(|(_, key)| format!("{key}\n")).collect();
        let path = self.folder.join(KEYS);
        let kept = read_limited(&path, KEYS_BYTES_MAX);
        if kept.is_ok_and(|kept| kept == lines.as_bytes()) {
            return Ok(());
        }
        self.write_with_reserve(|| write_atomic(&path, lines.as_bytes(), MODE))
    }

    pub(crate) fn write_checkpoint(&self, note: &str) -> Result<(), Error> {
        let path = self.folder.join("checkpoint");
        self.write_with_reserve(|| write_atomic(&path, note.as_bytes(), MODE))
    }

    /// Writes, and once more with the space that is held for that where the disk is full.
    pub(crate) fn write_with_reserve(
        &self,
        write: impl Fn() -> Result<(), FileError>,
    ) -> Result<(), Error> {
        match write() {
            Err(FileError::System { source, .. })
                if reserve::is_full(&source) && self.reserve.release().unwrap_or(false) =>
            {
                write().map_err(Error::Disk)
            }
            written => {
                self.hold_again();
                written.map_err(Error::Disk)
            }
        }
    }

    /// Holds the space again that was given up, if there is room.
    fn hold_again(&self) {
        if let Err(error) = self.reserve.fill() {
            tracing::warn!(kind = ?error.kind(), "no space can be held for a full disk");
        }
    }

    /// The bytes of a file that must be there.
    pub(crate) fn read(&self, tile: &Tile) -> Result<Vec<u8>, Error> {
        self.read_if_there(tile)?.ok_or(Error::Damaged { what: "a missing tile" })
    }

    fn read_if_there(&self, tile: &Tile) -> Result<Option<Vec<u8>>, Error> {
        match read_limited(&self.path(tile), FILE_BYTES_MAX) {
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(Some).map_err(Error::Read),
        }
    }

    /// Whether any tile was ever written.
    pub(crate) fn has_tiles(&self) -> bool {
        self.folder.join("tile").exists()
    }

    /// Writes a file whole and makes it durable, with the folders above it.
    pub(crate) fn write(&self, tile: &Tile, bytes: &[u8]) -> Result<(), Error> {
        let path = self.path(tile);
        let folder = path.parent().expect("a tile lies in a folder");
        self.write_with_reserve(|| {
            self.make_lasting(folder)?;
            write_atomic(&path, bytes, MODE)
        })
    }

    /// Makes a folder of the log and those above it, and their names last. One that is there already may be
    /// what a crash left before its name was made to.
    pub(crate) fn make_lasting(&self, folder: &Path) -> Result<(), FileError> {
        let failed = |source| FileError::System { act: "make a folder for", source };
        if folder == self.folder {
            return Ok(());
        }
        let above = folder.parent().expect("it lies in the log's folder");
        self.make_lasting(above)?;
        let is_new = match fs::create_dir(folder) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(error)),
        };
        if is_new || !self.lasting().contains(folder) {
            sync_folder(above).map_err(failed)?;
            self.lasting().insert(folder.to_owned());
        }
        Ok(())
    }

    fn lasting(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.lasting.lock().expect("a panic ends the process")
    }

    /// Removes what a log of `size` entries no longer needs: partial files that a wider one replaces
    /// (c2sp.org/tlog-tiles, "partial tiles"). What stays behind harms nobody.
    pub(crate) fn sweep(&self, tile: &Tile) {
        let partial = self.partials(tile);
        let keep = tile.width.to_string();
        let removed = if tile.width == WIDTH {
            self.lasting().remove(&partial);
            fs::remove_dir_all(&partial)
        } else {
            fs::read_dir(&partial).and_then(|names| {
                for name in names {
                    let name = name?;
                    if name.file_name() != *keep {
                        fs::remove_file(name.path())?;
                    }
                }
                Ok(())
            })
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(kind = ?error.kind(), "an outgrown tile could not be removed");
            }
            _ => {}
        }
    }

    /// The folder beside the log's own files that holds what witnesses said.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn path(&self, tile: &Tile) -> PathBuf {
        self.folder.join(tile.path())
    }

    /// The folder of the partial files of a tile.
    fn partials(&self, tile: &Tile) -> PathBuf {
        let mut path = self.path(&Tile { width: WIDTH, ..*tile }).into_os_string();
        path.push(".p");
        PathBuf::from(path)
    }
}

/// Removes a file that may not be there, and makes that last.
pub(crate) fn remove_durably(path: &Path) -> Result<(), FileError> {
    let failed = |source| FileError::System { act: "remove", source };
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    match path.parent().map_or(Ok(()), sync_folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// The bundle that holds entry `seq` in a log of `size` entries.
pub(crate) fn bundle_of(seq: u64, size: u64) -> Tile {
    let index = seq / WIDTH;
    let width = (size - index * WIDTH).min(WIDTH);
    Tile { kind: Kind::Entries, index, width }
}

/// The tiles of a log of `size` entries: those that never change again, and the others.
pub(crate) fn full_and_changing(size: u64) -> (Vec<Tile>, Vec<Tile>) {
    tiles::all(size).partition(|tile| tile.width == WIDTH)
}
