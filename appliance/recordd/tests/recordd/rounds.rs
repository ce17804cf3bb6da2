//! Appends of many connections share durable rounds, and a round is cut short whole or not at all.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    process::Child,
    sync::atomic::{AtomicU64, Ordering},
};

use cloister_daemon::Connection;
use cloister_domain::Digest;
use cloister_record::{
    Checkpoint, Export, Host, Place, Time,
    tiles::{self, Kind, WIDTH},
    tree::{Tree, leaf_hash},
};
use cloister_wire::{
    Reply,
    record::{Answer, Event, Request},
};

use crate::support::{ORIGIN, Root, Running, appended, entry, key};

const WRITERS: u64 = 16;

/// The length of every journal.
const JOURNAL_BYTES: usize = 4 << 20;

/// Lets every writer append `each` acts of its own; all of them with the places that were answered.
fn append_together(root: &Root, round: &str, each: u64) -> Vec<(String, u64)> {
    let socket = root.folder.path().join("run/recordd.sock");
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let socket = &socket;
                scope.spawn(move || {
                    let connection = Connection::connect(socket).unwrap();
                    let append = |number: u64| {
                        let act = format!("{round}/{writer}/{number}");
                        let request = Request::Append(entry(Event::MediaSeen, &act));
                        let reply: Reply<Answer> = connection.ask(&request).unwrap();
                        (act, appended(reply))
                    };
                    (0..each).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

#[test]
fn many_writers_get_a_place_each_and_share_rounds() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let acts = append_together(&root, "media", 40);
    let places: BTreeSet<u64> = acts.iter().map(|(_, place)| *place).collect();
    assert_eq!(places, (1..=WRITERS * 40).collect());
    assert_eq!(running.report().faults, []);
    for (act, place) in &acts {
        assert_eq!(running.append(Event::MediaSeen, act), *place);
    }
}

#[test]
fn what_many_writers_were_told_survives_a_kill_at_any_moment() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    drop(running);
    let mut acts = Vec::new();
    for round in 0..6u64 {
        let running = root.start();
        let done = AtomicU64::new(0);
        let socket = root.folder.path().join("run/recordd.sock");
        let answered = std::thread::scope(|scope| {
            let writer = |writer: u64| {
                let (socket, done) = (&socket, &done);
                move || {
                    let connection = Connection::connect(socket).unwrap();
                    let mut answered = Vec::new();
                    for number in 0.. {
                        let act = format!("media/{round}/{writer}/{number}");
                        let request = Request::Append(entry(Event::MediaSeen, &act));
                        match connection.ask::<_, Reply<Answer>>(&request) {
                            Ok(reply) => answered.push((act, appended(reply))),
                            Err(_killed) => return answered,
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    answered
                }
            };
            let writers: Vec<_> = (0..WRITERS).map(|one| scope.spawn(writer(one))).collect();
            while done.load(Ordering::SeqCst) < 40 + 97 * round {
                std::thread::yield_now();
            }
            running.kill();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        acts.extend(answered);
        let running = root.start();
        let report = running.report();
        assert_eq!(report.faults, []);
        let most = acts.len() as u64 + 1 + WRITERS * (round + 1);
        assert!(report.size <= most, "at most one of each writer more for a kill");
        for (act, place) in acts.iter().rev().step_by(7) {
            assert_eq!(running.append(Event::MediaSeen, act), *place);
        }
    }
}

/// A log of `size` entries by the host key of seed 9, as recordd writes it.
fn log(size: u64) -> (Vec<Vec<u8>>, Export) {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    (0..size).for_each(|_| add(&mut texts, 9));
    let export = export(&texts);
    (texts, export)
}

/// One more entry, by the key of this seed.
pub(crate) fn add(texts: &mut Vec<Vec<u8>>, seed: u8) {
    let seq = texts.len() as u64;
    let event = event(seq);
    let place = Place { seq, prev: texts.last().map(|text| Digest::of(text)) };
    let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: false };
    let time = Time { rtc_s: 1_800_000_000 + seq, boot_id: None };
    let entry = entry(event, &format!("act/{seq}"));
    texts.push(cloister_record::sign(&entry, place, &host, &time, &key(seed)).unwrap());
}

/// What the entry at this position is about.
fn event(seq: u64) -> Event {
    if seq == 0 { Event::AnchorEnrolment } else { Event::MediaSeen }
}

/// The export of a log with these entries.
pub(crate) fn export(texts: &[Vec<u8>]) -> Export {
    export_by(texts, 9)
}

/// The same, under a checkpoint by the key of this seed.
pub(crate) fn export_by(texts: &[Vec<u8>], seed: u8) -> Export {
    let mut tree = Tree::new();
    texts.iter().for_each(|text| tree.push(leaf_hash(text)));
    let (size, root) = (tree.size(), tree.root());
    let note = Checkpoint { origin: ORIGIN.to_owned(), size, root }.sign(&key(seed)).unwrap();
    let mut export = Export::from([("checkpoint".to_owned(), note.into_bytes())]);
    for tile in tiles::all(size) {
        let first = usize::try_from(tile.index * WIDTH).unwrap();
        let width = usize::try_from(tile.width).unwrap();
        let bytes = match tile.kind {
            Kind::Entries => tiles::bundle(&texts[first..first + width]).unwrap(),
            Kind::Hashes { .. } => tile.hashes(&tree),
        };
        export.insert(tile.path(), bytes);
    }
    export
}

/// A state folder whose log is `export`, with the host key of seed 9.
fn stored(export: &Export) -> Root {
    let root = Root::new();
    fs::create_dir_all(root.record()).unwrap();
    let key = root.record().join("host.key");
    fs::write(&key, [9; 32]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    write(&root, &Export::from([("journal".to_owned(), Vec::new())]));
    write(&root, export);
    root
}

fn write(root: &Root, files: &Export) {
    for (path, bytes) in files {
        let path = root.record().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = bytes.clone();
        if path.ends_with("journal") {
            bytes.resize(JOURNAL_BYTES, 0);
        }
        fs::write(path, bytes).unwrap();
    }
}

fn head(running: &Running) -> (u64, String) {
    let (size, checkpoint, _) = running.head();
    (size, checkpoint)
}

/// A journal as recordd writes it: each of `rounds` in blocks of its own.
pub(crate) fn journal(first: u64, rounds: &[&[Vec<u8>]]) -> Vec<u8> {
    let (mut journal, mut first) = (Vec::new(), first);
    for entries in rounds {
        let bundle = tiles::bundle(entries).unwrap();
        let lengths = [entries.len(), bundle.len()].map(|length| u32::try_from(length).unwrap());
        let mut round = b"CLROUND1".to_vec();
        round.extend(first.to_be_bytes());
        round.extend(lengths.map(u32::to_be_bytes).concat());
        round.extend(bundle);
        round.extend(Digest::of(&round).as_bytes());
        round.resize(round.len().next_multiple_of(4096), 0);
        journal.extend(round);
        first += entries.len() as u64;
    }
    journal
}

fn place(seq: u64) -> usize {
    usize::try_from(seq).unwrap()
}

/// Every moment between a round's answer and the last of the log's files, as a power cut would leave it.
#[test]
fn every_entry_of_the_journal_is_completed_byte_for_byte() {
    for (before, after) in
        [(0, 1), (1, 2), (1, 65), (3, 256), (192, 256), (255, 257), (256, 320), (511, 512)]
    {
        let (texts, new) = log(after);
        let old = export(&texts[..place(before)]);
        let middle = place(before.midpoint(after));
        let rounds = [&texts[place(before)..middle], &texts[middle..]];
        let rounds = if rounds[0].is_empty() { &rounds[1..] } else { &rounds };
        let mut grown: Vec<(&String, &Vec<u8>)> =
            new.iter().filter(|(path, _)| !old.contains_key(*path)).collect();
        grown.sort_by_key(|(path, _)| !path.starts_with("tile/entries/"));
        let checkpoint = "checkpoint".to_owned();
        grown.push((&checkpoint, &new["checkpoint"]));
        for written in 0..=grown.len() {
            let root = stored(&old);
            write(&root, &Export::from([("journal".to_owned(), journal(before, rounds))]));
            let some = grown.iter().take(written);
            write(&root, &some.map(|(path, bytes)| ((*path).clone(), (*bytes).clone())).collect());
            let running = root.start();
            let checkpoint = String::from_utf8(new["checkpoint"].clone()).unwrap();
            assert_eq!(head(&running), (after, checkpoint), "{before} to {after}, {written} files");
            assert_eq!(running.export(), new);
            assert_eq!(running.append(Event::MediaSeen, "one/more"), after);
            let last = Request::Append(entry(event(after - 1), &format!("act/{}", after - 1)));
            assert_eq!(appended(running.ask(&last)), after - 1);
        }
    }
}

/// What the daemon itself left when it was killed is a journal of that form.
#[test]
fn a_journal_is_of_the_form_that_is_written_down() {
    let root = stored(&export(&[]));
    let running = root.start();
    running.append(Event::AnchorEnrolment, "act/0");
    running.append(Event::MediaSeen, "act/1");
    let texts: Vec<Vec<u8>> = running.entries(0, 9).into_iter().map(String::into_bytes).collect();
    running.kill();
    let written = fs::read(root.record().join("journal")).unwrap();
    let expected = journal(0, &[&texts[..1], &texts[1..]]);
    assert!(written.starts_with(&expected));
    assert!(written[expected.len()..].iter().all(|byte| *byte == 0));
    assert!(!root.record().join("tile").exists(), "one write for each record, and no other");
}

#[test]
fn what_the_journal_holds_and_is_not_this_logs_is_not_served() {
    let (texts, _) = log(9);
    let old = export(&texts[..4]);
    let (mut changed, mut moved, mut past) = (texts.clone(), texts.clone(), texts.clone());
    let place = changed[7].len() - 12;
    changed[7][place] ^= 1;
    moved.swap(6, 7);
    past[4] = past[5].clone();
    let mut forged = texts[..8].to_vec();
    add(&mut forged, 8);
    for texts in [changed, moved, past, forged] {
        let root = stored(&old);
        write(&root, &Export::from([("journal".to_owned(), journal(4, &[&texts[4..]]))]));
        assert_damaged(&root);
    }
    // What came between is nowhere.
    let root = stored(&old);
    write(&root, &Export::from([("journal".to_owned(), journal(5, &[&texts[5..]]))]));
    assert_damaged(&root);
}

/// What was read may be in memory alone. Where neither the log's files nor the journal can be written, it is
/// not answered for.
#[test]
fn a_round_that_cannot_be_made_durable_is_not_served() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "act/0");
    running.append(Event::MediaSeen, "act/1");
    running.kill();
    assert_refused(&root, root.spawn_with_files_of(0), "record.disk");
    // The journal can be written and the log's files cannot.
    let obstacle = root.record().join(".checkpoint.new");
    fs::create_dir(&obstacle).unwrap();
    let running = root.start();
    assert_eq!(running.append(Event::MediaSeen, "act/1"), 1);
    assert_eq!(running.append(Event::MediaSeen, "act/2"), 2);
}

/// Refused is refused: it does not come back with the next start.
#[test]
fn a_round_whose_flush_failed_is_not_there_when_the_daemon_starts_again() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "act/0");
    let log = root.folder.path().join("trace");
    let tracer = running.tracer("fdatasync", "error=EIO:when=1", &log);
    assert_eq!(running.refusal(&Request::Append(entry(Event::MediaSeen, "act/1"))), "record.disk");
    drop(tracer);
    running.kill();
    let running = root.start();
    assert_eq!(running.head().0, 1);
    assert_eq!(running.append(Event::MediaSeen, "act/2"), 1);
}

/// An outcome that the log cannot take leaves no summary behind, however often it is asked for.
#[test]
fn a_refused_outcome_leaves_the_log_as_it_was() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.approve();
    running.append(Event::ActivationIntent, "activation/1/intent");
    let mut long = entry(Event::ActivationOutcome, "activation/1/outcome");
    long.predicate.insert("why".to_owned(), "x".repeat(48 << 10).into());
    for _again in 0..2 {
        assert_eq!(running.refusal(&Request::Append(long.clone())), "record.too-long");
        assert_eq!(running.head().0, 6);
    }
    assert_eq!(running.append(Event::ActivationOutcome, "activation/1/outcome"), 7);
    assert_eq!(running.report().faults, []);
    let stem = "x".repeat(192);
    let intent = Request::Append(entry(Event::ActivationIntent, &format!("{stem}x/intent")));
    assert_eq!(running.refusal(&intent), "record.act");
    running.append(Event::ActivationIntent, &format!("{stem}/intent"));
    running.append(Event::ActivationOutcome, &format!("{stem}/outcome"));
}

