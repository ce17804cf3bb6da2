//! Made-up logs whose records were changed, judged by two verifiers that share no code; and flipped bytes of
//! an export, which both must find.

use std::{collections::BTreeMap, io::Write, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::release::checkout;

use super::Progress;

/// The tests that play them, in the suite `recordd` of cloister-recordd.
const CHANGED: &str = "verifiers::two_verifiers_agree_on_logs_that_were_changed";
const FLIPPED: &str = "flips::a_flip_in_any_of_a_thousand_bytes_is_found_by_both_verifiers";

/// Logs of a round.
const LOGS: u64 = 20;

/// Rounds of one run of the tests, and the bytes that are flipped in it.
const AT_A_TIME: u64 = 100;
const FLIPS: u64 = 1000;

/// Each round judges [`LOGS`] logs that follow from the seed and the round.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    while progress.done < progress.rounds {
        let rounds = AT_A_TIME.min(progress.rounds - progress.done);
        // Far from the seeds that every test run plays.
        let seed = progress.seed.wrapping_mul(1_000_000).wrapping_add(progress.done * LOGS);
        let said = play(CHANGED, seed, rounds * LOGS)?;
        let good = said.lines().find_map(|line| line.strip_prefix("good logs: ")?.parse().ok());
        let good: u64 = good.context("the test does not say how many logs were good")?;
        play(FLIPPED, seed, rounds * LOGS)?;
        let logs = rounds * LOGS;
        let mut counts: BTreeMap<String, u64> =
            [("good", good), ("bad", logs - good), ("flips", FLIPS)]
                .map(|(name, count)| (name.to_owned(), count))
                .into();
        for _round in 0..rounds {
            progress.held_often(&counts)?;
            counts.clear();
        }
        writeln!(out, "{} rounds", progress.done)?;
    }
    Ok(())
}

/// What the test said.
fn play(test: &str, seed: u64, logs: u64) -> Result<String> {
    let output = Command::new("cargo")
        .current_dir(checkout())
        .args(["test", "--offline", "-p", "cloister-recordd", "--test", "recordd", "--"])
        .args(["--exact", test, "--nocapture"])
        .env("CLOISTER_VERIFIERS_SEED", seed.to_string())
        .env("CLOISTER_VERIFIERS_LOGS", logs.to_string())
        .output()
        .context("starting the test")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}{}", said.trim_end(), errors.trim_end());
    ensure!(said.contains("1 passed"), "the test was not found: {}", said.trim_end());
    Ok(said)
}
