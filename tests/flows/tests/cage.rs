//! The process that reads a stick has given up, before the first byte, what it has no use for.

use std::path::Path;

use anyhow::{Context as _, Result};
use cloister_flows::Scene;
use cloister_stage::{Unit, release::read_file};

/// The words behind `name` in what the kernel says about the process.
fn about(pid: u32, file: &str, name: &str) -> Result<Vec<String>> {
    let text = read_file(&Path::new("/proc").join(pid.to_string()).join(file))?;
    let text = String::from_utf8(text)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    Ok(line.split_whitespace().map(str::to_owned).collect())
}

#[test]
fn intaked_is_shut_in_and_runs_when_nobody_else_does() -> Result<()> {
    let scene = Scene::enrolled()?;
    let pid = scene.stage().pid(Unit::Intaked)?;
    assert_eq!(about(pid, "status", "Seccomp:")?, ["2"], "a filter of system calls");
    assert_eq!(about(pid, "status", "NoNewPrivs:")?, ["1"]);
    let limit = |name| about(pid, "limits", name);
    let memory = (4u64 << 30).to_string();
    assert_eq!(limit("Max address space")?[..2], [memory.clone(), memory]);
    assert_eq!(limit("Max open files")?[1], "4096");
    assert_eq!(limit("Max core file size")?[..2], ["0", "0"]);
    // The 41st word is the policy (proc_pid_stat(5)); the second, in brackets, is the program.
    let words = about(pid, "stat", &format!("{pid} (cloister-intake)"))?;
    assert_eq!(words[38], "5", "SCHED_IDLE");
    Ok(())
}
