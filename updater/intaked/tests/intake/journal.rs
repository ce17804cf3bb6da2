//! The real daemon under a real journald: what arrives at run time is in no entry, at debug level, on
//! success and on error; what the daemon says of itself is.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
};

use cloister_config::{Config, Role};
use cloister_daemon::{Connection, Daemon, Limits};
use cloister_domain::Sensitive;
use cloister_wire::intake::{Event, Request};

use crate::{
    Stopping,
    support::{Release, Updaterd},
};

const CANARY: &str = "CANARY5eb63bbbe01eeed0";

/// In a mount namespace: a journald of its own over an empty /run, and the daemon, until a line is
/// read; then the journal as text. Arguments: the daemon, its configuration.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nMaxLevelStore=debug\n' \
    > /run/systemd/journald.conf.d/test.conf
/lib/systemd/systemd-journald 2>/dev/null & journald=$!
tries=0
until [ -S /run/systemd/journal/socket ]; do
    tries=$((tries + 1)); [ $tries -lt 200 ]; sleep 0.05
done
"$0" --config "$1" & daemon=$!
read -r _the_test_is_done || true
kill $daemon
wait $daemon
kill $journald
wait $journald || true
journalctl -D /run/log/journal --all --no-pager -o export
"#;

/// Whether mount namespaces can be made here.
fn permitted() -> bool {
    let unshare =
        Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/run"]).status();
    unshare.is_ok_and(|status| status.success())
        && Path::new("/lib/systemd/systemd-journald").exists()
}

fn start(config: &Path) -> Child {
    Command::new("unshare")
        .args(["-m", "sh", "-c", SCRIPT, env!("CARGO_BIN_EXE_cloister-intaked")])
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn connected<T>(connect: impl Fn() -> Option<T>) -> T {
    loop {
        match connect() {
            Some(connection) => return connection,
            None => thread::yield_now(),
        }
    }
}

/// Imports `path` and waits for the last event.
fn import(config: &Config, path: &Path) -> Event {
    let socket = config.paths.socket(Role::Intaked);
    let client = connected(|| Connection::connect(&socket).ok());
    let path = Sensitive::new(path.to_str().unwrap().to_owned());
    client.write(&Request::Import { path, into: None }).unwrap();
    loop {
        let event: Event = client.expect().unwrap();
        if matches!(event, Event::Received { .. } | Event::Problem(_)) {
            return event;
        }
    }
}

#[test]
fn no_name_or_content_reaches_the_journal() {
    if !permitted() {
        let line = "skipped: no mount namespace or no journald on this machine\n";
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[paths]\nstate = \"{0}/state\"\nruntime = \"{0}/run\"\n[log]\nlevel = \"debug\"\n\
         [update]\nreserve_bytes = 0\n",
        folder.path().display()
    );
    let file = folder.path().join("cloister.toml");
    fs::write(&file, &text).unwrap();
    let config = Config::parse(&text).unwrap();
    // Names and contents of files carry the canary.
    let stick = folder.path().join(CANARY);
    fs::create_dir(&stick).unwrap();
    let release = Release::of(&format!("{CANARY} "));
    let updaterd = Updaterd::new(&release);
    let other = Daemon::embedded(Role::Updaterd, None, config.clone()).unwrap();
    let listener = other.listener().unwrap();

    let mut intaked = start(&file);
    thread::scope(|scope| {
        let _stopping = Stopping([&other, &other]);
        scope.spawn(|| {
            let limits = Limits { connections_max: 8 };
            other.serve(listener, limits, |intaked| updaterd.converse(&config, &intaked))
        });
        // Errors: no such file, an empty folder, no volume, a message of no form.
        assert!(matches!(import(&config, &stick.join("none")), Event::Problem(_)));
        assert!(matches!(import(&config, &stick), Event::Problem(_)));
        fs::write(stick.join(format!("{CANARY}.clb")), CANARY.repeat(99)).unwrap();
        assert!(matches!(import(&config, &stick), Event::Problem(_)));
        let mut raw = UnixStream::connect(config.paths.socket(Role::Intaked)).unwrap();
        let message = format!("{{\"import\":{{\"{CANARY}\":\"{CANARY}\"}}}}");
        raw.write_all(&u32::try_from(message.len()).unwrap().to_le_bytes()).unwrap();
        raw.write_all(message.as_bytes()).unwrap();
        // Success.
        fs::write(stick.join(format!("{CANARY}.clb")), release.volume()).unwrap();
        assert!(matches!(import(&config, &stick), Event::Received { .. }));
    });
    drop(intaked.stdin.take());
    let output = intaked.wait_with_output().unwrap();
    assert!(output.status.success(), "the journal could not be read");
    let journal = String::from_utf8_lossy(&output.stdout);
    // What the daemon says of itself is there, so the journal was really read.
    for control in [
        "MESSAGE=started",
        "MESSAGE=received",
        "CLOISTER_CODE=intake.open",
        "MESSAGE=a client went away",
    ] {
        assert!(journal.contains(control), "{control} is missing in {journal}");
    }
    assert!(!journal.contains(CANARY), "{journal}");
}
