//! The state database is lost, and comes back from trust metadata, shelf and log.

use std::fs;

use cloister_attest::approval::Decision;
use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::{Digest, GenerationId, ImportId, Slot};
use cloister_wire::{
    Reply, record,
    supply::{Answer, Import, ImportState, Request, Status},
    trial::{End, Kind, Scope},
};

use crate::{
    refused, status,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO},
        wait_until,
    },
};

/// A user of no machine, so that its number is its name.
const OPERATOR: u32 = 61_001;

/// What people see, but for what a rebuild may word otherwise: why something was refused, and what was
/// measured of the machine meanwhile.
fn seen(world: &World) -> Status {
    let mut status = status(world);
    for import in &mut status.imports {
        if let Some(problem) = &mut import.problem {
            problem.message.clear();
        }
        if let Some(summary) = &mut import.summary {
            summary.fit.clear();
            (summary.present_bytes.0, summary.stored_bytes.0) = (0, 0);
        }
        // One more record is there: that of the rebuilding.
        if let Some(package) = &mut import.package {
            package.log.size = 0;
        }
    }
    status
}

/// Ends the updater and takes its database away.
pub(crate) fn lose(world: &mut World) {
    world.stop_updaterd();
    let database = world.config.paths.supply_database();
    for ending in ["", "-wal", "-shm"] {
        let mut name = database.clone().into_os_string();
        name.push(ending);
        fs::remove_file(name).unwrap_or_default();
    }
    world.start_updaterd();
}

pub(crate) fn rebuild(world: &World) -> Reply<Answer> {
    world.ask(&Request::Rebuild)
}

/// Loses the database, sees that nothing can be done without it and that what serves goes on, and
/// brings it back.
fn lose_and_rebuild(world: &mut World) {
    let active = world.active();
    let loaded = active.and_then(|active| world.slot_of(active));
    lose(world);
    let before = world.records().len();
    assert!(status(world).lost);
    assert_eq!(world.active(), active, "what is served does not hang on the database");
    assert_eq!(active.and_then(|active| world.slot_of(active)), loaded);
    refused(world.ask(&Request::Rollback { to: None }), "state.lost");
    refused(world.ask(&Request::Sweep { pretend: false }), "state.lost");
    let root = bundle::root();
    let again = Request::Enrol { confirmed: Digest::of(root.as_bytes()), root };
    refused(world.ask(&again), "state.lost");
    assert_eq!(world.import(&Bundle::new(90, "0.5"), 90).unwrap_err().code, "state.lost");
    assert_eq!(world.records().len(), before, "nothing is done as if it were new");
    rebuild(world).unwrap();
    let rebuilt = world.records().iter().filter(|(event, _)| event == "state-rebuilt").count();
    assert!(rebuilt > 0);
    assert!(!status(world).lost);
}

