//! After the switch: a release that stops answering is returned from without anybody's word, and what
//! stood its probation forbids what it is to forbid.

use std::{
    collections::BTreeSet, fs, os::unix::fs::symlink, sync::atomic::Ordering, time::Duration,
};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::{GenerationId, RecordIndex, Slot};
use cloister_state::{Kind, NewActivation, Series, State};
use cloister_wire::{
    record::Event,
    supply::{Answer, ImportState, Request},
    trial::{self, End, Scope},
};

use crate::{
    catch_up::Copied,
    refused,
    support::{World, bundle::Bundle, wait_until},
};

/// One release is active, and another approved that forbids it.
fn approved(more: &str) -> (World, Bundle, Bundle, cloister_domain::ImportId) {
    let world = World::with(&format!("evaluation_required = false\n{more}"));
    world.enrol();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    let two = asking(2);
    let import = world.approved(&two, 2);
    (world, one, two, import)
}

/// Loses the database.
fn lose(world: &mut World) {
    world.stop_updaterd();
    for ending in ["", "-wal", "-shm"] {
        let mut name = world.config.paths.supply_database().into_os_string();
        name.push(ending);
        fs::remove_file(name).unwrap_or_default();
    }
    world.start_updaterd();
}

fn asking(counter: u64) -> Bundle {
    Bundle::asking(counter, |release| release.min_release_counter = 2)
}

