//! Each field of each header set to each interesting value, with the checksum made right again and
//! with the old one: of the volume's members, and of the files inside its metadata.

use anyhow::Result;
use cloister_bundle::container::BLOCK_BYTES;

use super::{Sink, label};
use crate::base::{Base, pack, unpack};

/// The fields of a ustar header: name, place, width (POSIX.1-1988, 10.1.1).
const FIELDS: [(&str, usize, usize); 17] = [
    ("name", 0, 100),
    ("mode", 100, 8),
    ("uid", 108, 8),
    ("gid", 116, 8),
    ("size", 124, 12),
    ("mtime", 136, 12),
    ("chksum", 148, 8),
    ("typeflag", 156, 1),
    ("linkname", 157, 100),
    ("magic", 257, 6),
    ("version", 263, 2),
    ("uname", 265, 32),
    ("gname", 297, 32),
    ("devmajor", 329, 8),
    ("devminor", 337, 8),
    ("prefix", 345, 155),
    ("unused", 500, 12),
];

/// Types of members: links, devices, folders, sparse files, extension headers of every dialect, and
/// the old spelling of a plain file.
const TYPES: &[u8] = b"\x001234567ADEIKLMNSVXgxs9 \x80\xff";

pub(super) fn cases(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    each_header(&base.bytes, "container", sink, &|bytes| bytes)?;
    let inner = pack(&base.meta);
    each_header(&inner, "meta-container", sink, &|meta| base.with("clb/10-meta", meta))
}

/// `whole` makes the volume from the damaged container.
fn each_header(
    container: &[u8],
    class: &str,
    sink: &mut Sink<'_>,
    whole: &dyn Fn(Vec<u8>) -> Vec<u8>,
) -> Result<()> {
    for (at, name, size) in headers(container)? {
        for (field, from, width) in FIELDS {
            let place = at + from..at + from + width;
            // A file of metadata that nobody asks for is passed over, and the root is held already.
            if field == "name" && name == "1.root.json" {
                continue;
            }
            let codes = codes(class, field);
            for (value, bytes) in values(field, width, size) {
                for (kind, summed) in [("summed", true), ("unsummed", false)] {
                    let mut damaged = container.to_vec();
                    damaged[place.clone()].copy_from_slice(&bytes);
                    if summed && field != "chksum" {
                        sum(&mut damaged[at..at + BLOCK_BYTES]);
                    }
                    let name = format!("{class}/{field}/{}/{value}-{kind}", label(&name));
                    sink.give(&name, &whole(damaged), codes);
                }
            }
        }
    }
    Ok(())
}

/// A size that is another legal one moves what follows, so that the damage is met later.
fn codes(class: &str, field: &str) -> &'static [&'static str] {
    match (class, field) {
        ("container", "size") => &[
            "bundle.container.",
            "bundle.head",
            "bundle.head.range",
            "bundle.meta",
            "bundle.trust.missing",
            "bundle.manifest.envelope",
        ],
        ("container", _) => &["bundle.container.header"],
        _ => &["bundle.container.", "bundle.meta", "bundle.trust."],
    }
}

/// Where each header lies, its member and the member's size.
fn headers(container: &[u8]) -> Result<Vec<(usize, String, u64)>> {
    let mut at = 0;
    let mut found = Vec::new();
    for (name, content) in unpack(container)? {
        let size = content.len();
        found.push((at, name, size as u64));
        at += BLOCK_BYTES + size.next_multiple_of(BLOCK_BYTES);
    }
    Ok(found)
}

/// Values for a field of `width` bytes, each with a name. Numbers are written as ustar, GNU tar and
/// star write them.
fn values(field: &str, width: usize, size: u64) -> Vec<(String, Vec<u8>)> {
    let mut values: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: &[u8]| {
        let mut field = vec![0; width];
        let used = bytes.len().min(width);
        field[..used].copy_from_slice(&bytes[..used]);
        values.push((name.to_owned(), field));
    };
    if field == "typeflag" {
        for kind in TYPES {
            add(&format!("{kind:#04x}"), &[*kind]);
        }
        return values;
    }
    for (name, byte) in [
        ("nul", 0),
        ("space", b' '),
        ("zero", b'0'),
        ("seven", b'7'),
        ("nine", b'9'),
        ("ff", 0xff),
        ("minus", b'-'),
    ] {
        add(name, &vec![byte; width]);
    }
    add("one", format!("{:0>1$o}", 1, width - 1).as_bytes());
    add("one-unended", format!("{:0>1$o}", 1, width).as_bytes());
    add("one-spaced", format!("{:>1$o} ", 1, width.saturating_sub(2)).as_bytes());
    add("most-but-one", format!("{:7>1$}", 6, width - 1).as_bytes());
    add("negative", format!("{:0>1$}", "-1", width - 1).as_bytes());
    add("hexadecimal", b"0x1f");
    add("base256-one", &base256(0x80, 1, width));
    add("base256-most", &base256(0x80, u128::MAX >> 1, width));
    add("base256-2^63", &base256(0x80, 1 << 63, width));
    add("base256-minus-one", &vec![0xff; width]);
    match field {
        "size" => sizes(size, &mut add),
        "name" | "linkname" | "prefix" => {
            for (name, path) in [
                ("climbing", &b"../../../../tmp/x"[..]),
                ("absolute", b"/etc/passwd"),
                ("head", b"clb/00-head"),
                ("dotted", b"./clb/00-head"),
                ("cased", b"CLB/00-HEAD"),
                ("ended-early", b"clb/00-head\0../x"),
                ("backslash", b"clb\\00-head"),
                ("newline", b"clb/00-head\n"),
                ("utf-8", "clb/00-h\u{e9}ad".as_bytes()),
                ("sparse", b"GNUSparseFile.0/clb/00-head"),
            ] {
                add(name, path);
            }
        }
        "magic" | "version" => {
            for (name, text) in [
                ("gnu", &b"ustar "[..]),
                ("posix", b"ustar\0"),
                ("gnu-version", b" \0"),
                ("star", b"tar\0"),
            ] {
                add(name, text);
            }
        }
        _ => {}
    }
    values
}

fn sizes(size: u64, add: &mut dyn FnMut(&str, &[u8])) {
    for (name, value) in [
        ("one-less", size.saturating_sub(1)),
        ("one-more", size + 1),
        ("none", 0),
        ("a-block-more", size + 512),
        ("a-block-less", size.saturating_sub(512)),
        ("4-mib-and-one", (4 << 20) + 1),
        ("1-gib", 1 << 30),
        ("2-gib", 1 << 31),
        ("4-gib", 1 << 32),
        ("8-gib-less-one", (8 << 30) - 1),
    ] {
        add(name, format!("{value:011o}\0").as_bytes());
    }
    add("same-spaced", format!("{size:>10o} \0").as_bytes());
    add("same-unended", format!("{size:012o}").as_bytes());
    add("same-ended-by-space", format!("{size:011o} ").as_bytes());
    add("same-base256", &base256(0x80, u128::from(size), 12));
    add("same-plus", format!("+{size:010o}\0").as_bytes());
    add("same-decimal", format!("{size:011}\0").as_bytes());
}

/// GNU tar's large numbers: big-endian behind a marking byte.
fn base256(mark: u8, value: u128, width: usize) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let mut field = vec![0; width];
    let used = width.min(bytes.len());
    field[width - used..].copy_from_slice(&bytes[bytes.len() - used..]);
    field[0] = mark;
    field
}

/// Makes a header's checksum right.
pub(super) fn sum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
