//! Who may mount a device, for how long, and that it is let go however the command ends.
//!
//! A lock file beside the mount's folder is locked for as long as a command mounts the device, uses
//! that mount or lets it go. While the mount is to end with the command there is a byte in it: who
//! takes the lock and finds one knows that a command was killed, and lets go what it left.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use cloister_domain::Class;
use cloister_wire::Problem;
use nix::{
    fcntl::OFlag,
    mount::{MntFlags, umount2},
    sys::signal::{SigSet, Signal, raise},
};

use super::{failure, mount_at, mounted_already};
use crate::Failure;

/// What ends a command that a person or the system no longer wants. SIGKILL cannot be seen; what it
/// leaves is let go by the next command.
const ENDINGS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// The sole right to mount one device and to let it go. The kernel ends it with the process.
#[derive(Debug)]
pub(super) struct Hold {
    lock: File,
    folder: PathBuf,
    had_leftover: bool,
}

impl Hold {
    /// Takes the right over what is mounted at `folder`, and lets go what a killed command left.
    pub(super) fn take(folder: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| failure("held", &error);
        if let Some(media) = folder.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(media).map_err(failed)?;
        }
        let mut name = OsString::from(folder);
        name.push(".lock");
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(name)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use()),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let had_leftover = lock.metadata().map_err(failed)?.len() > 0;
        let hold = Self { lock, folder: folder.to_path_buf(), had_leftover };
        if had_leftover {
            hold.let_go();
        }
        Ok(hold)
    }

    /// The same, if nothing else is mounted there, such as what an operator opened.
    pub(super) fn take_unmounted(folder: &Path, device: &Path) -> Result<Self, Failure> {
        let hold = Self::take(folder)?;
        if is_mounted(folder) { Err(mounted_already(device)) } else { Ok(hold) }
    }

    /// Whether a killed command had left a mount.
    pub(super) const fn had_leftover(&self) -> bool {
        self.had_leftover
    }

    /// Says that what is mounted from now on is to end with this process.
    fn mark(&self) -> io::Result<()> {
        (&self.lock).write_all(b"1")
    }

    fn let_go(&self) {
        // Detached, since intaked may have a file open for a moment longer than the command lives; the
        // kernel lets go with the last one. A stick that was pulled already, or a folder that nothing
        // was mounted at, makes no difference.
        let flags = MntFlags::UMOUNT_NOFOLLOW | MntFlags::MNT_DETACH;
        while umount2(&self.folder, flags).is_ok() {}
        let _gone_either_way = fs::remove_dir(&self.folder);
        let _told_again_next_time = self.lock.set_len(0);
    }
}

/// A mount that ends with its holder.
#[derive(Debug)]
struct Passing(Hold);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.let_go();
    }
}

/// A stick whose files can be read; it is let go when this is dropped, or a signal ends the process.
#[derive(Debug)]
pub(crate) struct Mounted {
    folder: PathBuf,
    passing: Arc<Mutex<Option<Passing>>>,
}

impl Mounted {
    /// Mounts `device` at `folder`. To be called before any other thread is started, so that all of
    /// them inherit the block and a signal reaches the one thread that waits.
    pub(super) fn new(folder: PathBuf, device: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| failure("held", &error);
        let passing = Arc::new(Mutex::new(None));
        // A signal that comes while this is locked is obeyed once the mount is in its place.
        let mut place = lock(&passing);
        let_go_on_signals(&passing).map_err(failed)?;
        let hold = Hold::take_unmounted(&folder, device)?;
        hold.mark().map_err(failed)?;
        let held = Passing(hold);
        mount_at(&folder, device)?;
        *place = Some(held);
        drop(place);
        Ok(Self { folder, passing })
    }

    /// Where its files appear.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(lock(&self.passing).take());
    }
}

fn lock(passing: &Mutex<Option<Passing>>) -> MutexGuard<'_, Option<Passing>> {
    passing.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets go what is in `passing` when a signal is to end this process, which then ends by that signal.
/// A signal that whoever started the process had it ignore, as `nohup` does, stays ignored.
fn let_go_on_signals(passing: &Arc<Mutex<Option<Passing>>>) -> io::Result<()> {
    let ignored = ignored()?;
    let mut signals = SigSet::empty();
    for signal in ENDINGS {
        if ignored & bit(signal) == 0 {
            signals.add(signal);
        }
    }
    signals.thread_block()?;
    let passing = Arc::clone(passing);
    let waiting = move || {
        // `sigwait` fails only for an invalid set.
        let Ok(signal) = signals.wait() else { return };
        drop(lock(&passing).take());
        if signals.thread_unblock().is_ok() {
            let _ends_here = raise(signal);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(waiting).map(drop)
}

/// The signals that this process ignores, as `SigIgn` of proc_pid_status(5) has them.
fn ignored() -> io::Result<u64> {
    let status = cloister_daemon::files::read_limited(Path::new("/proc/self/status"), 64 << 10)
        .map_err(io::Error::other)?;
    let status = String::from_utf8_lossy(&status);
    let said = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    Ok(said.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0))
}

/// The bit of `signal` in such a set, where signal 1 is bit 0.
const fn bit(signal: Signal) -> u64 {
    1 << (signal as u32 - 1)
}

/// Whether something is mounted at `folder`.
fn is_mounted(folder: &Path) -> bool {
    let device_of = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    let around = folder.parent().and_then(device_of);
    device_of(folder).is_some_and(|within| around != Some(within))
}

fn in_use() -> Failure {
    let message = "another command that still runs has this device; wait until it has ended";
    Failure::from(Problem::new(Class::Busy, "medium.busy", message))
}
