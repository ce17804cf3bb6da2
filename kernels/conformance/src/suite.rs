//! The checks.

use cloister_scalar as scalar;
use cloister_simd::{Activations, Dense, Kernels, Word, exp, gelu, silu, softmax};
use half::{bf16, f16};

use crate::{
    Disagreement,
    bound::within,
    cases::{BLOCK_WIDTHS, COUNTS, Numbers, WIDTHS},
};

/// What is checked: the products of one implementation.
pub trait Subject {
    /// As [`Kernels::product`].
    fn product(&self, weights: Dense<'_>, x: &[f32], k: usize, y: &mut [f32]);
    /// As [`Kernels::product_q8_0`] after quantising `x: [T, K]`.
    fn product_q8_0(&self, weights: &[u8], x: &[f32], k: usize, y: &mut [f32]);
    /// As [`Kernels::dots`].
    fn dots(&self, x: &[f32], rows: &[f32], sums: &mut [f32]);
    /// As [`Kernels::accumulate`].
    fn accumulate(&self, factors: &[f32], rows: &[f32], sums: &mut [f32]);
}

impl Subject for Kernels {
    fn product(&self, weights: Dense<'_>, x: &[f32], k: usize, y: &mut [f32]) {
        Self::product(*self, weights, x, k, y);
    }

    fn product_q8_0(&self, weights: &[u8], x: &[f32], k: usize, y: &mut [f32]) {
        Self::product_q8_0(*self, weights, &Activations::quantise(x, k), y);
    }

    fn dots(&self, x: &[f32], rows: &[f32], sums: &mut [f32]) {
        Self::dots(*self, x, rows, sums);
    }

    fn accumulate(&self, factors: &[f32], rows: &[f32], sums: &mut [f32]) {
        Self::accumulate(*self, factors, rows, sums);
    }
}

/// Runs every check on `subject`.
///
/// # Errors
///
/// The first disagreement.
pub fn check_all(subject: &dyn Subject) -> Result<(), Disagreement> {
    check_dense(subject)?;
    check_not_finite(subject)?;
    check_q8_0(subject)?;
    check_attention_sums(subject)?;
    check_elements()
}

const SPECIAL: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-42, -0.0];

/// Weights as stored words, one byte off any alignment, and what the words stand for.
fn stored(word: Word, values: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = vec![0];
    for value in values {
        match word {
            Word::F32 => bytes.extend(value.to_le_bytes()),
            Word::F16 => bytes.extend(f16::from_f32(*value).to_le_bytes()),
            Word::Bf16 => bytes.extend(bf16::from_f32(*value).to_le_bytes()),
        }
    }
    let rounded = values.iter().map(|value| match word {
        Word::F32 => *value,
        Word::F16 => f16::from_f32(*value).to_f32(),
        Word::Bf16 => bf16::from_f32(*value).to_f32(),
    });
    let rounded = rounded.collect();
    (bytes, rounded)
}

fn check_dense(subject: &dyn Subject) -> Result<(), Disagreement> {
    let mut numbers = Numbers(1);
    for word in [Word::F32, Word::F16, Word::Bf16] {
        for k in WIDTHS {
            for (rows, tokens) in COUNTS.into_iter().flat_map(|n| COUNTS.map(|t| (n, t))) {
                let (weights, x) = (numbers.many(rows * k), numbers.many(tokens * k));
                check_product(subject, word, &weights, &x, k)?;
            }
        }
    }
    // More tokens than one walk through the weights takes.
    let (weights, x) = (numbers.many(5 * 33), numbers.many(130 * 33));
    check_product(subject, Word::Bf16, &weights, &x, 33)
}

fn check_product(
    subject: &dyn Subject,
    word: Word,
    weights: &[f32],
    x: &[f32],
    k: usize,
) -> Result<(), Disagreement> {
    let (bytes, weights) = stored(word, weights);
    let (rows, tokens) = (weights.len() / k, x.len() / k);
    let mut ours = vec![f32::NAN; rows * tokens];
    let mut oracle = ours.clone();
    subject.product(Dense { word, bytes: &bytes[1..] }, x, k, &mut ours);
    scalar::product(&weights, x, k, &mut oracle);
    for (i, (ours, oracle)) in ours.into_iter().zip(oracle).enumerate() {
        let row = &weights[i / tokens * k..][..k];
        let token = &x[i % tokens * k..][..k];
        within(ours, oracle, k, 1, magnitude(row, token))?;
    }
    Ok(())
}

/// `Σ|xᵢyᵢ|`.
fn magnitude(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (f64::from(*x) * f64::from(*y)).abs()).sum()
}

/// A special value anywhere in a row spoils its own results in the oracle's way and no others.
fn check_not_finite(subject: &dyn Subject) -> Result<(), Disagreement> {
    let mut numbers = Numbers(2);
    let k = 37;
    for special in SPECIAL {
        for at in [0, 15, 16, 31, 32, 36] {
            let (mut weights, mut x) = (numbers.many(5 * k), numbers.many(5 * k));
            x[k + at] = special;
            check_product(subject, Word::F32, &weights, &x, k)?;
            weights[3 * k + at] = special;
            check_product(subject, Word::F32, &weights, &x, k)?;
            check_product(subject, Word::F16, &weights, &numbers.many(5 * k), k)?;
        }
        for at in [0, 31, 32, 95] {
            let weights = q8_0_weights(&mut numbers, 5, 96);
            let mut x = numbers.many(5 * 96);
            x[96 + at] = special;
            check_product_q8_0(subject, &weights, &x, 96)?;
        }
    }
    Ok(())
}

