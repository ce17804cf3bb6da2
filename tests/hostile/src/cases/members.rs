//! Members swapped, repeated, dropped, renamed; foreign members in front; padding; what follows the
//! end.

use anyhow::Result;
use cloister_bundle::container::{BLOCK_BYTES, header};

use super::{Sink, container::sum, label};
use crate::base::{Base, Members, member, pack};

const FORM: &[&str] = &[
    "bundle.container.",
    "bundle.head",
    "bundle.head.range",
    "bundle.meta",
    "bundle.manifest.envelope",
    "quarantine.member",
];
const META: &[&str] = &["bundle.container.", "bundle.meta", "bundle.trust."];

pub(super) fn cases(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    rearranged(&base.members, "members", FORM, sink, &|bytes| bytes);
    rearranged(&base.meta, "meta-members", META, sink, &|meta| base.with("clb/10-meta", meta));
    paddings(&base.members, "padding", &["bundle.container.padding"], sink, &|bytes| bytes);
    paddings(&base.meta, "meta-padding", &["bundle.container.padding"], sink, &|meta| {
        base.with("clb/10-meta", meta)
    });
    ends(&base.bytes, sink)?;
    let inner = pack(&base.meta);
    for (name, tail) in tails(&inner) {
        let meta = base.with("clb/10-meta", [&inner[..], &tail].concat());
        sink.give(&format!("meta-end/{name}"), &meta, META);
    }
    Ok(())
}

type Whole<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;

fn rearranged(
    members: &Members,
    class: &str,
    codes: &[&str],
    sink: &mut Sink<'_>,
    whole: Whole<'_>,
) {
    let mut give = |name: String, members: &Members| {
        sink.give(&format!("{class}/{name}"), &whole(pack(members)), codes);
    };
    for (one, (name, content)) in members.iter().enumerate() {
        let short = label(name);
        for (other, (second, _)) in members.iter().enumerate().skip(one + 1) {
            let mut swapped = members.clone();
            swapped.swap(one, other);
            give(format!("swapped/{short}/{}", label(second)), &swapped);
        }
        for at in 0..=members.len() {
            let mut repeated = members.clone();
            repeated.insert(at, (name.clone(), content.clone()));
            give(format!("repeated/{short}/at-{at}"), &repeated);
        }
        let mut dropped = members.clone();
        let moved = dropped.remove(one);
        // The trust metadata may come without what the appliance has, but not these files.
        if name != "1.root.json" {
            give(format!("dropped/{short}"), &dropped);
        }
        dropped.push(moved);
        give(format!("last/{short}"), &dropped);
        // Nobody asks for a file of another name, so the held root under one is a file less.
        for (how, new) in names(name).into_iter().filter(|_| name != "1.root.json") {
            let mut renamed = members.clone();
            renamed[one].0 = new;
            give(format!("renamed/{short}/{how}"), &renamed);
        }
        let mut emptied = members.clone();
        emptied[one].1.clear();
        give(format!("emptied/{short}"), &emptied);
    }
    foreign(members, class, codes, sink, whole);
}

/// Other names for a member.
fn names(name: &str) -> Vec<(&'static str, String)> {
    let mut last: Vec<char> = name.chars().collect();
    if let Some(end) = last.last_mut() {
        *end = if *end == '0' { '1' } else { '0' };
    }
    vec![
        ("upper-case", name.to_uppercase()),
        ("other-end", last.into_iter().collect()),
        ("longer", format!("{}x", name.chars().take(99).collect::<String>())),
        ("dotted", format!("./{}", name.chars().take(98).collect::<String>())),
        ("climbing", format!("../{}", name.chars().take(97).collect::<String>())),
        ("absolute", format!("/{}", name.chars().take(99).collect::<String>())),
        ("hidden", format!(".{}", name.chars().take(99).collect::<String>())),
        ("digest-as-path", "c/../../../../../../etc/cron.d/x".to_owned()),
        ("slash-doubled", name.replacen('/', "//", 1) + "/"),
    ]
}

