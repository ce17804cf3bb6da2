//! A store that is killed at any system call is, when opened again, as before the change or after
//! it, and what was being deleted is either there or gone from every byte.

use std::{env, path::Path, process::Command};

use crate::support::{ask, copy, document, embed_all, facility, generation, scope, space, traces};
use cloister_corpus_store::{CorpusStore as _, FileStore};

/// Where the killed process finds its store.
const FOLDER: &str = "CLOISTER_TEST_STORE";

const OLD: &str = "The vermilion kettle whistles in hall nine.";
const NEW: &str = "The turquoise ladder leans on pillar six.";

fn change(folder: &Path) {
    let store = FileStore::open(folder).expect("opened");
    store.put(&facility(), &[document("facility", "open", "new", NEW)]).expect("taken in");
    embed_all(&store);
    store.delete(document("facility", "open", "old", OLD).id()).expect("deleted");
}

/// The process that is killed; does nothing when run as a test of its own.
#[test]
fn the_process_that_is_killed() {
    if let Some(folder) = env::var_os(FOLDER) {
        change(Path::new(&folder));
    }
}

fn check(folder: &Path, place: &str) {
    let store = FileStore::open(folder).unwrap_or_else(|error| panic!("{place}: {error}"));
    store.verify().unwrap_or_else(|error| panic!("{place}: {error}"));
    embed_all(&store);
    let reader = scope(Some(1), &["open"]);
    let (old, new) = ("vermilion kettle", "turquoise ladder");
    let found = |question| ask(&store, &reader, question, true).len();
    let listed = store.list(&reader).expect("listed").len();
    assert_eq!(found(old) + found(new), listed, "{place}: what is listed is found");
    assert!(found(old) == 1 || found(new) == 1, "{place}: the old goes after the new came");
    let old_bytes = [b"ermilio".to_vec(), b"ttle whistle".to_vec()];
    let new_bytes = [b"urquois".to_vec(), b"dder lean".to_vec()];
    for (count, bytes) in [(found(old), old_bytes), (found(new), new_bytes)] {
        if count == 0 {
            assert_eq!(traces(folder, &bytes), [""; 0], "{place}");
        }
    }
    assert_eq!(store.unrecorded().expect("listed").len(), 1 - found(old), "{place}: its receipt");
}

#[test]
fn a_killed_store_is_as_before_or_after() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = folder.path().join("start");
    let store = FileStore::open(&start).expect("opened");
    store.complete(generation(1), Some(space())).expect("complete");
    store.put(&facility(), &[document("facility", "open", "old", OLD)]).expect("taken in");
    embed_all(&store);
    drop(store);
    let program = env::current_exe().expect("a test program");
    let mut killed = 0;
    for (call, step) in [
        ("fsync", 1),
        ("fdatasync", 1),
        ("rename", 1),
        ("unlink", 1),
        ("ftruncate", 1),
        ("pwrite64", 5),
    ] {
        for number in (1..).step_by(step) {
            let place = format!("{call} number {number}");
            let run = folder.path().join("run");
            copy(&start, &run);
            let status = Command::new("strace")
                .args(["-f", "-qq", "-o", "/dev/null", "-e"])
                .arg(format!("trace={call}"))
                .arg("-e")
                .arg(format!("inject={call}:signal=KILL:when={number}"))
                .arg(&program)
                .args(["--exact", "crash::the_process_that_is_killed"])
                .env(FOLDER, &run)
                .output()
                .expect("strace runs")
                .status;
            check(&run, &place);
            std::fs::remove_dir_all(&run).expect("removed");
            if status.success() {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed > 20, "only {killed} places were tried");
}
