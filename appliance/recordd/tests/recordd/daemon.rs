//! recordd keeps one log: durable before the answer, one record for an act, whole after any crash.

use std::{
    fs,
    io::Read as _,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::support::{ORIGIN, Root, appended, approval, copy, entry, key};
use cloister_daemon::Connection;
use cloister_record::VerifierKey;
use cloister_wire::{
    Reply,
    record::{Answer, Event, Request},
};
use serde_json::Value;

#[test]
fn a_log_is_kept_and_its_export_holds() {
    let root = Root::new();
    let running = root.start();
    assert_eq!(running.head().0, 0);
    assert_eq!(running.entries(0, 1), Vec::<String>::new());
    assert_eq!(running.append(Event::AnchorEnrolment, "anchor"), 0);
    assert_eq!(running.append(Event::ImportAccepted, "import/1/accepted"), 1);
    running.approve();
    let envelope = approval("ada", 9).to_json();
    assert_eq!(running.append(Event::ActivationIntent, "activation/1/intent"), 6);
    // The summary of what was verified stands before it.
    assert_eq!(running.append(Event::ActivationOutcome, "activation/1/outcome"), 8);

    // The same again is the same.
    assert_eq!(running.append(Event::ImportAccepted, "import/1/accepted"), 1);
    assert_eq!(running.append(Event::ActivationOutcome, "activation/1/outcome"), 8);
    assert_eq!(appended(running.deposit(&envelope)), 4);
    assert_eq!(running.entries(4, 1), [String::from_utf8(envelope).unwrap()]);
    let report = running.report();
    assert_eq!((report.faults.as_slice(), report.size), (&[][..], 9));
    let summary = serde_json::from_str::<Value>(&running.entries(7, 1)[0]).unwrap();
    assert_eq!(summary["payloadType"], "application/vnd.in-toto+json");
    assert!(running.export().keys().all(|path| path == "checkpoint" || path.starts_with("tile/")));

    // And after a restart too.
    let head = running.head();
    running.kill();
    let running = root.start();
    assert_eq!(running.head(), head);
    assert_eq!(running.append(Event::ActivationOutcome, "activation/1/outcome"), 8);
    assert_eq!(appended(running.deposit(&approval("ada", 9).to_json())), 4);
}

/// systemd decrypts the credential (a TPM sealed it, perhaps) and the daemon reads a folder.
#[test]
fn a_host_key_that_systemd_passes_signs_the_log_and_no_other_is_made() {
    let mut root = Root::new();
    let credentials = root.folder.path().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("host-key"), [9; 32]).unwrap();
    root.credentials = Some(credentials);
    let running = root.start();
    let expected = VerifierKey::new(ORIGIN, key(9).public()).unwrap().to_string();
    assert_eq!(running.head().2, expected);
    running.append(Event::AnchorEnrolment, "anchor");
    assert!(!root.record().join("host.key").exists());
    running.kill();
    // Without the credential the machine has another key: the log waits, and stays as it is.
    root.credentials = None;
    let running = root.start();
    assert_eq!(running.head().2, expected);
    let request = Request::Append(entry(Event::AnchorEnrolment, "anchor/2"));
    assert_eq!(running.refusal(&request), "record.key.changed");
}

#[test]
fn what_breaks_a_rule_of_the_log_is_refused() {
    let root = Root::new();
    let running = root.start();
    let append = |event, act: &str| Request::Append(entry(event, act));
    let refusal = |request: &Request| running.refusal(request);
    assert_eq!(refusal(&append(Event::KeyChange, "key/1")), "record.unenrolled");
    assert_eq!(running.append(Event::AnchorEnrolment, "anchor"), 0);
    assert_eq!(running.append(Event::AnchorEnrolment, "anchor"), 0);
    assert_eq!(refusal(&append(Event::AnchorEnrolment, "anchor/2")), "record.enrolled");
    assert_eq!(refusal(&append(Event::KeyChange, "anchor")), "record.other-act");
    assert_eq!(refusal(&append(Event::KeyChange, "KEY")), "record.act");
    assert_eq!(refusal(&append(Event::Approval, "approval/1")), "record.signer");
    assert_eq!(refusal(&append(Event::VerificationSummary, "summary/1")), "record.signer");
    assert_eq!(refusal(&append(Event::ActivationIntent, "activation/1")), "record.act.pair");
    let outcome = append(Event::ActivationOutcome, "activation/1/outcome");
    assert_eq!(refusal(&outcome), "record.activation");
    running.approve();
    assert_eq!(running.append(Event::ActivationIntent, "activation/1/intent"), 5);
    let second = append(Event::ActivationIntent, "activation/2/intent");
    assert_eq!(refusal(&second), "record.activation");

    let mut large = entry(Event::Evaluation, "evaluation/1");
    large.predicate.insert("x".to_owned(), "y".repeat(60_000).into());
    assert_eq!(refusal(&Request::Append(large)), "record.too-long");
    let mut fraction = entry(Event::Evaluation, "evaluation/1");
    fraction.predicate.insert("x".to_owned(), 0.5.into());
    assert_eq!(refusal(&Request::Append(fraction)), "record.number");
    assert_eq!(running.deposit(b"{}").unwrap_err().code, "record.envelope");
    let unsigned = cloister_attest::dsse::Envelope { signatures: Vec::new(), ..approval("ada", 9) };
    assert_eq!(running.deposit(&unsigned.to_json()).unwrap_err().code, "record.signer");

    // What is no request is refused without an end of the conversation.
    let reply: Reply<Answer> = running.connection.ask(&"canary").unwrap();
    assert_eq!(reply.unwrap_err().code, "socket.frame.form");
    assert_eq!(running.head().0, 6);
    assert_eq!(running.report().faults, []);
}

