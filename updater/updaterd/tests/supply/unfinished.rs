//! Acts that were cut off between two of their writes: what the log holds, or the shelf lost, has its
//! consequences when the updater is there again.

use std::fs;

use cloister_attest::approval::Decision;
use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::{Digest, ImportId};
use cloister_wire::{
    Reply,
    record::{self, Entry, Event, Subject},
    supply::{ImportState, Request},
};

use crate::{
    kill::{Killer, Updaterd},
    refused,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO},
        wait_until,
    },
};

fn tell_recordd(world: &World, request: &record::Request) {
    let connection = Connection::connect(&world.config.paths.socket(Role::Recordd)).unwrap();
    let reply: Reply<record::Answer> = connection.ask(request).unwrap();
    reply.unwrap();
}

/// The log takes a person's decision, and the updater dies before its database does.
fn decided_in_the_log_alone(
    world: &World,
    import: ImportId,
    person: (u8, &str),
    decision: Decision,
) {
    let shown = world.review(import);
    let of = shown.summary.unwrap().generation;
    let envelope = bundle::decision(person, &shown.package.unwrap(), of, decision);
    let act = format!("import/{import}/approval/{}", Digest::of(envelope.as_bytes()));
    tell_recordd(world, &record::Request::Deposit { event: Event::Approval, act, envelope });
}

#[test]
fn what_a_person_decided_counts_though_only_the_log_took_it() {
    let mut world = World::enrolled();
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    decided_in_the_log_alone(&world, import, EVE, Decision::Approve);
    world.start_updaterd();
    wait_until(|| world.review(import).approved_by.len() == 1).expect("the approval counts");
    decided_in_the_log_alone(&world, import, FLO, Decision::Reject);
    world.start_updaterd();
    let shown = world.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "approval.rejected");
    assert_eq!(world.count("import-refused", "code", "approval.rejected"), 1);
}

#[test]
fn a_veto_counts_however_much_was_recorded_since() {
    let mut world = World::with("approval_records_max = 4");
    world.enrol();
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    decided_in_the_log_alone(&world, import, FLO, Decision::Reject);
    for number in 0..8 {
        let facts = serde_json::json!({});
        world.append(Event::KeyChange, &format!("since/{number}"), &[], &facts);
    }
    world.start_updaterd();
    let shown = world.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "approval.rejected");
}

#[test]
fn a_veto_counts_though_another_release_was_judged_since() {
    let mut world = World::enrolled();
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    decided_in_the_log_alone(&world, import, FLO, Decision::Reject);
    // No later word of the same person takes it back.
    decided_in_the_log_alone(&world, import, FLO, Decision::Approve);
    let next = world.import(&Bundle::new(2, "0.5"), 2).unwrap();
    world.until(next, ImportState::AwaitingApproval);
    world.start_updaterd();
    let shown = world.until(import, ImportState::Refused);
    assert_eq!(shown.problem.unwrap().code, "approval.rejected");
}

#[test]
fn a_policy_that_only_the_log_took_is_changed_back_in_the_log() {
    let mut world = World::enrolled();
    let policies = |world: &World| {
        let of = |(event, facts): (String, _)| (event == "policy-change").then_some(facts);
        world.records().into_iter().filter_map(of).collect::<Vec<serde_json::Value>>()
    };
    wait_until(|| policies(&world).len() == 1).expect("it is recorded");
    let mut other = policies(&world)[0].clone();
    other["approvals_needed"] = 3.into();
    world.append(Event::PolicyChange, "policy/other", &[("policy", Digest::of(b"other"))], &other);
    world.start_updaterd();
    wait_until(|| policies(&world).len() == 3).expect("what holds is recorded again");
    assert_eq!(policies(&world)[2]["approvals_needed"], policies(&world)[0]["approvals_needed"]);
}

#[test]
fn what_was_decided_before_an_evaluation_is_void_also_after_a_crash() {
    let mut world = World::enrolled();
    let import = world.import(&Bundle::new(1, "0.5"), 1).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    decided_in_the_log_alone(&world, import, FLO, Decision::Approve);
    let package = world.review(import).package.unwrap().digest;
    world.ask(&Request::Evaluate { import }).unwrap();
    let judged = world.until(import, ImportState::AwaitingApproval);
    assert_eq!(judged.package.unwrap().digest, package, "the same figures");
    world.start_updaterd();
    let next = world.import(&Bundle::new(2, "0.5"), 2).unwrap();
    // The worker has been through when the next release is judged.
    world.until(next, ImportState::AwaitingApproval);
    let shown = world.review(import);
    assert_eq!((shown.state, shown.approved_by.len()), (ImportState::AwaitingApproval, 0));
}

