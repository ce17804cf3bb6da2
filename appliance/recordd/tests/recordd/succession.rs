//! A log whose host key is lost waits, and goes on under another when enough persons say so: at once and
//! whole, whatever breaks off in between, and for both verifiers.

use std::{collections::BTreeSet, fs, process::Command};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_attest::consent::Matter;
use cloister_domain::Digest;
use cloister_record::{Checkpoint, Export, VerifierKey, succession, tiles, verify};
use cloister_wire::record::{Event, Request};
use serde_json::json;

use crate::{
    audit::Audit,
    rounds::{self, refused_start},
    support::{
        ORIGIN, Root, Running, Waiting, appended, approval, copy, entry, judged, key, root, succeed,
    },
};

/// The host key before, and those that succeed it.
pub(crate) const FIRST: u8 = 60;
pub(crate) const SECOND: u8 = 61;
const THIRD: u8 = 62;

pub(crate) fn verifier(seed: u8) -> VerifierKey {
    VerifierKey::new(ORIGIN, key(seed).public()).unwrap()
}

/// A log of some entries by the first key, part of them in its files and part in its journal alone.
fn grown() -> Root {
    let root = Root::new();
    root.give_key(FIRST);
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.append(Event::KeyChange, "key/1");
    running.kill();
    let running = root.start();
    for entry in judged() {
        appended(running.ask(&Request::Append(entry)));
    }
    running.kill();
    root
}

/// The machine has another key from now on.
pub(crate) fn replaced(root: &Root, seed: u8) -> (Running, Waiting) {
    root.give_key(seed);
    let running = root.start();
    let waiting = running.waiting().expect("it waits");
    (running, waiting)
}

/// Both verifiers say that the export is good; who knows the first key alone.
pub(crate) fn is_good(running: &Running, export: &Export, size: u64) {
    let report = verify(export, &running.trust_from(verifier(FIRST)));
    assert_eq!((report.faults, report.size), (vec![], size));
    let mut audit = Audit::new(running, &root());
    audit.log_key = verifier(FIRST).to_string();
    audit.replace(export);
    let (status, said) = audit.run_words(&audit.log_key, &audit.root(), &[], &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("GOOD   {size} records")), "{said}");
}

#[test]
fn a_log_whose_key_is_lost_reads_and_shows_and_refuses_to_grow() {
    let root = grown();
    let (running, waiting) = replaced(&root, SECOND);
    assert_eq!((&waiting.former, &waiting.key), (&verifier(FIRST), &verifier(SECOND)));
    assert_eq!((waiting.head.size, waiting.head.origin.as_str()), (4, ORIGIN));
    assert_eq!(running.entries(0, 9).len(), 4, "what the journal alone holds is there too");
    let changed = "record.key.changed";
    for event in [Event::KeyChange, Event::ActivationIntent, Event::AnchorEnrolment] {
        let request = Request::Append(entry(event, "some/intent"));
        assert_eq!(running.refusal(&request), changed);
    }
    assert_eq!(running.deposit(&approval("ada", 9).to_json()).unwrap_err().code, changed);
    // It shows what the former key signed, and nothing that the new one did.
    let export = running.export();
    is_good(&running, &export, 2);
    let note = std::str::from_utf8(&export["checkpoint"]).unwrap();
    assert!(Checkpoint::open(note, &verifier(FIRST)).is_ok());
    let before = fs::read(root.record().join("checkpoint")).unwrap();
    running.kill();
    let (running, again) = replaced(&root, SECOND);
    assert_eq!(again.head, waiting.head);
    assert_eq!(fs::read(root.record().join("checkpoint")).unwrap(), before);
    running.kill();
    // With its own key it goes on as if nothing had been.
    root.give_key(FIRST);
    let running = root.start();
    assert!(running.waiting().is_none());
    assert_eq!(running.append(Event::KeyChange, "key/2"), 4);
}

