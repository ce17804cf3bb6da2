//! One digest for a whole release tree.

use cloister_domain::{Digest, Hasher};

use crate::FileEntry;

/// The RFC 6962 root (section 2.1) over the files in their order.
///
/// A leaf is the path's length (u64, little-endian), the path, the size (u64, little-endian), the
/// mode (one byte, 0: no file of a release is executable) and the SHA-256 of the content.
#[must_use]
pub fn tree_digest(files: &[FileEntry]) -> Digest {
    let leaves: Vec<Digest> = files.iter().map(leaf).collect();
    root(&leaves)
}

fn leaf(file: &FileEntry) -> Digest {
    let path = file.path.as_str().as_bytes();
    let path_bytes = u64::try_from(path.len()).expect("a path is at most 1024 bytes");
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(&path_bytes.to_le_bytes());
    hasher.update(path);
    hasher.update(&file.size.to_le_bytes());
    hasher.update(&[0]);
    hasher.update(file.sha256.as_bytes());
    hasher.finish()
}

fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [one] => *one,
        _ => {
            // The largest power of two below the count.
            let half = leaves.len().div_ceil(2).next_power_of_two();
            let (left, right) = leaves.split_at(half);
            let mut hasher = Hasher::new();
            hasher.update(&[1]);
            hasher.update(root(left).as_bytes());
            hasher.update(root(right).as_bytes());
            hasher.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, content: &[u8]) -> FileEntry {
        FileEntry {
            path: path.parse().expect("a good path"),
            size: content.len() as u64,
            sha256: Digest::of(content),
        }
    }

    #[test]
    fn the_split_is_the_largest_power_of_two_below_the_count() {
        let node = |left: Digest, right: Digest| {
            let parts: &[&[u8]] = &[&[1], left.as_bytes(), right.as_bytes()];
            Digest::of(&parts.concat())
        };
        let leaves: Vec<Digest> = (0..7u8).map(|n| Digest::of(&[n])).collect();
        let four = node(node(leaves[0], leaves[1]), node(leaves[2], leaves[3]));
        assert_eq!(root(&leaves[..4]), four);
        assert_eq!(root(&leaves[..5]), node(four, leaves[4]));
        let three = node(node(leaves[4], leaves[5]), leaves[6]);
        assert_eq!(root(&leaves), node(four, three));
        assert_eq!((root(&leaves[..1]), root(&[])), (leaves[0], Digest::of(b"")));
    }

    #[test]
    fn path_size_and_content_all_count() {
        let base = tree_digest(&[file("a", b"1"), file("b", b"2")]);
        for other in [
            vec![file("a", b"1"), file("c", b"2")],
            vec![file("a", b"1"), file("b", b"3")],
            vec![file("a", b"1")],
            vec![file("b", b"2"), file("a", b"1")],
            vec![FileEntry { size: 9, ..file("a", b"1") }, file("b", b"2")],
        ] {
            assert_ne!(tree_digest(&other), base);
        }
    }
}
