//! A release on several sticks, and what else a stick holds.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use cloister_domain::ImportId;
use cloister_sealed::{Chance, Identity, seal};
use cloister_wire::intake::{Event, Fate, Medium, Parked, Request};

use crate::{
    ask, code, import, path,
    support::{Release, Told, Updaterd},
    with_daemons,
};

/// Writes a stick of these files.
pub(crate) fn stick(folder: &tempfile::TempDir, name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let stick = folder.path().join(name);
    fs::create_dir(&stick).unwrap();
    for (name, bytes) in files {
        fs::write(stick.join(name), bytes).unwrap();
    }
    stick
}

fn medium(events: &[Event]) -> &Medium {
    match events.first() {
        Some(Event::Medium(medium)) => medium,
        other => panic!("no medium: {other:?}"),
    }
}

#[test]
fn volumes_come_on_several_sticks_in_any_order() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let part = |number| release.part(number, 3);
    let last = stick(&folder, "last", &[("c.clb", part(3)), ("readme.txt", Vec::new())]);
    let first = stick(&folder, "first", &[("a.clb", part(1)), ("b.clb", part(2))]);
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let events = import(config, &last);
        assert_eq!(code(&events), "intake.volume.more");
        let Some(Event::Problem(problem)) = events.last() else { panic!("{events:?}") };
        assert!(problem.message.starts_with("volumes 1, 2 of 3 are still to come: "));
        assert_eq!(medium(&events).ignored.len(), 1);
        // The same stick again: nothing is read, and the same is missing.
        let events = import(config, &last);
        assert!(events.iter().any(|event| matches!(event, Event::Repeated { volume: 3, .. })));
        assert_eq!(code(&events), "intake.volume.more");
        assert!(matches!(import(config, &first).last(), Some(Event::Received { .. })));
    });
    let told = updaterd.told();
    let [Told::Parted(missing), Told::HungUp, Told::Parted(less), Told::Complete(_)] = &told[..]
    else {
        panic!("{told:?}");
    };
    assert_eq!((&missing.volumes[..], &less.volumes[..]), (&[1, 2][..], &[2][..]));
    assert!(missing.stored_bytes > less.stored_bytes && less.stored_bytes.0 > 0);
}

#[test]
fn a_damaged_volume_takes_nothing_from_what_others_brought() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let good = stick(&folder, "good", &[("a.clb", release.part(1, 2))]);
    let mut bytes = release.part(2, 2);
    let at = bytes.len() - 1024 - 1024 - 600;
    bytes[at] ^= 1;
    let bad = stick(&folder, "bad", &[("b.clb", bytes)]);
    let rest = stick(&folder, "rest", &[("b.clb", release.part(2, 2))]);
    let mut updaterd = Updaterd::new(&release);
    let generation = release.generation();
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(code(&import(config, &good)), "intake.volume.more");
    });
    updaterd.parked.push(Parked { import: ImportId(7), generation });
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(code(&import(config, &bad)), "bundle.digest");
        assert!(matches!(import(config, &rest).last(), Some(Event::Received { .. })));
    });
    let code = "bundle.digest".to_owned();
    assert_eq!(updaterd.told()[1], Told::Abort { code, resumable: true });
}

#[test]
fn a_volume_of_another_release_is_named_and_left_alone() {
    let (release, other) = (Release::of("one "), Release::of("other "));
    let folder = tempfile::tempdir().unwrap();
    let both = [("a.clb", other.volume()), ("b.clb", release.part(2, 2))];
    let both = stick(&folder, "both", &both);
    let wrong = stick(&folder, "wrong", &[("a.clb", other.volume())]);
    let waiting = Parked { import: ImportId(7), generation: release.generation() };
    let updaterd = Updaterd { parked: vec![waiting], ..Updaterd::new(&release) };
    with_daemons(folder.path(), &updaterd, |config| {
        // An import waits for one of the two, so that one is meant.
        let events = import(config, &both);
        let fates: Vec<bool> = medium(&events)
            .volumes
            .iter()
            .map(|piece| matches!(piece.fate, Fate::OtherRelease(_)))
            .collect();
        assert_eq!(fates, [true, false]);
        assert_eq!(code(&events), "intake.volume.more");
        let into = |import| Request::Import { path: path(&wrong), into: Some(ImportId(import)) };
        let events = ask(config, &into(7));
        assert_eq!(code(&events), "intake.volume.other");
        assert_eq!(medium(&events).parked, [waiting]);
        assert_eq!(code(&ask(config, &into(8))), "intake.import.not-parked");
    });
    assert!(matches!(updaterd.told()[..], [Told::Parted(_)]), "nothing else was tried");
}

