//! Statements of the database. Each function is one question or one change inside a transaction
//! that the caller holds.

use cloister_corpus::Scope;
use cloister_domain::{Digest, DocumentId, GenerationId, Label, Sensitive};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{Receipt, Space, StoreError, Tombstone};

type Result<T> = std::result::Result<T, StoreError>;

fn failed() -> impl FnOnce(rusqlite::Error) -> StoreError {
    StoreError::database("read or write")
}

/// The bytes that stand for who holds: a generation's id, or nothing for the facility.
pub(crate) fn holder_bytes(generation: Option<GenerationId>) -> Vec<u8> {
    generation.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec())
}

fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Digest> {
    row.get::<_, [u8; 32]>(column).map(Digest::from_bytes)
}

fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| u64::try_from(value).unwrap_or(0))
}

pub(crate) fn sql(value: u64) -> i64 {
    i64::try_from(value).expect("counts are far below 2^63")
}

/// The number of the state, and of the next passage.
pub(crate) fn state(connection: &Connection) -> Result<(u64, u64)> {
    connection
        .query_row("SELECT state, next_chunk FROM state", [], |row| {
            Ok((count(row, 0)?, count(row, 1)?))
        })
        .map_err(failed())
}

pub(crate) fn set_state(connection: &Connection, state: u64, next_chunk: u64) -> Result<()> {
    connection
        .execute(
            "UPDATE state SET state = ?1, next_chunk = ?2",
            params![sql(state), sql(next_chunk)],
        )
        .map(drop)
        .map_err(failed())
}

/// A stored document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) number: i64,
    pub(crate) id: DocumentId,
    pub(crate) collection: String,
    pub(crate) words: u64,
    pub(crate) first_chunk: u64,
    pub(crate) chunks: u32,
    pub(crate) bytes: u64,
}

const DOCUMENT: &str = "d.number, d.id, d.collection, d.words, d.first_chunk, d.chunks, d.bytes";

fn document(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        number: row.get(0)?,
        id: DocumentId(digest(row, 1)?),
        collection: row.get(2)?,
        words: count(row, 3)?,
        first_chunk: count(row, 4)?,
        chunks: row.get(5)?,
        bytes: count(row, 6)?,
    })
}

pub(crate) fn find(connection: &Connection, id: DocumentId) -> Result<Option<Document>> {
    connection
        .query_row(
            &format!("SELECT {DOCUMENT} FROM document d WHERE d.id = ?1 AND d.leaving = 0"),
            [id.0.as_bytes()],
            document,
        )
        .optional()
        .map_err(failed())
}

pub(crate) fn insert_document(
    connection: &Connection,
    document: &Document,
    name: &str,
    text: &str,
) -> Result<i64> {
    connection
        .execute(
            "INSERT INTO document (id, collection, name, bytes, words, first_chunk, chunks)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                document.id.0.as_bytes(),
                document.collection,
                name,
                sql(document.bytes),
                sql(document.words),
                sql(document.first_chunk),
                document.chunks,
            ],
        )
        .map_err(failed())?;
    let number = connection.last_insert_rowid();
    connection
        .execute("INSERT INTO body VALUES (?1, ?2)", params![number, text.as_bytes()])
        .map_err(failed())?;
    Ok(number)
}

/// A stored passage.
#[derive(Clone)]
pub(crate) struct Passage {
    pub(crate) number: u64,
    pub(crate) document: i64,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) digest: Digest,
    /// The headings that it stands under and does not hold, a line each.
    pub(crate) headings: Sensitive<String>,
}

const PASSAGE: &str = "c.number, c.document, c.first, c.last, c.digest, c.headings";

fn passage(row: &Row<'_>) -> rusqlite::Result<Passage> {
    Ok(Passage {
        number: count(row, 0)?,
        document: row.get(1)?,
        first: count(row, 2)?,
        last: count(row, 3)?,
        digest: digest(row, 4)?,
        headings: Sensitive::new(row.get(5)?),
    })
}

pub(crate) fn insert_passage(connection: &Connection, passage: &Passage) -> Result<()> {
    connection
        .execute(
            "INSERT INTO chunk VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                sql(passage.number),
                passage.document,
                sql(passage.first),
                sql(passage.last),
                passage.digest.as_bytes(),
                passage.headings.expose(),
            ],
        )
        .map(drop)
        .map_err(failed())
}

