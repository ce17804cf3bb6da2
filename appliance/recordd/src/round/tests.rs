//! One round with several wishes: what each is answered, and what a round that failed leaves.

use std::{fs, path::Path};

use cloister_config::Config;
use cloister_domain::RecordIndex;
use cloister_wire::record::Subject;
use serde_json::Map;

use super::*;

fn open(folder: &Path) -> Log {
    let text = format!("[paths]\nstate = \"{}\"\n", folder.display());
    Log::open(&Config::parse(&text).expect("valid"), true).expect("a log")
}

fn wish(event: Event, act: &str) -> Wish {
    let subject = vec![Subject { name: "bundle".to_owned(), sha256: Digest::of(act.as_bytes()) }];
    Wish::Append(Entry { event, act: act.to_owned(), subject, predicate: Map::new() })
}

/// Places, or codes of refusals.
fn round(log: &mut Log, wishes: &[(Event, &str)]) -> Vec<Result<u64, String>> {
    let wishes: Vec<Wish> = wishes.iter().map(|(event, act)| wish(*event, act)).collect();
    let told = |reply: Reply<Answer>| match reply {
        Ok(Answer::Appended { index: RecordIndex(place), .. }) => Ok(place),
        Ok(other) => panic!("not appended: {other:?}"),
        Err(problem) => Err(problem.code),
    };
    log.round(wishes.iter()).into_iter().map(told).collect()
}

const MEDIA: Event = Event::MediaSeen;

#[test]
fn the_wishes_of_a_round_are_judged_one_after_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(folder.path());
    let refused = |code: &str| Err(code.to_owned());
    let (intent, outcome) = (Event::ActivationIntent, Event::ActivationOutcome);
    let answers = round(
        &mut log,
        &[
            (MEDIA, "media/1"),
            (Event::AnchorEnrolment, "anchor"),
            (Event::AnchorEnrolment, "anchor/2"),
            (MEDIA, "media/1"),
            (MEDIA, "media/1"),
            (Event::KeyChange, "media/1"),
            (intent, "activation/1/intent"),
            (intent, "activation/2/intent"),
            (outcome, "activation/1/outcome"),
            (intent, "activation/2/intent"),
        ],
    );
    let expected = [
        refused("record.unenrolled"),
        Ok(0),
        refused("record.enrolled"),
        Ok(1),
        Ok(1),
        refused("record.other-act"),
        Ok(2),
        refused("record.activation"),
        Ok(3),
        Ok(4),
    ];
    assert_eq!(answers, expected);
    assert_eq!(log.signed.size, 5);
    drop(log);
    assert_eq!(open(folder.path()).signed.size, 5);
}

#[test]
fn a_round_ends_with_its_bundle() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(folder.path());
    round(&mut log, &[(Event::AnchorEnrolment, "anchor")]);
    let acts: Vec<String> = (0..300).map(|number| format!("media/{number}")).collect();
    let wishes: Vec<(Event, &str)> = acts.iter().map(|act| (MEDIA, act.as_str())).collect();
    assert_eq!(round(&mut log, &wishes).last(), Some(&Ok(255)));
    assert_eq!((log.signed.size, log.tail.len()), (256, 0));
    assert_eq!(round(&mut log, &wishes).len(), 300, "those that are there already take no place");
    assert_eq!(log.signed.size, 301);
}

#[test]
fn a_round_that_failed_is_forgotten_and_what_it_left_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(folder.path());
    round(&mut log, &[(Event::AnchorEnrolment, "anchor")]);
    let record = folder.path().join("record");
    let disk = || Err("record.disk".to_owned());
    // The bundle of four is there, and its write fails all the same: as if the folder were not synced.
    let obstacle = record.join("tile/entries/000.p/.4.new");
    fs::create_dir(&obstacle).expect("made");
    fs::write(record.join("tile/entries/000.p/4"), b"\x00\x01x").expect("written");
    let intent = (Event::ActivationIntent, "activation/1/intent");
    let answers = round(&mut log, &[intent, (MEDIA, "media/1"), (MEDIA, "media/2")]);
    assert_eq!(answers, [disk(), disk(), disk()]);
    fs::remove_dir(&obstacle).expect("removed");
    // A narrower round whose bundle is durable, and whose tile is not.
    let obstacle = record.join("tile/0/000.p/.2.new");
    fs::create_dir(&obstacle).expect("made");
    let other = (Event::ActivationIntent, "activation/2/intent");
    assert_eq!(round(&mut log, &[other]), [disk()]);
    assert_eq!(round(&mut log, &[(MEDIA, "media/1")]), [disk()]);
    drop(log);
    fs::remove_dir(&obstacle).expect("removed");
    let mut log = open(folder.path());
    assert_eq!(log.signed.size, 2);
    assert_eq!(round(&mut log, &[other, (MEDIA, "media/1")]), [Ok(1), Ok(2)]);
}
