//! Databases of every version that was ever written are opened with nothing lost, and one of a later
//! version is left alone.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::path::{Path, PathBuf};

use cloister_domain::{ByteCount, Coded as _, Digest, GenerationId, ImportId, RecordIndex};
use cloister_state::{Outcome, Series, State};
use cloister_wire::supply::{ImportState, Inspection};
use rusqlite::Connection;

/// The tables of version 1, with a row in each.
const VERSION_1: &str = include_str!("fixtures/version-1.sql");

fn written(place: &Path, sql: &str) -> PathBuf {
    let path = place.join("supply.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    path
}

fn version(path: &Path) -> i32 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// The digest that the fixture writes as one byte again and again.
fn of(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

#[test]
fn a_database_of_version_1_is_taken_over_with_every_row() {
    let place = tempfile::tempdir().unwrap();
    let path = written(place.path(), VERSION_1);
    // Opened twice: what was taken over once is not taken over again.
    for _opened in 0..2 {
        let state = State::open(&path).unwrap();
        all_is_there(&state);
    }
    assert_eq!(version(&path), 5);
    let mut state = State::open(&path).unwrap();
    // What version 2 added can be used at once, and numbers go on where they stood.
    assert_eq!(state.inspection(ImportId(2)).unwrap(), None);
    let inspection = Inspection {
        tool: "test".to_owned(),
        accepted: 1,
        refused: 0,
        not_scanned: 0,
        files: Vec::new(),
    };
    state.inspected(ImportId(2), &inspection, RecordIndex(16)).unwrap();
    assert_eq!(state.inspection(ImportId(2)).unwrap(), Some(inspection));
    assert_eq!(state.next(Series::Import).unwrap(), 4);
    assert_eq!(state.next(Series::Activation).unwrap(), 3);
    assert_eq!(state.next(Series::Refusal).unwrap(), 6);
    state.conclude(2, Outcome::Returned, RecordIndex(17)).unwrap();
    assert_eq!(state.under_way().unwrap(), None);
}

fn all_is_there(state: &State) {
    let [one, two] = [GenerationId(of(0xab)), GenerationId(of(0xcd))];
    let trust = state.trust().unwrap().unwrap();
    assert_eq!((trust.vector.as_str(), trust.record), (r#"{"root":1}"#, RecordIndex(9)));
    let files: Vec<(&str, &[u8])> =
        trust.files.iter().map(|file| (file.name.as_str(), &*file.bytes)).collect();
    assert_eq!(files, [("root.json", &b"root"[..]), ("targets.json", b"new")]);
    assert_eq!(state.counter("demo").unwrap(), Some((2, two)));

    let imports = state.imports(9).unwrap();
    let stand: Vec<(u64, ImportState)> =
        imports.iter().map(|import| (import.import.0, import.state)).collect();
    use ImportState::{Activated, Evaluating, Refused};
    assert_eq!(stand, [(3, Refused), (2, Evaluating), (1, Activated)], "judged anew");
    assert_eq!(imports[0].problem.as_ref().unwrap().code, "bundle.rollback");
    let summary = imports[1].summary.as_ref().unwrap();
    assert_eq!((summary.counter, summary.present_bytes), (2, ByteCount(4)));
    assert_eq!(summary.files, [("model/weights.bin".to_owned(), ByteCount(10))]);
    assert!(summary.fit.is_empty(), "version 1 had no worksheet");
    assert_eq!(imports[1].manifest.as_deref(), Some(&b"{}"[..]));

    let evaluation = state.evaluation(ImportId(2)).unwrap().unwrap();
    assert_eq!((evaluation.policy, evaluation.package), (of(0x0a), of(0x0c)));
    assert_eq!(evaluation.figures[0].bound, Some(2));
    assert_eq!(state.import_of_package(of(0x0c)).unwrap(), Some(ImportId(2)));
    let decisions = state.decisions(ImportId(2)).unwrap();
    assert_eq!(decisions[0].person.to_string(), "eve");
    let promoted = state.promoted().unwrap();
    assert_eq!((promoted.len(), promoted[0].generation), (1, one));
    let under_way = state.under_way().unwrap().unwrap();
    assert_eq!((under_way.activation, under_way.from), (2, Some(two)));
    assert_eq!((under_way.tries_left, under_way.returning), (1, true));
    let last = state.last_promotion(one).unwrap().unwrap();
    assert_eq!((last.activation, last.stood), (1, true), "it is not put on probation again");
    assert!(!under_way.stood);
}

#[test]
fn a_database_of_a_later_version_is_refused_and_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let later = VERSION_1.replace("user_version = 1", "user_version = 6");
    let path = written(place.path(), &later);
    assert_eq!(State::open(&path).unwrap_err().code(), "state.newer");
    assert_eq!(version(&path), 6);
    let connection = Connection::open(&path).unwrap();
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'inspections'";
    let made: i64 = connection.query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(made, 0, "nothing was made in it");
}