pub(crate) fn passages_of(connection: &Connection, document: i64) -> Result<Vec<Passage>> {
    let mut statement = connection
        .prepare(&format!("SELECT {PASSAGE} FROM chunk c WHERE c.document = ?1 ORDER BY c.number"))
        .map_err(failed())?;
    let rows = statement.query_map([document], passage).map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

pub(crate) fn passage_of(connection: &Connection, number: u64) -> Result<Option<Passage>> {
    connection
        .prepare(&format!("SELECT {PASSAGE} FROM chunk c WHERE c.number = ?1"))
        .and_then(|mut statement| statement.query_row([sql(number)], passage).optional())
        .map_err(failed())
}

/// The bytes of a passage's text.
pub(crate) fn text_of(connection: &Connection, passage: &Passage) -> Result<Vec<u8>> {
    let length = passage.last.saturating_sub(passage.first);
    connection
        .prepare("SELECT substr(text, ?2 + 1, ?3) FROM body WHERE document = ?1")
        .and_then(|mut statement| {
            statement.query_row(params![passage.document, sql(passage.first), sql(length)], |row| {
                row.get(0)
            })
        })
        .map_err(failed())
}

pub(crate) fn body_of(connection: &Connection, document: i64) -> Result<Vec<u8>> {
    connection
        .query_row("SELECT text FROM body WHERE document = ?1", [document], |row| row.get(0))
        .map_err(failed())
}

pub(crate) fn name_of(connection: &Connection, document: i64) -> Result<String> {
    connection
        .prepare("SELECT name FROM document WHERE number = ?1")
        .and_then(|mut statement| statement.query_row([document], |row| row.get(0)))
        .map_err(failed())
}

/// Who holds a document, and under which label.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) generation: Option<GenerationId>,
    pub(crate) label: Label,
}

fn holding(row: &Row<'_>, first: usize) -> rusqlite::Result<Holding> {
    let generation: Vec<u8> = row.get(first)?;
    let label: String = row.get(first + 1)?;
    let broken = || rusqlite::Error::InvalidQuery;
    let generation = match <[u8; 32]>::try_from(generation.as_slice()) {
        Ok(bytes) => Some(GenerationId(Digest::from_bytes(bytes))),
        Err(_) if generation.is_empty() => None,
        Err(_) => return Err(broken()),
    };
    Ok(Holding { generation, label: label.parse().map_err(|_refused| broken())? })
}

