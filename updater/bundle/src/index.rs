//! The chunk index: for every file, where its bytes are and what they must hash to.
//!
//! A binary table, little-endian, every number a u64. 32 bytes of head (magic, chunk count, plain
//! bytes, stored bytes), then 104 bytes a chunk: SHA-256 of the stored bytes, stored length, plain
//! length, SHA-256 of the plain bytes, codec, file number, offset in the file.

use std::ops::Range;

use cloister_domain::Digest;

use crate::{
    BundleError, FileEntry, VolumeHead,
    limits::{CHUNK_PLAIN_BYTES_MAX, CHUNK_STORED_BYTES_MAX, INDEX_BYTES_MAX},
};

const MAGIC: [u8; 8] = *b"CLBIDX\0\x01";
pub(crate) const HEAD_BYTES: usize = 32;
pub(crate) const CHUNK_BYTES: usize = 104;

/// How a chunk's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Raw,
    /// One zstd frame (RFC 8878) with its content size, without a dictionary.
    Zstd,
}

impl Codec {
    const fn number(self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }
}

/// A piece of one file, stored as one member of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// SHA-256 of the stored bytes; the member's name.
    pub stored: Digest,
    /// Stored length, in bytes.
    pub stored_bytes: u64,
    /// Plain length, in bytes.
    pub plain_bytes: u64,
    /// SHA-256 of the plain bytes: the content id.
    pub content: Digest,
    /// How the bytes are stored.
    pub codec: Codec,
    /// The file, as its position in the manifest.
    pub file: u64,
    /// Where in the file the plain bytes begin.
    pub offset: u64,
}

/// A table that covers the files of one manifest exactly: file by file, offset by offset, without
/// a gap. In memory, for whoever makes one; who reads a foreign one keeps it in a file ([`Table`]).
///
/// [`Table`]: crate::Table
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    chunks: Vec<Chunk>,
    sums: Sums,
}

impl Index {
    /// Takes chunks that cover `files`.
    ///
    /// # Errors
    /// [`BundleError::Index`] and [`BundleError::Coverage`].
    pub fn new(chunks: Vec<Chunk>, files: &[FileEntry]) -> Result<Self, BundleError> {
        let mut cover = Cover::of(files);
        for chunk in &chunks {
            cover.take(chunk)?;
        }
        Ok(Self { chunks, sums: cover.end()? })
    }

