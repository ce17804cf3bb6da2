//! Who has the quarantine of an import, and who waits for whom: a release that comes again while it is
//! taken to the shelf, and decisions that are made meanwhile.

use std::{fs, sync::atomic::Ordering, thread};

use cloister_attest::approval::Decision;
use cloister_daemon::files::read_limited;
use cloister_domain::{ImportId, Slot};
use cloister_wire::supply::{Answer, ImportState, Request};

use crate::support::{
    World,
    bundle::{Bundle, EVE, FLO},
    wait_until,
};

/// Ends a stall when a test ends, however it ends.
struct Stalled<'a>(&'a World);

impl<'a> Stalled<'a> {
    fn begin(world: &'a World) -> Self {
        world.inspector.stalled.store(0, Ordering::SeqCst);
        world.inspector.stalls.store(true, Ordering::SeqCst);
        Self(world)
    }

    /// Waits until an adoption stands still over a file.
    fn reached(&self) {
        wait_until(|| self.0.inspector.stalled.load(Ordering::SeqCst) > 0).expect("a stall");
    }
}

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.inspector.stalls.store(false, Ordering::SeqCst);
    }
}

/// A release whose bytes are all here, which no inspector looked at yet; and there is still none.
fn received(world: &World, bundle: &Bundle, version: u64) -> ImportId {
    world.inspector.absent.store(true, Ordering::SeqCst);
    let problem = world.import(bundle, version).unwrap_err();
    assert_eq!(problem.code, "inspect.unavailable", "{problem}");
    let generation = bundle.generation();
    let Answer::Status(status) = world.ask(&Request::Status).unwrap() else { panic!("no status") };
    let held = |summary: &cloister_wire::intake::Summary| summary.generation == generation;
    let import = status.imports.iter().find(|import| import.summary.as_ref().is_some_and(held));
    import.unwrap().import
}

fn is_there(world: &World, import: ImportId) -> bool {
    world.config.paths.quarantine().join(import.to_string()).exists()
}

#[test]
fn a_rollback_and_a_decision_do_not_wait_for_an_inspection() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    let third = world.import(&Bundle::new(3, "0.5"), 3).unwrap();
    world.until(third, ImportState::AwaitingApproval);
    thread::scope(|scope| {
        let stall = Stalled::begin(&world);
        let fourth = scope.spawn(|| world.import(&Bundle::new(4, "0.5"), 4));
        stall.reached();
        for person in [EVE, FLO] {
            world.decide(third, person, Decision::Approve).unwrap();
        }
        world.ask(&Request::Rollback { to: None }).unwrap();
        assert_eq!(world.active(), Some(one.generation()));
        assert_eq!(world.review(third).state, ImportState::Approved);
        world.activate(third).unwrap();
        assert_eq!(world.review(ImportId(4)).state, ImportState::Received, "it stands as it stood");
        drop(stall);
        world.until(fourth.join().unwrap().unwrap(), ImportState::AwaitingApproval);
    });
}

#[test]
fn what_is_on_its_way_to_the_shelf_is_not_received_again_meanwhile() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let import = received(&world, &bundle, 1);
    let stall = Stalled::begin(&world);
    world.inspector.absent.store(false, Ordering::SeqCst);
    stall.reached();
    // The worker adopts it; the same stick comes again.
    let again = world.begin(&bundle, 1).map(|receiving| receiving.import);
    assert_eq!(again.unwrap_err().code, "import.receiving");
    assert_eq!(world.review(import).state, ImportState::Received);
    drop(stall);
    world.until(import, ImportState::AwaitingApproval);
    wait_until(|| !is_there(&world, import)).expect("what is on the shelf needs no quarantine");
}

#[test]
fn what_a_connection_receives_again_is_adopted_when_it_lets_go_and_not_before() {
    let mut world = World::enrolled();
    // A candidate that waits for an engine tells when the worker has made a whole round.
    world.stop_engine(Slot::A);
    let first = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    let bundle = Bundle::new(2, "0.5");
    let import = received(&world, &bundle, 2);
    let receiving = world.begin(&bundle, 2).unwrap();
    world.inspector.absent.store(false, Ordering::SeqCst);
    world.start_engine(Slot::A);
    world.until(first, ImportState::AwaitingApproval);
    assert_eq!(world.review(import).state, ImportState::Received);
    assert!(receiving.folder.join("files").is_dir(), "nobody clears what is received");
    // The stick is pulled; the rest of the way needs nobody.
    drop(receiving);
    world.until(import, ImportState::AwaitingApproval);
    wait_until(|| !is_there(&world, import)).expect("what is on the shelf needs no quarantine");
}

#[test]
fn what_holds_one_release_up_does_not_hold_up_another() {
    let mut world = World::enrolled();
    world.stop_engine(Slot::A);
    let first = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    let second = received(&world, &Bundle::new(2, "0.5"), 2);
    world.start_engine(Slot::A);
    world.until(first, ImportState::AwaitingApproval);
    assert_eq!(world.review(second).state, ImportState::Received, "there is still no inspector");
    world.inspector.absent.store(false, Ordering::SeqCst);
    world.until(second, ImportState::AwaitingApproval);
}

