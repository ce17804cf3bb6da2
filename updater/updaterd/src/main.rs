//! `cloister-updaterd`: the keeper of trust, shelf and the supply flow.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::program(Role::Updaterd, cloister_updaterd::run)
}
