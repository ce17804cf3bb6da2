//! The generator PCG-XSH-RR 64/32 (O'Neill 2014, "PCG: A Family of Simple Fast Space-Efficient
//! Statistically Good Algorithms for Random Number Generation", section 6.3.1).

/// Multiplier of the 64-bit linear congruential step (Knuth's MMIX, as in O'Neill's library).
const MULTIPLIER: u64 = 6_364_136_223_846_793_005;

/// A small seeded generator. For sampling, not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pcg32 {
    state: u64,
    increment: u64,
}

impl Pcg32 {
    /// A generator for `seed`; generators of different `stream`s are independent.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut generator = Self { state: 0, increment: (stream << 1) | 1 };
        generator.next_u32();
        generator.state = generator.state.wrapping_add(seed);
        generator.next_u32();
        generator
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        let old = self.state;
        self.state = old.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
        let shifted = (((old >> 18) ^ old) >> 27) & 0xFFFF_FFFF;
        let shifted = u32::try_from(shifted).expect("masked to 32 bits");
        shifted.rotate_right(u32::try_from(old >> 59).expect("five bits"))
    }

    /// A number in [0, 1) with 53 random bits.
    pub fn next_unit(&mut self) -> f64 {
        const SCALE: f64 = 9_007_199_254_740_992.0; // 2^53
        let (high, low) = (self.next_u32() >> 5, self.next_u32() >> 6);
        (f64::from(high) * 67_108_864.0 + f64::from(low)) / SCALE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference_program() {
        // pcg-c-basic, `pcg32-demo` with its fixed seeds 42 and 54, round 1.
        let mut generator = Pcg32::new(42, 54);
        let expected =
            [0xa15c_02b7, 0x7b47_f409, 0xba1d_3330, 0x83d2_f293, 0xbfa4_784b, 0xcbed_606e];
        assert_eq!(expected.map(|_number: u32| generator.next_u32()), expected);
    }

    #[test]
    fn units_fill_the_interval() {
        let mut generator = Pcg32::new(1, 1);
        let units: Vec<f64> = (0..10_000).map(|_draw| generator.next_unit()).collect();
        assert!(units.iter().all(|unit| (0.0..1.0).contains(unit)));
        let mean = units.iter().sum::<f64>() / 10_000.0;
        // Four standard deviations of the mean of 10 000 uniform numbers: 4 · 0.2887 / 100.
        assert!((mean - 0.5).abs() < 0.0116, "{mean}");
    }
}
