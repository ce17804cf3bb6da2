//! The one wish to stop, seen by every thread: set by SIGTERM, SIGINT or a call, never unset.

use std::{
    io::{self, PipeReader, PipeWriter, Write as _},
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{SigSet, Signal},
};

use crate::StartError;

/// Whether the daemon is to stop. Clones see the same wish.
#[derive(Clone, Debug)]
pub struct Stop(Arc<Wish>);

#[derive(Debug)]
struct Wish {
    set: AtomicBool,
    /// Becomes readable, for good, when the wish is set; nobody reads it.
    reader: PipeReader,
    writer: PipeWriter,
}

/// What [`Stop::or_readable`] waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Stopped,
    Readable,
    TimedOut,
}

impl Stop {
    pub(crate) fn new() -> Result<Self, StartError> {
        let (reader, writer) =
            io::pipe().map_err(|source| StartError::System { act: "make a pipe", source })?;
        Ok(Self(Arc::new(Wish { set: AtomicBool::new(false), reader, writer })))
    }

    /// Asks the daemon to stop: no new connections, those that are open finish what they do.
    pub fn set(&self) {
        if !self.0.set.swap(true, Ordering::SeqCst) {
            // One byte into an empty pipe that this process holds open: it can neither block nor fail.
            let written = (&self.0.writer).write_all(&[0]);
            debug_assert!(written.is_ok(), "the pipe is open and empty");
        }
    }

    /// Whether the daemon is to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::SeqCst)
    }

    /// Waits until the daemon is to stop.
    pub fn wait(&self) {
        while !self.wait_timeout(Duration::from_secs(3600)) {}
    }

    /// Waits until the daemon is to stop, at most for `duration`; says whether it is.
    #[must_use]
    pub fn wait_timeout(&self, duration: Duration) -> bool {
        self.poll(None, duration) == Woken::Stopped
    }

    /// Waits until `other` is readable or the daemon is to stop, at most for `duration`.
    pub(crate) fn or_readable(&self, other: BorrowedFd<'_>, duration: Duration) -> Woken {
        self.poll(Some(other), duration)
    }

    fn poll(&self, other: Option<BorrowedFd<'_>>, duration: Duration) -> Woken {
        let mut set = vec![PollFd::new(self.0.reader.as_fd(), PollFlags::POLLIN)];
        set.extend(other.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(duration).unwrap_or(PollTimeout::MAX);
        match poll(&mut set, timeout) {
            // A signal that interrupts counts as time: all callers wait in a loop.
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_)
                if set.get(1).is_some_and(|other| other.any() == Some(true)) && !self.is_set() =>
            {
                return Woken::Readable;
            }
            Ok(_) => {}
            Err(errno) => panic!("poll of own descriptors: {errno}"),
        }
        if self.is_set() { Woken::Stopped } else { Woken::TimedOut }
    }

    /// Sets the wish when SIGTERM or SIGINT comes. Called before any other thread is started, so
    /// that all of them inherit the block and the signal reaches the one thread that waits.
    pub(crate) fn on_signals(&self) -> Result<(), StartError> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block().map_err(StartError::system("block signals"))?;
        let stop = self.clone();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                // `sigwait` fails only for an invalid set; stopping is then the safe answer.
                let signal = signals.wait();
                tracing::info!(signal = signal.map_or("none", Signal::as_str), "stopping");
                stop.set();
            })
            .map_err(|source| StartError::System { act: "start a thread", source })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_sees_the_wish_at_once() {
        let stop = Stop::new().expect("a pipe");
        let waiting = stop.clone();
        assert!(!stop.wait_timeout(Duration::ZERO));
        let thread = std::thread::spawn(move || waiting.wait());
        stop.set();
        stop.set();
        thread.join().expect("no panic");
        assert!(stop.is_set() && stop.wait_timeout(Duration::from_secs(60)));
    }
}
