//! What only several persons together allow: a return below the floor, and going on with a log that
//! was restored from an old copy.

use std::{fs, path::Path};

use cloister_attest::{approval::Decision, consent::Matter};
use cloister_config::Role;
use cloister_daemon::Connection;
use cloister_domain::{Digest, GenerationId, LogHead};
use cloister_record::Note;
use cloister_wire::{
    Reply, record,
    supply::{Answer, ImportState, Request},
};

use crate::{
    refused, status,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO, STRANGER},
    },
};

fn head(world: &World) -> (LogHead, String) {
    let connection = Connection::connect(&world.config.paths.socket(Role::Recordd)).unwrap();
    let reply: Reply<record::Answer> = connection.ask(&record::Request::Head).unwrap();
    let record::Answer::Head { origin, size, checkpoint, .. } = reply.unwrap() else {
        panic!("no head")
    };
    (LogHead { origin, size }, checkpoint)
}

fn consent(world: &World, person: (u8, &str), matter: Matter) -> Reply<Answer> {
    let envelope = bundle::consent(person, matter, head(world).0);
    world.ask(&Request::Consent { envelope })
}

fn persons(reply: Reply<Answer>) -> usize {
    match reply.unwrap() {
        Answer::Consented { persons, needed } => {
            assert_eq!(needed, 2);
            persons.len()
        }
        other => panic!("{other:?}"),
    }
}

/// Two releases were active, and the second forbids the first.
fn below_the_floor(more: &str) -> (World, GenerationId, GenerationId) {
    let world = World::with(&format!("evaluation_required = false\n{more}"));
    world.enrol();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    let two = Bundle::asking(2, |release| release.min_release_counter = 2);
    world.promoted(&two, 2);
    (world, one.generation(), two.generation())
}

fn back(world: &World, to: GenerationId) -> Reply<Answer> {
    world.ask(&Request::Rollback { to: Some(to) })
}

#[test]
fn below_the_floor_two_persons_lead_back_once() {
    let (world, one, two) = below_the_floor("");
    refused(back(&world, one), "bundle.rollback");
    let down = Matter::Downgrade { to: one, from: two };
    refused(consent(&world, (STRANGER, "eve"), down), "approval.unknown-signer");
    refused(consent(&world, (EVE.0, "flo"), down), "approval.person");
    let nobody = GenerationId(Digest::of(b"nobody's"));
    for (matter, code) in [
        (Matter::Downgrade { to: nobody, from: two }, "rollback.never-promoted"),
        (Matter::Downgrade { to: one, from: nobody }, "downgrade.other"),
        (Matter::Downgrade { to: two, from: two }, "activation.already-active"),
    ] {
        refused(consent(&world, EVE, matter), code);
    }
    assert_eq!(persons(consent(&world, EVE, down)), 1);
    refused(back(&world, one), "approval.threshold");
    assert_eq!(persons(consent(&world, EVE, down)), 1, "one person counts once");
    refused(back(&world, one), "approval.threshold");
    assert_eq!(persons(consent(&world, FLO, down)), 2);
    assert_eq!(world.active(), Some(two), "a leave alone switches nothing");
    back(&world, one).unwrap();
    assert_eq!(world.active(), Some(one));
    let records = world.records();
    let intent = records.iter().rfind(|(event, _)| event == "activation-intent").unwrap();
    assert_eq!(intent.1["kind"], "downgrade");
    assert_eq!(intent.1["because"]["authorised_by"], serde_json::json!(["eve", "flo"]));
    assert_eq!(records.iter().filter(|(event, _)| event == "downgrade").count(), 3);

    // The floor stays where it was, and the leave is used up.
    back(&world, two).unwrap();
    refused(back(&world, one), "bundle.rollback");
    // Two who consent again lead down again; one of them from before does not count.
    assert_eq!(persons(consent(&world, FLO, down)), 1);
    refused(back(&world, one), "approval.threshold");
    assert_eq!(persons(consent(&world, EVE, down)), 2);
    back(&world, one).unwrap();
}

#[test]
fn a_leave_is_of_this_log_and_outlives_so_many_records() {
    let (world, one, two) = below_the_floor("approval_records_max = 12");
    let down = Matter::Downgrade { to: one, from: two };
    let (here, _) = head(&world);
    let at = |log| world.ask(&Request::Consent { envelope: bundle::consent(EVE, down, log) });
    refused(
        at(LogHead { origin: "another/one".to_owned(), size: here.size }),
        "approval.appliance",
    );
    refused(at(LogHead { size: here.size + 10, ..here.clone() }), "approval.future");
    at(here.clone()).unwrap();
    for _refusal in 0..10 {
        refused(back(&world, GenerationId(Digest::of(b"x"))), "rollback.never-promoted");
    }
    refused(at(here), "approval.expired");
    assert_eq!(persons(consent(&world, FLO, down)), 2, "hers is there, and too old");
    refused(back(&world, one), "approval.expired");
    assert_eq!(persons(consent(&world, EVE, down)), 2);
    back(&world, one).unwrap();
}

