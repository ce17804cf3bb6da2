//! The log's files (c2sp.org/tlog-tiles): entry bundles and tiles of hashes, 256 wide.
//!
//! A file that is not full yet carries its width in its name (`.p/W`), so no file ever changes.

use crate::{RecordError, tree::Tree};

/// Entries of a full bundle, and hashes of a full tile.
pub const WIDTH: u64 = 256;

/// Levels of the tree that one level of tiles spans.
const SPAN: u32 = 8;

/// The name of a tile's rows: the entries, or hashes at a level of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The entries themselves.
    Entries,
    /// The hashes of complete subtrees of `256^level` entries.
    Hashes {
        /// The level of tiles, from 0 for leaf hashes.
        level: u32,
    },
}

/// One file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Which one of its kind, from 0.
    pub index: u64,
    /// How many entries or hashes it holds, 1 to 256.
    pub width: u64,
}

impl Tile {
    /// Its path below the log's folder, such as `tile/0/x001/234.p/7`.
    #[must_use]
    pub fn path(&self) -> String {
        let kind = match self.kind {
            Kind::Entries => "entries".to_owned(),
            Kind::Hashes { level } => level.to_string(),
        };
        let index = index_path(self.index);
        if self.width == WIDTH {
            format!("tile/{kind}/{index}")
        } else {
            format!("tile/{kind}/{index}.p/{}", self.width)
        }
    }

    /// Whether a log of `size` entries has all rows of this file.
    #[must_use]
    pub fn is_within(&self, size: u64) -> bool {
        let end = self.index * WIDTH + self.width;
        kinds(size).any(|(kind, count)| kind == self.kind && end <= count)
    }

    /// The bytes of a tile of hashes.
    ///
    /// # Panics
    /// For a bundle of entries, and if `tree` does not cover the tile.
    #[must_use]
    pub fn hashes(&self, tree: &Tree) -> Vec<u8> {
        let Kind::Hashes { level } = self.kind else { panic!("a bundle holds entries") };
        let first = self.index * WIDTH;
        (first..first + self.width)
            .flat_map(|index| {
                *tree.subtree(level * SPAN, index).expect("the tree covers the tile").as_bytes()
            })
            .collect()
    }
}

/// Three digits an element, all but the last marked: `x001/x234/067`.
fn index_path(index: u64) -> String {
    let mut path = format!("{:03}", index % 1000);
    let mut rest = index / 1000;
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    path
}

/// The kinds of file that a log of `size` entries has.
fn kinds(size: u64) -> impl Iterator<Item = (Kind, u64)> {
    let hashes = (0..SPAN).map(move |level| (Kind::Hashes { level }, size >> (level * SPAN)));
    std::iter::once((Kind::Entries, size)).chain(hashes).filter(|(_, count)| *count > 0)
}

/// Every file that a log of `size` entries has, beside its checkpoint.
pub fn all(size: u64) -> impl Iterator<Item = Tile> {
    kinds(size).flat_map(|(kind, count)| {
        let full = count / WIDTH;
        let partial = Some(Tile { kind, index: full, width: count % WIDTH });
        (0..full)
            .map(move |index| Tile { kind, index, width: WIDTH })
            .chain(partial.filter(|tile| tile.width > 0))
    })
}

/// The files that appear when a log grows from `old` to `new` entries, bundles first.
pub fn grown(old: u64, new: u64) -> impl Iterator<Item = Tile> {
    kinds(new).flat_map(move |(kind, count)| {
        let before = match kind {
            Kind::Entries => old,
            Kind::Hashes { level } => old >> (level * SPAN),
        };
        let tile = move |index: u64| {
            let width = (count - index * WIDTH).min(WIDTH);
            Tile { kind, index, width }
        };
        // Where nothing came up since, the last tile is the one that was there.
        (before / WIDTH..count.div_ceil(WIDTH)).filter(move |_| before < count).map(tile)
    })
}

