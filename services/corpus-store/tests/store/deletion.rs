//! A deleted document leaves no text, word or vector in any file of the store.

use std::path::Path;

use cloister_corpus_store::{CorpusStore as _, FileStore, Holder};
use tantivy::{Index, Term};

use crate::support::{
    document, embed, embed_all, facility, files, generation, scope, space, traces,
};

/// A word that no other text holds, made of letters that stemming leaves alone.
fn rare(number: usize) -> String {
    let letters = b"bcdfghjklm";
    let digit = |divisor: usize| char::from(letters[number / divisor % 10]);
    format!("zyqxw{}{}{}krovvut", digit(100), digit(10), digit(1))
}

fn text(number: usize, filler: usize) -> String {
    let rare = rare(number);
    format!(
        "# About {rare}\n\nThe {rare} stands in hall {number}. {}\n\nCall {rare} twice.",
        "Ordinary words fill this paragraph. ".repeat(filler)
    )
}

/// The rare word, its tail (indexes share prefixes), the pair that only this text has, and windows
/// of its vectors.
fn needles(number: usize, filler: usize) -> Vec<Vec<u8>> {
    let rare = rare(number);
    let tail = rare.as_bytes()[3..].to_vec();
    let mut needles = vec![rare.clone().into_bytes(), tail, format!("call {rare}").into_bytes()];
    let text = text(number, filler);
    for chunk in cloister_corpus::chunks(&text) {
        let vector = embed(text.get(chunk.range).expect("at characters"));
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        // A window that is not zeros alone: the made-up vectors have many of them.
        let telling =
            bytes.windows(16).step_by(4).filter(|w| w.iter().filter(|b| **b != 0).count() > 8);
        needles.extend(telling.map(<[u8]>::to_vec));
    }
    needles
}

/// Whether any segment knows the word or a pair with it. tantivy packs its terms in a transducer, in
/// which a search for bytes would find nothing even of a word that is there.
fn indexed(store: &Path, word: &str) -> bool {
    let index = Index::open_in_dir(store.join("words")).expect("an index");
    let reader = index.reader().expect("a reader");
    let terms = [("words", word.to_owned()), ("pairs", format!("call {word}"))];
    reader.searcher().segment_readers().iter().any(|segment| {
        terms.iter().any(|(field, text)| {
            let field = index.schema().get_field(field).expect("a field");
            let inverted = segment.inverted_index(field).expect("its terms");
            let term = Term::from_field_text(field, text);
            inverted.get_term_info(&term).expect("looked up").is_some()
        })
    })
}

/// Files of segments that the index no longer has.
fn strays(store: &Path) -> Vec<String> {
    let folder = store.join("words");
    let index = Index::open_in_dir(&folder).expect("an index");
    let segments = index.searchable_segment_metas().expect("segments");
    let known: Vec<String> = segments.iter().map(|segment| segment.id().uuid_string()).collect();
    files(&folder)
        .into_iter()
        .map(|(path, _)| path.file_name().expect("a file").display().to_string())
        .filter(|name| !name.starts_with('.') && name != "meta.json")
        .filter(|name| !known.iter().any(|id| name.starts_with(id)))
        .collect()
}

#[test]
fn nothing_of_a_deleted_document_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FileStore::open(folder.path()).expect("opened");
    store.complete(generation(1), Some(space())).expect("complete");
    let one = |number: usize| {
        document("facility", "open", &format!("name {}", rare(number)), &text(number, number % 90))
    };
    for number in 0..20 {
        store.put(&facility(), &[one(number)]).expect("taken in");
    }
    embed_all(&store);
    for number in [3, 11, 19] {
        let needles = needles(number, number % 90);
        assert!(needles.len() > 5, "the vectors are looked for too");
        let before = traces(folder.path(), &needles);
        for expected in ["corpus.db", ".f32"] {
            assert!(before.iter().any(|trace| trace.contains(expected)), "control: {expected}");
        }
        assert!(indexed(folder.path(), &rare(number)), "control: the index knows the word");
        store.delete(one(number).id()).expect("deleted");
        assert!(!indexed(folder.path(), &rare(number)));
        assert_eq!(strays(folder.path()), [""; 0]);
        assert_eq!(traces(folder.path(), &needles[..3]), [""; 0]);
        let kept = needles[3..].iter().filter(|window| {
            // Windows that a document that stays has as well say nothing.
            !(0..20).filter(|other| ![3, 11, 19].contains(other)).any(|other| {
                embed(&text(other, other % 90))
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect::<Vec<u8>>()
                    .windows(16)
                    .any(|w| w == window.as_slice())
            })
        });
        let kept: Vec<Vec<u8>> = kept.cloned().collect();
        assert_eq!(traces(folder.path(), &kept), [""; 0]);
    }
    store.verify().expect("whole");
    let shown = store.list(&scope(None, &["open"])).expect("listed");
    assert_eq!(shown.len(), 17);
}

/// Rows move between pages of a database while others come and go; copies must not stay behind.
#[test]
fn nothing_is_left_after_much_coming_and_going() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FileStore::open(folder.path()).expect("opened");
    let filler = |number: usize| number * 37 % 60;
    let one =
        |number: usize| document("facility", "open", &rare(number), &text(number, filler(number)));
    for batch in 0..10 {
        let some: Vec<_> = (batch * 20..batch * 20 + 20).map(one).collect();
        store.put(&facility(), &some).expect("taken in");
    }
    let gone: Vec<usize> = (0..200).filter(|number| number * 13 % 3 != 0).collect();
    for number in &gone {
        store.delete(one(*number).id()).expect("deleted");
    }
    let needles: Vec<Vec<u8>> =
        gone.iter().map(|number| rare(*number).as_bytes()[5..].to_vec()).collect();
    assert_eq!(traces(folder.path(), &needles), [""; 0]);
    assert_eq!(store.verify().expect("whole").documents, 200 - gone.len() as u64);
}

#[test]
fn a_dropped_generation_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = FileStore::open(folder.path()).expect("opened");
    let holder = Holder::Generation(generation(1));
    let some: Vec<_> =
        (0..10).map(|number| document("c", "open", &rare(number), &text(number, 40))).collect();
    store.put(&holder, &some).expect("taken in");
    store.complete(generation(1), Some(space())).expect("complete");
    embed_all(&store);
    store.drop_generation(generation(1)).expect("dropped");
    let needles: Vec<Vec<u8>> =
        (0..10).map(|number| rare(number).as_bytes()[5..].to_vec()).collect();
    assert_eq!(traces(folder.path(), &needles), [""; 0]);
    assert_eq!(store.verify().expect("whole").documents, 0);
}
