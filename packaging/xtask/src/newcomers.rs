//! Processes that somebody starts during an act, and theirs: the most memory that they took together.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use cloister_stage::release::read_file;

/// How often it is looked; the shortest of them live as long.
const LOOK: Duration = Duration::from_millis(5);

/// Does `act`, and says what the processes that came below process `pid` meanwhile took at most, in MiB:
/// the largest sum of the peaks of those that ran at a time.
pub(crate) fn measure<T>(pid: u32, act: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let known = descendants(pid);
    let done = AtomicBool::new(false);
    let (answer, most) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = 0.0f64;
            while !done.load(Ordering::Relaxed) {
                let here = descendants(pid);
                let peaks = here.difference(&known).filter_map(|pid| peak_mib(*pid).ok());
                most = most.max(peaks.sum());
                thread::park_timeout(LOOK);
            }
            most
        });
        let answer = act();
        done.store(true, Ordering::Relaxed);
        (answer, looking.join().expect("it only looks"))
    });
    Ok((most, answer?))
}

/// The largest resident size of a process so far (`VmHWM`), in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    let text = String::from_utf8(read_file(Path::new(&format!("/proc/{pid}/status")))?)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no peak")?;
    Ok(kib.parse::<f64>()? / 1024.0)
}

/// Whoever `pid` started, and whoever they did. A process that ends meanwhile is left out.
fn descendants(pid: u32) -> BTreeSet<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = threads.flat_map(|thread| {
        let said = read_file(&thread.path().join("children")).unwrap_or_default();
        let said = String::from_utf8(said).unwrap_or_default();
        said.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
    });
    children.flat_map(|child| descendants(child).into_iter().chain([child])).collect()
}
