//! Trust: who may bring what into the enclave.
//!
//! [`tuf`] is a client of The Update Framework. Above it, from an enrolled root, [`TrustState`] decides
//! which metadata is current, whether a release may enter, whether it was taken back, and whose
//! an approval is. What it accepts it hands out as [`Verified`], which only this
//! crate can make.
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
mod facility;
mod release;
mod revoked;
mod state;
mod time;
pub mod tuf;

pub use approval::auditors_view;
pub use error::{RoleName, VerifyError};
pub use release::{Vouchers, target_path};
pub use state::{Accepted, Stored, TrustState, Vector, Verified, check_draft, enrol};
pub use time::{Instant, InstantError};
