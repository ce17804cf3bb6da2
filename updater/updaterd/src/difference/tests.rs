use cloister_bundle::{Attached, Cut, IndexEntry, Requires, Runtime};

use super::*;

const PATHS: [&str; 5] = [
    "documents/handbook/pump.md",
    "embed/model.gguf",
    "evaluation/evaluation.json",
    "model/model.gguf",
    "model/template.json",
];

fn release(files: &[(&str, &str)]) -> Release {
    let file = |(path, content): &(&str, &str)| FileEntry {
        path: path.parse().expect("a good path"),
        size: content.len() as u64,
        sha256: Digest::of(content.as_bytes()),
    };
    let files: Vec<FileEntry> = files.iter().map(file).collect();
    let plain = files.iter().map(|file| file.size).sum();
    Release {
        name: "demo".to_owned(),
        version: "1.0.0".to_owned(),
        release_counter: 1,
        min_release_counter: 0,
        index: IndexEntry {
            sha256: Digest::of(b"index"),
            length: 32 + 104 * files.len() as u64,
            chunks: files.len() as u64,
            plain_bytes: plain,
            stored_bytes: plain,
            cut: Cut { algorithm: "x".to_owned(), min_bytes: 1, avg_bytes: 1, max_bytes: 1 },
        },
        files,
        requires: Requires::default(),
        licences: vec!["MIT".to_owned()],
        attestations: Vec::new(),
        base: None,
    }
}

fn base() -> Release {
    release(&PATHS.map(|path| (path, "old")))
}

fn between(before: Option<Release>, after: Release) -> Difference {
    let before = before.map(|release| Manifest::new(release).expect("good"));
    let after = Manifest::new(after).expect("good");
    let side = |manifest| Side { manifest, policy: None };
    difference(before.as_ref().map(side), side(&after))
}

/// The parts that are not the same, or not absent in both.
fn told(difference: &Difference) -> Vec<(Part, Change)> {
    let told = difference.parts.iter().map(|part| (part.part, part.change));
    told.filter(|(_, change)| !matches!(change, Change::Same | Change::Absent)).collect()
}

#[test]
fn the_same_release_differs_in_nothing() {
    let same = between(Some(base()), base());
    assert_eq!(told(&same), []);
    assert_eq!((same.files.len(), same.files_left_out), (0, 0));
    assert!(same.words.iter().all(|list| list.added.is_empty() && list.removed.is_empty()));
    assert!(same.numbers.iter().all(|number| number.active == number.candidate));
    assert_eq!(same.active.expect("one is active").version, "1.0.0");
}

#[test]
fn each_part_that_changes_is_told_alone_and_with_its_files() {
    for (path, part) in [
        ("documents/handbook/pump.md", Part::Documents),
        ("embed/model.gguf", Part::Embedding),
        ("evaluation/evaluation.json", Part::Policy),
        ("model/model.gguf", Part::Model),
        ("model/template.json", Part::Template),
    ] {
        let files = PATHS.map(|each| (each, if each == path { "newer" } else { "old" }));
        let changed = between(Some(base()), release(&files));
        assert_eq!(told(&changed), [(part, Change::Changed)]);
        let [file] = changed.files.as_slice() else { panic!("{:?}", changed.files) };
        assert_eq!((file.path.as_str(), file.change), (path, Change::Changed));
        assert_eq!(
            (file.active, file.candidate),
            (Some(Digest::of(b"old")), Some(Digest::of(b"newer")))
        );
        let sizes = changed.parts.iter().find(|change| change.part == part).expect("each part");
        assert_eq!((sizes.active_bytes, sizes.candidate_bytes), (ByteCount(3), ByteCount(5)));
    }
}

