//! Multiples of one point, for whoever checks thousands of signatures by one key.
//!
//! Everything here is public, so time may tell.

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::traits::Identity as _;

/// Bytes of a scalar, and so rows of the table.
const ROWS: usize = 32;
/// Values of a byte, and so points of a row.
const ROW: usize = 256;

/// `b · 256^i · P` for each byte `b` at each place `i` of a scalar: 1.3 MB, made in some milliseconds. A
/// product is then 32 sums of what stands there, and needs no doubling.
#[derive(Clone)]
pub(crate) struct Multiples(Vec<EdwardsPoint>);

impl Multiples {
    /// Those of `point`.
    pub(crate) fn of(point: EdwardsPoint) -> Self {
        let mut table = Vec::with_capacity(ROWS * ROW);
        let mut unit = point;
        for _row in 0..ROWS {
            let mut multiple = EdwardsPoint::identity();
            for _byte in 0..ROW {
                table.push(multiple);
                multiple += unit;
            }
            unit = multiple;
        }
        Self(table)
    }

    /// `sum` and the product of the point with a scalar, little-endian.
    pub(crate) fn add_to(&self, mut sum: EdwardsPoint, scalar: &[u8; ROWS]) -> EdwardsPoint {
        for (row, byte) in self.0.chunks_exact(ROW).zip(scalar) {
            if let Some(multiple) = row.get(usize::from(*byte))
                && *byte > 0
            {
                sum += multiple;
            }
        }
        sum
    }
}

impl std::fmt::Debug for Multiples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Multiples")
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::{constants::ED25519_BASEPOINT_POINT, scalar::Scalar};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_product_is_the_librarys(bytes: [u8; 32]) {
            let table = Multiples::of(ED25519_BASEPOINT_POINT);
            let scalar = Scalar::from_bytes_mod_order(bytes);
            let product = EdwardsPoint::mul_base(&scalar);
            let sum = table.add_to(EdwardsPoint::identity(), scalar.as_bytes());
            prop_assert_eq!(sum, product);
            prop_assert_eq!(table.add_to(product, scalar.as_bytes()), product + product);
        }
    }
}
