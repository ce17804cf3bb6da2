//! A candidate is measured beside the active release, which is not on trial.

use std::sync::atomic::Ordering;

use cloister_wire::supply::{ImportState, Request};

use crate::support::{World, bundle::Bundle, wait_until};

/// More than an engine that the candidate breaks gets.
const FAULTS: usize = 4;

#[test]
fn what_the_active_release_cannot_do_is_not_held_against_the_candidate() {
    let world = World::enrolled();
    let active = Bundle::new(1, "0.5");
    world.promoted(&active, 1);
    let engine = world.script(world.slot_of(active.generation()).unwrap());
    engine.declines.store(true, Ordering::SeqCst);
    let import = world.import(&Bundle::new(2, "0.5"), 2).unwrap();
    let shown = world.until(import, ImportState::AwaitingApproval);
    let golden = shown.figures.iter().find(|figure| figure.name == "golden-passed").unwrap();
    assert_eq!((golden.candidate, golden.active), (1, Some(0)));
    assert_eq!(golden.beside, Some(active.generation()));
    engine.declines.store(false, Ordering::SeqCst);
    engine.faulty.store(true, Ordering::SeqCst);
    let import = world.import(&Bundle::new(3, "0.5"), 3).unwrap();
    wait_until(|| engine.faults.load(Ordering::SeqCst) >= FAULTS).expect("it is asked again");
    assert_eq!(world.review(import).state, ImportState::Evaluating);
    assert_eq!(world.review(import).problem.unwrap().code, "evaluation.active");
    engine.faulty.store(false, Ordering::SeqCst);
    world.until(import, ImportState::AwaitingApproval);
}

#[test]
fn an_evaluation_that_comes_to_no_end_is_given_up_by_an_operator() {
    let world = World::enrolled();
    let active = Bundle::new(1, "0.5");
    world.promoted(&active, 1);
    let engine = world.script(world.slot_of(active.generation()).unwrap());
    engine.faulty.store(true, Ordering::SeqCst);
    let bundle = Bundle::new(2, "0.5");
    let import = world.import(&bundle, 2).unwrap();
    wait_until(|| engine.faults.load(Ordering::SeqCst) > 0).expect("it is asked");
    world.ask(&Request::Discard { import }).unwrap();
    let shown = world.review(import);
    assert_eq!(
        (shown.state, shown.problem.unwrap().code),
        (ImportState::Refused, "import.discarded".into())
    );
    assert_eq!(world.count("import-refused", "code", "import.discarded"), 1);
    engine.faulty.store(false, Ordering::SeqCst);
    let again = world.import(&bundle, 2).unwrap();
    world.until(again, ImportState::AwaitingApproval);
}

#[test]
fn an_active_release_that_no_engine_loads_stands_beside_nothing() {
    let world = World::enrolled();
    let active = Bundle::new(1, "0.5");
    world.promoted(&active, 1);
    let engine = world.script(world.slot_of(active.generation()).unwrap());
    engine.refuses.store(true, Ordering::SeqCst);
    engine.forget();
    let import = world.import(&Bundle::new(2, "0.5"), 2).unwrap();
    let shown = world.until(import, ImportState::AwaitingApproval);
    assert!(shown.figures.iter().all(|figure| figure.active.is_none()), "{:?}", shown.figures);
}
