//! Witnesses: what they sign is kept, and what they saw convicts a log that was restored.

use std::fs;

use cloister_domain::Digest;
use cloister_record::{
    AddCheckpoint, Checkpoint, Note, Policy, Seen, Trust, VerifierKey, WitnessKey, verify,
};
use cloister_wire::record::{Answer, EVIDENCE_MAX, Event, Evidence, Request};

use crate::{
    rounds::refused_start,
    support::{ORIGIN, Root, Running, copy, key},
};

pub(crate) fn witness(seed: u8) -> WitnessKey {
    WitnessKey::new(&format!("auditor/{seed}"), key(seed).public()).unwrap()
}

fn root() -> Root {
    Root::with(&format!("witnesses = [\"{}\", \"{}\"]", witness(20), witness(21)))
}

/// An auditor's machine, which remembers what it signed.
struct Auditor {
    seed: u8,
    seen: Seen,
    log: VerifierKey,
}

impl Auditor {
    fn of(running: &Running, seed: u8) -> Self {
        Self { seed, seen: Seen::nothing(), log: running.head().2.parse().unwrap() }
    }

    /// Checkpoint and signature line, or why not.
    fn sign(&mut self, request: &str) -> Result<(String, String), cloister_record::WitnessError> {
        let request = AddCheckpoint::parse(request)?;
        let next = request.judge(&self.log, self.seen)?;
        self.seen = Seen { size: next.size, root: next.root };
        let line = self.line(&request.checkpoint);
        Ok((request.checkpoint, line))
    }

    fn line(&self, checkpoint: &str) -> String {
        line(self.seed, checkpoint)
    }
}

/// What the witness of this seed signs below a checkpoint.
pub(crate) fn line(seed: u8, checkpoint: &str) -> String {
    let text = Note::parse(checkpoint).unwrap().text();
    let signature = key(seed).sign(WitnessKey::message(text, 1_800_000_000).as_bytes());
    witness(seed).line(1_800_000_000, &signature)
}

fn request(running: &Running, seed: u8) -> String {
    let name = Some(format!("auditor/{seed}"));
    match running.ask(&Request::Cosigning { witness: name }).unwrap() {
        Answer::Cosigning { text } => text,
        other => panic!("no request: {other:?}"),
    }
}

/// Size and witnesses, or the code of the refusal.
fn accept(
    running: &Running,
    checkpoint: &str,
    signatures: &str,
) -> Result<(u64, Vec<String>), String> {
    let (checkpoint, signatures) = (checkpoint.to_owned(), signatures.to_owned());
    match running.ask(&Request::Accept { checkpoint, signatures }) {
        Ok(Answer::Cosigned { size, witnesses }) => Ok((size, witnesses)),
        Ok(other) => panic!("not accepted: {other:?}"),
        Err(problem) => Err(problem.code),
    }
}

fn rolled_back(running: &Running) -> Vec<Evidence> {
    match running.ask(&Request::Head).unwrap() {
        Answer::Head { rolled_back, .. } => rolled_back,
        other => panic!("no head: {other:?}"),
    }
}

/// What a checkpoint shows that the log does not contain.
fn evidence(checkpoint: &str, note: &str, size: u64) -> Evidence {
    let text = Note::parse(checkpoint).unwrap().text();
    Evidence { checkpoint: Digest::of(text.as_bytes()), size, note: note.to_owned() }
}

/// What an auditor brings who asks for both witnesses.
fn trust(running: &Running) -> Trust {
    let policy = format!(
        "log {}\nwitness a {}\nwitness b {}\ngroup both all a b\nquorum both\n",
        running.head().2,
        witness(20),
        witness(21)
    );
    Trust { policy: Some(Policy::parse(policy.as_bytes()).unwrap()), ..running.trust() }
}

