//! The most telling cases, one or more of each kind, against the real recordd, updaterd and intaked.

use std::{collections::BTreeMap, ffi::OsStr, fs, path::Path, thread, time::Duration};

use anyhow::Result;
use cloister_hostile::{Base, cases};
use cloister_stage::{
    judge::{Judge, Verdict},
    release::read_file,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

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
            && judged.peak_bytes <= PEAK_BYTES_MAX
            && judged.took <= TIME_MAX;
        if !right {
            wrong.push(format!("{}: {judged:?}", case.name));
        }
    })?;
    assert!(wrong.is_empty(), "{} of {kinds:?}\n{}", wrong.len(), wrong.join("\n"));
    assert!(kinds.len() >= 60, "{} kinds", kinds.len());
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
