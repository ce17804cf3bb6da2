//! One round with several wishes: what each is answered, and what a round that failed leaves.

use std::{fs, os::unix::fs::FileExt as _, path::Path};

use cloister_config::Config;
use cloister_domain::RecordIndex;
use cloister_wire::record::Subject;
use serde_json::Map;

use super::*;

fn open(folder: &Path) -> Log {
    opened(folder, "[record]\norigin = \"enclave/one\"\n", true).expect("a log")
}

fn opened(folder: &Path, more: &str, peers_are_separate: bool) -> Result<Log, Error> {
    let text = format!("[paths]\nstate = \"{}\"\n{more}", folder.display());
    Log::open(&Config::parse(&text).expect("valid"), peers_are_separate)
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

/// What persons sign says by the log's name which appliance is meant, so no two may have one.
#[test]
fn no_log_is_begun_in_production_under_the_name_that_is_for_trying_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = opened(folder.path(), "", true).expect_err("it has no name of its own");
    assert_eq!(refused.code(), "record.unnamed");
    let record = folder.path().join("record");
    assert!(!record.join("checkpoint").exists() && !record.join("host.key").exists());
    // One that was begun stays what it is, wherever it is opened.
    opened(folder.path(), "", false).expect("for trying out");
    opened(folder.path(), "", true).expect("its name does not change");
}

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
    ];
    assert_eq!(answers, expected, "an outcome waits until its intent is durable");
    let more = [(outcome, "activation/1/outcome"), (intent, "activation/2/intent")];
    assert_eq!(round(&mut log, &more), [Ok(3), Ok(4)]);
    assert_eq!(log.signed.size, 5);
    drop(log);
    assert_eq!(open(folder.path()).signed.size, 5);
}

#[test]
fn a_round_takes_so_many_and_the_files_follow_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(folder.path());
    round(&mut log, &[(Event::AnchorEnrolment, "anchor")]);
    let acts: Vec<String> = (0..300).map(|number| format!("media/{number}")).collect();
    let wishes: Vec<(Event, &str)> = acts.iter().map(|act| (MEDIA, act.as_str())).collect();
    assert_eq!(round(&mut log, &wishes).last(), Some(&Ok(256)));
    assert_eq!((log.signed.size, log.settled, log.tail.len()), (257, 0, 257));
    log.settle_if_due();
    assert_eq!((log.settled, log.tail.len()), (257, 1));
    assert_eq!(round(&mut log, &wishes).len(), 300, "those that are there already take no place");
    log.settle_if_due();
    assert_eq!((log.signed.size, log.settled), (301, 257), "no bundle is full");
    let mut journal = [0; 16];
    log.journal.file.read_exact_at(&mut journal, 0).expect("there");
    assert_eq!(journal[8..], 257u64.to_be_bytes(), "it began again at its beginning");
    // Whatever of it lies where, it is one log.
    for size in [1, 255, 256, 257, 258, 301] {
        let bundle = crate::files::bundle_of(size - 1, size);
        let stored = log.bundle(&bundle).expect("there");
        let entries = tiles::entries(&stored, bundle.width).expect("a bundle");
        let last = leaf_hash(entries.last().expect("not empty"));
        assert_eq!(log.tree.subtree(0, size - 1), Some(last));
    }
    drop(log);
    let log = open(folder.path());
    assert_eq!((log.signed.size, log.settled, log.tail.len()), (301, 301, 45));
}

#[test]
fn a_round_that_failed_is_forgotten_and_what_it_left_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(folder.path());
    round(&mut log, &[(Event::AnchorEnrolment, "anchor"), (MEDIA, "media/0")]);
    let record = folder.path().join("record");
    let disk = || Err("record.disk".to_owned());
    // The journal cannot be written.
    log.journal.file = fs::File::open(record.join("journal")).expect("to read only");
    let intent = (Event::ActivationIntent, "activation/1/intent");
    let answers = round(&mut log, &[intent, (MEDIA, "media/1"), (MEDIA, "media/0")]);
    assert_eq!(answers, [disk(), disk(), Ok(1)]);
    assert_eq!(log.signed.size, 2);
    // Nor anything else: before the files hold what was answered, the journal stays as it is.
    let obstacle = record.join("tile/0/000.p");
    fs::create_dir_all(obstacle.parent().expect("a folder")).expect("made");
    fs::write(&obstacle, b"").expect("written");
    assert_eq!(round(&mut log, &[(MEDIA, "media/1")]), [disk()]);
    assert_eq!(log.settled, 0);
    fs::remove_file(&obstacle).expect("removed");
    let obstacle = record.join(".journal.new");
    fs::create_dir(&obstacle).expect("made");
    assert_eq!(round(&mut log, &[(MEDIA, "media/1")]), [disk()]);
    assert_eq!(log.settled, 2);
    fs::remove_dir(&obstacle).expect("removed");
    // Of the failed intent nothing is left, in memory or on the disk.
    let other = (Event::ActivationIntent, "activation/2/intent");
    assert_eq!(round(&mut log, &[other]), [Ok(2)]);
    drop(log);
    let mut log = open(folder.path());
    assert_eq!(log.signed.size, 3);
    assert_eq!(round(&mut log, &[other, (MEDIA, "media/1")]), [Ok(2), Ok(3)]);
}

#[test]
fn files_that_cannot_be_written_cost_no_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = open(folder.path());
    round(&mut log, &[(Event::AnchorEnrolment, "anchor")]);
    let obstacle = folder.path().join("record/.checkpoint.new");
    fs::create_dir(&obstacle).expect("made");
    for number in 0..600 {
        assert_eq!(round(&mut log, &[(MEDIA, &format!("media/{number}"))]), [Ok(number + 1)]);
        log.settle_if_due();
    }
    assert_eq!((log.signed.size, log.settled), (601, 0));
    assert_eq!(log.settle_at, 768, "tried once for each bundle");
    drop(log);
    // A start that cannot write them either goes on with the journal.
    let mut log = open(folder.path());
    assert_eq!((log.signed.size, log.settled), (601, 0));
    assert_eq!(round(&mut log, &[(MEDIA, "more")]), [Ok(601)]);
    let snapshot = log.snapshot().expect("from memory");
    assert!(snapshot.full.is_empty() && snapshot.changing.len() > 6);
    fs::remove_dir(&obstacle).expect("removed");
    drop(log);
    let log = open(folder.path());
    assert_eq!((log.signed.size, log.settled), (602, 602));
}
