//! Which acts may change what is served.
//!
//! [`step()`] takes the books of the supply flow as they stand and one act that somebody asks for. It
//! answers with the one [`Change`] that the act makes, or with the [`Refusal`] that says why not. The
//! updater asks it before every decision, activation, canary and rollback, and does what it answers.
//!
//! [`marks`] says what stays on the shelf, and why.
//!
//! It never checks a signature: what is in a [`Decision`] or a [`Leave`] was verified by
//! `cloister-verify` under the trust root of this moment. It never reads a clock: an approval ages by
//! the records that were written since.
//!
//! Each condition that keeps one person from changing what everybody is answered by is a named
//! [`Rule`]. `tests/search` drives this function through every sequence of acts of a small facility,
//! and finds a forbidden one as soon as any rule is left out.

mod act;
mod keep;
mod rules;
mod step;
mod world;

pub use act::{Act, Change, Kind};
pub use cloister_wire::trial::Scope;
pub use keep::{Holdings, marks};
pub use rules::{Refusal, Rule};
pub use step::{step, step_enforcing};
pub use world::{
    Canary, Candidate, Decision, Facility, Generation, Leave, Package, Verdict, World,
};
