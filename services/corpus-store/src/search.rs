//! Reading: lists, searches, citations and the comparison of the three stores.

use std::collections::{BTreeMap, BTreeSet};

use cloister_corpus::{Bag, Candidate, Evidence, Scope, bag, chunk_digest, chunks, fuse};
use cloister_domain::{CitationId, Sensitive};
use rusqlite::Connection;

use crate::{
    DocumentInfo, Found, Question, StoreError, Verified,
    bitmap::Bitmap,
    database::{self, Document, Holding, Passage},
    store::Shown,
    vectors::{cosine, is_unit},
};

/// The text of a passage.
pub(crate) fn text(
    connection: &Connection,
    passage: &Passage,
) -> Result<Sensitive<String>, StoreError> {
    let bytes = database::text_of(connection, passage)?;
    let damaged = StoreError::Inconsistent { what: "a passage is not the text that was cut" };
    match String::from_utf8(bytes) {
        Ok(text) if chunk_digest(&text) == passage.digest => Ok(Sensitive::new(text)),
        _ => Err(damaged),
    }
}

pub(crate) fn list(
    connection: &Connection,
    scope: &Scope,
) -> Result<Vec<DocumentInfo>, StoreError> {
    let mut listed = Vec::new();
    for (document, holding) in database::visible(connection, scope)? {
        listed.push(DocumentInfo {
            id: document.id,
            name: Sensitive::new(database::name_of(connection, document.number)?),
            collection: document.collection,
            label: holding.label,
            bytes: document.bytes,
            chunks: document.chunks,
            bundled: holding.generation.is_some(),
        });
    }
    listed.sort_by(|a, b| {
        (&a.collection, a.name.expose(), a.id).cmp(&(&b.collection, b.name.expose(), b.id))
    });
    Ok(listed)
}

/// What one reader may see: passages, how many words they hold, and their documents.
struct View {
    allowed: Bitmap,
    words: u64,
    documents: BTreeMap<i64, (Document, Holding)>,
}

impl View {
    fn of(connection: &Connection, scope: &Scope) -> Result<Self, StoreError> {
        let mut view = Self { allowed: Bitmap::default(), words: 0, documents: BTreeMap::new() };
        for (document, holding) in database::visible(connection, scope)? {
            view.words += document.words;
            for chunk in document.first_chunk..document.first_chunk + u64::from(document.chunks) {
                view.allowed.insert(chunk);
            }
            view.documents.insert(document.number, (document, holding));
        }
        Ok(view)
    }
}

pub(crate) fn search(
    connection: &Connection,
    shown: &Shown,
    question: &Question<'_>,
) -> Result<Vec<Found>, StoreError> {
    let view = View::of(connection, question.scope)?;
    let (by_words, statistics) = shown.words.rank(&view.allowed, view.words, question.query)?;
    let table = question.vector.and_then(|(space, vector)| {
        let table = shown.tables.get(&space.model)?;
        is_unit(vector, space.width).then_some((table, vector))
    });
    let by_vector =
        table.map_or_else(Vec::new, |(table, vector)| table.nearest(&view.allowed, vector));
    let words: BTreeMap<u64, f32> = by_words.into_iter().collect();
    let vectors: BTreeMap<u64, f32> = by_vector.into_iter().collect();
    let named: BTreeSet<u64> = words.keys().chain(vectors.keys()).copied().collect();
    let mut candidates = Vec::with_capacity(named.len());
    let mut texts = BTreeMap::new();
    for key in named {
        let Some(passage) = database::passage_of(connection, key)? else { continue };
        let text = text(connection, &passage)?;
        let cosine = table.and_then(|(table, vector)| Some(cosine(table.row(key)?, vector)));
        let held: Bag = bag(text.expose(), &[passage.headings.expose()]);
        let evidence = Evidence { coverage: statistics.coverage(question.query, &held), cosine };
        candidates.push(Candidate {
            key,
            words: words.get(&key).copied(),
            vector: vectors.get(&key).copied(),
            evidence,
        });
        texts.insert(key, (passage, text));
    }
    let mut hits = Vec::new();
    for ranked in fuse(&candidates, table.is_some()).into_iter().take(question.hits_max) {
        let Some((passage, text)) = texts.remove(&ranked.key) else { continue };
        // The passage came from a set made of these documents; asked again, since this is the door.
        let Some((document, holding)) = view.documents.get(&passage.document) else { continue };
        hits.push(found(connection, document, holding, &passage, text, ranked.score)?);
    }
    Ok(hits)
}

fn found(
    connection: &Connection,
    document: &Document,
    holding: &Holding,
    passage: &Passage,
    text: Sensitive<String>,
    score: f32,
) -> Result<Found, StoreError> {
    Ok(Found {
        citation: CitationId { document: document.id, start: passage.first, end: passage.last },
        chunk: passage.digest,
        collection: document.collection.clone(),
        label: holding.label.clone(),
        name: Sensitive::new(database::name_of(connection, document.number)?),
        text,
        score,
    })
}

pub(crate) fn open(
    connection: &Connection,
    citation: CitationId,
    scope: &Scope,
) -> Result<Option<Found>, StoreError> {
    let visible = database::visible(connection, scope)?;
    let Some((document, holding)) =
        visible.into_iter().find(|(document, _)| document.id == citation.document)
    else {
        return Ok(None);
    };
    let passages = database::passages_of(connection, document.number)?;
    let cited =
        |passage: &&Passage| (passage.first, passage.last) == (citation.start, citation.end);
    let Some(passage) = passages.iter().find(cited) else { return Ok(None) };
    let text = text(connection, passage)?;
    found(connection, &document, &holding, passage, text, 1.0).map(Some)
}

/// Compares everything with everything; reads the whole store.
pub(crate) fn verify(connection: &Connection, shown: &Shown) -> Result<Verified, StoreError> {
    let differ = |what| Err(StoreError::Inconsistent { what });
    if !database::whole(connection)? {
        return differ("SQLite finds its file broken");
    }
    let documents = database::all(connection)?;
    let mut known = Vec::new();
    for document in &documents {
        let body = database::body_of(connection, document.number)?;
        let Ok(body) = String::from_utf8(body) else {
            return differ("a document is not UTF-8");
        };
        let passages = database::passages_of(connection, document.number)?;
        let ranges: Vec<(u64, u64)> = chunks(&body)
            .into_iter()
            .map(|chunk| (chunk.range.start as u64, chunk.range.end as u64))
            .collect();
        if ranges != passages.iter().map(|p| (p.first, p.last)).collect::<Vec<_>>() {
            return differ("a document is cut in other places than its passages say");
        }
        for passage in &passages {
            drop(text(connection, passage)?);
            known.push(passage.number);
        }
    }
    known.sort_unstable();
    if shown.words.stored()? != known {
        return differ("the index of words has other passages than the database");
    }
    let mut vectors = 0;
    for stored in database::spaces(connection)? {
        let slots = database::vectors(connection, stored.number)?;
        let table = shown.tables.get(&stored.space.model);
        let good = table.is_some_and(|table| {
            let unit = |row: &[f32]| is_unit(row, stored.space.width);
            table.len() == slots.len()
                && slots.iter().all(|(chunk, _)| table.row(*chunk).is_some_and(unit))
        });
        if !good {
            return differ("a vector is not where the database says, or is damaged");
        }
        vectors += slots.len() as u64;
    }
    Ok(Verified { documents: documents.len() as u64, chunks: known.len() as u64, vectors })
}
