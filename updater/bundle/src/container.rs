//! The container: a tar of which every header is a function of a member's name and size.
//!
//! POSIX.1-1988 ustar, regular files only. A reader knows the name that must come next, reads the
//! size, checks it against the member's limit, makes the header again and compares all 512 bytes.
//! So modes, times, links, devices, sparse files and extension headers do not exist here, and `tar`
//! still lists the file.

use cloister_domain::Digest;

use crate::{BundleError, limits};

/// The unit of a tar file, in bytes.
pub const BLOCK_BYTES: usize = 512;

/// Bytes of the two zero blocks that end a container.
pub const END_BYTES: usize = 1024;

/// One header.
pub type Block = [u8; BLOCK_BYTES];

/// A member of a volume. The order is `Head`, `Meta`, `Manifest`, the attestations as the manifest
/// lists them, `Index`, in a thin volume `Carried`, then chunks in the order of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// `clb/00-head`: format, and which volume of how many; hints that nothing trusts.
    Head,
    /// `clb/10-meta`: the trust metadata, itself such a container.
    Meta,
    /// `clb/20-manifest`: the DSSE envelope of the release.
    Manifest,
    /// `clb/30-attest/<sha256>`.
    Attestation(Digest),
    /// `clb/40-index`: the chunk table.
    Index,
    /// `clb/41-carried`: which chunks a thin volume carries.
    Carried,
    /// `c/<sha256 of the stored bytes>`.
    Chunk(Digest),
}

impl Member {
    /// The member's name in the container.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Head => "clb/00-head".to_owned(),
            Self::Meta => "clb/10-meta".to_owned(),
            Self::Manifest => "clb/20-manifest".to_owned(),
            Self::Attestation(digest) => format!("clb/30-attest/{digest}"),
            Self::Index => "clb/40-index".to_owned(),
            Self::Carried => "clb/41-carried".to_owned(),
            Self::Chunk(digest) => format!("c/{digest}"),
        }
    }

    /// The most bytes that the member may have.
    #[must_use]
    pub const fn bytes_max(&self) -> u64 {
        match self {
            Self::Head => limits::HEAD_BYTES_MAX,
            Self::Meta => limits::META_BYTES_MAX,
            Self::Manifest => limits::MANIFEST_BYTES_MAX,
            Self::Attestation(_) => limits::ATTESTATION_BYTES_MAX,
            Self::Index => limits::INDEX_BYTES_MAX,
            Self::Carried => limits::CARRIED_BYTES_MAX,
            Self::Chunk(_) => limits::CHUNK_STORED_BYTES_MAX,
        }
    }
}

/// The one header of a member called `name` with `bytes` bytes.
///
/// # Errors
/// [`BundleError::Unnameable`] for a name that is empty, longer than 100 bytes or not ASCII, or a
/// size of 8 GiB or more.
pub fn header(name: &str, bytes: u64) -> Result<Block, BundleError> {
    let plain = name.bytes().all(|c| c.is_ascii_graphic());
    if name.is_empty() || !plain || bytes > limits::MEMBER_BYTES_MAX {
        return Err(BundleError::Unnameable);
    }
    let mut block = [0; BLOCK_BYTES];
    put(&mut block, 0, 100, name.as_bytes())?;
    put(&mut block, 100, 8, b"0000444\0")?;
    put(&mut block, 108, 8, b"0000000\0")?;
    put(&mut block, 116, 8, b"0000000\0")?;
    put(&mut block, 124, 12, format!("{bytes:011o}\0").as_bytes())?;
    put(&mut block, 136, 12, b"00000000000\0")?;
    put(&mut block, 148, 8, b"        ")?;
    put(&mut block, 156, 1, b"0")?;
    put(&mut block, 257, 8, b"ustar\x0000")?;
    put(&mut block, 329, 8, b"0000000\0")?;
    put(&mut block, 337, 8, b"0000000\0")?;
    // The sum of 512 bytes is below 2^17; it is taken while its own field holds spaces.
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut block, 148, 8, format!("{sum:06o}\0 ").as_bytes())?;
    Ok(block)
}

