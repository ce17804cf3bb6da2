//! Crashes of the updater's daemons by the program of `tests/crash`: every call of every act, and as many
//! power cuts and crashes of model file systems as there are rounds; a fifth as many pairs of kills.

use std::{collections::BTreeMap, io::Write, process::Command};

use anyhow::{Context as _, Result};
use cloister_stage::programs;

use super::{Progress, said};

/// Runs of the program, each with its share of the calls.
const SHARES: u64 = 20;

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let points = progress.rounds.div_ceil(SHARES);
    while progress.done < SHARES {
        let share = progress.done;
        let mut command = Command::new(programs()?.join("cloister-crash"));
        command.args(["--counts", "--every"]);
        for (flag, number) in [
            ("--seed", progress.seed.wrapping_mul(SHARES).wrapping_add(share)),
            ("--points", points),
            ("--share", share),
            ("--shares", SHARES),
        ] {
            command.args([flag, &number.to_string()]);
        }
        let counts = said(&mut command).context("something is neither old nor new")?;
        let counts: BTreeMap<String, u64> = serde_json::from_str(&counts)?;
        progress.held_often(&counts)?;
        writeln!(out, "share {} of {SHARES}", share + 1)?;
    }
    Ok(())
}
