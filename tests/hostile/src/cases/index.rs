//! Chunk tables that the publisher signed, each field of each entry at each interesting value.

use anyhow::{Context as _, Result};
use cloister_domain::Digest;

use super::Sink;
use crate::base::Base;

const HEAD_BYTES: usize = 32;
const CHUNK_BYTES: usize = 104;

/// The numbers of an entry: name, place (`docs/formats/bundle.md`).
const NUMBERS: [(&str, usize); 5] =
    [("stored-bytes", 32), ("plain-bytes", 40), ("codec", 80), ("file", 88), ("offset", 96)];

/// A wrong table may also be one whose chunks are not where it says, or do not unpack.
const CODES: &[&str] = &[
    "bundle.index.",
    "bundle.manifest.release",
    "bundle.container.",
    "bundle.digest",
    "bundle.head",
    "bundle.head.range",
    "quarantine.unpack",
    "shelf.",
];

pub(super) fn cases(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let table = base.member("clb/40-index")?.to_vec();
    let chunks = base.chunks();
    let mut give = |name: String, table: &[u8]| -> Result<()> {
        sink.give(&format!("index/{name}"), &base.with_index(table, &chunks)?, CODES);
        Ok(())
    };
    let entries = (table.len() - HEAD_BYTES) / CHUNK_BYTES;
    for entry in 0..entries {
        let at = HEAD_BYTES + entry * CHUNK_BYTES;
        for (field, place) in NUMBERS {
            let place = at + place;
            let now = number(&table, place)?;
            for (name, value) in interesting(now) {
                let mut damaged = table.clone();
                damaged[place..place + 8].copy_from_slice(&value.to_le_bytes());
                give(format!("chunk-{entry}/{field}/{name}"), &damaged)?;
                resum(&mut damaged)?;
                give(format!("chunk-{entry}/{field}/{name}-summed"), &damaged)?;
            }
        }
        for (name, digest) in [
            ("zeros", Digest::from_bytes([0; 32])),
            ("ones", Digest::from_bytes([0xff; 32])),
            ("of-nothing", Digest::of(b"")),
        ] {
            let mut damaged = table.clone();
            damaged[at..at + 32].copy_from_slice(digest.as_bytes());
            give(format!("chunk-{entry}/stored/{name}"), &damaged)?;
        }
    }
    head(&table, &mut give)?;
    order(&table, entries, &mut give)
}

fn number(table: &[u8], at: usize) -> Result<u64> {
    let bytes = table.get(at..).and_then(|rest| rest.first_chunk::<8>());
    Ok(u64::from_le_bytes(*bytes.context("a table holds its numbers")?))
}

fn interesting(now: u64) -> [(&'static str, u64); 14] {
    [
        ("zero", 0),
        ("one", 1),
        ("two", 2),
        ("one-less", now.wrapping_sub(1)),
        ("one-more", now.wrapping_add(1)),
        ("4-mib-and-one", (4 << 20) + 1),
        ("2^31", 1 << 31),
        ("2^32", 1 << 32),
        ("2^32-and-now", (1 << 32) + now),
        ("2^53", 1 << 53),
        ("2^63", 1 << 63),
        ("2^63-less-one", (1 << 63) - 1),
        ("most-but-one", u64::MAX - 1),
        ("most", u64::MAX),
    ]
}

/// Makes the sums in the head right again, as far as they have a sum.
fn resum(table: &mut [u8]) -> Result<()> {
    let mut sums = [0u64; 2];
    let entries = (table.len() - HEAD_BYTES) / CHUNK_BYTES;
    for entry in 0..entries {
        let at = HEAD_BYTES + entry * CHUNK_BYTES;
        sums[0] = sums[0].wrapping_add(number(table, at + 40)?);
        sums[1] = sums[1].wrapping_add(number(table, at + 32)?);
    }
    table[16..24].copy_from_slice(&sums[0].to_le_bytes());
    table[24..32].copy_from_slice(&sums[1].to_le_bytes());
    Ok(())
}

type Give<'a> = &'a mut dyn FnMut(String, &[u8]) -> Result<()>;

fn head(table: &[u8], give: Give<'_>) -> Result<()> {
    for byte in 0..8 {
        for value in [0, 0xff, table[byte] ^ 1, table[byte] ^ 0x80] {
            let mut damaged = table.to_vec();
            damaged[byte] = value;
            give(format!("head/magic-{byte}/{value:#04x}"), &damaged)?;
        }
    }
    for (field, place) in [("count", 8), ("plain-bytes", 16), ("stored-bytes", 24)] {
        for (name, value) in interesting(number(table, place)?) {
            let mut damaged = table.to_vec();
            damaged[place..place + 8].copy_from_slice(&value.to_le_bytes());
            give(format!("head/{field}/{name}"), &damaged)?;
        }
    }
    for (name, cut) in [
        ("nothing", 0),
        ("half-a-head", 16),
        ("a-head", 32),
        ("half-an-entry", 84),
        ("a-byte-less", table.len() - 1),
    ] {
        give(format!("cut/{name}"), &table[..cut])?;
    }
    for (name, tail) in
        [("a-byte", vec![0]), ("an-entry", vec![0; CHUNK_BYTES]), ("itself", table.to_vec())]
    {
        give(format!("followed-by/{name}"), &[table, &tail].concat())?;
    }
    Ok(())
}

/// Entries swapped, doubled, dropped: gaps, overlaps, strangers.
fn order(table: &[u8], entries: usize, give: Give<'_>) -> Result<()> {
    let (head, body) = table.split_at(HEAD_BYTES);
    let all: Vec<&[u8]> = body.chunks(CHUNK_BYTES).collect();
    let mut made = |name: String, order: Vec<&[u8]>| -> Result<()> {
        let mut damaged = [head, &order.concat()].concat();
        damaged[8..16].copy_from_slice(&(order.len() as u64).to_le_bytes());
        resum(&mut damaged)?;
        give(name, &damaged)
    };
    for one in 0..entries {
        for other in one + 1..entries {
            let mut order = all.clone();
            order.swap(one, other);
            made(format!("swapped/{one}-{other}"), order)?;
        }
        let mut order = all.clone();
        let entry = order.remove(one);
        made(format!("dropped/{one}"), order)?;
        let mut order = all.clone();
        order.insert(one, entry);
        made(format!("doubled/{one}"), order)?;
    }
    made("reversed".to_owned(), all.into_iter().rev().collect())
}
