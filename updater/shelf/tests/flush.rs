//! What was named and not flushed, because the writer was killed or the disk failed, is flushed by whoever
//! does it again.
//!
//! The test runs itself under strace, which lists what the child flushes.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "a test reads the small files that it wrote")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use cloister_domain::{ByteCount, Digest, GenerationId};
use cloister_shelf::{Object, Shelf, ShelfError};

const PLACE: &str = "CLOISTER_SHELF_FLUSH_PLACE";

fn adopt(shelf: &Shelf, place: &Path, content: &str) -> Result<Object, ShelfError> {
    let path = place.join("finished");
    fs::write(&path, content).unwrap();
    shelf.adopt(&path, Digest::of(content.as_bytes()), ByteCount(content.len() as u64))
}

fn fan(content: &str) -> String {
    Digest::of(content.as_bytes()).to_string().split_at(2).0.to_owned()
}

/// Another content whose object lies in the folder of `content`.
fn beside(content: &str) -> String {
    let mut others = (0..).map(|number| format!("{content} {number}"));
    others.find(|other| fan(other) == fan(content)).unwrap()
}

/// Brings one release in, or does so again.
fn bring_in(place: &Path) -> Result<Shelf, ShelfError> {
    let shelf = Shelf::open(&place.join("shelf"))?;
    let object = adopt(&shelf, place, "one")?;
    shelf.shelve(GenerationId(Digest::of(b"1")), b"1", &[("deep/a", object)], &[])?;
    Ok(shelf)
}

/// The child: does nothing unless a place is named.
#[test]
fn writer() {
    if let Some(place) = std::env::var_os(PLACE) {
        let place = Path::new(&place);
        let done = bring_in(place).and_then(|shelf| adopt(&shelf, place, &beside("one")).map(drop));
        fs::write(place.join("done"), done.is_ok().to_string()).unwrap();
    }
}

/// The calls of the child, with the paths that they are about; whether it succeeded.
fn traced(place: &Path, calls: &str, more: &[&str]) -> (Vec<String>, bool) {
    let log = place.join("log");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-o"])
        .arg(&log)
        .arg("-e")
        .arg(format!("trace={calls}"))
        .args(more)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--test-threads=1"])
        .env(PLACE, place)
        .stdout(Stdio::null())
        .status()
        .expect("strace is needed: apt-get install strace");
    assert!(status.success());
    let lines = fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect();
    (lines, fs::read_to_string(place.join("done")).unwrap() == "true")
}

#[test]
fn what_is_there_already_is_flushed_once_more() {
    let place = tempfile::tempdir().unwrap();
    drop(bring_in(place.path()).unwrap());
    let (calls, done) = traced(place.path(), "fsync", &[]);
    assert!(done);
    let root = place.path().join("shelf");
    let folders = [
        // The shelf's own name, that of the object's folder, the object's, the generation's.
        place.path().to_owned(),
        root.join("objects"),
        root.join("objects").join(fan("one")),
        root.join("generations"),
    ];
    for folder in folders {
        let flushed = format!("<{}>)", folder.display());
        let before = |call: &&String| call.contains(&flushed);
        assert!(calls.iter().any(|call| before(&call)), "{flushed} in {calls:#?}");
    }
    // That of the object's folder once for the new object beside, which flushes it in any case.
    let flushed = format!("<{}>)", root.join("objects").join(fan("one")).display());
    assert_eq!(calls.iter().filter(|call| call.contains(&flushed)).count(), 2, "{calls:#?}");
}

#[test]
fn a_file_that_the_disk_lost_is_not_taken_out_of_memory() {
    let place = tempfile::tempdir().unwrap();
    let finished = place.path().join("finished");
    let inject = ["-e", "inject=fsync:error=EIO:when=1", "-P", finished.to_str().unwrap()];
    let (calls, done) = traced(place.path(), "fsync,fadvise64", &inject);
    assert!(!done, "{calls:#?}");
    let forgotten = calls.iter().any(|call| call.contains("POSIX_FADV_DONTNEED"));
    assert!(forgotten, "{calls:#?}");
    drop(bring_in(place.path()).unwrap());
}
