//! What the kernel says about a process that a test started.

use std::{
    collections::BTreeMap,
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
};

/// Starts a prisoner that says `shut` on its standard error once it is, and waits on its standard
/// input; its hard limits, by the kernel's words for them.
pub(crate) fn limits_once_shut(mut prisoner: Command) -> BTreeMap<String, String> {
    prisoner.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = prisoner.spawn().expect("started");
    let mut told = [0; 4];
    child.stderr.take().expect("a pipe").read_exact(&mut told).expect("told");
    let limits = limits_of(child.id());
    drop(child.stdin.take());
    child.wait().expect("ended");
    assert_eq!(&told, b"shut");
    limits
}

/// The hard limits of process `pid`, by the kernel's words for them (`/proc/PID/limits`).
pub(crate) fn limits_of(pid: u32) -> BTreeMap<String, String> {
    let path = Path::new("/proc").join(pid.to_string()).join("limits");
    let text = crate::files::read_limited(&path, 64 << 10).expect("a process that is there");
    let text = String::from_utf8(text).expect("text");
    // Columns of fixed width: name, soft limit, hard limit, unit.
    let columns = |line: &str| {
        let (name, rest) = line.split_at_checked(26)?;
        Some((name.trim().to_owned(), rest.split_whitespace().nth(1)?.to_owned()))
    };
    text.lines().skip(1).filter_map(columns).collect()
}
