//! What `./x` runs once everything is built: the demo, the checks, the handles and the figures.

mod demo;
mod parity;
mod story;
mod suite;

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
    /// Compare our forward passes with reference outputs.
    Parity {
        /// The folder of cases.
        folder: PathBuf,
        /// Only these cases.
        names: Vec<String>,
    },
    /// Every check that a change must pass.
    Test,
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
        Verb::Demo { stay } => demo::run(stay, &mut out)?,
        Verb::Parity { folder, names } => {
            if !parity::run(&folder, &names, &mut out)? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Verb::Test => suite::run(&mut out)?,
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
