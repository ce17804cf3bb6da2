//! What the database promises to the updater.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{collections::BTreeSet, path::Path};

use cloister_domain::{ByteCount, Class, Coded, Digest, GenerationId, ImportId, RecordIndex};
use cloister_state::{
    Approval, Decision, Evaluation, Judgement, Kind, NewActivation, NewImport, Outcome, Series,
    State, StateError, TrustFile, allowed,
};
use cloister_wire::{Problem, intake::Summary, supply::ImportState};

const EVERY_STATE: [ImportState; 7] = [
    ImportState::Receiving,
    ImportState::Received,
    ImportState::Evaluating,
    ImportState::AwaitingApproval,
    ImportState::Approved,
    ImportState::Activated,
    ImportState::Refused,
];

fn open(place: &Path) -> State {
    State::open(&place.join("supply.db")).unwrap()
}

fn root() -> BTreeSet<String> {
    [String::from("root")].into()
}

fn summary(name: &str, counter: u64) -> Summary {
    Summary {
        generation: GenerationId(Digest::of(format!("{name} {counter}").as_bytes())),
        name: name.to_owned(),
        version: format!("{counter}.0.0"),
        counter,
        signers: vec![String::from("ada")],
        root_version: 1,
        plain_bytes: ByteCount(10),
        stored_bytes: ByteCount(9),
        present_bytes: ByteCount(0),
        files: vec![(String::from("model/weights.bin"), ByteCount(10))],
        fit: Vec::new(),
    }
}

/// Brings an import into `state` along the shortest way.
fn import_in(state: &mut State, goal: ImportState, summary: &Summary) -> ImportId {
    let import = ImportId(state.next(Series::Import).unwrap());
    let new =
        NewImport { import, summary, manifest: b"{}", operators: &root(), record: RecordIndex(1) };
    state.receive(&new).unwrap();
    if goal == ImportState::Refused {
        state.advance(import, goal, RecordIndex(2)).unwrap();
    } else {
        let steps = EVERY_STATE.iter().skip(1);
        for step in steps.take_while(|step| **step <= goal) {
            state.advance(import, *step, RecordIndex(2)).unwrap();
        }
    }
    assert_eq!(state.import(import).unwrap().state, goal);
    import
}

fn evaluation() -> Evaluation {
    Evaluation {
        figures: Vec::new(),
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        package: Digest::of(b"package"),
    }
}

fn approval(person: &str, decision: Decision, record: u64) -> Approval {
    Approval {
        person: person.parse().unwrap(),
        decision,
        envelope: person.as_bytes().to_vec(),
        record: RecordIndex(record),
    }
}

fn problem() -> Problem {
    Problem::new(Class::Refused, "evaluation.worse", "the candidate is worse")
}

#[test]
fn numbers_are_given_once_also_after_a_restart() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    assert_eq!(state.next(Series::Import).unwrap(), 1);
    assert_eq!(state.next(Series::Import).unwrap(), 2);
    assert_eq!(state.next(Series::Activation).unwrap(), 1);
    drop(state);
    assert_eq!(open(place.path()).next(Series::Import).unwrap(), 3);
}

#[test]
fn every_step_that_the_machine_lacks_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    for (number, from) in (1..).zip(EVERY_STATE) {
        for to in EVERY_STATE {
            let import = import_in(&mut state, from, &summary("m", number));
            match state.advance(import, to, RecordIndex(9)) {
                Ok(()) => {
                    assert!(allowed(from, to), "{from:?} -> {to:?}");
                    let now = state.import(import).unwrap();
                    assert_eq!((now.state, now.record), (to, RecordIndex(9)));
                }
                Err(error) => {
                    assert!(!allowed(from, to), "{from:?} -> {to:?}");
                    assert_eq!(error.code(), "import.transition");
                    assert_eq!(state.import(import).unwrap().state, from);
                }
            }
        }
    }
    let unknown = state.advance(ImportId(999), ImportState::Received, RecordIndex(0));
    assert!(matches!(unknown, Err(StateError::UnknownImport { .. })));
}