#[test]
fn cosignatures_are_kept_and_an_export_carries_them() {
    let root = root();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let (mut one, mut other) = (Auditor::of(&running, 20), Auditor::of(&running, 21));
    assert_eq!(
        running.export_by(&Request::ExportWitnessed),
        Err("record.witness.never".to_owned())
    );
    let quorum = "record.export.policy";
    let faults = |running: &Running, request: &Request| {
        let faults = verify(&running.export_by(request).unwrap(), &trust(running)).faults;
        faults.iter().map(cloister_domain::Coded::code).collect::<Vec<_>>()
    };

    let (checkpoint, line) = one.sign(&request(&running, 20)).unwrap();
    assert_eq!(accept(&running, &checkpoint, &line).unwrap().0, 1);
    assert_eq!(faults(&running, &Request::Export), [quorum]);
    let (checkpoint, line) = other.sign(&request(&running, 21)).unwrap();
    let names = vec!["auditor/20".to_owned(), "auditor/21".to_owned()];
    assert_eq!(accept(&running, &checkpoint, &line), Ok((1, names)));
    assert_eq!(faults(&running, &Request::Export), [""; 0]);

    // The log goes on; what was witnessed is exported as it was, and the newest is not witnessed yet.
    for number in 0..300 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    assert_eq!(faults(&running, &Request::Export), [quorum]);
    assert_eq!(faults(&running, &Request::ExportWitnessed), [""; 0]);
    let text = request(&running, 20);
    assert!(text.starts_with("old 1\n"), "{text}");
    let (checkpoint, line) = one.sign(&text).unwrap();
    assert_eq!(accept(&running, &checkpoint, &line).unwrap().0, 301);
    let (checkpoint, line) = other.sign(&request(&running, 21)).unwrap();
    assert_eq!(accept(&running, &checkpoint, &line).unwrap().0, 301);
    for number in 300..520 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    let witnessed = running.export_by(&Request::ExportWitnessed).unwrap();
    let report = verify(&witnessed, &trust(&running));
    assert_eq!((report.faults, report.size, report.witnesses.len()), (vec![], 301, 2));

    running.kill();
    let running = root.start();
    assert_eq!(running.export_by(&Request::ExportWitnessed).unwrap(), witnessed);
    assert!(request(&running, 21).starts_with("old 301\n"));
    assert_eq!(rolled_back(&running), []);
}

#[test]
fn what_no_configured_witness_signed_is_refused() {
    let root = root();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let ask = |witness: Option<&str>| {
        running.refusal(&Request::Cosigning { witness: witness.map(str::to_owned) })
    };
    assert_eq!(ask(None), "record.witness.which");
    assert_eq!(ask(Some("nobody")), "record.witness.unknown");
    let mut stranger = Auditor::of(&running, 22);
    let (checkpoint, line) = stranger.sign(&request(&running, 20)).unwrap();
    assert_eq!(accept(&running, &checkpoint, &line), Err("record.witness.unknown".to_owned()));
    assert_eq!(accept(&running, &checkpoint, ""), Err("record.witness.unknown".to_owned()));
    assert_eq!(accept(&running, &checkpoint, "no line\n"), Err("record.note".to_owned()));
    // A configured witness's name over another checkpoint.
    let one = Auditor::of(&running, 20);
    running.append(Event::KeyChange, "key/1");
    let line = one.line(&running.head().1);
    assert_eq!(accept(&running, &checkpoint, &line), Err("record.cosignature".to_owned()));
    // Another log's checkpoint, and none.
    let other = Checkpoint { origin: ORIGIN.to_owned(), size: 9, root: Digest::of(b"x") };
    let forged = other.sign(&key(22)).unwrap();
    assert_eq!(accept(&running, &forged, ""), Err("record.note.signature".to_owned()));
    assert_eq!(accept(&running, "", ""), Err("record.note".to_owned()));
    assert_eq!(rolled_back(&running), []);
    assert!(running.export_by(&Request::ExportWitnessed).is_err());
    let root = Root::with("witnesses = [\"nonsense\"]");
    assert!(!root.spawn().wait().unwrap().success());
}

