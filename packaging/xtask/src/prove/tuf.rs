//! Seeded repositories, played to our TUF client and to python-tuf's, which must agree on each.

use std::{io::Write, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{outside, programs, release::checkout};
use serde_json::Value;

use super::Progress;

/// Repositories of one round.
const SEEDS: u64 = 50;

/// Each round plays [`SEEDS`] repositories that follow from the seed and the round.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    while progress.done < progress.rounds {
        // Far from the seeds that every test run plays.
        let first = progress.seed.wrapping_mul(1_000_000).wrapping_add(progress.done * SEEDS);
        let output = Command::new(outside::python()?)
            .arg(checkout().join("tests/clients/tuf_oracle.py"))
            .arg(programs()?.join("cloister-tuf-client"))
            .args(["--seeds", &SEEDS.to_string(), "--first", &first.to_string()])
            .output()
            .context("starting the oracle")?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success(),
            "{}{}",
            said.trim_end(),
            String::from_utf8_lossy(&output.stderr)
        );
        let sum: Value = serde_json::from_str(said.trim_end())?;
        let played = sum["cases"].as_u64().context("no sum")?;
        *progress.counts.entry("repositories".to_owned()).or_default() += played;
        progress.held(&[])?;
        if progress.done.is_multiple_of(10) {
            writeln!(out, "{} rounds", progress.done)?;
        }
    }
    Ok(())
}
