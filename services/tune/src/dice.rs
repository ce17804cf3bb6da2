//! Seeded choices: the only source of chance in this crate besides burn's own seed.

/// A SplitMix64 stream (Steele, Lea, Flood 2014): small, seedable by any number, the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A stream that depends on `seed` alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `count`.
    ///
    /// # Panics
    /// When `count` is zero.
    pub fn below(&mut self, count: usize) -> usize {
        assert!(count > 0, "a choice among nothing");
        let wide = u128::from(self.bits()) * (count as u128);
        usize::try_from(wide >> 64).expect("smaller than count, a usize")
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred throws.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `all`.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Brings `all` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            all.swap(last, self.below(last + 1));
        }
    }

    /// A number of the standard normal distribution (Box and Muller 1958).
    pub fn gaussian(&mut self) -> f64 {
        let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let (u, v) = (unit(self.bits()), unit(self.bits()));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_and_choices_stay_in_range() {
        let (mut a, mut b) = (Dice::new(7), Dice::new(7));
        for _ in 0..1000 {
            let n = a.below(13);
            assert_eq!(n, b.below(13));
            assert!(n < 13);
        }
        // Reference value of SplitMix64 with seed 1234567.
        assert_eq!(Dice::new(1_234_567).bits(), 6_457_827_717_110_365_317);
    }

    #[test]
    fn gaussian_numbers_have_mean_zero_and_variance_one() {
        let mut dice = Dice::new(3);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..20_000 {
            let x = dice.gaussian();
            sum += x;
            squares += x * x;
        }
        assert!((sum / 20_000.0).abs() < 0.03);
        assert!((squares / 20_000.0 - 1.0).abs() < 0.05);
    }
}
