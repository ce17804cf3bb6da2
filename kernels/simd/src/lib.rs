//! Fast kernels for x86-64, chosen at run time: AVX2, AVX-512, AVX-512 with VNNI, and a portable twin.
//!
//! All four give the same bits: products are summed in 16 lanes over ascending `k`, with fused
//! multiply-adds, and the lanes are added in one fixed order. So a result depends neither on the CPU, nor
//! on how many tokens share a call, nor on how rows are spread over threads (reference: Higham, Accuracy
//! and Stability of Numerical Algorithms, chapter 4, for what the order changes).
//!
//! Layouts: weights `[N, K]` as checkpoints store them, at any alignment; activations `[T, K]`; results
//! `[N, T]`, so that threads can share a result by rows. A caller with one token needs no transposition.

mod activations;
mod dense;
mod element;
mod kernels;
mod portable;
mod q8_0;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::Activations;
pub use dense::{Dense, Word};
pub use element::{exp, gelu, silu, softmax};
pub use kernels::Kernels;