#[test]
fn who_waited_for_an_import_that_was_refused_meanwhile_does_not_go_on_with_it() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let import = received(&world, &bundle, 1);
    thread::scope(|scope| {
        let stall = Stalled::begin(&world);
        world.inspector.absent.store(false, Ordering::SeqCst);
        stall.reached();
        let waiting = scope.spawn(|| world.begin(&bundle, 2).map(|receiving| receiving.import));
        // Its head was judged, and the import found, when the newer list is kept.
        let judged = |(event, facts): &(String, serde_json::Value)| {
            event == "trust-update" && facts["targets_version"] == 2
        };
        wait_until(|| world.records().iter().any(judged)).expect("the head is judged");
        world.inspector.babbles.store(true, Ordering::SeqCst);
        drop(stall);
        assert_eq!(waiting.join().unwrap().unwrap_err().code, "import.receiving");
    });
    world.until(import, ImportState::Refused);
    assert_eq!(world.begin(&bundle, 3).map(|receiving| receiving.import), Ok(ImportId(2)));
}

#[test]
fn a_candidate_that_is_refused_while_its_stick_is_read_again_is_refused_there_too() {
    let mut world = World::enrolled();
    world.stop_engine(Slot::A);
    let bundle = Bundle::new(1, "0.5");
    let import = world.import(&bundle, 1).unwrap();
    assert_eq!(world.review(import).state, ImportState::Evaluating);
    let receiving = world.begin(&bundle, 1).unwrap();
    world.script(Slot::A).refuses.store(true, Ordering::SeqCst);
    world.start_engine(Slot::A);
    world.until(import, ImportState::Refused);
    // The sweep comes after the place where quarantine would be cleared.
    let generations = world.config.paths.shelf().join("generations");
    wait_until(|| fs::read_dir(&generations).unwrap().count() == 0).expect("swept");
    assert!(receiving.folder.is_dir(), "nobody clears what is received");
    assert_eq!(receiving.complete(&bundle).unwrap_err().code, "weights.family");
    assert!(!is_there(&world, import));
}

#[test]
fn a_stick_that_is_pulled_leaves_nothing_of_a_release_that_is_on_the_shelf() {
    let mut world = World::enrolled();
    world.stop_engine(Slot::A);
    let bundle = Bundle::new(1, "0.5");
    let import = world.import(&bundle, 1).unwrap();
    let receiving = world.begin(&bundle, 1).unwrap();
    assert_eq!((receiving.import, receiving.folder.is_dir()), (import, true));
    drop(receiving);
    wait_until(|| !is_there(&world, import)).expect("what is on the shelf needs no quarantine");
    assert_eq!(world.review(import).state, ImportState::Evaluating);
    world.start_engine(Slot::A);
    world.until(import, ImportState::AwaitingApproval);
}

#[test]
fn an_import_that_was_overtaken_is_not_ended_under_a_connection_that_receives_it() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    let receiving = world.begin(&one, 1).unwrap();
    world.import(&two, 2).unwrap();
    assert_eq!(world.import(&one, 3).unwrap_err().code, "import.receiving");
    assert_eq!(world.review(receiving.import).state, ImportState::Receiving);
    assert!(receiving.folder.is_dir());
    drop(receiving);
    let ended = || world.import(&one, 4).unwrap_err().code == "bundle.rollback";
    wait_until(ended).expect("the connection lets go");
    assert_eq!(world.review(ImportId(1)).state, ImportState::Refused);
    assert!(!is_there(&world, ImportId(1)));
}

#[test]
fn what_a_crash_left_in_quarantine_goes_with_the_next_start() {
    let mut world = World::enrolled();
    let over = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    world.until(over, ImportState::AwaitingApproval);
    let waits = world.begin(&Bundle::new(2, "0.5"), 2).unwrap().import;
    world.stop_updaterd();
    let quarantine = world.config.paths.quarantine();
    fs::create_dir_all(quarantine.join(over.to_string()).join("files")).unwrap();
    world.start_updaterd();
    wait_until(|| !is_there(&world, over)).expect("what is on the shelf needs no quarantine");
    assert!(is_there(&world, waits), "what waits for volumes stays");
}

#[test]
fn an_index_goes_to_the_shelf_with_its_release_and_not_before() {
    let world = World::enrolled();
    let kept = || fs::read_dir(world.config.paths.state.join("indexes")).unwrap().count();
    let bundle = Bundle::new(1, "0.5");
    let receiving = world.begin(&bundle, 1).unwrap();
    let index = read_limited(&receiving.folder.join("index"), 1 << 20).unwrap();
    assert_eq!(index, bundle.index);
    assert_eq!(kept(), 0, "nothing outside of quarantine");
    drop(receiving);
    world.until(world.import(&bundle, 1).unwrap(), ImportState::AwaitingApproval);
    assert_eq!(kept(), 1);
    // One that somebody else wrote to its place is not kept; the release is as good.
    let second = Bundle::new(2, "0.5");
    let receiving = world.begin(&second, 2).unwrap();
    receiving.copy(&second);
    fs::write(receiving.folder.join("index"), &bundle.index).unwrap();
    world.until(receiving.complete(&second).unwrap(), ImportState::AwaitingApproval);
    assert_eq!(kept(), 1);
}
