//! Documents and vectors that tests make up.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use cloister_corpus::{Scope, query};
use cloister_corpus_store::{
    ChunkKey, CorpusStore, FileStore, Found, Holder, Incoming, Question, Space,
};
use cloister_domain::{Digest, GenerationId, Sensitive};

pub(crate) const SPACE_WIDTH: u32 = 64;

pub(crate) fn space() -> Space {
    Space { model: Digest::of(b"a model"), width: SPACE_WIDTH }
}

/// A unit vector that texts with the same words share: each longer word adds its own direction.
pub(crate) fn embed(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0f32; 64];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3) {
        let digest = Digest::of(word.to_lowercase().as_bytes());
        let nibbles = digest.as_bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
        for (component, nibble) in vector.iter_mut().zip(nibbles) {
            *component += f32::from(nibble) - 7.5;
        }
    }
    vector[0] += 0.125;
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    vector.iter().map(|x| x / length).collect()
}

pub(crate) fn facility() -> Holder {
    Holder::Facility("keeper".parse().unwrap())
}

pub(crate) fn generation(version: u8) -> GenerationId {
    GenerationId(Digest::of(&[version]))
}

pub(crate) fn document(collection: &str, label: &str, name: &str, text: &str) -> Incoming {
    let name = Sensitive::new(name.to_owned());
    Incoming::new(collection, label.parse().unwrap(), &name, text)
}

pub(crate) fn scope(version: Option<u8>, labels: &[&str]) -> Scope {
    Scope {
        generation: version.map(generation),
        collections: std::collections::BTreeSet::new(),
        labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
    }
}

pub(crate) fn embed_all(store: &FileStore) -> usize {
    let mut count = 0;
    loop {
        let missing = store.missing(space(), 32).unwrap();
        if missing.is_empty() {
            return count;
        }
        let vectors: Vec<(ChunkKey, Vec<f32>)> =
            missing.into_iter().map(|(key, text)| (key, embed(text.expose()))).collect();
        store.put_vectors(space(), &vectors).unwrap();
        count += vectors.len();
    }
}

pub(crate) fn ask(store: &FileStore, scope: &Scope, question: &str, vectors: bool) -> Vec<Found> {
    let vector = embed(question);
    let query = query(question);
    let vector = vectors.then_some((space(), vector.as_slice()));
    store.search(&Question { scope, query: &query, vector, hits_max: 10 }).unwrap()
}

/// Every file below `folder` with its bytes.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mut bytes = Vec::new();
            fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

/// Which of `needles` are in which files; also in lower and upper case, since indexes fold.
pub(crate) fn traces(folder: &Path, needles: &[Vec<u8>]) -> Vec<String> {
    let all = files(folder);
    let mut found = Vec::new();
    for (number, needle) in needles.iter().enumerate() {
        for (path, bytes) in &all {
            if bytes.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle)) {
                found.push(format!("needle {number} in {}", path.file_name().unwrap().display()));
            }
        }
    }
    found
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
