//! Damage without end, by the programs of `tests/hostile` and `tests/fuzz`: mutants of a valid volume,
//! of which none may be accepted, and of every parser's corpus, of which none may make it fail.

use std::{collections::BTreeMap, io::Write, process::Command};

use anyhow::{Context as _, Result};
use cloister_stage::programs;

use super::{Progress, said};

/// Volumes in a round of [`hostile`] and [`bits`].
const VOLUMES: u64 = 1_000;
/// Mutants of each target in a round of [`fuzz`].
const INPUTS: u64 = 10_000;

/// Offers mutants of volume, metadata, manifest, table and chunks, a thousand a round.
pub(super) fn hostile(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    offer("mutants", progress, out)
}

/// Offers a volume of some 400 KiB with one bit flipped, a thousand times a round.
pub(super) fn bits(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    offer("bits", progress, out)
}

fn offer(what: &str, progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let program = programs()?.join("cloister-hostile");
    while progress.done < progress.rounds {
        let from = progress.done * VOLUMES;
        let mut command = Command::new(&program);
        command.arg(what).args([progress.seed, from, VOLUMES].map(|number| number.to_string()));
        let counts = said(&mut command).context("a volume is accepted, or does not end well")?;
        let counts: BTreeMap<String, u64> = serde_json::from_str(&counts)?;
        progress.held_often(&counts)?;
        if progress.done.is_multiple_of(100) {
            writeln!(out, "{} volumes", progress.done * VOLUMES)?;
        }
    }
    Ok(())
}

/// Drives every target, ten thousand mutants of each a round.
pub(super) fn fuzz(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let program = programs()?.join("cloister-fuzz");
    let targets = said(&mut Command::new(&program))?;
    while progress.done < progress.rounds {
        let from = progress.done * INPUTS;
        let mut counts = BTreeMap::new();
        for target in targets.lines() {
            let mut command = Command::new(&program);
            command
                .arg(target)
                .args([progress.seed, from, INPUTS].map(|number| number.to_string()));
            said(&mut command).with_context(|| format!("the target {target} fails"))?;
            counts.insert(target.to_owned(), INPUTS);
        }
        progress.held_often(&counts)?;
        writeln!(out, "{} inputs of each target", progress.done * INPUTS)?;
    }
    Ok(())
}
