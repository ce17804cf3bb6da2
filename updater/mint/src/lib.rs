//! The connected side: keys, the trust root, releases, signed volumes.
//!
//! Everything that `cloister-mint` does is a function here, so that demo and tests call it in their
//! own process. It is the only crate that writes bundles; what it writes is a function of its inputs
//! and keys, byte for byte. It opens no connection: models and documents are files that somebody
//! brought.

mod borders;
pub mod build;
pub mod ceremony;
pub mod cli;
mod cut;
pub mod error;
pub mod failure;
mod files;
pub mod importer;
pub mod inspect;
pub mod judge;
pub mod keys;
pub mod prepare;
pub mod seal;
pub mod trust;
pub mod volume;
