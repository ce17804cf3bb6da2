//! One request, one answer.

use std::error::Error as _;

use cloister_corpus::{Scope, check_name, query};
use cloister_corpus_store::{DocumentInfo, Found, Holder, Incoming, Question};
use cloister_domain::{
    ByteCount, CitationId, Class, Coded as _, GenerationId, Label, LabelSet, Principal, Sensitive,
};
use cloister_wire::{
    Problem, Reply,
    corpus::{Answer, Hit, Listed, Request, Search},
};

use crate::{core::Core, deletion, engines::Engine, error::CorpusError, stage};

/// Most hits of one search.
const HITS_MAX: u32 = 50;

/// Longest question, in bytes; a page of text.
const QUERY_BYTES_MAX: usize = 16 << 10;

/// Batches of an added document that get their vectors before it is answered; a longer one is
/// finished in the background.
const ADD_BATCHES: u32 = 8;

/// Answers a request; what fails is logged here, by its code.
pub(crate) fn answer(core: &Core, request: Request) -> Reply<Answer> {
    let answered = match request {
        Request::Stage { generation, directory } => stage::stage(core, generation, &directory),
        Request::Drop { generation } => core
            .store
            .drop_generation(generation)
            .map(|()| Answer::Dropped)
            .map_err(CorpusError::Store),
        Request::Add { collection, label, owner, name, text } => {
            add(core, &collection, label, owner, &name, &text)
        }
        Request::Delete { document } => deletion::delete(core, document),
        Request::List { generation, labels } => list(core, generation, labels),
        Request::Search(asked) => search(core, asked),
        Request::Open { citation, generation, labels } => open(core, citation, generation, labels),
        Request::Verify => verify(core),
    };
    answered.map_err(|error| {
        match error.class() {
            Class::Refused | Class::Busy => tracing::debug!(code = error.code(), "refused"),
            Class::Fault | Class::Corrupt => {
                let cause = error.source().map(ToString::to_string);
                tracing::error!(code = error.code(), cause, "a request failed");
            }
        }
        Problem::of(&error)
    })
}

fn add(
    core: &Core,
    collection: &str,
    label: Label,
    owner: Principal,
    name: &Sensitive<String>,
    text: &Sensitive<String>,
) -> Result<Answer, CorpusError> {
    check_name(collection).map_err(|_rule| CorpusError::Name)?;
    check_name(name.expose()).map_err(|_rule| CorpusError::Name)?;
    let bytes_max = core.document_bytes_max;
    if text.expose().len() as u64 > bytes_max {
        return Err(CorpusError::TooLong { bytes_max });
    }
    if !text.expose().chars().any(char::is_alphanumeric) {
        return Err(CorpusError::Empty);
    }
    let document = Incoming::new(collection, label.clone(), name, text.expose());
    let id = document.id();
    let taken =
        core.store.put(&Holder::Facility(owner), &[document]).map_err(CorpusError::Store)?;
    if taken.documents > 0 {
        embed_added(core)?;
    }
    let scope = Scope {
        generation: None,
        collections: [collection.to_owned()].into(),
        labels: [label].into(),
    };
    let documents = core.store.list(&scope).map_err(CorpusError::Store)?;
    let added = documents.into_iter().find(|document| document.id == id);
    added
        .map(|document| Answer::Added(listed(document)))
        // Deleted by another between the two calls.
        .ok_or(CorpusError::Store(cloister_corpus_store::StoreError::Absent))
}

/// Gives an added document its vectors in the active generation's space, if an engine is there.
fn embed_added(core: &Core) -> Result<(), CorpusError> {
    core.set_behind(true);
    let Some(generation) = core.active() else { return Ok(()) };
    let Some(engine) = core.engines.holding(generation) else { return Ok(()) };
    if let Some(space) = engine.space {
        let mut batches = 0;
        stage::embed(core, &engine, space, || {
            batches += 1;
            batches <= ADD_BATCHES
        })?;
    }
    core.hint(generation);
    Ok(())
}

fn listed(document: DocumentInfo) -> Listed {
    Listed {
        document: document.id,
        collection: document.collection,
        label: document.label,
        name: document.name,
        bytes: ByteCount(document.bytes),
        chunks: document.chunks,
        bundled: document.bundled,
    }
}

fn list(
    core: &Core,
    generation: Option<GenerationId>,
    labels: LabelSet,
) -> Result<Answer, CorpusError> {
    let scope = Scope { generation, collections: [].into(), labels };
    let documents = core.store.list(&scope).map_err(CorpusError::Store)?;
    Ok(Answer::Documents(documents.into_iter().map(listed).collect()))
}

fn search(core: &Core, asked: Search) -> Result<Answer, CorpusError> {
    let Search { generation, query: text, collections, labels, hits_max } = asked;
    if !(1..=HITS_MAX).contains(&hits_max) || text.expose().len() > QUERY_BYTES_MAX {
        return Err(CorpusError::Search { hits_max: HITS_MAX, query_bytes_max: QUERY_BYTES_MAX });
    }
    let scope = Scope {
        generation: Some(generation),
        collections: collections.into_iter().collect(),
        labels,
    };
    let vector = vector(core, generation, &text);
    let words_only = vector.is_none();
    let query = query(text.expose());
    let question = Question {
        scope: &scope,
        query: &query,
        vector: vector.as_ref().map(|(engine_space, vector)| (*engine_space, vector.as_slice())),
        hits_max: usize::try_from(hits_max).expect("at most 50"),
    };
    let found = core.store.search(&question).map_err(CorpusError::Store)?;
    tracing::debug!(hits = found.len(), words_only, "searched");
    Ok(Answer::Hits(found.into_iter().map(|found| hit(found, words_only)).collect()))
}

/// The question as a vector in the generation's space, if an engine that holds it answers.
fn vector(
    core: &Core,
    generation: GenerationId,
    text: &Sensitive<String>,
) -> Option<(cloister_corpus_store::Space, Vec<f32>)> {
    let engine: Engine = core.engines.holding(generation)?;
    let space = engine.space?;
    let vector = engine.question(text)?;
    core.hint(generation);
    Some((space, vector))
}

fn hit(found: Found, words_only: bool) -> Hit {
    Hit {
        citation: found.citation,
        chunk: found.chunk,
        collection: found.collection,
        label: found.label,
        name: found.name,
        text: found.text,
        score: found.score,
        words_only,
    }
}

fn open(
    core: &Core,
    citation: CitationId,
    generation: GenerationId,
    labels: LabelSet,
) -> Result<Answer, CorpusError> {
    let scope = Scope { generation: Some(generation), collections: [].into(), labels };
    let found = core.store.open(citation, &scope).map_err(CorpusError::Store)?;
    let found = found.ok_or(CorpusError::CitationAbsent)?;
    Ok(Answer::Passage(hit(found, false)))
}

fn verify(core: &Core) -> Result<Answer, CorpusError> {
    let verified = core.store.verify().map_err(CorpusError::Store)?;
    let (documents, chunks, vectors) = (verified.documents, verified.chunks, verified.vectors);
    tracing::info!(documents, chunks, vectors, "the corpus is whole");
    Ok(Answer::Verified { documents, chunks, vectors })
}
