//! Byte-pair merging (Sennrich, Haddow and Birch 2016, algorithm 1, applied by rank).

use std::{cmp::Reverse, collections::BinaryHeap};

use cloister_domain::TokenId;

use crate::{LoadError, slots::Slots};

/// More merges than any published file has (the largest known: 514 906).
pub(crate) const MERGES_MAX: usize = 3 << 18;

/// The merges of a byte-level vocabulary.
#[derive(Clone, Debug)]
pub(crate) struct Merges {
    /// The token of each byte.
    bytes: Box<[TokenId; 256]>,
    /// By rank.
    pairs: Vec<Pair>,
    /// Ranks by left and right token.
    ranks: Slots,
}

/// Two tokens, and the one that they make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) left: TokenId,
    pub(crate) right: TokenId,
    pub(crate) made: TokenId,
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

/// What the pair of this rank is found by.
fn joined(pairs: &[Pair], rank: u32) -> u64 {
    let pair = pairs[rank as usize];
    key(pair.left, pair.right)
}

/// What two tokens are found by.
fn key(left: TokenId, right: TokenId) -> u64 {
    (u64::from(left.0) << 32) | u64::from(right.0)
}

impl Merges {
    /// The merges `pairs`, by rank.
    ///
    /// # Errors
    /// [`LoadError::MergeTwice`]: of two that join the same tokens llama.cpp takes the first and Hugging
    /// Face the last, so they would cut the same text differently.
    pub(crate) fn new(bytes: Box<[TokenId; 256]>, pairs: Vec<Pair>) -> Result<Self, LoadError> {
        let mut ranks = Slots::with_room(pairs.len());
        for (index, rank) in (0u32..).enumerate().take(pairs.len()) {
            if !ranks.add(rank, |rank| joined(&pairs, rank)) {
                return Err(LoadError::MergeTwice { index });
            }
        }
        Ok(Self { bytes, pairs, ranks })
    }

    /// The rank of joining two tokens, and what comes of it.
    fn get(&self, left: TokenId, right: TokenId) -> Option<(u32, TokenId)> {
        let rank = self.ranks.find(&key(left, right), |rank| joined(&self.pairs, rank))?;
        Some((rank, self.pairs[rank as usize].made))
    }

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
            let Some((_rank, made)) = self.get(token, partner) else { continue };
            let beyond = symbols[next].next;
            symbols[left].token = made;
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
        let (rank, _made) = self.get(symbol.token, partner)?;
        Some(Reverse((rank, left, symbol.token, partner)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` = 0; merges aa, aaaa, … up to 2^`levels` letters.
    fn doubling(levels: u32) -> Merges {
        let pair = |n| Pair { left: TokenId(n), right: TokenId(n), made: TokenId(n + 1) };
        Merges::new(Box::new([TokenId(0); 256]), (0..levels).map(pair).collect()).expect("distinct")
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
        let pair = |left, right, made| Pair {
            left: TokenId(left),
            right: TokenId(right),
            made: TokenId(made),
        };
        let pairs = vec![pair(1, 2, 3), pair(0, 1, 4)];
        let merges = Merges::new(Box::new(bytes), pairs).expect("distinct");
        let mut tokens = Vec::new();
        merges.merge(b"abcab", &mut tokens);
        assert_eq!(tokens, [0, 3, 4].map(TokenId));
        for twice in [pair(1, 2, 3), pair(1, 2, 9)] {
            let pairs = vec![pair(1, 2, 3), pair(0, 1, 4), twice];
            let refused = Merges::new(Box::new(bytes), pairs).err();
            assert_eq!(refused, Some(LoadError::MergeTwice { index: 2 }));
        }
    }
}
