//! The chunk index: for every file, where its bytes are and what they must hash to.
//!
//! A binary table, little-endian, every number a u64. 32 bytes of head (magic, chunk count, plain
//! bytes, stored bytes), then 104 bytes a chunk: SHA-256 of the stored bytes, stored length, plain
//! length, SHA-256 of the plain bytes, codec, file number, offset in the file.

use cloister_domain::Digest;

use crate::{
    BundleError, FileEntry, VolumeHead,
    limits::{CHUNK_PLAIN_BYTES_MAX, CHUNK_STORED_BYTES_MAX, INDEX_BYTES_MAX},
};

const MAGIC: [u8; 8] = *b"CLBIDX\0\x01";
const HEAD_BYTES: usize = 32;
const CHUNK_BYTES: usize = 104;

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
/// a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    chunks: Vec<Chunk>,
    plain_bytes: u64,
    stored_bytes: u64,
}

impl Index {
    /// Takes chunks that cover `files`.
    ///
    /// # Errors
    /// [`BundleError::Index`] and [`BundleError::Coverage`].
    pub fn new(chunks: Vec<Chunk>, files: &[FileEntry]) -> Result<Self, BundleError> {
        let count = position(chunks.len())?;
        let whole = BundleError::Index { chunk: count };
        let (mut plain_bytes, mut stored_bytes) = (0u64, 0u64);
        for (number, chunk) in (0..).zip(&chunks) {
            check(chunk, number)?;
            plain_bytes = plain_bytes.checked_add(chunk.plain_bytes).ok_or(whole)?;
            stored_bytes = stored_bytes.checked_add(chunk.stored_bytes).ok_or(whole)?;
        }
        cover(&chunks, files)?;
        Ok(Self { chunks, plain_bytes, stored_bytes })
    }

    /// Reads the table of the release with these files. The caller compares the bytes' digest with
    /// the signed one first.
    ///
    /// # Errors
    /// [`BundleError::Index`] and [`BundleError::Coverage`].
    pub fn parse(bytes: &[u8], files: &[FileEntry]) -> Result<Self, BundleError> {
        let wrong = BundleError::Index { chunk: 0 };
        if position(bytes.len())? > INDEX_BYTES_MAX {
            return Err(wrong);
        }
        let (head, body) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(wrong)?;
        let (entries, rest) = body.as_chunks::<CHUNK_BYTES>();
        let mut fields = Fields(head);
        let magic = fields.take::<8>().ok_or(wrong)?;
        let (count, plain, stored) = (fields.u64(), fields.u64(), fields.u64());
        if magic != MAGIC || !rest.is_empty() || count != Some(position(entries.len())?) {
            return Err(wrong);
        }
        let chunks = (0..)
            .zip(entries)
            .map(|(number, entry)| decode(entry).ok_or(BundleError::Index { chunk: number }))
            .collect::<Result<Vec<Chunk>, BundleError>>()?;
        let index = Self::new(chunks, files)?;
        if plain != Some(index.plain_bytes) || stored != Some(index.stored_bytes) {
            return Err(BundleError::Index { chunk: position(index.chunks.len())? });
        }
        Ok(index)
    }

    /// The table's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let count = u64::try_from(self.chunks.len()).expect("usize is at most 64 bits");
        let mut out = Vec::from(MAGIC);
        for number in [count, self.plain_bytes, self.stored_bytes] {
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

    /// The chunks of one volume: `count` from `first` on.
    #[must_use]
    pub fn volume(&self, first: u64, count: u64) -> Option<&[Chunk]> {
        let first = usize::try_from(first).ok()?;
        let end = first.checked_add(usize::try_from(count).ok()?)?;
        self.chunks.get(first..end)
    }

    /// The chunks of the volume that `head` describes. Only the first volume begins at the first
    /// chunk, and only the last one ends at the last, so that a head cannot say more volumes or
    /// fewer than there are.
    ///
    /// # Errors
    /// [`BundleError::Head`].
    pub fn of_volume(&self, head: &VolumeHead) -> Result<&[Chunk], BundleError> {
        let chunks = self.volume(head.first_chunk, head.chunks).ok_or(BundleError::Head)?;
        let end = head.first_chunk.checked_add(head.chunks).ok_or(BundleError::Head)?;
        let begins = (head.volume == 1) == (head.first_chunk == 0);
        let ends = (head.volume == head.volumes) == (end == position(self.chunks.len())?);
        if begins && ends { Ok(chunks) } else { Err(BundleError::Head) }
    }

    /// Plain bytes of all chunks.
    #[must_use]
    pub const fn plain_bytes(&self) -> u64 {
        self.plain_bytes
    }

    /// Stored bytes of all chunks.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
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

fn decode(entry: &[u8; CHUNK_BYTES]) -> Option<Chunk> {
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

/// Walks files and chunks together: each file is met in order, from 0 to its size.
fn cover(chunks: &[Chunk], files: &[FileEntry]) -> Result<(), BundleError> {
    let mut chunks = (0u64..).zip(chunks).peekable();
    for (number, file) in (0u64..).zip(files) {
        let mut covered = 0u64;
        while covered < file.size {
            let (at, chunk) = chunks.next().ok_or(BundleError::Coverage { chunk: u64::MAX })?;
            let wrong = BundleError::Coverage { chunk: at };
            if chunk.file != number || chunk.offset != covered {
                return Err(wrong);
            }
            covered = covered.checked_add(chunk.plain_bytes).ok_or(wrong)?;
            if covered > file.size {
                return Err(wrong);
            }
        }
    }
    chunks.peek().map_or(Ok(()), |(at, _)| Err(BundleError::Coverage { chunk: *at }))
}

fn position(count: usize) -> Result<u64, BundleError> {
    u64::try_from(count).map_err(|_cause| BundleError::Index { chunk: 0 })
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
        assert_eq!(index.volume(1, 2), index.chunks().get(1..3));
        assert_eq!(index.volume(1, u64::MAX), None);
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
            assert_eq!(index.of_volume(&bad), Err(BundleError::Head), "{bad:?}");
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
