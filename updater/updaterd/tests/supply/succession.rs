//! The log's host key is lost: nothing is done that must leave a record, what serves goes on serving, and
//! as many persons as must approve let another key succeed, all at once.

use std::fs;

use cloister_attest::{approval::Decision, consent::Matter};
use cloister_domain::{Digest, ImportId, LogHead};
use cloister_record::{Report, Trust, VerifierKey, verify};
use cloister_wire::{
    Reply, record,
    supply::{Answer, ImportState, Request},
};

use crate::{
    rebuild, refused, status,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO, STRANGER},
        export,
    },
};

/// The machine gets another board: the host key is gone, and the next start makes another.
fn replace_board(world: &mut World) -> VerifierKey {
    let former = head(world).1;
    world.stop_recordd();
    fs::remove_file(world.config.paths.record().join("host.key")).unwrap();
    world.start_recordd();
    former
}

/// The log as persons see it, its key, and what waits to succeed that.
fn head(world: &World) -> (LogHead, VerifierKey, Option<record::Successor>) {
    let head = world.ask_recordd(&record::Request::Head).unwrap();
    let record::Answer::Head { origin, size, log_key, successor, .. } = head else {
        panic!("no head")
    };
    (LogHead { origin, size }, log_key.parse().unwrap(), successor)
}

/// What a person signs, changed before.
fn word(
    world: &World,
    person: (u8, &str),
    change: impl FnOnce(&mut Matter, &mut LogHead),
) -> String {
    let (mut log, _, successor) = head(world);
    let successor = successor.expect("a key waits");
    let (checkpoint, key) = (successor.checkpoint, successor.key);
    let mut matter = Matter::Succession { checkpoint, key };
    change(&mut matter, &mut log);
    bundle::consent(person, matter, log)
}

fn words(world: &World) -> Vec<String> {
    [EVE, FLO].map(|person| word(world, person, |_, _| {})).to_vec()
}

fn succeed(world: &World, envelopes: &[String]) -> Reply<Answer> {
    world.ask(&Request::Succeed { envelopes: envelopes.to_vec() })
}

/// What an auditor finds who noted `first` at the enrolment.
fn report(world: &World, first: &VerifierKey) -> Report {
    let export = export(&world.config);
    let (root, approvers) = cloister_verify::auditors_view(&[bundle::root().as_bytes()]).unwrap();
    verify(&export, &Trust { log: first.clone(), root, approvers, policy: None })
}

/// Two releases were promoted, a third awaits approval, and the board was replaced.
fn lost() -> (World, ImportId, VerifierKey) {
    let mut world = World::enrolled();
    for (version, held_out) in [(1, "0.5"), (2, "0.4")] {
        world.promoted(&Bundle::new(version, held_out), version);
    }
    let waiting = world.import(&Bundle::new(3, "0.3"), 3).unwrap();
    world.until(waiting, ImportState::AwaitingApproval);
    assert_eq!(status(&world).lost_key, None);
    let first = replace_board(&mut world);
    (world, waiting, first)
}

#[test]
fn while_the_key_is_lost_nothing_is_done_and_what_serves_goes_on() {
    let (world, waiting, first) = lost();
    let records = world.records().len();
    let shown = status(&world).lost_key.expect("it is shown");
    let successor = head(&world).2.expect("a key waits");
    assert_eq!(shown.log_key, first.to_string());
    assert_eq!(shown.successor, successor.log_key);
    assert_eq!((shown.size, shown.needed), (records as u64, Some(2)));
    let changed = "record.key.changed";
    let active = world.active().unwrap();
    refused(world.ask(&Request::Rollback { to: None }), changed);
    refused(world.ask(&Request::Pin { generation: active, pinned: true }), changed);
    refused(world.decide(waiting, EVE, Decision::Approve), changed);
    refused(world.activate(waiting), changed);
    assert_eq!(world.import(&Bundle::new(4, "0.2"), 4).unwrap_err().code, changed);
    // One by one words cannot be handed in, nor kept for later.
    let alone = words(&world).remove(0);
    refused(world.ask(&Request::Consent { envelope: alone }), changed);
    assert_eq!(world.active(), Some(active));
    assert_eq!(world.review(waiting).approved_by, Vec::<String>::new());
    assert_eq!(world.records().len(), records);
}

/// What is changed of a word before it is signed.
type Slip = fn(&mut Matter, &mut LogHead);