/// Blocks with any bytes as values, −128 among them, and scales of ±1.
fn q8_0_weights(numbers: &mut Numbers, rows: usize, k: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rows * k / scalar::BLOCK {
        bytes.extend(f16::from_f32(numbers.next()).to_le_bytes());
        bytes.extend(numbers.bytes(scalar::BLOCK));
    }
    bytes
}

fn check_q8_0(subject: &dyn Subject) -> Result<(), Disagreement> {
    let mut numbers = Numbers(3);
    for k in BLOCK_WIDTHS {
        for (rows, tokens) in COUNTS.into_iter().flat_map(|n| COUNTS.map(|t| (n, t))) {
            let weights = q8_0_weights(&mut numbers, rows, k);
            check_product_q8_0(subject, &weights, &numbers.many(tokens * k), k)?;
        }
    }
    // The largest products of all: every weight −128, every activation ±127.
    let mut weights = f16::from_f32(1.0).to_le_bytes().to_vec();
    weights.extend([0x80; scalar::BLOCK]);
    for x in [[1.0; 32], [-1.0; 32]] {
        check_product_q8_0(subject, &weights, &x, 32)?;
    }
    check_product_q8_0(subject, &q8_0_weights(&mut numbers, 6, 64), &numbers.many(130 * 64), 64)
}

fn check_product_q8_0(
    subject: &dyn Subject,
    weights: &[u8],
    x: &[f32],
    k: usize,
) -> Result<(), Disagreement> {
    let blocks = scalar::quantise_activations(x);
    let tokens = x.len() / k;
    let rows = weights.len() / (k / scalar::BLOCK * scalar::BLOCK_BYTES);
    let mut ours = vec![f32::NAN; rows * tokens];
    let mut oracle = ours.clone();
    // One byte off any alignment.
    let moved = [&[0], weights].concat();
    subject.product_q8_0(&moved[1..], x, k, &mut ours);
    scalar::product_q8_0(weights, &blocks, k, &mut oracle);
    let weights = scalar::dequantise_q8_0(weights);
    let x: Vec<f32> =
        blocks.iter().flat_map(|block| block.values.map(|v| block.scale * f32::from(v))).collect();
    for (i, (ours, oracle)) in ours.into_iter().zip(oracle).enumerate() {
        let row = &weights[i / tokens * k..][..k];
        let token = &x[i % tokens * k..][..k];
        // Integer sums are exact. Beside the sum over blocks and lanes, a term suffers the product of the
        // scales, and the magnitude here two roundings of its own.
        within(ours, oracle, k / scalar::BLOCK + 4, 3, magnitude(row, token))?;
    }
    Ok(())
}

fn check_attention_sums(subject: &dyn Subject) -> Result<(), Disagreement> {
    let mut numbers = Numbers(4);
    for width in WIDTHS {
        for count in COUNTS {
            let (x, rows) = (numbers.many(width), numbers.many(width * count));
            let mut sums = vec![f32::NAN; count];
            subject.dots(&x, &rows, &mut sums);
            for (sum, row) in sums.iter().zip(rows.chunks_exact(width)) {
                let mut oracle = [0.0];
                scalar::product(row, &x, width, &mut oracle);
                within(*sum, oracle[0], width, 1, magnitude(&x, row))?;
            }
            let factors = numbers.many(count);
            let start = numbers.many(width);
            let mut sums = start.clone();
            subject.accumulate(&factors, &rows, &mut sums);
            for (i, sum) in sums.iter().enumerate() {
                let column: Vec<f32> = rows.chunks_exact(width).map(|row| row[i]).collect();
                let exact = scalar::dot(&factors, &column) + f64::from(start[i]);
                #[expect(clippy::cast_possible_truncation, reason = "the oracle's result is f32")]
                let oracle = exact as f32;
                let magnitude = magnitude(&factors, &column) + f64::from(start[i].abs());
                within(*sum, oracle, count + 1, 1, magnitude)?;
            }
        }
    }
    Ok(())
}