pub(crate) fn holdings_of(connection: &Connection, document: i64) -> Result<Vec<Holding>> {
    let mut statement = connection
        .prepare("SELECT generation, label FROM holding WHERE document = ?1")
        .map_err(failed())?;
    let rows = statement.query_map([document], |row| holding(row, 0)).map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

pub(crate) fn insert_holding(
    connection: &Connection,
    document: i64,
    generation: Option<GenerationId>,
    label: &Label,
    owner: Option<&str>,
) -> Result<()> {
    connection
        .execute(
            "INSERT OR REPLACE INTO holding VALUES (?1, ?2, ?3, ?4)",
            params![document, holder_bytes(generation), label.as_str(), owner],
        )
        .map(drop)
        .map_err(failed())
}

/// The documents that `scope` admits, each with the label under which it is seen. A generation that
/// is not complete shows nothing.
pub(crate) fn visible(connection: &Connection, scope: &Scope) -> Result<Vec<(Document, Holding)>> {
    let generation = match scope.generation {
        Some(id) if generation(connection, id)?.is_some() => Some(id),
        _ => None,
    };
    let mut statement = connection
        .prepare(&format!(
            "SELECT {DOCUMENT}, h.generation, h.label
             FROM holding h JOIN document d ON d.number = h.document
             WHERE h.generation IN (x'', ?1) AND d.leaving = 0
             ORDER BY d.number, h.generation DESC"
        ))
        .map_err(failed())?;
    let rows = statement
        .query_map([holder_bytes(generation)], |row| Ok((document(row)?, holding(row, 7)?)))
        .map_err(failed())?;
    let mut found: Vec<(Document, Holding)> = Vec::new();
    for row in rows {
        let (document, holding) = row.map_err(failed())?;
        let again = found.last().is_some_and(|(last, _)| last.number == document.number);
        let scope = Scope { generation, ..scope.clone() };
        if !again && scope.admits(holding.generation, &document.collection, &holding.label) {
            found.push((document, holding));
        }
    }
    Ok(found)
}

/// Whether a generation is complete, and its space.
pub(crate) fn generation(
    connection: &Connection,
    id: GenerationId,
) -> Result<Option<Option<Space>>> {
    connection
        .query_row(
            "SELECT s.model, s.width FROM generation g LEFT JOIN space s ON s.number = g.space
             WHERE g.id = ?1 AND g.complete = 1",
            [id.0.as_bytes()],
            |row| {
                let model: Option<[u8; 32]> = row.get(0)?;
                let width: Option<u32> = row.get(1)?;
                Ok(model
                    .zip(width)
                    .map(|(model, width)| Space { model: Digest::from_bytes(model), width }))
            },
        )
        .optional()
        .map_err(failed())
}

pub(crate) fn complete(
    connection: &Connection,
    id: GenerationId,
    space: Option<i64>,
) -> Result<()> {
    connection
        .execute(
            "INSERT INTO generation VALUES (?1, ?2, 1)
             ON CONFLICT (id) DO UPDATE SET complete = 1, space = coalesce(?2, space)",
            params![id.0.as_bytes(), space],
        )
        .map(drop)
        .map_err(failed())
}

pub(crate) fn counts(connection: &Connection, id: GenerationId) -> Result<(u32, u32, u32)> {
    connection
        .query_row(
            "SELECT count(*), coalesce(sum(d.chunks), 0),
                (SELECT count(*) FROM holding h
                    JOIN chunk c ON c.document = h.document
                    JOIN generation g ON g.id = h.generation
                    JOIN vector v ON v.chunk = c.number AND v.space = g.space
                    WHERE h.generation = ?1)
             FROM holding h JOIN document d ON d.number = h.document WHERE h.generation = ?1",
            [id.0.as_bytes()],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .map_err(failed())
}

/// The number of a space, made if it is new.
pub(crate) fn space_number(connection: &Connection, space: Space) -> Result<i64> {
    let model = space.model.as_bytes();
    connection
        .execute(
            "INSERT OR IGNORE INTO space (model, width, slots) VALUES (?1, ?2, 0)",
            params![model, space.width],
        )
        .map_err(failed())?;
    connection
        .query_row(
            "SELECT number FROM space WHERE model = ?1 AND width = ?2",
            params![model, space.width],
            |row| row.get(0),
        )
        .map_err(failed())
}

/// A space as stored: its number and how many rows of its file are committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredSpace {
    pub(crate) number: i64,
    pub(crate) space: Space,
    pub(crate) slots: u64,
}

pub(crate) fn spaces(connection: &Connection) -> Result<Vec<StoredSpace>> {
    let mut statement = connection
        .prepare("SELECT number, model, width, slots FROM space ORDER BY number")
        .map_err(failed())?;
    let rows = statement
        .query_map([], |row| {
            let space = Space { model: digest(row, 1)?, width: row.get(2)? };
            Ok(StoredSpace { number: row.get(0)?, space, slots: count(row, 3)? })
        })
        .map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

/// Slots by passage.
pub(crate) fn vectors(connection: &Connection, space: i64) -> Result<Vec<(u64, u64)>> {
    let mut statement =
        connection.prepare("SELECT chunk, slot FROM vector WHERE space = ?1").map_err(failed())?;
    let rows = statement
        .query_map([space], |row| Ok((count(row, 0)?, count(row, 1)?)))
        .map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

pub(crate) fn insert_vector(
    connection: &Connection,
    space: i64,
    chunk: u64,
    slot: u64,
) -> Result<()> {
    connection
        .execute("INSERT INTO vector VALUES (?1, ?2, ?3)", params![space, sql(chunk), sql(slot)])
        .map(drop)
        .map_err(failed())
}

pub(crate) fn set_slots(connection: &Connection, space: i64, slots: u64) -> Result<()> {
    connection
        .execute("UPDATE space SET slots = ?2 WHERE number = ?1", params![space, sql(slots)])
        .map(drop)
        .map_err(failed())
}

pub(crate) fn forget_vectors(connection: &Connection, space: i64) -> Result<()> {
    connection.execute("DELETE FROM vector WHERE space = ?1", [space]).map_err(failed())?;
    set_slots(connection, space, 0)
}

/// Passages without a vector in `space` that should have one: the facility's, and those of the
/// generations whose space it is.
pub(crate) fn missing(connection: &Connection, space: i64, count: u32) -> Result<Vec<Passage>> {
    let mut statement = connection
        .prepare(&format!(
            "SELECT {PASSAGE} FROM chunk c JOIN document d ON d.number = c.document
             WHERE d.leaving = 0
             AND NOT EXISTS (SELECT 1 FROM vector v WHERE v.space = ?1 AND v.chunk = c.number)
             AND EXISTS (
                 SELECT 1 FROM holding h LEFT JOIN generation g ON g.id = h.generation
                 WHERE h.document = c.document AND (h.generation = x'' OR g.space = ?1))
             ORDER BY c.number LIMIT ?2"
        ))
        .map_err(failed())?;
    let rows = statement.query_map(params![space, count], passage).map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

/// Lets a generation go: its holdings, the documents that nothing else holds, and the spaces that
/// no generation has any more.
pub(crate) fn release(connection: &Connection, id: GenerationId) -> Result<()> {
    let id = id.0.as_bytes();
    connection
        .execute(
            "UPDATE document SET leaving = 1 WHERE number IN
                 (SELECT document FROM holding WHERE generation = ?1)
             AND NOT EXISTS (SELECT 1 FROM holding h
                 WHERE h.document = number AND h.generation <> ?1)",
            [id],
        )
        .and_then(|_| connection.execute("DELETE FROM holding WHERE generation = ?1", [id]))
        .and_then(|_| connection.execute("DELETE FROM generation WHERE id = ?1", [id]))
        .map(drop)
        .map_err(failed())?;
    connection
        .execute_batch(
            "DELETE FROM vector WHERE space NOT IN
                 (SELECT space FROM generation WHERE space IS NOT NULL);
             DELETE FROM space WHERE number NOT IN
                 (SELECT space FROM generation WHERE space IS NOT NULL);",
        )
        .map_err(failed())
}

pub(crate) fn mark_leaving(connection: &Connection, document: i64) -> Result<()> {
    connection
        .execute("UPDATE document SET leaving = 1 WHERE number = ?1", [document])
        .map(drop)
        .map_err(failed())
}

/// Documents that are being removed.
pub(crate) fn leaving(connection: &Connection) -> Result<Vec<i64>> {
    let mut statement = connection
        .prepare("SELECT number FROM document WHERE leaving = 1 ORDER BY number")
        .map_err(failed())?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

/// Deletes every row of a document.
pub(crate) fn erase(connection: &Connection, document: i64) -> Result<()> {
    for statement in [
        "DELETE FROM vector WHERE chunk IN (SELECT number FROM chunk WHERE document = ?1)",
        "DELETE FROM chunk WHERE document = ?1",
        "DELETE FROM body WHERE document = ?1",
        "DELETE FROM holding WHERE document = ?1",
        "DELETE FROM document WHERE number = ?1",
    ] {
        connection.execute(statement, [document]).map_err(failed())?;
    }
    Ok(())
}

pub(crate) fn vector_count(connection: &Connection, document: i64) -> Result<u32> {
    connection
        .query_row(
            "SELECT count(*) FROM vector v JOIN chunk c ON c.number = v.chunk
             WHERE c.document = ?1",
            [document],
            |row| row.get(0),
        )
        .map_err(failed())
}

pub(crate) fn next_serial(connection: &Connection) -> Result<u64> {
    connection
        .query_row(
            "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tombstone'), 0) + 1",
            [],
            |row| count(row, 0),
        )
        .map_err(failed())
}

pub(crate) fn insert_tombstone(connection: &Connection, tombstone: &Tombstone) -> Result<()> {
    let receipt = tombstone.receipt;
    connection
        .execute(
            "INSERT INTO tombstone VALUES (?1, ?2, ?3, ?4, ?5, 0)",
            params![
                sql(tombstone.serial),
                receipt.document.0.as_bytes(),
                receipt.chunks,
                receipt.vectors,
                receipt.removed.as_bytes(),
            ],
        )
        .map(drop)
        .map_err(failed())
}

/// Tombstones of documents that are gone and whose record is not confirmed.
pub(crate) fn unrecorded(connection: &Connection) -> Result<Vec<Tombstone>> {
    let mut statement = connection
        .prepare(
            "SELECT serial, document, chunks, vectors, removed FROM tombstone
             WHERE recorded = 0 ORDER BY serial",
        )
        .map_err(failed())?;
    let rows = statement
        .query_map([], |row| {
            let receipt = Receipt {
                document: DocumentId(digest(row, 1)?),
                chunks: row.get(2)?,
                vectors: row.get(3)?,
                removed: digest(row, 4)?,
            };
            Ok(Tombstone { serial: count(row, 0)?, receipt })
        })
        .map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

pub(crate) fn set_recorded(connection: &Connection, serial: u64) -> Result<()> {
    connection
        .execute("UPDATE tombstone SET recorded = 1 WHERE serial = ?1", [sql(serial)])
        .map(drop)
        .map_err(failed())
}

/// All documents, those that are leaving too.
pub(crate) fn all(connection: &Connection) -> Result<Vec<Document>> {
    let mut statement = connection
        .prepare(&format!("SELECT {DOCUMENT} FROM document d ORDER BY d.number"))
        .map_err(failed())?;
    let rows = statement.query_map([], document).map_err(failed())?;
    rows.collect::<rusqlite::Result<_>>().map_err(failed())
}

/// Moves everything from the write-ahead log into the database and empties the log.
pub(crate) fn checkpoint(connection: &Connection) -> Result<()> {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(failed())?;
    if busy == 0 {
        Ok(())
    } else {
        Err(StoreError::Database { act: "empty its log", code: rusqlite::ffi::SQLITE_BUSY })
    }
}

/// Whether SQLite itself finds its file whole.
pub(crate) fn whole(connection: &Connection) -> Result<bool> {
    connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
        .map(|answer| answer == "ok")
        .map_err(failed())
}
