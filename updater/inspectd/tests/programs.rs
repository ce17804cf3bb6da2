//! The two programs as they are: each started for one connection, caged, asked about one file.
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
fn an_artefact_is_judged_and_the_process_ends_well() {
    let home = tempfile::tempdir().unwrap();
    for (name, content, expected) in [
        ("a.txt", &b"Pumps."[..], "text"),
        ("model.gguf", b"\x80\x02cos\nsystem\n.", "inspect.pickle"),
        ("config.json", b"{}", "json"),
    ] {
        let path = home.path().join(name);
        fs::write(&path, content).unwrap();
        let (mut child, connection) = start(INSPECTD, home.path(), "");
        let file = File::open(&path).unwrap();
        let answer: Answer = ask(&connection, &question(name), file.as_fd(), 30).unwrap();
        assert!(answer.peak_bytes.0 > 0, "it knows its own size");
        let said = match answer.verdict {
            Ok(accepted) => accepted.kind.name().to_owned(),
            Err(problem) => problem.code,
        };
        assert_eq!(said, expected);
        assert!(child.wait().unwrap().success(), "{name}");
    }
}

#[test]
fn the_process_runs_when_nobody_else_does() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a.txt");
    fs::write(&path, "Pumps.").unwrap();
    let (mut child, connection) = start(INSPECTD, home.path(), "");
    let file = File::open(&path).unwrap();
    ask::<_, Answer>(&connection, &question("a.txt"), file.as_fd(), 30).unwrap();
    // It may have ended, and is known to the kernel until it is waited for. The 41st word is the
    // policy (proc_pid_stat(5)); the second, in brackets, is the program.
    let about =
        files::read_limited(Path::new(&format!("/proc/{}/stat", child.id())), 4096).unwrap();
    let about = String::from_utf8(about).unwrap();
    let words: Vec<&str> = about.rsplit_once(')').unwrap().1.split_whitespace().collect();
    assert_eq!(words[38], "5", "SCHED_IDLE");
    assert!(child.wait().unwrap().success());
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
    let (mut child, connection) = start(INSPECTD, home.path(), "");
    let asked = thread::scope(|scope| {
        scope.spawn(|| {
            thread::park_timeout(Duration::from_millis(150));
            child.kill().unwrap();
        });
        ask::<_, Answer>(&connection, &question("long.safetensors"), file.as_fd(), 60)
    });
    assert_eq!(asked.unwrap_err().code(), "inspect.crashed");
    child.wait().unwrap();
    // A folder is no artefact, and a process that is gone was never asked.
    let (mut child, connection) = start(INSPECTD, home.path(), "");
    child.kill().unwrap();
    child.wait().unwrap();
    let asked = ask::<_, Answer>(&connection, &question("x.txt"), file.as_fd(), 60);
    assert!(matches!(asked, Err(AskError::Start(_))));
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

#[test]
fn an_inspector_is_shut_in_before_it_looks() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("long.safetensors");
    long_weights(&path);
    let file = File::open(&path).unwrap();
    let (mut child, connection) = start(INSPECTD, home.path(), "");
    connection.write(&question("long.safetensors")).unwrap();
    connection.pass(file.as_fd()).unwrap();
    assert_eq!(connection.expect::<Started>().unwrap(), Started::Started);
    let filter = about(child.id(), "status", "Seccomp:");
    let memory = about(child.id(), "limits", "Max address space");
    let cores = about(child.id(), "limits", "Max core file size");
    let time = about(child.id(), "limits", "Max cpu time");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(filter, ["2"], "a filter of system calls");
    assert_eq!(memory[..2], [(768 << 20).to_string(), (768 << 20).to_string()]);
    assert_eq!(cores[..2], ["0", "0"]);
    // Half a minute, and a second for every 32 MiB of the 4 GiB.
    assert_eq!(time[..2], ["158", "158"]);
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
