//! Crashes of the updater's daemons, at any call and at any moment of a power cut, judged by somebody
//! who shares no code with those that recover.
//!
//! The real recordd, updaterd and intaked are killed at system calls that are counted over all their
//! threads, calls of theirs are made to fail, and the disk below them loses power: writes that nobody
//! flushed are lost, torn or kept as chance has it. What comes back must be the old state or the new
//! one, and everything that somebody was told must be there.

mod appliance;
mod calls;
mod cuts;
mod device;
mod disk;
mod doubles;
mod fixture;
mod lab;
mod log;
mod model;
mod play;
mod scene;
mod simulate;
mod tracer;

pub use lab::{Job, Kinds, Lab, Line, Wish, run};

/// What this machine lacks for crashes to be tried: the first of a tracer's registers, root, and devices.
#[must_use]
pub fn missing() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("a processor of the x86-64 kind");
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("root");
    }
    ["/dev/fuse", "/dev/loop-control"]
        .into_iter()
        .find(|device| !std::path::Path::new(device).exists())
}
