//! Where a file is cut into chunks: by its content, so that what did not change cuts the same.
//!
//! A weights file is first cut where its larger tensors begin and end ([`borders`](crate::borders)), so a
//! tensor has the same chunks wherever in a file it stands; what lies between two borders is cut by itself.
//!
//! A gear hash with normalised cutting (FastCDC; Xia et al. 2016, USENIX ATC, algorithm 2): after
//! `MIN` bytes a byte ends the chunk when the hash's masked bits are zero; the mask is strict up to
//! `AVG` bytes and lenient after it, and `MAX` ends the chunk in any case.

use cloister_bundle::Cut;

/// No chunk is smaller but the last before a border or the file's end.
pub(crate) const MIN_BYTES: usize = 256 << 10;
/// The aim.
const AVG_BYTES: usize = 1 << 20;
/// No chunk is larger.
pub(crate) const MAX_BYTES: usize = 4 << 20;

/// Two bits more, and two bits fewer, than the 20 of the average; high bits, which the last 64 bytes
/// all reach.
const STRICT: u64 = !0 << (64 - 22);
const LENIENT: u64 = !0 << (64 - 18);

/// 256 words of splitmix64 from seed 0: any fixed words without structure would do. Part of the
/// format's name `gear-tensors-v1`.
const GEAR: [u64; 256] = {
    let mut words = [0u64; 256];
    let mut state = 0u64;
    let mut index = 0;
    while index < words.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        words[index] = word ^ (word >> 31);
        index += 1;
    }
    words
};

/// The parameters as the manifest names them.
pub(crate) fn parameters() -> Cut {
    Cut {
        algorithm: "gear-tensors-v1".to_owned(),
        min_bytes: MIN_BYTES as u64,
        avg_bytes: AVG_BYTES as u64,
        max_bytes: MAX_BYTES as u64,
    }
}

/// The length of the first chunk of `bytes`, which hold at least `MAX_BYTES` or all that is left up to
/// the next border.
pub(crate) fn first(bytes: &[u8]) -> usize {
    let end = bytes.len().min(MAX_BYTES);
    if end <= MIN_BYTES {
        return end;
    }
    let middle = end.min(AVG_BYTES);
    let mut hash = 0u64;
    for (from, to, mask) in [(MIN_BYTES, middle, STRICT), (middle, end, LENIENT)] {
        for (at, byte) in (from..to).zip(&bytes[from..to]) {
            hash = (hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            if hash & mask == 0 {
                return at + 1;
            }
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without structure, from a seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    fn all(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut chunks = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(first(bytes));
            chunks.push(chunk);
            bytes = rest;
        }
        chunks
    }

    #[test]
    fn chunks_keep_the_bounds_and_about_the_average() {
        let bytes = noise(1, 64 << 20);
        let chunks = all(&bytes);
        assert_eq!(chunks.concat(), bytes);
        let (last, others) = chunks.split_last().expect("not empty");
        assert!(last.len() <= MAX_BYTES);
        assert!(others.iter().all(|chunk| (MIN_BYTES..=MAX_BYTES).contains(&chunk.len())));
        assert!((40..=90).contains(&chunks.len()), "{} chunks of 64 MiB", chunks.len());
    }

    #[test]
    fn bytes_put_in_front_change_the_first_chunks_only() {
        let bytes = noise(2, 32 << 20);
        let longer = [noise(3, 4219), bytes.clone()].concat();
        let known: std::collections::BTreeSet<&[u8]> = all(&bytes).into_iter().collect();
        let new: usize =
            all(&longer).into_iter().filter(|chunk| !known.contains(chunk)).map(<[u8]>::len).sum();
        assert!(new <= 2 * MAX_BYTES, "{new} new bytes");
    }

    #[test]
    fn small_and_uniform_files_are_cut_too() {
        assert_eq!(all(b"x").len(), 1);
        assert!(all(&vec![0; 10 << 20]).iter().all(|chunk| chunk.len() <= MAX_BYTES));
    }

    #[test]
    fn the_cuts_of_a_known_file_never_change() {
        // A chunk that is cut elsewhere is a chunk that no appliance has: `gear-tensors-v1` means these.
        let lengths: Vec<usize> = all(&noise(7, 4 << 20)).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [1_409_520, 1_255_674, 1_232_511, 296_599]);
    }
}
