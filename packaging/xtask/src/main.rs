//! What `./x` runs once everything is built: the demo, the checks, the handles and the figures.

mod bench;
mod copy;
mod deb;
mod demo;
mod hostile;
mod http;
mod inspect;
mod interrupt;
mod mutants;
mod parity;
mod prove;
mod serve;
mod story;
mod suite;
mod tools;

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "x")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The whole life of an update, with the real daemons, told as a story.
    Demo {
        /// Leave the appliance running until interrupted.
        #[arg(long)]
        stay: bool,
    },
    /// Kill daemons at their calls, make calls fail, cut the power, and judge states in memory.
    Crash {
        /// What `cloister-crash` is told: `--seed N`, `--points N`, `--only KIND`, `--every`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Measure, beside a peer.
    Bench {
        /// What.
        area: bench::Area,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Make the Debian package of what is built.
    Deb {
        /// The folder for it.
        out: PathBuf,
    },
    /// Play the demo's acts and write the auditor's export with the public keys.
    Export {
        /// The folder for it: a new one, or an empty one.
        out: PathBuf,
    },
    /// Judge files as the artefacts of a release are judged, in the same caged process.
    Inspect(inspect::Wish),
    /// Offer every file of a folder as a volume to the real daemons, one line each.
    Hostile(hostile::Case),
    /// Compare our forward passes with reference outputs.
    Parity {
        /// The folder of cases.
        folder: PathBuf,
        /// Only these cases.
        names: Vec<String>,
    },
    /// Run a long proof; without a name, list them.
    Prove(prove::Order),
    /// Serve one model from a scratch root, until interrupted.
    Serve(serve::Wish),
    /// Every check that a change must pass.
    Test,
    /// Write a small valid volume with its trust root, for others to damage.
    Volume(hostile::Wish),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.verb) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "x: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match verb {
        Verb::Bench { area, json } => {
            return bench::run(area, json, &mut out, &mut std::io::stderr());
        }
        Verb::Crash { words } => {
            let program = cloister_stage::programs()?.join("cloister-crash");
            let status = std::process::Command::new(program).args(words).status()?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Deb { out: folder } => deb::run(&folder)?,
        Verb::Demo { stay } => demo::run(stay, &mut out)?,
        Verb::Export { out: folder } => demo::export(&folder, &mut out)?,
        Verb::Inspect(wish) => {
            if !inspect::run(&wish, &mut out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Hostile(case) => hostile::judge(&case, &mut out)?,
        Verb::Parity { folder, names } => {
            if !parity::run(&folder, &names, &mut out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Prove(order) => prove::run(&order, &mut out)?,
        Verb::Serve(wish) => serve::run(&wish, &mut out, &mut std::io::stderr())?,
        Verb::Test => suite::run(&mut out)?,
        Verb::Volume(wish) => hostile::volume(&wish, &mut out)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns when the process is asked to end.
fn wait_for_interrupt() -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut asked = SigSet::empty();
    asked.add(Signal::SIGINT);
    asked.add(Signal::SIGTERM);
    asked.thread_block()?;
    asked.wait()?;
    Ok(())
}
