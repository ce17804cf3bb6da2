//! Logits → token: greedy or drawn by temperature, top-k and top-p with a seeded generator; and the
//! search for stop texts in an answer as it is written.
//!
//! Pure: no files, sockets, clocks, threads or randomness. The dice come from a seed, so the same
//! logits and seed give the same tokens.

mod draw;
mod pcg;
mod stop;

pub use draw::{SampleError, Sampler, Settings};
pub use pcg::Pcg32;
pub use stop::StopMatcher;
