//! A switch that was cut off behind its rename, and what persons say before its engine answers again.

use cloister_attest::approval::Decision;
use cloister_domain::{GenerationId, ImportId, Slot};
use cloister_state::Kind;
use cloister_wire::{
    record::Event,
    supply::{ImportState, Request},
};

use crate::{
    probation::switched,
    refused,
    support::{
        World,
        bundle::{Bundle, FLO},
        wait_until,
    },
};

/// More than the worker uses up.
const TRIES: u32 = 1_000_000;

/// `two` was switched to, the power failed behind the rename, and its engine is not there yet.
struct Cut {
    world: World,
    one: GenerationId,
    two: GenerationId,
    import: ImportId,
    slot: Slot,
}

fn cut() -> Cut {
    let mut world = World::with("evaluation_required = false");
    world.enrol();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    let import = world.approved(&two, 2);
    let (one, two) = (one.generation(), two.generation());
    let slot = world.slot_of(two).unwrap();
    world.stop_updaterd();
    world.stop_engine(slot);
    switched(&mut world, Kind::Activate, two, one, TRIES);
    assert_eq!(world.active(), Some(two));
    Cut { world, one, two, import, slot }
}

impl Cut {
    /// The engine is there, and the one before serves all the same.
    fn is_taken_back(&mut self, code: &str) {
        self.world.start_engine(self.slot);
        wait_until(|| self.world.active() == Some(self.one)).expect("the one before serves");
        wait_until(|| self.world.activations() == (2, 2)).expect("it has its outcome");
        assert_eq!(self.world.count("activation-outcome", "code", code), 1);
        assert_eq!(self.world.count("activation-outcome", "outcome", "returned"), 1);
    }
}

#[test]
fn what_is_still_allowed_is_promoted_when_its_engine_is_there() {
    let Cut { mut world, two, slot, .. } = cut();
    world.start_engine(slot);
    wait_until(|| world.activations() == (2, 2)).expect("it has its outcome");
    assert_eq!(world.count("activation-outcome", "outcome", "promoted"), 2);
    assert_eq!(world.active(), Some(two));
}

#[test]
fn what_was_rejected_meanwhile_is_taken_back() {
    let mut cut = cut();
    cut.world.decide(cut.import, FLO, Decision::Reject).unwrap();
    cut.is_taken_back("activation.not-approved");
    let (world, two) = (&cut.world, cut.two);
    wait_until(|| world.slot_of(two).is_none()).expect("its slot is given up");
}

#[test]
fn what_is_to_be_judged_anew_is_taken_back() {
    let mut cut = cut();
    cut.world.ask(&Request::Evaluate { import: cut.import }).unwrap();
    cut.is_taken_back("activation.not-approved");
    cut.world.until(cut.import, ImportState::AwaitingApproval);
}

#[test]
fn what_its_importer_took_back_meanwhile_is_taken_back() {
    let mut cut = cut();
    let three = Bundle::new(3, "0.3").taking_back(cut.two);
    cut.world.import(&three, 3).unwrap();
    cut.is_taken_back("bundle.revoked");
}

#[test]
fn a_return_to_what_was_taken_back_meanwhile_is_taken_back() {
    let Cut { mut world, one, two, slot, .. } = cut();
    world.start_engine(slot);
    wait_until(|| world.activations() == (2, 2)).expect("promoted");
    let slot = world.slot_of(one).unwrap();
    world.script(slot).busy.lock().unwrap().replace("engine.stopping");
    world.ask(&Request::Rollback { to: None }).unwrap_err();
    assert_eq!(world.active(), Some(two), "it does not answer");
    world.stop_updaterd();
    world.stop_engine(slot);
    switched(&mut world, Kind::Rollback, one, two, TRIES);
    let three = Bundle::new(3, "0.3").taking_back(one);
    world.import(&three, 3).unwrap();
    wait_until(|| world.active() == Some(two)).expect("what was left serves again");
    wait_until(|| world.count("activation-outcome", "code", "bundle.revoked") == 1).unwrap();
}

#[test]
fn what_the_log_says_was_promoted_is_not_open_to_a_decision() {
    let mut cut = cut();
    cut.world.stop_updaterd();
    let number = cut.world.count("activation-outcome", "outcome", "promoted") + 1;
    let facts =
        serde_json::json!({ "activation": number, "kind": "activate", "outcome": "promoted" });
    let act = format!("activation/{number}/outcome");
    cut.world.append(Event::ActivationOutcome, &act, &[("bundle", cut.two.0)], &facts);
    // The worker looks again after a while; whoever decides does not wait for it.
    cut.world.stop_recordd();
    cut.world.start_updaterd();
    cut.world.start_recordd();
    refused(cut.world.decide(cut.import, FLO, Decision::Reject), "approval.not-open");
    assert_eq!(cut.world.active(), Some(cut.two));
}