#[test]
fn an_import_is_read_back_as_it_was_stored() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let held = summary("m", 7);
    let import = import_in(&mut state, ImportState::Receiving, &held);
    drop(state);
    let mut state = open(place.path());
    let found = state.import(import).unwrap();
    assert_eq!((found.summary, found.manifest), (Some(held.clone()), Some(b"{}".to_vec())));
    assert_eq!(state.import_of(held.generation).unwrap().unwrap().import, import);
    state.refuse(import, &problem(), RecordIndex(3)).unwrap();
    assert_eq!(state.import(import).unwrap().problem, Some(problem()));
    assert_eq!(state.import_of(held.generation).unwrap(), None, "a refused one does not count");
    let refused = ImportId(state.next(Series::Import).unwrap());
    state.receive_refused(refused, None, &problem(), RecordIndex(4)).unwrap();
    let newest: Vec<ImportId> =
        state.imports(50).unwrap().iter().map(|import| import.import).collect();
    assert_eq!(newest, [refused, import]);
}

#[test]
fn refused_imports_push_out_none_that_waits() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let waiting = import_in(&mut state, ImportState::Receiving, &summary("m", 7));
    let over = import_in(&mut state, ImportState::Activated, &summary("m", 6));
    let refused = [(); 4].map(|()| {
        let refused = ImportId(state.next(Series::Import).unwrap());
        state.receive_refused(refused, None, &problem(), RecordIndex(9)).unwrap();
        refused
    });
    let listed = |count| -> Vec<ImportId> {
        state.imports(count).unwrap().iter().map(|import| import.import).collect()
    };
    assert_eq!(listed(2), [refused[3], refused[2], waiting]);
    assert_eq!(listed(5), [refused[3], refused[2], refused[1], refused[0], over, waiting]);
}

#[test]
fn a_passed_evaluation_raises_the_counter_and_a_refused_one_does_not() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let worse = import_in(&mut state, ImportState::Evaluating, &summary("m", 9));
    let refused = Judgement::Refused(problem());
    state.evaluated(worse, &evaluation(), &refused, RecordIndex(5)).unwrap();
    assert_eq!(state.import(worse).unwrap().state, ImportState::Refused);
    assert_eq!(state.counter("m").unwrap(), None);
    for counter in [3, 2] {
        let import = import_in(&mut state, ImportState::Evaluating, &summary("m", counter));
        state.evaluated(import, &evaluation(), &Judgement::Passed, RecordIndex(6)).unwrap();
        assert_eq!(state.import(import).unwrap().state, ImportState::AwaitingApproval);
        assert_eq!(state.counter("m").unwrap(), Some((3, summary("m", 3).generation)));
        assert_eq!(state.evaluation(import).unwrap(), Some(evaluation()));
    }
}

#[test]
fn decisions_are_kept_and_one_rejection_refuses() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let import = import_in(&mut state, ImportState::Evaluating, &summary("m", 1));
    state.evaluated(import, &evaluation(), &Judgement::Passed, RecordIndex(2)).unwrap();
    assert_eq!(state.import_of_package(evaluation().package).unwrap(), Some(import));
    let ada = approval("ada", Decision::Approve, 3);
    state.decided(import, &ada, None).unwrap();
    assert_eq!(state.import(import).unwrap().state, ImportState::AwaitingApproval);
    let bob = approval("bob", Decision::Approve, 4);
    state.decided(import, &bob, Some(&Judgement::Passed)).unwrap();
    assert_eq!(state.import(import).unwrap().state, ImportState::Approved);
    let eve = approval("eve", Decision::Reject, 5);
    state.decided(import, &eve, Some(&Judgement::Refused(problem()))).unwrap();
    assert_eq!(state.import(import).unwrap().state, ImportState::Refused);
    assert_eq!(state.decisions(import).unwrap(), [ada, bob, eve]);
}