fn put(block: &mut Block, at: usize, width: usize, bytes: &[u8]) -> Result<(), BundleError> {
    let field = block
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..width))
        .and_then(|field| field.get_mut(..bytes.len()))
        .ok_or(BundleError::Unnameable)?;
    field.copy_from_slice(bytes);
    Ok(())
}

/// The size that `block` states, if `block` is the header of `name` and the size is allowed.
///
/// `member` is the member's position, for the error.
///
/// # Errors
/// [`BundleError::Header`] and [`BundleError::MemberSize`].
pub fn read_header(
    block: &Block,
    name: &str,
    bytes_max: u64,
    member: u64,
) -> Result<u64, BundleError> {
    let wrong = BundleError::Header { member };
    let digits = block.get(124..135).ok_or(wrong)?;
    let bytes = digits.iter().try_fold(0u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit.checked_sub(b'0')?)),
        _ => None,
    });
    let bytes = bytes.ok_or(wrong)?;
    if header(name, bytes)? != *block {
        return Err(wrong);
    }
    if bytes > bytes_max {
        return Err(BundleError::MemberSize { member, bytes, max: bytes_max });
    }
    Ok(bytes)
}

/// Zero bytes that follow a member of `bytes` bytes, up to the next block.
#[must_use]
pub const fn padding(bytes: u64) -> usize {
    // 0..=511, so the narrowing keeps the value.
    let used = (bytes % 512) as usize;
    if used == 0 { 0 } else { BLOCK_BYTES.saturating_sub(used) }
}

/// Bytes that a member of `bytes` bytes takes in a container: header, content, padding.
#[must_use]
pub fn member_bytes(bytes: u64) -> Option<u64> {
    bytes.checked_add(512)?.checked_add(u64::try_from(padding(bytes)).ok()?)
}

/// Whether padding or an end is zeros only.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Writes a small container of `members`, each a name and its content, in the order given.
///
/// # Errors
/// [`BundleError::Unnameable`].
pub fn archive<'a>(
    members: impl IntoIterator<Item = (&'a str, &'a [u8])>,
) -> Result<Vec<u8>, BundleError> {
    let mut out = Vec::new();
    for (name, content) in members {
        let bytes = u64::try_from(content.len()).map_err(|_cause| BundleError::Unnameable)?;
        out.extend_from_slice(&header(name, bytes)?);
        out.extend_from_slice(content);
        out.extend(std::iter::repeat_n(0, padding(bytes)));
    }
    out.extend_from_slice(&[0; END_BYTES]);
    Ok(out)
}

