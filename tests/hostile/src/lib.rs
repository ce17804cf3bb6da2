//! What an enemy would send: a valid volume, damaged in every way that has a name, offered to the code
//! that reads volumes.
//!
//! [`Base`] is the valid volume with the keys of everybody who signed it, so that hostile content can
//! be signed as well. [`Enclave`] does in one process what intaked and updaterd do together. Each
//! module under [`cases`] makes the damage of one class; [`mutants`] makes damage without end.
#![expect(clippy::missing_errors_doc, reason = "a test helper fails with what went wrong")]
#![expect(clippy::too_many_lines, reason = "a table of cases is read from top to bottom")]

pub mod base;
pub mod cases;
pub mod enclave;
pub mod mutants;

pub use base::{Base, Members};
pub use enclave::{Enclave, Refusal};
