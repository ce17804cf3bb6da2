//! The journal: the rounds that are durable and not yet in the log's files.
//!
//! A file whose length and name stay, so that a round costs one fdatasync(2) and nothing beside it. A
//! round begins at a block of its own: what was acknowledged is never written again until the log's
//! files hold it. Once they do, the next round begins at the file's beginning, over what is stale.
//!
//! A round: `CLROUND1`; position of its first entry, a u64; number of entries, a u32; bytes of the bundle
//! that follows, a u32; the entries as an entry bundle; SHA-256 of all that. Integers are big-endian.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use cloister_daemon::files::{FileError, copy_atomic, read_limited};
use cloister_domain::Digest;
use cloister_record::tiles;

use crate::RecorddError as Error;

/// What a round begins with.
const MAGIC: &[u8; 8] = b"CLROUND1";

/// Bytes of a block. Devices write whole ones, and a torn one must not hold what was acknowledged.
const BLOCK: usize = 4096;

/// Bytes that the file has from the beginning. Some thousand rounds of one entry go on when the disk is
/// full and the log's files cannot be written.
const BYTES: u64 = 4 << 20;

/// Where no further round begins; the log's files come first.
const FULL: u64 = 16 << 20;

/// The longest file: one round beyond [`FULL`], of 257 entries of 48 KiB.
const BYTES_MAX: u64 = 32 << 20;

/// Bytes before a round's entries, and of the digest behind them.
const HEAD: usize = 24;
const SUM: usize = 32;

/// Mode of the file.
const MODE: u32 = 0o644;

/// The journal of a log.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    pub(crate) file: File,
    /// Where the next round begins.
    end: u64,
    /// Whether a round was refused that may lie there all the same. The file is then written no more.
    failed: bool,
}

/// A round as the journal holds it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Round<'a> {
    /// Position of its first entry.
    pub(crate) first: u64,
    pub(crate) entries: Vec<&'a [u8]>,
    /// Bytes of its blocks.
    length: usize,
}

impl Round<'_> {
    /// The position after its last entry.
    fn end(&self) -> u64 {
        self.first.saturating_add(self.entries.len() as u64)
    }
}

impl Journal {
    /// The journal at `path` and its bytes. It is made for a log that is `new`; every other has one, of its
    /// whole length, and without it nobody knows which entries were answered.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or was cut short, [`Error::Read`] and [`Error::Disk`].
    pub(crate) fn open(path: PathBuf, new: bool) -> Result<(Self, Vec<u8>), Error> {
        let bytes = match read_limited(&path, BYTES_MAX) {
            Err(error) if error.is_not_found() && new => {
                write_empty(&path).map_err(Error::Disk)?;
                read_limited(&path, BYTES_MAX).map_err(Error::Read)?
            }
            Err(error) if error.is_not_found() => {
                return Err(Error::Damaged { what: "the journal is missing" });
            }
            bytes => bytes.map_err(Error::Read)?,
        };
        if (bytes.len() as u64) < BYTES {
            return Err(Error::Damaged { what: "the journal was cut short" });
        }
        let file = open_file(&path).map_err(Error::Disk)?;
        Ok((Self { path, file, end: 0, failed: false }, bytes))
    }

    /// Makes the rounds of `bytes` durable that [`Journal::replay`] found. They were read, perhaps from
    /// memory that the disk never got: after a write that failed, a sync alone says that all is well.
    ///
    /// # Errors
    /// [`Error::Disk`].
    pub(crate) fn write_taken(&self, bytes: &[u8]) -> Result<(), Error> {
        let taken = usize::try_from(self.end).ok().and_then(|end| bytes.get(..end));
        let taken = taken.expect("what was taken is of these bytes");
        let written = self.file.write_all_at(taken, 0).and_then(|()| self.file.sync_data());
        written.map_err(|source| Error::Disk(FileError::System { act: "write", source }))
    }

