//! What the supply side of an appliance uses while something happens: intaked, updaterd, recordd,
//! the inspectors that they have started, and the operator's command. The engine's time is not
//! counted: it judges what was imported.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{
    Stage, Unit,
    newcomers::{self, NOW_AND_THEN, peak_bytes},
    release::read_file,
};
use nix::{
    sys::resource::{UsageWho, getrusage},
    time::clock_getcpuclockid,
    unistd::Pid,
};

use super::super::Usage;

const UNITS: [Unit; 3] = [Unit::Intaked, Unit::Updaterd, Unit::Recordd];
/// The unit of times in `/proc/PID/stat` (proc_pid_stat(5); `sysconf(_SC_CLK_TCK)` is 100 on every
/// architecture of Linux that Rust supports).
const TICKS_PER_S: f64 = 100.0;

/// Whose time is counted apart.
const PARTS: [&str; 5] = ["intaked", "updaterd", "recordd", "inspectors", "cloister"];

/// What an act used, and in which parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    pub(super) usage: Usage,
    parts: [f64; PARTS.len()],
}

impl Used {
    /// The parts of the CPU time in words, for the log.
    pub(super) fn parts(&self) -> String {
        let parts = PARTS.iter().zip(self.parts);
        let words: Vec<String> = parts.map(|(name, cpu_s)| format!("{name} {cpu_s:.3}")).collect();
        words.join(", ")
    }
}

/// Looks at the daemons of one stage, which must not die meanwhile.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    stage: &'a Stage,
    daemons: Vec<u32>,
    supervisor: u32,
}

impl<'a> Meter<'a> {
    pub(super) fn of(stage: &'a Stage) -> Result<Self> {
        let daemons = UNITS.iter().map(|unit| stage.pid(*unit)).collect::<Result<_>>()?;
        Ok(Self { stage, daemons, supervisor: stage.supervisor_pid()? })
    }

    /// Does `act` and says what was used: memory is the sum of the three daemons' largest resident
    /// sizes, and on top the largest sum of the inspectors that ran at a time.
    pub(super) fn measure<T>(&self, act: impl FnOnce() -> Result<T>) -> Result<(Used, T)> {
        for pid in &self.daemons {
            // Sets the peak back to what is resident now (proc_pid_clear_refs(5)).
            std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("resetting a peak")?;
        }
        let before = self.cpu_s_by_part()?;
        let begun = Instant::now();
        let (inspectors_bytes, answer) = newcomers::measure(self.supervisor, NOW_AND_THEN, act);
        let wall_s = begun.elapsed().as_secs_f64();
        let mut parts = self.cpu_s_by_part()?;
        parts.iter_mut().zip(before).for_each(|(part, before)| *part -= before);
        let cpu_s = parts.iter().sum();
        let peaks = self.daemons.iter().map(|pid| peak_bytes(*pid));
        let peak_mib = mib(peaks.sum::<Result<u64>>()? + inspectors_bytes);
        for (unit, pid) in UNITS.iter().zip(&self.daemons) {
            ensure!(self.stage.pid(*unit)? == *pid, "{} was started again", unit.name());
        }
        Ok((Used { usage: Usage { cpu_s, peak_mib, wall_s }, parts }, answer?))
    }

    /// Bytes that intaked has read so far, by whatever way: never fewer than those of the medium.
    pub(super) fn read_bytes(&self) -> Result<u64> {
        self.input_output("rchar:")
    }

    /// Bytes that intaked has written so far.
    pub(super) fn written_bytes(&self) -> Result<u64> {
        self.input_output("wchar:")
    }

    fn input_output(&self, field: &str) -> Result<u64> {
        let [intaked, ..] = self.daemons.as_slice() else { unreachable!("three daemons") };
        let text = String::from_utf8(read_file(Path::new(&format!("/proc/{intaked}/io")))?)?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)).context("no field")?;
        Ok(line.trim().parse()?)
    }

    /// Of the daemons to the nanosecond; of the inspectors, which ended and were waited for, by ticks.
    fn cpu_s_by_part(&self) -> Result<[f64; PARTS.len()]> {
        let mut parts = [0.0, 0.0, 0.0, waited_for_s(self.supervisor)?, own_children_s()?];
        for (part, pid) in parts.iter_mut().zip(&self.daemons) {
            let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(*pid)?))?;
            *part = Duration::from(clock.now()?).as_secs_f64();
        }
        Ok(parts)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// User and system time of a process's children that it waited for: fields 16 and 17.
fn waited_for_s(pid: u32) -> Result<f64> {
    let text = String::from_utf8(read_file(Path::new(&format!("/proc/{pid}/stat")))?)?;
    // The second field, the name in brackets, may hold spaces; the third is the first behind it.
    let (_name, rest) = text.rsplit_once(')').context("no process name")?;
    let ticks = rest.split_ascii_whitespace().skip(13).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_S)
}

/// The same of this process: the operator's command.
fn own_children_s() -> Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or_default()).as_secs_f64()
            + u32::try_from(time.tv_sec()).map_or(0.0, f64::from)
    };
    Ok(seconds(used.user_time()) + seconds(used.system_time()))
}
