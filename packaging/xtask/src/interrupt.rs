//! Ctrl-C and SIGTERM while something is prepared: the programs under way are ended, and whoever
//! waits for them sees why and cleans up.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use cloister_stage::release::read_file;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

/// Programs that are run one after the other and may be broken off; the supervisor ends by itself.
const BREAKABLE: [&str; 5] = ["cloister", "cloister-mint", "cloister-tune", "python", "python3"];

/// Hears the signals that ask this process to end.
#[derive(Debug)]
pub(crate) struct Interrupts {
    asked: Arc<AtomicBool>,
    heard: Receiver<()>,
}

impl Interrupts {
    /// Hears SIGINT, SIGTERM and SIGHUP from now on; called before other threads are started.
    ///
    /// # Errors
    /// When signals cannot be blocked.
    pub(crate) fn hear() -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block().context("blocking signals")?;
        let asked = Arc::new(AtomicBool::new(false));
        let (tell, heard) = channel();
        for wait in [crate::wait_for_interrupt, wait_for_hangup] {
            let (tell, flag) = (tell.clone(), Arc::clone(&asked));
            thread::Builder::new().name("signals".to_owned()).spawn(move || {
                while wait().is_ok() {
                    flag.store(true, Ordering::SeqCst);
                    for child in children().unwrap_or_default() {
                        // It may have ended already.
                        kill(child, Signal::SIGKILL).unwrap_or_default();
                    }
                    if tell.send(()).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Self { asked, heard })
    }

    /// Goes on unless the process was asked to end.
    ///
    /// # Errors
    /// When it was.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.was_asked() {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Whether the process was asked to end.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Returns when the process is asked to end.
    pub(crate) fn wait(&self) {
        if !self.was_asked() {
            // The sender lives as long as the process.
            self.heard.recv().unwrap_or_default();
        }
    }
}

/// Returns when the terminal is closed.
fn wait_for_hangup() -> Result<()> {
    let mut closed = SigSet::empty();
    closed.add(Signal::SIGHUP);
    closed.wait().map(drop).context("waiting for a signal")
}

/// The breakable programs that this process started and that still run.
fn children() -> Result<Vec<Pid>> {
    let mut found = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")? {
        let listed = String::from_utf8(read_file(&task?.path().join("children"))?)?;
        for pid in listed.split_ascii_whitespace() {
            let name = read_file(&Path::new("/proc").join(pid).join("comm")).unwrap_or_default();
            if BREAKABLE.iter().any(|known| known.as_bytes() == name.trim_ascii()) {
                found.push(Pid::from_raw(pid.parse()?));
            }
        }
    }
    Ok(found)
}
