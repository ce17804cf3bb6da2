//! `cloister`: the operator's command. Talks to the daemons over their sockets; reads no state.

use std::process::ExitCode;

use clap::Parser as _;
use cloister_cli::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let json = arguments.json;
    let mut stdout = std::io::stdout().lock();
    match run(arguments, &mut stdout) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let mut stderr = std::io::stderr().lock();
            failure.show(json, &mut stdout, &mut stderr);
            failure.exit_code()
        }
    }
}
