//! Adopts descriptors that arrive by number: the sockets that a service manager opened for this
//! process (sd_listen_fds(3)), and files that another process passed over a socket (unix(7)).
#![expect(unsafe_code, reason = "taking ownership of descriptors that arrived by number")]

use std::{
    os::fd::{FromRawFd as _, OwnedFd, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::socket::{getsockopt, sockopt},
};

use crate::StartError;

/// The first descriptor that a service manager passes (`SD_LISTEN_FDS_START`).
const FIRST: u32 = 3;

/// A listening socket from the service manager, with the name it was given there.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// `FileDescriptorName=` of the socket unit; the unit's own name unless set.
    pub(crate) name: String,
    pub(crate) fd: OwnedFd,
}

/// Takes the descriptors that `LISTEN_FDS` promises, if `LISTEN_PID` names this process.
///
/// A second call takes nothing: each descriptor has one owner.
pub(crate) fn adopt_once() -> Result<Vec<Inherited>, StartError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).ok();
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let Some((count, names)) = promised(variable, std::process::id()) else {
        return Ok(Vec::new());
    };
    let mut inherited = Vec::new();
    for (number, name) in (FIRST..FIRST.saturating_add(count)).zip(names) {
        let wrong = || StartError::Inherited { promised: count, number };
        let raw = RawFd::try_from(number).map_err(|_too_large| wrong())?;
        if !std::path::Path::new("/proc/self/fd").join(number.to_string()).exists() {
            return Err(wrong());
        }
        // SAFETY: `raw` is open (the line above) and nobody else owns it: the manager opened it for
        // this process (`LISTEN_PID`), it was open when the process began, so no other code here got
        // the same number, and `TAKEN` lets this function run once.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        if getsockopt(&fd, sockopt::AcceptConn) != Ok(true) {
            return Err(wrong());
        }
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(StartError::system("mark an inherited socket"))?;
        inherited.push(Inherited { name, fd });
    }
    Ok(inherited)
}

/// Takes a descriptor that the kernel has just made for this process out of a message (`SCM_RIGHTS`).
pub(crate) fn adopt_received(raw: RawFd) -> OwnedFd {
    // SAFETY: `raw` is open and nobody else owns it: recvmsg(2) made it for this call's message, and
    // each number in a message is handed over once.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// How many descriptors were promised to process `pid`, and the name of each.
fn promised(
    variable: impl Fn(&str) -> Option<String>,
    pid: u32,
) -> Option<(u32, impl Iterator<Item = String>)> {
    if variable("LISTEN_PID")? != pid.to_string() {
        return None;
    }
    let count: u32 = variable("LISTEN_FDS")?.parse().ok()?;
    let names: Vec<String> =
        variable("LISTEN_FDNAMES").unwrap_or_default().split(':').map(str::to_owned).collect();
    Some((count, names.into_iter().chain(std::iter::repeat(String::new()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pid: &'static str) -> impl Fn(&str) -> Option<String> {
        move |name| match name {
            "LISTEN_PID" => Some(pid.to_owned()),
            "LISTEN_FDS" => Some("3".to_owned()),
            "LISTEN_FDNAMES" => Some("api:admin".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn only_what_was_meant_for_this_process_is_taken() {
        assert!(promised(variables("8"), 7).is_none());
        assert!(promised(|_| None, 7).is_none());
        let (count, names) = promised(variables("7"), 7).expect("ours");
        let names: Vec<String> = names.take(3).collect();
        assert_eq!((count, names), (3, vec!["api".to_owned(), "admin".to_owned(), String::new()]));
    }
}
