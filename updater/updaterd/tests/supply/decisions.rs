//! Who decides about a release, about what, and for how long.

use std::fs;

use cloister_attest::approval::Decision;
use cloister_domain::{Digest, ImportId};
use cloister_wire::{
    Reply,
    supply::{Answer, ImportState, Package, Request},
};

use crate::{
    rebuild, refused,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO, STRANGER},
        wait_until,
    },
};

const YES: Decision = Decision::Approve;

/// A user of no machine, so that its number is its name.
pub(crate) const OPERATOR: u32 = 61_001;

/// A release that awaits approval, and what an approval of it must name.
fn awaiting(world: &World, bundle: &Bundle) -> (ImportId, Package) {
    let import = world.import(bundle, 1).unwrap();
    let package = world.until(import, ImportState::AwaitingApproval).package.unwrap();
    (import, package)
}

/// A decision about `package`, whatever the appliance shows.
fn hand_in(
    world: &World,
    person: (u8, &str),
    package: &Package,
    bundle: &Bundle,
    decision: Decision,
) -> Reply<Answer> {
    let envelope = bundle::decision(person, package, bundle.generation(), decision);
    world.ask(&Request::Approve { envelope })
}

/// Leaves so many records in the log.
fn write_records(world: &World, count: usize) {
    for _record in 0..count {
        let before = world.records().len();
        refused(
            world.ask(&Request::Rollback { to: Some(bundle_of_nobody()) }),
            "rollback.never-promoted",
        );
        assert_eq!(world.records().len(), before + 1);
    }
}

fn bundle_of_nobody() -> cloister_domain::GenerationId {
    cloister_domain::GenerationId(Digest::of(b"nobody's"))
}

#[test]
fn only_approvers_decide_each_once_and_about_what_was_shown() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let (import, package) = awaiting(&world, &bundle);
    let hand_in =
        |person, package: &Package, decision| hand_in(&world, person, package, &bundle, decision);
    refused(hand_in((STRANGER, "eve"), &package, YES), "approval.unknown-signer");
    refused(hand_in((EVE.0, "flo"), &package, YES), "approval.person");
    let other = Digest::of(b"other");
    for wrong in [
        Package { digest: other, ..package.clone() },
        Package { policy: other, ..package.clone() },
        Package { evidence: other, ..package.clone() },
    ] {
        refused(hand_in(EVE, &wrong, YES), "approval.package");
    }
    let of_another = bundle::decision(EVE, &package, bundle_of_nobody(), YES);
    refused(world.ask(&Request::Approve { envelope: of_another }), "approval.package");
    hand_in(EVE, &package, YES).unwrap();
    refused(hand_in(EVE, &package, YES), "approval.decided");
    assert_eq!(world.review(import).approved_by, ["eve"]);
    hand_in(FLO, &package, Decision::Reject).unwrap();
    let shown = world.review(import);
    assert_eq!(shown.problem.unwrap().code, "approval.rejected");
    refused(world.activate(import), "activation.not-approved");
    assert_eq!(world.count("act-refused", "asked", "approve"), 7);
    assert_eq!(world.count("import-refused", "code", "approval.rejected"), 1);
}

#[test]
fn who_operated_the_import_does_not_approve_it_but_may_reject_it() {
    let world = World::with(&format!("operators = [\"{OPERATOR}=eve\"]"));
    world.enrol();
    let bundle = Bundle::new(1, "0.5").imported_by(OPERATOR);
    let (import, package) = awaiting(&world, &bundle);
    assert_eq!(world.review(import).imported_by, [&OPERATOR.to_string(), "eve"]);
    assert_eq!(world.count("media-seen", "operator", &OPERATOR.to_string()), 2);
    refused(hand_in(&world, EVE, &package, &bundle, YES), "approval.importer");
    hand_in(&world, FLO, &package, &bundle, YES).unwrap();
    refused(world.activate(import), "approval.threshold");
    hand_in(&world, EVE, &package, &bundle, Decision::Reject).unwrap();
    assert_eq!(world.review(import).state, ImportState::Refused);
}

#[test]
fn who_was_behind_the_operator_of_an_import_does_not_approve_it_whatever_is_configured_later() {
    let mut world = World::with(&format!("operators = [\"{OPERATOR}=eve\"]"));
    world.enrol();
    let bundle = Bundle::new(1, "0.5").imported_by(OPERATOR);
    let (import, package) = awaiting(&world, &bundle);
    world.config.update.operators.clear();
    world.start_updaterd();
    assert_eq!(world.review(import).state, ImportState::AwaitingApproval);
    refused(hand_in(&world, EVE, &package, &bundle, YES), "approval.importer");
    rebuild::same_after(&mut world, "the configuration names nobody");
    refused(hand_in(&world, EVE, &package, &bundle, YES), "approval.importer");
}

