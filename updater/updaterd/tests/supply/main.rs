//! What the updater promises about the way of a release, on a real log and over real sockets.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

mod beside;
mod catch_up;
mod consents;
mod decisions;
mod full;
mod inspection;
mod interrupted;
mod kill;
mod lost;
mod pairs;
mod parked;
mod preflight;
mod probation;
mod rebuild;
mod retention;
mod review;
mod scrub;
mod succession;
mod support;
mod trials;
mod turns;
mod unanswered;
mod unfinished;
mod weight;

use std::{fs, sync::atomic::Ordering};

use cloister_attest::approval::Decision;
use cloister_bundle::handover;
use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::{Class, Digest, ImportId, Slot};
use cloister_wire::{
    Problem,
    supply::{Answer, ImportState, Request, Status},
};

use support::{
    World,
    bundle::{self, Bundle, EVE, FLO, STRANGER},
    wait_until,
};

fn status(world: &World) -> Status {
    match world.ask(&Request::Status).unwrap() {
        Answer::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: Result<Answer, Problem>, code: &str) {
    match reply {
        Err(problem) => assert_eq!(problem.code, code, "{problem}"),
        Ok(answer) => panic!("{code} was expected: {answer:?}"),
    }
}

#[test]
fn the_root_is_enrolled_once_as_record_0_and_only_with_the_compared_digest() {
    let world = World::new();
    let bundle = Bundle::new(1, "0.5");
    assert_eq!(world.import(&bundle, 1).unwrap_err().code, "trust.not-enrolled");
    assert!(world.records().is_empty(), "nothing comes before the enrolment");
    let root = bundle::root();
    let wrong = Request::Enrol { root: root.clone(), confirmed: Digest::of(b"other paper") };
    refused(world.ask(&wrong), "bundle.trust.confirmed");
    world.enrol();
    let again = Request::Enrol { confirmed: Digest::of(root.as_bytes()), root };
    refused(world.ask(&again), "trust.already-enrolled");
    let records = world.records();
    assert_eq!(records[0].0, "anchor-enrolment");
    assert_eq!(world.count("act-refused", "code", "trust.already-enrolled"), 1);
    assert_eq!(records[1].0, "policy-change", "what the facility demands from the beginning");
    assert_eq!(records[2].0, "configuration", "and what decides it");
    assert_eq!(records.len(), 4);
}

#[test]
fn a_release_goes_all_the_way_and_each_step_has_its_record() {
    let world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    let import = world.import(&one, 1).unwrap();
    let shown = world.until(import, ImportState::AwaitingApproval);
    let heldout = shown.figures.iter().find(|figure| figure.name == "heldout-millibits-per-byte");
    // 0.5 nats are 721.3 thousandths of a bit.
    assert_eq!(heldout.unwrap().candidate, 722);
    assert!(shown.figures.iter().all(|figure| figure.passed));
    assert_eq!((shown.approvals_needed, shown.approved_by.len()), (2, 0));

    refused(world.activate(import), "approval.threshold");
    world.decide(import, EVE, Decision::Approve).unwrap();
    refused(world.activate(import), "approval.threshold");
    assert_eq!(world.active(), None, "one alone is not enough");
    world.decide(import, FLO, Decision::Approve).unwrap();
    let Answer::Switched { generation, from, .. } = world.activate(import).unwrap() else {
        panic!("not switched")
    };
    assert_eq!((generation, from), (one.generation(), None));
    assert_eq!(world.active(), Some(generation));
    assert_eq!(world.review(import).state, ImportState::Activated);
    assert!(!world.config.paths.quarantine().join(import.to_string()).exists());

    let events: Vec<String> = world.records().into_iter().map(|(event, _)| event).collect();
    assert_eq!(
        events,
        [
            "anchor-enrolment",
            "policy-change",
            "configuration",
            "trust-update",
            "media-seen",
            "media-seen",
            "inspection",
            "import-accepted",
            "evaluation",
            "act-refused",
            "approval",
            "act-refused",
            "approval",
            "activation-intent",
            "verification_summary",
            "activation-outcome",
        ]
    );
}

#[test]
fn a_second_version_is_promoted_and_a_rollback_is_instant_and_recorded() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    assert_eq!(world.slot_of(one.generation()), Some(Slot::A), "the old one stays loaded");
    assert_eq!(world.slot_of(two.generation()), Some(Slot::B));
    let back = world.ask(&Request::Rollback { to: None }).unwrap();
    let Answer::Switched { generation, from, microseconds, .. } = back else { panic!("no switch") };
    assert_eq!((generation, from), (one.generation(), Some(two.generation())));
    assert!(microseconds < 1_000_000, "{microseconds}");
    let forth = world.ask(&Request::Rollback { to: Some(two.generation()) }).unwrap();
    assert!(matches!(forth, Answer::Switched { .. }));
    assert_eq!(world.active(), Some(two.generation()));
    let never = Request::Rollback { to: Some(Bundle::new(9, "1").generation()) };
    refused(world.ask(&never), "rollback.never-promoted");
    assert_eq!(world.count("activation-outcome", "outcome", "promoted"), 4);
    assert_eq!(world.records().iter().filter(|(event, _)| event == "rollback").count(), 2);
    assert_eq!(world.count("act-refused", "asked", "rollback"), 1);
}

