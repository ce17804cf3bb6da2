//! What is wrong with one volume of a stick takes nothing from the others on it.

use cloister_wire::intake::{Event, Fate, Medium};

use crate::{
    code, import,
    support::{Release, Told, Updaterd},
    volumes::stick,
    with_daemons,
};

/// With one bit of its last whole chunk changed.
fn changed(mut volume: Vec<u8>) -> Vec<u8> {
    let at = volume.len() - 1024 - 1024 - 600;
    volume[at] ^= 1;
    volume
}

/// Without its second half.
fn cut(mut volume: Vec<u8>) -> Vec<u8> {
    volume.truncate(volume.len() / 2);
    volume
}

fn told_of(damaged: &str) -> Told {
    Told::Abort { code: damaged.to_owned(), resumable: true }
}

#[test]
fn the_good_volumes_beside_a_damaged_one_are_read_and_it_is_named() {
    let release = Release::of("some words ");
    let part = |number| release.part(number, 3);
    for (damage, expected) in
        [(changed as fn(Vec<u8>) -> Vec<u8>, "bundle.digest"), (cut, "bundle.container.truncated")]
    {
        let folder = tempfile::tempdir().unwrap();
        let files = [("a.clb", part(1)), ("b.clb", damage(part(2))), ("c.clb", part(3))];
        let first = stick(&folder, "first", &files);
        let second = stick(&folder, "second", &[("b.clb", part(2))]);
        let updaterd = Updaterd::new(&release);
        with_daemons(folder.path(), &updaterd, |config| {
            let events = import(config, &first);
            assert_eq!(code(&events), expected);
            let Some(Event::Problem(problem)) = events.last() else { panic!("{events:?}") };
            assert!(problem.message.starts_with("volume 2: "), "{problem}");
            // Only what was not read well is still to come.
            let missing: Vec<&[u32]> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Parted { missing, .. } => Some(missing.volumes.as_slice()),
                    _ => None,
                })
                .collect();
            assert_eq!(missing, [&[2, 3][..], &[2]]);
            assert!(matches!(import(config, &second).last(), Some(Event::Received { .. })));
        });
        let told = updaterd.told();
        let [Told::Parted(_), abort, Told::Parted(_), Told::Complete(_)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(*abort, told_of(expected));
    }
}

#[test]
fn a_damaged_copy_before_a_good_one_of_the_same_volume_changes_nothing() {
    let release = Release::of("some words ");
    for (damage, expected) in
        [(changed as fn(Vec<u8>) -> Vec<u8>, "bundle.digest"), (cut, "bundle.container.truncated")]
    {
        let folder = tempfile::tempdir().unwrap();
        let files = [("a.clb", damage(release.volume())), ("b.clb", release.volume())];
        let stick = stick(&folder, "stick", &files);
        let updaterd = Updaterd::new(&release);
        with_daemons(folder.path(), &updaterd, |config| {
            let events = import(config, &stick);
            let Some(Event::Medium(Medium { volumes, .. })) = events.first() else {
                panic!("{events:?}")
            };
            assert!(volumes.iter().all(|volume| matches!(volume.fate, Fate::Read(_))));
            assert!(matches!(events.last(), Some(Event::Received { .. })), "{events:?}");
        });
        let told = updaterd.told();
        assert_eq!(told[0], told_of(expected));
        assert!(matches!(told[1..], [Told::Complete(_)]), "{told:?}");
    }
}

#[test]
fn a_stick_with_nothing_but_a_damaged_volume_is_refused_for_it() {
    let release = Release::of("some words ");
    let folder = tempfile::tempdir().unwrap();
    let stick = stick(&folder, "stick", &[("a.clb", changed(release.volume()))]);
    let updaterd = Updaterd::new(&release);
    with_daemons(folder.path(), &updaterd, |config| {
        assert_eq!(code(&import(config, &stick)), "bundle.digest");
    });
    let code = "bundle.digest".to_owned();
    assert_eq!(updaterd.told(), [Told::Abort { code, resumable: false }]);
}
