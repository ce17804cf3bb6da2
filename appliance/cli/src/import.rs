//! `import`: what the stick holds first, then progress, then the verdict.

use std::{io::Write, path::Path, time::Duration};

use cloister_config::{Config, Role};
use cloister_daemon::Connection;
use cloister_domain::{ImportId, Sensitive, counted};
use cloister_wire::{
    intake::{Event, Forecast, Request},
    supply::ImportState,
};

use crate::{
    Failure, medium,
    mount::{self, Mounted},
    print_json, say, supply,
};

/// How often updaterd is asked how an evaluation stands.
const POLL: Duration = Duration::from_millis(100);

/// What is done with a medium.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Show what it says and whether it would be believed.
    Inspect,
    /// Show what an import would come to.
    Check {
        /// The import that it is for.
        into: Option<ImportId>,
    },
    /// Bring it in.
    Import {
        /// The import that it is for.
        into: Option<ImportId>,
    },
}

pub(crate) fn import(
    config: &Config,
    path: &Path,
    act: Act,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|_detail| Failure::usage("the path cannot be made absolute"))?;
    let mounted = match mount::is_device(&absolute) {
        true => mount::for_now(config, &absolute)?,
        false => None,
    };
    let absolute = mounted.as_ref().map_or(absolute.as_path(), Mounted::folder);
    let text = absolute.to_str().ok_or_else(|| Failure::usage("the path is not UTF-8"))?;
    let path = Sensitive::new(text.to_owned());
    let request = match act {
        Act::Inspect => Request::Inspect { path },
        Act::Check { into } => Request::Check { path, into },
        Act::Import { into } => Request::Import { path, into },
    };
    let connection = Connection::connect(&config.paths.socket(Role::Intaked))
        .map_err(|error| Failure::of(&error))?;
    connection.write(&request).map_err(|error| Failure::of(&error))?;
    let mut screen = Screen { in_line: false };
    while let Some(event) = connection.read::<Event>().map_err(|error| Failure::of(&error))? {
        if let Event::Problem(problem) = event {
            // Printed once, as the failure that it becomes.
            screen.end_line(out)?;
            return Err(problem.into());
        }
        if json {
            print_json(&event, out)?;
        } else {
            screen.show(&event, out)?;
        }
        match event {
            Event::Inspected | Event::Checked { .. } => return Ok(()),
            Event::Received { import, .. } => return follow(config, import, json, out),
            _ => {}
        }
    }
    Err(Failure::conversation("intaked"))
}

/// A terminal, and whether its cursor stands behind a line of progress.
struct Screen {
    in_line: bool,
}

impl Screen {
    fn end_line(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        if std::mem::take(&mut self.in_line) {
            say!(out, "");
        }
        Ok(())
    }

    fn show(&mut self, event: &Event, out: &mut dyn Write) -> Result<(), Failure> {
        if !matches!(event, Event::Progress { .. }) {
            self.end_line(out)?;
        }
        match event {
            Event::Medium(medium) => medium::show(medium, out)?,
            Event::Says(said) => medium::show_said(said, out)?,
            Event::Refused { name, problem } => medium::show_refused(name.as_ref(), problem, out)?,
            Event::Trusted(trusted) => supply::show_trusted(trusted, out)?,
            Event::Seen(summary) => supply::show_summary(summary, out)?,
            Event::Progress { .. } => {
                self.in_line = true;
                let line = progress(event);
                write!(out, "\r{line:<78}")
                    .and_then(|()| out.flush())
                    .map_err(|_detail| Failure::output())?;
            }
            Event::Repeated { volume, .. } => {
                say!(out, "volume {volume:<4} was read before; nothing of it is missing");
            }
            Event::Parted { import, missing } => say!(out, "import {import:>4} waits: {missing}"),
            Event::Forecast(forecast) => show_forecast(forecast, out)?,
            Event::Checked { import, missing, needed_bytes } => {
                if let Some(import) = import {
                    say!(out, "it goes on with import {import}");
                }
                say!(out, "disk        {needed_bytes} would be written");
                match missing.chunks {
                    0 => say!(out, "the release would be whole; nothing was imported"),
                    _ => say!(out, "{missing}; nothing was imported"),
                }
            }
            Event::Received { volume, .. } => say!(out, "volume      {volume}"),
            Event::Inspected | Event::Needs { .. } | Event::Problem(_) => {}
        }
        Ok(())
    }
}

/// What would be read of a volume, and what would come from the shelf in its stead.
fn show_forecast(forecast: &Forecast, out: &mut dyn Write) -> Result<(), Failure> {
    let Forecast { volume, chunks, read_chunks, read_bytes, left_out_chunks, filled_chunks } =
        forecast;
    let chunks = counted(*chunks, "chunk");
    say!(out, "volume {volume:<4} {read_chunks} of {chunks} would be read, {read_bytes}");
    if *left_out_chunks > 0 {
        let left_out = counted(*left_out_chunks, "chunk");
        say!(out, "            {left_out} left out, {filled_chunks} of which on the shelf");
    }
    Ok(())
}

/// `copied  42 % of 12.3 GiB, volume 2, 113.0 MiB/s, 1:07 left on it`.
fn progress(event: &Event) -> String {
    let Event::Progress { done_bytes, total_bytes, volume, bytes_per_s, left_s, .. } = event else {
        return String::new();
    };
    let percent = done_bytes.0.saturating_mul(100).checked_div(total_bytes.0).unwrap_or(100);
    let rate = bytes_per_s.map_or_else(String::new, |rate| format!(", {rate}/s"));
    let left = left_s.map_or_else(String::new, |left| {
        let (hours, minutes, seconds) = (left / 3600, left / 60 % 60, left % 60);
        match hours {
            0 => format!(", {minutes}:{seconds:02} left on it"),
            _ => format!(", {hours}:{minutes:02}:{seconds:02} left on it"),
        }
    });
    format!("copied      {percent:>3} % of {total_bytes}, volume {volume}{rate}{left}")
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
