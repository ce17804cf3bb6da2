//! The index of words: which passages hold which words, ranked by BM25 with the statistics of the
//! passages that the reader may see.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use cloister_corpus::{Bag, PAIR_WEIGHT, Query, QueryTerm, Statistics};
use tantivy::{
    BitSet, DocId, DocSet as _, Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy,
    Score, Searcher, SegmentReader, TERMINATED, TantivyDocument, Term,
    collector::TopDocs,
    directory::Directory,
    index::SegmentId,
    indexer::NoMergePolicy,
    query::{
        BitSetDocSet, Bm25StatisticsProvider, BooleanQuery, BoostQuery, ConstScorer, EnableScoring,
        Explanation, Occur, Query as IndexQuery, Scorer, TermQuery, Weight,
    },
    schema::{
        FAST, Field, INDEXED, IndexRecordOption, NumericOptions, Schema, TextFieldIndexing,
        TextOptions,
    },
    tokenizer::{PreTokenizedString, Token},
};

use crate::{StoreError, bitmap::Bitmap, wiping::WipingDirectory};

/// Memory that the writer fills before it makes a segment: tantivy's least.
const WRITER_BYTES: usize = 15_000_000;

/// Segments from which they are merged into one, so that many small additions stay quick to search.
const SEGMENTS_MAX: usize = 8;

/// Passages of each ranking that are looked at (retrieval study, verdict 3).
pub(crate) const RANKED_MAX: usize = 100;

#[derive(Clone, Copy, Debug)]
struct Fields {
    chunk: Field,
    words: Field,
    pairs: Field,
}

/// The index and its only writer.
pub(crate) struct Words {
    fields: Fields,
    index: Index,
    writer: IndexWriter,
    reader: IndexReader,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Words")
    }
}

/// What a change does to the index.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) add: Vec<(u64, Bag)>,
    pub(crate) remove: Vec<u64>,
}

fn schema() -> (Schema, Fields) {
    let counted = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_index_option(IndexRecordOption::WithFreqs)
        .set_fieldnorms(true);
    let text = TextOptions::default().set_indexing_options(counted);
    let mut builder = Schema::builder();
    let chunk = builder.add_u64_field("chunk", NumericOptions::from(INDEXED) | FAST);
    let words = builder.add_text_field("words", text.clone());
    let pairs = builder.add_text_field("pairs", text);
    (builder.build(), Fields { chunk, words, pairs })
}

