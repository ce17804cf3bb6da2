//! intaked between a client, a medium and updaterd.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

mod damaged;
mod journal;
mod support;
mod volumes;

use std::{fs, io::Read as _, path::Path, sync::Barrier, thread};

use cloister_bundle::handover::Plan;
use cloister_config::{Config, Role};
use cloister_daemon::{Connection, Daemon, Limits};
use cloister_domain::Sensitive;
use cloister_wire::intake::{Event, Request};
use support::{Release, Told, Updaterd, threshold};

/// Stops daemons when a test ends, however it ends.
struct Stopping<'a>([&'a Daemon; 2]);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|daemon| daemon.stop().set());
    }
}

/// Runs intaked and `updaterd` in `folder` while `client` acts.
fn with_daemons(folder: &Path, updaterd: &Updaterd<'_>, client: impl FnOnce(&Config)) {
    let mut text = format!(
        "[paths]\nstate = \"{0}/state\"\nruntime = \"{0}/run\"\n[update]\nreserve_bytes = 0\n",
        folder.display()
    );
    let identity = folder.join("identity");
    if identity.exists() {
        text.push_str(&format!("unsealing_key = \"{}\"\n", identity.display()));
    }
    let config = Config::parse(&text).unwrap();
    fs::create_dir_all(config.paths.quarantine()).unwrap();
    let intaked = Daemon::embedded(Role::Intaked, None, config.clone()).unwrap();
    let other = Daemon::embedded(Role::Updaterd, None, config.clone()).unwrap();
    let listener = other.listener().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let limits = Limits { connections_max: 8 };
            other.serve(listener, limits, |intaked| updaterd.converse(&config, &intaked)).unwrap();
        });
        scope.spawn(|| cloister_intaked::run(&intaked).unwrap());
        let _stopping = Stopping([&intaked, &other]);
        client(&config);
    });
}

fn connect(config: &Config) -> Connection {
    let socket = config.paths.socket(Role::Intaked);
    loop {
        match Connection::connect(&socket) {
            Ok(connection) => return connection,
            Err(_not_yet) => thread::yield_now(),
        }
    }
}

fn path(path: &Path) -> Sensitive<String> {
    Sensitive::new(path.to_str().unwrap().to_owned())
}

/// Imports and gives all events.
fn import(config: &Config, medium: &Path) -> Vec<Event> {
    ask(config, &Request::Import { path: path(medium), into: None })
}

/// Asks and gives all events.
fn ask(config: &Config, request: &Request) -> Vec<Event> {
    let client = connect(config);
    client.write(request).unwrap();
    let mut events = Vec::new();
    loop {
        let event: Event = client.expect().unwrap();
        let last = matches!(
            event,
            Event::Received { .. } | Event::Problem(_) | Event::Inspected | Event::Checked { .. }
        );
        events.push(event);
        if last {
            return events;
        }
    }
}

fn code(events: &[Event]) -> &str {
    match events.last() {
        Some(Event::Problem(problem)) => &problem.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_stick_is_copied_by_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let stick = folder.path().join("stick");
    fs::create_dir(&stick).unwrap();
    let release = Release::of("some words ");
    fs::write(stick.join("test-1.v0001.clb"), release.volume()).unwrap();
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let events = import(config, &stick);
        assert!(matches!(events[..2], [Event::Medium(_), Event::Seen(_)]), "{events:?}");
        assert!(matches!(events.last(), Some(Event::Received { .. })), "{events:?}");
        for (number, content) in release.files.iter().enumerate() {
            let part = config.paths.quarantine().join("7").join(Plan::part_name(number));
            let mut bytes = Vec::new();
            fs::File::open(part).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(&bytes, content);
        }
        // The same again finds everything in quarantine.
        assert!(matches!(import(config, &stick).last(), Some(Event::Received { .. })));
    });
    let resumed: Vec<u64> = updaterd
        .told()
        .into_iter()
        .map(|told| match told {
            Told::Complete(complete) => complete.resumed_chunks,
            other => panic!("not complete: {other:?}"),
        })
        .collect();
    assert_eq!(resumed, [0, release.index.chunks().len() as u64]);
}