/// The trust states that are kept, by the digest of their ratchets.
fn ratchets(world: &World) -> BTreeSet<String> {
    let names = fs::read_dir(world.config.paths.trust()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn back_to(world: &World, one: &Bundle) -> cloister_wire::Reply<Answer> {
    world.ask(&Request::Rollback { to: Some(one.generation()) })
}

#[test]
fn what_does_not_answer_is_returned_from_though_it_forbids_the_one_before() {
    let (mut world, one, two, import) = approved("probation_s = 600\nengine_away_s = 1");
    let before = ratchets(&world);
    world.activate(import).unwrap();
    world.script(world.slot_of(two.generation()).unwrap()).forget();
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    assert_eq!(world.count("rollback", "reason", "probation"), 1);
    assert_eq!(ratchets(&world), before, "what fell forbids nothing");
    // Nor does it where the database was lost since. The way back may have been cut off behind its rename.
    world.stop_updaterd();
    world.config.update.engine_away_s = 3600;
    lose(&mut world);
    world.ask(&Request::Rebuild).unwrap();
    world.ask(&Request::Rollback { to: Some(two.generation()) }).unwrap();
    back_to(&world, &one).unwrap();
}

#[test]
fn what_stood_its_probation_forbids_what_is_older() {
    let (world, one, _, import) = approved("probation_s = 1");
    let before = ratchets(&world);
    world.activate(import).unwrap();
    wait_until(|| ratchets(&world) != before).expect("the floor rises");
    refused(back_to(&world, &one), "bundle.rollback");
}

#[test]
fn a_database_of_before_it_stood_forgets_nothing_that_is_forbidden() {
    let (mut world, one, _, import) = approved("probation_s = 600");
    world.activate(import).unwrap();
    let before = ratchets(&world);
    let copied = Copied::of(&mut world);
    world.config.update.probation_s = 0;
    world.start_updaterd();
    wait_until(|| ratchets(&world) != before).expect("the floor rises");
    // In a database that is not behind it has risen, too, and the lower one is forgotten.
    wait_until(|| ratchets(&world).len() == 1).unwrap();
    world.config.update.probation_s = 600;
    copied.put_back(&mut world, None);
    for _start in 0..2 {
        refused(back_to(&world, &one), "bundle.rollback");
        world.start_updaterd();
    }
}

#[test]
fn while_it_is_on_probation_an_operator_returns_as_well() {
    let (world, one, _, import) = approved("probation_s = 600");
    world.activate(import).unwrap();
    back_to(&world, &one).unwrap();
    assert_eq!(world.active(), Some(one.generation()));
}

/// Leaves behind what an updater leaves that dies again and again behind the rename.
fn switched_without_a_try(world: &mut World, to: GenerationId, from: GenerationId) {
    switched(world, Kind::Activate, to, from, 0);
}

/// Leaves behind what an updater leaves that dies behind the rename.
pub(crate) fn switched(
    world: &mut World,
    kind: Kind,
    to: GenerationId,
    from: GenerationId,
    tries: u32,
) {
    world.stop_updaterd();
    let mut state = State::open(&world.config.paths.supply_database()).unwrap();
    let activation = state.next(Series::Activation).unwrap();
    let import = state.import_of(to).unwrap().unwrap().import;
    let facts = serde_json::json!({
        "activation": activation, "kind": kind.name(), "because": { "import": import },
    });
    let act = format!("activation/{activation}/intent");
    let subject = [("bundle", to.0), ("from", from.0)];
    world.append(Event::ActivationIntent, &act, &subject, &facts);
    let intent = RecordIndex(u64::try_from(world.records().len()).unwrap() - 1);
    let new = NewActivation { activation, kind, generation: to, from: Some(from), tries, intent };
    state.intend(&new).unwrap();
    drop(state);
    let shelf = world.config.paths.shelf();
    symlink(format!("generations/{to}"), shelf.join("next")).unwrap();
    fs::rename(shelf.join("next"), shelf.join("active")).unwrap();
    world.start_updaterd();
}

#[test]
fn a_switch_that_was_tried_too_often_is_taken_back() {
    let (mut world, one, two, import) = approved("");
    switched_without_a_try(&mut world, two.generation(), one.generation());
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    wait_until(|| world.activations() == (2, 2)).expect("it has its outcome");
    assert_eq!(world.count("activation-outcome", "outcome", "returned"), 1);
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
}

#[test]
fn a_release_that_hangs_is_returned_from_after_the_time_for_one_token() {
    let (world, one, two, import) = approved("probe_s = 4");
    let slot = world.slot_of(two.generation()).unwrap();
    world.script(slot).hangs.store(true, Ordering::SeqCst);
    refused(world.activate(import), "activation.returned");
    assert_eq!(world.active(), Some(one.generation()));
    assert_eq!(world.count("activation-outcome", "code", "activation.silent"), 1);
    // Others have every place, and it works.
    world.script(slot).hangs.store(false, Ordering::SeqCst);
    world.script(slot).full.store(true, Ordering::SeqCst);
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
}

#[test]
fn a_full_engine_serves_and_one_that_ends_does_not() {
    let (world, one, two, import) = approved("");
    let slot = world.slot_of(two.generation()).unwrap();
    for code in ["engine.stopping", "engine.draining"] {
        *world.script(slot).busy.lock().unwrap() = Some(code);
        refused(world.activate(import), "activation.returned");
        assert_eq!(world.active(), Some(one.generation()));
    }
    *world.script(slot).busy.lock().unwrap() = Some("engine.busy");
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
}

#[test]
fn what_hangs_in_its_probation_is_returned_from() {
    let (world, one, two, import) = approved("probation_s = 600\nengine_away_s = 1\nprobe_s = 4");
    world.activate(import).unwrap();
    let slot = world.slot_of(two.generation()).unwrap();
    world.script(slot).hangs.store(true, Ordering::SeqCst);
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    assert_eq!(world.slot_of(two.generation()), Some(slot), "it says that it holds it");
    assert_eq!(world.count("rollback", "reason", "probation"), 1);
}

/// An engine takes one question after the other, and an examination asks long ones.
#[test]
fn what_is_measured_beside_a_candidate_is_not_called_silent() {
    let (world, _, two, import) = approved("probation_s = 600\nengine_away_s = 1\nprobe_s = 2");
    world.activate(import).unwrap();
    let engine = world.script(world.slot_of(two.generation()).unwrap());
    engine.slow.store(true, Ordering::SeqCst);
    let third = world.import(&Bundle::new(3, "0.5"), 3).unwrap();
    wait_until(|| engine.scoring.load(Ordering::SeqCst)).expect("it is measured");
    // For longer than silence is borne.
    std::thread::park_timeout(Duration::from_secs(6));
    assert_eq!(world.active(), Some(two.generation()));
    engine.slow.store(false, Ordering::SeqCst);
    world.until(third, ImportState::AwaitingApproval);
}

/// Each try leaves records, and approvals expire by their number.
#[test]
fn a_return_that_fails_is_tried_again_each_time_later() {
    let (world, _, two, import) = approved("probation_s = 600\nengine_away_s = 1");
    world.activate(import).unwrap();
    let since = Stopwatch::start();
    for slot in Slot::ALL {
        world.script(slot).refuses.store(true, Ordering::SeqCst);
        world.script(slot).forget();
    }
    wait_until(|| world.count("rollback", "reason", "probation") == 3).expect("it is tried again");
    // One second, then two, then four.
    assert!(since.elapsed() >= Duration::from_secs(7), "{:?}", since.elapsed());
    assert_eq!(world.active(), Some(two.generation()), "no engine serves the one before either");
}

#[test]
fn an_interrupted_switch_to_what_hangs_uses_up_its_tries_by_the_time_it_takes() {
    let (mut world, one, two, _) = approved("probe_s = 4");
    let slot = world.slot_of(two.generation()).unwrap();
    world.script(slot).hangs.store(true, Ordering::SeqCst);
    switched(&mut world, Kind::Activate, two.generation(), one.generation(), 2);
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    wait_until(|| world.activations() == (2, 2)).expect("it has its outcome");
    assert_eq!(world.count("activation-outcome", "code", "activation.tries"), 1);
    assert_eq!(world.script(slot).unanswered.load(Ordering::SeqCst), 1, "one silence is worth two");
}

#[test]
fn an_operator_leaves_what_was_interrupted_and_hangs() {
    let (mut world, one, two, _) = approved("probe_s = 4");
    let slot = world.slot_of(two.generation()).unwrap();
    world.script(slot).hangs.store(true, Ordering::SeqCst);
    switched(&mut world, Kind::Activate, two.generation(), one.generation(), 1_000_000);
    let Ok(Answer::Switched { generation, from, .. }) = world.ask(&Request::Rollback { to: None })
    else {
        panic!("not left")
    };
    assert_eq!((generation, from), (one.generation(), Some(two.generation())));
    assert_eq!(world.active(), Some(one.generation()));
    assert_eq!(world.count("activation-outcome", "code", "activation.silent"), 1);
    assert_eq!(world.count("rollback", "reason", "operator"), 0, "it was never promoted");
}

#[test]
fn a_probation_does_not_end_while_nothing_answers() {
    let (world, one, two, import) = approved("probation_s = 3\nengine_away_s = 6\nprobe_s = 4");
    let before = ratchets(&world);
    world.activate(import).unwrap();
    let slot = world.slot_of(two.generation()).unwrap();
    world.script(slot).hangs.store(true, Ordering::SeqCst);
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    assert_eq!(ratchets(&world), before, "what fell forbids nothing");
}

/// A world whose machine was started again, in which no engine holds what is active and none loads it, and in
/// which the watch has looked for long enough to have gone back: in the same rounds it ended a shadow.
fn started_again_without_an_engine(mut world: World, active: GenerationId, three: &Bundle) {
    let import = world.import(three, 3).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    let scope = Scope::Share { permille: 100 };
    let kind = trial::Kind::Shadow;
    world.ask(&Request::StartTrial { kind, import, scope, seconds: 3600 }).unwrap();
    world.stop_updaterd();
    for slot in Slot::ALL {
        world.script(slot).refuses.store(true, Ordering::SeqCst);
        world.script(slot).forget();
    }
    world.config.update.engine_away_s = 1;
    world.start_updaterd();
    let ended = || world.review(import).trials.pop().and_then(|trial| trial.ended);
    wait_until(|| ended() == Some(End::Engine)).expect("the watch has looked");
    assert_eq!(world.active(), Some(active));
    assert_eq!(world.count("rollback", "reason", "probation"), 0);
}

#[test]
fn what_stood_its_probation_is_not_put_on_another_by_a_start() {
    let mut world = World::with("evaluation_required = false\nprobation_s = 1");
    world.enrol();
    // Neither forbids the other.
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let two = Bundle::new(2, "0.4");
    world.promoted(&two, 2);
    wait_until(|| stood(&world, two.generation())).expect("it is noted");
    world.config.update.probation_s = 600;
    started_again_without_an_engine(world, two.generation(), &Bundle::new(3, "0.3"));
}

#[test]
fn what_somebody_returned_to_is_not_left_by_itself() {
    let (mut world, one, _, import) = approved("probation_s = 600");
    world.activate(import).unwrap();
    back_to(&world, &one).unwrap();
    world.config.update.probation_s = 601;
    started_again_without_an_engine(world, one.generation(), &asking(3));
}

#[test]
fn a_probation_that_was_cut_off_goes_on() {
    let (mut world, one, two, import) = approved("probation_s = 600\nengine_away_s = 1");
    world.activate(import).unwrap();
    world.stop_updaterd();
    assert!(!stood(&world, two.generation()));
    let slot = world.slot_of(two.generation()).unwrap();
    world.script(slot).refuses.store(true, Ordering::SeqCst);
    world.script(slot).forget();
    world.start_updaterd();
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
}

#[test]
fn a_database_made_anew_knows_what_stood_and_what_fell() {
    let (mut world, one, two, import) =
        approved("probation_s = 600\nengine_away_s = 1\nprobe_s = 4");
    world.activate(import).unwrap();
    world.script(world.slot_of(two.generation()).unwrap()).forget();
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    wait_until(|| world.activations() == (3, 3)).expect("it has its outcome");
    assert!(!stood(&world, one.generation()) && !stood(&world, two.generation()));
    lose(&mut world);
    world.ask(&Request::Rebuild).unwrap();
    assert!(stood(&world, one.generation()) && !stood(&world, two.generation()));
}

/// Whether it is noted that a release stood its probation.
fn stood(world: &World, generation: GenerationId) -> bool {
    let state = State::open(&world.config.paths.supply_database()).unwrap();
    state.last_promotion(generation).unwrap().unwrap().stood
}
