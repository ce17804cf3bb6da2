//! `cloister import DEVICE` that does not come to its end: whatever ends it, the stick is let go. Real
//! loop devices and mounts, so as root only; intaked's socket is the test's, which reads the stick as
//! intaked does and says nothing.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs::{self, File},
    os::unix::{
        net::{UnixListener, UnixStream},
        process::ExitStatusExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

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

    fn command(&self, before: &str, words: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{before} exec \"$@\""), "sh"])
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

    /// An import that has mounted the stick and waits for intaked, and intaked's end of it.
    fn import(&self, before: &str) -> (Child, UnixStream) {
        let child = self.command(before, &["import", "--inspect"]).spawn().unwrap();
        let (stream, _) = self.intaked.accept().unwrap();
        (child, stream)
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command("", words).output().unwrap()
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

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_signal_that_ends_an_import_lets_the_stick_go_even_while_it_is_read() {
    let Some(desk) = Desk::new() else { return };
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        let (mut child, _stream) = desk.import("");
        assert_eq!(desk.mounts(), 1, "before {signal}");
        // intaked may be in the middle of a file when the command ends.
        let _read_meanwhile = desk.file();
        send(&child, signal);
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(signal as i32), "it ends by {signal}");
        assert_eq!(desk.mounts(), 0, "after {signal}");
        assert!(!desk.folder().exists(), "after {signal}");
    }
}

#[test]
fn what_a_killed_import_left_is_let_go_by_the_next_command() {
    let Some(desk) = Desk::new() else { return };
    let killed = || {
        let (mut child, _stream) = desk.import("");
        let read_meanwhile = desk.file();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(desk.mounts(), 1, "nobody could let it go");
        read_meanwhile
    };
    let _still_read = killed();
    let (mut child, stream) = desk.import("");
    assert_eq!(desk.mounts(), 1, "mounted anew, not on top");
    assert_eq!(desk.file().metadata().unwrap().len(), 6);
    // intaked hangs up, so the import fails; the stick is let go then too.
    drop(stream);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(desk.mounts(), 0);
    let _still_read = killed();
    let closed = desk.run(&["medium", "close"]);
    assert!(closed.status.success(), "{closed:?}");
    assert_eq!(desk.mounts(), 0);
}

#[test]
fn a_stick_that_is_in_use_is_nobody_elses() {
    let Some(desk) = Desk::new() else { return };
    let (mut child, _stream) = desk.import("");
    for words in [&["import", "--inspect"][..], &["medium", "open"], &["medium", "close"]] {
        let said = desk.complaint(words);
        assert!(said.contains("[medium.busy]"), "{words:?}: {said}");
        assert_eq!(desk.mounts(), 1, "{words:?}");
    }
    send(&child, Signal::SIGTERM);
    child.wait().unwrap();
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
    // As `nohup` starts a program.
    let (mut child, stream) = desk.import("trap '' HUP;");
    send(&child, Signal::SIGHUP);
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut request = [0; 1 << 10];
    // The request first, then nothing for a while, and no end.
    use std::io::Read as _;
    while (&stream).read(&mut request).is_ok_and(|read| read > 0) {}
    assert_eq!(desk.mounts(), 1);
    assert!(child.try_wait().unwrap().is_none(), "it goes on");
    send(&child, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(desk.mounts(), 0);
}