#[test]
fn what_is_no_volume_is_recorded_and_the_others_are_read() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let foreign = || b"no volume at all".to_vec();
    let files = [
        ("a.clb", foreign()),
        ("b.clb", release.volume()),
        ("c.clb", foreign()),
        ("d.clb", Vec::new()),
        ("e.clb", release.volume()[..700].to_vec()),
    ];
    let stick = stick(&folder, "stick", &files);
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let events = import(config, &stick);
        assert!(matches!(medium(&events).volumes[0].fate, Fate::Refused(_)));
        assert!(matches!(events.last(), Some(Event::Received { .. })), "{events:?}");
    });
    let abort = |code: &str| Told::Abort { code: code.to_owned(), resumable: false };
    let told = updaterd.told();
    // One record for all that are refused alike.
    assert_eq!(told[..2], [abort("bundle.container.foreign"), abort("bundle.container.truncated")]);
    assert!(matches!(told[2..], [Told::Complete(_)]), "{told:?}");
}

#[test]
fn progress_says_how_fast_and_how_long() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let volume = folder.path().join("x.clb");
    fs::write(&volume, release.volume()).unwrap();
    with_daemons(folder.path(), &Updaterd::new(&release), |config| {
        let events = import(config, &volume);
        let done: Vec<(u64, u64)> = events
            .iter()
            .filter_map(|event| match event {
                Event::Progress { done_bytes, total_bytes, volume: 1, .. } => {
                    Some((done_bytes.0, total_bytes.0))
                }
                _ => None,
            })
            .collect();
        let whole = release.index.plain_bytes();
        assert_eq!(done.last(), Some(&(whole, whole)), "{events:?}");
    });
}

/// Seals `plain` for the recipient of `identity`.
fn sealed(plain: &[u8], identity: &Identity) -> Vec<u8> {
    let chance = Chance { file_key: [1; 16], nonce: [2; 16], shares: vec![[3; 32]] };
    let mut out = Vec::new();
    seal(plain, &[identity.recipient()], &chance, &mut out).unwrap();
    out
}

#[test]
fn a_sealed_volume_is_read_as_any_other_by_whom_it_is_for() {
    let release = Release::of("some words that nobody else may read ");
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Identity::from_random([7; 32]), Identity::from_random([8; 32]));
    let first = sealed(&release.part(1, 2), &ours);
    let mut changed = first.clone();
    let at = changed.len() - 2000;
    changed[at] ^= 1;
    let sticks = [
        stick(&folder, "none", &[("a.clb", first.clone())]),
        stick(&folder, "theirs", &[("a.clb", sealed(&release.volume(), &theirs))]),
        stick(&folder, "changed", &[("a.clb", changed)]),
        stick(&folder, "cut", &[("a.clb", first[..first.len() - 100].to_vec())]),
        stick(&folder, "first", &[("a.clb", first)]),
        stick(&folder, "second", &[("b.clb", release.part(2, 2))]),
    ];
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(code(&import(config, &sticks[0])), "sealed.recipient", "no key yet");
    });
    let key = folder.path().join("identity");
    fs::write(&key, ours.to_file().expose()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(code(&import(config, &sticks[0])), "credential.exposed");
    });
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    with_daemons(folder.path(), &updaterd, |config| {
        let codes = [1, 2, 3].map(|number| code(&import(config, &sticks[number])).to_owned());
        assert_eq!(codes, ["sealed.recipient", "sealed.payload", "sealed.payload"]);
        // A sealed volume and an open one complete each other.
        assert_eq!(code(&import(config, &sticks[4])), "intake.volume.more");
        assert!(matches!(import(config, &sticks[5]).last(), Some(Event::Received { .. })));
    });
}

