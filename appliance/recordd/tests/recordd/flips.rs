//! A flip in any of a thousand random bytes of an export is found by both verifiers, cosignatures
//! included.

use std::{fs, path::Path};

use cloister_record::{Export, Note, Policy, Trust, WitnessKey, verify};
use cloister_wire::record::{Answer, Event, Request};

use crate::{
    both::second,
    promotions::Dice,
    support::{Root, Running, key, root},
    verifiers::told,
};

/// Bytes that are flipped.
const FLIPS: u64 = 1000;

fn witness(seed: u8) -> WitnessKey {
    WitnessKey::new(&format!("w{seed}"), key(seed).public()).unwrap()
}

/// A log with every kind of entry that two witnesses cosigned.
fn witnessed(root: &Root) -> Running {
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.approve();
    running.append(Event::ActivationIntent, "activation/1/intent");
    running.append(Event::ActivationOutcome, "activation/1/outcome");
    for number in 0..56 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    let (_, checkpoint, _) = running.head();
    let text = Note::parse(&checkpoint).unwrap().text().to_owned();
    let line = |seed: u8| {
        let signature = key(seed).sign(WitnessKey::message(&text, 1_800_000_000).as_bytes());
        witness(seed).line(1_800_000_000, &signature)
    };
    let signatures = line(20) + &line(21);
    let accepted = running.ask(&Request::Accept { checkpoint, signatures }).unwrap();
    assert!(matches!(accepted, Answer::Cosigned { size: 64, .. }));
    running
}

#[test]
fn a_flip_in_any_of_a_thousand_bytes_is_found_by_both_verifiers() {
    let keys = format!("witnesses = [\"{}\", \"{}\"]", witness(20), witness(21));
    let root_folder = Root::with(&keys);
    let running = witnessed(&root_folder);
    let (log_key, mut export) = (running.head().2, running.export());
    let policy = format!(
        "log {log_key}\nwitness a {}\nwitness b {}\ngroup both all a b\nquorum both\n",
        witness(20),
        witness(21)
    );
    let trust =
        Trust { policy: Some(Policy::parse(policy.as_bytes()).unwrap()), ..running.trust() };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("root.json"), root()).unwrap();
    fs::write(folder.path().join("policy"), policy).unwrap();
    assert_eq!(verify(&export, &trust).faults, []);
    let good = folder.path().join("exports/good");
    write(&good, &export, None);

    let sizes: Vec<(String, u64)> =
        export.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
    let all: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let mut dice = Dice(told("CLOISTER_VERIFIERS_SEED", 9));
    let mut flips = Vec::new();
    for flip in 0..FLIPS {
        let (path, at) = nth(&sizes, dice.below(all));
        let bits = u8::try_from(1 + dice.below(255)).unwrap();
        change(&mut export, path, at, bits);
        assert_ne!(verify(&export, &trust).faults, [], "{path}, byte {at}, bits {bits}");
        let folder = folder.path().join(format!("exports/{flip:06}"));
        write(&folder, &export, Some((&good, path)));
        change(&mut export, path, at, bits);
        flips.push((path, at, bits));
    }
    let mut found = second(folder.path(), &log_key);
    // The good one has the last name.
    assert_eq!(found.pop(), Some(Vec::new()));
    assert_eq!(found.len(), flips.len());
    for (faults, flip) in found.iter().zip(flips) {
        assert!(!faults.is_empty(), "{flip:?}");
    }
}

/// Writes an export; where it differs from a stored one in one file, the others are that one's.
fn write(folder: &Path, export: &Export, changed: Option<(&Path, &str)>) {
    for (path, bytes) in export {
        let target = folder.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        match changed {
            Some((good, changed)) if changed != path => {
                fs::hard_link(good.join(path), target).unwrap();
            }
            _ => fs::write(target, bytes).unwrap(),
        }
    }
}

/// The file that holds byte `at` of all, and where in it.
fn nth(sizes: &[(String, u64)], mut at: u64) -> (&str, usize) {
    for (path, bytes) in sizes {
        if at < *bytes {
            return (path, usize::try_from(at).unwrap());
        }
        at -= bytes;
    }
    unreachable!("a byte of the export")
}

fn change(export: &mut Export, path: &str, at: usize, bits: u8) {
    export.get_mut(path).unwrap()[at] ^= bits;
}