impl Words {
    /// Opens the index in `folder`, or makes an empty one.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = StoreError::words("open");
        Self::try_open(folder).map_err(failed)
    }

    fn try_open(folder: &Path) -> tantivy::Result<Self> {
        let directory: Box<dyn Directory> = Box::new(WipingDirectory::open(folder)?);
        let (schema, fields) = schema();
        let index = Index::builder()
            .schema(schema)
            .settings(IndexSettings::default())
            .open_or_create(directory)?;
        let writer: IndexWriter = index.writer_with_num_threads(1, WRITER_BYTES)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { fields, index, writer, reader })
    }

    /// The state of the database that the index agrees with; none for a new index.
    pub(crate) fn state(&self) -> Result<Option<u64>, StoreError> {
        let metas = self.index.load_metas().map_err(StoreError::words("read its state"))?;
        Ok(metas.payload.and_then(|payload| payload.parse().ok()))
    }

    /// Makes a change and commits it as agreeing with `state`. What is removed is gone from every
    /// file when this returns.
    pub(crate) fn apply(&mut self, change: Change, state: u64) -> Result<(), StoreError> {
        self.try_apply(change, state).map_err(StoreError::words("change"))
    }

    fn try_apply(&mut self, change: Change, state: u64) -> tantivy::Result<()> {
        let removes = !change.remove.is_empty();
        for chunk in change.remove {
            self.writer.delete_term(Term::from_field_u64(self.fields.chunk, chunk));
        }
        for (chunk, bag) in change.add {
            let mut document = TantivyDocument::new();
            document.add_u64(self.fields.chunk, chunk);
            document.add_pre_tokenized_text(self.fields.words, tokens(bag.words));
            document.add_pre_tokenized_text(self.fields.pairs, tokens(bag.pairs));
            self.writer.add_document(document)?;
        }
        let mut prepared = self.writer.prepare_commit()?;
        prepared.set_payload(&state.to_string());
        prepared.commit()?;
        let segments = self.index.searchable_segment_metas()?;
        let merged: Vec<SegmentId> = segments
            .iter()
            .filter(|segment| segments.len() > SEGMENTS_MAX || segment.has_deletes())
            .map(|segment| segment.id())
            .collect();
        drop(segments);
        if !merged.is_empty() {
            self.writer.merge(&merged).wait()?;
        }
        self.reader.reload()?;
        if removes || !merged.is_empty() {
            self.writer.garbage_collect_files().wait()?;
        }
        Ok(())
    }

    /// The passages that the index holds, more than once if it does.
    pub(crate) fn stored(&self) -> Result<Vec<u64>, StoreError> {
        let failed = || StoreError::words("list its passages");
        let searcher = self.reader.searcher();
        let mut found = Vec::new();
        for segment in searcher.segment_readers() {
            each_alive(segment, |_, chunk| found.push(chunk)).map_err(failed())?;
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Ranks the passages in `allowed` by words, and counts the question's words in them.
    ///
    /// `words_count` is the number of words of the allowed passages together.
    pub(crate) fn rank(
        &self,
        allowed: &Bitmap,
        words_count: u64,
        query: &Query,
    ) -> Result<(Vec<(u64, f32)>, Statistics), StoreError> {
        if allowed.count() == 0 || query.terms.is_empty() {
            let statistics = Statistics { passages: allowed.count(), holding: BTreeMap::default() };
            return Ok((Vec::new(), statistics));
        }
        self.try_rank(allowed, words_count, query).map_err(StoreError::words("rank"))
    }

    fn try_rank(
        &self,
        allowed: &Bitmap,
        words_count: u64,
        query: &Query,
    ) -> tantivy::Result<(Vec<(u64, f32)>, Statistics)> {
        let searcher = self.reader.searcher();
        let seen = Arc::new(Seen::of(&searcher, allowed)?);
        let mut counted = Counted {
            passages: allowed.count().into(),
            words: words_count.max(1),
            holding: BTreeMap::new(),
        };
        let mut statistics = Statistics { passages: allowed.count(), holding: BTreeMap::default() };
        let mut clauses: Vec<(Occur, Box<dyn IndexQuery>)> = Vec::new();
        for word in &query.terms {
            let term = Term::from_field_text(self.fields.words, &word.0);
            let holding = seen.holding(&searcher, &term)?;
            statistics.holding.insert(QueryTerm(word.0.clone()), holding);
            counted.holding.insert(term.clone(), holding.into());
            clauses.push((Occur::Should, scored(term)));
        }
        for pair in &query.pairs {
            let term = Term::from_field_text(self.fields.pairs, pair);
            let holding = seen.holding(&searcher, &term)?;
            counted.holding.insert(term.clone(), holding.into());
            clauses.push((Occur::Should, Box::new(BoostQuery::new(scored(term), PAIR_WEIGHT))));
        }
        let question = BooleanQuery::new(vec![
            (Occur::Must, Box::new(BooleanQuery::new(clauses)) as Box<dyn IndexQuery>),
            (Occur::Must, Box::new(Allowed(Arc::clone(&seen)))),
        ]);
        let top = TopDocs::with_limit(RANKED_MAX).order_by_score();
        let hits = searcher.search_with_statistics_provider(&question, &top, &counted)?;
        let mut ranked = Vec::with_capacity(hits.len());
        for (score, address) in hits {
            let segment = searcher.segment_reader(address.segment_ord);
            if let Some(chunk) = segment.fast_fields().u64("chunk")?.first(address.doc_id) {
                ranked.push((chunk, score));
            }
        }
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        Ok((ranked, statistics))
    }
}

fn scored(term: Term) -> Box<dyn IndexQuery> {
    Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs))
}

