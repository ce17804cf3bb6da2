//! The checks on encoded points and scalars that must hold before any library sees them.
//!
//! Libraries differ on non-canonical encodings and on points of small order, and some accept the
//! identity as a key for every message (`reference/security.md`, A1). These checks need no field
//! arithmetic: they compare bytes.

/// `p = 2^255 - 19`, little-endian (RFC 8032, section 5.1).
const P: [u8; 32] = [
    0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
];

/// The order of the base point, `L = 2^252 + 27742317777372353535851937790883648493`,
/// little-endian (RFC 8032, section 5.1).
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The `y` coordinates of the eight points whose order divides 8: order 1, 2, 4, and both of 8.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
    [0; 32],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
];

/// Whether the encoded `y` is below `p`. (Whether `x` exists is the library's to decide; the one
/// remaining non-canonical case, `x = 0` with the sign bit, has a `y` of small order.)
pub(crate) fn is_canonical(point: &[u8; 32]) -> bool {
    below(&without_sign(point), &P)
}

/// Whether the point's order divides 8.
pub(crate) fn is_small_order(point: &[u8; 32]) -> bool {
    SMALL_ORDER_Y.contains(&without_sign(point))
}

/// Whether `scalar < L`, so that a signature has one spelling (RFC 8032, section 5.1.7).
pub(crate) fn is_reduced(scalar: &[u8; 32]) -> bool {
    below(scalar, &L)
}

fn without_sign(point: &[u8; 32]) -> [u8; 32] {
    let mut y = *point;
    y[31] &= 0x7f;
    y
}

/// Compares two little-endian numbers. Both are public, so time may tell.
fn below(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_themselves_are_refused() {
        let mut below_p = P;
        below_p[0] -= 1;
        let mut below_l = L;
        below_l[0] -= 1;
        assert!(is_canonical(&below_p) && !is_canonical(&P) && !is_canonical(&[0xff; 32]));
        assert!(is_reduced(&below_l) && !is_reduced(&L) && !is_reduced(&[0xff; 32]));
    }

    #[test]
    fn the_sign_does_not_hide_a_small_order() {
        for mut y in SMALL_ORDER_Y {
            assert!(is_small_order(&y) && is_canonical(&y));
            y[31] |= 0x80;
            assert!(is_small_order(&y));
        }
    }

    #[test]
    fn the_list_is_what_the_library_calls_weak() {
        for mut y in SMALL_ORDER_Y {
            for sign in [0, 0x80] {
                y[31] = (y[31] & 0x7f) | sign;
                // With the sign bit, x = 0 has no canonical encoding; the library may refuse it.
                if let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&y) {
                    assert!(key.is_weak());
                }
            }
        }
    }
}
