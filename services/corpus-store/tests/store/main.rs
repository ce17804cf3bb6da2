//! The promises of the store, on real files.

mod crash;
mod deletion;
mod search;
mod support;
