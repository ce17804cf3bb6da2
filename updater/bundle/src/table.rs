//! The chunk index of somebody else, read where it lies: its size is the release's, not the machine's.

use std::{collections::VecDeque, io, ops::Range, os::unix::fs::FileExt};

use crate::{
    BundleError, Chunk, FileEntry, VolumeHead,
    index::{CHUNK_BYTES, Cover, HEAD_BYTES, Sums, decode, wide},
};

/// Chunks read at a time, some 50 KiB of the table.
const WINDOW_CHUNKS: u64 = 512;

/// A table that covers the files of one manifest exactly, as [`Index`] does, in a file that is read
/// anew for each use. Memory is bounded by a constant.
///
/// [`Index`]: crate::Index
#[derive(Debug)]
pub struct Table<F> {
    file: F,
    sums: Sums,
}

/// A table that is not one, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// It breaks a rule of the format.
    #[error(transparent)]
    Form(#[from] BundleError),
    /// The file could not be read.
    #[error("the index could not be read where it was set aside")]
    Read(#[source] io::Error),
}

impl<F: FileExt> Table<F> {
    /// Reads the table of `bytes` bytes in `file`, of the release with these files, to its end. The
    /// caller compares the bytes' digest with the signed one first, and nobody changes them later.
    ///
    /// # Errors
    /// [`TableError`].
    pub fn open(file: F, bytes: u64, files: &[FileEntry]) -> Result<Self, TableError> {
        if bytes < wide(HEAD_BYTES) {
            return Err(BundleError::Index { chunk: 0 }.into());
        }
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(TableError::Read)?;
        let table = Self { file, sums: Sums::of_head(&head, bytes)? };
        let mut cover = Cover::of(files);
        for chunk in table.chunks() {
            cover.take(&chunk?)?;
        }
        cover.end()?.agree(table.sums)?;
        Ok(table)
    }

    /// All chunks, in the order of their members.
    #[must_use]
    pub fn chunks(&self) -> Chunks<'_, F> {
        self.of(0..self.sums.chunks)
    }

    /// The chunks of these numbers, as far as there are any.
    #[must_use]
    pub fn chunks_in(&self, numbers: Range<u64>) -> Chunks<'_, F> {
        let end = numbers.end.min(self.sums.chunks);
        self.of(numbers.start.min(end)..end)
    }

    /// The chunks of the volume that `head` describes.
    ///
    /// # Errors
    /// [`BundleError::HeadRange`] if it describes none of this release.
    pub fn of_volume(&self, head: &VolumeHead) -> Result<Chunks<'_, F>, BundleError> {
        Ok(self.of(self.sums.range(head)?))
    }

    /// Chunk `number`; `None` beyond the last.
    ///
    /// # Errors
    /// [`TableError::Read`].
    pub fn chunk(&self, number: u64) -> Result<Option<Chunk>, TableError> {
        if number >= self.sums.chunks {
            return Ok(None);
        }
        self.of(number..number.saturating_add(1)).next().transpose()
    }

    const fn of(&self, rest: Range<u64>) -> Chunks<'_, F> {
        Chunks { file: &self.file, rest, window: VecDeque::new() }
    }
}

impl<F> Table<F> {
    /// Where the table's bytes lie.
    #[must_use]
    pub const fn file(&self) -> &F {
        &self.file
    }

    /// How many chunks there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.sums.chunks
    }

    /// Plain bytes of all chunks.
    #[must_use]
    pub const fn plain_bytes(&self) -> u64 {
        self.sums.plain_bytes
    }

    /// Stored bytes of all chunks.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.sums.stored_bytes
    }
}

/// Chunks of a [`Table`], one after the other. A fault ends them.
#[derive(Debug)]
pub struct Chunks<'a, F> {
    file: &'a F,
    /// Those that were not read yet.
    rest: Range<u64>,
    /// Those that were.
    window: VecDeque<Chunk>,
}

