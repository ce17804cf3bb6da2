//! Chunks with the signed digest that are no single zstd frame of the signed size (RFC 8878, 3.1.1).

use anyhow::{Context as _, Result};
use cloister_domain::Digest;
use cloister_stage::Dice;

use super::Sink;
use crate::base::Base;

const HEAD_BYTES: usize = 32;
const CHUNK_BYTES: usize = 104;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What is not smaller than its content is no packed chunk at all.
const CODES: &[&str] =
    &["quarantine.unpack", "bundle.index.form", "shelf.", "bundle.manifest.release"];

pub(super) fn cases(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let table = base.member("clb/40-index")?.to_vec();
    let chunks = base.chunks();
    let packed =
        (0..chunks.len()).filter(|entry| table[HEAD_BYTES + entry * CHUNK_BYTES + 80] == 1);
    for entry in packed {
        let good = &chunks[entry];
        let plain = zstd::decode_all(good.as_slice())?;
        for (name, frame) in frames(good, &plain)? {
            let (table, chunks) = replaced(&table, &chunks, entry, &frame)?;
            let volume = base.with_index(&table, &chunks)?;
            sink.give(&format!("frame/chunk-{entry}/{name}"), &volume, CODES);
        }
    }
    Ok(())
}

/// The table and the chunks with another stored chunk, its digest and length told truthfully.
fn replaced(
    table: &[u8],
    chunks: &[Vec<u8>],
    entry: usize,
    frame: &[u8],
) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
    let (mut table, mut chunks) = (table.to_vec(), chunks.to_vec());
    let at = HEAD_BYTES + entry * CHUNK_BYTES;
    let old = u64::from_le_bytes(*table[at + 32..].first_chunk().context("a length")?);
    let sum = u64::from_le_bytes(*table[24..].first_chunk().context("a sum")?);
    let new = frame.len() as u64;
    table[at..at + 32].copy_from_slice(Digest::of(frame).as_bytes());
    table[at + 32..at + 40].copy_from_slice(&new.to_le_bytes());
    table[24..32].copy_from_slice(&(sum - old + new).to_le_bytes());
    chunks[entry] = frame.to_vec();
    Ok((table, chunks))
}

