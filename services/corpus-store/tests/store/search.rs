//! What a reader finds, and what he never finds.

use crate::support::{ask, document, embed_all, facility, files, generation, scope, space, traces};
use cloister_corpus_store::{CorpusStore as _, FileStore, Holder, StoreError};
use cloister_domain::{CitationId, Coded as _};

const PUMP: &str = "# Coolant pump\n\n## Start\n\nOpen valve V-12 before the coolant pump starts. \
    Wait until the pressure gauge shows four bar.\n\n## Stop\n\nClose valve V-12 last.\n";
const CANTEEN: &str = "The canteen opens at noon. Lunch tickets cost four crowns.";
const REACTOR: &str = "The reactor scram key hangs behind the zirconia panel.";

fn filled(folder: &std::path::Path) -> FileStore {
    let store = FileStore::open(folder).expect("opened");
    let holder = Holder::Generation(generation(1));
    let bundled = [
        document("handbook", "open", "pump", PUMP),
        document("handbook", "open", "canteen", CANTEEN),
        document("core", "reactor", "scram", REACTOR),
    ];
    store.put(&holder, &bundled).expect("taken in");
    store.complete(generation(1), Some(space())).expect("complete");
    embed_all(&store);
    store
}

#[test]
fn a_question_is_answered_by_words_and_by_vectors() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let reader = scope(Some(1), &["open"]);
    for vectors in [false, true] {
        let found = ask(&store, &reader, "Which valve do I open before the pump starts?", vectors);
        let best = found.first().expect("an answer");
        assert!(best.text.expose().contains("Open valve V-12"));
        assert_eq!(best.collection, "handbook");
        let again = store.open(best.citation, &reader).expect("opened").expect("there");
        assert_eq!(again.text, best.text);
        assert_eq!(again.chunk, best.chunk);
    }
    store.verify().expect("whole");
}

#[test]
fn an_unrelated_question_has_no_hit() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let reader = scope(Some(1), &["open", "reactor"]);
    for question in [
        "What is the capital of Mongolia?",
        "Who wrote the ninth symphony?",
        "How do I bake sourdough bread?",
        "What is the best way to do it?",
        "Explain quantum entanglement to a child",
        "the of and",
        "",
    ] {
        for vectors in [false, true] {
            let found = ask(&store, &reader, question, vectors);
            assert_eq!(found.len(), 0, "question {question} with vectors {vectors}");
        }
    }
}

#[test]
fn a_reader_without_the_label_never_gets_a_hit() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let (without, with) = (scope(Some(1), &["open"]), scope(Some(1), &["open", "reactor"]));
    let words: Vec<&str> = REACTOR.trim_end_matches('.').split(' ').collect();
    let mut admitted = 0;
    for variant in 0..1000usize {
        // Each variant asks for another choice of the hidden passage's own words.
        let chosen: Vec<&str> = words
            .iter()
            .enumerate()
            .filter(|(index, _)| (variant * 7 + 1) >> (index % 10) & 1 == 1)
            .map(|(_, word)| *word)
            .collect();
        let question = format!("{} {REACTOR}", chosen.join(" "));
        let vectors = variant % 2 == 0;
        for found in ask(&store, &without, &question, vectors) {
            assert_eq!(found.label.as_str(), "open", "variant {variant}");
        }
        let found = ask(&store, &with, &question, vectors);
        admitted += usize::from(found.first().is_some_and(|hit| hit.label.as_str() == "reactor"));
    }
    assert_eq!(admitted, 1000, "the reader with the label finds it each time");
    let hidden = ask(&store, &with, REACTOR, false)[0].citation;
    assert!(store.open(hidden, &without).expect("asked").is_none());
    assert_eq!(store.list(&without).expect("listed").len(), 2);
}

#[test]
fn hidden_documents_do_not_change_what_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let reader = scope(Some(1), &["open"]);
    let question = "Which valve opens the pump, and where is the zirconia key?";
    let before = ask(&store, &reader, question, true);
    let hidden: Vec<_> = (0..50)
        .map(|number| {
            let text = format!("Valve and pump and zirconia key number {number}.");
            document("core", "reactor", &format!("hidden {number}"), &text)
        })
        .collect();
    store.put(&facility(), &hidden).expect("taken in");
    embed_all(&store);
    assert_eq!(ask(&store, &reader, question, true), before);
}

