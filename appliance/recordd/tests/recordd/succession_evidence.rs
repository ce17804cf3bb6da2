//! What keys signed that a log had, has or is about to have: whom it convicts, and when.

use std::fs;

use cloister_domain::{Coded, Digest};
use cloister_record::{Checkpoint, verify};
use cloister_wire::record::{Answer, Event, Request};

use crate::{
    audit::Audit,
    succession::{FIRST, SECOND, is_good, replaced, verifier},
    support::{ORIGIN, Root, Running, appended, copy, key, succeed},
};

fn accept(running: &Running, checkpoint: &str, signatures: &str) -> Result<u64, String> {
    let (checkpoint, signatures) = (checkpoint.to_owned(), signatures.to_owned());
    match running.ask(&Request::Accept { checkpoint, signatures }) {
        Ok(Answer::Cosigned { size, .. }) => Ok(size),
        Ok(other) => panic!("not accepted: {other:?}"),
        Err(problem) => Err(problem.code),
    }
}

/// What a former key signed while it was the log's still speaks for the log, and against one that was put
/// back to an older copy; what it signs later does not.
#[test]
fn a_checkpoint_by_a_former_key_counts_for_what_it_was() {
    let root = Root::with(&format!("witnesses = [\"{}\"]", crate::witness::witness(20)));
    root.give_key(FIRST);
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.append(Event::KeyChange, "key/1");
    running.kill();
    root.start().kill();
    let old = root.folder.path().join("old");
    copy(&root.record(), &old);
    let running = root.start();
    running.append(Event::KeyChange, "key/2");
    let kept = running.head().1;
    running.append(Event::KeyChange, "key/3");
    let lost = running.head().1;
    running.kill();
    // The board is new; the witness brings what it signed before, and what it signed then is kept.
    let (running, _) = replaced(&root, SECOND);
    let line = crate::witness::line(20, &kept);
    assert_eq!(accept(&running, &kept, &line), Ok(3));
    let line = crate::witness::line(20, &lost);
    assert_eq!(accept(&running, &lost, &line), Ok(4));
    // Nothing was signed for that by the key that waits; it is shown, and asked about, at once.
    is_good(&running, &running.export(), 4);
    let Answer::Cosigning { text } = running.ask(&Request::Cosigning { witness: None }).unwrap()
    else {
        panic!("no request")
    };
    assert!(text.starts_with("old 4\n"), "{text}");
    running.kill();
    let (running, waiting) = replaced(&root, SECOND);
    is_good(&running, &running.export(), 4);
    assert_eq!(waiting.head.size, 4);
    appended(running.ask(&succeed(&waiting.words())));
    // Whoever exports what was witnessed is told whose it is.
    let witnessed = running.export_by(&Request::ExportWitnessed).unwrap();
    is_good(&running, &witnessed, 4);
    let Answer::Head { former_keys, .. } = running.ask(&Request::Head).unwrap() else {
        panic!("no head")
    };
    assert_eq!(former_keys, [verifier(FIRST).to_string()]);
    assert_eq!(accept(&running, &kept, &crate::witness::line(20, &kept)), Ok(3));
    // A finder of the old key signs what the log is now: no checkpoint of this log.
    let Answer::Head { origin, size, root: tree, .. } = running.ask(&Request::Head).unwrap() else {
        panic!("no head")
    };
    let now = Checkpoint { origin, size, root: tree };
    let forged = now.sign(&key(FIRST)).unwrap();
    let line = crate::witness::line(20, &forged);
    assert_eq!(accept(&running, &forged, &line), Err("record.note.signature".to_owned()));
    let mut export = running.export();
    export.insert("checkpoint".to_owned(), forged.into_bytes());
    let report = verify(&export, &running.trust_from(verifier(FIRST)));
    let codes: Vec<_> = report.faults.iter().map(Coded::code).collect();
    assert_eq!((codes, report.size), (vec!["record.export.checkpoint"], 0));
    let audit = Audit::new(&running, &crate::support::root());
    audit.replace(&export);
    let (status, said) = audit.run_words(&verifier(FIRST).to_string(), &audit.root(), &[], &[]);
    assert_eq!((status, said.contains("no signature by the log")), (Some(1), true), "{said}");
    running.kill();

    // An older copy under the new board: the same checkpoint convicts it, before and after.
    fs::remove_dir_all(root.record()).unwrap();
    copy(&old, &root.record());
    let (running, waiting) = replaced(&root, SECOND);
    let code = Err("record.rolled-back".to_owned());
    assert_eq!(accept(&running, &lost, &crate::witness::line(20, &lost)), code);
    appended(running.ask(&succeed(&waiting.words())));
    assert_eq!(accept(&running, &lost, ""), code);
    running.kill();
    let running = root.start();
    let Answer::Head { rolled_back, .. } = running.ask(&Request::Head).unwrap() else {
        panic!("no head")
    };
    assert!(!rolled_back.is_empty());
}

