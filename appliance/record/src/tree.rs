//! The Merkle tree of RFC 6962, section 2.1, over the entries' bytes, with its two proofs.

use cloister_domain::{Digest, Hasher};

use crate::RecordError;

/// The hash of an entry: SHA-256 over `0x00` and its bytes (RFC 6962, section 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(entry);
    hasher.finish()
}

/// The hash of two subtrees: SHA-256 over `0x01` and both (RFC 6962, section 2.1).
#[must_use]
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(&[1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    hasher.finish()
}

/// Every complete subtree of a growing log, so that roots and proofs of any earlier size cost a
/// logarithm of hashes. 64 bytes for each entry.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `levels[l][i]` covers the entries from `i << l` to `(i + 1) << l`.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over no entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends an entry by its leaf hash.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let row = &mut self.levels[level];
            row.push(hash);
            match row.as_slice() {
                [.., left, right] if row.len().is_multiple_of(2) => hash = node_hash(left, right),
                _ => return,
            }
        }
    }

    /// The hash of the complete subtree `index` at `level`, if the log covers it.
    #[must_use]
    pub fn subtree(&self, level: u32, index: u64) -> Option<Digest> {
        let row = self.levels.get(usize::try_from(level).ok()?)?;
        row.get(usize::try_from(index).ok()?).copied()
    }

    /// The root over the first `size` entries (RFC 6962, `MTH`).
    ///
    /// # Panics
    /// If `size` is beyond the tree's.
    #[must_use]
    pub fn root_of(&self, size: u64) -> Digest {
        assert!(size <= self.size(), "the root of a size that was reached");
        if size == 0 { Digest::of(b"") } else { self.range(0, size) }
    }

    /// The root over all entries.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root_of(self.size())
    }

    /// That entry `index` is under the root of `size` (RFC 6962, section 2.1.1).
    ///
    /// # Panics
    /// Unless `index < size` and the tree has reached `size`.
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Vec<Digest> {
        assert!(index < size && size <= self.size(), "an entry below a size that was reached");
        let (mut start, mut end) = (0, size);
        let mut path = Vec::new();
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.range(middle, end));
                end = middle;
            } else {
                path.push(self.range(start, middle));
                start = middle;
            }
        }
        path.reverse();
        path
    }

    /// That the log of size `old` is a prefix of that of size `new` (RFC 6962, section 2.1.2).
    ///
    /// # Panics
    /// Unless `0 < old <= new` and the tree has reached `new`.
    #[must_use]
    pub fn consistency(&self, old: u64, new: u64) -> Vec<Digest> {
        assert!(0 < old && old <= new && new <= self.size(), "two sizes that were reached");
        let (mut start, mut end) = (0, new);
        let mut path = Vec::new();
        // Until the old log's end is the subtree's end, take the half beside the one it ends in.
        while old != end {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.range(middle, end));
                end = middle;
            } else {
                path.push(self.range(start, middle));
                start = middle;
            }
        }
        // The old root itself is known to the verifier when it is a complete subtree from 0.
        if start != 0 {
            path.push(self.range(start, end));
        }
        path.reverse();
        path
    }

    /// The hash over the entries `start..end`, where `start` is a multiple of every power of two
    /// below the next one above `end - start`, as the recursion of the RFC yields it.
    fn range(&self, start: u64, end: u64) -> Digest {
        let count = end - start;
        if count.is_power_of_two() {
            let level = count.trailing_zeros();
            return self.subtree(level, start >> level).expect("the tree has reached `end`");
        }
        let middle = start + split(count);
        node_hash(&self.range(start, middle), &self.range(middle, end))
    }
}

