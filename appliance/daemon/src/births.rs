//! A process for each conversation: each connection that comes over another one is served by a process
//! of its own, and that other one ends with it. The first process reads nothing of what is said there.
#![expect(unsafe_code, reason = "no safe wrapper of fork is possible for every caller")]

use std::{
    fs, io,
    os::fd::{AsFd as _, IntoRawFd as _},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, getpid, getppid},
};

use crate::{Connection, StartError, caged::ProgramError};

/// Returns in a process of its own with each conversation that comes over `line`, one after the other,
/// and with `None` in this process when no more come. Whoever is born ends when this process does, and
/// when the other end of `line` does.
pub(crate) fn each(line: Connection) -> Result<Option<Connection>, ProgramError> {
    // The other end says when no more come.
    line.set_timeout(None);
    alone()?;
    let own = getpid();
    while let Some(conversation) = line.next_conversation()? {
        let (ended, lives) = io::pipe().map_err(system("make a pipe"))?;
        match born()? {
            None => {
                // Whoever looks at an artefact cannot reach the others.
                drop(line);
                let _open_as_long_as_it_lives = lives.into_raw_fd();
                return Ok(bound_to(own)?.then_some(conversation));
            }
            Some(child) => {
                drop((conversation, lives));
                if line.closes_before(ended.as_fd()) {
                    // Nobody waits for its answer. It is known to the kernel until it is buried.
                    kill(child, Signal::SIGKILL).map_err(StartError::system("end a process"))?;
                }
                buried(child)?;
            }
        }
    }
    Ok(None)
}

fn system(act: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { act, source }
}

/// A copy of a process with several threads has one, and whatever the others had locked for ever.
fn alone() -> Result<(), StartError> {
    let threads = fs::read_dir("/proc/self/task").map(Iterator::count);
    let source = match threads {
        Ok(1) => return Ok(()),
        Ok(_several) => io::ErrorKind::ResourceBusy.into(),
        Err(source) => source,
    };
    Err(system("say that the process has one thread")(source))
}

/// The process that was born; `None` in that process.
fn born() -> Result<Option<Pid>, StartError> {
    // SAFETY: a child of a process with one thread may do whatever its parent may (fork(2)); this one has
    // one thread ([`alone`]) and starts none while it waits in [`each`].
    let born = unsafe { fork() }.map_err(StartError::system("start a process"))?;
    Ok(match born {
        ForkResult::Child => None,
        ForkResult::Parent { child } => Some(child),
    })
}

/// From now on this process ends when its parent does; says whether that is still `parent`.
fn bound_to(parent: Pid) -> Result<bool, StartError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(StartError::system("end with its parent"))?;
    Ok(getppid() == parent)
}

/// How it ended is told to whoever talked to it, by what it said or did not say.
fn buried(child: Pid) -> Result<(), StartError> {
    loop {
        match waitpid(child, None) {
            Ok(_ended) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(StartError::system("wait for a process")(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Coded as _;

    use super::*;

    #[test]
    fn a_process_with_several_threads_is_not_copied() {
        let refused = std::thread::scope(|scope| {
            let _second = scope.spawn(|| ());
            alone()
        });
        // The test runner has a thread of its own too.
        assert_eq!(refused.expect_err("two threads").code(), "daemon.system");
    }
}
