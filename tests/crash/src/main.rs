//! `cloister-crash`: what `./x crash` runs.

use std::process::ExitCode;

use clap::Parser;
use cloister_crash::{Kinds, Wish, run};

/// Kills the updater's daemons at system calls, makes calls fail, and cuts the power; one line each.
#[derive(Debug, Parser)]
#[command(name = "crash")]
struct Arguments {
    #[command(flatten)]
    wish: Wish,
    /// Only this kind.
    #[arg(long, value_name = "KIND", value_parser = ["kills", "pairs", "faults", "cuts", "model"])]
    only: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let wanted = |kind| arguments.only.as_deref().is_none_or(|only| only == kind);
    let kinds = Kinds {
        kills: wanted("kills"),
        pairs: wanted("pairs"),
        faults: wanted("faults"),
        cuts: wanted("cuts"),
        model: wanted("model"),
    };
    match run(arguments.wish, kinds, &mut std::io::stdout()) {
        Ok((true, _counts)) => ExitCode::SUCCESS,
        Ok((false, _counts)) => ExitCode::FAILURE,
        Err(error) => {
            use std::io::Write as _;
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "crash: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}
