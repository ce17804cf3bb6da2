//! Crashes of the updater's daemons, at any call and at any moment of a power cut, judged by somebody
//! who shares no code with those that recover.
//!
//! The real recordd, updaterd and intaked are killed at system calls that are counted over all their
//! threads, calls of theirs are made to fail, and the disk below them loses power: writes that nobody
//! flushed are lost, torn or kept as chance has it. What comes back must be the old state or the new
//! one, and everything that somebody was told must be there. Walks play many acts of several persons one after
//! the other on one appliance, with all of this and more in between.

mod appliance;
mod books;
mod bytes;
mod calls;
mod cuts;
mod device;
mod disk;
mod doubles;
mod fixture;
mod harm;
mod judge;
mod lab;
mod log;
mod memory;
mod model;
mod play;
mod rows;
mod scene;
mod sight;
mod simulate;
mod spoil;
mod states;
mod tracer;
mod tree;
mod wal;
mod walk;
mod wish;

pub use lab::{Job, Lab, Line};
pub use spoil::Spoilt;
pub use states::Found;
pub use walk::{Walked, walks};
pub use wish::{Kinds, Wish, run};

/// What this machine lacks for crashes of these kinds to be tried: the first of a tracer's registers, root,
/// and, for power cuts, devices.
#[must_use]
pub fn missing(kinds: Kinds) -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("a processor of the x86-64 kind");
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("root");
    }
    let devices: &[_] = if kinds.cuts { &["/dev/fuse", "/dev/loop-control"] } else { &[] };
    devices.iter().copied().find(|device| !std::path::Path::new(device).exists())
}
