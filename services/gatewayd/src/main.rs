//! `cloister-gatewayd`: the only listeners of the appliance.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::program(Role::Gatewayd, cloister_gatewayd::run)
}
