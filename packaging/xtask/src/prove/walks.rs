//! Walks by the program of `tests/crash`: random sequences of acts by several persons on one living appliance,
//! with kills, a full disk, engines and daemons that are away, and sticks that are no good in between.

use std::{collections::BTreeMap, io::Write, process::Command};

use anyhow::{Context as _, Result};
use cloister_stage::programs;

use super::{Progress, said, sources::Sources};

/// Where the daemons are made, and what plays with them.
const FOLDERS: [&str; 5] = ["Cargo.toml", "appliance", "packaging/stage", "tests/crash", "updater"];

/// Walks of a round.
const WALKS: u64 = 100;

/// Each round takes walks whose seeds no other round has.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let sources = Sources::tell(progress, &FOLDERS)?;
    while progress.done < progress.rounds {
        let first = progress.seed.wrapping_mul(1 << 32).wrapping_add(progress.done * WALKS);
        let mut command = Command::new(programs()?.join("cloister-crash"));
        command.args(["--counts", "--only", "walks", "--seed", &first.to_string()]);
        let counts = said(command.args(["--points", &WALKS.to_string()]));
        let counts = counts.with_context(|| format!("a walk from seed {first} on"))?;
        let counts: BTreeMap<String, u64> = serde_json::from_str(&counts)?;
        sources.check()?;
        progress.held_often(&counts)?;
        writeln!(out, "{} walks", progress.done * WALKS)?;
    }
    Ok(())
}
