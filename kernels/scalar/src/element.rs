//! Functions of single elements, and softmax.

use crate::narrow;

/// `x · σ(x)` (Hendrycks and Gimpel 2016, section 2).
#[must_use]
pub fn silu(x: f32) -> f32 {
    let x = f64::from(x);
    // At −∞ the product would be −∞ · 0.
    if x == f64::NEG_INFINITY { 0.0 } else { narrow(x / (1.0 + (-x).exp())) }
}

/// `x · Φ(x)` with the error function (Hendrycks and Gimpel 2016, section 2).
#[must_use]
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    if x == f64::NEG_INFINITY {
        0.0
    } else {
        narrow(0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)))
    }
}

/// The error function, by a series of positive terms (Abramowitz and Stegun, 7.1.6), to about 1e-15.
#[must_use]
pub fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    // Beyond 6 the rest is below 2e-17.
    if x.abs() > 6.0 {
        return x.signum();
    }
    let mut term = x;
    let mut sum = x;
    let mut n = 0.0;
    while term.abs() > sum.abs() * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// `exp(xᵢ − max) / Σ`, in place. An empty slice stays empty; a row with NaN or +∞ becomes NaN.
pub fn softmax(x: &mut [f32]) {
    // f64::max passes NaN over; the exponentials below bring it back.
    let max = x.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(f64::from(x)));
    let sum: f64 = x.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    for x in x {
        *x = narrow((f64::from(*x) - max).exp() / sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_function_has_its_known_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_8),
            (1.0, 0.842_700_792_9),
            (2.0, 0.995_322_265_0),
            (-1.5, -0.966_105_146_5),
        ] {
            assert!((erf(x) - y).abs() < 1e-10, "{x}");
        }
        assert!((erf(f64::INFINITY) - 1.0).abs() < 1e-15);
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn gates_have_their_limits() {
        for gate in [silu, gelu] {
            assert!(gate(0.0).abs() < 1e-9);
            assert!((gate(30.0) - 30.0).abs() < 1e-6);
            assert!(gate(-60.0).abs() < 1e-9);
            assert!(gate(f32::NEG_INFINITY).abs() < 1e-9);
            assert!(gate(f32::INFINITY).is_infinite() && gate(f32::NAN).is_nan());
        }
    }

    #[test]
    fn a_softmax_sums_to_one() {
        let mut x = [1.0, 2.0, 3.0, f32::NEG_INFINITY, 1000.0];
        softmax(&mut x);
        assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        softmax(&mut []);
        let mut bad = [0.0, f32::NAN];
        softmax(&mut bad);
        assert!(bad.iter().all(|x| x.is_nan()));
    }
}