impl<F: FileExt> Chunks<'_, F> {
    /// Reads the next few.
    fn read(&mut self) -> Result<(), TableError> {
        let count = self.rest.end.saturating_sub(self.rest.start).min(WINDOW_CHUNKS);
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0).saturating_mul(CHUNK_BYTES)];
        // Far below what 64 bits hold: the table's length was compared with the count.
        let at = self.rest.start.saturating_mul(wide(CHUNK_BYTES));
        let at = at.saturating_add(wide(HEAD_BYTES));
        self.file.read_exact_at(&mut bytes, at).map_err(TableError::Read)?;
        let (entries, _none) = bytes.as_chunks();
        for (number, entry) in self.rest.clone().zip(entries) {
            self.window.push_back(decode(entry, number)?);
        }
        self.rest.start = self.rest.start.saturating_add(count);
        Ok(())
    }
}

impl<F: FileExt> Iterator for Chunks<'_, F> {
    type Item = Result<Chunk, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.window.is_empty()
            && !self.rest.is_empty()
            && let Err(error) = self.read()
        {
            (self.rest, self.window) = (0..0, VecDeque::new());
            return Some(Err(error));
        }
        self.window.pop_front().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::{Digest, GenerationId};

    use super::*;
    use crate::{Codec, Index, limits::INDEX_BYTES_MAX};

    /// A table's bytes of which each from `until` on cannot be read, by a medium's fault.
    #[derive(Debug)]
    struct Bytes {
        bytes: Vec<u8>,
        until: std::cell::Cell<u64>,
    }

    impl Bytes {
        fn of(bytes: Vec<u8>) -> Self {
            Self { bytes, until: std::cell::Cell::new(u64::MAX) }
        }
    }

    impl FileExt for Bytes {
        fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
            if at + wide(into.len()) > self.until.get() {
                return Err(io::Error::other("a medium's fault"));
            }
            let rest = usize::try_from(at).ok().and_then(|at| self.bytes.get(at..));
            let rest = rest.unwrap_or_default();
            let count = rest.len().min(into.len());
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_at(&self, _bytes: &[u8], _at: u64) -> io::Result<usize> {
            unreachable!("nobody writes")
        }
    }

    fn release(chunks: u64) -> (Index, Vec<FileEntry>) {
        let file = |path: &str, size| FileEntry {
            path: path.parse().expect("a good path"),
            size,
            sha256: Digest::of(b""),
        };
        let chunk = |number: u64| {
            let content = Digest::of(&number.to_le_bytes());
            Chunk {
                stored: content,
                stored_bytes: 7,
                plain_bytes: 7,
                content,
                codec: Codec::Raw,
                file: 1,
                offset: number * 7,
            }
        };
        let files = vec![file("a", 0), file("b", chunks * 7), file("c", 0)];
        let index = Index::new((0..chunks).map(chunk).collect(), &files).expect("covered");
        (index, files)
    }

    fn open(bytes: Vec<u8>, files: &[FileEntry]) -> Result<Table<Bytes>, TableError> {
        let length = wide(bytes.len());
        Table::open(Bytes::of(bytes), length, files)
    }

    fn all(chunks: Chunks<'_, Bytes>) -> Vec<Chunk> {
        chunks.collect::<Result<_, _>>().expect("readable")
    }

    #[test]
    fn of_a_range_come_the_chunks_that_there_are() {
        let (index, files) = release(600);
        let table = open(index.encode(), &files).expect("covered");
        for (range, expected) in [
            (0..600, 0..600),
            (0..0, 0..0),
            (3..5, 3..5),
            (500..550, 500..550),
            (599..9000, 599..600),
            (600..601, 0..0),
            (9000..u64::MAX, 0..0),
        ] {
            let found = all(table.chunks_in(range.clone()));
            assert_eq!(found, index.chunks().get(expected).expect("inside"), "{range:?}");
        }
    }

    #[test]
    fn a_table_says_what_the_index_says_over_every_edge_of_the_window() {
        for chunks in [0, 1, 511, 512, 513, 1024, 1500] {
            let (index, files) = release(chunks);
            let table = open(index.encode(), &files).expect("covered");
            assert_eq!(all(table.chunks()), index.chunks());
            assert_eq!(
                (table.count(), table.plain_bytes(), table.stored_bytes()),
                (chunks, index.plain_bytes(), index.stored_bytes())
            );
            for number in [0, 1, 511, 512, 1499, u64::MAX] {
                let expected = usize::try_from(number).ok().and_then(|n| index.chunks().get(n));
                assert_eq!(table.chunk(number).expect("readable").as_ref(), expected);
            }
        }
    }

    #[test]
    fn a_volume_has_the_chunks_of_its_head_and_no_others() {
        let (index, files) = release(1500);
        let table = open(index.encode(), &files).expect("covered");
        let head = |volume, volumes, first_chunk, chunks| VolumeHead {
            format: 1,
            bundle: GenerationId(Digest::of(b"x")),
            volume,
            volumes,
            first_chunk,
            chunks,
        };
        for good in [head(1, 1, 0, 1500), head(1, 2, 0, 700), head(2, 3, 700, 600)] {
            let chunks = table.of_volume(&good).expect("of this release");
            assert_eq!(all(chunks), index.of_volume(&good).expect("of this release"));
        }
        for bad in [head(1, 1, 0, 1499), head(2, 2, 1, u64::MAX), head(2, 3, 1400, 101)] {
            assert!(matches!(table.of_volume(&bad), Err(BundleError::HeadRange)), "{bad:?}");
            assert_eq!(index.of_volume(&bad), Err(BundleError::HeadRange), "{bad:?}");
        }
    }

    #[test]
    fn a_flipped_bit_or_another_length_is_another_table_or_none() {
        let (index, files) = release(3);
        let good = index.encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (table, memory) = (open(bytes.clone(), &files), Index::parse(&bytes, &files));
            match (table, memory) {
                (Ok(table), Ok(memory)) => assert_eq!(all(table.chunks()), memory.chunks()),
                (Err(TableError::Form(ours)), Err(theirs)) => assert_eq!(ours, theirs),
                (ours, theirs) => panic!("bit {bit}: {ours:?} and {theirs:?}"),
            }
        }
        for length in 0..good.len() {
            assert!(open(good[..length].to_vec(), &files).is_err(), "cut at {length}");
        }
        assert!(open([good.clone(), vec![0]].concat(), &files).is_err());
        // What is behind the length that was said is not the table's.
        let more = Bytes::of([good.clone(), vec![0]].concat());
        assert!(Table::open(more, wide(good.len()), &files).is_ok());
    }

    #[test]
    fn a_table_beyond_the_limit_is_refused_by_its_head() {
        let chunks = (INDEX_BYTES_MAX - 32) / 104 + 1;
        let mut head = release(1).0.encode()[..32].to_vec();
        head[8..16].copy_from_slice(&chunks.to_le_bytes());
        let opened = Table::open(Bytes::of(head.clone()), 32 + chunks * 104, &release(1).1);
        assert!(matches!(opened, Err(TableError::Form(BundleError::Index { chunk: 0 }))));
        head[8..16].copy_from_slice(&(chunks - 1).to_le_bytes());
        let opened = Table::open(Bytes::of(head), 32 + (chunks - 1) * 104, &release(1).1);
        assert!(matches!(opened, Err(TableError::Read(_))), "within the limit, and not there");
    }

    #[test]
    fn a_fault_is_told_once_and_ends_the_chunks() {
        let (index, files) = release(1500);
        let table = open(index.encode(), &files).expect("covered");
        table.file().until.set(32 + 600 * 104);
        let mut chunks = table.chunks();
        assert!(chunks.by_ref().take(512).all(|chunk| chunk.is_ok()));
        assert!(matches!(chunks.next(), Some(Err(TableError::Read(_)))));
        assert!(chunks.next().is_none());
        assert!(table.chunk(599).expect("readable").is_some());
        assert!(matches!(table.chunk(600), Err(TableError::Read(_))));
    }
}
