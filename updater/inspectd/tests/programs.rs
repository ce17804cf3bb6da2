//! The two programs as they are: each started for one connection; what is asked about a file is caged.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom},
    net::TcpListener,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use cloister_daemon::{
    Connection,
    caged::{AskError, ask},
    files,
};
use cloister_domain::Coded as _;
use cloister_wire::{
    inspect::{Answer, Question, Started},
    supply::Scan,
};

const INSPECTD: &str = env!("CARGO_BIN_EXE_cloister-inspectd");
const SCAND: &str = env!("CARGO_BIN_EXE_cloister-scand");

/// The test file of the European Institute for Computer Antivirus Research, in two pieces, so that no
/// scanner stumbles over this one.
const EICAR: [&str; 2] =
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}", r"$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"];

fn start(program: &str, home: &Path, config: &str) -> (Child, Connection) {
    let path = home.join("config.toml");
    fs::write(&path, config).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    let child = Command::new(program)
        .arg("--config")
        .arg(&path)
        .stdin(OwnedFd::from(there))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, Connection::over(here).unwrap())
}

fn question(name: &str) -> Question {
    Question { name: name.to_owned() }
}

#[test]
fn artefacts_are_judged_one_after_the_other_and_the_program_ends_well() {
    let home = tempfile::tempdir().unwrap();
    let (mut child, line) = start(INSPECTD, home.path(), "");
    for (name, content, expected) in [
        ("a.txt", &b"Pumps."[..], "text"),
        ("model.gguf", b"\x80\x02cos\nsystem\n.", "inspect.pickle"),
        ("config.json", b"{}", "json"),
    ] {
        let path = home.path().join(name);
        fs::write(&path, content).unwrap();
        let file = File::open(&path).unwrap();
        let conversation = line.open_conversation().unwrap();
        let answer: Answer = ask(&conversation, &question(name), file.as_fd(), 30).unwrap();
        assert!(answer.peak_bytes.0 > 0, "it knows its own size");
        let said = match answer.verdict {
            Ok(accepted) => accepted.kind.name().to_owned(),
            Err(problem) => problem.code,
        };
        assert_eq!(said, expected);
    }
    drop(line);
    assert!(child.wait().unwrap().success());
}

/// The process that `child` started for the conversation that it has now, once it looks at its file.
fn born(child: &Child) -> u32 {
    let id = child.id();
    let read = |path: &str| {
        let bytes = files::read_limited(Path::new(path), 4096).ok()?;
        String::from_utf8(bytes).ok()
    };
    for _patience in 0..6_000 {
        let born = read(&format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        // One that ended may not have been waited for yet.
        for born in born.split_whitespace() {
            let stat = read(&format!("/proc/{born}/stat")).unwrap_or_default();
            let mut fields = stat.split(' ').skip(2);
            let ended = fields.next() == Some("Z");
            // utime (proc_pid_stat(5)): ticks that starting and shutting itself in do not take.
            let ticks = fields.nth(10).and_then(|ticks| ticks.parse::<u64>().ok());
            if !ended && ticks >= Some(5) {
                return born.parse().unwrap();
            }
        }
        thread::park_timeout(Duration::from_millis(5));
    }
    panic!("no process looks at the file")
}

/// A file with one tensor of 4 GiB, of which the disk holds only the header.
fn long_weights(path: &Path) {
    let header = r#"{"a":{"dtype":"F32","shape":[16384,65536],"data_offsets":[0,4294967296]}}"#;
    let header = format!("{header:<80}");
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
        .unwrap();
    File::options().write(true).open(path).unwrap().set_len(88 + (4 << 30)).unwrap();
}

#[test]
fn a_process_that_is_killed_over_a_file_and_one_without_a_file_are_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("long.safetensors");
    long_weights(&path);
    let file = File::open(&path).unwrap();
    let about = question("long.safetensors");
    let (mut child, line) = start(INSPECTD, home.path(), "");
    let asked_while = |act: &mut (dyn FnMut() + Send)| {
        let conversation = line.open_conversation().unwrap();
        thread::scope(|scope| {
            scope.spawn(act);
            ask::<_, Answer>(&conversation, &about, file.as_fd(), 60)
        })
    };
    let mut killed = 0;
    let asked = asked_while(&mut || {
        killed = born(&child);
        kill(killed);
    });
    assert_eq!(asked.unwrap_err().code(), "inspect.crashed");
    // The others are judged as if nothing had been.
    let good = home.path().join("a.txt");
    fs::write(&good, "Pumps.").unwrap();
    let conversation = line.open_conversation().unwrap();
    let good = File::open(&good).unwrap();
    let answer: Answer = ask(&conversation, &question("a.txt"), good.as_fd(), 30).unwrap();
    assert!(answer.verdict.is_ok());
    // Who looks at a file ends with the program that started it.
    let asked = asked_while(&mut || {
        killed = born(&child);
        child.kill().unwrap();
    });
    assert_eq!(asked.unwrap_err().code(), "inspect.crashed");
    child.wait().unwrap();
    assert!(!Path::new(&format!("/proc/{killed}/fd/0")).exists(), "nobody is left behind");
    // A program that is gone was never asked.
    let conversation = line.open_conversation();
    let asked = conversation
        .map_err(AskError::Start)
        .and_then(|conversation| ask::<_, Answer>(&conversation, &about, file.as_fd(), 60));
    assert!(matches!(asked, Err(AskError::Start(_))));
}

