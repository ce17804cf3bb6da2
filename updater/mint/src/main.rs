//! `cloister-mint`: makes keys, trust roots and signed volumes.

use std::{io, process::ExitCode};

use clap::Parser as _;
use cloister_mint::{cli, failure::Failure};

fn main() -> ExitCode {
    let arguments = match cli::Arguments::try_parse() {
        Ok(arguments) => arguments,
        // --help and --version come as errors too.
        Err(shown) if !shown.use_stderr() => shown.exit(),
        Err(error) => return told(&Failure::usage(&error)),
    };
    match cli::run(arguments, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(&Failure::of(&error)),
    }
}

fn told(failure: &Failure) -> ExitCode {
    failure.show(&mut io::stderr().lock());
    failure.exit_code()
}
