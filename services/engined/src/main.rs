//! `cloister-engined`: the language model's process, one for each slot.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::program(Role::Engined, cloister_engined::run)
}
