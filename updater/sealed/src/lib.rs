//! Volumes that only some appliances can read: the age format, version 1 (age-encryption.org/v1,
//! C2SP `age.md`), with X25519 recipients.
//!
//! It opens a sealed file as a reader that decrypts one block of 64 KiB at a time, authenticated
//! before a byte of it is given out, so that what reads a volume reads a sealed one too. It draws no
//! random bytes and opens no file: its callers do. Sealing hides what a volume holds; whom to trust
//! is decided by the signatures inside, as without it.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm
    )
)]

mod bech32;
mod error;
mod header;
mod keys;
mod stream;

pub use error::SealedError;
pub use header::{INTRO, is_sealed};
pub use keys::{Identity, Recipient};
pub use stream::{Chance, Opened, seal};
