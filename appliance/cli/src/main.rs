//! `cloister`: the operator's command. Talks to the daemons over their sockets; reads no state.

use std::process::ExitCode;

use clap::Parser as _;
use cloister_cli::{Arguments, Failure, run};

fn main() -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let (json, done) = match Arguments::try_parse() {
        Ok(arguments) => (arguments.json, run(arguments, &mut stdout)),
        // --help and --version come as errors too.
        Err(shown) if !shown.use_stderr() => {
            drop(stdout);
            shown.exit();
        }
        Err(error) => (std::env::args().any(|word| word == "--json"), Err(Failure::line(&error))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut stderr = std::io::stderr().lock();
            failure.show(json, &mut stdout, &mut stderr);
            failure.exit_code()
        }
    }
}