#[test]
fn each_generation_shows_its_own_documents() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let second = Holder::Generation(generation(2));
    let bundled = [
        document("handbook", "open", "canteen", CANTEEN),
        document("handbook", "open", "pump", "Open valve V-99 before the coolant pump starts."),
    ];
    let taken = store.put(&second, &bundled).expect("taken in");
    assert_eq!(taken.documents, 1, "what both hold is stored once");
    let question = "Which valve do I open before the coolant pump starts?";
    let unseen = scope(Some(2), &["open"]);
    assert!(ask(&store, &unseen, question, true).is_empty(), "not before it is complete");
    store.complete(generation(2), Some(space())).expect("complete");
    assert_eq!(embed_all(&store), 1, "only what is new gets a vector");
    for (version, valve) in [(1, "V-12"), (2, "V-99"), (1, "V-12")] {
        let found = ask(&store, &scope(Some(version), &["open"]), question, true);
        assert!(found[0].text.expose().contains(valve));
        let other = if version == 1 { "V-99" } else { "V-12" };
        assert!(found.iter().all(|hit| !hit.text.expose().contains(other)));
    }
    store.drop_generation(generation(1)).expect("dropped");
    assert_eq!(store.list(&scope(Some(2), &["open", "reactor"])).expect("listed").len(), 2);
    assert!(ask(&store, &scope(Some(1), &["open", "reactor"]), question, true).is_empty());
    assert_eq!(traces(folder.path(), &[b"V-12".to_vec(), b"irconi".to_vec()]), [""; 0]);
    store.verify().expect("whole");
    drop(store);
    FileStore::open(folder.path()).expect("opened").verify().expect("whole");
}

#[test]
fn a_space_goes_with_its_last_generation() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let own = [document("facility", "open", "note", "Spare keys lie in the blue drawer.")];
    store.put(&facility(), &own).expect("taken in");
    assert_eq!(embed_all(&store), 1);
    store.drop_generation(generation(1)).expect("dropped");
    assert!(
        !files(folder.path()).iter().any(|(path, _)| path.extension().is_some_and(|e| e == "f32"))
    );
    let found = ask(&store, &scope(None, &["open"]), "where are the spare keys?", true);
    assert_eq!(found.len(), 1, "words remain");
    assert_eq!(store.verify().expect("whole").vectors, 0);
}

#[test]
fn collections_narrow_a_search() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let mut reader = scope(Some(1), &["open", "reactor"]);
    reader.collections.insert("core".to_owned());
    assert!(ask(&store, &reader, "coolant pump valve", true).is_empty());
    assert_eq!(ask(&store, &reader, "reactor scram key", true).len(), 1);
}

#[test]
fn documents_are_added_and_deleted_by_their_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = filled(folder.path());
    let own = |label| [document("facility", label, "note", "Spare keys lie in the drawer.")];
    assert_eq!(store.put(&facility(), &own("open")).expect("taken in").documents, 1);
    assert_eq!(store.put(&facility(), &own("open")).expect("again").documents, 0);
    let refused = |result: Result<_, StoreError>| result.expect_err("refused").code();
    assert_eq!(refused(store.put(&facility(), &own("reactor"))), "corpus.document.label");
    let bundled = document("handbook", "open", "canteen", CANTEEN);
    let id = bundled.id();
    assert_eq!(refused(store.put(&facility(), &[bundled])), "corpus.document.bundled");
    assert_eq!(store.delete(id).expect_err("bundled").code(), "corpus.document.bundled");
    let unknown = document("facility", "open", "none", "none").id();
    assert_eq!(store.delete(unknown).expect_err("unknown").code(), "corpus.document.absent");
    let note = own("open")[0].id();
    let planned = store.would_delete(note).expect("there");
    assert_eq!(store.delete(note).expect("deleted"), planned);
    assert_eq!(store.unrecorded().expect("listed"), [planned]);
    store.recorded(planned.serial).expect("noted");
    assert!(store.unrecorded().expect("listed").is_empty());
    let citation = CitationId { document: note, start: 0, end: 29 };
    assert!(store.open(citation, &scope(Some(1), &["open"])).expect("asked").is_none());
    assert_eq!(store.put(&facility(), &own("reactor")).expect("afresh").documents, 1);
    store.verify().expect("whole");
}

#[test]
fn the_ranking_of_many_small_additions_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FileStore::open(folder.path()).expect("opened");
    for number in 0..30 {
        let text = format!("Cabinet {number} holds the gasket of machine M{number}.");
        let one = [document("facility", "open", &format!("n{number}"), &text)];
        store.put(&facility(), &one).expect("taken in");
    }
    let reader = scope(None, &["open"]);
    for number in [0, 7, 29] {
        let found = ask(&store, &reader, &format!("Where is the gasket of M{number}?"), false);
        assert!(found[0].text.expose().ends_with(&format!(" M{number}.")));
    }
    assert_eq!(store.verify().expect("whole").documents, 30);
}
