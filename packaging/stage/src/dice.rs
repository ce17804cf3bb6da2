//! Numbers without a pattern that follow from a seed.

/// The same numbers for the same seed (SplitMix64; Steele, Lea and Flood 2014, figure 2 with the
/// constants of its variant 13).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that begin at `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(self.roll().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    /// The next `count` characters of a text in lines that packs no better than to three quarters.
    pub fn text(&mut self, count: usize) -> String {
        const SIGNS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sign = |(at, byte): (usize, u8)| match at % 64 {
            63 => '\n',
            _ => char::from(SIGNS[usize::from(byte % 64)]),
        };
        self.bytes(count).into_iter().enumerate().map(sign).collect()
    }

    /// A number below `end`, which is not 0; the bias of the remainder does not matter here.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).expect("usize is at most 64 bits");
        usize::try_from(self.roll() % end).expect("below a usize")
    }
}
