//! `cloister-engined`: the language model's process, one for each slot.

use std::{io::Write as _, process::ExitCode};

use cloister_config::Role;
use cloister_daemon::Daemon;
use cloister_domain::Coded as _;

fn main() -> ExitCode {
    let daemon = match Daemon::start(Role::Engined) {
        Ok(daemon) => daemon,
        Err(error) => {
            // There is no log yet; nobody is left to be told when standard error is gone too.
            writeln!(std::io::stderr(), "cloister-engined: {error} [{}]", error.code())
                .unwrap_or_default();
            return ExitCode::FAILURE;
        }
    };
    match cloister_engined::run(&daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = error.code(), error = &error as &dyn std::error::Error, "ended");
            ExitCode::FAILURE
        }
    }
}
