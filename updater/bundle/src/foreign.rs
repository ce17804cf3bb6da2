//! What a file is that somebody took for a volume, by its first bytes: so that the refusal can say what
//! lies there and what to do, instead of which byte is wrong. It decides nothing else.

use std::fmt;

use crate::container::{Member, header};

/// As many bytes from a file's start as [`Foreign::of`] makes use of: an ISO image is known by its first
/// volume descriptor (ECMA-119, 8.4), and most else by a few bytes at the very start.
pub const START_BYTES: usize = 32_774;

/// A kind of file that is not a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// It has no bytes.
    Empty,
    /// It begins with zeros only.
    Zeros,
    /// gzip (RFC 1952).
    Gzip,
    /// zip, and what is built on it.
    Zip,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
    /// zstd (RFC 8878), or its skippable frame.
    Zstd,
    /// LZ4 frame.
    Lz4,
    /// 7z.
    SevenZip,
    /// RAR.
    Rar,
    /// An age file as text.
    AgeArmour,
    /// An age file of another version.
    AgeOther,
    /// An OpenPGP message or signature as text.
    Pgp,
    /// An archive of tar's, with other members than a volume's.
    Tar,
    /// An archive of cpio's.
    Cpio,
    /// An ISO 9660 image.
    Iso,
    /// A file system in squashfs, such as a RAUC bundle.
    Squashfs,
    /// A file system of the ext family.
    Ext,
    /// The first blocks of a disk: a table of partitions, or a FAT file system.
    Disk,
    /// A program for Linux.
    Elf,
    /// A program for Windows.
    Pe,
    /// A script with an interpreter's name.
    Script,
    /// Weights in GGUF.
    Gguf,
    /// Weights in safetensors.
    Safetensors,
    /// A PDF document.
    Pdf,
    /// Lines of text.
    Text,
}

/// Kinds by the bytes at an offset; the first that fits.
const MARKS: [(usize, &[u8], Foreign); 33] = [
    (0, b"\x1f\x8b", Foreign::Gzip),
    (0, b"PK\x03\x04", Foreign::Zip),
    (0, b"PK\x05\x06", Foreign::Zip),
    (0, b"PK\x07\x08", Foreign::Zip),
    (0, b"\xfd7zXZ\0", Foreign::Xz),
    (0, b"BZh", Foreign::Bzip2),
    (0, b"\x28\xb5\x2f\xfd", Foreign::Zstd),
    (1, b"\x2a\x4d\x18", Foreign::Zstd),
    (0, b"\x04\x22\x4d\x18", Foreign::Lz4),
    (0, b"7z\xbc\xaf\x27\x1c", Foreign::SevenZip),
    (0, b"Rar!\x1a\x07", Foreign::Rar),
    (0, b"-----BEGIN AGE ENCRYPTED FILE-----", Foreign::AgeArmour),
    (0, b"age-encryption.org/", Foreign::AgeOther),
    (0, b"-----BEGIN PGP ", Foreign::Pgp),
    (0, b"07070", Foreign::Cpio),
    (0, b"\xc7\x71", Foreign::Cpio),
    (0, b"hsqs", Foreign::Squashfs),
    (0, b"\x7fELF", Foreign::Elf),
    (0, b"MZ", Foreign::Pe),
    (0, b"#!", Foreign::Script),
    (0, b"GGUF", Foreign::Gguf),
    (8, b"{\"", Foreign::Safetensors),
    (0, b"%PDF-", Foreign::Pdf),
    // UTF-16, either way round.
    (0, b"\xff\xfe", Foreign::Text),
    (0, b"\xfe\xff", Foreign::Text),
    (257, b"ustar", Foreign::Tar),
    // In front of the table of partitions that many images have too.
    (32_769, b"CD001", Foreign::Iso),
    (32_769, b"BEA01", Foreign::Iso),
    (1080, b"\x53\xef", Foreign::Ext),
    (512, b"EFI PART", Foreign::Disk),
    (510, b"\x55\xaa", Foreign::Disk),
    (3, b"NTFS    ", Foreign::Disk),
    (3, b"EXFAT   ", Foreign::Disk),
];

