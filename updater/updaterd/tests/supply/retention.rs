//! What stays on the shelf, and what goes.

use std::fs;

use cloister_domain::GenerationId;
use cloister_wire::supply::{Answer, Reason, Request};

use crate::{
    refused, status,
    support::{World, bundle::Bundle, wait_until},
};

/// The releases on the shelf, by their counters, each with what speaks for it.
fn shelf(world: &World) -> Vec<(u64, Vec<Reason>)> {
    let mut shelf: Vec<_> = status(world)
        .generations
        .into_iter()
        .map(|generation| (generation.counter, generation.kept))
        .collect();
    shelf.sort();
    shelf
}

fn counters(world: &World) -> Vec<u64> {
    shelf(world).into_iter().map(|(counter, _why)| counter).collect()
}

fn pin(world: &World, generation: GenerationId, pinned: bool) -> Answer {
    world.ask(&Request::Pin { generation, pinned }).unwrap()
}

fn sweep(world: &World, pretend: bool) -> Vec<GenerationId> {
    match world.ask(&Request::Sweep { pretend }).unwrap() {
        Answer::Swept { generations, .. } => generations,
        other => panic!("{other:?}"),
    }
}

fn swept(world: &World) -> usize {
    world.records().iter().filter(|(event, _)| event == "sweep").count()
}

#[test]
fn former_releases_go_when_nothing_speaks_for_them_and_the_record_says_so_first() {
    let world = World::with("retained_max = 1");
    world.enrol();
    let bundles: Vec<Bundle> = (1..=4).map(|counter| Bundle::new(counter, "0.5")).collect();
    let of = |number: usize| bundles[number - 1].generation();
    world.promoted(&bundles[0], 1);
    pin(&world, of(1), true);
    pin(&world, of(1), true);
    assert_eq!(world.records().iter().filter(|(event, _)| event == "pin").count(), 1);
    world.promoted(&bundles[1], 2);
    assert_eq!(swept(&world), 0);
    world.promoted(&bundles[2], 3);
    assert_eq!(counters(&world), [1, 2, 3], "the first is pinned");
    let pinned = shelf(&world).remove(0).1;
    assert_eq!(pinned, [Reason::Pinned]);
    world.promoted(&bundles[3], 4);
    wait_until(|| counters(&world) == [1, 3, 4]).expect("the second has nothing left");
    assert_eq!(swept(&world), 1);
    assert_eq!(*world.dropped.lock().unwrap(), [of(2)], "its documents go with it");
    refused(world.ask(&Request::Rollback { to: Some(of(2)) }), "shelf.absent");
    refused(world.ask(&Request::Pin { generation: of(2), pinned: true }), "shelf.absent");
    // What is pinned can be returned to, and then the latest two are others.
    world.ask(&Request::Rollback { to: Some(of(1)) }).unwrap();
    assert_eq!(world.active(), Some(of(1)));
    wait_until(|| counters(&world) == [1, 4]).expect("the third was active before the fourth");
    world.ask(&Request::Rollback { to: Some(of(4)) }).unwrap();
    pin(&world, of(1), false);
    assert_eq!(counters(&world), [1, 4], "it was active before");
    assert_eq!(sweep(&world, true), []);
    assert_eq!(sweep(&world, false), []);
}

/// Approvals expire by the number of records.
#[test]
fn a_sweep_that_fails_is_recorded_once() {
    let world = World::with("retained_max = 1");
    world.enrol();
    let bundles: Vec<Bundle> = (1..=3).map(|counter| Bundle::new(counter, "0.5")).collect();
    world.promoted(&bundles[0], 1);
    world.promoted(&bundles[1], 2);
    // No folder, so nothing can take its place.
    let generations = world.config.paths.shelf().join("generations");
    let obstacle = generations.join(format!(".old-{}", bundles[0].generation()));
    fs::write(&obstacle, "").unwrap();
    world.promoted(&bundles[2], 3);
    for _again in 0..3 {
        refused(world.ask(&Request::Sweep { pretend: false }), "shelf.io");
    }
    assert_eq!((counters(&world), swept(&world)), (vec![1, 2, 3], 1));
    fs::remove_file(&obstacle).unwrap();
    wait_until(|| counters(&world) == [2, 3]).expect("the worker does it again");
    assert_eq!(swept(&world), 1);
}

#[test]
fn what_cannot_be_recorded_is_not_swept() {
    let mut world = World::with("retained_max = 1");
    world.enrol();
    let bundles: Vec<Bundle> = (1..=3).map(|counter| Bundle::new(counter, "0.5")).collect();
    world.promoted(&bundles[0], 1);
    pin(&world, bundles[0].generation(), true);
    world.promoted(&bundles[1], 2);
    world.promoted(&bundles[2], 3);
    world.stop_recordd();
    let unpin = Request::Pin { generation: bundles[0].generation(), pinned: false };
    refused(world.ask(&unpin), "record.unavailable");
    world.start_recordd();
    assert_eq!(counters(&world), [1, 2, 3]);
    world.ask(&unpin).unwrap();
    assert_eq!(counters(&world), [2, 3]);
    assert_eq!(swept(&world), 1);
    assert_eq!(sweep(&world, true), []);
}