fn kill(pid: u32) {
    use nix::{sys::signal, unistd::Pid};
    signal::kill(Pid::from_raw(pid.try_into().unwrap()), signal::Signal::SIGKILL).unwrap();
}

#[test]
fn a_wrong_user_is_turned_away() {
    // Root may always ask, so somebody else must be seen to be refused, whom only root can become.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = home.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let stranger = "import socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.shutdown(socket.SHUT_WR)
sys.stdout.buffer.write(peer.makefile('rb').read())";
    let nobody = 65_534;
    let stranger = Command::new("python3")
        .args(["-c", stranger])
        .arg(&path)
        .uid(nobody)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (connection, _address) = listener.accept().unwrap();
    let config = home.path().join("config.toml");
    fs::write(&config, "").unwrap();
    let status = Command::new(INSPECTD)
        .arg("--config")
        .arg(&config)
        .stdin(OwnedFd::from(connection))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    let told = stranger.wait_with_output().unwrap().stdout;
    assert!(String::from_utf8_lossy(&told).contains("daemon.peer"), "{told:?}");
}

/// What the kernel says about a process, by the first word of its line.
fn about(pid: u32, file: &str, line: &str) -> Vec<String> {
    let text = files::read_limited(&Path::new("/proc").join(pid.to_string()).join(file), 64 << 10);
    let text = String::from_utf8(text.unwrap()).unwrap();
    let line = text.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    line.split_whitespace().map(str::to_owned).collect()
}

/// A program, the connection to it, and the conversation with the process that looks at 4 GiB just now.
fn looking() -> (Child, Connection, Connection) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("long.safetensors");
    long_weights(&path);
    let file = File::open(&path).unwrap();
    let (child, line) = start(INSPECTD, home.path(), "");
    let connection = line.open_conversation().unwrap();
    connection.write(&question("long.safetensors")).unwrap();
    connection.pass(file.as_fd()).unwrap();
    assert_eq!(connection.expect::<Started>().unwrap(), Started::Started);
    (child, line, connection)
}

#[test]
fn an_inspector_is_shut_in_before_it_looks() {
    let (mut child, _line, _connection) = looking();
    let pid = born(&child);
    let filter = about(pid, "status", "Seccomp:");
    let memory = about(pid, "limits", "Max address space");
    let cores = about(pid, "limits", "Max core file size");
    let time = about(pid, "limits", "Max cpu time");
    // The second word, in brackets, is the program; the 41st is the policy (proc_pid_stat(5)).
    let policy = about(pid, "stat", "").split_off(40);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(filter, ["2"], "a filter of system calls");
    assert_eq!(memory[..2], [(768 << 20).to_string(), (768 << 20).to_string()]);
    assert_eq!(cores[..2], ["0", "0"]);
    // Half a minute, and a second for every 32 MiB of the 4 GiB.
    assert_eq!(time[..2], ["158", "158"]);
    assert_eq!(policy[0], "5", "SCHED_IDLE: it runs when nobody else does");
}

#[test]
fn who_looks_at_a_file_ends_when_nobody_waits_for_the_answer() {
    let (mut child, line, connection) = looking();
    drop(line);
    assert!(child.wait().unwrap().success());
    assert!(connection.read::<Answer>().unwrap().is_none(), "it did not come to an answer");
}

#[test]
fn who_looks_at_a_file_holds_nothing_else() {
    let (mut child, _line, _connection) = looking();
    let folder = format!("/proc/{}/fd", born(&child));
    let held = fs::read_dir(folder).unwrap().map(|entry| {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        target.to_string_lossy().split(':').next().unwrap().to_owned()
    });
    let mut held: Vec<String> = held.collect();
    held.sort();
    child.kill().unwrap();
    child.wait().unwrap();
    let sockets = held.iter().filter(|name| *name == "socket").count();
    let journal = usize::from(Path::new("/run/systemd/journal/socket").exists());
    assert!((1..=1 + journal).contains(&sockets), "its own conversation: {held:?}");
}