/// What `act` comes to with a device of the bytes of `image`; `None` where this machine gives no device.
fn on_a_device<T>(image: &Path, act: impl FnOnce(&Path) -> T) -> Option<T> {
    let attach = ["--find", "--show", "--read-only"];
    let made = Command::new("losetup").args(attach).arg(image).output().ok()?;
    let device = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
    if !made.status.success() {
        return None;
    }
    let outcome = act(&device);
    assert!(Command::new("losetup").arg("--detach").arg(&device).status().unwrap().success());
    Some(outcome)
}

#[test]
fn a_sealed_volume_on_a_bare_device_is_read_to_its_end_and_no_further() {
    let release = Release::of("some words that nobody else may read ");
    let folder = tempfile::tempdir().unwrap();
    let ours = Identity::from_random([7; 32]);
    let key = folder.path().join("identity");
    fs::write(&key, ours.to_file().expose()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let good = sealed(&release.volume(), &ours);
    let mut changed = good.clone();
    let at = changed.len() - 20;
    changed[at] ^= 1;
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let import_of = |bytes: &[u8]| {
            // An earlier use of the stick left something behind it, to a device's whole sectors.
            let mut image = [bytes, &[b'x'; 100_000]].concat();
            image.resize(image.len().next_multiple_of(4096), b'x');
            let path = folder.path().join("stick.img");
            fs::write(&path, image).unwrap();
            on_a_device(&path, |device| import(config, device))
        };
        let Some(refused) = import_of(&changed) else { return };
        assert_eq!(code(&refused), "sealed.payload");
        let events = import_of(&good).unwrap();
        assert!(matches!(events.last(), Some(Event::Received { .. })), "{events:?}");
    });
}

#[test]
fn trust_metadata_is_judged_again_when_another_volume_was_news_and_refused_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("a.clb", Release::trust(b"later")),
        ("b.clb", Release::trust(b"forged")),
        ("c.clb", Release::trust(b"root")),
    ];
    let stick = stick(&folder, "stick", &files);
    let release = Release::of("some words ");
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let events = import(config, &stick);
        assert_eq!(code(&events), "bundle.signature.threshold");
        let heard = events.iter().filter(|event| matches!(event, Event::Trusted(_))).count();
        let refused: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Refused { name, .. } => Some(name.as_ref()?.name.expose().clone()),
                _ => None,
            })
            .collect();
        assert_eq!((heard, refused), (2, vec!["b.clb".to_owned()]));
    });
    let kept = ["root", "later", "forged"].map(|meta| Told::Trust(meta.as_bytes().to_vec()));
    assert_eq!(updaterd.told(), kept);
}

#[test]
fn one_bad_file_beside_trust_metadata_is_named_recorded_and_the_ends_problem() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = Release::of("some words ").volume();
    cut.truncate(700);
    let files = [("a.clb", Release::trust(b"root")), ("b.clb", cut)];
    let stick = stick(&folder, "stick", &files);
    let release = Release::of("some words ");
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        let path = || path(&stick);
        for (request, records) in [
            (Request::Import { path: path(), into: None }, 1),
            (Request::Check { path: path(), into: None }, 0),
            (Request::Inspect { path: path() }, 0),
        ] {
            updaterd.told.lock().unwrap().clear();
            let events = ask(config, &request);
            assert_eq!(code(&events), "bundle.container.truncated", "{request:?}");
            let listed = &medium(&events).volumes;
            assert_eq!(listed.len(), 2, "{request:?}");
            assert!(matches!(listed[0].fate, Fate::Trust));
            assert!(matches!(listed[1].fate, Fate::Refused(_)));
            let aborts = updaterd.told();
            let aborts = aborts.iter().filter(|told| matches!(told, Told::Abort { .. })).count();
            assert_eq!(aborts, records, "{request:?}");
        }
    });
}
