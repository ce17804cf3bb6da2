//! `cloister-mint`: makes keys, trust roots and signed volumes.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cloister_mint::cli::Arguments::parse();
    match cloister_mint::cli::run(arguments, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let told = writeln!(io::stderr().lock(), "cloister-mint: {error:#}");
            // Without a terminal there is nobody left to tell.
            if told.is_ok() { ExitCode::FAILURE } else { ExitCode::from(2) }
        }
    }
}
