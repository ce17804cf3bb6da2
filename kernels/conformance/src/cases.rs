//! Inputs: seeded numbers, and the shapes and values that kernels get wrong.

/// Widths around the kernels' 16 lanes and the sizes of real models.
pub(crate) const WIDTHS: [usize; 14] = [1, 2, 7, 15, 16, 17, 31, 33, 64, 100, 127, 255, 896, 1027];
/// Widths of whole Q8_0 blocks, odd and even in number.
pub(crate) const BLOCK_WIDTHS: [usize; 6] = [32, 64, 96, 160, 896, 2048];
/// Rows and tokens around the tiles of four.
pub(crate) const COUNTS: [usize; 6] = [0, 1, 3, 4, 5, 9];

/// splitmix64 (Steele, Lea and Flood 2014).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in ±1 with 24 bits.
    pub(crate) fn next(&mut self) -> f32 {
        let [.., a, b, c] = self.bits().to_be_bytes();
        let steps = i32::from_be_bytes([0, a, b, c]) - (1 << 23);
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
        let steps = steps as f32;
        steps / 8_388_608.0
    }

    /// `count` numbers of magnitudes from 2⁻¹⁰ to 1, as activations have them.
    pub(crate) fn many(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                let x = self.next();
                if self.bits() & 3 == 0 { x / 1024.0 } else { x }
            })
            .collect()
    }

    /// `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits().to_be_bytes()[0]).collect()
    }
}
