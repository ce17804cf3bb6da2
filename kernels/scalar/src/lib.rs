//! The obvious version of every kernel: plain loops, sums in f64. It is the oracle that every fast
//! kernel answers to (`kernels/conformance`), and it is never tuned.
//!
//! Shapes: `T` tokens, `N` outputs, `K` inputs, `H` heads, `Dh` head width; slices are row-major.

mod attention;
mod dense;
mod element;
mod norm;
mod q8_0;

pub use attention::{attention_row, rope_halves, rope_neighbours};
pub use dense::{dot, product};
pub use element::{erf, gelu, silu, softmax};
pub use norm::{layer_norm, rms_norm};
pub use q8_0::{
    BLOCK, BLOCK_BYTES, QuantisedBlock, dequantise_q8_0, product_q8_0, quantise_activations,
    quantise_q8_0,
};

/// Rounds a sum to the f32 that is stored.
#[expect(clippy::cast_possible_truncation, reason = "the one place where f64 becomes f32")]
pub(crate) const fn narrow(x: f64) -> f32 {
    x as f32
}