/// Words as tantivy takes them when it is not to find them itself.
fn tokens(words: Vec<String>) -> PreTokenizedString {
    let tokens = words
        .into_iter()
        .enumerate()
        .map(|(position, text)| Token { position, text, ..Token::default() })
        .collect();
    PreTokenizedString { text: String::new(), tokens }
}

fn each_alive(segment: &SegmentReader, mut visit: impl FnMut(DocId, u64)) -> tantivy::Result<()> {
    let chunks = segment.fast_fields().u64("chunk")?;
    let alive = segment.alive_bitset();
    for document in 0..segment.max_doc() {
        if alive.is_none_or(|alive| alive.is_alive(document))
            && let Some(chunk) = chunks.first(document)
        {
            visit(document, chunk);
        }
    }
    Ok(())
}

/// The allowed passages as tantivy numbers them, segment by segment.
struct Seen(BTreeMap<SegmentId, BitSet>);

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seen")
    }
}

impl Seen {
    fn of(searcher: &Searcher, allowed: &Bitmap) -> tantivy::Result<Self> {
        let mut seen = BTreeMap::new();
        for segment in searcher.segment_readers() {
            let mut documents = BitSet::with_max_value(segment.max_doc());
            each_alive(segment, |document, chunk| {
                if allowed.contains(chunk) {
                    documents.insert(document);
                }
            })?;
            seen.insert(segment.segment_id(), documents);
        }
        Ok(Self(seen))
    }

    fn in_segment(&self, segment: &SegmentReader) -> BitSet {
        let none = || BitSet::with_max_value(segment.max_doc());
        self.0.get(&segment.segment_id()).cloned().unwrap_or_else(none)
    }

    /// How many allowed passages hold `term`.
    fn holding(&self, searcher: &Searcher, term: &Term) -> tantivy::Result<u32> {
        let mut count = 0;
        for segment in searcher.segment_readers() {
            let Some(documents) = self.0.get(&segment.segment_id()) else { continue };
            let index = segment.inverted_index(term.field())?;
            let Some(mut postings) = index.read_postings(term, IndexRecordOption::Basic)? else {
                continue;
            };
            let mut document = postings.doc();
            while document != TERMINATED {
                if documents.contains(document) {
                    count += 1;
                }
                document = postings.advance();
            }
        }
        Ok(count)
    }
}

/// BM25's statistics over the allowed passages.
struct Counted {
    passages: u64,
    words: u64,
    holding: BTreeMap<Term, u64>,
}

impl Bm25StatisticsProvider for Counted {
    fn total_num_tokens(&self, _field: Field) -> tantivy::Result<u64> {
        Ok(self.words)
    }

    fn total_num_docs(&self) -> tantivy::Result<u64> {
        Ok(self.passages)
    }

    fn doc_freq(&self, term: &Term) -> tantivy::Result<u64> {
        Ok(self.holding.get(term).copied().unwrap_or(0))
    }
}

/// A clause that matches the allowed passages and adds nothing to their scores.
#[derive(Clone, Debug)]
struct Allowed(Arc<Seen>);

impl IndexQuery for Allowed {
    fn weight(&self, _scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for Allowed {
    fn scorer(&self, segment: &SegmentReader, _boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let documents = BitSetDocSet::from(self.0.in_segment(segment));
        Ok(Box::new(ConstScorer::new(documents, 0.0)))
    }

    fn explain(&self, _segment: &SegmentReader, _document: DocId) -> tantivy::Result<Explanation> {
        Ok(Explanation::new("allowed", 0.0))
    }
}
