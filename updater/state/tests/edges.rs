//! Numbers at the end of what the database holds (SQLite integers have a sign).

use std::collections::BTreeSet;

use cloister_domain::{Coded as _, Digest, GenerationId, ImportId, RecordIndex};
use cloister_state::{NewImport, Series, State};
use cloister_wire::{intake::Summary, supply::ImportState};

const LAST: u64 = i64::MAX.unsigned_abs();

/// A release with this counter, whose sizes are as large as sizes can be.
fn summary(counter: u64) -> Summary {
    let most = cloister_domain::ByteCount(u64::MAX);
    Summary {
        generation: GenerationId(Digest::of(&counter.to_le_bytes())),
        name: "demo".to_owned(),
        version: "1.0.0".to_owned(),
        counter,
        signers: vec!["ada".to_owned()],
        root_version: u64::MAX,
        plain_bytes: most,
        stored_bytes: most,
        present_bytes: most,
        files: vec![("model/weights.bin".to_owned(), most)],
        fit: Vec::new(),
    }
}

#[test]
fn numbers_beyond_2_to_the_31_32_and_53_return_and_those_without_a_place_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let mut state = State::open(&place.path().join("supply.db")).unwrap();
    let operators = BTreeSet::from([String::from("root")]);
    for number in [1 << 31, 1 << 32, (1 << 53) + 1, LAST] {
        let import = ImportId(state.next(Series::Import).unwrap());
        let summary = summary(number);
        let record = RecordIndex(number);
        let new =
            NewImport { import, summary: &summary, manifest: b"{}", operators: &operators, record };
        state.receive(&new).unwrap();
        state.advance(import, ImportState::Received, record).unwrap();
        assert_eq!(state.import(import).unwrap().summary, Some(summary));
    }
    for number in [LAST + 1, u64::MAX] {
        let import = ImportId(state.next(Series::Import).unwrap());
        let (summary, record) = (summary(1), RecordIndex(number));
        let new =
            NewImport { import, summary: &summary, manifest: b"{}", operators: &operators, record };
        assert_eq!(state.receive(&new).unwrap_err().code(), "state.range");
        let new = NewImport { import: ImportId(number), record: RecordIndex(1), ..new };
        assert_eq!(state.receive(&new).unwrap_err().code(), "state.range");
        assert_eq!(state.import(ImportId(number)).unwrap_err().code(), "state.range");
    }
}

#[test]
fn a_damaged_page_is_found_when_the_database_is_opened() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("supply.db");
    drop(State::open(&path).unwrap());
    let whole = std::fs::metadata(&path).unwrap().len();
    assert!(whole > 8192, "{whole}");
    for (at, text) in [(0, "no database"), (4096, "no page of a tree, and none of a table")] {
        let damaged = place.path().join(format!("{at}.db"));
        std::fs::copy(&path, &damaged).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&damaged).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, text.repeat(40).as_bytes(), at).unwrap();
        let error = State::open(&damaged).unwrap_err();
        assert!(error.is_damage(), "{error}");
        assert!(!error.is_full());
    }
}
