//! What an artefact is, by what it begins with.
//!
//! Numbers and offsets are those of the formats' own documents, as file(1) collects them
//! (`Magdir/{elf,msdos,mach,python,java,wasm,hdf5,archive,compress}`).

use crate::{Foreign, Kind, Refusal, Source, document::is_control, pickle, read};

/// Bytes at the end in which readers look for the end of a zip archive: its record and the longest
/// comment (APPNOTE.TXT 4.3.16), 66 000 with unzip, a buffer more with miniz.
const TAIL_BYTES: u64 = 72 << 10;

/// What a release may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The magic number of GGUF.
    Gguf,
    /// A length and the brace of a safetensors header.
    Safetensors,
    /// What may be text; the whole of it says.
    Other,
}

impl Content {
    /// In words.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
            Self::Other => "text",
        }
    }

    /// Whether content and promise agree.
    pub(crate) const fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Gguf => matches!(kind, Kind::Gguf),
            Self::Safetensors => matches!(kind, Kind::Safetensors),
            Self::Other => !matches!(kind, Kind::Gguf | Kind::Safetensors),
        }
    }
}

/// Decides by the `front` of a file of `bytes`.
pub(crate) fn of(front: &[u8], bytes: u64) -> Result<Content, Refusal> {
    if front.starts_with(b"GGUF") {
        return Ok(Content::Gguf);
    }
    if let Some(foreign) = foreign(front) {
        return Err(Refusal::Foreign(foreign));
    }
    // After the magic numbers: a header's length may look like the first bytes of a pickle, whose
    // instructions then do not go on.
    if is_safetensors(front, bytes) {
        return Ok(Content::Safetensors);
    }
    // A text that goes on is followed to its end where documents are judged.
    let whole = u64::try_from(front.len()).is_ok_and(|length| length == bytes);
    if pickle::is_one(front, whole).unwrap_or(true) {
        return Err(Refusal::Foreign(Foreign::Pickle));
    }
    if front.iter().copied().any(is_control) {
        return Err(Refusal::Unknown);
    }
    Ok(Content::Other)
}

/// The brace that the header must begin with, behind a length: one that fits the file, or that is
/// written as no text would be.
fn is_safetensors(front: &[u8], bytes: u64) -> bool {
    let Some((length, rest)) = front.split_first_chunk::<8>() else { return false };
    let end = u64::from_le_bytes(*length).checked_add(8);
    let fits = end.is_some_and(|end| end <= bytes);
    rest.first() == Some(&b'{') && (fits || length.iter().copied().any(is_control))
}

/// Magic numbers at the beginning. Texts that begin with the letters of one are none of it.
const MAGIC: [(&[u8], Foreign); 31] = [
    (b"\x7fELF", Foreign::Elf),
    (b"\xfe\xed\xfa\xce", Foreign::MachO),
    (b"\xfe\xed\xfa\xcf", Foreign::MachO),
    (b"\xce\xfa\xed\xfe", Foreign::MachO),
    (b"\xcf\xfa\xed\xfe", Foreign::MachO),
    (b"#!", Foreign::Script),
    (b"\xef\xbb\xbf#!", Foreign::Script),
    (b"\0asm", Foreign::Wasm),
    (b"BC\xc0\xde", Foreign::Bitcode),
    (b"\xde\xc0\x17\x0b", Foreign::Bitcode),
    (b"dex\n03", Foreign::JavaClass),
    (b"\x89HDF\r\n\x1a\n", Foreign::Hdf5),
    (b"7z\xbc\xaf\x27\x1c", Foreign::Archive),
    (b"\x1f\x8b", Foreign::Archive),
    (b"\x1f\x9d", Foreign::Archive),
    (b"\x1f\xa0", Foreign::Archive),
    (b"BZh", Foreign::Archive),
    (b"\xfd7zXZ\0", Foreign::Archive),
    (b"\x5d\0\0", Foreign::Archive),
    (b"\x28\xb5\x2f\xfd", Foreign::Archive),
    (b"\x04\x22\x4d\x18", Foreign::Archive),
    (b"LZIP\x01", Foreign::Archive),
    (b"Rar!\x1a\x07", Foreign::Archive),
    (b"MSCF\0\0\0\0", Foreign::Archive),
    (b"!<arch>\n", Foreign::Archive),
    (b"070701", Foreign::Archive),
    (b"070702", Foreign::Archive),
    (b"070707", Foreign::Archive),
    (b"\xc7\x71", Foreign::Archive),
    (b"hsqs", Foreign::Archive),
    (b"xar!", Foreign::Archive),
];

