//! Byte-pair merging (Sennrich, Haddow and Birch 2016, algorithm 1, applied by rank).

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use cloister_domain::TokenId;

/// A hash of fixed seed for maps that are filled from a signed file and only looked up by others.
///
/// Multiplication by the golden ratio of 2^64, after each word (Knuth, vol. 3, section 6.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixedHasher(u64);

impl Hasher for FixedHasher {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
}

/// A map with [`FixedHasher`].
pub(crate) type FixedMap<K, V> = HashMap<K, V, BuildHasherDefault<FixedHasher>>;

/// The merges of a byte-level vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Merges {
    /// The token of each byte.
    pub(crate) bytes: Box<[TokenId; 256]>,
    /// Left and right token → rank, and the token that they make.
    pub(crate) pairs: FixedMap<u64, (u32, TokenId)>,
}

/// One token of a word while it is merged; a list linked both ways by index.
struct Symbol {
    token: TokenId,
    previous: usize,
    next: usize,
}

/// No neighbour.
const END: usize = usize::MAX;
/// What stands in the place of a token that was merged into the one before it.
const GONE: TokenId = TokenId(u32::MAX);

/// A merge that may be done: rank, then place, so that the leftmost of equal rank comes first.
type Candidate = Reverse<(u32, usize, TokenId, TokenId)>;

/// The key of a pair in [`Merges::pairs`].
pub(crate) fn key(left: TokenId, right: TokenId) -> u64 {
    (u64::from(left.0) << 32) | u64::from(right.0)
}

impl Merges {
    /// Appends the tokens of `word` to `tokens`: always the pair of lowest rank, leftmost first.
    ///
    /// A heap of candidates makes it `O(n log n)` for a word of `n` bytes, whatever they are.
    pub(crate) fn merge(&self, word: &[u8], tokens: &mut Vec<TokenId>) {
        let mut symbols: Vec<Symbol> = word
            .iter()
            .enumerate()
            .map(|(index, byte)| Symbol {
                token: self.bytes[usize::from(*byte)],
                previous: index.wrapping_sub(1),
                next: if index + 1 < word.len() { index + 1 } else { END },
            })
            .collect();
        let mut candidates: BinaryHeap<Candidate> =
            (0..word.len()).filter_map(|left| self.candidate(&symbols, left)).collect();
        while let Some(Reverse((_rank, left, token, partner))) = candidates.pop() {
            let next = symbols[left].next;
            let stale = symbols[left].token != token || next == END;
            if stale || symbols[next].token != partner {
                continue;
            }
            let Some((_rank, made)) = self.pairs.get(&key(token, partner)) else { continue };
            let beyond = symbols[next].next;
            symbols[left].token = *made;
            symbols[left].next = beyond;
            symbols[next].token = GONE;
            if beyond != END {
                symbols[beyond].previous = left;
            }
            candidates.extend(self.candidate(&symbols, left));
            if symbols[left].previous != END {
                candidates.extend(self.candidate(&symbols, symbols[left].previous));
            }
        }
        tokens.extend(symbols.iter().map(|symbol| symbol.token).filter(|token| *token != GONE));
    }

    /// The merge of the symbol at `left` with the one after it, if there is such a merge.
    fn candidate(&self, symbols: &[Symbol], left: usize) -> Option<Candidate> {
        let symbol = &symbols[left];
        let partner = symbols.get(symbol.next)?.token;
        let (rank, _made) = self.pairs.get(&key(symbol.token, partner))?;
        Some(Reverse((*rank, left, symbol.token, partner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` = 0; merges aa, aaaa, … up to 2^`levels` letters.
    fn doubling(levels: u32) -> Merges {
        let pairs =
            (0..levels).map(|n| (key(TokenId(n), TokenId(n)), (n, TokenId(n + 1)))).collect();
        Merges { bytes: Box::new([TokenId(0); 256]), pairs }
    }

    #[test]
    fn a_million_equal_characters_merge_at_once() {
        let mut tokens = Vec::new();
        doubling(12).merge(&vec![b'a'; 1_000_000], &mut tokens);
        let bytes: u64 = tokens.iter().map(|token| 1u64 << token.0).sum();
        assert_eq!((bytes, tokens.len()), (1_000_000, 246));
        assert!(tokens.windows(2).all(|pair| pair[0] >= pair[1]), "leftmost pairs merge first");
    }

    #[test]
    fn lower_rank_wins_over_place() {
        // b c (rank 0) before a b (rank 1).
        let mut bytes = [TokenId(9); 256];
        for (index, letter) in (0u32..).zip(b"abc") {
            bytes[usize::from(*letter)] = TokenId(index);
        }
        let pairs = [
            (key(TokenId(1), TokenId(2)), (0, TokenId(3))),
            (key(TokenId(0), TokenId(1)), (1, TokenId(4))),
        ];
        let merges = Merges { bytes: Box::new(bytes), pairs: pairs.into_iter().collect() };
        let mut tokens = Vec::new();
        merges.merge(b"abcab", &mut tokens);
        assert_eq!(tokens, [0, 3, 4].map(TokenId));
    }
}