#[test]
fn what_is_judged_again_is_decided_on_again() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let import = import_in(&mut state, ImportState::Evaluating, &summary("m", 1));
    state.evaluated(import, &evaluation(), &Judgement::Passed, RecordIndex(2)).unwrap();
    let ada = approval("ada", Decision::Approve, 3);
    state.decided(import, &ada, Some(&Judgement::Passed)).unwrap();
    state.evaluate_again(import, RecordIndex(4)).unwrap();
    assert_eq!(state.import(import).unwrap().state, ImportState::Evaluating);
    let other = Evaluation { package: Digest::of(b"another package"), ..evaluation() };
    state.evaluated(import, &other, &Judgement::Passed, RecordIndex(5)).unwrap();
    assert_eq!(state.evaluation(import).unwrap(), Some(other));
    assert_eq!(state.import_of_package(evaluation().package).unwrap(), None);
    let again = approval("ada", Decision::Approve, 6);
    state.decided(import, &again, None).unwrap();
    assert_eq!(state.decisions(import).unwrap(), [again], "a person has one decision");
    assert_eq!(state.import(import).unwrap().state, ImportState::AwaitingApproval);
    state.refuse(import, &problem(), RecordIndex(7)).unwrap();
    assert!(matches!(
        state.evaluate_again(import, RecordIndex(8)),
        Err(StateError::Transition { .. })
    ));
}

#[test]
fn operators_and_policies_are_kept() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let import = import_in(&mut state, ImportState::Receiving, &summary("m", 1));
    assert_eq!(state.operators(import).unwrap(), ["root"], "who began it");
    for operators in [["op2", "op1"], ["op2", "root"]] {
        state.imported_by(import, &operators.map(str::to_owned).into()).unwrap();
    }
    assert_eq!(state.operators(import).unwrap(), ["op1", "op2", "root"]);
    assert_eq!(state.policy().unwrap(), None);
    for (policy, record) in [(b"one", 3), (b"two", 4)] {
        state.keep_policy(Digest::of(policy), RecordIndex(record)).unwrap();
    }
    assert_eq!(state.policy().unwrap(), Some(Digest::of(b"two")));
}

fn intend(state: &mut State, generation: GenerationId, from: Option<GenerationId>) -> u64 {
    let activation = state.next(Series::Activation).unwrap();
    let new = NewActivation {
        activation,
        kind: Kind::Activate,
        generation,
        from,
        tries: 2,
        intent: RecordIndex(activation * 2),
    };
    state.intend(&new).unwrap();
    activation
}

#[test]
fn an_intent_has_bounded_tries_and_exactly_one_outcome() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let held = summary("m", 1);
    let import = import_in(&mut state, ImportState::Approved, &held);
    let activation = intend(&mut state, held.generation, None);
    assert_eq!(state.take_try(activation).unwrap(), 1);
    drop(state);
    let mut state = open(place.path());
    assert_eq!(state.under_way().unwrap().unwrap().tries_left, 1, "tries survive a restart");
    assert_eq!(state.take_try(activation).unwrap(), 0);
    state.waste_tries(activation, 3).unwrap();
    assert!(matches!(state.take_try(activation), Err(StateError::NoTries { .. })));
    state.conclude(activation, Outcome::Promoted, RecordIndex(9)).unwrap();
    assert_eq!(state.import(import).unwrap().state, ImportState::Activated);
    let again = state.conclude(activation, Outcome::Aborted, RecordIndex(10));
    assert!(matches!(again, Err(StateError::NotUnderWay { .. })));
    assert_eq!(state.under_way().unwrap(), None);
    let last = state.last_promotion(held.generation).unwrap().unwrap();
    assert_eq!(last.outcome, Some((Outcome::Promoted, RecordIndex(9))));
    assert!(!last.stood);
    state.stand(activation).unwrap();
    drop(state);
    let state = open(place.path());
    assert!(state.last_promotion(held.generation).unwrap().unwrap().stood, "after a restart too");
    assert_eq!(state.promoted().unwrap()[0].generation, held.generation);
}

#[test]
fn only_one_activation_is_under_way_and_one_that_returned_promotes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let held = summary("m", 1);
    let import = import_in(&mut state, ImportState::Approved, &held);
    let activation = intend(&mut state, held.generation, None);
    let second = NewActivation {
        activation: state.next(Series::Activation).unwrap(),
        kind: Kind::Rollback,
        generation: held.generation,
        from: None,
        tries: 1,
        intent: RecordIndex(3),
    };
    assert_eq!(state.intend(&second).unwrap_err().class(), Class::Fault);
    state.go_back(activation).unwrap();
    assert!(state.under_way().unwrap().unwrap().returning);
    state.conclude(activation, Outcome::Returned, RecordIndex(4)).unwrap();
    assert!(matches!(state.go_back(activation), Err(StateError::NotUnderWay { .. })));
    assert_eq!(state.import(import).unwrap().state, ImportState::Approved);
    assert!(state.promoted().unwrap().is_empty());
    assert_eq!(state.last_promotion(held.generation).unwrap(), None);
}