/// The names of the trust states that are kept beside the database.
fn vector(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.config.paths.trust()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Loses the database at this point of a life: nothing that people see is another afterwards.
pub(crate) fn same_after(world: &mut World, when: &str) {
    let (before, vector) = (seen(world), vector(world));
    lose_and_rebuild(world);
    // Every version, floor and counter: the file is named by their digest.
    assert_eq!(self::vector(world), vector, "{when}");
    wait_until(|| seen(world) == before)
        .unwrap_or_else(|()| panic!("{when}: {before:#?} became {:#?}", seen(world)));
}

#[test]
fn whenever_the_database_is_lost_the_rebuilt_one_says_the_same() {
    let mut world = World::enrolled();
    same_after(&mut world, "enrolled");
    let one = Bundle::new(1, "0.5").imported_by(OPERATOR);
    let import = world.import(&one, 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    same_after(&mut world, "a release awaits approval");
    world.decide(import, EVE, Decision::Approve).unwrap();
    same_after(&mut world, "one person approved");
    refused(world.activate(import), "approval.threshold");
    refused(world.decide(import, EVE, Decision::Approve), "approval.decided");
    world.decide(import, FLO, Decision::Approve).unwrap();
    same_after(&mut world, "two persons approved");
    world.activate(import).unwrap();
    same_after(&mut world, "the release is active");
    let two = Bundle::new(2, "0.4");
    world.promoted(&two, 2);
    same_after(&mut world, "a second release is active");
    world.ask(&Request::Pin { generation: one.generation(), pinned: true }).unwrap();
    same_after(&mut world, "the first is pinned");
    world.ask(&Request::Rollback { to: None }).unwrap();
    assert_eq!(world.active(), Some(one.generation()));
    same_after(&mut world, "returned to the first");
    world.ask(&Request::Rollback { to: None }).unwrap();
    assert_eq!(world.active(), Some(two.generation()), "and forth");
    let third = world.import(&Bundle::new(3, "0.9"), 3).unwrap();
    world.until(third, ImportState::Refused);
    let swept = |world: &World| status(world).generations.len() == 2;
    wait_until(|| swept(&world)).expect("the refused one leaves the shelf");
    same_after(&mut world, "a third was refused");
    // No name of an act was given twice: every import and activation has records of its own.
    let fourth = world.promoted(&Bundle::new(4, "0.4"), 4);
    assert_eq!(fourth, ImportId(4));
    let (intents, outcomes) = world.activations();
    assert_eq!((intents, outcomes), (5, 5));
}

#[test]
fn what_was_not_possible_before_is_not_possible_after() {
    let mut world = World::with(&format!("operators = [\"{OPERATOR}=eve\"]\nretained_max = 1"));
    world.enrol();
    let (one, two) = (Bundle::floored(1, 1), Bundle::floored(2, 2));
    world.promoted(&one, 1);
    world.ask(&Request::Pin { generation: one.generation(), pinned: true }).unwrap();
    world.promoted(&two, 2);
    // Below the floor of what was promoted.
    let below = Request::Rollback { to: Some(one.generation()) };
    refused(world.ask(&below), "bundle.rollback");
    // Rejected by a person.
    let rejected = world.import(&Bundle::new(3, "0.5"), 3).unwrap();
    world.until(rejected, ImportState::AwaitingApproval);
    world.decide(rejected, FLO, Decision::Reject).unwrap();
    // Imported by somebody who is an approver, in the second of three sittings, of which no volume came.
    let mine = Bundle::new(4, "0.5");
    drop(world.begin(&mine, 4).unwrap());
    let mine = mine.imported_by(OPERATOR);
    drop(world.begin(&mine, 4).unwrap());
    let mine = mine.imported_by(0);
    let import = world.import(&mine, 4).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    let tried = |world: &World| {
        refused(world.ask(&below), "bundle.rollback");
        refused(world.activate(rejected), "activation.not-approved");
        refused(world.decide(import, EVE, Decision::Approve), "approval.importer");
        assert_eq!(world.import(&one, 1).unwrap_err().code, "bundle.rollback");
        let stale = Bundle::new(2, "0.3");
        assert_eq!(world.import(&stale, 5).unwrap_err().code, "bundle.rollback");
        let never = Request::Rollback { to: Some(mine.generation()) };
        refused(world.ask(&never), "rollback.never-promoted");
    };
    tried(&world);
    lose_and_rebuild(&mut world);
    tried(&world);
    // Metadata of an older stick takes nothing back.
    let versions = |world: &World| status(world).trust.unwrap().targets_version;
    assert_eq!(versions(&world), 5);
    // What was taken back stays taken back.
    let taking = Bundle::new(6, "0.5").taking_back(mine.generation());
    world.import(&taking, 6).unwrap();
    let revoked = |world: &World| world.activate(import);
    refused(revoked(&world), "approval.threshold");
    world.decide(import, FLO, Decision::Approve).unwrap();
    lose_and_rebuild(&mut world);
    let shown = status(&world);
    let generation = shown.generations.iter().find(|one| one.generation == mine.generation());
    assert!(generation.is_none_or(|generation| generation.revoked));
    assert_eq!(shown.trust.unwrap().targets_version, 6);
}

#[test]
fn what_was_on_its_way_in_comes_again_and_what_was_judged_halfway_is_judged_again() {
    let mut world = World::enrolled();
    let one = Bundle::new(5, "0.5");
    let receiving = world.begin(&one, 1).unwrap();
    receiving.copy(&one);
    drop(receiving);
    world.stop_engine(Slot::A);
    let two = Bundle::new(2, "0.5");
    let import = world.import(&two, 2).unwrap();
    wait_until(|| world.review(import).state == ImportState::Evaluating).expect("adopted");
    lose_and_rebuild(&mut world);
    let shown: Import = world.review(ImportId(1));
    assert_eq!(shown.state, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "import.lost");
    assert_eq!(world.count("import-refused", "code", "import.lost"), 1);
    world.start_engine(Slot::A);
    world.until(import, ImportState::AwaitingApproval);
    // The same release from a stick that lists it comes in as another import.
    let again = world.import(&one, 3).unwrap();
    assert_ne!(again, ImportId(1));
}

#[test]
fn an_activation_that_was_cut_off_gets_its_outcome() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    world.promoted(&one, 1);
    let import = world.approved(&two, 2);
    // The intent is in the log, and nothing was switched.
    world.intend(3, two.generation(), Some(one.generation()));
    lose_and_rebuild(&mut world);
    wait_until(|| world.activations() == (2, 2)).expect("the outcome");
    assert_eq!(world.count("activation-outcome", "outcome", "aborted"), 1);
    assert_eq!(world.active(), Some(one.generation()));
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
    assert_eq!(world.activations(), (3, 3));
}

fn trial(world: &World, kind: Kind, import: ImportId) {
    let scope = Scope::Share { permille: 100 };
    world.ask(&Request::StartTrial { kind, import, scope, seconds: 3600 }).unwrap();
}

#[test]
fn trials_come_back_with_what_they_came_to_and_one_under_way_is_ended() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    trial(&world, Kind::Shadow, import);
    world.ask(&Request::EndTrial).unwrap();
    for person in [EVE, FLO] {
        world.decide(import, person, Decision::Approve).unwrap();
    }
    // What was approved names the shadow's report.
    same_after(&mut world, "a shadow ran, and two persons approved");
    trial(&world, Kind::Canary, import);
    let pointer = world.config.paths.shelf().join("trial");
    assert!(pointer.exists());
    lose(&mut world);
    rebuild(&world).unwrap();
    wait_until(|| !pointer.exists()).expect("nobody is answered by it any more");
    let canary = world.review(import).trials.pop().unwrap();
    assert_eq!(canary.lasted_s, 3600, "nobody knows how long, so it would not go on");
    assert_eq!((canary.kind, canary.ended), (Kind::Canary, Some(End::Void)));
    assert_eq!(world.count("trial-ended", "kind", "canary"), 1);
    same_after(&mut world, "the canary is over");
    world.activate(import).unwrap();
    same_after(&mut world, "and the release active");
}

