//! Normalisation of rows.

use crate::narrow;

/// `y = x / √(mean(x²) + ε) · gain` (Zhang and Sennrich 2019, eq. 4).
///
/// # Panics
///
/// When the lengths differ.
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32, y: &mut [f32]) {
    assert!(x.len() == gain.len() && x.len() == y.len(), "rms_norm: x, gain and y are [n]");
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let scale = 1.0 / (squares / count(x) + f64::from(epsilon)).sqrt();
    for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
        *y = narrow(f64::from(*x) * scale * f64::from(*gain));
    }
}

/// `y = (x − mean) / √(variance + ε) · gain + bias` (Ba et al. 2016, eq. 3).
///
/// # Panics
///
/// When the lengths differ.
pub fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32, y: &mut [f32]) {
    let n = x.len();
    assert!(gain.len() == n && bias.len() == n && y.len() == n, "layer_norm: all are [n]");
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / count(x);
    let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / count(x);
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    for (((y, x), gain), bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
        *y = narrow((f64::from(*x) - mean) * scale * f64::from(*gain) + f64::from(*bias));
    }
}

fn count(x: &[f32]) -> f64 {
    u32::try_from(x.len()).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_by_hand() {
        let mut y = [0.0; 2];
        rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut y);
        let rms = 12.5f32.sqrt();
        assert!((y[0] - 3.0 / rms).abs() < 1e-6 && (y[1] - 8.0 / rms).abs() < 1e-6);
        layer_norm(&[1.0, 3.0], &[1.0, 2.0], &[0.5, 0.0], 0.0, &mut y);
        assert!((y[0] + 0.5).abs() < 1e-6 && (y[1] - 2.0).abs() < 1e-6);
    }
}
