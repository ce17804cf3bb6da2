//! Processes that are shut in a cage and try to get out; and each fence by itself, since one that
//! stands behind another is never touched.

use std::{
    io::{Read as _, Write as _},
    os::unix::{net::UnixStream, process::ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use super::*;
use crate::{bpf::passes, testing::limits_once_shut};

const HOME: &str = "CLOISTER_CAGE_HOME";
const ACT: &str = "CLOISTER_CAGE_ACT";

/// Not a test of its own: the process that [`caged`] starts.
#[test]
fn prisoner() {
    let (Some(home), Ok(act)) = (std::env::var_os(HOME), std::env::var(ACT)) else { return };
    let home = PathBuf::from(home);
    let cage = Cage { writes: vec![home.join("own")], memory_bytes: 4 << 30 };
    match act.as_str() {
        "uncaged" => {}
        "landlock alone" => return behind_landlock(&cage, &home),
        _ => drop(cage.enter().expect("caged")),
    }
    match act.as_str() {
        "uncaged" | "write outside" => fs::write(home.join("other"), "x").expect("written"),
        "write inside" => fs::write(home.join("own/file"), "x").expect("written"),
        "read outside" => {
            fs::read_dir(&home).expect("listed");
        }
        "remove outside" => fs::remove_file(home.join("kept")).expect("removed"),
        "wait" => {
            io::stderr().write_all(b"shut").expect("told");
            drop(io::stdin().read(&mut [0]));
        }
        "unix socket" => {
            UnixStream::pair().expect_err("a pair is no use of a daemon's");
        }
        "tcp" => {
            std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        }
        "execute" => {
            let status = Command::new("/bin/true").status();
            assert!(status.is_ok_and(|status| status.success()), "not executed");
        }
        "signal" => nix::sys::signal::kill(nix::unistd::getppid(), None).expect("signalled"),
        other => panic!("no act is called {other}"),
    }
}

/// What Landlock refuses without the help of the other fence.
fn behind_landlock(cage: &Cage, home: &Path) {
    fs::create_dir_all(home.join("own")).expect("made");
    let others = nix::unistd::getppid();
    nix::sys::signal::kill(others, None).expect("may be signalled");
    if cage.landlock().expect("shut") != RulesetStatus::FullyEnforced {
        return;
    }
    fs::write(home.join("own/file"), "x").expect("written");
    assert!(fs::write(home.join("other"), "x").is_err(), "a file outside");
    assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "a port");
    assert!(Command::new("/bin/true").status().is_err(), "a program");
    nix::sys::signal::kill(others, None).expect_err("no signal");
}

fn prisoner_of(home: &Path, act: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args(["--exact", "cage::tests::prisoner", "--test-threads=1", "--nocapture"])
        .env(HOME, home)
        .env(ACT, act)
        .stdout(Stdio::null());
    command
}

fn caged(home: &Path, act: &str) -> ExitStatus {
    prisoner_of(home, act).stderr(Stdio::null()).status().expect("started")
}

#[test]
fn what_the_daemon_needs_goes_on_and_everything_else_is_refused_or_ends_it() {
    let home = tempfile::tempdir().expect("a folder");
    fs::write(home.path().join("kept"), "x").expect("written");
    for act in ["uncaged", "write inside", "read outside"] {
        assert!(caged(home.path(), act).success(), "{act}");
    }
    fs::remove_file(home.path().join("other")).expect("the uncaged one wrote it");
    for act in ["write outside", "remove outside", "execute"] {
        assert!(!caged(home.path(), act).success(), "{act}");
    }
    assert!(!home.path().join("other").exists() && home.path().join("kept").exists());
    for act in ["tcp", "signal", "unix socket"] {
        assert_eq!(caged(home.path(), act).signal(), Some(libc::SIGSYS), "{act}");
    }
}

#[test]
fn landlock_holds_by_itself() {
    let home = tempfile::tempdir().expect("a folder");
    assert!(caged(home.path(), "landlock alone").success());
    assert!(!home.path().join("other").exists());
}

#[test]
fn the_kernel_was_told_each_limit() {
    let home = tempfile::tempdir().expect("a folder");
    let limits = limits_once_shut(prisoner_of(home.path(), "wait"));
    assert_eq!(limits["Max address space"], (4u64 << 30).to_string());
    assert_eq!(limits["Max open files"], DESCRIPTORS_MAX.to_string());
}

#[test]
fn the_one_daemon_that_reads_sticks_has_a_cage_and_only_unix_sockets() {
    let config = Config::parse("").expect("valid");
    let cage = Cage::of(Role::Intaked, &config).expect("a cage");
    assert_eq!(cage.writes, [config.paths.quarantine(), config.paths.runtime]);
    let program = filter().expect("a filter");
    let socket = |domain: i32| {
        passes(&program, libc::SYS_socket, [domain.unsigned_abs().into(), 1, 0, 0, 0, 0])
    };
    assert!(socket(libc::AF_UNIX));
    for domain in [libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET] {
        assert!(!socket(domain), "{domain}");
    }
    for call in [libc::SYS_execve, libc::SYS_ptrace, libc::SYS_kill, libc::SYS_mount] {
        assert!(!passes(&program, call, [0; 6]), "{call}");
    }
}
