//! `cloister-corpusd`: the keeper of the documents.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::program(Role::Corpusd, cloister_corpusd::run)
}