#[test]
fn a_release_whose_set_is_taken_no_more_can_be_rejected_still() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let (import, package) = awaiting(&world, &bundle);
    let release =
        world.config.paths.shelf().join("generations").join(bundle.generation().to_string());
    let set = release.join("tree/evaluation/evaluation.json");
    fs::remove_file(&set).unwrap();
    fs::write(&set, "[]").unwrap();
    for person in [EVE, FLO] {
        hand_in(&world, person, &package, &bundle, YES).unwrap();
    }
    refused(world.activate(import), "approval.policy");
    hand_in(&world, FLO, &package, &bundle, Decision::Reject).unwrap();
    assert_eq!(world.review(import).state, ImportState::Refused);
}

#[test]
fn an_approval_is_of_this_log_and_outlives_so_many_records() {
    let world = World::with("approval_records_max = 4");
    world.enrol();
    let bundle = Bundle::new(1, "0.5");
    let (import, package) = awaiting(&world, &bundle);
    let at = |change: fn(&mut Package)| {
        let mut other = package.clone();
        change(&mut other);
        other
    };
    let elsewhere = at(|package| package.log.origin = "another/one".to_owned());
    refused(hand_in(&world, EVE, &elsewhere, &bundle, YES), "approval.appliance");
    let early = at(|package| package.log.size += 100);
    refused(hand_in(&world, EVE, &early, &bundle, YES), "approval.future");
    write_records(&world, 3);
    refused(hand_in(&world, EVE, &package, &bundle, YES), "approval.expired");
    for person in [EVE, FLO] {
        world.decide(import, person, YES).unwrap();
    }
    assert_eq!(world.review(import).state, ImportState::Approved);
    write_records(&world, 3);
    refused(world.activate(import), "approval.expired");
    assert_eq!(world.active(), None);
    // The same persons may say it again.
    for person in [EVE, FLO] {
        world.decide(import, person, YES).unwrap();
    }
    world.activate(import).unwrap();
}

#[test]
fn what_was_decided_is_void_when_the_policy_changes_or_a_release_is_judged_again() {
    let mut world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let import = world.approved(&bundle, 1);
    let before = world.review(import).package.unwrap();
    world.stop_updaterd();
    world.config.update.golden_passed_permille_min = 500;
    world.start_updaterd();
    let changes = || world.records().iter().filter(|(event, _)| event == "policy-change").count();
    wait_until(|| changes() == 2).expect("the first policy, and the second");
    refused(world.activate(import), "approval.policy");
    world.ask(&Request::Evaluate { import }).unwrap();
    let package = world.until(import, ImportState::AwaitingApproval).package.unwrap();
    assert_ne!((package.digest, package.policy), (before.digest, before.policy));
    refused(world.activate(import), "approval.threshold");
    refused(hand_in(&world, EVE, &before, &bundle, YES), "approval.package");
    for person in [EVE, FLO] {
        world.decide(import, person, YES).unwrap();
    }
    world.activate(import).unwrap();
    refused(world.ask(&Request::Evaluate { import }), "evaluation.not-judged");
}

#[test]
fn what_was_signed_before_a_release_was_judged_again_is_void_though_the_same_was_found() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let (import, before) = awaiting(&world, &bundle);
    world.ask(&Request::Evaluate { import }).unwrap();
    let after = world.until(import, ImportState::AwaitingApproval).package.unwrap();
    assert_eq!(after.digest, before.digest, "the same was found");
    for person in [EVE, FLO] {
        refused(hand_in(&world, person, &before, &bundle, YES), "approval.superseded");
    }
    refused(world.activate(import), "approval.threshold");
    for person in [EVE, FLO] {
        world.decide(import, person, YES).unwrap();
    }
    world.activate(import).unwrap();
}

#[test]
fn what_a_person_rejected_does_not_come_in_again() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let (import, _package) = awaiting(&world, &bundle);
    world.decide(import, EVE, Decision::Reject).unwrap();
    assert_eq!(world.import(&bundle, 2).unwrap_err().code, "bundle.rejected");
    // A later release of the name does.
    let later = world.import(&Bundle::new(2, "0.5"), 3).unwrap();
    world.until(later, ImportState::AwaitingApproval);
}

#[test]
fn a_root_that_asks_more_persons_is_the_policy_from_its_record_on() {
    let world = World::enrolled();
    let receiving = world.begin(&Bundle::new(1, "0.5").asking_three(), 1).unwrap();
    let records = world.records();
    let update = records.iter().position(|(event, _)| event == "trust-update").unwrap();
    assert_eq!(records[update + 1].0, "policy-change");
    assert_eq!(records[update + 1].1["approvals_needed"], 3);
    drop(receiving);
}
