//! `cloister-crash`: what `./x crash` runs.

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::{CommandFactory as _, Parser, error::ErrorKind};
use cloister_crash::{Kinds, Wish, run};

/// Kills the updater's daemons at system calls, makes calls fail, and cuts the power, one line each; and judges
/// states after a crash in memory, one line for each act.
#[derive(Debug, Parser)]
#[command(name = "crash")]
struct Arguments {
    #[command(flatten)]
    wish: Wish,
    /// Only these kinds, with commas between them.
    #[arg(
        long,
        value_name = "KINDS",
        value_delimiter = ',',
        value_parser = ["kills", "pairs", "faults", "cuts", "model", "states", "walks"],
    )]
    only: Vec<String>,
    /// Print nothing but how often each outcome came, as JSON; what is wrong goes to standard error.
    #[arg(long)]
    counts: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |kind| arguments.only.is_empty() || arguments.only.iter().any(|only| only == kind);
    let kinds = Kinds {
        kills: wanted("kills"),
        pairs: wanted("pairs"),
        faults: wanted("faults"),
        cuts: wanted("cuts"),
        model: wanted("model"),
        states: wanted("states"),
        walks: wanted("walks"),
    };
    if let Err(wrong) = arguments.wish.check(kinds) {
        Arguments::command().error(ErrorKind::ValueValidation, wrong).exit();
    }
    let crashed = if arguments.counts {
        counted(&arguments.wish, kinds)
    } else {
        run(&arguments.wish, kinds, &mut std::io::stdout()).map(|(good, _counts)| good)
    };
    match crashed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "crash: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

/// Runs what is wished for another program.
fn counted(wish: &Wish, kinds: Kinds) -> Result<bool> {
    let mut lines = Vec::new();
    let (good, counts) = run(wish, kinds, &mut lines)?;
    let lines = String::from_utf8(lines)?;
    // The steps of a walk stand below it.
    let mut is_of_wrong = false;
    for wrong in lines.lines().filter(|line| {
        is_of_wrong = line.contains("WRONG") || (is_of_wrong && line.starts_with("  "));
        is_of_wrong
    }) {
        writeln!(std::io::stderr(), "{wrong}")?;
    }
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&counts)?)?;
    Ok(good)
}