/// Where the user block of an HDF5 file may end (HDF5 file format, II.A).
const HDF5_PLACES: [usize; 6] = [0, 512, 1024, 2048, 4096, 8192];

fn foreign(front: &[u8]) -> Option<Foreign> {
    let by_magic = MAGIC.iter().find(|(magic, _)| front.starts_with(magic));
    if let Some((_, foreign)) = by_magic {
        return Some(*foreign);
    }
    let at =
        |place: usize, magic: &[u8]| front.get(place..).is_some_and(|rest| rest.starts_with(magic));
    if [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"].iter().any(|magic| at(0, *magic)) {
        return Some(if holds_pickle(front) { Foreign::Pickle } else { Foreign::Archive });
    }
    // A skippable frame of zstd may stand before the first one (RFC 8878, 3.1.2).
    let skippable = matches!(front, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    if skippable || at(257, b"ustar") || is_old_tar(front) {
        return Some(Foreign::Archive);
    }
    if HDF5_PLACES.iter().any(|place| at(*place, b"\x89HDF\r\n\x1a\n")) {
        return Some(Foreign::Hdf5);
    }
    match front {
        // The same four bytes begin a class and a Mach-O file of several architectures: then comes the
        // version, at least 45, or the number of architectures.
        [0xca, 0xfe, 0xba, 0xbe, a, b, c, d, ..] => {
            let number = u32::from_be_bytes([*a, *b, *c, *d]);
            Some(if number < 40 && number > 0 { Foreign::MachO } else { Foreign::JavaClass })
        }
        // Python 3.0 to 3.27: a magic number of 3000 and up, then a line break (import.c).
        [_, 0x0b..=0x0f, b'\r', b'\n', ..] => Some(Foreign::PythonBytecode),
        [_, 0xf2 | 0xf3, b'\r', b'\n', ..] => Some(Foreign::PythonBytecode),
        [b'M', b'Z', ..] if front.iter().copied().any(is_control) => Some(Foreign::Pe),
        _ => None,
    }
}

/// Whether the names in the front of a zip archive are those of `torch.save`, or of another pickle.
fn holds_pickle(front: &[u8]) -> bool {
    let names = [b".pkl".as_slice(), b".pickle", b".npy", b".joblib"];
    names.iter().any(|name| front.windows(name.len()).any(|window| window == *name))
}

/// A tar header from before POSIX has no magic number, but a checksum (tar(5), old-style archive).
fn is_old_tar(front: &[u8]) -> bool {
    let Some(header) = front.first_chunk::<512>() else { return false };
    let Some((before, rest)) = header.split_at_checked(148) else { return false };
    let Some((sum, after)) = rest.split_at_checked(8) else { return false };
    let text: String =
        sum.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
    let Ok(said) = u32::from_str_radix(text.trim_matches(' '), 8) else { return false };
    let bytes = before.iter().chain(after).map(|byte| u32::from(*byte));
    // The checksum counts as eight spaces.
    said == bytes.sum::<u32>().saturating_add(8 * 32)
}

/// Refuses a file at whose end a zip archive ends, whatever it begins with: readers of archives look
/// there only, so weights could be both.
///
/// Python, unzip and miniz take what follows the last record for a comment that is cut off or too long,
/// so where it ends does not matter. A record counts when its comment ends with the file, when the
/// locator of zip64 stands before it, or when it leads to a list of members: by the offset that it
/// states, or, as readers allow for bytes before the archive, by the size of the list. Random weights
/// are refused by chance once in 2³² files, by the first of these; by the others once in 2⁴⁶.
pub(crate) fn no_archive_at_the_end(source: &mut dyn Source) -> Result<(), Refusal> {
    let bytes = source.bytes();
    let tail_at = bytes.saturating_sub(TAIL_BYTES);
    let tail = read(source, tail_at, bytes.min(TAIL_BYTES))?;
    for (at, record) in tail.windows(22).enumerate() {
        let [b'P', b'K', 5, 6, _, _, _, _, _, _, _, _, a, b, c, d, e, f, g, h, low, high] = record
        else {
            continue;
        };
        let comment = usize::from(u16::from_le_bytes([*low, *high]));
        let ends = at.saturating_add(22).saturating_add(comment) == tail.len();
        let before = tail.get(at.saturating_sub(20)..at).unwrap_or_default();
        let size = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
        let offset = u64::from(u32::from_le_bytes([*e, *f, *g, *h]));
        let place = tail_at.saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
        if ends
            || before.starts_with(b"PK\x06\x07")
            || has_members(source, offset)?
            || has_members(source, place.saturating_sub(size))?
        {
            return Err(Refusal::Foreign(Foreign::Archive));
        }
    }
    Ok(())
}

/// Whether the list of a zip archive's members begins at `offset`.
fn has_members(source: &mut dyn Source, offset: u64) -> Result<bool, Refusal> {
    const MEMBER: [u8; 4] = *b"PK\x01\x02";
    let inside = offset.checked_add(4).is_some_and(|end| end <= source.bytes());
    Ok(inside && read(source, offset, 4)? == MEMBER)
}

#[cfg(test)]
mod tests {
    use cloister_domain::Coded as _;

    use super::*;

    fn code(front: &[u8]) -> &'static str {
        match of(front, 1 << 20) {
            Ok(content) => content.name(),
            Err(refusal) => refusal.code(),
        }
    }

    #[test]
    fn what_runs_or_unpacks_is_known_by_its_beginning() {
        let mut tar = vec![0; 512];
        if let Some(magic) = tar.get_mut(257..262) {
            magic.copy_from_slice(b"ustar");
        }
        let mut user_block = vec![0; 512];
        user_block.extend(b"\x89HDF\r\n\x1a\n");
        for (front, expected) in [
            (&b"\x7fELF\x02\x01\x01"[..], "inspect.elf"),
            (b"MZ\x90\0\x03", "inspect.pe"),
            (b"\xcf\xfa\xed\xfe\x07\0\0\x01", "inspect.macho"),
            (b"\xca\xfe\xba\xbe\0\0\0\x02", "inspect.macho"),
            (b"\xca\xfe\xba\xbe\0\0\0\x3d", "inspect.java-class"),
            (b"dex\n035\0", "inspect.java-class"),
            (b"#!/bin/sh\n", "inspect.script"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "inspect.script"),
            (b"\0asm\x01\0\0\0", "inspect.wasm"),
            (b"BC\xc0\xde\x35", "inspect.bitcode"),
            (b"\xa7\x0d\r\n\0\0\0\0", "inspect.python-bytecode"),
            (b"\x03\xf3\r\n\0\0", "inspect.python-bytecode"),
            (b"\x89HDF\r\n\x1a\n\0", "inspect.hdf5"),
            (&user_block, "inspect.hdf5"),
            (b"PK\x03\x04\x14\0\0\0", "inspect.archive"),
            (b"PK\x03\x04\x14\0archive/data.pkl", "inspect.pickle"),
            (b"7z\xbc\xaf\x27\x1c\0\x04", "inspect.archive"),
            (b"\x1f\x8b\x08\0", "inspect.archive"),
            (b"\xfd7zXZ\0\0\x04", "inspect.archive"),
            (b"\x28\xb5\x2f\xfd\x04", "inspect.archive"),
            (b"\x52\x2a\x4d\x18\x01\0\0\0", "inspect.archive"),
            (b"BZh91AY&SY", "inspect.archive"),
            (&tar, "inspect.archive"),
            (b"!<arch>\ndebian-binary", "inspect.archive"),
            (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0", "inspect.pickle"),
            (b"\x93NUMPY\x01\0v\0", "inspect.unknown"),
            (b"\0\0\0\0", "inspect.unknown"),
        ] {
            assert_eq!(code(front), expected, "{front:?}");
        }
    }

    #[test]
    fn a_tar_without_a_magic_number_is_known_by_its_checksum() {
        let mut header = b"file".to_vec();
        header.resize(512, 0);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 256;
        header.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
        assert_eq!(code(&header), "inspect.archive");
    }

    #[test]
    fn weights_and_texts_are_what_they_are() {
        for (front, expected) in [
            (&b"GGUF\x03\0\0\0"[..], "gguf"),
            (b"\x28\0\0\0\0\0\0\0{\"a\":", "safetensors"),
            // A header of 640 bytes begins like a pickle of protocol 2.
            (b"\x80\x02\0\0\0\0\0\0{\"a\":", "safetensors"),
            (b"MZ is the mark of a DOS program.", "text"),
            (b"Pumps\n=====\n", "text"),
            (b"", "text"),
            (b"7z and PK are archives", "text"),
        ] {
            assert_eq!(code(front), expected, "{front:?}");
        }
        // Longer than the file: its own reader says so.
        assert!(matches!(of(b"\xff\0\0\0\0\0\0\0{", 20), Ok(Content::Safetensors)));
        assert!(matches!(of(b"Pumps:  {weekly}", 16), Ok(Content::Other)));
    }

    #[test]
    fn an_archive_at_the_end_is_found() {
        let good = |file: &[u8]| no_archive_at_the_end(&mut &*file).is_ok();
        let mut file = vec![7; 100];
        assert!(good(&file));
        file.extend(b"PK\x05\x06");
        file.resize(file.len() + 16, 0);
        file.extend(3u16.to_le_bytes());
        assert!(good(&file), "nothing is listed, and the comment is missing");
        file.extend(b"abc");
        assert!(!good(&file));
    }

    /// As Python, unzip and miniz find them, with anything behind that the comment does not count.
    #[test]
    fn an_archive_that_ends_before_the_file_is_found() {
        let good = |file: &[u8]| no_archive_at_the_end(&mut &*file).is_ok();
        let record = |size: u32, offset: u32| {
            let places = [size.to_le_bytes(), offset.to_le_bytes()].concat();
            [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", places.as_slice(), &[0; 2]].concat()
        };
        let list = [b"PK\x01\x02".as_slice(), &[0; 46]].concat();
        let locator = [b"PK\x06\x07".as_slice(), &[0; 16]].concat();
        let before = vec![7; 1000];
        for behind in [0, 1, 100, 60_000, 65_000, 74_000] {
            let behind_bytes = vec![0; behind];
            let near = behind < 70_000;
            for (case, parts) in [
                ("by its offset", [before.as_slice(), &list, &[7; 9], &record(50, 1000)]),
                ("by its size", [before.as_slice(), &list, &[], &record(50, 3)]),
                ("zip64", [before.as_slice(), &list, &locator, &record(u32::MAX, u32::MAX)]),
            ] {
                let file = [parts.concat(), behind_bytes.clone()].concat();
                assert_eq!(good(&file), !near, "{case} {behind}");
            }
            for (case, parts) in [
                ("another place", [before.as_slice(), &list, &[7; 9], &record(50, 1001)]),
                ("beyond", [before.as_slice(), &list, &[7; 9], &record(u32::MAX, u32::MAX)]),
            ] {
                let file = [parts.concat(), behind_bytes.clone()].concat();
                assert_eq!(good(&file), behind > 0, "{case} {behind}");
            }
        }
    }
}
