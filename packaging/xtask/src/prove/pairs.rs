//! Every pair of the updater's operations, started together at another distance in each round.

use std::{io::Write, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::release::checkout;

use super::{Progress, sources::Sources};

/// Where what the test runs is made.
const FOLDERS: [&str; 4] = ["Cargo.toml", "appliance", "packaging/stage", "updater"];

/// The test that plays them, in the suite `supply` of cloister-updaterd.
const TEST: &str = "pairs::two_operations_at_once_come_to_what_one_after_the_other_comes_to";

/// Pairs that a round plays.
const PAIRS: u64 = 28;

/// Rounds of one run of the test: the serial outcomes are played once for all of them.
const AT_A_TIME: u64 = 10;

/// Each round plays every pair at a distance that follows from the seed, the round and the pair.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let sources = Sources::tell(progress, &FOLDERS)?;
    while progress.done < progress.rounds {
        sources.check()?;
        let rounds = AT_A_TIME.min(progress.rounds - progress.done);
        // Far from the seed that every test run plays.
        let seed = progress.seed.wrapping_mul(1_000_000).wrapping_add(progress.done);
        let output = Command::new("cargo")
            .current_dir(checkout())
            .args(["test", "--offline", "-p", "cloister-updaterd", "--test", "supply", "--"])
            .args(["--exact", TEST])
            .env("CLOISTER_PAIRS_SEED", seed.to_string())
            .env("CLOISTER_PAIRS_ROUNDS", rounds.to_string())
            .output()
            .context("starting the test")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}{}", said.trim_end(), errors.trim_end());
        ensure!(said.contains("1 passed"), "the test was not found: {}", said.trim_end());
        for _round in 0..rounds {
            progress.held_often(&[("pairs".to_owned(), PAIRS)].into())?;
        }
        writeln!(out, "{} rounds", progress.done)?;
    }
    Ok(())
}