impl Foreign {
    /// What a file is that begins with `start`, of which up to [`START_BYTES`] count; `None` for what
    /// begins like a volume, whole or cut, and for what is of no kind that is known here.
    #[must_use]
    pub fn of(start: &[u8]) -> Option<Self> {
        let ours = [Member::Head, Member::Meta].map(|member| member.name());
        let begins = |name: &String| {
            let (name, many) = (name.as_bytes(), name.len().min(start.len()));
            start.get(..many) == name.get(..many)
        };
        if start.is_empty() {
            return Some(Self::Empty);
        }
        if ours.iter().any(begins) || is_damaged(start) {
            return None;
        }
        // Tools write armour and scripts behind a mark or blank lines now and then.
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
        let is = |(at, mark, _): &&(usize, &[u8], Self)| {
            let there = |bytes: &[u8]| bytes.get(*at..).is_some_and(|rest| rest.starts_with(mark));
            there(start) || (*at == 0 && there(text))
        };
        let known = MARKS.iter().find(is).map(|(_, _, kind)| *kind);
        known.or_else(|| plain(start))
    }

    /// What the one who offers it can do.
    const fn advice(self) -> &'static str {
        match self {
            Self::Empty | Self::Zeros => {
                "copy the volume again, and let the stick go before it is pulled"
            }
            Self::Gzip
            | Self::Zip
            | Self::Xz
            | Self::Bzip2
            | Self::Zstd
            | Self::Lz4
            | Self::SevenZip
            | Self::Rar
            | Self::Cpio => "if it holds volumes, unpack them (`*.clb`) where it was packed",
            Self::AgeArmour => {
                "seal the volume with `cloister-mint seal`, which writes age's binary form"
            }
            Self::AgeOther | Self::Pgp => "seal the volume with `cloister-mint seal`",
            Self::Tar | Self::Gguf | Self::Safetensors => {
                "make a volume of it with `cloister-mint build`, or unpack the `*.clb` that it holds"
            }
            Self::Iso | Self::Squashfs | Self::Ext | Self::Disk => {
                "write the image to a device of its own, or copy the `*.clb` that it holds"
            }
            Self::Elf | Self::Pe | Self::Script => "nothing of it is run; ask how it came here",
            Self::Pdf | Self::Text => "give the volume itself, `*.clb`",
        }
    }
}

/// Whether a first block has the modes and owners that only a volume's members have: a tar archive of
/// another maker has others, a volume whose first bytes were changed has not.
fn is_damaged(start: &[u8]) -> bool {
    let fields = 100..124;
    let ours = header(&Member::Head.name(), 0);
    ours.is_ok_and(|ours| start.get(fields.clone()) == ours.get(fields))
}

/// What has no mark: zeros, and text that could be shown.
fn plain(start: &[u8]) -> Option<Foreign> {
    if start.iter().all(|byte| *byte == 0) {
        return Some(Foreign::Zeros);
    }
    let readable = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A letter may be cut at the end of what was read.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(start.get(..error.valid_up_to())?).ok()?
        }
        Err(_other) => return None,
    };
    let shown =
        |letter: char| !letter.is_control() || matches!(letter, '\n' | '\r' | '\t' | '\x0c');
    readable.chars().all(shown).then_some(Foreign::Text)
}

