//! `cloister-intaked`: the only opener of media.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::program(Role::Intaked, cloister_intaked::run)
}