#[test]
fn words_for_something_else_or_by_too_few_let_no_key_succeed() {
    let (world, _, _) = lost();
    let records = world.records().len();
    let all = words(&world);
    let slips: [(&str, Slip); 6] = [
        ("record.key.other", |_, log| log.size -= 1),
        ("record.key.other", |_, log| log.size += 1),
        ("approval.appliance", |_, log| log.origin += "/2"),
        ("record.key.other", |matter, _| {
            *matter = Matter::Acknowledgement { checkpoint: Digest::of(b"other") };
        }),
        ("record.key.other", |matter, _| {
            if let Matter::Succession { key, .. } = matter {
                *key = Digest::of(b"other");
            }
        }),
        ("record.key.other", |matter, _| {
            if let Matter::Succession { checkpoint, .. } = matter {
                *checkpoint = Digest::of(b"other");
            }
        }),
    ];
    for (code, slip) in slips {
        refused(succeed(&world, &[all[0].clone(), word(&world, FLO, slip)]), code);
    }
    let by = |person| word(&world, person, |_, _| {});
    for (code, words) in [
        ("approval.threshold", vec![]),
        ("approval.threshold", vec![all[0].clone()]),
        ("approval.threshold", vec![all[0].clone(), all[0].clone()]),
        ("approval.unknown-signer", vec![all[0].clone(), by((STRANGER, "flo"))]),
        ("approval.person", vec![all[0].clone(), by((EVE.0, "flo"))]),
        ("approval.unknown-signer", vec![all[0].clone(), all[1].clone(), by((STRANGER, "gus"))]),
    ] {
        refused(succeed(&world, &words), code);
    }
    assert_eq!(world.records().len(), records);
    assert!(status(&world).lost_key.is_some());
}

#[test]
fn two_persons_let_another_key_succeed_and_what_was_under_way_goes_on() {
    let (world, waiting, first) = lost();
    let (records, all) = (world.records().len() as u64, words(&world));
    let successor = head(&world).2.expect("a key waits");
    // Twice by one of them counts once, and does no harm.
    let thrice = [all[0].clone(), all[1].clone(), all[0].clone()];
    let done = succeed(&world, &thrice).unwrap();
    let Answer::Succeeded { log_key, record } = &done else { panic!("{done:?}") };
    assert_eq!((log_key, record.0), (&successor.log_key, records + 2));
    assert_eq!(succeed(&world, &all).unwrap(), done, "whoever was not told asks again");
    refused(succeed(&world, &all[..1]), "record.key.stands");
    assert_eq!(status(&world).lost_key, None);
    world.promoted_again(waiting);
    world.promoted(&Bundle::new(4, "0.2"), 4);
    let report = report(&world, &first);
    assert_eq!(report.faults, []);
    assert_eq!(report.keys.now().to_string(), successor.log_key);
    // A word for a key that is there is no consent to anything else.
    let (log, _, _) = head(&world);
    let matter = Matter::Succession { checkpoint: successor.checkpoint, key: successor.key };
    let envelope = bundle::consent(EVE, matter, log);
    refused(world.ask(&Request::Consent { envelope }), "record.key.other");
}

#[test]
fn a_database_that_is_lost_later_is_rebuilt_over_a_succession() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    let import = world.import(&two, 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    world.decide(import, EVE, Decision::Approve).unwrap();
    let first = replace_board(&mut world);
    let words = words(&world);
    succeed(&world, &words).unwrap();
    rebuild::same_after(&mut world, "another key succeeded");
    world.decide(import, FLO, Decision::Approve).unwrap();
    world.activate(import).unwrap();
    rebuild::same_after(&mut world, "a release was promoted under it");
    assert_eq!(report(&world, &first).faults, []);
}

/// Board and database are lost together: the log says who may let a key succeed, and then what happened.
#[test]
fn a_database_that_is_lost_with_the_key_comes_back_after_it() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let first = replace_board(&mut world);
    rebuild::lose(&mut world);
    assert!(status(&world).lost);
    assert_eq!(status(&world).lost_key.expect("it is shown").needed, None);
    refused(rebuild::rebuild(&world), "record.key.changed");
    let all = words(&world);
    refused(succeed(&world, &all[..1]), "approval.threshold");
    succeed(&world, &all).unwrap();
    refused(world.ask(&Request::Rollback { to: None }), "state.lost");
    rebuild::rebuild(&world).unwrap();
    world.promoted(&Bundle::new(2, "0.4"), 2);
    assert_eq!(report(&world, &first).faults, []);
}
