//! How far a sum in floating point may lie from the exact one.

/// Half the distance from 1 to the next f32: the largest relative error of one operation.
const UNIT: f64 = 1.0 / 16_777_216.0;

/// A result that is not what the oracle says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disagreement {
    /// What the kernel gave.
    pub ours: f32,
    /// What the oracle gave.
    pub oracle: f32,
    /// The largest difference allowed.
    pub allowed: f64,
}

/// Compares a sum of `n` products with the oracle's, whose terms have the absolute sum `magnitude`.
///
/// Any order of n additions and n products with f32 rounding differs from the exact sum by at most
/// γₙ · Σ|xᵢyᵢ| with γₙ = nu / (1 − nu) (Higham, Accuracy and Stability of Numerical Algorithms, second
/// edition, section 3.1, eq. 3.5). `roundings` is what each term suffers besides. The oracle's own rounding
/// to f32 adds one; results below the normal numbers may be off by the smallest of them. NaN and the
/// infinities must agree in kind.
///
/// # Errors
///
/// The disagreement.
pub fn within(
    ours: f32,
    oracle: f32,
    n: usize,
    roundings: u32,
    magnitude: f64,
) -> Result<(), Disagreement> {
    let count = f64::from(u32::try_from(n).unwrap_or(u32::MAX)) + f64::from(roundings) + 1.0;
    let gamma = count * UNIT / (1.0 - count * UNIT);
    let allowed = gamma * magnitude + count * f64::from(f32::MIN_POSITIVE);
    let equal = if oracle.is_nan() || ours.is_nan() {
        oracle.is_nan() && ours.is_nan()
    } else if oracle.is_infinite() || ours.is_infinite() {
        // Where the exact sum is at the edge of the range, a partial sum may have left it.
        ours.to_bits() == oracle.to_bits() || magnitude * (1.0 + gamma) >= f64::from(f32::MAX)
    } else {
        (f64::from(ours) - f64::from(oracle)).abs() <= allowed
    };
    if equal { Ok(()) } else { Err(Disagreement { ours, oracle, allowed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_must_agree_and_errors_stay_small() {
        assert!(within(f32::NAN, f32::NAN, 1, 0, 1.0).is_ok());
        assert!(within(1.0, f32::NAN, 1, 0, 1.0).is_err());
        assert!(within(f32::NAN, 1.0, 1, 0, 1.0).is_err());
        assert!(within(f32::INFINITY, f32::NEG_INFINITY, 1, 0, 1.0).is_err());
        assert!(within(f32::INFINITY, f32::INFINITY, 1, 0, 1.0).is_ok());
        assert!(within(1.0 + f32::EPSILON, 1.0, 1, 0, 1.0).is_ok());
        assert!(within(1.0 + 4.0 * f32::EPSILON, 1.0, 1, 0, 1.0).is_err());
        assert!(within(1.001, 1.0, 100, 0, 1.0).is_err());
    }
}