/// Members of other kinds put in front of each member: what tar readers differ in.
fn foreign(members: &Members, class: &str, codes: &[&str], sink: &mut Sink<'_>, whole: Whole<'_>) {
    for at in 0..=members.len() {
        let mut front: Members = members.clone();
        let rest = front.split_off(at);
        let mut before: Vec<u8> = pack(&front);
        before.truncate(before.len() - 2 * BLOCK_BYTES);
        let after = pack(&rest);
        // A file that nobody asks for may lie behind the others.
        let last = class == "meta-members" && at == members.len();
        for (name, put) in strangers() {
            if last && name == "empty-member" {
                continue;
            }
            let bytes = [&before[..], &put, &after].concat();
            sink.give(&format!("{class}/in-front/at-{at}/{name}"), &whole(bytes), codes);
        }
    }
}

/// A member of a type, its checksum right.
fn typed(kind: u8, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = member(name, content);
    bytes[156] = kind;
    bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
    sum(&mut bytes[..BLOCK_BYTES]);
    bytes
}

/// A record of an extended header: its own length, a blank, the rest (POSIX.1-2001, pax).
fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let digits = (1..20).find(|digits| (rest.len() + digits).to_string().len() == *digits);
        out.extend(format!("{}{rest}", rest.len() + digits.unwrap_or(1)).into_bytes());
    }
    out
}

fn strangers() -> Vec<(&'static str, Vec<u8>)> {
    let long = "x/".repeat(300) + "\0";
    let claims = |size: u64, kind: u8| {
        let mut block = header("././@LongLink", size).expect("a size of the format").to_vec();
        block[156] = kind;
        sum(&mut block);
        block
    };
    vec![
        ("pax-path", typed(b'x', "PaxHeaders/x", "", &pax(&[("path", "../../x")]))),
        ("pax-size", typed(b'x', "PaxHeaders/x", "", &pax(&[("size", "0")]))),
        (
            "pax-size-2^63",
            typed(b'x', "PaxHeaders/x", "", &pax(&[("size", "9223372036854775808")])),
        ),
        ("pax-linkpath", typed(b'x', "PaxHeaders/x", "", &pax(&[("linkpath", "/etc/passwd")]))),
        (
            "pax-sparse",
            typed(
                b'x',
                "PaxHeaders/x",
                "",
                &pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "1099511627776")]),
            ),
        ),
        ("pax-nul", typed(b'x', "PaxHeaders/x", "", &pax(&[("path", "clb/00-head\0x")]))),
        ("pax-length-lies", typed(b'x', "PaxHeaders/x", "", b"99 path=x\n")),
        ("pax-unended", typed(b'x', "PaxHeaders/x", "", b"9 path=x")),
        ("pax-empty", typed(b'x', "PaxHeaders/x", "", b"")),
        ("pax-global", typed(b'g', "pax_global_header", "", &pax(&[("path", "y")]))),
        ("pax-2-gib", claims(1 << 31, b'x')),
        ("gnu-longname", typed(b'L', "././@LongLink", "", long.as_bytes())),
        ("gnu-longlink", typed(b'K', "././@LongLink", "", long.as_bytes())),
        ("gnu-longname-2-gib", claims(1 << 31, b'L')),
        ("gnu-longname-8-gib", claims((8 << 30) - 1, b'L')),
        (
            "pax-then-longname",
            [
                typed(b'x', "PaxHeaders/x", "", &pax(&[("size", "1024")])),
                typed(b'L', "././@LongLink", "", long.as_bytes()),
            ]
            .concat(),
        ),
        ("gnu-sparse", typed(b'S', "sparse", "", b"")),
        ("gnu-multivolume", typed(b'M', "part", "", b"")),
        ("gnu-label", typed(b'V', "label", "", b"")),
        ("gnu-dump", typed(b'D', "dump", "", b"")),
        ("solaris-acl", typed(b'A', "acl", "", b"")),
        ("star-metadata", typed(b'E', "meta", "", b"")),
        ("folder", typed(b'5', "clb/", "", b"")),
        ("symlink", typed(b'2', "clb", "/tmp", b"")),
        ("symlink-climbing", typed(b'2', "files", "../../..", b"")),
        ("hardlink", typed(b'1', "clb/00-head", "/etc/shadow", b"")),
        ("character-device", typed(b'3', "clb/00-head", "", b"")),
        ("block-device", typed(b'4', "clb/00-head", "", b"")),
        ("pipe", typed(b'6', "clb/00-head", "", b"")),
        ("contiguous", typed(b'7', "clb/00-head", "", b"")),
        ("empty-member", member("x", b"")),
        ("zero-block", vec![0; BLOCK_BYTES]),
        ("zero-blocks", vec![0; 2 * BLOCK_BYTES]),
        ("noise", (0..512u32).map(|at| (at * 7 % 251) as u8).collect()),
    ]
}