/// Whoever found a key that the log gave up makes any number of checkpoints with it.
#[test]
fn a_key_that_was_given_up_convicts_nobody_by_itself() {
    let key_of_witness = format!("witnesses = [\"{}\"]", crate::witness::witness(20));
    let made_up = |seed: u8, size: u64| {
        let root = Digest::of(b"made up");
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key(seed)).unwrap()
    };
    let told = Err("record.rolled-back".to_owned());
    for witnesses in [key_of_witness.as_str(), ""] {
        let root = Root::with(witnesses);
        root.give_key(FIRST);
        let running = root.start();
        running.append(Event::AnchorEnrolment, "anchor");
        running.append(Event::KeyChange, "key/1");
        running.kill();
        let (running, waiting) = replaced(&root, SECOND);
        appended(running.ask(&succeed(&waiting.words())));
        let kept = || match running.ask(&Request::Head).unwrap() {
            Answer::Head { rolled_back, .. } => rolled_back.len(),
            other => panic!("no head: {other:?}"),
        };
        let most = if witnesses.is_empty() { 64 } else { 0 };
        for number in 0..70 {
            // Of the time when the key was the log's, and of later.
            let size = if number == 0 { 1 } else { 1_000_000 + number };
            let said = accept(&running, &made_up(FIRST, size), "");
            let refused = Err("record.note.signature".to_owned());
            assert_eq!(said, if number < most { told.clone() } else { refused }, "{number}");
        }
        assert_eq!(kept() as u64, most);
        // The log's own key does, and so does what a witness saw.
        assert_eq!(accept(&running, &made_up(SECOND, 2_000_000), ""), told);
        let (by_former, by_own) = (made_up(FIRST, 2_500_000), made_up(SECOND, 2_500_000));
        let line = by_own.lines().last().unwrap();
        assert_eq!(accept(&running, &format!("{by_former}{line}\n"), ""), told, "by both");
        let seen = made_up(FIRST, 3_000_000);
        let said = accept(&running, &seen, &crate::witness::line(20, &seen));
        assert_eq!(said == told, !witnesses.is_empty());
        assert_eq!(kept() as u64, most + 2 + u64::from(!witnesses.is_empty()));
    }
}

/// The disk is put back to before the succession, and the machine keeps its key: what that key signed says so
/// while the log waits, and is evidence once the key has taken over again.
#[test]
fn a_copy_of_before_the_succession_is_told_by_what_the_machines_own_key_signed() {
    let root = Root::with(&format!("witnesses = [\"{}\"]", crate::witness::witness(20)));
    root.give_key(FIRST);
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.append(Event::KeyChange, "key/1");
    running.kill();
    let old = root.folder.path().join("old");
    copy(&root.record(), &old);
    let (running, waiting) = replaced(&root, SECOND);
    appended(running.ask(&succeed(&waiting.words())));
    running.append(Event::KeyChange, "key/2");
    let seen = running.head().1;
    running.kill();
    fs::remove_dir_all(root.record()).unwrap();
    copy(&old, &root.record());
    let (running, again) = replaced(&root, SECOND);
    assert_eq!(again.head, waiting.head);
    let evidence = |running: &Running| match running.ask(&Request::Head).unwrap() {
        Answer::Head { rolled_back, .. } => rolled_back,
        other => panic!("no head: {other:?}"),
    };
    let told = Err("record.rolled-back".to_owned());
    for line in [crate::witness::line(20, &seen), String::new()] {
        assert_eq!(accept(&running, &seen, &line), told);
    }
    // Under a third key nobody could read it, and recordd would not start.
    assert_eq!(evidence(&running), []);
    // Whoever goes on nevertheless finds it again.
    appended(running.ask(&succeed(&again.words())));
    assert_eq!(accept(&running, &seen, &crate::witness::line(20, &seen)), told);
    assert_eq!(evidence(&running).len(), 1);
    running.kill();
    assert_eq!(evidence(&root.start()).len(), 1);
}