#[test]
fn what_must_not_come_in_is_refused_by_name_and_recorded() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    world.promoted(&one, 1);
    assert_eq!(world.import(&one, 1).unwrap_err().code, "bundle.already-held");
    world.promoted(&two, 2);
    // With the metadata that it came with, and with newer metadata that lists it.
    assert_eq!(world.import(&one, 1).unwrap_err().code, "bundle.rollback");
    assert_eq!(world.import(&one, 3).unwrap_err().code, "bundle.rollback");
    assert_eq!(world.import(&two, 4).unwrap_err().code, "bundle.already-held");
    let other = Bundle::new(2, "0.3");
    assert_eq!(world.import(&other, 5).unwrap_err().code, "bundle.rollback", "equal is not newer");
    let forged = Bundle::signed_by(3, "0.5", STRANGER);
    assert_eq!(world.import(&forged, 6).unwrap_err().code, "bundle.signature.unknown-signer");
    for (code, count) in
        [("bundle.already-held", 2), ("bundle.rollback", 3), ("bundle.signature.unknown-signer", 1)]
    {
        assert_eq!(world.count("import-refused", "code", code), count, "{code}");
    }
    assert_eq!(status(&world).generations.len(), 2);
}

#[test]
fn a_look_leaves_nothing_behind() {
    let world = World::enrolled();
    let before = world.records().len();
    let connection = Connection::connect(&world.config.paths.socket(Role::Updaterd)).unwrap();
    let look = handover::Request::Offer(Bundle::new(1, "0.5").offer(1, true));
    let answer: handover::Answer = connection.ask(&look).unwrap();
    let handover::Answer::Seen(seen) = answer else { panic!("{answer:?}") };
    assert_eq!((seen.import, seen.summary.signers.as_slice()), (None, &["pub".to_owned()][..]));
    let forged = Bundle::signed_by(1, "0.5", STRANGER);
    let answer: handover::Answer =
        connection.ask(&handover::Request::Offer(forged.offer(1, true))).unwrap();
    assert!(matches!(answer, handover::Answer::Problem(_)));
    assert_eq!(world.records().len(), before);
    assert!(status(&world).imports.is_empty());
}

#[test]
fn a_finished_file_that_was_changed_in_quarantine_is_refused() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let changed = world.import_spoilt(&bundle, 1, |folder| {
        fs::write(folder.join("files/4.part"), "0.6").unwrap();
    });
    assert_eq!(changed.unwrap_err().code, "shelf.content");
    assert_eq!(world.review(ImportId(1)).state, ImportState::Refused);
    assert_eq!(world.count("import-refused", "code", "shelf.content"), 1);
    assert!(!world.config.paths.quarantine().join("1").exists());
    // The same release from a good stick comes in.
    let import = world.import(&bundle, 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
}

#[test]
fn a_volume_that_turns_out_wrong_is_refused_and_a_pulled_stick_is_not() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let problem = Problem::new(Class::Refused, "bundle.digest", "a chunk is wrong");
    for (resumable, state) in [(true, ImportState::Receiving), (false, ImportState::Refused)] {
        let connection = Connection::connect(&world.config.paths.socket(Role::Updaterd)).unwrap();
        let offer = handover::Request::Offer(bundle.offer(1, false));
        let answer: handover::Answer = connection.ask(&offer).unwrap();
        assert!(matches!(answer, handover::Answer::Seen(_)), "{answer:?}");
        let abort = handover::Request::Abort { problem: problem.clone(), resumable };
        let answer: handover::Answer = connection.ask(&abort).unwrap();
        assert_eq!(answer, handover::Answer::Aborted);
        assert_eq!(world.review(ImportId(1)).state, state, "one import, gone on with");
    }
    assert_eq!(world.count("import-refused", "code", "bundle.digest"), 1);
    // Wrong before its head could be offered.
    let connection = Connection::connect(&world.config.paths.socket(Role::Updaterd)).unwrap();
    let abort = handover::Request::Abort { problem, resumable: false };
    let answer: handover::Answer = connection.ask(&abort).unwrap();
    assert_eq!(answer, handover::Answer::Aborted);
    assert_eq!(world.count("import-refused", "code", "bundle.digest"), 2);
}

