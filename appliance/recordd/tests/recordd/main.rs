//! recordd in a process of its own: what it promises, and what others can check without it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test helper fails by panicking and reads its own files"
)]

mod audit;
mod both;
mod daemon;
mod flips;
mod foreign;
mod forms;
mod promotions;
mod roots;
mod rounds;
mod story;
mod succession;
mod succession_evidence;
mod successions;
mod support;
mod vectors;
mod verifiers;
mod witness;
