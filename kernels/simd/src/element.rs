//! Functions of single elements, fast enough not to be seen beside the products.
//!
//! Plain Rust that the compiler turns into vector instructions of whatever the build allows; element by
//! element, so the bits do not depend on it.

/// `eˣ` to 2 units in the last place: `2ⁿ · eʳ` with `|r| ≤ ln 2 / 2` and a polynomial for `eʳ` (Cephes,
/// `expf`; Moshier 1984). Exactly 0 below −87.3 and +∞ above 88.7.
#[must_use]
#[inline]
pub fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 · 2²³ rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let bounded = x.clamp(-87.3, 88.7);
    let n = bounded.mul_add_plain(std::f32::consts::LOG2_E, ROUND) - ROUND;
    let r = (bounded - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let y = p * r * r + r + 1.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "n is an integer from -126 to 128; NaN gives 0"
    )]
    let n = n as i32;
    // In two steps, because 2^128 is no f32.
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) << 23).cast_unsigned());
    let y = y * power(half) * power(n - half);
    if x > 88.7 {
        f32::INFINITY
    } else if x < -87.3 {
        0.0
    } else {
        y
    }
}

trait Plain {
    fn mul_add_plain(self, factor: f32, summand: f32) -> f32;
}

impl Plain for f32 {
    /// Without fusing: a fused one is a library call where the build does not assume FMA.
    #[inline]
    fn mul_add_plain(self, factor: f32, summand: f32) -> f32 {
        self * factor + summand
    }
}

/// `x · σ(x)`.
#[must_use]
#[inline]
pub fn silu(x: f32) -> f32 {
    let y = x / (1.0 + exp(-x));
    // At −∞ the quotient of infinities would be NaN.
    if x < -87.3 { 0.0 } else { y }
}

/// `x · Φ(x)`; the error function to 1.5e-7 (Abramowitz and Stegun, 7.1.26).
#[must_use]
#[inline]
pub fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + c;
    }
    // Half of erfc(z): what is missing to the step function.
    let rest = 0.5 * p * t * exp(-z * z);
    if x < -13.5 {
        0.0
    } else if x > 13.5 {
        x
    } else if x < 0.0 {
        x * rest
    } else {
        x * (1.0 - rest)
    }
}

/// `exp(xᵢ − max) / Σ` in place; the sum runs over 16 lanes. NaN anywhere makes all of it NaN.
pub fn softmax(x: &mut [f32]) {
    let max = x.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
    let mut lanes = [0f32; 16];
    for chunk in x.chunks_mut(16) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *x = exp(*x - max);
            *lane += *x;
        }
    }
    let scale = 1.0 / crate::portable::add_lanes(lanes);
    for x in x {
        *x *= scale;
    }
}
