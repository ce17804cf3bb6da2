//! Logs that go on under another key, and what is asked of a checkpoint of then and of now. That two verifiers
//! agree on every slip is tested with recordd.

use super::*;
use crate::succession;

fn named(seed: u8) -> VerifierKey {
    VerifierKey::new(ORIGIN, key(seed).public()).expect("a name")
}

/// The log as it is goes on under the key of seed `next`, which ada and bob allow.
fn succeeded(log: &mut Log, former: u8, next: u8) {
    let mut tree = Tree::new();
    log.0.iter().for_each(|text| tree.push(leaf_hash(text)));
    let (size, root) = (tree.size(), tree.root());
    let head = Checkpoint { origin: ORIGIN.to_owned(), size, root };
    for (person, seed) in [("ada", 9), ("bob", 10)] {
        log.allow(person, seed, |consent| {
            consent.matter = succession::matter(&head, &named(next));
            consent.log.size = size;
        });
    }
    let place = Place { seq: size + 2, prev: log.0.last().map(|text| Digest::of(text)) };
    let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
    let entry = succession::entry(&named(former), &named(next), size);
    log.0.push(sign(&entry, place, &host, &time(), &key(next)).expect("a good entry"));
}

#[test]
fn a_log_is_followed_from_its_first_key() {
    let mut log = good();
    succeeded(&mut log, 1, 2);
    let report = verify(&log.export_by(2), &trust());
    assert_eq!((report.faults, report.size), (vec![], 12));
    assert_eq!(report.keys.all().map(|(first, _)| first).collect::<Vec<_>>(), [0, 11]);
    assert_eq!((report.keys.at(11), report.keys.at(12)), (&named(1), &named(2)));
    succeeded(&mut log, 2, 3);
    assert_eq!(verify(&log.export_by(3), &trust()).faults, []);
    // By no key but the last, and to nobody who does not know the first.
    let checkpoint = [Fault::Checkpoint(RecordError::NoteSignature)];
    for seed in [1, 2, 4] {
        let report = verify(&log.export_by(seed), &trust());
        assert_eq!((report.faults.as_slice(), report.size), (&checkpoint[..], 0), "{seed}");
    }
    let stranger = Trust { log: named(3), ..trust() };
    assert!(!verify(&log.export_by(3), &stranger).faults.is_empty());
}

#[test]
fn any_flipped_byte_of_a_succession_is_found() {
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0");
    succeeded(&mut log, 1, 2);
    let export = log.export_by(2);
    assert_eq!(verify(&export, &trust()).faults, []);
    for (path, bytes) in &export {
        for place in 0..bytes.len() {
            let mut changed = export.clone();
            changed.get_mut(path).expect("there")[place] ^= 0x20;
            let faults = verify(&changed, &trust()).faults;
            assert!(!faults.is_empty(), "{path}, byte {place}");
        }
    }
}

#[test]
fn a_checkpoint_of_before_is_by_the_key_of_then() {
    let mut log = good();
    let before = log.export();
    succeeded(&mut log, 1, 2);
    let now = log.export_by(2);
    let keys = verify(&now, &trust()).keys;
    let past = |earlier: &Export| {
        check_past(&now, &keys, &earlier["checkpoint"]).map_err(|fault| fault.code())
    };
    assert_eq!((past(&before), past(&now)), (Ok(()), Ok(())));
    let checkpoint = Err("record.export.checkpoint");
    // The new key says what was before it, the lost one what came after it.
    assert_eq!(past(&good().export_by(2)), checkpoint);
    assert_eq!(past(&log.export()), checkpoint);
    assert_eq!(past(&log.export_by(3)), checkpoint);
    // What the lost key signed and the log does not hold is another past, however it came to that.
    let mut lost = good();
    for number in 0..9 {
        lost.add(Event::MediaSeen, &format!("media/{number}"));
    }
    assert_eq!(past(&lost.export()), Err("record.export.past"));
}

#[test]
fn a_policy_that_names_any_key_of_the_log_accepts_it() {
    let mut log = good();
    succeeded(&mut log, 1, 2);
    let export = log.export_by(2);
    for (seed, faults) in
        [(1, vec![]), (2, vec![]), (3, vec![Fault::Policy(RecordError::PolicyLog)])]
    {
        let policy = format!("log {}\nquorum none\n", named(seed));
        let policy = Some(Policy::parse(policy.as_bytes()).expect("a policy"));
        assert_eq!(verify(&export, &Trust { policy, ..trust() }).faults, faults, "{seed}");
    }
}
