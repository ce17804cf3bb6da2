//! What a process of the appliance gives up at its start: core dumps and talkative panics.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    sync::OnceLock,
};

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};

use crate::StartError;

/// Where the kernel is told to forget how much memory the process used at most (proc(5)). A process
/// that refuses to be traced cannot open it, so it is opened before; `None` where it cannot be had.
static PEAK: OnceLock<Option<File>> = OnceLock::new();

/// Makes sure that no memory of this process reaches a disk or a debugger of its own user.
pub(crate) fn no_core_dumps() -> Result<(), StartError> {
    open_peak();
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(StartError::system("turn core dumps off"))?;
    prctl::set_dumpable(false).map_err(StartError::system("refuse to be traced"))
}

fn open_peak() -> Option<&'static File> {
    let open = || OpenOptions::new().write(true).open("/proc/self/clear_refs").ok();
    PEAK.get_or_init(open).as_ref()
}

/// Makes the peak of resident memory (`VmHWM`) begin anew at what is resident now. Says whether the
/// kernel did it; where it did not, the peak goes on from the start of the process.
#[must_use]
pub fn forget_peak_memory() -> bool {
    // 5: "reset the peak resident set size".
    open_peak().is_some_and(|mut file| file.write_all(b"5").is_ok())
}

/// From now on a panic logs file and line, never its message, which may quote people's words, and
/// ends the process: what is broken is started again by the service manager, not patched up.
pub(crate) fn panics_name_the_place_only() {
    std::panic::set_hook(Box::new(|panic| {
        match panic.location() {
            Some(place) => {
                tracing::error!(
                    file = place.file(),
                    line = place.line(),
                    "panic; the process ends"
                );
            }
            None => tracing::error!("panic; the process ends"),
        }
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::sys::resource::getrlimit;

    use super::*;

    const CHILD: &str = "CLOISTER_PROCESS_CHILD";

    /// Not a test of its own: what it does cannot be taken back.
    #[test]
    fn child() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        no_core_dumps().expect("given up");
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(prctl::get_dumpable(), Ok(false));
    }

    #[test]
    fn a_process_leaves_no_core_and_refuses_to_be_traced() {
        let child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "process::tests::child"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(child.is_ok_and(|status| status.success()));
    }
}
