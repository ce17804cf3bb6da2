//! `cloister-scand`: starts the facility's scanner for one artefact of a release, and ends.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::caged::scanner(Role::Scand, cloister_inspectd::scan)
}