/// The bytes of an entry bundle: each entry behind its length as a big-endian u16.
///
/// # Errors
/// [`RecordError::TooLong`] for an entry beyond 65535 bytes.
pub fn bundle<E: AsRef<[u8]>>(entries: &[E]) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_large| RecordError::TooLong {
            bytes: entry.len(),
            max: usize::from(u16::MAX),
        })?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    Ok(bytes)
}

/// The `width` entries of a bundle.
///
/// # Errors
/// [`RecordError::Bundle`] if it holds another number, or ends in the middle of one.
pub fn entries(bundle: &[u8], width: u64) -> Result<Vec<&[u8]>, RecordError> {
    let wrong = RecordError::Bundle { expected: width };
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, after) = after.split_at_checked(length).ok_or(wrong)?;
        entries.push(entry);
        rest = after;
    }
    if rest.is_empty() && entries.len() as u64 == width { Ok(entries) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tree::leaf_hash;

    #[test]
    fn paths_are_those_of_the_specification() {
        let tile = |index, width| Tile { kind: Kind::Hashes { level: 0 }, index, width }.path();
        assert_eq!(tile(1_234_067, WIDTH), "tile/0/x001/x234/067");
        assert_eq!(tile(0, 1), "tile/0/000.p/1");
        let entries = Tile { kind: Kind::Entries, index: 1000, width: 255 };
        assert_eq!(entries.path(), "tile/entries/x001/000.p/255");
    }

    #[test]
    fn what_grows_is_what_the_next_size_has_more() {
        let mut size_before: BTreeSet<Tile> = BTreeSet::new();
        for size in (1..=3).chain(250..=260).chain(65_530..=65_540) {
            if size_before.is_empty() || size == 250 || size == 65_530 {
                size_before = all(size - 1).collect();
            }
            let now: BTreeSet<Tile> = all(size).collect();
            let new: BTreeSet<Tile> = now.difference(&size_before).copied().collect();
            assert_eq!(grown(size - 1, size).collect::<BTreeSet<Tile>>(), new, "size {size}");
            assert_eq!(grown(size - 1, size).next().map(|tile| tile.kind), Some(Kind::Entries));
            size_before = now;
        }
        for (old, new) in [(0, 3), (3, 7), (200, 256), (250, 300), (256, 256), (65_000, 66_000)] {
            let before: BTreeSet<Tile> = all(old).collect();
            let more: BTreeSet<Tile> = all(new).filter(|tile| !before.contains(tile)).collect();
            assert_eq!(grown(old, new).collect::<BTreeSet<Tile>>(), more, "{old} to {new}");
        }
    }

    #[test]
    fn a_tile_holds_the_hashes_of_its_level() {
        let mut tree = Tree::new();
        for number in 0..600u32 {
            tree.push(leaf_hash(&number.to_be_bytes()));
        }
        let leaves = Tile { kind: Kind::Hashes { level: 0 }, index: 2, width: 88 };
        let bytes = leaves.hashes(&tree);
        assert_eq!(bytes.len(), 88 * 32);
        assert_eq!(&bytes[..32], leaf_hash(&512u32.to_be_bytes()).as_bytes());
        let above = Tile { kind: Kind::Hashes { level: 1 }, index: 0, width: 2 };
        assert_eq!(&above.hashes(&tree)[..32], tree.root_of(256).as_bytes());
    }

    #[test]
    fn a_bundle_returns_its_entries_or_is_refused() {
        let bytes = bundle(&[b"ab".as_slice(), b""]).expect("short");
        assert_eq!(bytes, b"\x00\x02ab\x00\x00");
        assert_eq!(entries(&bytes, 2), Ok(vec![b"ab".as_slice(), b""]));
        for (bytes, width) in
            [(&bytes[..], 1), (&bytes[..], 3), (&bytes[..5], 2), (b"\x00\x05ab", 1)]
        {
            assert_eq!(entries(bytes, width), Err(RecordError::Bundle { expected: width }));
        }
        assert!(matches!(bundle(&[vec![0; 65_536]]), Err(RecordError::TooLong { .. })));
    }
}
