//! What lies in quarantine lies on the disk, also where an earlier session wrote it, and what the disk lost
//! is not taken for whole.
//!
//! The test runs itself under strace, which lets a flush of the child fail or lists what it flushes.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::*;

const PLACE: &str = "CLOISTER_QUARANTINE_FLUSH_PLACE";

/// The child: does nothing unless a place is named.
#[test]
fn copier() {
    if let Some(place) = std::env::var_os(PLACE) {
        let (release, place) = (Release::new(), Path::new(&place));
        let copied = release.import(Stick::new(release.whole()), place, go_on);
        let code = copied.map_or_else(|error| error.code(), |_| "copied");
        fs::write(place.join("code"), code).expect("written");
    }
}

/// Copies in a child; what it came to, and the flushes of files.
fn traced(place: &Path, more: &[&str]) -> (String, String) {
    let log = place.join("log");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=fdatasync", "-o"])
        .arg(&log)
        .args(more)
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", "tests::flush::copier", "--test-threads=1"])
        .env(PLACE, place)
        .stdout(Stdio::null())
        .status()
        .expect("strace is needed: apt-get install strace");
    assert!(status.success());
    let text = |path| String::from_utf8(bytes_of(path)).expect("text");
    (text(&place.join("code")), text(&log))
}

fn part(place: &Path, number: usize) -> std::path::PathBuf {
    place.join("7").join(Plan::part_name(number))
}

#[test]
fn what_the_disk_lost_is_copied_again() {
    let release = Release::new();
    // While it is copied, and when nothing is left to copy.
    for session in 0..2 {
        let folder = tempfile::tempdir().expect("a folder");
        let lost = part(folder.path(), 0);
        for _before in 0..session {
            whole(
                release.import(Stick::new(release.whole()), folder.path(), go_on).expect("copied"),
            );
        }
        let fails = "inject=fdatasync:error=EIO:when=1";
        let more = ["-e", fails, "-P", lost.to_str().expect("text")];
        let (code, log) = traced(folder.path(), &more);
        assert_eq!(code, "quarantine.write", "{log}");
        // The bytes are in memory still, and would be counted as there.
        assert_eq!(bytes_of(&lost).len(), 0, "session {session}");
        let outcome = release.import(Stick::new(release.whole()), folder.path(), go_on);
        whole(outcome.expect("copied"));
        release.assert_in(folder.path());
    }
}

#[test]
fn what_an_earlier_session_wrote_is_flushed_before_the_release_is_whole() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    whole(release.import(Stick::new(release.whole()), folder.path(), go_on).expect("copied"));
    let (code, log) = traced(folder.path(), &[]);
    assert_eq!(code, "copied");
    for number in 0..release.files.len() {
        let flushed = format!("<{}>)", part(folder.path(), number).display());
        assert!(log.contains(&flushed), "{flushed} in {log}");
    }
}