#[test]
fn a_damaged_database_is_set_aside_and_one_that_is_there_is_not_rebuilt() {
    let mut world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    refused(rebuild(&world), "state.not-lost");
    let before = seen(&world);
    world.stop_updaterd();
    let database = world.config.paths.supply_database();
    fs::write(
        &database,
        b"no database at all, and longer than the header of one would be; ".repeat(64),
    )
    .unwrap();
    world.start_updaterd();
    assert!(status(&world).lost);
    let aside = database.with_extension("db.damaged-1");
    assert!(aside.is_file(), "nothing of it is deleted");
    rebuild(&world).unwrap();
    wait_until(|| seen(&world) == before).expect("as it was");
    refused(rebuild(&world), "state.not-lost");
}

#[test]
fn without_the_trust_that_the_log_names_nothing_is_rebuilt() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let trust = world.config.paths.trust();
    let older = world.config.paths.state.join("older");
    copy(&trust, &older);
    world.promoted(&Bundle::new(2, "0.5"), 2);
    lose(&mut world);
    let newer = world.config.paths.state.join("newer");
    fs::rename(&trust, &newer).unwrap();
    for (folder, code) in [(None, "trust.not-kept"), (Some(&older), "trust.not-kept")] {
        fs::create_dir_all(&trust).unwrap();
        if let Some(folder) = folder {
            copy(folder, &trust);
        }
        let records = world.records().len();
        refused(rebuild(&world), code);
        assert_eq!(world.records().len(), records);
        fs::remove_dir_all(&trust).unwrap();
    }
    fs::rename(&newer, &trust).unwrap();
    rebuild(&world).unwrap();
    let connection = Connection::connect(&world.config.paths.socket(Role::Updaterd));
    assert!(connection.is_ok());
}

