//! `cloister-stage`: the supervisor of a scratch root.
//!
//! `cloister-stage ROOT [--journal] UNIT...`; the root was made by [`cloister_stage::Stage`].

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use cloister_config::Config;
use cloister_stage::Unit;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told when standard error is gone.
            writeln!(std::io::stderr(), "cloister-stage: {error:#}").unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((root, rest)) = arguments.split_first() else {
        bail!("usage: cloister-stage ROOT [--journal] UNIT...");
    };
    let root = PathBuf::from(root);
    let (journal, names) = match rest.split_first() {
        Some((flag, names)) if flag == "--journal" => (true, names),
        _ => (false, rest),
    };
    let unit = |name: &String| Unit::ALL.into_iter().find(|unit| unit.name() == name);
    let units: Option<Vec<Unit>> = names.iter().map(unit).collect();
    let units = units.context("there is no unit of that name")?;
    // The supervisor ends with whoever started it, so nothing is left running.
    nix::sys::prctl::set_pdeathsig(Some(nix::sys::signal::Signal::SIGTERM))
        .context("asking to end with the parent")?;
    let config_path = root.join("config.toml");
    let text = cloister_daemon::files::read_limited(&config_path, 1 << 20)?;
    let config = Config::parse(std::str::from_utf8(&text).context("configuration is not UTF-8")?)?;
    let journald =
        if journal { Some(cloister_stage::journal::start(&root.join("journal"))?) } else { None };
    let outcome = cloister_stage::supervisor::run(&root, &config_path, &config, &units);
    if let Some(mut journald) = journald {
        // journald writes what it holds when it is asked to end.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(journald.id())?);
        // It may have ended, and been reaped with the daemons, already.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap_or_default();
        journald.wait().map(drop).unwrap_or_default();
    }
    outcome
}
