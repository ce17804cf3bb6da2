//! Signed statements: strict Ed25519, ML-DSA, DSSE envelopes, in-toto statements and the two
//! canonical forms of JSON that they stand on.
//!
//! It decides whether bytes are well formed and whether a key signed them. It never decides whose
//! key counts for what (`cloister-verify` does), and it never reads a clock, a file or a random
//! number.

mod any;
pub mod approval;
pub mod consent;
pub mod dsse;
mod error;
pub mod json;
mod key;
pub mod keyfile;
pub mod mldsa;
mod multiples;
mod point;
mod sign;
pub mod statement;

pub use any::{Algorithm, AnyKey, Speaker};
pub use error::AttestError;
pub use key::{Checker, PublicKey, SigningKey};
pub use sign::{SignError, Signer, sign_checked};
