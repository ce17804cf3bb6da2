//! The two programs as they are: each started for one connection, caged, asked about one file.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use cloister_daemon::{
    Connection,
    caged::{AskError, ask},
};
use cloister_domain::Coded as _;
use cloister_wire::{
    inspect::{Answer, Question},
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
            Ok(accepted) => accepted.kind,
            Err(problem) => problem.code,
        };
        assert_eq!(said, expected);
        assert!(child.wait().unwrap().success(), "{name}");
    }
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
    let home = tempfile::tempdir().unwrap();
    let own = nix::unistd::geteuid().as_raw();
    // Root may always ask, so only another user can be seen to be refused.
    if own == 0 {
        return;
    }
    let config = format!("[peers]\ninspectd = [{}]\n", own + 1);
    let (_child, connection) = start(INSPECTD, home.path(), &config);
    let file = File::open(home.path().join("config.toml")).unwrap();
    let asked = ask::<_, Answer>(&connection, &question("config.txt"), file.as_fd(), 60);
    assert!(matches!(asked, Err(AskError::Start(_))));
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
    let config = format!("[update]\nscanner = [{program:?}]\nscanner_s = 20\n");
    let (mut child, connection) = start(SCAND, home, &config);
    let file = File::open(&path).unwrap();
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
