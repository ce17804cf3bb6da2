//! Taking in the documents of a generation, and making the vectors that are missing.

use std::{fs, path::Path};

use cloister_corpus::listing;
use cloister_corpus_store::{ChunkKey, Holder, Incoming, Space};
use cloister_daemon::{
    Stop,
    files::{FileError, read_limited},
};
use cloister_domain::{Coded as _, GenerationId};
use cloister_wire::corpus::Answer;

use crate::{
    core::Core,
    engines::{BATCH, Engine},
    error::CorpusError,
};

/// Largest list of documents: a million entries of 60 bytes.
const LISTING_BYTES_MAX: u64 = 64 << 20;

/// Documents that are put in one transaction.
const PUT_DOCUMENTS: usize = 64;

/// Text that is put in one transaction, unless a single document has more.
const PUT_BYTES: usize = 8 << 20;

/// Takes in the documents of `generation`, which lies in `directory`.
pub(crate) fn stage(
    core: &Core,
    generation: GenerationId,
    directory: &Path,
) -> Result<Answer, CorpusError> {
    let store = |error| CorpusError::Store(error);
    let known = core.store.generation(generation).map_err(store)?;
    if known.is_none() {
        let own = core.shelf.join("generations").join(generation.to_string());
        let same = |path: &Path| fs::canonicalize(path).ok();
        if same(directory).is_none() || same(directory) != same(&own) {
            return Err(CorpusError::Directory);
        }
        take_in(core, generation, &directory.join("tree"))?;
    }
    let engine = core.engines.holding(generation);
    let space = engine.as_ref().and_then(|engine| engine.space);
    if known.is_none() || (known == Some(None) && space.is_some()) {
        core.store.complete(generation, space).map_err(store)?;
    }
    match (&engine, space) {
        (Some(engine), Some(space)) => embed(core, engine, space, || true)?,
        // No embedding model: there is nothing to fill in later.
        (Some(_), None) => {}
        (None, _) => core.set_behind(true),
    }
    let (documents, chunks, vectors) = core.store.counts(generation).map_err(store)?;
    let words_only = space.is_none();
    tracing::info!(%generation, documents, chunks, vectors, words_only, "documents staged");
    Ok(Answer::Staged { documents, chunks, vectors })
}

fn take_in(core: &Core, generation: GenerationId, tree: &Path) -> Result<(), CorpusError> {
    let listed = match read_limited(&tree.join("documents/collections.json"), LISTING_BYTES_MAX) {
        Ok(json) => listing(&json).map_err(CorpusError::Listing)?,
        // A release need not carry documents.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(CorpusError::File(error)),
    };
    let holder = Holder::Generation(generation);
    let mut batch = Vec::new();
    let mut bytes = 0;
    for collection in listed.collections {
        for source in &collection.documents {
            let text = document(&tree.join(source.path.expose()), core.document_bytes_max)?;
            if batch.len() >= PUT_DOCUMENTS || bytes + text.len() > PUT_BYTES {
                core.store.put(&holder, &batch).map_err(CorpusError::Store)?;
                batch.clear();
                bytes = 0;
            }
            bytes += text.len();
            let label = collection.label.clone();
            batch.push(Incoming::new(&collection.name, label, &source.name, &text));
        }
    }
    core.store.put(&holder, &batch).map(drop).map_err(CorpusError::Store)
}

/// The text of a listed file, which is a plain file and no link.
fn document(path: &Path, bytes_max: u64) -> Result<String, CorpusError> {
    if fs::symlink_metadata(path).is_ok_and(|about| !about.is_file()) {
        return Err(CorpusError::Text);
    }
    let bytes = read_limited(path, bytes_max).map_err(|error| match error {
        FileError::TooLong { max } => CorpusError::TooLong { bytes_max: max },
        other => CorpusError::File(other),
    })?;
    String::from_utf8(bytes).map_err(|_quotes_the_text| CorpusError::Text)
}

/// Makes the vectors that `space` lacks while `go_on` says so; stops early if the engine does.
pub(crate) fn embed(
    core: &Core,
    engine: &Engine,
    space: Space,
    mut go_on: impl FnMut() -> bool,
) -> Result<(), CorpusError> {
    let _one_at_a_time = core.embedding.lock().expect("no holder of this lock panics");
    core.set_behind(true);
    while go_on() {
        let missing = core.store.missing(space, BATCH).map_err(CorpusError::Store)?;
        if missing.is_empty() {
            core.set_behind(false);
            return Ok(());
        }
        let texts = missing.iter().map(|(_, text)| text.expose().clone()).collect();
        let Some(vectors) = engine.passages(texts) else { return Ok(()) };
        let rows: Vec<(ChunkKey, Vec<f32>)> =
            missing.iter().map(|(key, _)| *key).zip(vectors).collect();
        let kept = core.store.put_vectors(space, &rows).map_err(CorpusError::Store)?;
        if kept == 0 {
            return Ok(());
        }
    }
    Ok(())
}

/// Fills in, in the background, what was missing when an engine was not there.
pub(crate) fn fill(core: &Core, generation: GenerationId, stop: &Stop) {
    let Some(engine) = core.engines.holding(generation) else { return };
    let Some(space) = engine.space else {
        core.set_behind(false);
        return;
    };
    let filled = match core.store.generation(generation) {
        Ok(Some(None)) => core.store.complete(generation, Some(space)),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(CorpusError::Store)
    .and_then(|()| embed(core, &engine, space, || !stop.is_set()));
    if let Err(error) = filled {
        tracing::warn!(code = error.code(), "vectors are missing; words alone decide there");
    }
}
