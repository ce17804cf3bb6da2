//! A bit that changes on the disk is found, and what holds it is served no more.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
};

use cloister_domain::Digest;
use cloister_wire::{
    record::Event,
    supply::{Answer, ImportState, Request},
};

use crate::{
    kill::{Killer, Updaterd},
    refused, status,
    support::{World, bundle::Bundle, wait_until},
};

/// Changes a byte of the file `path` of a bundle where it lies on the shelf.
fn damage(world: &World, bundle: &Bundle, path: &str) -> Digest {
    let (_, bytes) = bundle.files.iter().find(|(name, _)| name == path).unwrap();
    let digest = Digest::of(bytes);
    let name = digest.to_string();
    let object = world.config.paths.shelf().join("objects").join(name.split_at(2).0).join(&name);
    fs::set_permissions(&object, Permissions::from_mode(0o644)).unwrap();
    let mut file = OpenOptions::new().write(true).open(&object).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"\xff").unwrap();
    file.sync_all().unwrap();
    digest
}

fn scrub(world: &World) -> Vec<Digest> {
    match world.ask(&Request::Scrub).unwrap() {
        Answer::Scrubbed { objects, damaged, .. } => {
            assert!(objects > 0);
            damaged
        }
        other => panic!("{other:?}"),
    }
}

fn on_shelf(world: &World) -> Vec<u64> {
    let mut counters: Vec<u64> =
        status(world).generations.iter().map(|generation| generation.counter).collect();
    counters.sort_unstable();
    counters
}

fn records(world: &World, event: &str) -> usize {
    world.records().iter().filter(|(found, _)| found == event).count()
}

#[test]
fn a_damaged_former_release_leaves_the_shelf() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    assert_eq!(scrub(&world), []);
    let digest = damage(&world, &one, "documents/handbook/pump.md");
    assert_eq!(scrub(&world), [digest]);
    assert_eq!(on_shelf(&world), [2]);
    assert_eq!(world.active(), Some(two.generation()));
    assert_eq!((records(&world, "damage"), records(&world, "scrub")), (1, 2));
    assert!(world.config.paths.shelf().join("isolated").join(digest.to_string()).exists());
    refused(world.ask(&Request::Rollback { to: Some(one.generation()) }), "shelf.absent");
    refused(world.ask(&Request::Rollback { to: None }), "rollback.no-previous");
    assert_eq!(scrub(&world), [], "what was found is not found again");
    // Only the newest of its name comes back from its own bundle.
    assert_eq!(world.import(&one, 3).unwrap_err().code, "bundle.rollback");
}

#[test]
fn a_damaged_active_release_is_left_for_the_one_before_and_repaired_by_its_bundle() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    let digest = damage(&world, &two, "model/weights.txt");
    assert_eq!(scrub(&world), [digest]);
    assert_eq!(world.active(), Some(one.generation()));
    assert_eq!(on_shelf(&world), [1]);
    assert_eq!(world.count("rollback", "reason", "damage"), 1);
    // The same bundle again: everything that a first import does, and then the release as it was.
    let import = world.approved(&two, 3);
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
    assert_eq!(scrub(&world), []);
}

#[test]
fn an_import_that_counts_on_a_damaged_file_ends() {
    let world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    let import = world.import(&one, 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    damage(&world, &one, "evaluation/heldout.txt");
    assert_eq!(scrub(&world).len(), 1);
    let shown = world.review(import);
    assert_eq!(shown.state, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "shelf.damaged");
    assert_eq!(on_shelf(&world), Vec::<u64>::new());
    let again = world.approved(&one, 2);
    world.activate(again).unwrap();
}

#[test]
fn the_only_release_goes_on_although_it_is_damaged_and_the_record_says_so() {
    let world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    damage(&world, &one, "evaluation/heldout.txt");
    assert_eq!(scrub(&world).len(), 1);
    assert_eq!(world.active(), Some(one.generation()), "nothing else could serve");
    assert_eq!(records(&world, "damage"), 1);
    let two = Bundle::new(2, "0.4");
    world.promoted(&two, 2);
    wait_until(|| scrub(&world).is_empty()).unwrap();
}

/// Two releases that were active, of which the second is damaged.
fn damaged_while_it_serves() -> (World, [Bundle; 2], Digest) {
    let world = World::enrolled();
    let both = [Bundle::new(1, "0.5"), Bundle::new(2, "0.4")];
    for (version, bundle) in (1..).zip(&both) {
        world.promoted(bundle, version);
    }
    let digest = damage(&world, &both[1], "model/weights.txt");
    (world, both, digest)
}

#[test]
fn a_damaged_release_is_taken_off_although_the_disk_does_not_take_its_isolation() {
    let (mut world, [one, _two], digest) = damaged_while_it_serves();
    world.stop_updaterd();
    let updaterd = Updaterd::start(&world);
    let fan = world.config.paths.shelf().join("objects").join(digest.to_string().split_at(2).0);
    let killer = Killer::failing(&updaterd, "fsync", &fan);
    refused(world.ask(&Request::Scrub), "shelf.io");
    drop(killer);
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    wait_until(|| on_shelf(&world) == [1]).expect("the damaged one leaves the shelf");
}

/// Writes the record of damage as an updater does that dies behind it.
fn record_damage(world: &World, digest: Digest, bundle: &Bundle) {
    let facts = serde_json::json!({ "releases": [bundle.generation()], "active": true });
    world.append(Event::Damage, &format!("damage/0/{digest}"), &[("object", digest)], &facts);
}

#[test]
fn what_the_log_calls_damaged_leaves_the_shelf_although_whoever_found_it_died() {
    let (mut world, [one, two], digest) = damaged_while_it_serves();
    world.stop_updaterd();
    record_damage(&world, digest, &two);
    world.start_updaterd();
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    wait_until(|| on_shelf(&world) == [1]).expect("the damaged one leaves the shelf");
    assert!(world.config.paths.shelf().join("isolated").join(digest.to_string()).exists());
    assert_eq!(records(&world, "damage"), 1);
}

#[test]
fn what_the_log_calls_damaged_stays_where_it_is_whole() {
    let mut world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    world.stop_updaterd();
    let (_, bytes) = one.files.iter().find(|(name, _)| name == "model/weights.txt").unwrap();
    record_damage(&world, Digest::of(bytes), &one);
    world.start_updaterd();
    // The worker has been through what may be unfinished when the next release is judged.
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    assert_eq!(on_shelf(&world), [1, 2]);
    assert_eq!(world.active(), Some(one.generation()));
}

#[test]
fn a_pass_goes_on_with_what_another_found_and_did_not_finish() {
    let (world, [one, _two], digest) = damaged_while_it_serves();
    // The worker has been through what the switch left it when the next release is judged.
    let import = world.import(&Bundle::new(3, "0.3"), 3).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    let (shelf, name) = (world.config.paths.shelf(), digest.to_string());
    fs::create_dir_all(shelf.join("isolated")).unwrap();
    let object = shelf.join("objects").join(name.split_at(2).0).join(&name);
    fs::rename(object, shelf.join("isolated").join(&name)).unwrap();
    assert_eq!(scrub(&world), [], "nothing of it is among the objects any more");
    assert_eq!(world.active(), Some(one.generation()));
    assert_eq!(on_shelf(&world), [1, 3]);
}
