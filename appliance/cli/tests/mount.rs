//! `cloister import DEVICE` that does not come to its end: whatever ends it, the stick is let go. Real
//! loop devices and mounts, so as root only; intaked's socket is the test's, which reads the stick as
//! intaked does and says nothing.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs::{self, File},
    io::Read as _,
    net::Shutdown,
    os::{
        fd::AsFd as _,
        unix::{
            net::{UnixListener, UnixStream},
            process::ExitStatusExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How a shell starts the command that it is given: heeding signals, also where whoever runs the tests
/// ignores some.
const PLAINLY: &str = "exec env --default-signal=HUP,INT,TERM \"$@\"";
/// As `nohup` does.
const WITHOUT_HANGUP: &str = "trap '' HUP; exec env --default-signal=TERM \"$@\"";
/// One that is expected to end by itself.
const FOR_A_WHILE: &str = "exec timeout 20 \"$@\"";

/// A stick with one file on ext4, and an appliance whose intaked listens.
struct Desk {
    scratch: tempfile::TempDir,
    device: PathBuf,
    intaked: UnixListener,
}

impl Desk {
    /// `None` where this machine gives no loop device, or to this user none.
    fn new() -> Option<Self> {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        let (files, image) = (path("files"), path("image"));
        fs::create_dir(&files).unwrap();
        fs::create_dir(path("run")).unwrap();
        fs::write(files.join("a.clb"), "volume").unwrap();
        File::create(&image).and_then(|file| file.set_len(8 << 20)).unwrap();
        let made =
            Command::new("/sbin/mkfs.ext4").args(["-q", "-d"]).arg(&files).arg(&image).status();
        assert!(made.is_ok_and(|status| status.success()));
        let config = format!("[paths]\nruntime = \"{}\"\n", path("run").display());
        fs::write(path("cloister.toml"), config).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&image).output().ok()?;
        let device = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        let root = nix::unistd::geteuid().is_root();
        if !made.status.success() || !root {
            return None;
        }
        // The kernel remembers what an earlier test said about a device of this name.
        let set = Command::new("/sbin/blockdev").arg("--setrw").arg(&device).status();
        assert!(set.unwrap().success());
        let intaked = UnixListener::bind(path("run/intaked.sock")).unwrap();
        Some(Self { scratch, device, intaked })
    }

    fn folder(&self) -> PathBuf {
        self.scratch.path().join("run/media").join(self.device.file_name().unwrap())
    }

    fn command(&self, start: &str, words: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", start, "sh"])
            .arg(env!("CARGO_BIN_EXE_cloister"))
            .arg("--config")
            .arg(self.scratch.path().join("cloister.toml"))
            .args(words)
            .arg(&self.device)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// An import that has mounted the stick and waits for intaked.
    fn import(&self, start: &str) -> Import {
        let child = self.command(start, &["import", "--inspect"]).spawn().unwrap();
        let mut wanted = [PollFd::new(self.intaked.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut wanted, 20_000u16), Ok(1), "it does not come to intaked");
        let (intaked, _) = self.intaked.accept().unwrap();
        Import { child, intaked }
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(FOR_A_WHILE, words).output().unwrap()
    }

    /// What the command says that is refused, or cannot be done.
    fn complaint(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    /// How many mounts lie at the stick's folder.
    fn mounts(&self) -> usize {
        let table =
            cloister_daemon::files::read_limited(Path::new("/proc/self/mountinfo"), 1 << 20);
        let table = String::from_utf8(table.unwrap()).unwrap();
        let place = self.folder().display().to_string();
        table.lines().filter(|line| line.split(' ').nth(4) == Some(place.as_str())).count()
    }

    fn file(&self) -> File {
        File::open(self.folder().join("a.clb")).unwrap()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // What a failed test left mounted.
        while self.mounts() > 0 {
            let gone = Command::new("umount").arg("--lazy").arg(self.folder()).status();
            assert!(gone.unwrap().success());
        }
        let gone = Command::new("losetup").arg("--detach").arg(&self.device).status();
        assert!(gone.unwrap().success());
    }
}

/// A command, and intaked's end of its conversation.
struct Import {
    child: Child,
    intaked: UnixStream,
}

impl Import {
    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Whether it hangs up, and so is at its end, within `deadline`.
    fn ends_within(&mut self, deadline: Duration) -> bool {
        self.intaked.set_read_timeout(Some(deadline)).unwrap();
        let mut request = Vec::new();
        self.intaked.read_to_end(&mut request).is_ok()
    }

    /// The signal that ended it.
    fn ended_by(&mut self) -> Option<i32> {
        assert!(self.ends_within(Duration::from_secs(20)), "it goes on");
        self.child.wait().unwrap().signal()
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        // What a failed test left running.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn a_signal_that_ends_an_import_lets_the_stick_go_even_while_it_is_read() {
    let Some(desk) = Desk::new() else { return };
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let mut import = desk.import(PLAINLY);
        assert_eq!(desk.mounts(), 1, "before {signal}");
        // intaked may be in the middle of a file when the command ends.
        let _read_meanwhile = desk.file();
        import.send(signal);
        assert_eq!(import.ended_by(), Some(signal as i32));
        assert_eq!(desk.mounts(), 0, "after {signal}");
        assert!(!desk.folder().exists(), "after {signal}");
    }
}

#[test]
fn what_a_killed_import_left_is_let_go_by_the_next_command() {
    let Some(desk) = Desk::new() else { return };
    let killed = || {
        let mut import = desk.import(PLAINLY);
        let read_meanwhile = desk.file();
        import.send(Signal::SIGKILL);
        assert_eq!(import.ended_by(), Some(Signal::SIGKILL as i32));
        assert_eq!(desk.mounts(), 1, "nobody could let it go");
        read_meanwhile
    };
    let _still_read = killed();
    let mut import = desk.import(PLAINLY);
    assert_eq!(desk.mounts(), 1, "mounted anew, not on top");
    assert_eq!(desk.file().metadata().unwrap().len(), 6);
    // intaked hangs up, so the import fails; the stick is let go then too.
    import.intaked.shutdown(Shutdown::Both).unwrap();
    assert_eq!(import.child.wait().unwrap().code(), Some(1));
    assert_eq!(desk.mounts(), 0);
    let _still_read = killed();
    let closed = desk.run(&["medium", "close"]);
    assert!(closed.status.success(), "{closed:?}");
    assert_eq!(desk.mounts(), 0);
}

#[test]
fn a_stick_that_is_in_use_is_nobody_elses() {
    let Some(desk) = Desk::new() else { return };
    let mut import = desk.import(PLAINLY);
    for words in [&["import", "--inspect"][..], &["medium", "open"], &["medium", "close"]] {
        let said = desk.complaint(words);
        assert!(said.contains("[medium.busy]"), "{words:?}: {said}");
        assert_eq!(desk.mounts(), 1, "{words:?}");
    }
    import.send(Signal::SIGTERM);
    assert_eq!(import.ended_by(), Some(Signal::SIGTERM as i32));
    // What an operator opened stays until it is closed, and whoever imports is told how.
    assert!(desk.run(&["medium", "open"]).status.success());
    for words in [&["import", "--inspect"][..], &["medium", "open"]] {
        let said = desk.complaint(words);
        let cure = format!("`cloister medium close {}`", desk.device.display());
        assert!(said.contains(&cure) && said.contains("[medium.device]"), "{words:?}: {said}");
        assert_eq!(desk.mounts(), 1, "{words:?}");
    }
    assert!(desk.run(&["medium", "close"]).status.success());
    assert_eq!(desk.mounts(), 0);
}

#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let Some(desk) = Desk::new() else { return };
    let mut import = desk.import(WITHOUT_HANGUP);
    import.send(Signal::SIGHUP);
    assert!(!import.ends_within(Duration::from_millis(300)));
    assert_eq!(desk.mounts(), 1);
    import.send(Signal::SIGTERM);
    assert_eq!(import.ended_by(), Some(Signal::SIGTERM as i32));
    assert_eq!(desk.mounts(), 0);
}
