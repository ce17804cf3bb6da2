//! `cloister-fuzz TARGET SEED FROM COUNT`: mutates a target's corpus; without arguments, the targets.

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use cloister_fuzz::{TARGETS, drive};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "cloister-fuzz: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            let names = TARGETS.map(|target| target.name).join("\n");
            Ok(writeln!(std::io::stdout(), "{names}")?)
        }
        [name, seed, from, count] => {
            let target = TARGETS.iter().find(|target| target.name == *name);
            let target = target.with_context(|| format!("no target is called {name}"))?;
            drive(target, seed.parse()?, from.parse()?, count.parse()?)
        }
        _ => bail!("usage: cloister-fuzz [TARGET SEED FROM COUNT]"),
    }
}
