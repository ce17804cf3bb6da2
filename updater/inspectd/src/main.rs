//! `cloister-inspectd`: judges one artefact of a release and ends.
//!
//! Started for one connection, it takes a question and the artefact's descriptor, shuts itself in, and
//! answers. It never opens a file, and nothing that an artefact does to it outlasts it.

use std::process::ExitCode;

use cloister_config::Role;

fn main() -> ExitCode {
    cloister_daemon::caged::program(
        Role::Inspectd,
        cloister_inspectd::cell,
        cloister_inspectd::judge,
    )
}
