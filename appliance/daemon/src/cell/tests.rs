//! Processes that are shut in a cell and try to get out; and each fence by itself, since one that
//! stands behind another is never touched.

use std::{
    fs::File,
    io::{IoSlice, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::{
            net::{SocketAddr, UnixDatagram, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use super::*;
use crate::{bpf::passes, clock::Stopwatch, testing::limits_once_shut};

const HOME: &str = "CLOISTER_CELL_HOME";
const ACT: &str = "CLOISTER_CELL_ACT";

/// Not a test of its own: the process that [`kept`] starts. It ends itself, since the test runner
/// around it has threads and needs calls that the cell does not have.
#[test]
fn prisoner() {
    let (Some(home), Ok(act)) = (std::env::var_os(HOME), std::env::var(ACT)) else { return };
    let home = PathBuf::from(home);
    if act == "landlock alone" {
        behind_landlock(&home);
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("ended");
    }
    let mut file = File::open(home.join("artefact")).expect("opened");
    let (connection, _other) = UnixStream::pair().expect("a pair");
    let mut out = File::create(home.join("other")).expect("made");
    let outside = outside();
    let (mut silent, _speaks) = io::pipe().expect("a pipe");
    let cell = Cell {
        memory_bytes: 4 << 30,
        seconds: if act == "compute" { 1 } else { 30 },
        clock_seconds: if act == "sleep" { 1 } else { 60 },
    };
    let fence = cell.shut(connection.as_raw_fd()).expect("shut");
    match act.as_str() {
        "work" => {
            let mut content = vec![0; 7];
            file.read_exact(&mut content).expect("read");
            let many = vec![content; 100_000];
            (&connection).write_all(many.concat().get(..4).expect("longer")).expect("answered");
        }
        "compute" => loop {
            std::hint::spin_loop();
        },
        "sleep" => drop(silent.read(&mut [0])),
        "wait" => {
            io::stderr().write_all(b"shut").expect("told");
            drop(io::stdin().read(&mut [0]));
        }
        "grow" => {
            let mut all = Vec::new();
            loop {
                all.push(vec![1u8; 64 << 20]);
            }
        }
        // No system call is missing for it; only Landlock stands there.
        "abstract" if fence == "full" => assert!(!outside.reached(), "an abstract socket"),
        "abstract" => {}
        "open" => drop(File::open(home.join("artefact"))),
        "write" => out.write_all(b"x").expect("written"),
        "write in pieces" => drop(out.write_vectored(&[IoSlice::new(b"x"), IoSlice::new(b"y")])),
        "socket" => drop(UnixStream::pair()),
        "thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "execute" => drop(Command::new("/bin/true").status()),
        "later" => alarm::set(1000).map_or((), drop),
        other => panic!("no act is called {other}"),
    }
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).expect("ended");
}

/// A socket that somebody outside of the cell listens on, and one to reach it by.
struct Outside {
    _listens: UnixDatagram,
    name: SocketAddr,
    sends: UnixDatagram,
}

fn outside() -> Outside {
    let name = format!("cloister-cell-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).expect("a name");
    let _listens = UnixDatagram::bind_addr(&name).expect("bound");
    Outside { _listens, name, sends: UnixDatagram::unbound().expect("a socket") }
}

impl Outside {
    fn reached(&self) -> bool {
        self.sends.send_to_addr(b"x", &self.name).is_ok()
    }
}

/// What Landlock refuses without the help of the other fences.
fn behind_landlock(home: &Path) {
    let outside = outside();
    let others = nix::unistd::getppid();
    nix::sys::signal::kill(others, None).expect("may be signalled");
    let status = landlock().expect("shut");
    if status != RulesetStatus::FullyEnforced {
        return;
    }
    assert!(File::open(home.join("artefact")).is_err(), "a file");
    assert!(File::create(home.join("new")).is_err(), "a new file");
    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "a port");
    assert!(!outside.reached(), "an abstract socket");
    nix::sys::signal::kill(others, None).expect_err("no signal");
}

fn prisoner_of(home: &Path, act: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args(["--exact", "cell::tests::prisoner", "--test-threads=1", "--nocapture"])
        .env(HOME, home)
        .env(ACT, act)
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::null());
    command
}

/// How the prisoner ended; one that does not end by itself is killed after a while.
fn kept(home: &Path, act: &str) -> ExitStatus {
    let mut child = prisoner_of(home, act).stderr(Stdio::null()).spawn().expect("started");
    let since = Stopwatch::start();
    while since.elapsed() < Duration::from_secs(60) {
        if let Some(ended) = child.try_wait().expect("a child") {
            return ended;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended")
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("artefact"), "weights").expect("written");
    home
}

#[test]
fn it_reads_computes_and_answers_and_anything_else_ends_it() {
    let home = home();
    for act in ["work", "abstract"] {
        let ended = kept(home.path(), act);
        assert_eq!(ended.signal(), Some(libc::SIGKILL), "it ended itself: {act}");
    }
    for act in ["open", "write", "write in pieces", "socket", "thread", "execute", "later"] {
        assert_eq!(kept(home.path(), act).signal(), Some(libc::SIGSYS), "{act}");
    }
    assert_eq!(kept(home.path(), "grow").signal(), Some(libc::SIGABRT));
    assert_eq!(std::fs::metadata(home.path().join("other")).expect("there").len(), 0);
}

#[test]
fn its_time_runs_out_whether_it_computes_or_waits() {
    let home = home();
    assert_eq!(kept(home.path(), "compute").signal(), Some(libc::SIGKILL));
    assert_eq!(kept(home.path(), "sleep").signal(), Some(libc::SIGALRM));
}

#[test]
fn the_kernel_was_told_each_limit() {
    let home = home();
    let limits = limits_once_shut(prisoner_of(home.path(), "wait"));
    assert_eq!(limits["Max address space"], (4u64 << 30).to_string());
    assert_eq!(limits["Max cpu time"], "30");
    assert_eq!(limits["Max processes"], "0");
}

#[test]
fn landlock_holds_by_itself() {
    let home = home();
    assert_eq!(kept(home.path(), "landlock alone").signal(), Some(libc::SIGKILL));
    assert!(!home.path().join("new").exists());
}

#[test]
fn calls_pass_with_the_arguments_that_are_needed_and_no_others() {
    let program = filter(7).expect("a filter");
    let bits = |flags: i32| u64::from(flags.unsigned_abs());
    let map = |protection, flags| [0, 4096, bits(protection), bits(flags), u64::MAX, 0];
    let (own, data) = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, libc::PROT_READ | libc::PROT_WRITE);
    for (call, arguments, allowed) in [
        (libc::SYS_read, [3, 0, 0, 0, 0, 0], true),
        (libc::SYS_openat, [0; 6], false),
        (libc::SYS_socket, [bits(libc::AF_UNIX), 1, 0, 0, 0, 0], false),
        (libc::SYS_write, [7, 0, 1, 0, 0, 0], true),
        (libc::SYS_write, [2, 0, 1, 0, 0, 0], true),
        (libc::SYS_write, [3, 0, 1, 0, 0, 0], false),
        (libc::SYS_write, [7 | 1 << 32, 0, 1, 0, 0, 0], false),
        (libc::SYS_writev, [2, 0, 1, 0, 0, 0], true),
        (libc::SYS_writev, [7, 0, 1, 0, 0, 0], false),
        (libc::SYS_fcntl, [3, bits(libc::F_GETFD), 0, 0, 0, 0], true),
        (libc::SYS_fcntl, [3, bits(libc::F_SETFD), 0, 0, 0, 0], false),
        (libc::SYS_fcntl, [3, bits(libc::F_SETFL), 0, 0, 0, 0], false),
        (libc::SYS_mmap, map(data, own), true),
        (libc::SYS_mmap, map(data, libc::MAP_PRIVATE), false),
        (libc::SYS_mmap, map(data | libc::PROT_EXEC, own), false),
        (libc::SYS_mprotect, [0, 4096, bits(data), 0, 0, 0], true),
        (libc::SYS_mprotect, [0, 4096, bits(libc::PROT_EXEC), 0, 0, 0], false),
    ] {
        assert_eq!(passes(&program, call, arguments), allowed, "{call} {arguments:?}");
    }
}