#[test]
fn a_worse_model_is_refused_swept_and_its_slot_given_back() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    let worse = Bundle::new(3, "0.9");
    let import = world.import(&worse, 3).unwrap();
    let shown = world.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "evaluation.worse");
    let failed: Vec<&str> = shown
        .figures
        .iter()
        .filter(|figure| !figure.passed)
        .map(|figure| figure.name.as_str())
        .collect();
    assert_eq!(failed, ["heldout-millibits-per-byte"]);
    let swept = || status(&world).generations.len() == 2;
    wait_until(swept).expect("the candidate leaves the shelf");
    assert_eq!(world.slot_of(one.generation()), Some(Slot::A), "a rollback stays instant");
    assert_eq!(world.count("evaluation", "verdict", "refused"), 1);
    assert_eq!(world.count("import-refused", "code", "evaluation.worse"), 1);
    assert_eq!(world.active(), Some(two.generation()));
}

#[test]
fn a_model_that_the_engine_refuses_is_refused() {
    let world = World::enrolled();
    world.script(Slot::A).refuses.store(true, Ordering::SeqCst);
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    let shown = world.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "weights.family");
}

#[test]
fn a_release_without_a_set_is_judged_by_loading_and_the_record_says_so() {
    let world = World::with("evaluation_required = false");
    world.enrol();
    let import = world.import(&Bundle::bare(1, "0.5"), 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    assert_eq!(world.count("evaluation", "evaluation_set", "none"), 1);
    let strict = World::enrolled();
    let import = strict.import(&Bundle::bare(1, "0.5"), 1).unwrap();
    let shown = strict.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "evaluation.worse");
}

#[test]
fn what_cannot_be_recorded_does_not_happen() {
    let mut world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let import = world.approved(&bundle, 1);
    world.stop_recordd();
    refused(world.activate(import), "record.unavailable");
    assert_eq!(world.active(), None);
    let next = world.import(&Bundle::new(2, "0.5"), 2).unwrap_err();
    assert_eq!(next.code, "record.unavailable");
    world.start_recordd();
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(bundle.generation()));
}

#[test]
fn a_generation_that_does_not_answer_after_the_switch_is_left_again() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    world.promoted(&one, 1);
    let import = world.approved(&two, 2);
    world.script(Slot::B).faulty.store(true, Ordering::SeqCst);
    refused(world.activate(import), "activation.returned");
    assert_eq!(world.active(), Some(one.generation()));
    assert_eq!(world.review(import).state, ImportState::Approved);
    assert_eq!(world.count("activation-outcome", "outcome", "returned"), 1);
    world.script(Slot::B).faulty.store(false, Ordering::SeqCst);
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
}

#[test]
fn an_evaluation_waits_for_engines_and_goes_on_after_a_restart() {
    let mut world = World::enrolled();
    world.stop_engine(Slot::A);
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    wait_until(|| world.review(import).problem.is_some()).expect("the wait is shown");
    assert_eq!(world.review(import).state, ImportState::Evaluating);
    world.start_updaterd();
    assert_eq!(world.review(import).state, ImportState::Evaluating);
    world.start_engine(Slot::A);
    world.until(import, ImportState::AwaitingApproval);
}

#[test]
fn a_candidate_that_breaks_the_engine_each_time_is_refused() {
    let world = World::enrolled();
    world.script(Slot::A).faulty.store(true, Ordering::SeqCst);
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    let shown = world.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "evaluation.engine-lost");
}

#[test]
fn an_activation_that_cannot_load_is_aborted_before_the_switch() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.5"));
    world.promoted(&one, 1);
    let import = world.approved(&two, 2);
    world.stop_engine(Slot::B);
    refused(world.activate(import), "peer.unavailable");
    assert_eq!(world.active(), Some(one.generation()), "never switched");
    assert_eq!(world.count("activation-outcome", "outcome", "aborted"), 1);
    world.start_engine(Slot::B);
    world.activate(import).unwrap();
    assert_eq!(world.activations(), (3, 3));
}
