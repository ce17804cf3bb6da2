//! All mutants of the crates that decide what comes in ([`crate::mutants`]), a share a round.

use std::{collections::BTreeMap, io::Write};

use anyhow::{Result, ensure};
use cloister_domain::Digest;

use super::{Progress, sources::digest};
use crate::mutants::{PACKAGES, Runner};

/// Shares of each crate: an interruption costs a few minutes at most.
const OF_EACH: u64 = 12;
/// How a survivor is kept until all shares have run.
const MISSED: &str = "missed ";

/// Runs every mutant; survivors are judged together, so that one run names them all.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let of = sources()?;
    progress.about(of);
    let runner = Runner::make()?;
    let shares: Vec<_> = PACKAGES
        .iter()
        .flat_map(|package| (0..OF_EACH).map(move |share| (package, share)))
        .take(usize::try_from(progress.rounds)?)
        .collect();
    for (package, share) in shares.iter().skip(usize::try_from(progress.done)?) {
        ensure!(sources()? == of, "the sources changed meanwhile");
        let share = format!("--shard={share}/{OF_EACH}");
        let ends = runner.run(package, &[&share, "--sharding=round-robin"])?;
        let mut counts = BTreeMap::new();
        for (end, names) in &ends {
            if *end == "missed" {
                counts.extend(names.iter().map(|name| (format!("{MISSED}{name}"), 1)));
            } else {
                counts.insert((*end).to_owned(), names.len() as u64);
            }
        }
        progress.held_often(&counts)?;
        writeln!(out, "share {} of {}: {}", progress.done, shares.len(), told(&ends))?;
        for name in &ends["missed"] {
            writeln!(out, "  missed {name}")?;
        }
        out.flush()?;
    }
    let named = progress.counts.keys().filter_map(|what| what.strip_prefix(MISSED));
    let missed: Vec<String> = named.map(str::to_owned).collect();
    let verdict = runner.judge(&missed)?;
    ensure!(verdict.open.is_empty(), "no test notices:\n{}", verdict.open.join("\n"));
    let idle = verdict.idle.join("\n");
    let all = shares.len() == usize::try_from(OF_EACH)? * PACKAGES.len();
    ensure!(!all || idle.is_empty(), "argued without need:\n{idle}");
    progress.counts.retain(|what, _| !what.starts_with(MISSED));
    progress.counts.insert("argued".to_owned(), verdict.argued);
    Ok(())
}

fn told(ends: &BTreeMap<&'static str, Vec<String>>) -> String {
    let counts: Vec<String> =
        ends.iter().map(|(end, names)| format!("{} {end}", names.len())).collect();
    counts.join(", ")
}

/// What the mutants are made of and judged by: the crates' files.
fn sources() -> Result<Digest> {
    digest(&PACKAGES.map(|package| package.folder))
}
