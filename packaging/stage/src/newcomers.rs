//! Processes that somebody starts during an act, and theirs: the most memory that they took together.
//!
//! A process that has ended tells its peak to nobody but its parent, so they are looked at while they run.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::release::read_file;

/// How often it is looked where memory is what counts; the shortest of them live some times as long.
pub const CLOSELY: Duration = Duration::from_millis(1);
/// How often it is looked where time counts too, of which looking takes some.
pub const NOW_AND_THEN: Duration = Duration::from_millis(5);

/// Does `act`, and says what the processes that came below process `pid` meanwhile took at most, in
/// bytes: the largest sum of the peaks of those that ran at a time, looked at once in `look`. What one of
/// them took in the last such time of its life alone may be missing.
pub fn measure<T>(pid: u32, look: Duration, act: impl FnOnce() -> T) -> (u64, T) {
    let known = below(pid, &BTreeSet::new());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                let here = below(pid, &known);
                most = most.max(here.iter().filter_map(|pid| peak_bytes(*pid).ok()).sum());
                thread::park_timeout(look);
            }
            most
        });
        let answer = act();
        done.store(true, Ordering::Relaxed);
        (looking.join().expect("it only looks"), answer)
    })
}

/// The largest resident size of a process so far, or since its peak was set back (`VmHWM`), in bytes.
///
/// # Errors
/// When it has ended.
pub fn peak_bytes(pid: u32) -> Result<u64> {
    let text = String::from_utf8(read_file(Path::new(&format!("/proc/{pid}/status")))?)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no peak")?;
    Ok(kib.parse::<u64>()? << 10)
}

/// Whoever `pid` started, and whoever they did, but for those that are `known`. A process that ends
/// meanwhile is left out.
fn below(pid: u32, known: &BTreeSet<u32>) -> BTreeSet<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let said = read_file(&thread.path().join("children")).unwrap_or_default();
        let said = String::from_utf8(said).unwrap_or_default();
        said.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    let children = children.filter(|child| !known.contains(child));
    children.flat_map(|child| below(child, known).into_iter().chain([child])).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn whoever_comes_meanwhile_counts_and_so_do_their_children() {
        let mut before = Command::new("sleep").arg("60").spawn().expect("a process");
        let pid = std::process::id();
        let (quiet, ()) = measure(pid, CLOSELY, || thread::park_timeout(Duration::from_millis(20)));
        // tail keeps all of it until the last byte came.
        let greedy = "head -c 64M /dev/zero | tail -c 64M | cat >/dev/null";
        let (bytes, status) =
            measure(pid, CLOSELY, || Command::new("sh").args(["-c", greedy]).status());
        before.kill().expect("it runs");
        before.wait().expect("it ends");
        assert!(status.expect("a shell").success());
        assert_eq!(quiet, 0, "the one that was there is not new");
        assert!(bytes > 32 << 20, "{bytes}");
        let mut gone = Command::new("true").stdin(Stdio::null()).spawn().expect("a process");
        gone.wait().expect("it ends");
        peak_bytes(gone.id()).expect_err("nobody is left to ask");
    }
}
