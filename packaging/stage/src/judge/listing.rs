//! Every file below a folder, so that what an import wrote is seen wherever it fell.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// The appliance's own books, below its folder: log, supply database, trust metadata that holds whatever
/// came with it, space that is held, daemons' journals and sockets. An import that is refused grows
/// these and nothing else.
pub(super) const BOOKS: [&str; 8] = [
    "appliance/state/record/",
    "appliance/state/trust/",
    "appliance/state/reserve/",
    "appliance/state/supply.db",
    "appliance/state/supply.db-shm",
    "appliance/state/supply.db-wal",
    "appliance/log/",
    "appliance/run/",
];

/// Where an import may write.
const QUARANTINE: &str = "appliance/state/quarantine/";

/// What is compared of a file: a write changes one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    bytes: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files, links and other things that are not folders.
#[derive(Clone, Debug)]
pub(super) struct Listing(BTreeMap<String, Seen>);

/// What differs between two listings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) outside_bytes: u64,
    pub(super) books_bytes: u64,
}

impl Listing {
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut seen = BTreeMap::new();
        let mut waiting: Vec<PathBuf> = vec![folder.to_owned()];
        while let Some(at) = waiting.pop() {
            for entry in fs::read_dir(&at)? {
                let path = entry?.path();
                // A database's side file may vanish while it is looked at.
                let Ok(about) = fs::symlink_metadata(&path) else { continue };
                let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                if about.is_dir() {
                    seen.insert(
                        name + "/",
                        Seen { bytes: 1, inode: 0, modified: (0, 0), changed: (0, 0) },
                    );
                    waiting.push(path);
                    continue;
                }
                let of = Seen {
                    // What is empty is something too.
                    bytes: about.len().max(1),
                    inode: about.ino(),
                    modified: (about.mtime(), about.mtime_nsec()),
                    changed: (about.ctime(), about.ctime_nsec()),
                };
                seen.insert(name, of);
            }
        }
        Ok(Self(seen))
    }

    /// What is new or different in `after`: a file counts with all its bytes, in the books with those
    /// by which it grew.
    pub(super) fn changes(&self, after: &Self) -> Changes {
        let mut changes = Changes::default();
        for (name, now) in &after.0 {
            let before = self.0.get(name);
            if before == Some(now) || name.starts_with(QUARANTINE) {
                continue;
            }
            if BOOKS
                .iter()
                .any(|book| name == book || (book.ends_with('/') && name.starts_with(book)))
            {
                let had = before.map_or(0, |before| before.bytes);
                changes.books_bytes += now.bytes.saturating_sub(had);
            } else {
                changes.outside_bytes += now.bytes;
            }
        }
        // What was taken away was written to as well.
        let gone = self.0.iter().filter(|(name, _)| {
            !after.0.contains_key(*name)
                && !name.starts_with(QUARANTINE)
                && !BOOKS.iter().any(|book| name.starts_with(book))
        });
        changes.outside_bytes += gone.map(|(_, before)| before.bytes).sum::<u64>();
        changes
    }

    /// Bytes in quarantine, a folder counting as one.
    pub(super) fn quarantined_bytes(&self) -> u64 {
        let inside = self
            .0
            .iter()
            .filter(|(name, _)| name.strip_prefix(QUARANTINE).is_some_and(|rest| !rest.is_empty()));
        inside.map(|(_, seen)| seen.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_seen_wherever_it_falls() {
        let folder = tempfile::tempdir().expect("a folder");
        let put = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
            fs::write(path, bytes).expect("written");
        };
        for name in ["state/record/log", "state/quarantine/1/files/0.part", "state/other"] {
            put(&format!("appliance/{name}"), b"12345");
        }
        let listing = || Listing::of(folder.path()).expect("listed");
        let before = listing();
        assert_eq!(before.changes(&listing()), Changes::default());
        assert_eq!(before.quarantined_bytes(), 5 + 2);
        put("appliance/state/record/log", b"1234567");
        put("appliance/state/quarantine/1/files/1.part", b"123");
        assert_eq!(before.changes(&listing()), Changes { outside_bytes: 0, books_bytes: 2 });
        put("appliance/state/other", b"54321");
        assert_eq!(before.changes(&listing()).outside_bytes, 5);
        let before = listing();
        put("beside", b"");
        fs::remove_file(folder.path().join("appliance/state/other")).expect("removed");
        assert_eq!(before.changes(&listing()).outside_bytes, 1 + 5);
    }
}
