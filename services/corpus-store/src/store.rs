//! The protocol that keeps database, words and vectors one.
//!
//! A change of documents is (1) a tantivy commit that carries the number of the state to come, then
//! (2) one SQLite transaction with the same number, which is the commit. Vectors are (1) rows
//! appended and synced, then (2) one transaction that knows their slots. At opening, rows that no
//! transaction knows are wiped, and an index whose number is not the database's is brought back to
//! the passages that the database has. A removal is (1) one transaction that hides the document,
//! (2) vectors wiped, (3) words removed and their segments rewritten, (4) one transaction that
//! deletes the rows, and the log emptied; at opening, a removal that was begun is finished.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use cloister_corpus::{Scope, bag, chunk_digest, chunks, receipt};
use cloister_domain::{CitationId, Digest, DocumentId, GenerationId, Sensitive};
use rusqlite::Connection;

use crate::{
    ChunkKey, CorpusStore, DocumentInfo, Found, Holder, Incoming, Question, Receipt, Space,
    StoreError, Taken, Tombstone, Verified,
    database::{self, Document, Passage},
    schema, search,
    vectors::{Table, is_unit, sweep},
    words::{Change, Words},
};

/// The store in one folder of files. One process opens it at a time.
#[derive(Debug)]
pub struct FileStore {
    database: PathBuf,
    vectors: PathBuf,
    /// The only connection that writes.
    writer: Mutex<Connection>,
    /// Connections that read, when nobody uses them.
    idle: Mutex<Vec<Connection>>,
    /// What searches read; changed by the holder of `writer` alone.
    shown: RwLock<Shown>,
}

/// Words and vectors as searches see them.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) words: Words,
    pub(crate) tables: BTreeMap<Digest, Table>,
    /// Set while words and database may differ.
    unsettled: bool,
    /// Set while the database's log may hold what was removed.
    log_is_full: bool,
}