/// Reads a small container whose names are not known beforehand: trust metadata.
///
/// Names are 1 to 100 characters of `a-z A-Z 0-9 . _ -` that do not start with a dot, strictly
/// ascending.
///
/// # Errors
/// The container variants of [`BundleError`]; [`BundleError::Meta`] for the names.
pub fn entries(mut bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, BundleError> {
    let mut found: Vec<(&str, &[u8])> = Vec::new();
    loop {
        let (block, rest) = bytes.split_first_chunk::<512>().ok_or(BundleError::Truncated)?;
        if is_zero(block) {
            return if rest.len() == 512 && is_zero(rest) {
                Ok(found)
            } else {
                Err(BundleError::End)
            };
        }
        let member = u64::try_from(found.len()).map_err(|_cause| BundleError::Meta)?;
        let name = meta_name(block).ok_or(BundleError::Meta)?;
        let ascending = found.last().is_none_or(|(last, _)| *last < name);
        if !ascending || found.len() >= limits::META_FILES_MAX {
            return Err(BundleError::Meta);
        }
        let size = read_header(block, name, limits::META_BYTES_MAX, member)?;
        let size = usize::try_from(size).map_err(|_cause| BundleError::Truncated)?;
        let (content, rest) = rest.split_at_checked(size).ok_or(BundleError::Truncated)?;
        let pad = padding(u64::try_from(size).map_err(|_cause| BundleError::Truncated)?);
        let (zeros, rest) = rest.split_at_checked(pad).ok_or(BundleError::Truncated)?;
        if !is_zero(zeros) {
            return Err(BundleError::Padding { member });
        }
        found.push((name, content));
        bytes = rest;
    }
}

fn meta_name(block: &Block) -> Option<&str> {
    let field = block.get(..100)?;
    let name = field.split(|byte| *byte == 0).next()?;
    let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let good = !name.is_empty() && name.iter().all(plain) && name.first() != Some(&b'.');
    if good { std::str::from_utf8(name).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_that_of_the_tar_crate() {
        let name = Member::Chunk(Digest::of(b"x")).name();
        let mut theirs = tar::Header::new_ustar();
        theirs.set_path(&name).expect("a short name");
        theirs.set_entry_type(tar::EntryType::Regular);
        theirs.set_mode(0o444);
        theirs.set_uid(0);
        theirs.set_gid(0);
        theirs.set_mtime(0);
        theirs.set_size(1234);
        theirs.set_device_major(0).expect("ustar");
        theirs.set_device_minor(0).expect("ustar");
        theirs.set_cksum();
        let ours = header(&name, 1234).expect("a good name");
        let read = tar::Header::from_byte_slice(&ours);
        assert_eq!(read.size().expect("a size"), 1234);
        assert_eq!(read.cksum().expect("a sum"), theirs.cksum().expect("a sum"));
        assert_eq!(read.entry_type(), tar::EntryType::Regular);
        assert_eq!(read.path().expect("a path"), std::path::Path::new(&name));
    }

    #[test]
    fn any_changed_bit_of_a_header_is_refused() {
        let good = header("clb/00-head", 77).expect("a good name");
        assert_eq!(read_header(&good, "clb/00-head", 77, 0), Ok(77));
        for bit in 0..512 * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read_header(&bad, "clb/00-head", u64::MAX, 3).is_err(), "bit {bit}");
        }
        let max = BundleError::MemberSize { member: 3, bytes: 77, max: 76 };
        assert_eq!(read_header(&good, "clb/00-head", 76, 3), Err(max));
    }

    #[test]
    fn sizes_beyond_4_gib_survive_and_beyond_8_gib_are_refused() {
        for bytes in [(2 << 30) + 1, (4 << 30) + 1, limits::MEMBER_BYTES_MAX] {
            let block = header("c/x", bytes).expect("it fits");
            assert_eq!(read_header(&block, "c/x", u64::MAX, 0), Ok(bytes));
        }
        assert_eq!(header("c/x", limits::MEMBER_BYTES_MAX + 1), Err(BundleError::Unnameable));
        assert_eq!(header(&"x".repeat(101), 0), Err(BundleError::Unnameable));
        for name in ["", "a b", "a\0", "ä"] {
            assert_eq!(header(name, 0), Err(BundleError::Unnameable), "{name:?}");
        }
        assert!(header(&"x".repeat(100), 0).is_ok());
    }

    #[test]
    fn each_member_has_its_name_and_its_most_bytes() {
        let digest = Digest::of(b"x");
        for (member, name, bytes_max) in [
            (Member::Head, "clb/00-head".to_owned(), 4096),
            (Member::Meta, "clb/10-meta".to_owned(), 4_194_304),
            (Member::Manifest, "clb/20-manifest".to_owned(), 1_048_576),
            (Member::Attestation(digest), format!("clb/30-attest/{digest}"), 8_388_608),
            (Member::Index, "clb/40-index".to_owned(), 268_435_456),
            (Member::Carried, "clb/41-carried".to_owned(), 322_639),
            (Member::Chunk(digest), format!("c/{digest}"), 4_195_328),
        ] {
            assert_eq!((member.name(), member.bytes_max()), (name, bytes_max));
        }
    }

    #[test]
    fn a_member_takes_whole_blocks_and_one_for_its_header() {
        for (bytes, padded) in [(0, 512), (1, 1024), (511, 1024), (512, 1024), (513, 1536)] {
            assert_eq!(member_bytes(bytes), Some(padded), "{bytes}");
            assert_eq!(512 + bytes + padding(bytes) as u64, padded, "{bytes}");
        }
        assert_eq!(member_bytes(u64::MAX), None);
        assert_eq!(member_bytes(u64::MAX - 1000), None);
    }

    #[test]
    fn other_kinds_of_members_are_outside_the_language() {
        for kind in b"12345678gxLKS\0" {
            let mut block = header("a", 0).expect("a good name");
            block[156] = *kind;
            let mut theirs = tar::Header::from_byte_slice(&block).clone();
            theirs.set_cksum();
            assert!(read_header(theirs.as_bytes(), "a", 9, 0).is_err());
        }
    }

    #[test]
    fn a_small_container_returns_and_hostile_ones_are_refused() {
        let members: [(&str, &[u8]); 3] = [("1.root.json", b"{}"), ("a", b""), ("b", &[7; 512])];
        let bytes = archive(members).expect("good names");
        assert_eq!(entries(&bytes), Ok(members.to_vec()));
        for cut in 0..bytes.len() {
            assert!(entries(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(entries(&longer), Err(BundleError::End));
        let mut unended = bytes.clone();
        *unended.last_mut().expect("an end") = 1;
        assert_eq!(entries(&unended), Err(BundleError::End));
        let mut nameless = bytes.clone();
        nameless[..100].fill(0);
        assert_eq!(entries(&nameless), Err(BundleError::Meta));
        let mut dirty = bytes;
        dirty[514] = 1;
        assert_eq!(entries(&dirty), Err(BundleError::Padding { member: 0 }));
        for names in [["b", "a"], ["a", "a"], ["../a", "b"], [".a", "b"], ["a/b", "b"]] {
            let bytes = archive(names.map(|name| (name, b"".as_slice()))).expect("good names");
            assert_eq!(entries(&bytes), Err(BundleError::Meta), "{names:?}");
        }
    }

    #[test]
    fn a_small_container_has_so_many_members_and_no_more() {
        let of = |count: usize| {
            let names: Vec<String> = (0..count).map(|number| format!("{number:04}")).collect();
            archive(names.iter().map(|name| (name.as_str(), b"".as_slice()))).expect("good names")
        };
        assert_eq!(entries(&of(1088)).map(|found| found.len()), Ok(1088));
        assert_eq!(entries(&of(1089)), Err(BundleError::Meta));
    }

    #[test]
    fn the_tar_crate_and_gnu_tar_list_what_we_list() {
        let members: [(&str, &[u8]); 3] =
            [("clb/00-head", b"{}"), ("clb/10-meta", &[1; 513]), ("c/ab", b"")];
        let bytes = archive(members).expect("good names");
        let mut theirs = tar::Archive::new(bytes.as_slice());
        let listed: Vec<(String, u64)> = theirs
            .entries()
            .expect("a tar file")
            .map(|entry| entry.expect("a member"))
            .map(|entry| (entry.path().expect("a path").display().to_string(), entry.size()))
            .collect();
        let ours: Vec<(String, u64)> = members
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.len() as u64))
            .collect();
        assert_eq!(listed, ours);
        let mut child = std::process::Command::new("tar")
            .args(["-tf", "-"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("tar is part of every Debian system");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), &bytes)
            .expect("written");
        let output = child.wait_with_output().expect("tar ends");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "clb/00-head\nclb/10-meta\nc/ab\n");
        assert!(output.status.success());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            prop_assert!(entries(&bytes).is_err());
        }
    }
}
