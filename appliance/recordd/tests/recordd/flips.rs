//! A flip in any of a thousand random bytes of an export is found by both verifiers, cosignatures
//! included.

use std::{fs, path::Path, process::Command};

use cloister_record::{Export, Note, Policy, Trust, WitnessKey, verify};
use cloister_wire::record::{Answer, Event, Request};

use crate::support::{Root, Running, key, root};

/// Bytes that are flipped for our verifier, and every how many of them for the second as well.
const FLIPS: u64 = 1000;
const SHARE: u64 = 17;

/// Numbers that are the same on every run (SplitMix64; Steele et al. 2014).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

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

/// Exit status of the second verifier.
fn second(folder: &Path, log_key: &str) -> Option<i32> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/audit.py");
    let mut command = Command::new("python3");
    command.arg(program).arg(folder.join("export")).args(["--log-key", log_key]);
    command.arg("--root").arg(folder.join("root.json"));
    command.arg("--policy").arg(folder.join("policy"));
    command.output().unwrap().status.code()
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
    let place = |path: &str| folder.path().join("export").join(path);
    for (path, bytes) in &export {
        fs::create_dir_all(place(path).parent().unwrap()).unwrap();
        fs::write(place(path), bytes).unwrap();
    }
    assert_eq!(verify(&export, &trust).faults, []);
    assert_eq!(second(folder.path(), &log_key), Some(0));

    let sizes: Vec<(String, u64)> =
        export.iter().map(|(path, bytes)| (path.clone(), bytes.len() as u64)).collect();
    let all: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let mut numbers = Numbers(9);
    for flip in 0..FLIPS {
        let (path, at) = nth(&sizes, numbers.below(all));
        let bits = u8::try_from(1 + numbers.below(255)).unwrap();
        change(&mut export, path, at, bits);
        assert_ne!(verify(&export, &trust).faults, [], "{path}, byte {at}, bits {bits}");
        if flip % SHARE == 0 {
            fs::write(place(path), &export[path]).unwrap();
            let found = second(folder.path(), &log_key);
            assert_eq!(found, Some(1), "{path}, byte {at}, bits {bits}");
        }
        change(&mut export, path, at, bits);
        fs::write(place(path), &export[path]).unwrap();
    }
    assert_eq!(second(folder.path(), &log_key), Some(0));
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
