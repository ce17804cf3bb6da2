//! One suite for every implementation of the kernels: each answers to the scalar oracle.
//!
//! A check gives back the first disagreement, so that a broken kernel can be shown to fail it.

mod bound;
mod cases;
mod suite;

pub use bound::{Disagreement, within};
pub use suite::{Subject, check_all};
