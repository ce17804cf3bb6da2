//! What passes between processes: the messages on the daemons' Unix sockets and the problem body
//! that every refusal takes, on a socket, on a terminal and over HTTP.
//!
//! Messages are JSON, one a frame. Fields that hold people's words are [`Sensitive`], so printing a
//! message for debugging shows `[sensitive]` in their place.
//!
//! [`Sensitive`]: cloister_domain::Sensitive
//!
//! Pure: no files, sockets, clocks, threads or randomness.

pub mod corpus;
pub mod engine;
pub mod fit;
pub mod gateway;
pub mod inspect;
pub mod intake;
pub mod inventory;
mod problem;
pub mod record;
pub mod review;
pub mod supply;
pub mod trial;

pub use problem::{Problem, Reply};

/// The largest frame on any of the daemons' sockets, in bytes; a longer one ends the connection.
pub const FRAME_BYTES_MAX: u32 = 32 << 20;
