//! Binds the sockets, starts the daemons with inherited descriptors, and restarts what dies.
//!
//! The descriptor passing of `sd_listen_fds(3)` without unsafe code: a listener travels as the
//! child's standard input (the second one as its standard output), and a one-line shell moves it
//! to descriptor 3 (and 4), sets `LISTEN_PID` to its own process id and becomes the daemon.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    net::TcpListener,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cloister_config::Config;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use crate::{Unit, accepting::Accepting};

/// A unit that dies this often within [`QUICK`] of its start is given up.
const QUICK_DEATHS_MAX: u32 = 8;
/// Dying sooner than this after the start counts as a quick death.
const QUICK: Duration = Duration::from_secs(2);
/// How long daemons get to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// One unit: its listeners, its notify socket and its process.
struct Kept {
    unit: Unit,
    listeners: Vec<OwnedFd>,
    names: String,
    notify: UnixDatagram,
    notify_path: PathBuf,
    child: Option<Child>,
    started: Instant,
    ready: bool,
    quick_deaths: u32,
}

/// Runs `units` until SIGTERM or SIGINT; prints `ready` once all have said so.
///
/// # Errors
/// When a socket cannot be bound, a daemon cannot be started, or one keeps dying.
pub fn run(root: &Path, config_path: &Path, config: &Config, units: &[Unit]) -> Result<()> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block().context("blocking signals")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let site = Site { root: root.to_owned(), config_path: config_path.to_owned() };
    let mut kept = Vec::new();
    for unit in units.iter().copied() {
        kept.push(site.bind(unit, config).with_context(|| format!("socket of {}", unit.name()))?);
    }
    let mut accepting = Accepting::bind(root, config_path, config)?;
    for one in &mut kept {
        site.spawn(one)?;
    }
    let outcome = watch(&site, &signals, &mut kept, &mut accepting);
    accepting.stop();
    stop(&mut kept);
    outcome
}

/// Where the units live.
struct Site {
    root: PathBuf,
    config_path: PathBuf,
}

impl Site {
    fn bind(&self, unit: Unit, config: &Config) -> Result<Kept> {
        let socket = unit.socket(config);
        let unix: OwnedFd = UnixListener::bind(&socket)
            .with_context(|| format!("binding {}", socket.display()))?
            .into();
        let (listeners, names) = if unit == Unit::Gatewayd {
            let tcp = TcpListener::bind(config.gateway.listen)
                .with_context(|| format!("binding {}", config.gateway.listen))?;
            (vec![unix, tcp.into()], "admin:api".to_owned())
        } else {
            (vec![unix], "socket".to_owned())
        };
        let notify_path = self.root.join("run").join(format!("notify-{}", unit.name()));
        let notify = UnixDatagram::bind(&notify_path)?;
        notify.set_nonblocking(true)?;
        let started = Instant::now();
        Ok(Kept {
            unit,
            listeners,
            names,
            notify,
            notify_path,
            child: None,
            started,
            ready: false,
            quick_deaths: 0,
        })
    }

    fn spawn(&self, kept: &mut Kept) -> Result<()> {
        let unit = kept.unit;
        let program = std::env::current_exe()?.with_file_name(unit.program());
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.root.join("log").join(format!("{}.log", unit.name())))?;
        let moved = if kept.listeners.len() == 2 {
            "3<&0 4<&1 0</dev/null 1>&2"
        } else {
            "3<&0 0</dev/null 1>&2"
        };
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("export LISTEN_PID=$$; exec \"$0\" \"$@\" {moved}"))
            .arg(&program)
            .arg("--config")
            .arg(&self.config_path)
            .env("LISTEN_FDS", kept.listeners.len().to_string())
            .env("LISTEN_FDNAMES", &kept.names)
            .env("NOTIFY_SOCKET", &kept.notify_path)
            .env_remove("RUST_LOG")
            .stderr(log);
        if let Some(slot) = unit.slot() {
            command.args(["--slot", slot.name()]);
        }
        let mut listeners = kept.listeners.iter();
        if let Some(first) = listeners.next() {
            command.stdin(first.try_clone()?);
        }
        match listeners.next() {
            Some(second) => command.stdout(second.try_clone()?),
            None => command.stdout(Stdio::null()),
        };
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let pid_file = self.root.join("run").join(format!("{}.pid", unit.name()));
        let partial = pid_file.with_extension("next");
        fs::write(&partial, child.id().to_string())?;
        fs::rename(&partial, &pid_file)?;
        kept.child = Some(child);
        kept.started = Instant::now();
        Ok(())
    }
}

/// Waits for signals and readiness until told to stop.
fn watch(
    site: &Site,
    signals: &SignalFd,
    kept: &mut [Kept],
    accepting: &mut Accepting,
) -> Result<()> {
    let mut announced = false;
    loop {
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(accepting.sockets().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        watched.extend(kept.iter().map(|one| PollFd::new(one.notify.as_fd(), PollFlags::POLLIN)));
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for signals"),
        }
        drop(watched);
        while let Some(signal) = signals.read_signal()? {
            let stopping = [Signal::SIGTERM, Signal::SIGINT].map(|end| end as u32);
            if stopping.contains(&signal.ssi_signo) {
                return Ok(());
            }
        }
        accepting.accept()?;
        reap(site, kept, accepting)?;
        for one in kept.iter_mut() {
            let mut message = [0u8; 4096];
            while let Ok(length) = one.notify.recv(&mut message) {
                let lines = message.get(..length).unwrap_or_default().split(|byte| *byte == b'\n');
                one.ready |= lines.into_iter().any(|line| line == b"READY=1");
            }
        }
        if !announced && kept.iter().all(|one| one.ready) {
            announced = true;
            writeln!(std::io::stdout(), "ready").context("announcing readiness")?;
        }
    }
}

/// Starts again what died.
fn reap(site: &Site, kept: &mut [Kept], accepting: &mut Accepting) -> Result<()> {
    loop {
        let Ok(WaitStatus::Exited(dead, _) | WaitStatus::Signaled(dead, _, _)) =
            waitpid(None, Some(WaitPidFlag::WNOHANG))
        else {
            return Ok(());
        };
        accepting.ended(dead);
        let owner = kept.iter_mut().find(|one| {
            one.child
                .as_ref()
                .is_some_and(|child| i64::from(child.id()) == i64::from(dead.as_raw()))
        });
        let Some(one) = owner else { continue };
        one.child = None;
        if one.started.elapsed() < QUICK {
            one.quick_deaths += 1;
        } else {
            one.quick_deaths = 0;
        }
        if one.quick_deaths > QUICK_DEATHS_MAX {
            bail!("{} keeps dying; see log/{}.log", one.unit.name(), one.unit.name());
        }
        site.spawn(one)?;
    }
}

/// Ends every daemon: first asked, then told.
fn stop(kept: &mut [Kept]) {
    let pid_of = |child: &Child| i32::try_from(child.id()).map(Pid::from_raw);
    for child in kept.iter().filter_map(|one| one.child.as_ref()) {
        if let Ok(pid) = pid_of(child) {
            // A process that is already gone needs no signal.
            kill(pid, Signal::SIGTERM).unwrap_or_default();
        }
    }
    let begun = Instant::now();
    for one in kept.iter_mut().rev() {
        let Some(mut child) = one.child.take() else { continue };
        while begun.elapsed() < STOP_LIMIT && matches!(child.try_wait(), Ok(None)) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        child.kill().unwrap_or_default();
        child.wait().map(drop).unwrap_or_default();
        fs::remove_file(&one.notify_path).unwrap_or_default();
    }
}
