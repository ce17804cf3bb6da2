//! The shelf: files by content, generations built from them, and the one pointer that says which
//! generation is served.
//!
//! ```text
//! objects/<aa>/<sha256>              whole files, 0444, named by what they hold
//! generations/<id>/manifest.json     the signed manifest, byte for byte
//! generations/<id>/tree/…            hard links to objects
//! generations/<id>/attest/<sha256>   the evidence that came with it
//! active -> generations/<id>         changed by exactly one rename(2)
//! slots/{a,b} -> ../generations/<id> what each engine holds or is about to hold
//! trial                              which release is tried out on whom, if one is
//! isolated/<sha256>                  objects that were damaged at rest
//! ```
//!
//! Everything is built aside, flushed, and named last, so that a process killed at any instant
//! leaves the old state or the new one. The shelf never decides what may lie on it, be served or be
//! swept; its caller does, and hands in the proof. It never parses what it stores.

mod durable;
mod error;
mod generations;
mod links;
mod objects;
mod scrub;

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

use cloister_domain::Digest;
use nix::fcntl::{Flock, FlockArg};

pub use error::ShelfError;
pub use generations::{Shelved, Swept};
pub use links::Active;
pub use objects::Object;
pub use scrub::Found;

use crate::durable::{make_folder, sync_folder};

/// The largest signed manifest on the shelf, in bytes (the limit of the bundle format).
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// The shelf of this appliance, open for writing. Holding one proves that no other process writes.
#[derive(Debug)]
pub struct Shelf {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Shelf {
    /// Opens the shelf under `root`, makes its folders where they are missing, and removes what an
    /// interrupted writer left half built.
    ///
    /// # Errors
    /// [`ShelfError::Held`] when another process has it open, [`ShelfError::Io`] when the disk fails.
    pub fn open(root: &Path) -> Result<Self, ShelfError> {
        for folder in
            [root.to_path_buf(), root.join("objects"), root.join("generations"), root.join("slots")]
        {
            make_folder(&folder).map_err(ShelfError::io("make a folder of the shelf"))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(root.join(".lock"))
            .map_err(ShelfError::io("open the shelf's lock"))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(
                |(_, source)| match source {
                    nix::errno::Errno::EWOULDBLOCK => ShelfError::Held,
                    other => ShelfError::Io { act: "lock the shelf", source: other.into() },
                },
            )?;
        let shelf = Self { root: root.to_path_buf(), _lock: lock };
        shelf.clear_unfinished()?;
        sync_folder(root).map_err(ShelfError::io("flush the shelf's folder"))?;
        Ok(shelf)
    }

    /// Names that begin with a dot were never finished; nothing points at them.
    fn clear_unfinished(&self) -> Result<(), ShelfError> {
        let failed = || ShelfError::io("remove what an interrupted write left");
        for folder in ["objects", "generations", "slots", "."] {
            let folder = self.root.join(folder);
            for entry in fs::read_dir(&folder).map_err(failed())? {
                let entry = entry.map_err(failed())?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if !name.starts_with('.') || name == ".lock" {
                    continue;
                }
                if entry.file_type().map_err(failed())?.is_dir() {
                    fs::remove_dir_all(entry.path()).map_err(failed())?;
                } else {
                    fs::remove_file(entry.path()).map_err(failed())?;
                }
            }
        }
        Ok(())
    }

    fn generations_folder(&self) -> PathBuf {
        self.root.join("generations")
    }

    fn object_path(&self, digest: Digest) -> PathBuf {
        let name = digest.to_string();
        let fan: String = name.chars().take(2).collect();
        self.root.join("objects").join(fan).join(name)
    }
}
