//! A database's write-ahead log as an outsider reads it (sqlite.org/fileformat2.html, section 4): how much of
//! it counts. What lies behind that is as good as nothing, so states that differ there alone are one to the
//! database.

use std::sync::Arc;

use crate::bytes::{BLOCK, Block, Bytes};

/// Bytes of the log's head, and of each frame's.
const HEAD: usize = 32;
const FRAME: usize = 24;

/// Reads logs one after the other; of one that begins as the one before did, only the rest.
#[derive(Debug, Default)]
pub(crate) struct WalReader {
    blocks: Vec<Option<Arc<Block>>>,
    head: Option<Head>,
    frames: Vec<Frame>,
}

/// What the log's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    big_endian: bool,
    page: usize,
    salt: [u8; 8],
    sum: (u32, u32),
}

/// A frame that is whole and follows whole ones.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// The checksum over everything up to it.
    sum: (u32, u32),
    commits: bool,
}

/// What of a log counts: two with the same mean the same to the same database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counts {
    /// Frames up to the last that commits.
    pub(crate) frames: usize,
    salt: [u8; 8],
    sum: (u32, u32),
}

impl WalReader {
    /// What of `log` counts.
    pub(crate) fn read(&mut self, log: &Bytes) -> Counts {
        let same = |(old, new): &(&Option<Arc<Block>>, &Option<Arc<Block>>)| match (old, new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        let known = self.blocks.iter().zip(log.blocks()).take_while(same).count() * BLOCK;
        if known < HEAD || self.head.is_none() {
            self.head = head(&piece(log, 0, HEAD));
            self.frames.clear();
        }
        self.blocks = log.blocks().to_vec();
        let Some(head) = self.head else { return Counts::default() };
        let size = FRAME + head.page;
        self.frames.truncate(known.saturating_sub(HEAD) / size);
        while HEAD + (self.frames.len() + 1) * size <= log.len() {
            let bytes = piece(log, HEAD + self.frames.len() * size, size);
            let before = self.frames.last().map_or(head.sum, |frame| frame.sum);
            let Some(frame) = frame(&bytes, &head, before) else { break };
            self.frames.push(frame);
        }
        let last = self.frames.iter().rposition(|frame| frame.commits);
        let counts =
            |last: usize| Counts { frames: last + 1, salt: head.salt, sum: self.frames[last].sum };
        last.map_or_else(Counts::default, counts)
    }
}

/// So many bytes from a place on; fewer at the end.
fn piece(log: &Bytes, from: usize, count: usize) -> Vec<u8> {
    let end = (from + count).min(log.len());
    let mut bytes = Vec::with_capacity(count);
    for at in from / BLOCK..end.div_ceil(BLOCK) {
        let block = log.blocks()[at].as_ref().map_or(&[0; BLOCK], |block| block.bytes());
        let first = from.saturating_sub(at * BLOCK);
        bytes.extend_from_slice(&block[first..(end - at * BLOCK).min(BLOCK)]);
    }
    bytes
}

fn head(bytes: &[u8]) -> Option<Head> {
    let magic = number(bytes, 0)?;
    let big_endian = magic & 1 == 1;
    if magic & !1 != 0x377f_0682 || number(bytes, 4)? != 3_007_000 {
        return None;
    }
    let page = usize::try_from(number(bytes, 8)?).ok()?;
    let sum = summed(bytes.get(..24)?, big_endian, (0, 0));
    let salt = bytes.get(16..24)?.try_into().ok()?;
    let whole = page.is_power_of_two() && sum == (number(bytes, 24)?, number(bytes, 28)?);
    (whole && (512..=65536).contains(&page)).then_some(Head { big_endian, page, salt, sum })
}

fn frame(bytes: &[u8], head: &Head, before: (u32, u32)) -> Option<Frame> {
    let sum = summed(bytes.get(..8)?, head.big_endian, before);
    let sum = summed(bytes.get(FRAME..)?, head.big_endian, sum);
    let whole = number(bytes, 0)? != 0
        && bytes.get(8..16)? == head.salt
        && sum == (number(bytes, 16)?, number(bytes, 20)?);
    whole.then_some(Frame { sum, commits: number(bytes, 4)? != 0 })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The checksum over `bytes`, of which there are a multiple of eight, from `before` on (section 4.2).
fn summed(bytes: &[u8], big_endian: bool, before: (u32, u32)) -> (u32, u32) {
    let word = |bytes: [u8; 4]| {
        if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    };
    let (pairs, _rest) = bytes.as_chunks::<8>();
    pairs.iter().fold(before, |(first, second), [a, b, c, d, e, f, g, h]| {
        let first = first.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(second);
        (first, second.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(first))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;
    use crate::tree::read;

    /// How many rows the database has that is `path` with this log.
    fn rows(path: &std::path::Path, log: &[u8]) -> i64 {
        let scratch = tempfile::tempdir().unwrap();
        let copy = scratch.path().join("db");
        fs::copy(path, &copy).unwrap();
        fs::write(scratch.path().join("db-wal"), log).unwrap();
        let database = Connection::open(copy).unwrap();
        database.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn what_counts_is_what_sqlite_counts() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("db");
        let database = Connection::open(&path).unwrap();
        let begin = "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x);
                     PRAGMA wal_checkpoint(TRUNCATE);";
        database.execute_batch(begin).unwrap();
        let mut ends = vec![Counts::default()];
        let log = scratch.path().join("db-wal");
        for row in 0..12 {
            let many = "INSERT INTO t SELECT zeroblob(?1) FROM (VALUES (1))";
            database.execute(many, [row * 900]).unwrap();
            ends.push(WalReader::default().read(&Bytes::of(&read(&log).unwrap())));
        }
        let whole = read(&log).unwrap();
        assert_eq!(ends.iter().collect::<std::collections::BTreeSet<_>>().len(), 13);
        // Torn anywhere, what counts is one of these ends, and SQLite finds as many rows.
        let (mut dice, mut reader) = (cloister_stage::Dice::new(3), WalReader::default());
        let mut found = std::collections::BTreeSet::new();
        for _cut in 0..60 {
            let mut torn = whole.clone();
            let at = dice.below(torn.len());
            if dice.below(2) == 0 {
                torn.truncate(at)
            } else {
                torn[at] ^= 1
            }
            let counts = reader.read(&Bytes::of(&torn));
            let committed = ends.iter().position(|end| *end == counts).unwrap();
            assert_eq!(rows(&path, &torn), i64::try_from(committed).unwrap(), "at {at}");
            found.insert(committed);
        }
        assert!(found.len() > 8, "{found:?}");
        // One that shares its first blocks with the one before is read from there on.
        let bytes = Bytes::of(&whole);
        assert_eq!(reader.read(&bytes), ends[12]);
        let mut shorter = bytes.clone();
        shorter.write(whole.len() - 1, &[whole[whole.len() - 1] ^ 1]);
        assert_eq!(reader.read(&shorter), ends[11]);
        assert_eq!(reader.read(&bytes), ends[12]);
    }
}