#[test]
fn two_persons_let_the_key_succeed_and_both_verifiers_follow_the_first_key() {
    let root = grown();
    let (running, waiting) = replaced(&root, SECOND);
    let words = waiting.words();
    assert_eq!(appended(running.ask(&succeed(&words))), 6);
    assert!(running.waiting().is_none());
    assert_eq!(running.head().2, verifier(SECOND).to_string());
    // Whoever was not told asks again, and is told the same.
    assert_eq!(appended(running.ask(&succeed(&words))), 6);
    assert_eq!(running.refusal(&succeed(&words[..0])), "record.key.stands");
    assert_eq!(running.refusal(&succeed(&waiting.words()[..1])), "record.key.stands");
    is_good(&running, &running.export(), 7);
    // What was judged before stays judged, and what persons approve is of the same log.
    for (person, seed) in [("ada", 9), ("bob", 10)] {
        appended(running.deposit(&approval(person, seed).to_json()));
    }
    running.append(Event::ActivationIntent, "activation/1/intent");
    running.append(Event::ActivationOutcome, "activation/1/outcome");
    for number in 0..300 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    let report = verify(&running.export(), &running.trust_from(verifier(FIRST)));
    let keys: Vec<_> = report.keys.all().map(|(first, key)| (first, key.clone())).collect();
    assert_eq!(keys, [(0, verifier(FIRST)), (6, verifier(SECOND))]);
    is_good(&running, &running.export(), 312);
    running.kill();
    let running = root.start();
    is_good(&running, &running.export(), 312);
    // A line that does not fit spoils the checkpoint in the name of the key of now, and in no other's.
    for (seed, is_bad) in [(FIRST, false), (SECOND, true), (THIRD, false)] {
        let mut export = running.export();
        let id = verifier(seed).to_string().split('+').nth(1).map(str::to_owned).unwrap();
        let mut bytes = u32::from_str_radix(&id, 16).unwrap().to_be_bytes().to_vec();
        bytes.resize(68, 0);
        let line = format!("\u{2014} {ORIGIN} {}\n", BASE64_STANDARD.encode(bytes));
        export.get_mut("checkpoint").unwrap().extend(line.as_bytes());
        let report = verify(&export, &running.trust_from(verifier(FIRST)));
        assert_eq!(!report.faults.is_empty(), is_bad, "{:?}", report.faults);
        let mut audit = Audit::new(&running, &crate::support::root());
        audit.log_key = verifier(FIRST).to_string();
        audit.replace(&export);
        let (status, said) = audit.run_words(&audit.log_key, &audit.root(), &[], &[]);
        assert_eq!(status, Some(i32::from(is_bad)), "{said}");
    }
    // An auditor who knows neither the first key nor why it changed believes nothing.
    let stranger = verify(&running.export(), &running.trust_from(verifier(SECOND)));
    assert!(!stranger.faults.is_empty());
    running.kill();

    // The next key is lost as well; the last one does not come back.
    let (running, waiting) = replaced(&root, THIRD);
    assert_eq!((waiting.former.clone(), waiting.head.size), (verifier(SECOND), 312));
    appended(running.ask(&succeed(&waiting.words())));
    is_good(&running, &running.export(), 315);
    running.kill();
    for former in [FIRST, SECOND] {
        root.give_key(former);
        assert!(refused_start(&root).contains("record.key.former"));
    }
    root.give_key(THIRD);
    let running = root.start();
    is_good(&running, &running.export(), 315);
}