#[test]
fn parts_and_files_come_and_go() {
    let mut files = vec![("adapters/care.safetensors", "a")];
    files.extend(PATHS.map(|path| (path, "old")));
    files.push(("model/tokenizer.json", "t"));
    files.push(("notes.txt", "n"));
    let larger = || release(&files);
    let added = [Part::Tokenizer, Part::Adapters, Part::Other];
    assert_eq!(told(&between(Some(base()), larger())), added.map(|part| (part, Change::Added)));
    let removed = between(Some(larger()), base());
    assert_eq!(told(&removed), added.map(|part| (part, Change::Removed)));
    let gone: Vec<&str> = removed.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(gone, ["adapters/care.safetensors", "model/tokenizer.json", "notes.txt"]);
    assert!(removed.files.iter().all(|file| file.candidate.is_none() && file.active.is_some()));
    // A document that takes another's place changes the part, and both are named.
    let files = [("documents/a.md", "old"), ("model/model.gguf", "m")];
    let other = [("documents/b.md", "old"), ("model/model.gguf", "m")];
    let moved = between(Some(release(&files)), release(&other));
    assert_eq!(told(&moved), [(Part::Documents, Change::Changed)]);
    let changes: Vec<Change> = moved.files.iter().map(|file| file.change).collect();
    assert_eq!(changes, [Change::Removed, Change::Added]);
}

#[test]
fn where_nothing_is_active_everything_is_added() {
    let first = between(None, base());
    assert!(first.active.is_none());
    assert_eq!(first.files.len(), PATHS.len());
    assert!(told(&first).iter().all(|(_, change)| *change == Change::Added));
    assert!(first.numbers.iter().all(|number| number.active.is_none()));
}

#[test]
fn words_and_numbers_of_the_two_are_compared() {
    let attached = |predicate: &str| Attached {
        predicate_type: predicate.to_owned(),
        sha256: Digest::of(predicate.as_bytes()),
        length: 1,
    };
    let before =
        Release { attestations: vec![attached("https://slsa.dev/provenance/v1")], ..base() };
    let mut after = base();
    after.licences = vec!["MIT".to_owned(), "Apache-2.0".to_owned()];
    after.requires.features = vec!["q8_0".to_owned()];
    after.requires.runtime =
        Some(Runtime { min: "1.0.0".to_owned(), max: Some("2.0.0".to_owned()) });
    after.requires.ram_bytes = 7;
    (after.release_counter, after.min_release_counter) = (3, 2);
    let found = between(Some(before), after);
    let list = |name: &str| found.words.iter().find(|list| list.name == name).expect("each list");
    assert_eq!(list("licences").same, ["MIT"]);
    assert_eq!(list("licences").added, ["Apache-2.0"]);
    assert_eq!(list("features").added, ["q8_0"]);
    assert_eq!(list("runtime").added, ["at least 1.0.0", "at most 2.0.0"]);
    assert_eq!(list("attestations").removed, ["https://slsa.dev/provenance/v1"]);
    let number = |name: &str| {
        let number = found.numbers.iter().find(|number| number.name == name).expect("each number");
        (number.active, number.candidate)
    };
    assert_eq!(number("counter"), (Some(1), Some(3)));
    assert_eq!(number("floor"), (Some(0), Some(2)));
    assert_eq!(number("ram-bytes"), (Some(0), Some(7)));
}

#[test]
fn bounds_of_the_publishers_are_compared_by_name() {
    let manifest = Manifest::new(base()).expect("good");
    let strict =
        Policy { golden_passed_min: Some(4), golden_fewer_max: Some(0), ..Policy::default() };
    let lax = Policy { golden_passed_min: Some(2), ..Policy::default() };
    let side = |policy| Side { manifest: &manifest, policy: Some(policy) };
    let found = difference(Some(side(&strict)), side(&lax));
    let bounds: Vec<_> =
        found.numbers.iter().filter(|number| number.name.starts_with("policy.")).collect();
    let told: Vec<_> =
        bounds.iter().map(|bound| (bound.name.as_str(), bound.active, bound.candidate)).collect();
    assert_eq!(
        told,
        [
            ("policy.golden-fewer-max", Some(0), None),
            ("policy.golden-passed-min", Some(4), Some(2)),
        ]
    );
}

#[test]
fn so_many_files_are_listed_and_the_others_counted() {
    let names: Vec<String> =
        (0..Difference::FILES_MAX + 3).map(|number| format!("documents/{number:05}")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let many = between(Some(base()), release(&files));
    assert_eq!(many.files.len(), Difference::FILES_MAX);
    // The five of the base are gone.
    assert_eq!(many.files_left_out, 3 + PATHS.len() as u64);
}