#[test]
fn what_is_wrong_with_a_volume_is_told_to_both_sides() {
    let release = Release::of("some words ");
    let good = release.volume();
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    // Before the end and the last, short chunk.
    let in_a_chunk = good.len() - 1024 - 1024 - 600;
    for (bytes, expected) in [
        (changed(in_a_chunk, b'!'), "bundle.digest"),
        // The first member as a symbolic link.
        (changed(156, b'2'), "bundle.container.header"),
        (good[..good.len() - 1].to_vec(), "bundle.container.truncated"),
        (good[..100].to_vec(), "bundle.container.truncated"),
        // Of another kind, of which nothing more than that is read.
        (Vec::new(), "bundle.container.foreign"),
        (b"\x1f\x8b\x08 and more".to_vec(), "bundle.container.foreign"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n".to_vec(), "bundle.container.foreign"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("x.clb");
        fs::write(&volume, bytes).unwrap();
        let updaterd = Updaterd::new(&release);
        with_daemons(folder.path(), &updaterd, |config| {
            assert_eq!(code(&import(config, &volume)), expected);
        });
        let abort = Told::Abort { code: expected.to_owned(), resumable: false };
        assert_eq!(updaterd.told(), [abort]);
    }
}

#[test]
fn what_updaterd_refuses_reaches_the_client_as_it_was_said() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("x.clb");
    fs::write(&volume, release.volume()).unwrap();
    let updaterd = Updaterd { refuse: Some(threshold()), ..Updaterd::new(&release) };
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(import(config, &volume)[1..], [Event::Problem(threshold())]);
        let quarantine = fs::read_dir(config.paths.quarantine()).unwrap();
        assert_eq!(quarantine.count(), 0, "nothing was copied");
    });
}

#[test]
fn looking_at_a_stick_writes_nothing() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("x.clb");
    fs::write(&volume, release.volume()).unwrap();
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let look = Request::Inspect { path: path(&volume) };
        let events = ask(config, &look);
        assert!(matches!(events[..], [Event::Medium(_), Event::Seen(_), Event::Inspected]));
        let check = Request::Check { path: path(&volume), into: None };
        let events = ask(config, &check);
        let Some(Event::Checked { missing, needed_bytes, .. }) = events.last() else {
            panic!("not checked: {events:?}");
        };
        assert_eq!((missing.chunks, needed_bytes.0), (0, release.index.plain_bytes()));
        assert_eq!(fs::read_dir(config.paths.quarantine()).unwrap().count(), 0);
    });
    assert_eq!(updaterd.told(), [Told::HungUp, Told::HungUp]);
}

#[test]
fn volumes_of_two_releases_on_one_stick_must_be_named() {
    let (one, other) = (Release::of("one "), Release::of("other "));
    let folder = tempfile::tempdir().unwrap();
    let stick = folder.path().join("stick");
    fs::create_dir(&stick).unwrap();
    fs::write(stick.join("1.clb"), one.volume()).unwrap();
    fs::write(stick.join("2.clb"), other.volume()).unwrap();
    let updaterd = Updaterd::new(&one);
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(code(&import(config, &stick)), "intake.volume.several");
    });
}

#[test]
fn one_import_runs_at_a_time() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("x.clb");
    fs::write(&volume, release.volume()).unwrap();
    let text = format!("[paths]\nstate = \"{0}/s\"\nruntime = \"{0}\"\n", folder.path().display());
    let config = Config::parse(&text).unwrap();
    let intaked = Daemon::embedded(Role::Intaked, None, config.clone()).unwrap();
    let updaterd = Daemon::embedded(Role::Updaterd, None, config.clone()).unwrap();
    let listener = updaterd.listener().unwrap();
    let (offered, refused) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            updaterd.serve(listener, Limits { connections_max: 2 }, |_intaked| {
                // The first offer lies unread until the second client was sent away.
                offered.wait();
                refused.wait();
            })
        });
        scope.spawn(|| cloister_intaked::run(&intaked));
        let _stopping = Stopping([&intaked, &updaterd]);
        let first = connect(&config);
        first.write(&Request::Import { path: path(&volume), into: None }).unwrap();
        offered.wait();
        assert_eq!(code(&import(&config, &volume)), "intake.busy");
        refused.wait();
        assert!(matches!(first.expect::<Event>().unwrap(), Event::Problem(_)));
    });
}
