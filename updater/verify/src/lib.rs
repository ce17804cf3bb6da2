//! Trust: who may bring what into the enclave.
//!
//! From an enrolled root it decides, by TUF 1.0.34 (a subset: Ed25519 keys, one level of terminating
//! delegations, no clock), which metadata is current, whether a release may enter, and whether enough
//! distinct persons approved it. What it accepts it hands out as [`Verified`], which only this crate
//! can make.
//!
//! It never reads a clock or a file, and it takes the root as an argument, never from what it judges.
//! Every ratchet is in [`Vector`], which the caller stores verbatim beside the files as received.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm
    )
)]

mod approval;
mod error;
mod metadata;
mod roles;
mod root;
mod state;
mod time;

pub use approval::{Approved, auditors_view};
pub use error::{RoleName, VerifyError};
pub use root::target_path;
pub use state::{Accepted, Stored, TrustState, Vector, Verified, enrol};
pub use time::{Instant, InstantError};
