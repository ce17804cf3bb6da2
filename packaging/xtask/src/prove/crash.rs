//! Crashes of the updater's daemons by the program of `tests/crash`: every call of every act, and as many
//! power cuts and crashes of model file systems as there are rounds; a fifth as many pairs of kills. For each
//! round ten thousand different states after a crash are judged in memory, all of them counted together.
//!
//! Each share is a run of its own, whose calls are not quite another's: threads take turns as they like. So what
//! was struck is held against what any share has seen, by act, call and path, and what is left is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::Command,
};

use anyhow::{Context as _, Result};
use cloister_stage::programs;

use super::{Progress, said, sources::Sources};

/// Runs of the program, each with its share of the calls.
const SHARES: u64 = 20;

/// Points for each round, of 2500 states each.
const POINTS: u64 = 4;

/// Where the daemons are made, and what plays with them.
const FOLDERS: [&str; 5] = ["Cargo.toml", "appliance", "packaging/stage", "tests/crash", "updater"];

/// How the program counts a call that it could strike, and one that it did.
const SEEN: &str = "seen: ";
const STRUCK: &str = "struck: ";

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let sources = Sources::tell(progress, &FOLDERS)?;
    let points = progress.rounds.div_ceil(SHARES);
    while progress.done < SHARES {
        let share = progress.done;
        let seed = progress.seed.wrapping_mul(SHARES).wrapping_add(share);
        let only = ["--every", "--only", "kills,pairs,faults,cuts,model"];
        let numbers = [("--points", points), ("--share", share), ("--shares", SHARES)];
        let counts = crash(&only, seed, &numbers)?;
        sources.check()?;
        progress.held_often(&counts)?;
        writeln!(out, "share {} of {SHARES}", share + 1)?;
    }
    if progress.done == SHARES {
        let points = progress.rounds.saturating_mul(POINTS);
        let counts = crash(&["--only", "states"], progress.seed, &[("--points", points)])?;
        sources.check()?;
        progress.held_often(&counts)?;
        let different = counts.get("states different").copied().unwrap_or(0);
        writeln!(out, "{different} different states")?;
    }
    for left in every_call(&mut progress.counts) {
        writeln!(out, "not struck: {left}")?;
    }
    Ok(())
}

/// Puts numbers in the place of the calls that `counts` name; the calls that were seen and never struck.
fn every_call(counts: &mut BTreeMap<String, u64>) -> Vec<String> {
    let named = |prefix: &str| -> BTreeSet<String> {
        counts.keys().filter_map(|what| what.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let (seen, struck) = (named(SEEN), named(STRUCK));
    counts.retain(|what, _| !what.starts_with(SEEN) && !what.starts_with(STRUCK));
    let left: Vec<String> = seen.difference(&struck).cloned().collect();
    counts.insert("different calls".to_owned(), seen.len() as u64);
    counts.insert("different calls not struck".to_owned(), left.len() as u64);
    left
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_no_share_struck_is_named() {
        let counts =
            ["kill depth 1", "seen: kill enrol: a", "seen: kill enrol: b", "struck: kill enrol: b"];
        let mut counts = BTreeMap::from(counts.map(|what| (what.to_owned(), 3)));
        assert_eq!(every_call(&mut counts), ["kill enrol: a"]);
        let expected =
            [("different calls", 2), ("different calls not struck", 1), ("kill depth 1", 3)];
        let expected = expected.map(|(what, often)| (what.to_owned(), often));
        assert_eq!(counts, BTreeMap::from(expected));
    }
}