#[test]
fn what_the_log_promoted_counts_although_the_trust_folder_is_of_before() {
    let mut world = World::with("retained_max = 1");
    world.enrol();
    let bundles: Vec<Bundle> =
        (1..=3).map(|counter| Bundle::floored(counter, counter.min(2))).collect();
    let (trust, older) = (world.config.paths.trust(), world.config.paths.state.join("older"));
    for (number, (bundle, version)) in bundles.iter().zip(1..).enumerate() {
        let import = world.approved(bundle, version);
        fs::remove_dir_all(&older).unwrap_or_default();
        copy(&trust, &older);
        world.activate(import).unwrap();
        if number == 0 {
            continue;
        }
        let after = vector(&world);
        lose(&mut world);
        fs::remove_dir_all(&trust).unwrap();
        copy(&older, &trust);
        assert_ne!(vector(&world), after);
        rebuild(&world).unwrap();
        assert!(vector(&world).contains(&after[0]), "release {version}");
        // As a restart keeps it.
        world.start_updaterd();
        assert!(vector(&world).contains(&after[0]));
    }
}

#[test]
fn an_evaluation_that_does_not_add_up_is_made_again() {
    let mut world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let import = world.approved(&bundle, 1);
    let package = world.review(import).package.unwrap();
    let (_, mut facts) =
        world.records().into_iter().rfind(|(event, _)| event == "evaluation").unwrap();
    let other = Digest::of(b"other figures");
    facts["figures"][0]["candidate"] = 99.into();
    world.append(
        record::Event::Evaluation,
        &format!("import/{import}/evaluation/{other}"),
        &[("bundle", bundle.generation().0), ("package", package.digest)],
        &facts,
    );
    lose_and_rebuild(&mut world);
    world.until(import, ImportState::AwaitingApproval);
    let shown = world.review(import);
    assert_ne!(shown.figures[0].candidate, 99, "what was measured, not what the log was told");
    assert_eq!(shown.approved_by, ["eve", "flo"], "of the package that it has again");
}

#[test]
fn a_manifest_that_is_not_the_one_that_was_shelved_vouches_for_nothing() {
    let mut world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let import = world.approved(&bundle, 1);
    let generation = bundle.generation().to_string();
    let folder = world.config.paths.shelf().join("generations").join(generation);
    let anew = bundle.signed_anew();
    fs::remove_file(folder.join("manifest.json")).unwrap();
    fs::write(folder.join("manifest.json"), &anew.envelope).unwrap();
    lose_and_rebuild(&mut world);
    assert_eq!(world.review(import).problem.unwrap().code, "import.lost");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Two releases that the log promoted are both kept from coming back below their floor, also when they
/// left the shelf.
#[test]
fn the_floor_of_a_release_that_left_the_shelf_holds() {
    let mut world = World::with("retained_max = 1");
    world.enrol();
    let floored: Vec<Bundle> =
        (1..=3).map(|counter| Bundle::floored(counter, counter.min(2))).collect();
    for (bundle, version) in floored.iter().zip(1..) {
        world.promoted(bundle, version);
    }
    let gone: GenerationId = floored[0].generation();
    wait_until(|| status(&world).generations.iter().all(|one| one.generation != gone))
        .expect("the first leaves");
    same_after(&mut world, "the first left the shelf");
    assert_eq!(world.import(&floored[0], 4).unwrap_err().code, "bundle.rollback");
}