#[test]
fn an_import_that_was_given_up_without_the_log_ends_when_the_log_is_back() {
    let mut world = World::enrolled();
    drop(world.begin(&Bundle::new(1, "0.5"), 1).unwrap());
    world.stop_recordd();
    let mut code = String::new();
    wait_until(|| {
        code = world.ask(&Request::Discard { import: ImportId(1) }).unwrap_err().code;
        code != "import.receiving"
    })
    .unwrap();
    assert_eq!(code, "import.unrecorded");
    world.start_recordd();
    world.until(ImportId(1), ImportState::Refused);
    assert_eq!(world.count("import-refused", "code", "import.discarded"), 1);
    assert!(!world.config.paths.quarantine().join("1").exists());
}

#[test]
fn a_release_whose_damaged_object_is_off_the_shelf_is_served_no_more() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    isolate(&mut world, b"0.4");
    wait_until(|| world.active() == Some(one.generation())).expect("the one before serves");
    wait_until(|| !is_on_the_shelf(&world, &two)).expect("the damaged one leaves the shelf");
    assert_eq!(world.records().iter().filter(|(event, _)| event == "rollback").count(), 1);
    // What holds nothing any more has no consequences the next time.
    world.start_updaterd();
    world.import(&Bundle::new(3, "0.4"), 3).unwrap();
    assert_eq!(world.active(), Some(one.generation()));
}

/// Takes the object that holds `content` off the shelf, as a scrub does that dies behind it.
fn isolate(world: &mut World, content: &[u8]) {
    world.stop_updaterd();
    let shelf = world.config.paths.shelf();
    let name = Digest::of(content).to_string();
    fs::create_dir_all(shelf.join("isolated")).unwrap();
    let object = shelf.join("objects").join(name.split_at(2).0).join(&name);
    fs::rename(object, shelf.join("isolated").join(&name)).unwrap();
    world.start_updaterd();
}

fn is_on_the_shelf(world: &World, bundle: &Bundle) -> bool {
    let generations = world.config.paths.shelf().join("generations");
    generations.join(bundle.generation().to_string()).exists()
}

#[test]
fn a_damaged_release_without_a_predecessor_serves_until_another_does() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    isolate(&mut world, b"0.5");
    world.promoted(&two, 2);
    wait_until(|| !is_on_the_shelf(&world, &one)).expect("nothing leads back to it");
    refused(world.ask(&Request::Rollback { to: None }), "rollback.no-previous");
}

#[test]
fn what_is_served_stays_loaded_when_its_second_import_is_rejected() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    world.ask(&Request::Rollback { to: None }).unwrap();
    isolate(&mut world, b"0.4");
    wait_until(|| !is_on_the_shelf(&world, &two)).expect("the damaged one leaves the shelf");
    let again = world.import(&two, 3).unwrap();
    world.until(again, ImportState::AwaitingApproval);
    world.ask(&Request::Rollback { to: Some(two.generation()) }).unwrap();
    world.decide(again, EVE, Decision::Reject).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
    assert!(world.slot_of(two.generation()).is_some(), "what is active is not taken out");
}

#[test]
fn a_volume_that_was_received_once_in_the_log_is_received_again() {
    let world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    let receiving = world.begin(&bundle, 1).unwrap();
    receiving.copy(&bundle);
    // The number of the record is given out before it.
    assert!(world.ask(&Request::Activate { import: ImportId(1) }).is_err());
    // As it was when other bytes had been read, just before the database took it.
    for act in ["import/1/received", "import/1/received/1"] {
        let subject = |name: &str, sha256| Subject { name: name.to_owned(), sha256 };
        let entry = Entry {
            event: Event::MediaSeen,
            act: act.to_owned(),
            subject: vec![
                subject("bundle", bundle.generation().0),
                subject("volume", Digest::of(b"other bytes")),
            ],
            predicate: serde_json::Map::new(),
        };
        tell_recordd(&world, &record::Request::Append(entry));
    }
    let import = receiving.complete(&bundle).unwrap();
    world.until(import, ImportState::AwaitingApproval);
}

#[test]
fn what_was_rejected_leaves_its_slot_though_the_disk_failed_once() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let two = Bundle::new(2, "0.4");
    let import = world.import(&two, 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    let slot = world.slot_of(two.generation()).unwrap();
    let pointer = world.config.paths.shelf().join("slots").join(slot.name());
    world.stop_updaterd();
    let updaterd = Updaterd::start(&world);
    let calls = "rename,unlink";
    let killer = Killer::failing(&updaterd, calls, &pointer);
    refused(world.decide(import, FLO, Decision::Reject), "shelf.io");
    drop(killer);
    assert_eq!(world.review(import).state, ImportState::Refused);
    let named =
        || fs::read_link(&pointer).ok().and_then(|target| target.file_name().map(Into::into));
    let named = || {
        named().is_some_and(|name: std::path::PathBuf| name.ends_with(two.generation().to_string()))
    };
    wait_until(|| !named()).expect("the worker gives it up");
}
