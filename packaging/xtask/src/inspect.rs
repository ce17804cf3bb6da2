//! `./x inspect FILE...`: each file through the caged process that judges the artefacts of a release.

use std::{
    fs::{self, File},
    io::Write,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::{MetadataExt as _, OpenOptionsExt as _},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};
use cloister_daemon::{
    Connection,
    caged::{AskError, ask},
};
use cloister_domain::{ByteCount, Coded as _};
use cloister_stage::programs;
use cloister_wire::inspect::{Answer, Question, clock_seconds_max};
use nix::fcntl::OFlag;

/// What to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// The files; a release would call them by the same names.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Judges every file, one line each; whether all could be judged.
///
/// # Errors
/// When the program is not built or no scratch folder can be had.
pub(crate) fn run(wish: &Wish, out: &mut dyn Write) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let config = scratch.path().join("config.toml");
    let state = scratch.path().join("state");
    fs::create_dir(&state)?;
    fs::write(&config, format!("[paths]\nstate = {state:?}\nruntime = {state:?}\n"))?;
    writeln!(out, "file\tverdict\tcode\tms\tMiB\toutside")?;
    let mut all = true;
    for path in &wish.files {
        let begun = Instant::now();
        match judge(path, &config) {
            Ok(judged) => {
                writeln!(
                    out,
                    "{}\t{}\t{}\t{:.1}\t{}\t{}",
                    shown(path),
                    if judged.code.is_empty() { "accepted" } else { "refused" },
                    if judged.code.is_empty() { "-" } else { &judged.code },
                    begun.elapsed().as_secs_f64() * 1e3,
                    judged.peak.map_or_else(|| "-".to_owned(), mib),
                    judged.outside_bytes + size_below(&state)?,
                )?;
            }
            Err(error) => {
                all = false;
                writeln!(out, "{}\tnot judged\t-\t-\t-\t-", shown(path))?;
                writeln!(std::io::stderr(), "x: {}: {error:#}", shown(path)).unwrap_or_default();
            }
        }
        out.flush()?;
    }
    Ok(all)
}

/// What came of a file.
struct Judged {
    /// Why it is refused; empty if it is not.
    code: String,
    /// The largest resident size of the process; unknown if it gave no answer.
    peak: Option<ByteCount>,
    /// Bytes by which the file changed, which is open for reading only, and was written at all.
    outside_bytes: u64,
}

fn judge(path: &Path, config: &Path) -> Result<Judged> {
    // Whoever opens a pipe to read it waits for a writer, unless they say that they will not.
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.with_context(|| format!("opening {}", shown(path)))?;
    let before = file.metadata()?;
    anyhow::ensure!(before.is_file(), "no plain file");
    let (here, there) = UnixStream::pair()?;
    let mut child = Command::new(programs()?.join("cloister-inspectd"))
        .arg("--config")
        .arg(config)
        .stdin(OwnedFd::from(there))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting cloister-inspectd")?;
    let name = path.file_name().context("no name")?.to_string_lossy().into_owned();
    let seconds = clock_seconds_max(ByteCount(before.len()));
    let line = Connection::over(here)?;
    let connection = line.open_conversation()?;
    let answer = ask::<_, Answer>(&connection, &Question { name }, file.as_fd(), seconds);
    // It has answered, or ended over the file; what is left of it is not waited for.
    child.kill().unwrap_or_default();
    child.wait()?;
    let after = file.metadata()?;
    let changed = (before.len(), before.mtime_nsec()) != (after.len(), after.mtime_nsec());
    let outside_bytes = if changed { after.len().abs_diff(before.len()).max(1) } else { 0 };
    Ok(match answer {
        Ok(answer) => Judged {
            code: answer.verdict.err().map(|problem| problem.code).unwrap_or_default(),
            peak: Some(answer.peak_bytes),
            outside_bytes,
        },
        Err(error @ AskError::Ended(_)) => {
            Judged { code: error.code().to_owned(), peak: None, outside_bytes }
        }
        Err(error) => return Err(error.into()),
    })
}

/// Bytes of all files in the only folder that the process was told of.
fn size_below(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        total += entry?.metadata()?.len().max(1);
    }
    Ok(total)
}

#[expect(clippy::cast_precision_loss, reason = "a figure with one decimal")]
fn mib(bytes: ByteCount) -> String {
    format!("{:.1}", bytes.0 as f64 / f64::from(1 << 20))
}

/// A path on one line, without what could be mistaken for a field or a command to a terminal.
fn shown(path: &Path) -> String {
    let plain = |letter: char| if letter.is_control() { '?' } else { letter };
    path.to_string_lossy().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("model.gguf");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let config = folder.path().join("config.toml");
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || tell.send(judge(&pipe, &config).map(|_judged| ())));
        let answer = told.recv_timeout(std::time::Duration::from_secs(10)).expect("an answer");
        assert!(answer.expect_err("no file").to_string().contains("no plain file"));
    }
}
