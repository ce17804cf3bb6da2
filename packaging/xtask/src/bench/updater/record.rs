//! The log's figures: durable appends, alone and by many writers at once, and the verification of an
//! export of 100 000 records by both verifiers.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use cloister_attest::SigningKey;
use cloister_daemon::Connection;
use cloister_domain::{Digest, Secret};
use cloister_record::{
    Checkpoint, Host, Place, Time, VerifierKey, sign,
    tiles::{self, Kind, WIDTH},
    tree::{Tree, leaf_hash},
};
use cloister_stage::{
    Unit,
    facility::Facility,
    outside, programs,
    release::{checkout, read_file},
};
use cloister_wire::{
    Reply,
    record::{Answer, Entry, Event, Request, Subject},
};
use serde_json::Map;

use super::super::{Figure, RUNS, tell};

/// Writers at a time.
const WRITERS: u64 = 64;
/// How long each way of appending is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// Records of the export.
const RECORDS: u64 = 100_000;
/// The log of the export.
const ORIGIN: &str = "enclave/bench";

pub(super) fn measure(
    scratch: &Path,
    facility: &Facility,
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    let mut figures = appends(scratch, facility, log)?;
    figures.extend(verification(scratch, facility, log)?);
    Ok(figures)
}

fn entry(event: Event, act: String, subject: Digest) -> Entry {
    let name = if event == Event::AnchorEnrolment { "trust-root" } else { "bundle" };
    let subject = vec![Subject { name: name.to_owned(), sha256: subject }];
    Entry { event, act, subject, predicate: Map::from_iter([("bytes".to_owned(), 7.into())]) }
}

/// Appends until `window` is over; how long each took.
fn append(socket: &Path, name: &str, window: Duration) -> Result<Vec<f64>> {
    let connection = Connection::connect(socket)?;
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < window {
        let act = format!("bench/{name}/{}", took.len());
        let request = Request::Append(entry(Event::MediaSeen, act, Digest::of(b"bench")));
        let asked = Instant::now();
        let reply: Reply<Answer> = connection.ask(&request)?;
        ensure!(matches!(reply, Ok(Answer::Appended { .. })), "an append was refused");
        took.push(asked.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(took)
}

/// fdatasync(2) of what an append adds, on the log's file system, for as long.
fn syncs(folder: &Path, window: Duration) -> Result<Vec<f64>> {
    let path = folder.join("synced");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < window {
        file.write_all(&[7; 1024])?;
        let asked = Instant::now();
        file.sync_data()?;
        took.push(asked.elapsed().as_secs_f64() * 1000.0);
    }
    fs::remove_file(path)?;
    Ok(took)
}

/// The value that 99 of 100 do not exceed.
fn p99(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len().saturating_sub(1) * 99 / 100).copied().unwrap_or(f64::NAN)
}

/// One writer beside fdatasync, in turns, so that both meet the same disk; then many writers.
fn appends(scratch: &Path, facility: &Facility, log: &mut dyn Write) -> Result<Vec<Figure>> {
    let socket = facility.stage.socket(Unit::Recordd);
    let (mut alone, mut beside, mut together) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for turn in 0..10 {
            theirs.extend(syncs(scratch, WINDOW / 10)?);
            ours.extend(append(&socket, &format!("{run}/alone/{turn}"), WINDOW / 10)?);
        }
        alone.push(p99(&mut ours));
        beside.push(p99(&mut theirs));
        let count = AtomicU64::new(0);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let writer = |writer: u64| {
                let (socket, count) = (&socket, &count);
                move || {
                    let took = append(socket, &format!("{run}/{writer}"), WINDOW)?;
                    count.fetch_add(took.len() as u64, Ordering::SeqCst);
                    anyhow::Ok(())
                }
            };
            let writers: Vec<_> = (0..WRITERS).map(|one| scope.spawn(writer(one))).collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("no panic"))
        })?;
        let elapsed = begun.elapsed().as_secs_f64() * 1000.0;
        #[expect(clippy::cast_precision_loss, reason = "a figure with three decimals")]
        together.push(elapsed / count.load(Ordering::SeqCst) as f64);
    }
    tell(log, "record.append.alone p99", &alone)?;
    tell(log, "record.append.alone p99 fdatasync", &beside)?;
    tell(log, "record.append.together", &together)?;
    let alone = Figure::new("record.append.alone.p99", "ms", &alone).beside("fdatasync", &beside);
    let must = alone.peer.map(|peer| peer * 3.0).context("a peer")?;
    Ok(vec![
        alone.must(must),
        // 1 ms an append is 1 000 a second.
        Figure::new("record.append.together", "ms", &together).must(1.0).aim(0.2),
    ])
}

/// Both verifiers over the same export; it has no approvals, which are few in a real log too.
fn verification(scratch: &Path, facility: &Facility, log: &mut dyn Write) -> Result<Vec<Figure>> {
    let export = scratch.join("records");
    let root = facility.root_file();
    let key = lay_out(&export, Digest::of(&read_file(&root)?))?;
    let run = |program: &Path, first: &[&str]| {
        let mut command = Command::new(program);
        command.args(first).arg(&export).args(["--log-key", &key, "--root"]).arg(&root);
        let begun = Instant::now();
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        anyhow::Ok(begun.elapsed().as_secs_f64())
    };
    let (ours, python) = (programs()?.join("cloister"), outside::python()?);
    let audit = checkout().join("appliance/record/audit.py");
    let audit = audit.to_str().context("UTF-8")?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _run in 0..RUNS {
        first.push(run(&ours, &["records", "verify"])?);
        second.push(run(&python, &[audit])?);
    }
    fs::remove_dir_all(&export)?;
    tell(log, "record.verify", &first)?;
    tell(log, "record.verify.python", &second)?;
    Ok(vec![
        Figure::new("record.verify", "s", &first).must(3.0).aim(2.0),
        Figure::new("record.verify.python", "s", &second).must(60.0).aim(30.0),
    ])
}

/// Writes an export of [`RECORDS`] records; its log's verifier key.
fn lay_out(folder: &Path, root: Digest) -> Result<String> {
    let key = SigningKey::from_seed(&Secret::new(vec![7; 32]))?;
    let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
    let time = Time { rtc_s: 1_800_000_000, boot_id: None };
    let (mut tree, mut prev, mut texts) = (Tree::new(), None, Vec::new());
    for seq in 0..RECORDS {
        let entry = match seq {
            0 => entry(Event::AnchorEnrolment, "anchor".to_owned(), root),
            _ => entry(Event::MediaSeen, format!("media/{seq}"), Digest::of(b"bench")),
        };
        let text = sign(&entry, Place { seq, prev }, &host, &time, &key)?;
        prev = Some(Digest::of(&text));
        tree.push(leaf_hash(&text));
        texts.push(text);
    }
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        anyhow::Ok(fs::write(path, bytes)?)
    };
    for tile in tiles::all(RECORDS) {
        let bytes = match tile.kind {
            Kind::Hashes { .. } => tile.hashes(&tree),
            Kind::Entries => {
                let first = usize::try_from(tile.index * WIDTH)?;
                tiles::bundle(&texts[first..first + usize::try_from(tile.width)?])?
            }
        };
        write(&tile.path(), &bytes)?;
    }
    let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size: RECORDS, root: tree.root() };
    write("checkpoint", checkpoint.sign(&key)?.as_bytes())?;
    Ok(VerifierKey::new(ORIGIN, key.public())?.to_string())
}
