//! Readiness and watchdog (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{Stop, clock::Stopwatch};

/// When the accepting loop was last seen alive. Without a loop the process alone counts.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    clock: Stopwatch,
    /// Microseconds of `clock` at the last beat; 0 while no loop runs.
    last: Arc<AtomicU64>,
}

impl Pulse {
    pub(crate) fn new() -> Self {
        Self { clock: Stopwatch::start(), last: Arc::new(AtomicU64::new(0)) }
    }

    /// The loop is alive.
    pub(crate) fn beat(&self) {
        self.last.store(self.clock.microseconds().max(1), Ordering::Relaxed);
    }

    /// The loop has ended, as it should.
    pub(crate) fn rest(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    fn is_alive(&self, within: Duration) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let age = self.clock.microseconds().saturating_sub(last);
        last == 0 || Duration::from_micros(age) <= within
    }
}

/// Says `READY=1`, then `WATCHDOG=1` twice in each interval that the manager gave, then `STOPPING=1`.
pub(crate) fn ready(stop: &Stop, pulse: &Pulse) {
    let Some(manager) = Manager::from_environment() else { return };
    manager.tell("READY=1");
    let interval = watchdog_interval(|name| std::env::var(name).ok(), std::process::id());
    let (stop, pulse) = (stop.clone(), pulse.clone());
    let spawned = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
        match interval {
            Some(interval) => {
                while !stop.wait_timeout(interval / 2) {
                    if pulse.is_alive(interval) {
                        manager.tell("WATCHDOG=1");
                    }
                }
            }
            None => stop.wait(),
        }
        manager.tell("STOPPING=1");
    });
    if spawned.is_err() {
        tracing::warn!("no thread for the watchdog; the service manager will restart this daemon");
    }
}

/// The service manager's socket.
#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Manager {
    fn from_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET")?;
        match Self::open(name.as_bytes()) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!(kind = ?error.kind(), "the service manager cannot be told anything");
                None
            }
        }
    }

    fn open(name: &[u8]) -> io::Result<Self> {
        let address = match name {
            [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
            path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that reads nothing must not hold up the daemon.
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        Ok(Self { socket, address })
    }

    fn tell(&self, state: &'static str) {
        if let Err(error) = self.socket.send_to_addr(state.as_bytes(), &self.address) {
            tracing::warn!(state, kind = ?error.kind(), "the service manager was not told");
        }
    }
}

/// `WATCHDOG_USEC`, unless it is meant for another process (`WATCHDOG_PID`).
fn watchdog_interval(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Option<Duration> {
    let microseconds: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    let for_us = variable("WATCHDOG_PID").is_none_or(|text| text == pid.to_string());
    (for_us && microseconds > 0).then_some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_an_abstract_name_are_both_reached() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).expect("bound");
        let name = format!("cloister-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("bound");

        Manager::open(path.as_os_str().as_bytes()).expect("open").tell("READY=1");
        Manager::open(format!("@{name}").as_bytes()).expect("open").tell("STOPPING=1");
        let mut buffer = [0; 32];
        let read = by_path.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..read], b"READY=1");
        let read = by_name.recv(&mut buffer).expect("a datagram");
        assert_eq!(&buffer[..read], b"STOPPING=1");
    }

    #[test]
    fn the_watchdog_of_another_process_is_not_ours() {
        let variables = |pid: &'static str| {
            move |name: &str| match name {
                "WATCHDOG_USEC" => Some("3000000".to_owned()),
                "WATCHDOG_PID" => Some(pid.to_owned()),
                _ => None,
            }
        };
        assert_eq!(watchdog_interval(variables("7"), 7), Some(Duration::from_secs(3)));
        assert_eq!(watchdog_interval(variables("8"), 7), None);
        assert_eq!(watchdog_interval(|_| None, 7), None);
    }

    #[test]
    fn a_loop_that_hangs_loses_its_pulse() {
        let pulse = Pulse::new();
        assert!(pulse.is_alive(Duration::ZERO), "no loop runs");
        pulse.beat();
        assert!(pulse.is_alive(Duration::from_secs(3600)));
        while pulse.clock.microseconds() < pulse.last.load(Ordering::Relaxed) + 2 {
            std::hint::spin_loop();
        }
        assert!(!pulse.is_alive(Duration::from_micros(1)));
        pulse.rest();
        assert!(pulse.is_alive(Duration::ZERO));
    }
}
