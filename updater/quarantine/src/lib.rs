//! Copies a bundle's volume off a medium into quarantine, by a plan that verification made.
//!
//! Each byte of the payload is read once. A chunk is hashed in memory against the signed index and
//! only then unpacked and written to its place, so what is written is what was checked, and a
//! medium that answers two reads differently gains nothing. Memory is bounded by constants. A copy
//! that was cut off anywhere goes on by hashing what already lies in quarantine; nothing unfinished
//! is trusted. It never decides whom to trust, and never touches the shelf.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm
    )
)]

mod copy;
mod decode;
mod error;
mod missing;
mod parts;
mod source;

pub use copy::{Outcome, Parted, Quarantined, Task};
pub use error::QuarantineError;
pub use missing::needs;
pub use parts::{Parts, Wanted};
pub use source::{Ending, Head, Opening, Place, Source};

#[cfg(test)]
mod tests;
