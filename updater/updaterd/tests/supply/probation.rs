//! After the switch: a release that stops answering is returned from without anybody's word, and what
//! stood its probation forbids what it is to forbid.

use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

use cloister_domain::{GenerationId, RecordIndex};
use cloister_state::{Kind, NewActivation, Series, State};
use cloister_wire::supply::Request;

use crate::{
    refused,
    support::{World, bundle::Bundle, wait_until},
};

/// One release is active, and another approved that forbids it.
fn approved(more: &str) -> (World, Bundle, Bundle, cloister_domain::ImportId) {
    let world = World::with(&format!("evaluation_required = false\n{more}"));
    world.enrol();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    let two = Bundle::asking(2, |release| release.min_release_counter = 2);
    let import = world.approved(&two, 2);
    (world, one, two, import)
}

/// The trust states that are kept, by the digest of their ratchets.
fn ratchets(world: &World) -> BTreeSet<String> {
    let names = fs::read_dir(world.config.paths.trust()).unwrap();
    names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn back_to(world: &World, one: &Bundle) -> cloister_wire::Reply<cloister_wire::supply::Answer> {
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
    for ending in ["", "-wal", "-shm"] {
        let mut name = world.config.paths.supply_database().into_os_string();
        name.push(ending);
        fs::remove_file(name).unwrap_or_default();
    }
    world.config.update.engine_away_s = 3600;
    world.start_updaterd();
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
fn while_it_is_on_probation_an_operator_returns_as_well() {
    let (world, one, _, import) = approved("probation_s = 600");
    world.activate(import).unwrap();
    back_to(&world, &one).unwrap();
    assert_eq!(world.active(), Some(one.generation()));
}

/// Leaves behind what an updater leaves that dies again and again behind the rename.
fn switched_without_a_try(world: &mut World, to: GenerationId, from: GenerationId) {
    world.stop_updaterd();
    let mut state = State::open(&world.config.paths.supply_database()).unwrap();
    let activation = state.next(Series::Activation).unwrap();
    world.intend(activation, to, Some(from));
    let intent = RecordIndex(u64::try_from(world.records().len()).unwrap() - 1);
    let kind = Kind::Activate;
    let new =
        NewActivation { activation, kind, generation: to, from: Some(from), tries: 0, intent };
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
