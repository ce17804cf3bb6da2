//! Sizes, offsets and counts on both sides of 2^31, 2^32 and the format's own ends: nothing is cut
//! to fewer bits.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use cloister_bundle::{
    BundleError, Carried, Chunk, Codec, FileEntry, Index, VolumeHead,
    container::{header, member_bytes, padding, read_header},
    limits::MEMBER_BYTES_MAX,
};
use cloister_domain::{Digest, GenerationId};

const EDGES: [u64; 5] = [1 << 31, 1 << 32, (1 << 32) + (1 << 31), (22 << 30) / 10, (41 << 30) / 10];

#[test]
fn a_header_states_sizes_on_both_sides_of_each_edge() {
    for size in EDGES.into_iter().flat_map(|edge| [edge - 1, edge, edge + 1]) {
        let block = header("c/x", size).unwrap();
        assert_eq!(read_header(&block, "c/x", u64::MAX, 0), Ok(size));
        let refused = read_header(&block, "c/x", size - 1, 3);
        assert_eq!(refused, Err(BundleError::MemberSize { member: 3, bytes: size, max: size - 1 }));
        assert_eq!(member_bytes(size).unwrap() % 512, 0);
        assert_eq!(member_bytes(size).unwrap(), 512 + size + padding(size) as u64);
        // The low bits alone would make another header.
        assert_ne!(block, header("c/x", size & 0x3fff_ffff).unwrap());
    }
    let largest = header("c/x", MEMBER_BYTES_MAX).unwrap();
    assert_eq!(read_header(&largest, "c/x", u64::MAX, 0), Ok((8 << 30) - 1));
    for beyond in [MEMBER_BYTES_MAX + 1, 1 << 63, u64::MAX] {
        assert_eq!(header("c/x", beyond), Err(BundleError::Unnameable));
    }
    assert_eq!(member_bytes(u64::MAX), None);
    assert_eq!(member_bytes(u64::MAX - 511), None);
}

/// Chunks of 4 MiB that cover a file of `size` after a first one of 1 MiB.
fn chunks(file: u64, size: u64) -> Vec<Chunk> {
    let content = Digest::of(b"any content");
    let mut chunks = Vec::new();
    let mut offset = 0;
    while offset < size {
        let most: u64 = if offset == 0 { 1 << 20 } else { 4 << 20 };
        let bytes = most.min(size - offset);
        chunks.push(Chunk {
            stored: content,
            stored_bytes: bytes,
            plain_bytes: bytes,
            content,
            codec: Codec::Raw,
            file,
            offset,
        });
        offset += bytes;
    }
    chunks
}

fn files(sizes: &[u64]) -> Vec<FileEntry> {
    let file = |(number, size): (usize, &u64)| FileEntry {
        path: format!("f{number}").parse().unwrap(),
        size: *size,
        sha256: Digest::of(b"any file"),
    };
    sizes.iter().enumerate().map(file).collect()
}

#[test]
fn a_table_covers_files_beyond_each_edge_to_the_byte() {
    let sizes = [(22 << 30) / 10, (41 << 30) / 10, 1 << 32, (1 << 32) + 1];
    let entries = files(&sizes);
    let all: Vec<Chunk> =
        (0..).zip(sizes).flat_map(|(number, size)| chunks(number, size)).collect();
    let index = Index::new(all.clone(), &entries).unwrap();
    assert_eq!(index.plain_bytes(), sizes.iter().sum::<u64>());
    assert_eq!(index.stored_bytes(), sizes.iter().sum::<u64>());
    let table = index.encode();
    assert_eq!(Index::parse(&table, &entries), Ok(index));
    // A file whose size has the same low bits is another file.
    for number in 0..sizes.len() {
        for size in [sizes[number] + 1, sizes[number] - 1, sizes[number] & 0x7fff_ffff] {
            let mut other = sizes;
            other[number] = size;
            let refused = Index::parse(&table, &files(&other));
            assert!(matches!(refused, Err(BundleError::Coverage { .. })), "{number} {size}");
        }
    }
    // So are offsets, lengths and numbers of files.
    let last = all.len() - 1;
    let changes: [fn(&mut Chunk); 6] = [
        |chunk| chunk.offset ^= 1 << 32,
        |chunk| chunk.offset ^= 1 << 31,
        |chunk| chunk.file += 1 << 32,
        |chunk| chunk.plain_bytes += 1 << 32,
        |chunk| chunk.stored_bytes += 1 << 32,
        |chunk| chunk.offset = u64::MAX,
    ];
    for change in changes {
        let mut other = all.clone();
        change(&mut other[last]);
        assert!(Index::new(other, &entries).is_err());
    }
}

#[test]
fn counts_are_compared_with_all_their_bits() {
    let entries = files(&[10]);
    let table = Index::new(chunks(0, 10), &entries).unwrap().encode();
    // Chunks, plain bytes, stored bytes: each with a bit set above what 32 hold.
    for field in [8, 16, 24] {
        for byte in [4, 5, 7] {
            let mut other = table.clone();
            other[field + byte] ^= 1;
            assert!(Index::parse(&other, &entries).is_err(), "field {field} byte {byte}");
        }
    }
}

#[test]
fn a_head_counts_chunks_beyond_each_edge_and_their_sum_does_not_wrap() {
    let head = |first_chunk: u64, chunks: u64| VolumeHead {
        format: 1,
        bundle: GenerationId(Digest::of(b"x")),
        volume: 2,
        volumes: 2,
        first_chunk,
        chunks,
    };
    for (first, count) in [((1 << 31) - 1, 1 << 31), (1 << 32, 1 << 32), ((1 << 53) - 1, 1)] {
        let good = head(first, count);
        assert_eq!(VolumeHead::parse(&good.encode()), Ok(good));
    }
    let text = String::from_utf8(head(5, 7).encode()).unwrap();
    for to in ["18446744073709551616", "18446744073709551615", "-1", "7.5", "1e3"] {
        let other = text.replacen(":7", &format!(":{to}"), 1);
        assert_ne!(other, text);
        assert_eq!(VolumeHead::parse(other.as_bytes()), Err(BundleError::Head), "{other}");
    }
    assert_eq!(Carried::bytes(1 << 32), 1 << 29);
    assert_eq!(Carried::bytes(u64::MAX), 1 << 61);
    assert_eq!(Carried::parse(vec![0; 8], (1 << 32) + 64), Err(BundleError::Carried));
}
