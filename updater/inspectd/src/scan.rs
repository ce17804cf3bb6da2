//! The facility's own scanner: `COMMAND... FD`, where descriptor FD reads the artefact from its start.
//! It ends with 0 for clean and with 1 for a finding, as clamscan does; anything else is no verdict.

use std::{
    fs::File,
    io::{Seek as _, SeekFrom},
    os::fd::AsRawFd as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use cloister_config::Config;
use cloister_daemon::clock::Stopwatch;
use cloister_wire::{inspect::Question, supply::Scan};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// How often it is looked whether the scanner has ended.
const TICK: Duration = Duration::from_millis(5);

/// What the configured scanner says about `file`.
#[must_use]
pub fn scan(config: &Config, _question: &Question, file: &File) -> Scan {
    let update = &config.update;
    let Some((program, words)) = update.scanner.split_first() else { return Scan::Off };
    let verdict = started(program, words, file)
        .and_then(|child| ended(child, Duration::from_secs(update.scanner_s.into())));
    match verdict.as_ref().map(ExitStatus::code) {
        Ok(Some(0)) => Scan::Clean,
        Ok(Some(1)) => Scan::Infected,
        Ok(code) => {
            tracing::warn!(
                code = "inspect.scan.failed",
                status = code,
                "the scanner gave no verdict"
            );
            Scan::Failed
        }
        Err(error) => {
            tracing::warn!(code = "inspect.scan.failed", kind = ?error.kind(), "the scanner did not run");
            Scan::Failed
        }
    }
}

fn started(program: &str, words: &[String], file: &File) -> std::io::Result<Child> {
    (&*file).seek(SeekFrom::Start(0))?;
    // The scanner inherits it; this process's own input is /dev/null by now, and so is the scanner's.
    fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Command::new(program)
        .args(words)
        .arg(file.as_raw_fd().to_string())
        .stdout(Stdio::null())
        .spawn()
}

/// Its status, or the error that it took too long; then it is ended.
fn ended(mut child: Child, limit: Duration) -> std::io::Result<ExitStatus> {
    let since = Stopwatch::start();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if since.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        thread::park_timeout(TICK);
    }
}
