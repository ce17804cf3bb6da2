//! Reading within bounds, and writing so that a file is there whole or not at all. Every error names its
//! file ([`FileError`]).

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail, ensure};
use cloister_domain::ByteCount;

use crate::error::FileError;

/// How the name of a file ends that is not complete.
const PARTIAL: &str = ".partial";
/// How the name of a folder begins in which files wait for each other.
pub(crate) const STAGED: &str = ".partial-";

/// A file whose errors say its path, through whatever reads or writes it.
#[derive(Debug)]
pub(crate) struct Named {
    file: File,
    path: PathBuf,
}

impl Named {
    /// `file`, called `path` where something fails.
    pub(crate) fn new(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned() }
    }

    /// The file itself.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// Cuts the file off after `bytes`.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn set_len(&self, bytes: u64) -> Result<()> {
        Ok(self.file.set_len(bytes).map_err(|cause| FileError::writing(&self.path, cause))?)
    }

    fn named(&self, cause: io::Error, name: fn(&Path, io::Error) -> FileError) -> io::Error {
        // Whoever reads on after an interruption looks at the kind.
        io::Error::new(cause.kind(), name(&self.path, cause))
    }
}

impl Read for Named {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).map_err(|cause| self.named(cause, FileError::reading))
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|cause| self.named(cause, FileError::writing))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|cause| self.named(cause, FileError::writing))
    }
}

impl Seek for Named {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to).map_err(|cause| self.named(cause, FileError::reading))
    }
}

/// Opens a file for reading; a folder is refused at once.
pub(crate) fn open(path: &Path) -> Result<Named> {
    let read = |cause| FileError::reading(path, cause);
    let file = File::open(path).map_err(read)?;
    let is_folder = file.metadata().map_err(read)?.is_dir();
    ensure!(!is_folder, FileError::Folder { path: path.to_owned() });
    Ok(Named::new(file, path))
}

/// Reads a whole file of at most `bytes_max` bytes.
pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let bytes = read_start(path, bytes_max.saturating_add(1))?;
    let max = ByteCount(bytes_max);
    ensure!(bytes.len() as u64 <= bytes_max, FileError::TooLarge { path: path.to_owned(), max });
    Ok(bytes)
}

/// Reads at most `bytes` bytes from the start of a file.
pub(crate) fn read_start(path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let mut start = Vec::new();
    open(path)?.take(bytes).read_to_end(&mut start)?;
    Ok(start)
}

/// Whether something is called `path`; what cannot be told is an error.
pub(crate) fn exists(path: &Path) -> Result<bool> {
    Ok(fs::exists(path).map_err(|cause| FileError::reading(path, cause))?)
}

/// A file that stands complete beside its place. It is taken away again unless it is [placed](Self::place),
/// so that several files can be written before any of them shows.
#[derive(Debug)]
pub(crate) struct Pending {
    partial: PathBuf,
    path: PathBuf,
}

impl Pending {
    /// Writes the file and waits until the disk has it.
    pub(crate) fn write(
        path: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Self> {
        ensure!(!path.is_dir(), FileError::Folder { path: path.to_owned() });
        let mut partial = path.as_os_str().to_owned();
        partial.push(PARTIAL);
        let failed = |cause| FileError::writing(path, cause);
        let file = File::create(&partial).map_err(failed)?;
        // From here on it is taken away.
        let pending = Self { partial: partial.into(), path: path.to_owned() };
        let mut out = BufWriter::with_capacity(1 << 20, Named::new(file, path));
        write(&mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?.file;
        file.sync_all().map_err(failed)?;
        Ok(pending)
    }

    /// Where the file will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in its place, over what was there.
    pub(crate) fn place(self) -> Result<()> {
        let renamed = fs::rename(&self.partial, &self.path);
        Ok(renamed.map_err(|cause| FileError::writing(&self.path, cause))?)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Once placed there is none.
        fs::remove_file(&self.partial).unwrap_or_default();
    }
}

/// Writes `path` by way of a neighbour that is renamed when it is complete.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    Pending::write(path, write)?.place()
}

/// A folder that is there now. What was made for it is taken away again if nothing came to lie in it.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The innermost first.
    made: Vec<PathBuf>,
}

impl Folder {
    /// Makes the folder at `path` and its parents, as far as they are not there.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let named = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(named).map(Path::to_owned).collect();
        let folder = Self { made };
        match fs::create_dir_all(path) {
            Err(_) if path.exists() && !path.is_dir() => {
                bail!(FileError::NoFolder { path: path.to_owned() })
            }
            result => result.map_err(|cause| FileError::writing(path, cause))?,
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        for folder in &self.made {
            // One in which something lies stays.
            fs::remove_dir(folder).unwrap_or_default();
        }
    }
}

/// All regular files under `root` with their paths relative to it, `/` between components, ascending
/// by bytes. A link or anything else that is no file and no folder is refused, and so is what a killed
/// command left behind.
pub(crate) fn walk(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let at = if folder.is_empty() { root.to_owned() } else { root.join(&folder) };
        let read = |cause| FileError::reading(&at, cause);
        for entry in fs::read_dir(&at).map_err(read)? {
            let entry = entry.map_err(read)?;
            let Ok(name) = entry.file_name().into_string() else {
                bail!(FileError::Name { path: at });
            };
            let unfinished = name.ends_with(PARTIAL) || name.starts_with(STAGED);
            ensure!(!unfinished, FileError::Unfinished { path: at.join(name) });
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let kind = entry.file_type().map_err(read)?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                found.push(path);
            } else {
                bail!(FileError::Kind { path: root.join(&path) });
            }
        }
    }
    found.sort();
    Ok(found)
}
