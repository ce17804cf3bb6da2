//! `./x bench AREA`: figures beside a peer's, measured in the same run.
//!
//! Each figure is the median of [`RUNS`] runs; what every run gave goes to the log, so that the
//! spread is seen.

mod load;
mod material;
mod updater;

use std::{io::Write, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

/// How often each thing is measured.
const RUNS: usize = 3;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Area {
    /// From a promoted model's files to an engine that is ready, and back to the release before.
    Load,
    /// From a release tree to a volume, and from a volume to a candidate on the shelf, or to its refusal.
    #[value(alias = "import")]
    Updater,
    /// Of `updater`, the record alone: appending and verifying.
    Record,
    /// Of `updater`, promotion and return alone.
    Switch,
}

/// One figure; for all of them less is better.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    ours: f64,
    peer: Option<f64>,
    peer_name: Option<&'static str>,
    /// Ours by the peer's.
    ratio: Option<f64>,
    /// What may not be exceeded.
    must: Option<f64>,
    /// What we are after.
    aim: Option<f64>,
}

impl Figure {
    fn new(name: &'static str, unit: &'static str, ours: &[f64]) -> Self {
        let ours = median(ours);
        Self { name, unit, ours, peer: None, peer_name: None, ratio: None, must: None, aim: None }
    }

    fn beside(mut self, name: &'static str, runs: &[f64]) -> Self {
        let peer = median(runs);
        self.peer = Some(peer);
        self.peer_name = Some(name);
        self.ratio = (peer > 0.0).then(|| self.ours / peer);
        self
    }

    /// A figure whose peer is not on this machine.
    fn without(mut self, name: &'static str) -> Self {
        self.peer_name = Some(name);
        self
    }

    fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    fn must(mut self, must: f64) -> Self {
        self.must = Some(must);
        self
    }

    fn is_missed(&self) -> bool {
        self.must.is_some_and(|must| self.ours > must)
    }

    fn lacks_its_peer(&self) -> bool {
        self.peer_name.is_some() && self.peer.is_none()
    }
}

/// A peer that is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not on this machine, so there is nothing to compare with")]
struct NoPeer(&'static str);

/// Measures `area`; exit code 1 when a must is missed, 2 when a peer could not be run.
///
/// # Errors
/// When something of ours fails.
pub(crate) fn run(
    area: Area,
    json: bool,
    out: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<ExitCode> {
    let scratch = tempfile::Builder::new().prefix("cloister-bench-").tempdir()?;
    let measured = match area {
        Area::Load => load::measure(scratch.path(), log),
        Area::Updater => updater::measure(scratch.path(), log),
        Area::Record => updater::measure_record(scratch.path(), log),
        Area::Switch => updater::measure_switch(scratch.path(), log),
    };
    scratch.close().context("removing the scratch folder")?;
    let figures = match measured {
        Err(error) if error.is::<NoPeer>() => {
            writeln!(log, "x: {error}")?;
            return Ok(ExitCode::from(2));
        }
        measured => measured?,
    };
    for figure in &figures {
        if json {
            writeln!(out, "{}", serde_json::to_string(figure)?)?;
        } else {
            write_line(figure, out)?;
        }
    }
    if figures.iter().any(Figure::is_missed) {
        return Ok(ExitCode::FAILURE);
    }
    let lacking = figures.iter().any(Figure::lacks_its_peer);
    Ok(if lacking { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

fn write_line(figure: &Figure, out: &mut dyn Write) -> Result<()> {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |n| format!("{n:.3}"));
    writeln!(
        out,
        "{:<26} {:<6} ours {:>9.3}  {} {}  ratio {}  must {}  aim {}",
        figure.name,
        figure.unit,
        figure.ours,
        figure.peer_name.unwrap_or("no peer"),
        number(figure.peer),
        number(figure.ratio),
        number(figure.must),
        number(figure.aim),
    )?;
    Ok(())
}

/// The middle one; of an even number the lower of the two.
fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Every run of one thing, for the log.
fn tell(log: &mut dyn Write, name: &str, runs: &[f64]) -> Result<()> {
    let runs: Vec<String> = runs.iter().map(|run| format!("{run:.4}")).collect();
    Ok(writeln!(log, "{name}: runs {}", runs.join(" "))?)
}

/// A program of the machine that a figure is compared with.
fn peer(name: &'static str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    found.into_iter().find(|file| file.is_file()).ok_or_else(|| NoPeer(name).into())
}

/// What something used, its children included.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// User and system time.
    cpu_s: f64,
    /// Resident memory at its largest: of a shell line that of its largest process.
    peak_mib: f64,
    wall_s: f64,
}

/// Runs `line` in bash and says what it used (`getrusage` of a process that ran nothing else, and
/// that every process becomes a child of whose parent ended first).
fn usage_of(line: &str) -> Result<Usage> {
    const ASK: &str = "import ctypes, os, resource, subprocess, sys\n\
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER\n\
        code = subprocess.call(['bash', '-euo', 'pipefail', '-c', sys.argv[1]], stdout=2)\n\
        try:\n    while True: os.wait()\n\
        except ChildProcessError: pass\n\
        used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
        print(used.ru_utime + used.ru_stime, used.ru_maxrss)\n\
        sys.exit(code)";
    let begun = Instant::now();
    let output = std::process::Command::new(peer("python3")?)
        .args(["-c", ASK, line])
        .stdin(std::process::Stdio::null())
        .output()?;
    let wall_s = begun.elapsed().as_secs_f64();
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "this failed: {line}\n{words}");
    let said = String::from_utf8(output.stdout)?;
    let mut words = said.lines().last().unwrap_or_default().split(' ').map(str::parse::<f64>);
    let (Some(Ok(cpu_s)), Some(Ok(kib))) = (words.next(), words.next()) else {
        bail!("the usage is not understood: {said}");
    };
    Ok(Usage { cpu_s, peak_mib: kib / 1024.0, wall_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_has_the_keys_of_the_handle_and_a_missed_must_is_seen() {
        let mut figure = Figure::new("import.cpu", "s", &[3.0, 1.0, 2.0]).beside("tar", &[4.0]);
        let object = serde_json::to_value(&figure).unwrap();
        let keys: Vec<&String> = object.as_object().unwrap().keys().collect();
        let expected = ["aim", "must", "name", "ours", "peer", "peer_name", "ratio", "unit"];
        let mut sorted = keys.clone();
        sorted.sort();
        assert_eq!(sorted, expected);
        assert_eq!((object["ours"].as_f64(), object["ratio"].as_f64()), (Some(2.0), Some(0.5)));
        assert!(object["must"].is_null() && !figure.is_missed());
        figure.must = Some(1.5);
        assert!(figure.is_missed() && !figure.lacks_its_peer());
        assert!(Figure::new("import.cpu", "s", &[1.0]).without("rauc").lacks_its_peer());
    }

    #[test]
    fn what_a_line_used_counts_children_that_outlive_their_parent() {
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let own = usage_of(busy).unwrap();
        let orphan = usage_of(&format!("(({busy}) & )")).unwrap();
        assert!(orphan.cpu_s > own.cpu_s / 4.0, "{orphan:?} beside {own:?}");
        assert!(usage_of("false").is_err());
    }
}