    /// The rounds of `bytes` that go on from a log of `settled` entries; the next one follows them.
    ///
    /// # Errors
    /// [`Error::Damaged`] if a round is missing before one that is there.
    pub(crate) fn replay<'a>(
        &mut self,
        bytes: &'a [u8],
        settled: u64,
    ) -> Result<Vec<Round<'a>>, Error> {
        let (mut rounds, mut at) = (Vec::<Round<'_>>::new(), 0);
        while let Some(round) = bytes.get(at..).and_then(round)
            && rounds.last().is_none_or(|before| before.end() == round.first)
        {
            at += round.length;
            rounds.push(round);
        }
        // Rounds that the files hold are stale, and so are all when the last of them is.
        let end = rounds.last().map_or(0, Round::end).max(settled);
        let gap = rounds.first().is_some_and(|first| first.first > settled);
        let further = (at..bytes.len()).step_by(BLOCK).filter_map(|at| bytes.get(at..));
        if gap || further.filter_map(round).any(|round| round.end() > end) {
            return Err(Error::Damaged { what: "the journal" });
        }
        rounds.retain(|round| round.end() > settled);
        self.end = if rounds.is_empty() { 0 } else { at as u64 };
        Ok(rounds)
    }

    /// Makes a round durable that begins at position `first`.
    ///
    /// # Errors
    /// [`Error::Disk`]; the round may be there all the same after a power cut, and the journal is
    /// [`Journal::renew`]ed before it takes another.
    pub(crate) fn append<E: AsRef<[u8]>>(
        &mut self,
        first: u64,
        entries: &[E],
    ) -> Result<(), Error> {
        let bundle = tiles::bundle(entries).map_err(Error::Entry)?;
        let mut bytes = Vec::with_capacity(HEAD + bundle.len() + SUM);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&first.to_be_bytes());
        for count in [entries.len(), bundle.len()] {
            let count = u32::try_from(count).expect("a round has 257 entries of 48 KiB at most");
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes.extend_from_slice(&bundle);
        bytes.extend_from_slice(Digest::of(&bytes).as_bytes());
        let written = self.file.write_all_at(&bytes, self.end).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.failed = true;
            // What was refused is not there any more for whoever reads the file while this machine runs; a
            // disk that does not take this either, or a power cut, may keep it.
            let taken_back = self.file.write_all_at(&[0; HEAD], self.end);
            taken_back.and_then(|()| self.file.sync_data()).unwrap_or_default();
            return Err(Error::Disk(FileError::System { act: "write", source }));
        }
        self.end += blocks(bytes.len()) as u64;
        Ok(())
    }

    /// Whether it can take no round before it was renewed.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether it can take no round before the log's files hold what it has.
    pub(crate) const fn is_full(&self) -> bool {
        self.end >= FULL
    }

    /// Begins again at the beginning, once the log's files hold every round.
    pub(crate) const fn begin_again(&mut self) {
        self.end = 0;
    }

    /// Has the next round written where the one was that failed last, whole, and synced with it. For a log
    /// whose files cannot take up what the journal has: nothing but that round is of no account.
    pub(crate) const fn write_again(&mut self) {
        self.failed = false;
    }

    /// Puts an empty file in place of one that failed, once the log's files hold every round that was
    /// answered: what the failed one was given last is then gone.
    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        write_empty(&self.path).map_err(Error::Disk)?;
        self.file = open_file(&self.path).map_err(Error::Disk)?;
        self.end = 0;
        self.failed = false;
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|source| FileError::System { act: "open", source })
}

/// Writes zeros, rather than a file with a hole: the first write to a block must not need space.
fn write_empty(path: &Path) -> Result<(), FileError> {
    copy_atomic(path, &mut io::repeat(0).take(BYTES), MODE)
}

/// `length` in whole blocks.
const fn blocks(length: usize) -> usize {
    length.next_multiple_of(BLOCK)
}