#[test]
fn what_does_not_let_the_key_succeed_leaves_the_log_as_it_is() {
    let root = grown();
    let (running, waiting) = replaced(&root, SECOND);
    let [ada, bob]: [Vec<u8>; 2] = waiting.words().try_into().unwrap();
    let (checkpoint, own) = (waiting.head.digest(), succession::id(&waiting.key));
    let other = Digest::of(b"other");
    let matter = |matter: Matter| waiting.word("bob", 10, |word| word.matter = matter).to_json();
    let unsigned = cloister_attest::dsse::Envelope {
        signatures: Vec::new(),
        ..waiting.word("bob", 10, |_as_is| {})
    };
    let short = "record.key.succession";
    for (words, code) in [
        (vec![], short),
        (vec![ada.clone()], short),
        (vec![ada.clone(), ada.clone()], short),
        (vec![ada.clone(), waiting.word("ada", 10, |_as_is| {}).to_json()], short),
        (vec![ada.clone(), matter(Matter::Succession { checkpoint, key: other })], short),
        (vec![ada.clone(), matter(Matter::Succession { checkpoint: other, key: own })], short),
        (
            vec![ada.clone(), bob.clone(), matter(Matter::Succession { checkpoint, key: other })],
            short,
        ),
        (vec![ada.clone(), waiting.word("bob", 10, |word| word.log.size -= 1).to_json()], short),
        (vec![ada.clone(), waiting.word("bob", 10, |word| word.log.size += 1).to_json()], short),
        (
            vec![ada.clone(), waiting.word("bob", 10, |word| word.log.origin += "/2").to_json()],
            short,
        ),
        (vec![ada.clone(), matter(Matter::Acknowledgement { checkpoint })], "record.signer"),
        (vec![ada.clone(), approval("bob", 10).to_json()], "record.signer"),
        (vec![ada.clone(), unsigned.to_json()], "record.signer"),
        (vec![ada.clone(), b"{}".to_vec()], "record.envelope"),
        (vec![ada.clone(); 33], "record.key.persons"),
    ] {
        assert_eq!(running.refusal(&succeed(&words)), code);
        assert_eq!(running.waiting().expect("it waits").head, waiting.head);
    }
    appended(running.ask(&succeed(&[ada, bob])));
    // A log that has its key takes neither part of a succession by other means.
    let stands = "record.key.stands";
    let alone = waiting.word("eve", 9, |_as_is| {}).to_json();
    let deposit = Request::Deposit {
        event: Event::Succession,
        act: "succession/1".to_owned(),
        envelope: String::from_utf8(alone.clone()).unwrap(),
    };
    assert_eq!(running.refusal(&deposit), stands);
    assert_eq!(running.refusal(&Request::Append(entry(Event::KeySuccession, "key/9"))), stands);
    assert_eq!(running.refusal(&succeed(&[alone])), stands);
    is_good(&running, &running.export(), 7);
}

#[test]
fn as_many_must_say_so_as_the_log_asked_for_last() {
    let root = Root::new();
    root.give_key(FIRST);
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let mut policy = entry(Event::PolicyChange, "policy/1");
    policy.predicate = json!({"approvals_needed": 3}).as_object().unwrap().clone();
    appended(running.ask(&Request::Append(policy)));
    running.kill();
    let (running, waiting) = replaced(&root, SECOND);
    let mut words = waiting.words();
    assert_eq!(running.refusal(&succeed(&words)), "record.key.succession");
    words.push(waiting.word("eve", 11, |_as_is| {}).to_json());
    assert_eq!(appended(running.ask(&succeed(&words))), 5);
}

#[test]
fn a_log_without_an_entry_takes_the_key_that_the_machine_has() {
    let root = Root::new();
    root.give_key(FIRST);
    root.start().kill();
    root.give_key(SECOND);
    let running = root.start();
    assert!(running.waiting().is_none());
    assert_eq!(running.append(Event::AnchorEnrolment, "anchor"), 0);
    assert_eq!(running.report().faults, []);
    running.kill();
    assert_eq!(root.start().head().2, verifier(SECOND).to_string());
}