    /// Reads the table of the release with these files. The caller compares the bytes' digest with
    /// the signed one first.
    ///
    /// # Errors
    /// [`BundleError::Index`] and [`BundleError::Coverage`].
    pub fn parse(bytes: &[u8], files: &[FileEntry]) -> Result<Self, BundleError> {
        let (head, body) = bytes.split_first_chunk().ok_or(BundleError::Index { chunk: 0 })?;
        let sums = Sums::of_head(head, u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
        let (entries, _none) = body.as_chunks();
        let chunks = (0..)
            .zip(entries)
            .map(|(number, entry)| decode(entry, number))
            .collect::<Result<Vec<Chunk>, BundleError>>()?;
        let index = Self::new(chunks, files)?;
        index.sums.agree(sums)?;
        Ok(index)
    }

    /// The table's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::from(MAGIC);
        for number in [self.sums.chunks, self.sums.plain_bytes, self.sums.stored_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for chunk in &self.chunks {
            out.extend_from_slice(chunk.stored.as_bytes());
            out.extend_from_slice(&chunk.stored_bytes.to_le_bytes());
            out.extend_from_slice(&chunk.plain_bytes.to_le_bytes());
            out.extend_from_slice(chunk.content.as_bytes());
            out.extend_from_slice(&chunk.codec.number().to_le_bytes());
            out.extend_from_slice(&chunk.file.to_le_bytes());
            out.extend_from_slice(&chunk.offset.to_le_bytes());
        }
        out
    }

    /// All chunks, in the order of their members.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The chunks of the volume that `head` describes.
    ///
    /// # Errors
    /// [`BundleError::HeadRange`].
    pub fn of_volume(&self, head: &VolumeHead) -> Result<&[Chunk], BundleError> {
        let Range { start, end } = self.sums.range(head)?;
        let place = |number: u64| usize::try_from(number).ok();
        let range = place(start).zip(place(end)).map(|(start, end)| start..end);
        range.and_then(|range| self.chunks.get(range)).ok_or(BundleError::HeadRange)
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

/// What a table says of all its chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) chunks: u64,
    pub(crate) plain_bytes: u64,
    pub(crate) stored_bytes: u64,
}

impl Sums {
    /// Those in the head of a table that is `bytes` long as a whole.
    pub(crate) fn of_head(head: &[u8; HEAD_BYTES], bytes: u64) -> Result<Self, BundleError> {
        let wrong = BundleError::Index { chunk: 0 };
        let mut fields = Fields(head);
        let magic = fields.take::<8>().ok_or(wrong)?;
        let mut number = || fields.u64().ok_or(wrong);
        let sums = Self { chunks: number()?, plain_bytes: number()?, stored_bytes: number()? };
        let body = sums.chunks.checked_mul(wide(CHUNK_BYTES));
        let length = body.and_then(|body| body.checked_add(wide(HEAD_BYTES)));
        if magic == MAGIC && length == Some(bytes) && bytes <= INDEX_BYTES_MAX {
            Ok(sums)
        } else {
            Err(wrong)
        }
    }

    /// Refuses a head that says another thing than its chunks.
    pub(crate) fn agree(self, head: Self) -> Result<(), BundleError> {
        if self == head { Ok(()) } else { Err(BundleError::Index { chunk: self.chunks }) }
    }

    /// The chunks of the volume that `head` describes. Only the first volume begins at the first
    /// chunk, and only the last one ends at the last, so that a head cannot say more volumes or
    /// fewer than there are.
    pub(crate) fn range(self, head: &VolumeHead) -> Result<Range<u64>, BundleError> {
        let end = head.first_chunk.checked_add(head.chunks).ok_or(BundleError::HeadRange)?;
        let begins = (head.volume == 1) == (head.first_chunk == 0);
        let ends = (head.volume == head.volumes) == (end == self.chunks);
        if begins && ends && end <= self.chunks {
            Ok(head.first_chunk..end)
        } else {
            Err(BundleError::HeadRange)
        }
    }
}

/// Walks files and chunks together: each file is met in order, from 0 to its size.
pub(crate) struct Cover<'a> {
    files: &'a [FileEntry],
    /// The file whose bytes come next, and how many of them came.
    file: u64,
    covered: u64,
    sums: Sums,
}

impl<'a> Cover<'a> {
    pub(crate) fn of(files: &'a [FileEntry]) -> Self {
        Self { files, file: 0, covered: 0, sums: Sums::default() }
    }

    /// The next chunk.
    pub(crate) fn take(&mut self, chunk: &Chunk) -> Result<(), BundleError> {
        let number = self.sums.chunks;
        check(chunk, number)?;
        self.pass_whole_files();
        let wrong = BundleError::Coverage { chunk: number };
        let size = self.files.first().ok_or(wrong)?.size;
        if chunk.file != self.file || chunk.offset != self.covered {
            return Err(wrong);
        }
        self.covered = self.covered.checked_add(chunk.plain_bytes).ok_or(wrong)?;
        if self.covered > size {
            return Err(wrong);
        }
        let sum = |sum: u64, more: u64| sum.checked_add(more).ok_or(wrong);
        self.sums = Sums {
            chunks: sum(number, 1)?,
            plain_bytes: sum(self.sums.plain_bytes, chunk.plain_bytes)?,
            stored_bytes: sum(self.sums.stored_bytes, chunk.stored_bytes)?,
        };
        Ok(())
    }

    /// After the last chunk.
    pub(crate) fn end(mut self) -> Result<Sums, BundleError> {
        self.pass_whole_files();
        if self.files.is_empty() {
            Ok(self.sums)
        } else {
            Err(BundleError::Coverage { chunk: self.sums.chunks })
        }
    }