impl FileStore {
    /// Opens the store in `folder`, made if it is not there, and brings it to one state.
    ///
    /// # Errors
    /// [`StoreError::Words`] if another process has it open; else the surroundings.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let failed = || StoreError::file("make its folders");
        let (words, vectors) = (folder.join("words"), folder.join("vectors"));
        for path in [folder, &words, &vectors] {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(path).map_err(failed())?;
        }
        let database = folder.join("corpus.db");
        let mut connection = schema::writer(&database)?;
        let words = open_words(&words)?;
        let tables = open_tables(&mut connection, &vectors)?;
        let shown = Shown { words, tables, unsettled: true, log_is_full: true };
        let store = Self {
            database,
            vectors,
            writer: Mutex::new(connection),
            idle: Mutex::new(Vec::new()),
            shown: RwLock::new(shown),
        };
        drop(store.settled()?);
        Ok(store)
    }

    fn read_shown(&self) -> RwLockReadGuard<'_, Shown> {
        self.shown.read().expect("no holder of this lock panics")
    }

    fn write_shown(&self) -> RwLockWriteGuard<'_, Shown> {
        self.shown.write().expect("no holder of this lock panics")
    }

    /// The writing connection, after what an earlier failure left open is done.
    fn settled(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        let mut writer = self.writer.lock().expect("no holder of this lock panics");
        if self.read_shown().unsettled {
            let mut shown = self.write_shown();
            reconcile(&writer, &mut shown.words)?;
            shown.unsettled = false;
        }
        self.finish_leaving(&mut writer)?;
        if self.read_shown().log_is_full {
            let mut shown = self.write_shown();
            database::checkpoint(&writer)?;
            shown.log_is_full = false;
        }
        Ok(writer)
    }

    /// Reads with a connection of its own, while nothing changes what is shown.
    fn reading<T>(
        &self,
        read: impl FnOnce(&Connection, &Shown) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let shown = self.read_shown();
        let idle = self.idle.lock().expect("no holder of this lock panics").pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::reader(&self.database)?,
        };
        // One snapshot for all statements of this reading.
        let begun = connection.unchecked_transaction().map_err(StoreError::database("read"))?;
        let answer = read(&begun, &shown);
        begun.finish().map_err(StoreError::database("read"))?;
        self.idle.lock().expect("no holder of this lock panics").push(connection);
        answer
    }

    /// Removes every trace of the documents that are leaving.
    fn finish_leaving(&self, writer: &mut Connection) -> Result<(), StoreError> {
        let leaving = database::leaving(writer)?;
        if leaving.is_empty() {
            return Ok(());
        }
        let mut removed = Vec::new();
        for document in &leaving {
            let passages = database::passages_of(writer, *document)?;
            removed.extend(passages.iter().map(|passage| passage.number));
        }
        let mut shown = self.write_shown();
        for table in shown.tables.values_mut() {
            table.erase(&removed).map_err(StoreError::file("overwrite vectors"))?;
        }
        let (state, next_chunk) = database::state(writer)?;
        shown.unsettled = true;
        let change = Change { add: Vec::new(), remove: removed };
        shown.words.apply(change, state + 1)?;
        let transaction = begin(writer)?;
        for document in leaving {
            database::erase(&transaction, document)?;
        }
        database::set_state(&transaction, state + 1, next_chunk)?;
        shown.log_is_full = true;
        commit(transaction)?;
        shown.unsettled = false;
        database::checkpoint(writer)?;
        shown.log_is_full = false;
        Ok(())
    }

    fn tombstone(connection: &Connection, id: DocumentId) -> Result<(i64, Tombstone), StoreError> {
        let document = database::find(connection, id)?.ok_or(StoreError::Absent)?;
        let holdings = database::holdings_of(connection, document.number)?;
        if holdings.iter().any(|holding| holding.generation.is_some()) {
            return Err(StoreError::Bundled);
        }
        let passages = database::passages_of(connection, document.number)?;
        let digests: Vec<Digest> = passages.iter().map(|passage| passage.digest).collect();
        let receipt = Receipt {
            document: id,
            chunks: document.chunks,
            vectors: database::vector_count(connection, document.number)?,
            removed: receipt(&digests),
        };
        Ok((document.number, Tombstone { serial: database::next_serial(connection)?, receipt }))
    }
}

fn begin(connection: &mut Connection) -> Result<rusqlite::Transaction<'_>, StoreError> {
    connection.transaction().map_err(StoreError::database("begin"))
}

fn commit(transaction: rusqlite::Transaction<'_>) -> Result<(), StoreError> {
    transaction.commit().map_err(StoreError::database("commit"))
}

/// Opens the index of words; one that cannot be read is wiped and made anew, since the database has
/// all that it needs.
fn open_words(folder: &Path) -> Result<Words, StoreError> {
    let unreadable = match Words::open(folder) {
        Err(StoreError::Words { kind, .. }) => {
            matches!(kind, "corrupt" | "open to read" | "another version")
        }
        other => return other,
    };
    if unreadable {
        sweep(folder, &[]).map_err(StoreError::file("wipe a damaged index"))?;
    }
    Words::open(folder)
}

fn open_tables(
    connection: &mut Connection,
    folder: &Path,
) -> Result<BTreeMap<Digest, Table>, StoreError> {
    let failed = || StoreError::file("read vectors");
    let stored = database::spaces(connection)?;
    let known: Vec<Space> = stored.iter().map(|stored| stored.space).collect();
    sweep(folder, &known).map_err(failed())?;
    let mut tables = BTreeMap::new();
    for stored in stored {
        let slot_of = database::vectors(connection, stored.number)?.into_iter().collect();
        let table = Table::open(folder, stored.space, stored.slots, slot_of).map_err(failed())?;
        let table = match table {
            Some(table) => table,
            None => {
                let transaction = begin(connection)?;
                database::forget_vectors(&transaction, stored.number)?;
                commit(transaction)?;
                Table::open(folder, stored.space, 0, BTreeMap::new())
                    .map_err(failed())?
                    .expect("a file has no fewer than no rows")
            }
        };
        tables.insert(stored.space.model, table);
    }
    Ok(tables)
}