/// A folder that a crash left has its name made to last before anything in it counts.
#[test]
fn what_a_crash_made_is_made_to_last_by_the_next_start() {
    let root = Root::new();
    let running = root.start();
    running.append(Event::AnchorEnrolment, "act/0");
    running.append(Event::MediaSeen, "act/1");
    running.kill();
    for folder in ["tile/entries/000.p", "tile/0/000.p"] {
        fs::create_dir_all(root.record().join(folder)).unwrap();
    }
    let trace = root.folder.path().join("trace");
    let running = root.start_traced("trace=fsync,rename", &trace);
    assert_eq!(running.append(Event::MediaSeen, "act/1"), 1);
    running.kill();
    let trace = fs::read_to_string(&trace).unwrap();
    let (before, _) = trace.split_once("record/checkpoint\"").expect("it was written");
    for folder in ["record", "record/tile", "record/tile/entries", "record/tile/0"] {
        let synced = |line: &str| line.contains("fsync(") && line.contains(&format!("/{folder}>"));
        assert!(before.lines().any(synced), "{folder}: {before}");
    }
}

#[test]
fn a_log_without_its_whole_journal_is_not_served() {
    // Before any entry is in the log's files, and after.
    for restarts in 0..2 {
        let root = Root::new();
        let running = root.start();
        running.append(Event::AnchorEnrolment, "act/0");
        running.kill();
        (0..restarts).for_each(|_| root.start().kill());
        assert_eq!(root.record().join("tile").exists(), restarts > 0);
        let journal = root.record().join("journal");
        let whole = fs::read(&journal).unwrap();
        fs::remove_file(&journal).unwrap();
        assert_damaged(&root);
        assert!(!journal.exists());
        fs::write(&journal, &whole[..JOURNAL_BYTES - 1]).unwrap();
        assert_damaged(&root);
        fs::write(&journal, &whole).unwrap();
        assert_eq!(root.start().append(Event::AnchorEnrolment, "act/0"), 0);
        // Nor is a journal made for a log of which only files are left.
        if restarts > 0 {
            fs::remove_file(root.record().join("checkpoint")).unwrap();
            fs::remove_file(&journal).unwrap();
            assert_damaged(&root);
            assert!(!journal.exists());
        }
    }
}

fn assert_damaged(root: &Root) {
    assert_refused(root, root.spawn(), "record.damaged");
}

/// That the daemon ends without serving anybody.
fn assert_refused(root: &Root, child: Child, code: &str) {
    let said = what_it_said(root, child);
    assert!(said.contains(code), "{said}");
}

/// What a start says that must end by itself.
pub(crate) fn refused_start(root: &Root) -> String {
    what_it_said(root, root.spawn())
}

fn what_it_said(root: &Root, mut child: Child) -> String {
    let socket = root.folder.path().join("run/recordd.sock");
    while child.try_wait().unwrap().is_none() {
        if Connection::connect(&socket).is_ok() {
            child.kill().unwrap();
            panic!("what must not be served is");
        }
        std::thread::yield_now();
    }
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    said
}