/// The round at the beginning of `bytes`, if it is whole.
fn round(bytes: &[u8]) -> Option<Round<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<8>()?;
    let (first, rest) = rest.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let bundle = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (summed, rest) = bytes.split_at_checked(HEAD + bundle.len())?;
    let sum = rest.first_chunk::<SUM>()?;
    if magic != MAGIC || Digest::of(summed).as_bytes() != sum {
        return None;
    }
    let entries = tiles::entries(bundle, u32::from_be_bytes(*count).into()).ok()?;
    let length = blocks(HEAD + bundle.len() + SUM);
    Some(Round { first: u64::from_be_bytes(*first), entries, length })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entries(round: u64, count: u64) -> Vec<Vec<u8>> {
        (0..count).map(|one| format!("entry {one} of {round}").into_bytes()).collect()
    }

    /// Positions and numbers of entries of the rounds that a log of `settled` entries goes on with.
    fn rounds(path: &Path, settled: u64) -> Result<Vec<(u64, usize)>, &'static str> {
        let (mut journal, bytes) = Journal::open(path.to_owned(), true).expect("a journal");
        match journal.replay(&bytes, settled) {
            Ok(rounds) => Ok(rounds.iter().map(|one| (one.first, one.entries.len())).collect()),
            Err(Error::Damaged { what }) => Err(what),
            Err(other) => panic!("{other}"),
        }
    }

    struct Kept {
        folder: tempfile::TempDir,
        path: PathBuf,
        journal: Journal,
    }

    fn kept(first: u64, counts: &[u64]) -> Kept {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(path.clone(), true).expect("a journal");
        let mut at = first;
        for count in counts {
            journal.append(at, &entries(at, *count)).expect("written");
            at += count;
        }
        Kept { folder, path, journal }
    }

    #[test]
    fn rounds_return_in_their_order_and_the_next_follows_them() {
        let Kept { path, folder: _folder, .. } = kept(5, &[1, 3, 200]);
        assert_eq!(rounds(&path, 5), Ok(vec![(5, 1), (6, 3), (9, 200)]));
        let (mut journal, bytes) = Journal::open(path.clone(), true).expect("a journal");
        let found = journal.replay(&bytes, 5).expect("whole");
        assert_eq!(found[1].entries[2], b"entry 2 of 6");
        journal.append(209, &entries(209, 1)).expect("written");
        assert_eq!(rounds(&path, 5).expect("whole").last(), Some(&(209, 1)));
        assert_eq!(fs::metadata(&path).expect("there").len(), BYTES, "its length stays");
    }

    #[test]
    fn what_the_files_hold_is_stale() {
        let Kept { path, mut journal, folder: _folder } = kept(5, &[1, 3, 2]);
        assert_eq!(rounds(&path, 11), Ok(vec![]));
        assert_eq!(rounds(&path, 300), Ok(vec![]));
        // The files' last step was cut short: they hold some of the rounds.
        assert_eq!(rounds(&path, 9), Ok(vec![(9, 2)]));
        // The next round lies over the first, and the others are of no account any more.
        journal.begin_again();
        journal.append(11, &entries(11, 2)).expect("written");
        assert_eq!(rounds(&path, 11), Ok(vec![(11, 2)]));
    }

    #[test]
    fn a_last_round_that_was_cut_short_is_none_and_a_gap_is_damage() {
        let Kept { path, folder: _folder, .. } = kept(5, &[1, 3, 2]);
        let whole = read_limited(&path, BYTES_MAX).expect("there");
        for (block, place, found) in [
            (2, 40, Ok(vec![(5, 1), (6, 3)])),
            (2, 0, Ok(vec![(5, 1), (6, 3)])),
            (2, 23, Ok(vec![(5, 1), (6, 3)])),
            (1, 40, Err("the journal")),
            (0, 9, Err("the journal")),
        ] {
            let mut torn = whole.clone();
            torn[block * BLOCK + place] ^= 1;
            fs::write(&path, torn).expect("written");
            assert_eq!(rounds(&path, 5), found, "byte {place} of block {block}");
        }
        // Every length that a torn write may leave of the last round.
        let last = whole.iter().rposition(|byte| *byte != 0).expect("a round");
        for length in 2 * BLOCK..last {
            let found = round(&whole[2 * BLOCK..length]);
            assert_eq!(found, None, "{length}");
        }
        let parts = [&whole[..BLOCK], &whole[2 * BLOCK..], &[0; BLOCK]].concat();
        fs::write(&path, parts).expect("written");
        assert_eq!(rounds(&path, 5), Err("the journal"), "entries 6 to 8 are nowhere");
        fs::write(&path, &whole).expect("written");
        assert_eq!(rounds(&path, 4), Err("the journal"), "entry 4 is nowhere");
    }

    #[test]
    fn a_round_that_failed_is_gone_once_the_journal_is_renewed() {
        let Kept { path, mut journal, folder } = kept(5, &[1]);
        // Refused by the kernel, and there all the same.
        let good = std::mem::replace(&mut journal.file, File::open(&path).expect("to read only"));
        assert!(journal.append(6, &entries(6, 1)).is_err() && journal.has_failed());
        let mut bytes = read_limited(&path, BYTES_MAX).expect("there");
        let frame = bytes[..BLOCK].to_vec();
        bytes[BLOCK..2 * BLOCK].copy_from_slice(&frame);
        fs::write(&path, bytes).expect("written");
        drop(good);
        let obstacle = folder.path().join(".journal.new");
        fs::create_dir(&obstacle).expect("made");
        assert!(journal.renew().is_err() && journal.has_failed());
        fs::remove_dir(&obstacle).expect("removed");
        journal.renew().expect("renewed");
        assert!(!journal.has_failed());
        assert_eq!(rounds(&path, 6), Ok(vec![]));
        journal.append(6, &entries(6, 2)).expect("written");
        assert_eq!(rounds(&path, 6), Ok(vec![(6, 2)]));
    }
}
