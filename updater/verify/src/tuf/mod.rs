//! The Update Framework, client side (TUF 1.0.34): roles, thresholds, rotation, delegations.
//!
//! It reads the JSON wire format as any TUF tool writes it and decides what is trusted. What is
//! particular to a facility, such as who approves, is above it in this crate. Where files come from,
//! where they are kept and what time it is are the caller's to say.
//!
//! Two things are stricter than the specification demands: a threshold counts persons, not keys
//! (`x-cloister.persons` of the root names them; without an entry a key is a person of its own), and
//! one key under two ids is refused.

mod keys;
mod metadata;
mod pattern;
mod roles;
mod root;
mod set;
mod targets;

pub use keys::{Algorithms, Speakers, Strict, Verifies};
pub(crate) use keys::{Authority, KEYS_MAX};
pub use root::Root;
pub use set::TrustedSet;
pub use targets::{Delegation, Target, Targets};