/// Brings the words to what the database has, if the two do not carry the same number.
fn reconcile(connection: &Connection, words: &mut Words) -> Result<(), StoreError> {
    let (state, _) = database::state(connection)?;
    if words.state()? == Some(state) {
        return Ok(());
    }
    let stored = words.stored()?;
    let held: BTreeSet<u64> = stored.iter().copied().collect();
    let twice = held.len() != stored.len();
    let mut known = BTreeSet::new();
    let mut change = Change::default();
    for document in database::all(connection)? {
        let passages = database::passages_of(connection, document.number)?;
        known.extend(passages.iter().map(|passage| passage.number));
        if twice || passages.iter().any(|passage| !held.contains(&passage.number)) {
            let text = database::body_of(connection, document.number)?;
            let text = String::from_utf8(text).map_err(|_quotes_the_text| {
                StoreError::Inconsistent { what: "a document is not UTF-8" }
            })?;
            let bags = bags(&text);
            let again = passages
                .iter()
                .zip(bags)
                .filter(|(passage, _)| twice || !held.contains(&passage.number));
            change.add.extend(again.map(|(passage, bag)| (passage.number, bag)));
        }
    }
    change.remove = if twice { stored } else { held.difference(&known).copied().collect() };
    words.apply(change, state)
}

fn bags(text: &str) -> Vec<cloister_corpus::Bag> {
    let part =
        |range: std::ops::Range<usize>| text.get(range).expect("passages are cut at characters");
    chunks(text)
        .into_iter()
        .map(|chunk| {
            let headings: Vec<&str> = chunk.headings.iter().cloned().map(part).collect();
            bag(part(chunk.range), &headings)
        })
        .collect()
}

/// A document that is new, cut and numbered.
struct New<'a> {
    incoming: &'a Incoming,
    document: Document,
    passages: Vec<Passage>,
}

fn cut<'a>(incoming: &'a Incoming, first_chunk: u64, change: &mut Change) -> New<'a> {
    let text = incoming.text.expose();
    let mut words = 0;
    let mut passages = Vec::new();
    for (number, (chunk, bag)) in (first_chunk..).zip(chunks(text).into_iter().zip(bags(text))) {
        let part = text.get(chunk.range.clone()).expect("passages are cut at characters");
        let above = chunk.headings.iter().filter_map(|line| text.get(line.clone()));
        let headings = above.collect::<Vec<&str>>().join("\n");
        words += bag.words.len() as u64;
        change.add.push((number, bag));
        passages.push(Passage {
            number,
            document: 0,
            first: chunk.range.start as u64,
            last: chunk.range.end as u64,
            digest: chunk_digest(part),
            headings: Sensitive::new(headings),
        });
    }
    let document = Document {
        number: 0,
        id: incoming.id,
        collection: incoming.collection.clone(),
        words,
        first_chunk,
        chunks: u32::try_from(passages.len()).expect("a document is at most 16 MiB"),
        bytes: text.len() as u64,
    };
    New { incoming, document, passages }
}

/// What is to be done with documents that are there already.
struct Known<'a> {
    number: i64,
    incoming: &'a Incoming,
}

