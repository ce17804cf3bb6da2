//! Import of 1 GiB: what intaked, updaterd and the inspectors use from the volume to the shelf, beside unpacking and
//! hashing the same bytes with `zstd`, `tar` and `sha256sum`.
//!
//! Ours does more: it checks every chunk before it is unpacked, syncs, hashes the files a second
//! time from quarantine, inspects each of them, and judges the release. The engine's and the log's time is not counted.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{Options, Stage, Unit, facility::Facility, release::read_file};

use super::{Figure, RUNS, Usage, material, peer, tell, usage_of};

/// 1 GiB, as the figure is defined.
const BYTES: u64 = 1 << 30;
/// The unit of times in `/proc/PID/stat` (proc_pid_stat(5); `sysconf(_SC_CLK_TCK)` is 100 on every
/// architecture of Linux that Rust supports).
const TICKS_PER_S: f64 = 100.0;
const PEER: &str = "zstd -d | tar -x, sha256sum";

pub(super) fn measure(scratch: &Path, log: &mut dyn Write) -> Result<Vec<Figure>> {
    for name in ["zstd", "tar", "sha256sum"] {
        peer(name)?;
    }
    let mut facility = Facility::found(&scratch.join("facility"), &Options::no_evaluation_asked())?;
    writeln!(log, "making a release of 1 GiB")?;
    let tree = material::small_tree(&facility, "large")?;
    material::random_weights(&tree.join("provenance/weights.gguf"), BYTES, 1)?;
    let volume = facility.publish(&tree, "1.0.0", 1)?;
    let packed = scratch.join("tree.tar.zst");
    pack(&tree, &packed)?;
    fs::remove_dir_all(&tree)?;

    let (mut ours, mut theirs, mut walls) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let unpacked = scratch.join("unpacked");
        fs::create_dir(&unpacked)?;
        theirs.push(usage_of(&format!(
            "zstd -dc {packed} | tar -x -C {into}; find {into} -type f -exec sha256sum {{}} + >/dev/null",
            packed = packed.display(),
            into = unpacked.display(),
        ))?);
        fs::remove_dir_all(&unpacked)?;
        // A new appliance, so that no file is on the shelf already.
        let root = scratch.join(format!("appliance-{run}"));
        facility.stage = Stage::create(&root, &Options::no_evaluation_asked())?;
        facility.stage.start()?;
        facility.enrol()?;
        let (usage, wall) = import(&facility, &volume)?;
        ours.push(usage);
        walls.push(wall);
        facility.stage.stop()?;
        fs::remove_dir_all(&root)?;
    }
    let cpu = |runs: &[Usage]| runs.iter().map(|run| run.cpu_s).collect::<Vec<f64>>();
    let peak = |runs: &[Usage]| runs.iter().map(|run| run.peak_mib).collect::<Vec<f64>>();
    for (name, runs) in [
        ("import.cpu ours", cpu(&ours)),
        ("import.cpu peer", cpu(&theirs)),
        ("import.memory ours", peak(&ours)),
        ("import.memory peer", peak(&theirs)),
        ("import.wall ours", walls.clone()),
    ] {
        tell(log, name, &runs)?;
    }
    Ok(vec![
        Figure::new("import.cpu", "s", &cpu(&ours)).beside(PEER, &cpu(&theirs)).aim(3.0),
        Figure::new("import.memory", "MiB", &peak(&ours)).beside(PEER, &peak(&theirs)).aim(64.0),
        Figure::new("import.wall", "s", &walls),
    ])
}

/// The same files as one compressed archive, for the peer.
fn pack(tree: &Path, to: &Path) -> Result<()> {
    // Level 1: the peer's unpacking is measured, and random bytes stay as they are at any level.
    let encoder = zstd::Encoder::new(File::create(to)?, 1)?;
    let mut builder = tar::Builder::new(encoder);
    builder.append_dir_all(".", tree)?;
    builder.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

fn import(facility: &Facility, volume: &Path) -> Result<(Usage, f64)> {
    let units = [Unit::Intaked, Unit::Updaterd];
    let pids: Vec<u32> =
        units.iter().map(|unit| facility.stage.pid(*unit)).collect::<Result<_>>()?;
    let supervisor = facility.stage.supervisor_pid()?;
    // The inspectors ended and were waited for by then.
    let cpu = || {
        let daemons = pids.iter().map(|pid| cpu_s(*pid, OWN_TIMES)).sum::<Result<f64>>()?;
        Ok::<f64, anyhow::Error>(daemons + cpu_s(supervisor, CHILDRENS_TIMES)?)
    };
    let before = cpu()?;
    let begun = Instant::now();
    crate::serve::said(&facility.import(volume)?)?;
    let wall = begun.elapsed().as_secs_f64();
    let cpu_s = cpu()? - before;
    let peak_mib = pids.iter().map(|pid| peak_mib(*pid)).sum::<Result<f64>>()?;
    for (unit, pid) in units.iter().zip(&pids) {
        ensure!(facility.stage.pid(*unit)? == *pid, "{} was started again", unit.name());
    }
    Ok((Usage { cpu_s, peak_mib }, wall))
}

/// Fields of `/proc/PID/stat` behind the name: 14 and 15 are user and system time of the process, 16
/// and 17 those of its children that were waited for.
const OWN_TIMES: usize = 11;
const CHILDRENS_TIMES: usize = 13;

/// User and system time so far: that of the process, or that of its children.
fn cpu_s(pid: u32, from: usize) -> Result<f64> {
    let text = String::from_utf8(read_file(Path::new(&format!("/proc/{pid}/stat")))?)?;
    // The second field, the name in brackets, may hold spaces.
    let (_name, rest) = text.rsplit_once(')').context("no process name")?;
    let ticks = rest.split_ascii_whitespace().skip(from).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_S)
}

/// The largest resident size of a process so far (`VmHWM`), pages of its program included.
fn peak_mib(pid: u32) -> Result<f64> {
    let text = String::from_utf8(read_file(Path::new(&format!("/proc/{pid}/status")))?)?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib = line.trim().trim_end_matches(" kB").trim();
    Ok(kib.parse::<f64>()? / 1024.0)
}