/// The functions of single elements: relative errors of a few roundings, and the same kinds at the ends.
fn check_elements() -> Result<(), Disagreement> {
    let grid = (-2000..=2000).map(|i: i16| f32::from(i) / 16.0);
    let ends = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-30, -1e-30, 88.6, -87.2];
    for x in grid.chain(ends) {
        #[expect(clippy::cast_possible_truncation, reason = "the oracle's result is f32")]
        let oracle = f64::from(x).exp() as f32;
        // Outside of ±87.3 the result is cut to 0 or infinity on purpose.
        if x.abs() < 87.3 || !x.is_finite() {
            // Two units in the last place (Cephes), and the rounding of the reduced argument.
            within(exp(x), oracle, 4, 0, f64::from(oracle).abs())?;
            // A quotient of two such sums.
            within(silu(x), scalar::silu(x), 8, 0, f64::from(x).abs())?;
        }
        // The error function is off by 1.5e-7 (Abramowitz and Stegun, 7.1.26), half of it counts here;
        // that is 1.3 units, beside ten roundings.
        within(gelu(x), scalar::gelu(x), 12, 0, f64::from(x).abs())?;
    }
    let mut numbers = Numbers(5);
    for count in COUNTS.into_iter().chain(WIDTHS) {
        let mut ours: Vec<f32> = numbers.many(count).iter().map(|x| 20.0 * x).collect();
        let mut oracle = ours.clone();
        softmax(&mut ours);
        scalar::softmax(&mut oracle);
        for (ours, oracle) in ours.into_iter().zip(oracle) {
            // The difference to the maximum is up to 40, so its rounding counts 40-fold in the exponent.
            within(ours, oracle, count, 48, f64::from(oracle))?;
        }
    }
    let mut spoiled = [0.0, f32::NAN, 1.0];
    softmax(&mut spoiled);
    spoiled.into_iter().try_for_each(|x| within(x, f32::NAN, 1, 0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_implementation_answers_to_the_oracle() {
        for kernels in Kernels::available() {
            assert_eq!(check_all(&kernels), Ok(()), "{}", kernels.name());
        }
    }

    /// Runs one product on every implementation.
    fn all(run: impl Fn(Kernels) -> Vec<f32>) -> Vec<Vec<u32>> {
        let bits = |kernels| run(kernels).into_iter().map(f32::to_bits).collect();
        Kernels::available().into_iter().map(bits).collect()
    }

    #[test]
    fn all_implementations_give_the_same_bits() {
        let mut numbers = Numbers(6);
        for k in BLOCK_WIDTHS {
            let weights = q8_0_weights(&mut numbers, 9, k);
            let x = Activations::quantise(&numbers.many(7 * k), k);
            let results = all(|kernels| {
                let mut y = vec![0.0; 9 * 7];
                kernels.product_q8_0(&weights, &x, &mut y);
                y
            });
            assert!(results.iter().all(|result| *result == results[0]), "Q8_0, K = {k}");
        }
        for (word, k) in
            [Word::F32, Word::F16, Word::Bf16].into_iter().flat_map(|w| WIDTHS.map(|k| (w, k)))
        {
            let (bytes, _) = stored(word, &numbers.many(9 * k));
            let x = numbers.many(7 * k);
            let results = all(|kernels| {
                let mut y = vec![0.0; 9 * 7];
                kernels.product(Dense { word, bytes: &bytes[1..] }, &x, k, &mut y);
                y
            });
            assert!(results.iter().all(|result| *result == results[0]), "{word:?}, K = {k}");
        }
    }

    #[test]
    fn a_token_gives_the_same_bits_in_any_company() {
        let mut numbers = Numbers(7);
        let (k, rows, tokens) = (160, 11, 70);
        let weights = q8_0_weights(&mut numbers, rows, k);
        let x = numbers.many(tokens * k);
        for kernels in Kernels::available() {
            let mut together = vec![0.0; rows * tokens];
            kernels.product_q8_0(&weights, &Activations::quantise(&x, k), &mut together);
            for t in 0..tokens {
                let mut alone = vec![0.0; rows];
                let one = Activations::quantise(&x[t * k..(t + 1) * k], k);
                kernels.product_q8_0(&weights, &one, &mut alone);
                for n in 0..rows {
                    assert_eq!(alone[n].to_bits(), together[n * tokens + t].to_bits());
                }
            }
        }
    }

    /// A kernel with one fault.
    struct Broken {
        kernels: Kernels,
        fault: fn(&mut [f32]),
    }

    impl Subject for Broken {
        fn product(&self, weights: Dense<'_>, x: &[f32], k: usize, y: &mut [f32]) {
            self.kernels.product(weights, x, k, y);
            (self.fault)(y);
        }

        fn product_q8_0(&self, weights: &[u8], x: &[f32], k: usize, y: &mut [f32]) {
            Subject::product_q8_0(&self.kernels, weights, x, k, y);
            (self.fault)(y);
        }

        fn dots(&self, x: &[f32], rows: &[f32], sums: &mut [f32]) {
            self.kernels.dots(x, rows, sums);
        }

        fn accumulate(&self, factors: &[f32], rows: &[f32], sums: &mut [f32]) {
            self.kernels.accumulate(factors, rows, sums);
        }
    }

    #[test]
    fn a_broken_kernel_is_found() {
        let faults: [fn(&mut [f32]); 4] = [
            |y| y.iter_mut().for_each(|y| *y *= 1.0 + 1e-4),
            |y| y.iter_mut().skip(4).take(1).for_each(|y| *y = 0.0),
            |y| y.reverse(),
            |y| y.iter_mut().filter(|y| !y.is_finite()).for_each(|y| *y = 0.0),
        ];
        for fault in faults {
            assert!(check_all(&Broken { kernels: Kernels::best(), fault }).is_err());
        }
    }
}
