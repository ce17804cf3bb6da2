//! Space that is held by files, so that there is some when the disk is full: blocks and names for the
//! records of a rollback or of a refusal, which must be possible then too.
//!
//! A reserve is made by fallocate(2), so the blocks are its own; it is given up as a whole, and made
//! again once there is room for it and as much beside it.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};

use crate::files::sync_folder;

/// Files of a reserve: each gives back a name too, of which a file system may run out before its blocks.
const FILES: u32 = 8;

/// Space of one daemon.
#[derive(Debug)]
pub struct Reserve {
    folder: PathBuf,
    bytes: u64,
    whole: AtomicBool,
    /// Whether it could not be made, and that was said.
    failed: AtomicBool,
}

impl Reserve {
    /// The reserve of `bytes` in a folder of its own, as far as it is there; 0 is none.
    #[must_use]
    pub fn new(folder: PathBuf, bytes: u64) -> Self {
        let (whole, failed) = (AtomicBool::new(false), AtomicBool::new(false));
        let reserve = Self { folder, bytes, whole, failed };
        let size = |file: PathBuf| fs::metadata(file).map_or(0, |about| about.len());
        let whole = reserve.files().all(|file| size(file) == reserve.bytes_each());
        reserve.whole.store(whole, Ordering::SeqCst);
        reserve
    }

    /// Bytes that are to be held again; 0 while the reserve is whole.
    #[must_use]
    pub fn missing_bytes(&self) -> u64 {
        if self.whole.load(Ordering::SeqCst) { 0 } else { self.bytes }
    }

    /// Makes it, unless it is whole, where there is room for it twice; whether it is whole now.
    ///
    /// # Errors
    /// Those of the file system, such as one that cannot hold space, the first time; it is tried again each
    /// time. What was made by then is given up.
    pub fn fill(&self) -> io::Result<bool> {
        if self.missing_bytes() == 0 {
            return Ok(true);
        }
        make_folder(&self.folder)?;
        if self.free_bytes()? < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        let made = self.files().try_for_each(|file| {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(file)?;
            hold(&file, self.bytes_each())
        });
        let made = made.and_then(|()| sync_folder(&self.folder));
        if made.is_err() {
            self.release()?;
        }
        self.whole.store(made.is_ok(), Ordering::SeqCst);
        match made {
            Err(error) if !self.failed.swap(true, Ordering::SeqCst) => Err(error),
            made => Ok(made.is_ok()),
        }
    }

    /// Gives it up if less than it is free; whether it did.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn make_room(&self) -> io::Result<bool> {
        if self.bytes == 0 || self.missing_bytes() > 0 || self.free_bytes()? >= self.bytes {
            return Ok(false);
        }
        self.release()
    }

    /// Gives it up; whether there was anything.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn release(&self) -> io::Result<bool> {
        self.whole.store(self.bytes == 0, Ordering::SeqCst);
        let mut any = false;
        for file in self.files() {
            match fs::remove_file(file) {
                Ok(()) => any = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if any {
            tracing::warn!(bytes = self.bytes, "the disk is full; the space held for that is used");
        }
        Ok(any)
    }

    fn bytes_each(&self) -> u64 {
        self.bytes.div_ceil(FILES.into())
    }

    fn files(&self) -> impl Iterator<Item = PathBuf> {
        let count = if self.bytes == 0 { 0 } else { FILES };
        (0..count).map(|number| self.folder.join(number.to_string()))
    }

    /// What a user without privileges may still take.
    fn free_bytes(&self) -> io::Result<u64> {
        let about = statvfs(&self.folder)?;
        Ok(about.blocks_available().saturating_mul(about.fragment_size()))
    }
}

/// Whether an error says that the disk is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn hold(file: &File, bytes: u64) -> io::Result<()> {
    let bytes =
        i64::try_from(bytes).map_err(|_large| io::Error::from(io::ErrorKind::StorageFull))?;
    fallocate(file, FallocateFlags::empty(), 0, bytes)?;
    file.sync_all()
}

fn make_folder(folder: &std::path::Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_there) => Ok(()),
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_is_held_takes_blocks_of_the_disk_until_it_is_given_up() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("reserve");
        let reserve = Reserve::new(folder.clone(), 1 << 20);
        assert_eq!(reserve.missing_bytes(), 1 << 20);
        assert!(reserve.fill().expect("there is room"));
        assert_eq!(reserve.missing_bytes(), 0);
        let blocks = fs::read_dir(&folder)
            .expect("there")
            .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a file").blocks());
        assert!(blocks.sum::<u64>() * 512 >= 1 << 20, "no holes");
        // The next start finds it.
        assert_eq!(Reserve::new(folder.clone(), 1 << 20).missing_bytes(), 0);
        // Of another size it is made anew.
        assert_eq!(Reserve::new(folder.clone(), 2 << 20).missing_bytes(), 2 << 20);
        assert!(!reserve.make_room().expect("nothing to do"), "the disk is not full");
        assert!(reserve.release().expect("given up"));
        assert!(!reserve.release().expect("nothing left"));
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
        assert_eq!(reserve.missing_bytes(), 1 << 20);
    }

    #[test]
    fn a_reserve_that_does_not_fit_twice_is_not_made_and_one_of_nothing_is_whole() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = place.path().join("reserve");
        let huge = Reserve::new(folder.clone(), 1 << 60);
        assert!(!huge.fill().expect("there is not so much room"));
        assert_eq!(fs::read_dir(&folder).expect("there").count(), 0);
        let none = Reserve::new(place.path().join("none"), 0);
        assert_eq!(none.missing_bytes(), 0);
        assert!(none.fill().expect("nothing to do"));
        assert!(!none.make_room().expect("nothing to do"));
        assert!(!place.path().join("none").exists());
    }
}
