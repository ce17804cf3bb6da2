//! `import`: what the stick holds first, then progress, then the verdict.

use std::{io::Write, path::Path, time::Duration};

use cloister_config::{Config, Role};
use cloister_daemon::Connection;
use cloister_domain::{ByteCount, ImportId, Sensitive};
use cloister_wire::{
    intake::{Event, Request},
    supply::ImportState,
};

use crate::{Failure, print_json, say, supply};

/// How often updaterd is asked how an evaluation stands.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn import(
    config: &Config,
    path: &Path,
    inspect: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|_detail| Failure::usage("the path cannot be made absolute"))?;
    let text = absolute.to_str().ok_or_else(|| Failure::usage("the path is not UTF-8"))?;
    let path = Sensitive::new(text.to_owned());
    let request = if inspect { Request::Inspect { path } } else { Request::Import { path } };
    let connection = Connection::connect(&config.paths.socket(Role::Intaked))
        .map_err(|error| Failure::of(&error))?;
    connection.write(&request).map_err(|error| Failure::of(&error))?;
    let mut in_line = false;
    while let Some(event) = connection.read::<Event>().map_err(|error| Failure::of(&error))? {
        // A problem is printed once, as the failure that it becomes.
        if json && !matches!(event, Event::Problem(_)) {
            print_json(&event, out)?;
        }
        match event {
            Event::Seen(summary) if !json => supply::show_summary(&summary, out)?,
            Event::Progress { done_bytes, total_bytes, .. } if !json => {
                progress(done_bytes, total_bytes, out)?;
                in_line = true;
            }
            Event::Seen(_) | Event::Progress { .. } => {}
            Event::Inspected => return Ok(()),
            Event::Received { import, volume } => {
                if !json {
                    say!(out, "\nvolume      {volume}");
                }
                return follow(config, import, json, out);
            }
            Event::Problem(problem) => {
                if in_line {
                    say!(out, "");
                }
                return Err(problem.into());
            }
        }
    }
    Err(Failure::conversation("intaked"))
}

fn progress(done: ByteCount, total: ByteCount, out: &mut dyn Write) -> Result<(), Failure> {
    let percent = done.0.saturating_mul(100).checked_div(total.0).unwrap_or(100);
    write!(out, "\rcopied      {percent:>3} % of {total}")
        .and_then(|()| out.flush())
        .map_err(|_detail| Failure::output())
}

/// Waits until the import needs people, or is refused.
fn follow(config: &Config, id: ImportId, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut shown = None;
    loop {
        let import = supply::ask_import(config, id)?;
        if !json && shown != Some(import.state) {
            say!(out, "import {id:>4} {}", import.state);
            shown = Some(import.state);
        }
        match import.state {
            ImportState::Receiving | ImportState::Received | ImportState::Evaluating => {
                std::thread::park_timeout(POLL);
            }
            ImportState::AwaitingApproval | ImportState::Approved | ImportState::Activated => {
                if json {
                    return print_json(&import, out);
                }
                supply::show_inspection(&import, out)?;
                supply::show_figures(&import.figures, out)?;
                say!(
                    out,
                    "next: `cloister review {id}`, then approvals with `cloister approve {id} --key FILE`"
                );
                return Ok(());
            }
            ImportState::Refused => {
                if !json {
                    supply::show_inspection(&import, out)?;
                    supply::show_figures(&import.figures, out)?;
                }
                let problem = import.problem;
                return Err(
                    problem.map_or_else(|| Failure::conversation("updaterd"), Failure::from)
                );
            }
        }
    }
}