#[test]
fn another_log_is_none_whatever_key_its_folder_names() {
    let root = grown();
    root.give_key(SECOND);
    let keys = root.record().join("log.keys");
    let names = fs::read_to_string(&keys).unwrap();
    assert_eq!(names, format!("{}\n", verifier(FIRST)));
    let renamed = VerifierKey::new("enclave/other", key(FIRST).public()).unwrap();
    for other in [verifier(THIRD).to_string(), renamed.to_string(), "nonsense".to_owned()] {
        fs::write(&keys, other + "\n").unwrap();
        assert!(refused_start(&root).contains("record.other-log"));
    }
    fs::remove_file(&keys).unwrap();
    assert!(refused_start(&root).contains("record.other-log"));
    fs::write(&keys, &names).unwrap();
    let config = root.folder.path().join("cloister.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(ORIGIN, "enclave/other")).unwrap();
    assert!(refused_start(&root).contains("record.other-log"));
    fs::write(&config, text).unwrap();
    // Nor is one whose journal holds what neither key signed.
    let journal = root.record().join("journal");
    let mut bytes = fs::read(&journal).unwrap();
    let good = bytes.clone();
    let at = 24 + 2 + 400;
    bytes[at] ^= 1;
    fs::write(&journal, &bytes).unwrap();
    assert!(refused_start(&root).contains("record.damaged"));
    fs::write(&journal, good).unwrap();
    assert_eq!(root.start().waiting().expect("it waits").head.size, 4);
}

/// The disk takes nothing: the log waits on, and the same words let the key succeed later.
#[test]
fn a_disk_that_refuses_leaves_the_log_waiting() {
    let root = grown();
    let (running, waiting) = replaced(&root, SECOND);
    running.limit_file_bytes(0);
    for _twice in 0..2 {
        assert_eq!(running.refusal(&succeed(&waiting.words())), "record.disk");
        assert_eq!(running.waiting().expect("it waits").head, waiting.head);
        assert_eq!(running.refusal(&succeed(&[])), "record.key.succession");
    }
    running.limit_file_bytes(1 << 30);
    assert_eq!(appended(running.ask(&succeed(&waiting.words()))), 6);
    is_good(&running, &running.export(), 7);
    running.kill();
    let running = root.start();
    assert!(running.waiting().is_none());
    is_good(&running, &running.export(), 7);
}

/// Every moment between the round and the last of the log's files, as a power cut would leave it: the
/// journal old, torn or new, and so many of the files.
#[test]
fn a_power_cut_leaves_the_log_waiting_or_done() {
    let root = grown();
    let (running, waiting) = replaced(&root, SECOND);
    let words = waiting.words();
    running.kill();
    let before = root.folder.path().join("before");
    copy(&root.record(), &before);
    let running = root.start();
    appended(running.ask(&succeed(&words)));
    let (done, export) = (running.head(), running.export());
    running.kill();
    let after = root.folder.path().join("after");
    copy(&root.record(), &after);
    let journals = [fs::read(before.join("journal")), fs::read(after.join("journal"))];
    let [old, new] = journals.map(Result::unwrap);
    let changed: Vec<usize> = (0..new.len()).filter(|at| old[*at] != new[*at]).collect();
    let (first, last) = (changed[0], changed[changed.len() - 1]);
    let torn = |upto: usize| [&new[..upto], &old[upto..]].concat();
    // In the order in which they are written.
    let paths = tiles::all(7).map(|tile| tile.path()).filter(|path| !before.join(path).exists());
    let mut written: Vec<String> = paths.collect();
    written.extend(["log.keys", "checkpoint"].map(str::to_owned));
    let mut states = BTreeSet::new();
    let mut check = |journal: &[u8], files: usize| {
        fs::remove_dir_all(root.record()).unwrap();
        copy(&before, &root.record());
        fs::write(root.record().join("journal"), journal).unwrap();
        for path in &written[..files] {
            let target = root.record().join(path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(after.join(path), target).unwrap();
        }
        root.give_key(SECOND);
        let running = root.start();
        match running.waiting() {
            Some(again) => {
                assert_eq!(again.head, waiting.head);
                assert_eq!(running.entries(0, 99).len(), 4);
                appended(running.ask(&succeed(&words)));
            }
            None => {
                assert_eq!(running.head(), done);
                assert_eq!(running.export(), export);
            }
        }
        states.insert((files, running.head().0));
        let report = verify(&running.export(), &running.trust_from(verifier(FIRST)));
        assert_eq!((report.faults, report.size), (vec![], 7));
    };
    for upto in [first, first + 8, first + 100, last / 2, last, last + 1] {
        check(&torn(upto), 0);
    }
    for files in 0..=written.len() {
        check(&new, files);
    }
    // The third key finds the second's succession done, and another beginning.
    fs::remove_dir_all(root.record()).unwrap();
    copy(&before, &root.record());
    fs::write(root.record().join("journal"), &new).unwrap();
    let (running, waiting) = replaced(&root, THIRD);
    assert_eq!((waiting.former.clone(), waiting.head.size), (verifier(SECOND), 7));
    appended(running.ask(&succeed(&waiting.words())));
    is_good(&running, &running.export(), 10);
}

/// A round that no verifier would accept is damage, whoever wrote it.
#[test]
fn a_journal_that_gives_the_log_a_key_wrongly_is_damage() {
    let root = grown();
    let (running, waiting) = replaced(&root, SECOND);
    appended(running.ask(&succeed(&waiting.words())));
    running.kill();
    let record = root.record();
    let good = fs::read(record.join("journal")).unwrap();
    let texts: Vec<Vec<u8>> = {
        let running = root.start();
        running.entries(0, 9).into_iter().map(String::into_bytes).collect()
    };
    let (before, half) = (grown(), [&texts[2..5], &texts[6..]].concat());
    // Words, and then an entry of the former key: as if nobody had said them.
    let mut unheard = texts[..6].to_vec();
    rounds::add(&mut unheard, FIRST);
    for entries in [&half, &texts[2..6].to_vec(), &unheard[2..].to_vec()] {
        let journal = rounds::journal(2, &[entries]);
        assert_ne!(good[..journal.len()], journal);
        fs::write(before.record().join("journal"), journal).unwrap();
        before.give_key(SECOND);
        assert!(refused_start(&before).contains("record.damaged"));
    }
}

/// recordd is killed at each call that lasts, of the succession and of the start after it.
#[test]
fn a_kill_at_any_call_leaves_the_log_waiting_or_done() {
    let strace = Command::new("strace").arg("-V").output();
    assert!(
        strace.is_ok_and(|done| done.status.success()),
        "strace is needed: apt-get install strace"
    );
    let origin = grown();
    let (mut kills, mut waited, mut done) = (0, 0, 0);
    for call in ["pwrite64", "fdatasync", "fsync", "rename", "sendto"] {
        for at in 1.. {
            assert!(at < 60, "{call} is never exhausted");
            let root = Root::new();
            copy(&origin.record(), &root.record());
            let (running, waiting) = replaced(&root, SECOND);
            let killer = running.killer(call, at);
            let words = waiting.words();
            let told = running.tell(&succeed(&words));
            drop(killer);
            running.kill();
            let running = root.start();
            match running.waiting() {
                Some(again) => {
                    assert!(told.is_none(), "{call} {at}: what was answered is lost");
                    assert_eq!(again.head, waiting.head);
                    assert_eq!(running.entries(0, 99).len(), 4);
                    waited += 1;
                    appended(running.ask(&succeed(&words)));
                }
                None => done += 1,
            }
            assert_eq!(appended(running.ask(&succeed(&words))), 6);
            let report = verify(&running.export(), &running.trust_from(verifier(FIRST)));
            assert_eq!((report.faults, report.size), (vec![], 7), "{call} {at}");
            if told.is_some() {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 8 && waited > 0 && done > 0, "{kills} kills, {waited} waited, {done} done");
}
