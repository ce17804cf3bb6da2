//! Small things that the tests of several crates begin with: keys that follow from a number, a release
//! that says as little as one can, and a tokenizer of single bytes.
//!
//! All of it is made in code and the same each time. Nobody must ever trust such a key.

pub mod release;
pub mod tokenizer;

pub use release::{key, manifest, signed};