fn paddings(members: &Members, class: &str, codes: &[&str], sink: &mut Sink<'_>, whole: Whole<'_>) {
    let mut at = 0;
    let packed = pack(members);
    for (name, content) in members {
        let end = at + BLOCK_BYTES + content.len();
        at = end.next_multiple_of(BLOCK_BYTES);
        let places =
            [("first", end), ("second", end + 1), ("middle", end.midpoint(at)), ("last", at - 1)];
        for (place, byte) in places.into_iter().filter(|(_, byte)| (end..at).contains(byte)) {
            for value in [1, 0x20, 0x30, 0x80, 0xff] {
                let mut damaged = packed.clone();
                damaged[byte] = value;
                let name = format!("{class}/{}/{place}/{value:#04x}", label(name));
                sink.give(&name, &whole(damaged), codes);
            }
        }
    }
}

/// What may be put behind a container.
fn tails(container: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a-zero-byte", vec![0]),
        ("a-byte", vec![1]),
        ("a-zero-block", vec![0; BLOCK_BYTES]),
        ("zeros-to-10240", vec![0; 10_240 - container.len() % 10_240]),
        ("a-second-archive", container.to_vec()),
        ("a-member", member("clb/50-more", b"x")),
        ("a-newline", b"\n".to_vec()),
        ("a-zip", b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
        ("an-elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec()),
        ("4-mib-of-zeros", vec![0; 4 << 20]),
    ]
}

fn ends(volume: &[u8], sink: &mut Sink<'_>) -> Result<()> {
    let end = &["bundle.container.end"][..];
    for (name, tail) in tails(volume) {
        sink.give(&format!("end/followed-by/{name}"), &[volume, &tail].concat(), end);
    }
    let body = &volume[..volume.len() - 2 * BLOCK_BYTES];
    let cut = &["bundle.container.truncated"][..];
    sink.give("end/missing", body, cut);
    sink.give("end/half", &[body, &[0; BLOCK_BYTES]].concat(), cut);
    sink.give("end/two-archives-in-one", &[body, volume].concat(), end);
    for place in [0, 1, 511, 512, 513, 1023] {
        for bit in 0..8 {
            let mut damaged = volume.to_vec();
            damaged[body.len() + place] ^= 1 << bit;
            sink.give(&format!("end/bit-{bit}-of-byte-{place}"), &damaged, end);
        }
    }
    // What reads the first member alone does not say what else lies there; the daemons do.
    let form =
        &["bundle.container.header", "bundle.container.truncated", "bundle.container.foreign"][..];
    for (name, lead) in [
        ("a-zero-byte", &b"\0"[..]),
        ("a-mark", b"\xef\xbb\xbf"),
        ("a-zero-block", &[0; BLOCK_BYTES]),
        ("a-script", b"#!/bin/sh\n"),
        ("a-newline", b"\n"),
    ] {
        sink.give(&format!("start/after/{name}"), &[lead, volume].concat(), form);
    }
    sink.give("whole/empty", b"", form);
    sink.give("whole/zeros", &vec![0; volume.len()], form);
    sink.give("whole/zstd", &zstd::bulk::compress(volume, 3)?, form);
    sink.give("whole/reversed", &volume.iter().rev().copied().collect::<Vec<u8>>(), form);
    sink.give("whole/text", &base_as_text(volume), form);
    Ok(())
}

/// As a mail program might send it.
fn base_as_text(volume: &[u8]) -> Vec<u8> {
    volume.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}