#[test]
fn a_log_that_was_restored_from_an_old_copy_is_convicted_by_what_a_witness_saw() {
    let root = root();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let old = root.folder.path().join("old");
    copy(&root.record(), &old);
    running.append(Event::ImportAccepted, "import/1/accepted");
    running.append(Event::ImportAccepted, "import/2/accepted");
    let mut auditor = Auditor::of(&running, 20);
    let (checkpoint, line) = auditor.sign(&request(&running, 20)).unwrap();
    running.kill();
    let right = root.folder.path().join("right");
    fs::rename(root.record(), &right).unwrap();
    copy(&old, &root.record());

    let running = root.start();
    let code = "record.rolled-back";
    assert_eq!(rolled_back(&running), []);
    assert_eq!(accept(&running, &checkpoint, &line), Err(code.to_owned()));
    let convicted = [evidence(&checkpoint, &format!("{checkpoint}{line}"), 3)];
    assert_eq!(rolled_back(&running), convicted);
    // Another spelling of the same is the same: lines that nobody vouches for are not kept.
    let junk = format!("{line}\u{2014} nobody AAAAAAA=\n");
    for signatures in [junk.as_str(), ""] {
        assert_eq!(accept(&running, &checkpoint, signatures), Err(code.to_owned()));
        assert_eq!(rolled_back(&running), convicted);
    }
    // It stays through restarts, and through a log that grows beyond it with other entries.
    running.kill();
    let running = root.start();
    assert_eq!(rolled_back(&running), convicted);
    for number in 0..4 {
        running.append(Event::KeyChange, &format!("key/{number}"));
    }
    assert_eq!(accept(&running, &checkpoint, &line), Err(code.to_owned()));
    running.kill();
    let running = root.start();
    assert_eq!(rolled_back(&running), convicted);
    // The witness does not sign the other past either.
    let refused = auditor.sign(&request(&running, 20)).unwrap_err();
    assert_eq!(cloister_domain::Coded::code(&refused), "record.witness.conflict");
    running.kill();

    // With the right state the evidence has no object any more, and the cosignature is welcome.
    copy(&root.record().join("rolled-back"), &right.join("rolled-back"));
    fs::remove_dir_all(root.record()).unwrap();
    fs::rename(&right, root.record()).unwrap();
    let running = root.start();
    assert_eq!(rolled_back(&running), []);
    assert_eq!(accept(&running, &checkpoint, &line).unwrap().0, 3);
}

#[test]
fn a_checkpoint_alone_convicts_and_so_does_a_cosignature_that_outlived_the_log() {
    let root = root();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let old = root.folder.path().join("old");
    copy(&root.record(), &old);
    running.append(Event::ImportAccepted, "import/1/accepted");
    let mut auditor = Auditor::of(&running, 20);
    let (checkpoint, line) = auditor.sign(&request(&running, 20)).unwrap();
    assert!(accept(&running, &checkpoint, &line).is_ok());
    running.kill();
    // All but what witnesses said is old.
    for (path, keep) in [("cosigned", true), ("journal", false), ("checkpoint", false)] {
        let path = root.record().join(path);
        match (keep, path.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(path).unwrap(),
            (false, false) => fs::remove_file(path).unwrap(),
        }
    }
    copy(&old, &root.record());
    let running = root.start();
    assert!(rolled_back(&running)[0].note.contains("auditor/20"));
    running.kill();
    // The log's own signature is enough: nobody else has its key.
    fs::remove_dir_all(root.record()).unwrap();
    copy(&old, &root.record());
    let running = root.start();
    assert_eq!(accept(&running, &checkpoint, ""), Err("record.rolled-back".to_owned()));
    assert_eq!(rolled_back(&running), [evidence(&checkpoint, &checkpoint, 2)]);
    running.kill();
    // Evidence as it was kept before there could be more than one.
    fs::remove_dir_all(root.record()).unwrap();
    copy(&old, &root.record());
    fs::write(root.record().join("rolled-back"), format!("{checkpoint}{line}")).unwrap();
    for _again in 0..2 {
        let running = root.start();
        let note = format!("{checkpoint}{line}");
        assert_eq!(rolled_back(&running), [evidence(&checkpoint, &note, 2)]);
    }
}

#[test]
fn one_piece_of_evidence_never_takes_the_place_of_another() {
    let root = root();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.kill();
    let old = root.folder.path().join("old");
    copy(&root.record(), &old);
    let mut kept = Vec::new();
    for past in 0..2 {
        let running = root.start();
        running.append(Event::KeyChange, &format!("key/{past}"));
        kept.push(running.head().1);
        running.kill();
        fs::remove_dir_all(root.record()).unwrap();
        copy(&old, &root.record());
    }
    let running = root.start();
    let convicted = Err("record.rolled-back".to_owned());
    for checkpoint in [&kept[0], &kept[1], &kept[0]] {
        assert_eq!(accept(&running, checkpoint, ""), convicted);
    }
    let mut both: Vec<Evidence> = kept.iter().map(|note| evidence(note, note, 2)).collect();
    both.sort_by_key(|one| one.checkpoint);
    assert_eq!(rolled_back(&running), both);
    running.kill();
    assert_eq!(rolled_back(&root.start()), both);
}