impl fmt::Display for Foreign {
    /// What it is, and what to do: `a gzip archive; if it holds …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Empty => "empty",
            Self::Zeros => "zeros from its start",
            Self::Gzip => "a gzip archive",
            Self::Zip => "a zip archive",
            Self::Xz => "an xz archive",
            Self::Bzip2 => "a bzip2 archive",
            Self::Zstd => "a zstd archive",
            Self::Lz4 => "an LZ4 archive",
            Self::SevenZip => "a 7z archive",
            Self::Rar => "a RAR archive",
            Self::AgeArmour => "an age file in text form (armour)",
            Self::AgeOther => "an age file of an unknown version",
            Self::Pgp => "an OpenPGP file",
            Self::Tar => "a tar archive",
            Self::Cpio => "a cpio archive",
            Self::Iso => "an image of an optical disc",
            Self::Squashfs => "a squashfs image",
            Self::Ext => "an image of an ext file system",
            Self::Disk => "an image of a disk",
            Self::Elf => "a program (ELF)",
            Self::Pe => "a program (PE)",
            Self::Script => "a script",
            Self::Gguf => "a GGUF model",
            Self::Safetensors => "a safetensors model",
            Self::Pdf => "a PDF document",
            Self::Text => "a text file",
        };
        write!(f, "{words}, not a Cloister volume: {}", self.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BundleError, container::archive};

    #[test]
    fn a_file_is_known_by_how_it_begins() {
        let at = |place: usize, mark: &[u8]| {
            let mut start = vec![0; START_BYTES];
            start[0] = 0xeb;
            start[place..place + mark.len()].copy_from_slice(mark);
            start
        };
        let mut disc = at(32_769, b"CD001");
        disc[510..512].copy_from_slice(b"\x55\xaa");
        let mut empty_disc = disc.clone();
        (empty_disc[0], empty_disc[510], empty_disc[511]) = (0, 0, 0);
        for (start, kind) in [
            (b"".to_vec(), Foreign::Empty),
            (vec![0], Foreign::Zeros),
            (vec![0; START_BYTES], Foreign::Zeros),
            (b"\x1f\x8b\x08\0\0".to_vec(), Foreign::Gzip),
            (b"PK\x03\x04\x14".to_vec(), Foreign::Zip),
            (b"PK\x05\x06".to_vec(), Foreign::Zip),
            (b"\xfd7zXZ\0\0\x04".to_vec(), Foreign::Xz),
            (b"BZh91AY".to_vec(), Foreign::Bzip2),
            (b"\x28\xb5\x2f\xfd\x24".to_vec(), Foreign::Zstd),
            (b"\x50\x2a\x4d\x18\x04".to_vec(), Foreign::Zstd),
            (b"\x04\x22\x4d\x18".to_vec(), Foreign::Lz4),
            (b"7z\xbc\xaf\x27\x1c\0".to_vec(), Foreign::SevenZip),
            (b"Rar!\x1a\x07\x01\0".to_vec(), Foreign::Rar),
            (b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl".to_vec(), Foreign::AgeArmour),
            (b"\r\n -----BEGIN AGE ENCRYPTED FILE-----\r\n".to_vec(), Foreign::AgeArmour),
            (b"age-encryption.org/v2\n-> X25519".to_vec(), Foreign::AgeOther),
            (b"-----BEGIN PGP MESSAGE-----".to_vec(), Foreign::Pgp),
            (at(257, b"ustar"), Foreign::Tar),
            (b"070701000000".to_vec(), Foreign::Cpio),
            (b"070702000000".to_vec(), Foreign::Cpio),
            (disc, Foreign::Iso),
            (empty_disc, Foreign::Iso),
            (b"hsqs\x01\0".to_vec(), Foreign::Squashfs),
            (at(1080, b"\x53\xef"), Foreign::Ext),
            (at(510, b"\x55\xaa"), Foreign::Disk),
            (at(512, b"EFI PART"), Foreign::Disk),
            (b"\x7fELF\x02\x01".to_vec(), Foreign::Elf),
            (b"MZ\x90\0".to_vec(), Foreign::Pe),
            (b"#!/bin/sh\n".to_vec(), Foreign::Script),
            (b"\xef\xbb\xbf\n#! /bin/sh".to_vec(), Foreign::Script),
            (b"GGUF\x03\0\0\0".to_vec(), Foreign::Gguf),
            (b"\x40\0\0\0\0\0\0\0{\"__metadata__\"".to_vec(), Foreign::Safetensors),
            (b"%PDF-1.7".to_vec(), Foreign::Pdf),
            (b"\xff\xfeh\0i\0".to_vec(), Foreign::Text),
            (b"hello\n".to_vec(), Foreign::Text),
            (b"{\"a\": 1}".to_vec(), Foreign::Text),
            ("Übung ü".as_bytes()[..8].to_vec(), Foreign::Text),
        ] {
            let begin = &start[..start.len().min(40)];
            assert_eq!(Foreign::of(&start), Some(kind), "{begin:?}");
            let words = BundleError::Foreign(kind).to_string();
            assert!(words.contains("not a Cloister volume: "), "{words}");
            assert!(words.ends_with(kind.advice()) && kind.advice().len() > 20, "{words}");
        }
    }

    #[test]
    fn a_volume_whole_cut_or_damaged_is_none_of_these() {
        for member in [Member::Head, Member::Meta] {
            let volume = archive([(member.name().as_str(), b"x".as_slice())]).expect("small");
            for length in 1..=volume.len() {
                assert_eq!(Foreign::of(&volume[..length]), None, "{length}");
            }
            for bit in 0..8 * 512 {
                let mut damaged = volume.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let kind = Foreign::of(&damaged);
                // Modes and owners say so only while they are not what is damaged, nor the name.
                assert!(kind.is_none(), "{bit} {kind:?}");
            }
        }
        // Neither is what nobody knows.
        assert_eq!(Foreign::of(b"\x01\x02\x03\xff"), None);
        assert_eq!(Foreign::of(b"text and \x1b[2J"), None);
        assert_eq!(Foreign::of(b"\xe9t\xe9 in Latin-1"), None);
    }
}