#[test]
fn what_was_answered_survives_a_kill_at_any_moment() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    drop(running);
    let mut acts = Vec::new();
    for round in 0..6u64 {
        let running = root.start();
        let done = AtomicU64::new(0);
        let answered = std::thread::scope(|scope| {
            let socket = root.folder.path().join("run/recordd.sock");
            let done = &done;
            let writer = scope.spawn(move || {
                let connection = Connection::connect(&socket).unwrap();
                let mut answered = Vec::new();
                for number in 0.. {
                    let act = format!("media/{round}/{number}");
                    let request = Request::Append(entry(Event::MediaSeen, &act));
                    match connection.ask::<_, Reply<Answer>>(&request) {
                        Ok(reply) => answered.push((act, appended(reply))),
                        Err(_killed) => return answered,
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
                answered
            });
            while done.load(Ordering::SeqCst) < 10 + 60 * round {
                std::thread::yield_now();
            }
            running.kill();
            writer.join().unwrap()
        });
        acts.extend(answered);
        let running = root.start();
        let report = running.report();
        assert_eq!(report.faults, []);
        assert!(report.size <= acts.len() as u64 + 2 + round, "at most one more for a kill");
        for (act, index) in &acts {
            assert_eq!(running.append(Event::MediaSeen, act), *index);
        }
    }
    assert!(acts.len() > 600, "the log spans several bundles");
}

/// The journal can be neither written nor replaced: as on a disk that failed.
#[test]
fn a_disk_that_does_not_take_the_record_stops_the_act_and_nothing_else() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let request = Request::Append(entry(Event::KeyChange, "key/1"));
    running.limit_file_bytes(0);
    for _twice in 0..2 {
        assert_eq!(running.refusal(&request), "record.disk");
        assert_eq!(running.head().0, 1);
        assert_eq!(running.report().faults, []);
    }
    running.limit_file_bytes(1 << 30);
    assert_eq!(appended(running.ask(&request)), 1);
    assert_eq!(running.append(Event::KeyChange, "key/2"), 2);
    let (head, report) = (running.head(), running.report());
    assert_eq!(report.faults, []);
    running.kill();
    assert_eq!(root.start().head(), head);
}

#[test]
fn a_damaged_log_is_not_served() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.append(Event::KeyChange, "key/1");
    running.kill();
    // A start has the files hold what the journal has.
    root.start().kill();
    let good = root.folder.path().join("good");
    fs::rename(root.record(), &good).unwrap();
    let check = |path: &str, code: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        copy(&good, &root.record());
        let mut bytes = fs::read(good.join(path)).unwrap();
        damage(&mut bytes);
        if bytes.is_empty() {
            fs::remove_file(root.record().join(path)).unwrap();
        } else {
            fs::write(root.record().join(path), bytes).unwrap();
        }
        let mut child = root.spawn();
        assert!(!child.wait().unwrap().success(), "{path}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains(code), "{path}: {said}");
        fs::remove_dir_all(root.record()).unwrap();
    };
    check("tile/entries/000.p/2", "record.damaged", &|bytes| bytes[100] ^= 1);
    check("tile/0/000.p/2", "record.damaged", &|bytes| bytes[40] ^= 1);
    check("tile/0/000.p/2", "record.damaged", &Vec::clear);
    check("checkpoint", "record.damaged", &Vec::clear);
    check("checkpoint", "record.other-log", &|bytes| bytes[2] ^= 1);
}