#[test]
fn trust_metadata_is_kept_byte_for_byte_and_enrolled_once() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let file = |name: &str, bytes: &[u8]| TrustFile { name: name.to_owned(), bytes: bytes.into() };
    let early = state.advance_trust(&[], "{}", RecordIndex(0));
    assert!(matches!(early, Err(StateError::NotEnrolled)));
    let root = file("1.root.json", b"{ \"spaces\" :1}");
    state.enrol(&root, "v1", RecordIndex(0)).unwrap();
    assert!(matches!(state.enrol(&root, "v1", RecordIndex(1)), Err(StateError::Enrolled)));
    let first = [file("2.root.json", b"2"), file("timestamp.json", b"t1")];
    state.advance_trust(&first, "v2", RecordIndex(4)).unwrap();
    state.advance_trust(&[file("timestamp.json", b"t2")], "v3", RecordIndex(7)).unwrap();
    let trust = state.trust().unwrap().unwrap();
    assert_eq!((trust.vector.as_str(), trust.record), ("v3", RecordIndex(7)));
    let generation = GenerationId(Digest::of(b"g"));
    let activation = intend(&mut state, generation, None);
    state.conclude(activation, Outcome::Promoted, RecordIndex(8)).unwrap();
    assert_eq!(state.trust().unwrap().unwrap().vector, "v3", "a promotion alone forbids nothing");
    state.ratchet("v4").unwrap();
    let raised = state.trust().unwrap().unwrap();
    assert_eq!((raised.vector.as_str(), raised.record), ("v4", RecordIndex(7)));
    assert_eq!(trust.files, [root, file("2.root.json", b"2"), file("timestamp.json", b"t2")]);
}

/// Switches to `generation` and concludes it.
fn promote(state: &mut State, kind: Kind, generation: GenerationId) {
    let activation = state.next(Series::Activation).unwrap();
    let intent = RecordIndex(5);
    let new = NewActivation { activation, kind, generation, from: None, tries: 1, intent };
    state.intend(&new).unwrap();
    state.conclude(activation, Outcome::Promoted, RecordIndex(6)).unwrap();
}

#[test]
fn what_was_activated_says_so_wherever_its_import_stood() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    // Approvals that count again carry a switch, although nobody decided since.
    let held = summary("m", 1);
    let waits = import_in(&mut state, ImportState::AwaitingApproval, &held);
    promote(&mut state, Kind::Activate, held.generation);
    assert_eq!(state.import(waits).unwrap().state, ImportState::Activated);
    assert_eq!(state.promoted().unwrap()[0].generation, held.generation);
    // A return activates no import that is approved, though it brings the same release.
    let again = import_in(&mut state, ImportState::Approved, &held);
    promote(&mut state, Kind::Rollback, held.generation);
    assert_eq!(state.import(again).unwrap().state, ImportState::Approved);
    promote(&mut state, Kind::Activate, held.generation);
    assert_eq!(state.import(again).unwrap().state, ImportState::Activated);
}

#[test]
fn what_is_judged_again_was_decided_by_nobody() {
    let place = tempfile::tempdir().unwrap();
    let mut state = open(place.path());
    let import = import_in(&mut state, ImportState::AwaitingApproval, &summary("m", 1));
    let approval = Approval {
        person: "eve".parse().unwrap(),
        decision: Decision::Approve,
        envelope: b"{}".to_vec(),
        record: RecordIndex(3),
    };
    state.decided(import, &approval, None).unwrap();
    assert_eq!(state.decisions(import).unwrap(), [approval]);
    state.evaluate_again(import, RecordIndex(4)).unwrap();
    assert_eq!(state.decisions(import).unwrap(), []);
}