#[test]
fn nobody_is_asked_for_a_leave_that_is_not_needed() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    world.promoted(&two, 2);
    let down = Matter::Downgrade { to: one.generation(), from: two.generation() };
    refused(consent(&world, EVE, down), "downgrade.not-needed");
    back(&world, one.generation()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Puts the log back to what it was; the checkpoint that it had since.
fn put_back(world: &mut World, aside: &Path) -> String {
    let log = world.config.paths.record();
    refused(back(world, GenerationId(Digest::of(b"x"))), "rollback.never-promoted");
    let (_, kept) = head(world);
    world.stop_recordd();
    fs::remove_dir_all(&log).unwrap();
    copy(aside, &log);
    world.start_recordd();
    kept
}

/// Hands in a checkpoint that the log does not contain.
fn convict(world: &World, kept: &str) {
    let connection = Connection::connect(&world.config.paths.socket(Role::Recordd)).unwrap();
    let accept = record::Request::Accept { checkpoint: kept.to_owned(), signatures: String::new() };
    let told: Reply<record::Answer> = connection.ask(&accept).unwrap();
    assert_eq!(told.unwrap_err().code, "record.rolled-back");
}

/// What persons acknowledge of a checkpoint: its text.
fn text_of(kept: &str) -> Digest {
    Digest::of(Note::parse(kept).unwrap().text().as_bytes())
}

/// A log that was put back to what it was, and convicted by a checkpoint that somebody kept.
fn restored() -> (World, Bundle, String) {
    let mut world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    let aside = world.config.paths.record().with_file_name("aside");
    copy(&world.config.paths.record(), &aside);
    let kept = put_back(&mut world, &aside);
    convict(&world, &kept);
    (world, one, kept)
}

#[test]
fn with_a_restored_log_nothing_new_comes_in_until_two_persons_allow_to_go_on() {
    let (world, one, kept) = restored();
    let checkpoint = text_of(&kept);
    let shown = status(&world).restored_log.unwrap();
    assert_eq!((shown.lacks[0].checkpoint, shown.needed), (checkpoint, 2));
    let two = Bundle::new(2, "0.4");
    assert_eq!(world.import(&two, 2).unwrap_err().code, "record.restored");
    let other = Matter::Acknowledgement { checkpoint: Digest::of(b"other") };
    refused(consent(&world, EVE, other), "record.whole");
    let goes_on = Matter::Acknowledgement { checkpoint };
    assert_eq!(persons(consent(&world, EVE, goes_on)), 1);
    assert_eq!(persons(consent(&world, EVE, goes_on)), 1, "one person counts once");
    assert_eq!(world.import(&two, 2).unwrap_err().code, "record.restored");
    assert_eq!(persons(consent(&world, FLO, goes_on)), 2);
    let shown = status(&world).restored_log.unwrap();
    assert_eq!(shown.lacks[0].acknowledged_by, ["eve", "flo"]);
    assert_eq!(shown.open().count(), 0);
    // Lines that nobody vouches for make no other checkpoint of it.
    convict(&world, &format!("{kept}\u{2014} nobody AAAAAAA=\n"));
    world.promoted(&two, 2);
    // What is served may always get safer.
    back(&world, one.generation()).unwrap();
}

#[test]
fn a_second_restored_copy_does_not_hide_behind_the_first() {
    let (mut world, _, first) = restored();
    let goes_on = |checkpoint| Matter::Acknowledgement { checkpoint };
    for person in [EVE, FLO] {
        consent(&world, person, goes_on(text_of(&first))).unwrap();
    }
    let aside = world.config.paths.record().with_file_name("aside-again");
    copy(&world.config.paths.record(), &aside);
    let second = put_back(&mut world, &aside);
    assert_ne!(text_of(&second), text_of(&first));
    convict(&world, &second);
    // Who hands in the first again does not put it in the place of the second.
    convict(&world, &first);
    let two = Bundle::new(2, "0.4");
    assert_eq!(world.import(&two, 2).unwrap_err().code, "record.restored");
    let shown = status(&world).restored_log.unwrap();
    let open: Vec<Digest> = shown.open().map(|lacking| lacking.checkpoint).collect();
    assert_eq!((open, shown.lacks.len()), (vec![text_of(&second)], 2));
    for person in [EVE, FLO] {
        assert_eq!(world.import(&two, 2).unwrap_err().code, "record.restored");
        consent(&world, person, goes_on(text_of(&second))).unwrap();
    }
    world.promoted(&two, 2);
}

#[test]
fn with_a_restored_log_nothing_is_approved_and_nothing_new_is_switched_to() {
    let (world, one, _) = restored();
    // The database was not restored: it holds what the log does not.
    let active = world.active();
    assert_eq!(active, Some(one.generation()));
    let waiting = status(&world).imports;
    assert!(waiting.iter().all(|import| import.state == ImportState::Activated));
    let import = waiting[0].import;
    refused(world.activate(import), "record.restored");
    let decision = Decision::Approve;
    refused(world.decide(import, EVE, decision), "record.restored");
    assert_eq!(world.count("act-refused", "code", "record.restored"), 2);
}
