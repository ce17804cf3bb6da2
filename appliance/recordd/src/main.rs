//! `cloister-recordd`: the keeper of the one append-only log.

use std::{io::Write as _, process::ExitCode};

use cloister_config::Role;
use cloister_daemon::Daemon;
use cloister_domain::Coded as _;

fn main() -> ExitCode {
    let daemon = match Daemon::start(Role::Recordd) {
        Ok(daemon) => daemon,
        Err(error) => {
            // There is no log yet; nobody is left to be told when standard error is gone too.
            writeln!(std::io::stderr(), "cloister-recordd: {error} [{}]", error.code())
                .unwrap_or_default();
            return ExitCode::FAILURE;
        }
    };
    match cloister_recordd::run(&daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = error.code(), %error, "the keeper of the log ended");
            ExitCode::FAILURE
        }
    }
}