/// What the scanner in `script` says about `content`.
fn scanned(home: &Path, script: &str, content: &[u8]) -> Scan {
    let program = home.join("scanner");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    scanned_by(home, &program, content)
}

fn scanned_by(home: &Path, program: &Path, content: &[u8]) -> Scan {
    let path = home.join("artefact");
    fs::write(&path, content).unwrap();
    let config = format!(
        "[update]\nscanner = [{program:?}]\nscanner_s = 20\nscanner_memory_bytes = 1073741824\n"
    );
    let (mut child, connection) = start(SCAND, home, &config);
    let mut file = File::open(&path).unwrap();
    // Where somebody stopped who read it before.
    file.seek(SeekFrom::End(0)).unwrap();
    let scan = ask(&connection, &question("artefact"), file.as_fd(), 30).unwrap();
    assert!(child.wait().unwrap().success());
    scan
}

#[test]
fn a_scanner_gets_the_file_on_a_descriptor_and_says_what_it_found() {
    let home = tempfile::tempdir().unwrap();
    let finds = "#!/bin/sh\nif grep -q STANDARD-ANTIVIRUS <&\"$1\"; then exit 1; fi\n";
    let virus = EICAR.concat();
    assert_eq!(scanned(home.path(), finds, b"Pumps."), Scan::Clean);
    assert_eq!(scanned(home.path(), finds, virus.as_bytes()), Scan::Infected);
    assert_eq!(scanned(home.path(), "#!/bin/sh\nexit 2\n", b"x"), Scan::Failed);
    assert_eq!(scanned(home.path(), "no program", b"x"), Scan::Failed);
    let outside = Path::new(env!("CARGO_TARGET_TMPDIR")).join("written-by-a-scanner");
    // Left by a run in which a scanner could.
    if outside.exists() {
        fs::remove_file(&outside).unwrap();
    }
    let writes = format!("#!/bin/sh\necho x > {}\n", outside.display());
    assert_ne!(scanned(home.path(), &writes, b"x"), Scan::Clean, "it may not write there");
    assert!(!outside.exists());
}

#[test]
fn a_scanner_runs_in_a_pen() {
    let home = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap();
    port.set_nonblocking(true).unwrap();
    let number = port.local_addr().unwrap().port();
    // Each ends with 0 where it stands in the pen, and with 2 where it does not.
    for (what, script) in [
        ("memory", "[ \"$(ulimit -v)\" = 1048576 ] || exit 2".to_owned()),
        ("processor time", "[ \"$(ulimit -t)\" = 20 ] || exit 2".to_owned()),
        ("input", "[ \"$(readlink /proc/self/fd/0)\" = /dev/null ] || exit 2".to_owned()),
        ("signals", format!("! kill -0 {} 2>/dev/null || exit 2", std::process::id())),
        ("ports", format!("! (exec 3<>/dev/tcp/127.0.0.1/{number}) 2>/dev/null || exit 2")),
        ("temporary files", "echo x > \"$(mktemp)\" || exit 2".to_owned()),
    ] {
        let scan = scanned(home.path(), &format!("#!/bin/bash\n{script}\nexit 0\n"), b"x");
        assert_eq!(scan, Scan::Clean, "{what}");
    }
    assert!(port.accept().is_err(), "nobody came");
}

#[test]
fn a_scanner_that_takes_too_long_is_ended() {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("scanner");
    fs::write(&program, "#!/bin/sh\nexec sleep 100\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!("[update]\nscanner = [{program:?}]\nscanner_s = 1\n");
    let (mut child, connection) = start(SCAND, home.path(), &config);
    let file = File::open(&program).unwrap();
    let scan: Scan = ask(&connection, &question("x"), file.as_fd(), 30).unwrap();
    assert_eq!(scan, Scan::Failed);
    assert!(child.wait().unwrap().success());
}

#[test]
fn clamav_finds_its_test_file_by_a_signature_of_our_own() {
    let installed = Command::new("clamscan").arg("--version").stdout(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        // The message of a test that passes is shown with --nocapture only.
        use std::io::Write as _;
        writeln!(std::io::stderr(), "skipped: clamscan is not installed").unwrap();
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let hex: String = EICAR.concat().bytes().map(|byte| format!("{byte:02x}")).collect();
    let signatures = home.path().join("local.ndb");
    fs::write(&signatures, format!("Local.Eicar:0:*:{hex}\n")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/scan/clamav");
    let program = home.path().join("scan");
    let text = format!(
        "#!/bin/sh\nCLAMAV_DATABASE={} exec {} \"$@\"\n",
        signatures.display(),
        script.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(scanned_by(home.path(), &program, b"Pumps."), Scan::Clean);
    assert_eq!(scanned_by(home.path(), &program, EICAR.concat().as_bytes()), Scan::Infected);
}