/// The largest power of two below `count`, which is at least 2.
const fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// Checks that an entry is under a root (RFC 9162, section 2.1.3.2).
///
/// # Errors
/// [`RecordError::Proof`].
pub fn check_inclusion(
    leaf: &Digest,
    index: u64,
    size: u64,
    proof: &[Digest],
    root: &Digest,
) -> Result<(), RecordError> {
    if index >= size {
        return Err(RecordError::Proof);
    }
    let (mut place, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(RecordError::Proof);
        }
        if place % 2 == 1 || place == last {
            hash = node_hash(sibling, &hash);
            skip_left_edge(&mut place, &mut last);
        } else {
            hash = node_hash(&hash, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(RecordError::Proof) }
}

/// Checks that one log is a prefix of another (RFC 9162, section 2.1.4.2). The empty log is a
/// prefix of every log.
///
/// # Errors
/// [`RecordError::Proof`].
pub fn check_consistency(
    (old_size, old_root): (u64, &Digest),
    (new_size, new_root): (u64, &Digest),
    proof: &[Digest],
) -> Result<(), RecordError> {
    let fine = |holds: bool| if holds { Ok(()) } else { Err(RecordError::Proof) };
    if old_size == 0 {
        return fine(proof.is_empty() && *old_root == Digest::of(b""));
    }
    if old_size >= new_size {
        return fine(old_size == new_size && old_root == new_root && proof.is_empty());
    }
    let mut rest = proof.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { rest.next() };
    let first = first.ok_or(RecordError::Proof)?;
    let (mut place, mut last) = (old_size - 1, new_size - 1);
    while place % 2 == 1 {
        place >>= 1;
        last >>= 1;
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(RecordError::Proof);
        }
        if place % 2 == 1 || place == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            skip_left_edge(&mut place, &mut last);
        } else {
            new = node_hash(&new, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    fine(last == 0 && old == *old_root && new == *new_root)
}

/// Levels at which the right edge has no sibling are passed over.
const fn skip_left_edge(place: &mut u64, last: &mut u64) {
    while place.is_multiple_of(2) && *place != 0 {
        *place >>= 1;
        *last >>= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The tree of the first `count` numbers as text.
    fn numbers(count: u64) -> Tree {
        let mut tree = Tree::new();
        for number in 0..count {
            tree.push(leaf_hash(number.to_string().as_bytes()));
        }
        tree
    }

    #[test]
    fn the_known_answers_of_certificate_transparency_hold() {
        // google/certificate-transparency, merkletree/merkle_tree_test.cc: inputs and roots.
        let inputs: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::new();
        assert_eq!(tree.root().to_string(), roots[0]);
        for (input, root) in inputs.iter().zip(&roots[1..]) {
            tree.push(leaf_hash(input));
            assert_eq!(tree.root().to_string(), *root);
        }
        for (size, root) in roots.iter().enumerate() {
            assert_eq!(tree.root_of(size as u64).to_string(), *root);
        }
    }

    #[test]
    fn every_proof_up_to_seventy_entries_holds_and_fits_nothing_else() {
        let tree = numbers(70);
        for size in 1..=70 {
            let root = tree.root_of(size);
            for index in 0..size {
                let proof = tree.inclusion(index, size);
                let leaf = tree.subtree(0, index).expect("covered");
                assert_eq!(check_inclusion(&leaf, index, size, &proof, &root), Ok(()));
                let other = (index + 1) % size;
                if size > 1 {
                    assert!(check_inclusion(&leaf, other, size, &proof, &root).is_err());
                }
                let old = index + 1;
                let proof = tree.consistency(old, size);
                let old_root = tree.root_of(old);
                assert_eq!(check_consistency((old, &old_root), (size, &root), &proof), Ok(()));
                if old < size {
                    let wrong = tree.root_of(old - 1);
                    assert!(check_consistency((old, &wrong), (size, &root), &proof).is_err());
                    assert!(check_consistency((old, &old_root), (size, &wrong), &proof).is_err());
                }
            }
        }
        let empty = Digest::of(b"");
        assert_eq!(check_consistency((0, &empty), (9, &tree.root_of(9)), &[]), Ok(()));
    }

    proptest! {
        #[test]
        fn a_changed_proof_is_refused(size in 2u64..300, seed in any::<u64>(), bit in 0usize..256) {
            let tree = numbers(size);
            let index = seed % size;
            let leaf = tree.subtree(0, index).expect("covered");
            let mut proof = tree.inclusion(index, size);
            let place = usize::try_from(seed % proof.len() as u64).expect("small");
            let mut bytes = *proof[place].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            proof[place] = Digest::from_bytes(bytes);
            prop_assert!(check_inclusion(&leaf, index, size, &proof, &tree.root()).is_err());
            proof.pop();
            prop_assert!(check_inclusion(&leaf, index, size, &proof, &tree.root()).is_err());
        }
    }
}
