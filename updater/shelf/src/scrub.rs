//! Reading objects again: a bit that changed at rest is found, and what holds it is taken away.

use std::{collections::BTreeSet, fs, io, os::unix::fs::MetadataExt, path::Path};

use cloister_domain::{ByteCount, Digest, GenerationId};

use crate::{
    Object, Shelf, ShelfError, Shelved,
    durable::{make_folder, remove_all_if_there, sync_folder},
    objects::{forget, pass},
};

/// How the name of a generation begins while it is being removed.
const TAKEN_DOWN: &str = ".old-";

/// What reading an object again came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its bytes are those that its name promises; so many were read.
    Whole(ByteCount),
    /// They are others, or the disk does not give them back.
    Damaged,
    /// It is not on the shelf any more.
    Gone,
}

impl Shelf {
    /// The names of all objects, in order.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails.
    pub fn objects(&self) -> Result<Vec<Digest>, ShelfError> {
        let failed = || ShelfError::io("list the objects");
        let mut names = Vec::new();
        for fan in fs::read_dir(self.root.join("objects")).map_err(failed())? {
            let fan = fan.map_err(failed())?.path();
            if !fan.is_dir() {
                continue;
            }
            let listing = match fs::read_dir(&fan) {
                // A sweep has emptied and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                listing => listing.map_err(failed())?,
            };
            for entry in listing {
                let name = entry.map_err(failed())?.file_name();
                names.extend(name.to_str().and_then(|name| name.parse::<Digest>().ok()));
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads the object `digest` again, from the disk where nothing uses it, and tells `each` how many bytes
    /// were read at a time; `each` may wait, and ends the reading by an error.
    ///
    /// # Errors
    /// [`ShelfError::Io`] with the error of `each`, and when the disk fails otherwise than by not giving
    /// back what was written.
    pub fn read_again(
        &self,
        digest: Digest,
        mut each: impl FnMut(usize) -> io::Result<()>,
    ) -> Result<Found, ShelfError> {
        let path = self.object_path(digest);
        let bytes = match fs::symlink_metadata(&path) {
            Ok(about) => ByteCount(about.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            Err(source) => return Err(ShelfError::Io { act: "look for an object", source }),
        };
        let mut file = match self.open_object(&Object::named(digest, bytes)) {
            Err(ShelfError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Found::Gone);
            }
            file => file?,
        };
        // What an engine has mapped stays in memory; the rest is asked of the disk, and makes no room for
        // itself by pushing out what others read.
        forget(&file);
        let mut stopped = None;
        let read = pass(&mut file, bytes, |piece| {
            each(piece.len()).map_err(|error| {
                stopped = Some(error);
                io::ErrorKind::Interrupted.into()
            })
        });
        forget(&file);
        if let Some(source) = stopped {
            return Err(ShelfError::Io { act: "read an object again", source });
        }
        match read {
            Ok(found) if found == digest => Ok(Found::Whole(bytes)),
            Ok(_other) => Ok(Found::Damaged),
            Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Ok(Found::Damaged),
            Err(source) => Err(ShelfError::Io { act: "read an object again", source }),
        }
    }

    /// The generations whose trees hold the object `digest`.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails.
    pub fn holders(&self, digest: Digest) -> Result<BTreeSet<GenerationId>, ShelfError> {
        self.holders_of(&self.object_path(digest))
    }

    /// The objects that were isolated, each with the generations whose trees hold it still.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails.
    pub fn isolated(&self) -> Result<Vec<(Digest, BTreeSet<GenerationId>)>, ShelfError> {
        let failed = || ShelfError::io("list what was isolated");
        let listing = match fs::read_dir(self.root.join("isolated")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(failed())?,
        };
        let mut isolated = Vec::new();
        for entry in listing {
            let entry = entry.map_err(failed())?;
            if let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                isolated.push((digest, self.holders_of(&entry.path())?));
            }
        }
        Ok(isolated)
    }

    fn holders_of(&self, object: &Path) -> Result<BTreeSet<GenerationId>, ShelfError> {
        let failed = || ShelfError::io("look for who holds an object");
        let about = fs::symlink_metadata(object).map_err(failed())?;
        let mut holders = BTreeSet::new();
        for generation in self.list()? {
            if holds(generation.directory(), about.ino()).map_err(failed())? {
                holders.insert(generation.id());
            }
        }
        Ok(holders)
    }

    /// Takes a damaged object off the shelf, so that nothing is built from it any more; it is kept in
    /// `isolated/` for whoever wants to know what happened to it. Trees that hold it still do.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails; the object is then where it was, or isolated already, until
    /// a power cut perhaps.
    pub fn isolate(&self, digest: Digest) -> Result<(), ShelfError> {
        let failed = || ShelfError::io("isolate an object");
        let aside = self.root.join("isolated");
        make_folder(&aside).map_err(failed())?;
        let path = self.object_path(digest);
        fs::rename(&path, aside.join(digest.to_string())).map_err(failed())?;
        sync_folder(path.parent().expect("an object lies in a folder")).map_err(failed())?;
        sync_folder(&aside).map_err(failed())
    }

    /// Takes one generation off the shelf. Its pointers are the caller's to move first.
    ///
    /// # Errors
    /// [`ShelfError::Io`] when the disk fails; what is left half removed goes with the next sweep.
    pub fn take_down(&self, generation: &Shelved) -> Result<(), ShelfError> {
        let failed = || ShelfError::io("take a generation off the shelf");
        // One rename takes it off the shelf; what follows may be interrupted.
        let aside = self.generations_folder().join(format!("{TAKEN_DOWN}{}", generation.id()));
        remove_all_if_there(&aside).map_err(failed())?;
        fs::rename(generation.directory(), &aside).map_err(failed())?;
        sync_folder(&self.generations_folder()).map_err(failed())?;
        fs::remove_dir_all(&aside).map_err(failed())
    }

    /// Removes what is left of generations that were taken off: its links keep their objects.
    pub(crate) fn clear_taken_down(&self) -> Result<(), ShelfError> {
        let failed = || ShelfError::io("remove what is left of a generation");
        for entry in fs::read_dir(self.generations_folder()).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name().to_string_lossy().starts_with(TAKEN_DOWN) {
                remove_all_if_there(&entry.path()).map_err(failed())?;
            }
        }
        Ok(())
    }
}

/// Whether a file below `folder` is the inode `ino`.
fn holds(folder: &Path, ino: u64) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = fs::symlink_metadata(entry.path())?;
        let held = if about.is_dir() { holds(&entry.path(), ino)? } else { about.ino() == ino };
        if held {
            return Ok(true);
        }
    }
    Ok(false)
}
