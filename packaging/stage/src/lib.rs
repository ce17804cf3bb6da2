//! A scratch root in which the real daemons run, each its own process with its own socket.
//!
//! `./x demo`, `./x serve` and the flow tests stand on it. The program `cloister-stage` is the
//! supervisor of such a root: it binds the sockets, starts the daemons with inherited descriptors
//! as systemd does, and starts one again when it dies. [`Stage`] makes the root, starts the
//! supervisor and talks to the daemons.
//!
//! It never ships: on the appliance systemd does this work.

mod accepting;
mod client;
mod dice;
pub mod facility;
pub mod journal;
pub mod judge;
pub mod loopback;
pub mod newcomers;
pub mod outside;
pub mod release;
mod roles;
pub mod sample;
mod scratch;
pub mod stick;
pub mod supervisor;
pub mod tamper;

pub use client::{Conversation, ask};
pub use dice::Dice;
pub use roles::Unit;
pub use scratch::{Options, Stage, programs};
