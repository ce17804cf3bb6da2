//! Crashes of the updater's daemons by the program of `tests/crash`: every call of every act, and as many
//! power cuts and crashes of model file systems as there are rounds; a fifth as many pairs of kills. For each
//! round ten thousand different states after a crash are judged in memory, all of them counted together.

use std::{collections::BTreeMap, io::Write, process::Command};

use anyhow::{Context as _, Result};
use cloister_stage::programs;

use super::{Progress, said};

/// Runs of the program, each with its share of the calls.
const SHARES: u64 = 20;

/// Points for each round, of 2500 states each.
const POINTS: u64 = 4;

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let points = progress.rounds.div_ceil(SHARES);
    while progress.done < SHARES {
        let share = progress.done;
        let seed = progress.seed.wrapping_mul(SHARES).wrapping_add(share);
        let only = ["--every", "--only", "kills,pairs,faults,cuts,model"];
        let numbers = [("--points", points), ("--share", share), ("--shares", SHARES)];
        let counts = crash(&only, seed, &numbers)?;
        progress.held_often(&counts)?;
        writeln!(out, "share {} of {SHARES}", share + 1)?;
    }
    if progress.done == SHARES {
        let points = progress.rounds.saturating_mul(POINTS);
        let counts = crash(&["--only", "states"], progress.seed, &[("--points", points)])?;
        progress.held_often(&counts)?;
        let different = counts.get("states different").copied().unwrap_or(0);
        writeln!(out, "{different} different states")?;
    }
    Ok(())
}

/// Runs the program; how often each thing happened.
fn crash(words: &[&str], seed: u64, numbers: &[(&str, u64)]) -> Result<BTreeMap<String, u64>> {
    let mut command = Command::new(programs()?.join("cloister-crash"));
    command.arg("--counts").args(words).args(["--seed", &seed.to_string()]);
    for (flag, number) in numbers {
        command.args([*flag, &number.to_string()]);
    }
    let counts = said(&mut command).context("something may not be")?;
    Ok(serde_json::from_str(&counts)?)
}