/// Frames that are not the one frame of `plain`.
fn frames(good: &[u8], plain: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let pack = |bytes: &[u8]| zstd::bulk::compress(bytes, 3);
    let empty = pack(b"")?;
    let skippable = |magic: u8, content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap_or_default().to_le_bytes();
        [&[magic, 0x2a, 0x4d, 0x18][..], &length, content].concat()
    };
    let size = plain.len() as u64;
    let mut frames: Vec<(String, Vec<u8>)> = [
        ("empty", Vec::new()),
        ("magic-alone", MAGIC.to_vec()),
        ("empty-frame-behind", [good, &empty].concat()),
        ("empty-frame-in-front", [&empty, good].concat()),
        (
            "two-halves",
            [pack(&plain[..plain.len() / 2])?, pack(&plain[plain.len() / 2..])?].concat(),
        ),
        ("twice", [good, good].concat()),
        ("skippable-in-front", [&skippable(0x50, b"x"), good].concat()),
        ("skippable-behind", [good, &skippable(0x5f, b"x")].concat()),
        ("skippable-alone", skippable(0x50, &plain[..plain.len() / 2])),
        ("skippable-of-4-gib", [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff].to_vec()),
        ("byte-behind", [good, b"\0"].concat()),
        ("one-byte-fewer", pack(&plain[1..])?),
        ("one-byte-more", pack(&[plain, b"x"].concat())?),
        ("other-bytes", pack(&vec![b'x'; plain.len()])?),
        ("gzip", [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3].to_vec()),
        ("old-magic", [&[0x27, 0xb5, 0x2f, 0xfd], &good[4..]].concat()),
        ("dictionary-magic", [&[0x37, 0xa4, 0x30, 0xec], &good[4..]].concat()),
        // Sizes that lie, in front of the true block: single segment, 8 bytes of content size.
        ("size-of-4-gib", frame(0xe0, None, Some(1 << 32), &raw_block(plain))),
        ("size-of-2^63", frame(0xe0, None, Some(1 << 63), &raw_block(plain))),
        ("size-of-all-ones", frame(0xe0, None, Some(u64::MAX), &raw_block(plain))),
        ("size-and-one", frame(0xe0, None, Some(size + 1), &rle_block(plain.len()))),
        ("size-less-one", frame(0xe0, None, Some(size - 1), &rle_block(plain.len()))),
        ("no-size", frame(0x00, Some(0x58), None, &rle_block(plain.len()))),
        // A dictionary that nobody has, by one and by four bytes of its number.
        ("dictionary-1", dictionary(good, 1)),
        ("dictionary-4", dictionary(good, 3)),
        ("reserved-bit", frame(0xe8, None, Some(size), &rle_block(plain.len()))),
        ("checksum-promised", frame(0xe4, None, Some(size), &rle_block(plain.len()))),
        (
            "checksum-wrong",
            [&frame(0xe4, None, Some(size), &rle_block(plain.len()))[..], &[0; 4]].concat(),
        ),
        ("reserved-block", frame(0xe0, None, Some(size), &[7, 0, 0])),
        (
            "block-not-last",
            frame(
                0xe0,
                None,
                Some(size),
                &rle_block(plain.len())[..]
                    .iter()
                    .enumerate()
                    .map(|(at, byte)| if at == 0 { byte & !1 } else { *byte })
                    .collect::<Vec<u8>>(),
            ),
        ),
        ("no-block", frame(0xe0, None, Some(size), &[])),
        ("bomb-of-one-block", frame(0xe0, None, Some(size), &rle_block(128 << 10))),
        ("bomb-of-blocks", frame(0xe0, None, Some(size), &bomb(8))),
        ("compressed-noise", frame(0xe0, None, Some(size), &[0x45, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])),
    ]
    .into_iter()
    .map(|(name, frame)| (name.to_owned(), frame))
    .collect();
    // A window that no chunk needs, around the true blocks.
    for log in [23u8, 24, 27, 31, 41] {
        let window = frame(0xc0, Some((log - 10) << 3), Some(size), blocks_of(good));
        frames.push((format!("window-of-2^{log}"), window));
    }
    let window = frame(0xc0, Some((22 - 10) << 3 | 1), Some(size), blocks_of(good));
    frames.push(("window-of-4.5-mib".to_owned(), window));
    for (name, level) in [("fast", -5), ("slow", 19)] {
        // The same content packed otherwise is good; a byte of it changed is not.
        let mut other = zstd::bulk::compress(plain, level)?;
        let last = other.len() - 1;
        other[last] ^= 1;
        frames.push((format!("{name}-changed"), other));
    }
    for cut in 1..good.len().min(40) {
        frames.push((format!("cut-to-{cut}"), good[..cut].to_vec()));
    }
    let mut dice = Dice::new(9);
    for number in 0..24 {
        let mut noise = MAGIC.to_vec();
        noise.extend(dice.bytes(good.len().saturating_sub(4)));
        frames.push((format!("noise-{number}"), noise));
    }
    Ok(frames)
}

/// A frame by hand: descriptor, window, content size, blocks.
fn frame(descriptor: u8, window: Option<u8>, size: Option<u64>, blocks: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.push(descriptor);
    out.extend(window);
    out.extend(size.into_iter().flat_map(u64::to_le_bytes));
    out.extend(blocks);
    out
}

/// The blocks of a frame that says its size, without what stands before them (RFC 8878, 3.1.1.1).
fn blocks_of(good: &[u8]) -> &[u8] {
    let single = good[4] & 0x20 != 0;
    let size = match good[4] >> 6 {
        0 => usize::from(single),
        flag => 1 << flag,
    };
    &good[5 + usize::from(!single) + size..]
}

/// The good frame with a number of a dictionary of `code` (1, 2 or 3: one, two or four bytes).
fn dictionary(good: &[u8], code: u8) -> Vec<u8> {
    let bytes = if code == 3 { 4 } else { usize::from(code) };
    let single = good[4] & 0x20 != 0;
    let behind = if single { 5 } else { 6 };
    let mut out = good[..behind].to_vec();
    out[4] |= code;
    out.extend(vec![7; bytes]);
    out.extend(&good[behind..]);
    out
}

fn block(kind: u32, size: usize, last: bool) -> [u8; 3] {
    let header = u32::try_from(size).unwrap_or(u32::MAX) << 3 | kind << 1 | u32::from(last);
    let [one, two, three, _] = header.to_le_bytes();
    [one, two, three]
}

fn raw_block(plain: &[u8]) -> Vec<u8> {
    [&block(0, plain.len(), true)[..], plain].concat()
}

/// One byte, repeated.
fn rle_block(size: usize) -> Vec<u8> {
    [&block(1, size, true)[..], b"x"].concat()
}

/// Blocks of 128 KiB each out of four bytes.
fn bomb(blocks: usize) -> Vec<u8> {
    (0..blocks).flat_map(|at| [&block(1, 128 << 10, at + 1 == blocks)[..], b"x"].concat()).collect()
}