/// A log of one record, restored over one of two, and the checkpoint that convicts it.
fn restored(root: &Root) -> (Running, String) {
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.kill();
    let old = root.folder.path().join("old");
    copy(&root.record(), &old);
    let running = root.start();
    running.append(Event::KeyChange, "key/1");
    let checkpoint = running.head().1;
    running.kill();
    fs::remove_dir_all(root.record()).unwrap();
    copy(&old, &root.record());
    (root.start(), checkpoint)
}

/// It counts at once, and lasts from the first time that the disk takes it.
#[test]
fn evidence_that_the_disk_refuses_counts_all_the_same() {
    let root = root();
    let (running, checkpoint) = restored(&root);
    let convicted = [evidence(&checkpoint, &checkpoint, 2)];
    running.limit_file_bytes(0);
    for _twice in 0..2 {
        assert_eq!(accept(&running, &checkpoint, ""), Err("record.disk".to_owned()));
        assert_eq!(rolled_back(&running), convicted);
    }
    running.limit_file_bytes(1 << 30);
    assert_eq!(accept(&running, &checkpoint, ""), Err("record.rolled-back".to_owned()));
    running.kill();
    assert_eq!(rolled_back(&root.start()), convicted);
}

/// Handed in again it is not called kept before its name lasts.
#[test]
fn evidence_whose_name_was_not_flushed_is_flushed_by_whoever_hands_it_in_again() {
    let root = root();
    let (running, checkpoint) = restored(&root);
    let log = root.folder.path().join("trace");
    // The folder above, the file, and then its name.
    let tracer = running.tracer("fsync", "error=EIO:when=3", &log);
    assert_eq!(accept(&running, &checkpoint, ""), Err("record.disk".to_owned()));
    assert_eq!(accept(&running, &checkpoint, ""), Err("record.rolled-back".to_owned()));
    drop(tracer);
    let log = fs::read_to_string(&log).unwrap();
    let names: Vec<_> = log.lines().filter(|line| line.contains("/record/rolled-back>")).collect();
    assert!(names.len() == 2 && names[0].contains("EIO") && names[1].contains("= 0"), "{log}");
}

#[test]
fn evidence_that_was_changed_on_the_disk_is_damage_and_no_other_log() {
    let root = root();
    let (running, checkpoint) = restored(&root);
    assert_eq!(accept(&running, &checkpoint, ""), Err("record.rolled-back".to_owned()));
    running.kill();
    let folder = root.record().join("rolled-back");
    let path = fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&path).unwrap();
    for place in [3, whole.len() - 9] {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        fs::write(&path, &changed).unwrap();
        let said = refused_start(&root);
        assert!(said.contains("record.damaged") && said.contains("restored copy"), "{said}");
    }
    // So is one of the form that there was before.
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, &whole[..whole.len() - 9]).unwrap();
    let said = refused_start(&root);
    assert!(said.contains("record.damaged") && said.contains("restored copy"), "{said}");
}

/// Beyond the bound nothing is taken in, and what was shown before stays.
#[test]
fn so_much_evidence_is_kept_and_no_more() {
    let root = root();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.kill();
    let seed = fs::read(root.record().join("host.key")).unwrap();
    let host = cloister_attest::SigningKey::from_seed(&cloister_domain::Secret::new(seed)).unwrap();
    let checkpoint = |size: usize| {
        let size = u64::try_from(size).unwrap();
        let root = Digest::of(b"lost");
        Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&host).unwrap()
    };
    let folder = root.record().join("rolled-back");
    fs::create_dir(&folder).unwrap();
    for size in 2..=EVIDENCE_MAX {
        let note = checkpoint(size);
        let name = evidence(&note, &note, 0).checkpoint.to_string();
        fs::write(folder.join(name), note).unwrap();
    }
    let running = root.start();
    let before = rolled_back(&running);
    assert_eq!(before.len(), EVIDENCE_MAX - 1);
    let refused = Err("record.rolled-back".to_owned());
    assert_eq!(accept(&running, &checkpoint(EVIDENCE_MAX + 1), ""), refused);
    let full = rolled_back(&running);
    assert_eq!(full.len(), EVIDENCE_MAX);
    assert!(before.iter().all(|one| full.contains(one)));
    assert_eq!(accept(&running, &checkpoint(EVIDENCE_MAX + 2), ""), refused);
    assert_eq!(rolled_back(&running), full);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), EVIDENCE_MAX);
}