    /// A file without bytes has no chunks.
    fn pass_whole_files(&mut self) {
        while let [file, rest @ ..] = self.files
            && file.size == self.covered
        {
            (self.files, self.covered) = (rest, 0);
            self.file = self.file.saturating_add(1);
        }
    }
}

/// Takes fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

/// Chunk `number` of a table.
pub(crate) fn decode(entry: &[u8; CHUNK_BYTES], number: u64) -> Result<Chunk, BundleError> {
    let read = || {
        let mut fields = Fields(entry);
        Some(Chunk {
            stored: Digest::from_bytes(fields.take()?),
            stored_bytes: fields.u64()?,
            plain_bytes: fields.u64()?,
            content: Digest::from_bytes(fields.take()?),
            codec: match fields.u64()? {
                0 => Codec::Raw,
                1 => Codec::Zstd,
                _ => return None,
            },
            file: fields.u64()?,
            offset: fields.u64()?,
        })
    };
    read().ok_or(BundleError::Index { chunk: number })
}

/// The rules for one chunk by itself.
fn check(chunk: &Chunk, number: u64) -> Result<(), BundleError> {
    let sized = (1..=CHUNK_PLAIN_BYTES_MAX).contains(&chunk.plain_bytes)
        && (1..=CHUNK_STORED_BYTES_MAX).contains(&chunk.stored_bytes);
    let honest = match chunk.codec {
        Codec::Raw => chunk.stored_bytes == chunk.plain_bytes && chunk.stored == chunk.content,
        Codec::Zstd => chunk.stored_bytes < chunk.plain_bytes,
    };
    if sized && honest { Ok(()) } else { Err(BundleError::Index { chunk: number }) }
}

/// A length as the format has it.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("usize is at most 64 bits")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn files(sizes: &[u64]) -> Vec<FileEntry> {
        (0..)
            .zip(sizes)
            .map(|(number, size)| FileEntry {
                path: format!("f{number:04}").parse().expect("a good path"),
                size: *size,
                sha256: Digest::of(b""),
            })
            .collect()
    }

    fn chunk(file: u64, offset: u64, plain_bytes: u64) -> Chunk {
        let content = Digest::of(&offset.to_le_bytes());
        Chunk {
            stored: content,
            stored_bytes: plain_bytes,
            plain_bytes,
            content,
            codec: Codec::Raw,
            file,
            offset,
        }
    }

    fn cut(sizes: &[u64], step: u64) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for (file, size) in (0..).zip(sizes) {
            let mut offset = 0;
            while offset < *size {
                let bytes = step.min(size - offset);
                chunks.push(chunk(file, offset, bytes));
                offset += bytes;
            }
        }
        chunks
    }

    #[test]
    fn a_table_returns_from_its_bytes_beyond_4_gib() {
        let sizes = [0, 5, (4 << 30) + 3, 0];
        let index = Index::new(cut(&sizes, 4 << 20), &files(&sizes)).expect("covered");
        assert_eq!(Index::parse(&index.encode(), &files(&sizes)), Ok(index.clone()));
        assert_eq!((index.plain_bytes(), index.stored_bytes()), ((4 << 30) + 8, (4 << 30) + 8));
        assert_eq!(index.chunks(), cut(&sizes, 4 << 20));
    }

    #[test]
    fn a_head_says_as_many_volumes_as_there_are() {
        let index = Index::new(cut(&[10], 4), &files(&[10])).expect("covered");
        let bundle = cloister_domain::GenerationId(Digest::of(b"x"));
        let head = |volume, volumes, first_chunk, chunks| VolumeHead {
            format: 1,
            bundle,
            volume,
            volumes,
            first_chunk,
            chunks,
        };
        for good in [head(1, 1, 0, 3), head(1, 2, 0, 2), head(2, 2, 2, 1), head(2, 3, 1, 1)] {
            assert!(index.of_volume(&good).is_ok(), "{good:?}");
        }
        for bad in [
            head(1, 2, 0, 3),
            head(1, 1, 0, 2),
            head(2, 2, 1, 1),
            head(2, 3, 0, 1),
            head(1, 3, 1, 1),
            head(2, 3, 1, 2),
            head(2, 2, 3, 1),
        ] {
            assert_eq!(index.of_volume(&bad), Err(BundleError::HeadRange), "{bad:?}");
        }
    }

    #[test]
    fn gaps_overlaps_and_strangers_are_refused() {
        let files = files(&[10, 10]);
        let good = [chunk(0, 0, 6), chunk(0, 6, 4), chunk(1, 0, 10)];
        assert!(Index::new(good.to_vec(), &files).is_ok());
        for bad in [
            vec![chunk(0, 0, 6), chunk(1, 0, 10)],
            vec![chunk(0, 0, 6), chunk(0, 5, 5), chunk(1, 0, 10)],
            vec![chunk(0, 0, 6), chunk(0, 6, 5), chunk(1, 0, 10)],
            vec![chunk(0, 0, 10), chunk(1, 0, 10), chunk(2, 0, 1)],
            vec![chunk(1, 0, 10), chunk(0, 0, 10)],
            vec![],
        ] {
            let refusal = Index::new(bad, &files).expect_err("not covered");
            assert!(matches!(refusal, BundleError::Coverage { .. }));
        }
    }

    #[test]
    fn a_chunk_that_lies_about_itself_is_refused() {
        let files = files(&[5 << 20]);
        let base = chunk(0, 0, 4);
        let packed = Chunk { codec: Codec::Zstd, plain_bytes: 5, stored: Digest::of(b"z"), ..base };
        for bad in [
            Chunk { plain_bytes: (4 << 20) + 1, ..packed },
            Chunk { stored_bytes: 0, ..packed },
            Chunk { stored_bytes: 6, ..packed },
            Chunk { plain_bytes: 0, stored_bytes: 0, ..base },
            Chunk { plain_bytes: (4 << 20) + 1, stored_bytes: (4 << 20) + 1, ..base },
            Chunk { stored_bytes: 3, ..base },
            Chunk { stored: Digest::of(b"other"), ..base },
            Chunk { codec: Codec::Zstd, ..base },
        ] {
            assert_eq!(Index::new(vec![bad], &files), Err(BundleError::Index { chunk: 0 }));
        }
    }

    #[test]
    fn a_packed_chunk_returns_and_an_unknown_packing_is_refused() {
        let files = files(&[9]);
        let packed = Chunk {
            codec: Codec::Zstd,
            stored: Digest::of(b"z"),
            stored_bytes: 8,
            ..chunk(0, 0, 9)
        };
        let index = Index::new(vec![packed], &files).expect("covered");
        assert_eq!((index.plain_bytes(), index.stored_bytes()), (9, 8));
        let mut bytes = index.encode();
        assert_eq!(Index::parse(&bytes, &files), Ok(index));
        // The codec stands before the last two numbers.
        let codec = bytes.len() - 24;
        assert_eq!(bytes[codec], 1);
        bytes[codec] = 2;
        assert_eq!(Index::parse(&bytes, &files), Err(BundleError::Index { chunk: 0 }));
    }

    #[test]
    fn a_table_beyond_the_limit_is_refused_before_its_second_chunk_is_read() {
        let good = Index::new(cut(&[4], 4), &files(&[4])).expect("covered").encode();
        let count = (256u64 << 20).div_ceil(104);
        // Zeros behind the first chunk: the second one would be refused by its own number.
        let mut bytes = vec![0; 32 + 104 * usize::try_from(count).expect("it fits")];
        bytes[..good.len()].copy_from_slice(&good);
        bytes[8..16].copy_from_slice(&count.to_le_bytes());
        assert_eq!(Index::parse(&bytes, &files(&[4])), Err(BundleError::Index { chunk: 0 }));
        bytes.truncate(good.len() + 104);
        bytes[8..16].copy_from_slice(&2u64.to_le_bytes());
        assert_eq!(Index::parse(&bytes, &files(&[4])), Err(BundleError::Index { chunk: 1 }));
    }

    #[test]
    fn any_cut_or_added_byte_is_refused() {
        let files = files(&[10]);
        let bytes = Index::new(cut(&[10], 4), &files).expect("covered").encode();
        for length in 0..bytes.len() {
            assert!(Index::parse(&bytes[..length], &files).is_err(), "cut at {length}");
        }
        assert!(Index::parse(&[bytes, vec![0]].concat(), &files).is_err());
    }

    #[test]
    fn a_flipped_bit_never_yields_the_same_table() {
        let files = files(&[10]);
        let good = Index::new(cut(&[10], 4), &files).expect("covered");
        let mut bytes = good.encode();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Index::parse(&bytes, &files), Ok(good.clone()), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_any_files_returns(sizes in prop::collection::vec(0u64..50, 0..8), step in 1u64..20) {
            let files = files(&sizes);
            let index = Index::new(cut(&sizes, step), &files).expect("covered");
            prop_assert_eq!(Index::parse(&index.encode(), &files), Ok(index));
        }

    }
}
