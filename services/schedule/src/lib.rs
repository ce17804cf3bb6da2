//! Decides which sequences a model works on next: admission, fairness, batching and the accounting
//! of the key-value cache, as `step(event) → actions`.
//!
//! It owns [`Forward`], the one way in which the engine uses a language model, whatever runs it.
//!
//! Pure: no files, sockets, clocks, threads or randomness.

mod admission;
mod forward;
mod scheduler;

pub use admission::{AdmissionError, Limits, Request};
pub use forward::{Chunk, Forward, Logits, Shape, Wanted};
pub use scheduler::{Action, Event, Ran, Scheduler, Work};
