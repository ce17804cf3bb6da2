//! The most telling cases, one or more of each kind, against the real recordd, updaterd and intaked.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use cloister_attest::json;
use cloister_bundle::{Chunk, Codec, FileEntry, Index};
use cloister_domain::Digest;
use cloister_hostile::{Base, cases};
use cloister_stage::{
    judge::{Judge, Verdict},
    release::read_file,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Cases of one kind that are offered to processes; all of them meet the same code in one process.
const EACH: usize = 1;
/// No hostile archive may take more.
const PEAK_BYTES_MAX: u64 = 48 << 20;
const TIME_MAX: Duration = Duration::from_secs(1);

/// A short path, because of sockets, in memory where there is such a folder.
fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory } else { Path::new("/tmp") };
    Ok(tempfile::Builder::new().prefix("cl-").tempdir_in(place)?)
}

/// Class and kind: `metadata/targets`, `container/size`, …
fn kind(name: &str) -> String {
    name.split('/').take(2).collect::<Vec<_>>().join("/")
}

#[test]
fn each_kind_of_damage_is_refused_by_the_daemons_and_leaves_a_record() -> Result<()> {
    let base = Base::new()?;
    let scratch = scratch()?;
    let mut judge = Judge::new(scratch.path(), base.root.clone())?;
    let volume = scratch.path().join("volume.clb");
    fs::write(&volume, &base.bytes)?;
    assert_eq!(judge.offer(&volume)?.verdict, Verdict::Accepted, "the undamaged volume");
    let (mut kinds, mut wrong) = (BTreeMap::<String, usize>::new(), Vec::new());
    cases::all(&base, &mut |case| {
        let seen = kinds.entry(kind(case.name)).or_default();
        let large = case.bytes.len() > 1 << 20;
        if *seen >= EACH && !large {
            return;
        }
        *seen += 1;
        fs::write(&volume, case.bytes).unwrap();
        let judged = judge.offer(&volume).unwrap();
        let right = judged.verdict == Verdict::Refused
            && case.allows(&judged.code)
            && judged.outside_bytes == 0
            && judged.left_bytes == 0
            && (1..=3).contains(&judged.records)
            && judged.peak_bytes() <= PEAK_BYTES_MAX
            && judged.took <= TIME_MAX;
        if !right {
            wrong.push(format!("{}: {judged:?}", case.name));
        }
    })?;
    assert!(wrong.is_empty(), "{} of {kinds:?}\n{}", wrong.len(), wrong.join("\n"));
    assert!(kinds.len() >= 60, "{} kinds", kinds.len());
    Ok(())
}

/// A release of which the first file has one byte a chunk: its publisher may sign that, and whoever
/// finds such a stick may cut it behind the index.
fn of_many_chunks(base: &Base, count: u64) -> Result<Vec<u8>> {
    let byte = Digest::of(b"x");
    let mut base = base.clone();
    let release = &mut base.statement["predicate"];
    release["files"][0]["size"] = count.into();
    let mut files: Vec<FileEntry> = Vec::new();
    for file in release["files"].as_array().context("a release lists its files")? {
        let text = |field: &str| file[field].as_str().context("a file's text");
        let size = file["size"].as_u64().context("a file's size")?;
        let sha256 = text("sha256")?.parse()?;
        files.push(FileEntry { path: text("path")?.parse()?, size, sha256 });
    }
    let subject = &mut base.statement["subject"][0]["digest"]["sha256"];
    *subject = cloister_bundle::tree_digest(&files).to_string().into();
    let mut chunks = Vec::new();
    for (file, entry) in (0..).zip(&files) {
        let most = if file == 0 { 1 } else { 1 << 20 };
        for offset in (0..entry.size).step_by(most) {
            let bytes = (entry.size - offset).min(most as u64);
            chunks.push(Chunk {
                stored: byte,
                stored_bytes: bytes,
                plain_bytes: bytes,
                content: byte,
                codec: Codec::Raw,
                file,
                offset,
            });
        }
    }
    let head = &mut base.members.first_mut().context("a volume has a head")?.1;
    let mut hints: Value = serde_json::from_slice(head)?;
    hints["chunks"] = chunks.len().into();
    *head = json::canonical(&hints)?;
    base.with_index(&Index::new(chunks, &files)?.encode(), &[])
}

