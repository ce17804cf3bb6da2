//! A writer that is killed at any of its system calls leaves the old state or the new one; so does one whose
//! call fails, and it leaves nothing half built.
//!
//! The test runs itself under strace, which kills the child at the n-th call of one kind, or lets that call
//! fail; then the shelf is opened, checked, and the work is done again to its end.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test reads the small files that it wrote")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use cloister_domain::{ByteCount, Digest, GenerationId, Slot};
use cloister_shelf::Shelf;

const PLACE: &str = "CLOISTER_SHELF_KILL_PLACE";
const CALLS: [&str; 9] =
    ["fsync", "rename", "link", "linkat", "symlink", "unlink", "unlinkat", "mkdir", "fchmod"];

fn generation(name: &str) -> GenerationId {
    GenerationId(Digest::of(name.as_bytes()))
}

/// Brings `name` in: two finished files, a generation, a slot, the switch, and a sweep of the rest.
fn bring_in(place: &Path, name: &str) {
    let shelf = Shelf::open(&place.join("shelf")).unwrap();
    let quarantine = place.join("quarantine");
    let mut files = Vec::new();
    for content in [format!("{name} weights"), String::from("shared licence")] {
        let digest = Digest::of(content.as_bytes());
        let size = ByteCount(content.len() as u64);
        let path = quarantine.join(digest.short());
        files.push((digest, shelf.adopt(&path, digest, size).unwrap()));
    }
    let tree = [("model/weights.bin", files[0].1), ("licences/deep/MIT.txt", files[1].1)];
    let shelved = shelf.shelve(generation(name), name.as_bytes(), &tree, &[files[1].1]).unwrap();
    shelf.set_slot(Slot::B, Some(&shelved)).unwrap();
    shelf.activate(&shelved).unwrap();
    shelf.sweep(&BTreeSet::from([shelved.id()]), &BTreeSet::new()).unwrap();
}

fn fill_quarantine(place: &Path) {
    let quarantine = place.join("quarantine");
    fs::create_dir_all(&quarantine).unwrap();
    for content in ["one weights", "two weights", "shared licence"] {
        fs::write(quarantine.join(Digest::of(content.as_bytes()).short()), content).unwrap();
    }
}

/// Every object is what its name says, and what is active is whole.
fn check(place: &Path) -> String {
    let root = place.join("shelf");
    let shelf = Shelf::open(&root).unwrap();
    for fan in fs::read_dir(root.join("objects")).unwrap() {
        for object in fs::read_dir(fan.unwrap().path()).unwrap() {
            let object = object.unwrap();
            let found = Digest::of(&fs::read(object.path()).unwrap()).to_string();
            assert_eq!(found, object.file_name().to_string_lossy());
        }
    }
    let active = shelf.active().unwrap().expect("one was active before");
    let manifest = String::from_utf8(active.shelved().manifest().unwrap()).unwrap();
    assert_eq!(active.id(), generation(&manifest));
    let weights = active.shelved().read("model/weights.bin", 64).unwrap().unwrap();
    assert_eq!(weights, format!("{manifest} weights").into_bytes());
    let licence = active.shelved().read("licences/deep/MIT.txt", 64).unwrap().unwrap();
    assert_eq!(licence, b"shared licence");
    manifest
}

/// The child: does nothing unless a place is named.
#[test]
fn writer() {
    if let Some(place) = std::env::var_os(PLACE) {
        bring_in(Path::new(&place), "two");
    }
}

/// Runs the child, struck by `how` at call number `at` of kind `call`; whether it was.
fn struck(place: &Path, call: &str, at: u32, how: &str) -> bool {
    let status = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:{how}:when={at}"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--test-threads=1"])
        .env(PLACE, place)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    !status.success()
}

/// What on the shelf has no name yet, or no more; what a removal left is the next sweep's.
fn unfinished(place: &Path) -> Vec<String> {
    let root = place.join("shelf");
    let folders = ["", "objects", "generations", "slots"].map(|folder| root.join(folder));
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with('.') && name != ".lock" && !name.starts_with(".old-"))
        .collect()
}

#[test]
fn a_writer_whose_call_fails_leaves_nothing_half_built() {
    for call in CALLS.into_iter().chain(["write"]) {
        for at in 1.. {
            assert!(at < 100, "{call} never ends well");
            let place = tempfile::tempdir().unwrap();
            fill_quarantine(place.path());
            bring_in(place.path(), "one");
            fill_quarantine(place.path());
            let failed = struck(place.path(), call, at, "error=ENOSPC");
            assert_eq!(unfinished(place.path()), Vec::<String>::new(), "{call} {at}");
            check(place.path());
            if !failed {
                break;
            }
        }
    }
}

#[test]
fn a_writer_killed_at_any_call_leaves_the_old_state_or_the_new() {
    let strace = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    assert!(
        strace.is_ok_and(|status| status.success()),
        "strace is needed: apt-get install strace"
    );
    let mut kills = 0;
    let mut seen = BTreeSet::new();
    for call in CALLS {
        for at in 1.. {
            assert!(at < 100, "{call} is never exhausted");
            let place = tempfile::tempdir().unwrap();
            fill_quarantine(place.path());
            bring_in(place.path(), "one");
            fill_quarantine(place.path());
            let died = struck(place.path(), call, at, "signal=KILL");
            let state = check(place.path());
            assert!(state == "one" || state == "two", "{call} {at}: {state}");
            if !died {
                assert_eq!(state, "two");
                break;
            }
            kills += 1;
            seen.insert(state);
            bring_in(place.path(), "two");
            assert_eq!(check(place.path()), "two", "{call} {at}");
            let names = fs::read_dir(place.path().join("shelf/generations")).unwrap().count();
            assert_eq!(names, 1, "{call} {at}: the old generation is swept");
        }
    }
    assert!(kills >= 20, "only {kills} kills: is the child's work traced?");
    assert_eq!(seen.len(), 2, "kills before and after the switch");
}
