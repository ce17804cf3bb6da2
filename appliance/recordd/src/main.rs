//! `cloister-recordd`: the keeper of the one append-only log.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::program(Role::Recordd, cloister_recordd::run)
}