/// Parts the documents in known and new ones; those that come twice count once.
fn sort_out<'a>(
    connection: &Connection,
    holder: &Holder,
    documents: &'a [Incoming],
) -> Result<(Vec<Known<'a>>, Vec<&'a Incoming>), StoreError> {
    let (mut known, mut new, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for incoming in documents {
        if !seen.insert(incoming.id) {
            continue;
        }
        let Some(document) = database::find(connection, incoming.id)? else {
            new.push(incoming);
            continue;
        };
        if let Holder::Facility(_) = holder {
            let holdings = database::holdings_of(connection, document.number)?;
            match holdings.iter().find(|holding| holding.generation.is_none()) {
                None => return Err(StoreError::Bundled),
                Some(own) if own.label != incoming.label => return Err(StoreError::OtherLabel),
                Some(_) => {}
            }
        } else {
            known.push(Known { number: document.number, incoming });
        }
    }
    Ok((known, new))
}

impl CorpusStore for FileStore {
    fn put(&self, holder: &Holder, documents: &[Incoming]) -> Result<Taken, StoreError> {
        let mut writer = self.settled()?;
        let (known, new) = sort_out(&writer, holder, documents)?;
        let (state, mut next_chunk) = database::state(&writer)?;
        let mut change = Change::default();
        let mut cut_up = Vec::with_capacity(new.len());
        for incoming in new {
            let new = cut(incoming, next_chunk, &mut change);
            next_chunk += u64::from(new.document.chunks);
            cut_up.push(new);
        }
        let taken = Taken {
            documents: u32::try_from(cut_up.len()).expect("a batch is small"),
            chunks: u32::try_from(change.add.len()).expect("a batch is small"),
        };
        let changes_words = !change.add.is_empty();
        let mut shown = self.write_shown();
        let state = if changes_words {
            shown.unsettled = true;
            shown.words.apply(change, state + 1)?;
            state + 1
        } else {
            state
        };
        let (generation, owner) = match holder {
            Holder::Facility(owner) => (None, Some(owner.as_str())),
            Holder::Generation(id) => (Some(*id), None),
        };
        let transaction = begin(&mut writer)?;
        for Known { number, incoming } in known {
            database::insert_holding(&transaction, number, generation, &incoming.label, owner)?;
        }
        for new in cut_up {
            let (name, text) = (new.incoming.name.expose(), new.incoming.text.expose());
            let number = database::insert_document(&transaction, &new.document, name, text)?;
            for passage in new.passages {
                let passage = Passage { document: number, ..passage };
                database::insert_passage(&transaction, &passage)?;
            }
            let label = &new.incoming.label;
            database::insert_holding(&transaction, number, generation, label, owner)?;
        }
        database::set_state(&transaction, state, next_chunk)?;
        commit(transaction)?;
        shown.unsettled = false;
        Ok(taken)
    }

    fn complete(&self, generation: GenerationId, space: Option<Space>) -> Result<(), StoreError> {
        let mut writer = self.settled()?;
        let transaction = begin(&mut writer)?;
        let number = space.map(|space| database::space_number(&transaction, space)).transpose()?;
        database::complete(&transaction, generation, number)?;
        commit(transaction)?;
        let mut shown = self.write_shown();
        if let Some(space) = space
            && !shown.tables.contains_key(&space.model)
        {
            let table = Table::open(&self.vectors, space, 0, BTreeMap::new());
            let table = table.map_err(StoreError::file("make a file of vectors"))?;
            shown.tables.extend(table.map(|table| (space.model, table)));
        }
        Ok(())
    }

    fn generation(&self, generation: GenerationId) -> Result<Option<Option<Space>>, StoreError> {
        self.reading(|connection, _| database::generation(connection, generation))
    }

    fn counts(&self, generation: GenerationId) -> Result<(u32, u32, u32), StoreError> {
        self.reading(|connection, _| database::counts(connection, generation))
    }

    fn drop_generation(&self, generation: GenerationId) -> Result<(), StoreError> {
        let mut writer = self.settled()?;
        let transaction = begin(&mut writer)?;
        database::release(&transaction, generation)?;
        commit(transaction)?;
        let kept: Vec<Space> =
            database::spaces(&writer)?.into_iter().map(|stored| stored.space).collect();
        let mut shown = self.write_shown();
        shown.tables.retain(|model, _| kept.iter().any(|space| space.model == *model));
        drop(shown);
        sweep(&self.vectors, &kept).map_err(StoreError::file("wipe vectors"))?;
        self.finish_leaving(&mut writer)
    }

    fn missing(
        &self,
        space: Space,
        count: u32,
    ) -> Result<Vec<(ChunkKey, Sensitive<String>)>, StoreError> {
        self.reading(|connection, _| {
            let stored = database::spaces(connection)?;
            let Some(stored) = stored.into_iter().find(|stored| stored.space == space) else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for passage in database::missing(connection, stored.number, count)? {
                let text = search::text(connection, &passage)?;
                found.push((ChunkKey(passage.number), text));
            }
            Ok(found)
        })
    }

    fn put_vectors(
        &self,
        space: Space,
        vectors: &[(ChunkKey, Vec<f32>)],
    ) -> Result<u32, StoreError> {
        if !vectors.iter().all(|(_, vector)| is_unit(vector, space.width)) {
            return Err(StoreError::Vector { width: space.width });
        }
        let mut writer = self.settled()?;
        let stored = database::spaces(&writer)?;
        let Some(stored) = stored.into_iter().find(|stored| stored.space == space) else {
            return Ok(0);
        };
        let mut shown = self.write_shown();
        let Some(table) = shown.tables.get_mut(&space.model) else { return Ok(0) };
        let mut rows: BTreeMap<u64, &[f32]> = BTreeMap::new();
        for (ChunkKey(chunk), vector) in vectors {
            if !table.has(*chunk) && database::passage_of(&writer, *chunk)?.is_some() {
                rows.insert(*chunk, vector);
            }
        }
        let rows: Vec<(u64, &[f32])> = rows.into_iter().collect();
        let only: Vec<&[f32]> = rows.iter().map(|(_, row)| *row).collect();
        table.append(&only).map_err(StoreError::file("write vectors"))?;
        let transaction = begin(&mut writer)?;
        let first = table.slots();
        for (slot, (chunk, _)) in (first..).zip(&rows) {
            database::insert_vector(&transaction, stored.number, *chunk, slot)?;
        }
        let count = u32::try_from(rows.len()).expect("a batch is small");
        database::set_slots(&transaction, stored.number, first + u64::from(count))?;
        commit(transaction)?;
        table.committed(&rows);
        Ok(count)
    }

    fn would_delete(&self, document: DocumentId) -> Result<Tombstone, StoreError> {
        self.reading(|connection, _| Ok(Self::tombstone(connection, document)?.1))
    }

    fn delete(&self, document: DocumentId) -> Result<Tombstone, StoreError> {
        let mut writer = self.settled()?;
        let (number, tombstone) = Self::tombstone(&writer, document)?;
        let transaction = begin(&mut writer)?;
        database::mark_leaving(&transaction, number)?;
        database::insert_tombstone(&transaction, &tombstone)?;
        commit(transaction)?;
        self.finish_leaving(&mut writer)?;
        Ok(tombstone)
    }

    fn unrecorded(&self) -> Result<Vec<Tombstone>, StoreError> {
        let writer = self.settled()?;
        database::unrecorded(&writer)
    }

    fn recorded(&self, serial: u64) -> Result<(), StoreError> {
        let writer = self.settled()?;
        database::set_recorded(&writer, serial)
    }

    fn list(&self, scope: &Scope) -> Result<Vec<DocumentInfo>, StoreError> {
        self.reading(|connection, _| search::list(connection, scope))
    }

    fn search(&self, question: &Question<'_>) -> Result<Vec<Found>, StoreError> {
        self.reading(|connection, shown| search::search(connection, shown, question))
    }

    fn open(&self, citation: CitationId, scope: &Scope) -> Result<Option<Found>, StoreError> {
        self.reading(|connection, _| search::open(connection, citation, scope))
    }

    fn verify(&self) -> Result<Verified, StoreError> {
        let writer = self.settled()?;
        drop(writer);
        self.reading(search::verify)
    }
}