#[test]
fn a_release_of_many_chunks_takes_no_more_memory_than_one_of_few() -> Result<()> {
    let base = Base::new()?;
    let scratch = scratch()?;
    let volume = scratch.path().join("volume.clb");
    let mut judge = Judge::new(scratch.path(), base.root.clone())?;
    fs::write(&volume, of_many_chunks(&base, 200_000)?)?;
    let judged = judge.offer(&volume)?;
    assert_eq!(
        (judged.verdict, judged.code.as_str()),
        (Verdict::Refused, "bundle.container.header"),
        "the index is right, and the first chunk is not there: {judged:?}"
    );
    // The table itself has 20 MiB.
    assert!(judged.peak_bytes() <= PEAK_BYTES_MAX, "{judged:?}");
    assert_eq!((judged.outside_bytes, judged.left_bytes), (0, 0), "{judged:?}");
    Ok(())
}

#[test]
fn whoever_inspects_a_release_counts() -> Result<()> {
    let base = Base::new()?;
    let scratch = scratch()?;
    let volume = scratch.path().join("volume.clb");
    let mut judge = Judge::new(scratch.path(), base.root.clone())?;
    fs::write(&volume, &base.bytes[..base.bytes.len() / 2])?;
    let cut = judge.offer(&volume)?;
    assert_eq!((cut.verdict, cut.inspecting_bytes), (Verdict::Refused, 0), "{cut:?}");
    fs::write(&volume, &base.bytes)?;
    let whole = judge.offer(&volume)?;
    assert_eq!(whole.verdict, Verdict::Accepted, "{whole:?}");
    // A process of this program has that at least.
    assert!(whole.inspecting_bytes > 1 << 20, "{whole:?}");
    assert_eq!(whole.peak_bytes(), whole.daemons_bytes + whole.inspecting_bytes);
    Ok(())
}

#[test]
fn a_file_whose_name_is_no_text_is_judged_by_its_bytes() -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let base = Base::new()?;
    let scratch = scratch()?;
    let folder = scratch.path().join(OsStr::from_bytes(b"sticks-\xff"));
    fs::create_dir(&folder)?;
    let volume = folder.join(OsStr::from_bytes(b"\xfe.clb"));
    let mut judge = Judge::new(scratch.path(), base.root.clone())?;
    fs::write(&volume, &base.bytes[..base.bytes.len() / 2])?;
    // By itself, and as the only one on a medium.
    for path in [&volume, &folder, &volume] {
        let judged = judge.offer(path)?;
        assert_eq!(judged.verdict, Verdict::Refused, "{judged:?}");
        assert_eq!(judged.outside_bytes, 0, "{judged:?}");
    }
    fs::write(&volume, &base.bytes)?;
    assert_eq!(judge.offer(&volume)?.verdict, Verdict::Accepted);
    Ok(())
}

#[test]
fn a_daemon_that_dies_is_seen_and_the_next_file_meets_fresh_ones() -> Result<()> {
    let base = Base::new()?;
    let scratch = scratch()?;
    let mut judge = Judge::new(scratch.path(), base.root.clone())?;
    let volume = scratch.path().join("volume.clb");
    fs::write(&volume, &base.bytes)?;
    let pid = read_file(&scratch.path().join("1/appliance/run/intaked.pid"))?;
    let intaked = Pid::from_raw(String::from_utf8(pid)?.parse()?);
    // Stopped first, so that it dies in the middle of the import and not before.
    kill(intaked, Signal::SIGSTOP)?;
    let killer = thread::spawn(move || {
        thread::park_timeout(Duration::from_millis(100));
        kill(intaked, Signal::SIGKILL)
    });
    let judged = judge.offer(&volume)?;
    assert_eq!(judged.verdict, Verdict::Crashed, "{judged:?}");
    killer.join().expect("it does not panic")?;
    assert_eq!(judge.offer(&volume)?.verdict, Verdict::Accepted);
    Ok(())
}
