//! The tables of the database, and how a connection is opened.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::StoreError;

/// The format that this version writes; kept in SQLite's `user_version`.
const FORMAT: i64 = 1;

/// `generation` of a holding is empty for the facility. `leaving` marks a document that is being
/// removed: nobody sees it any more. Passages of a document have neighbouring numbers.
const TABLES: &str = "
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    state INTEGER NOT NULL,
    next_chunk INTEGER NOT NULL
) STRICT;
INSERT INTO state VALUES (0, 0, 1);
CREATE TABLE document (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    words INTEGER NOT NULL,
    first_chunk INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    leaving INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE body (
    document INTEGER PRIMARY KEY,
    text BLOB NOT NULL
) STRICT;
CREATE TABLE holding (
    document INTEGER NOT NULL,
    generation BLOB NOT NULL,
    label TEXT NOT NULL,
    owner TEXT,
    PRIMARY KEY (document, generation)
) STRICT, WITHOUT ROWID;
CREATE INDEX holding_generation ON holding (generation);
CREATE TABLE chunk (
    number INTEGER PRIMARY KEY,
    document INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    digest BLOB NOT NULL,
    headings TEXT NOT NULL
) STRICT;
CREATE INDEX chunk_document ON chunk (document);
CREATE TABLE generation (
    id BLOB PRIMARY KEY,
    space INTEGER,
    complete INTEGER NOT NULL
) STRICT;
CREATE TABLE space (
    number INTEGER PRIMARY KEY,
    model BLOB NOT NULL UNIQUE,
    width INTEGER NOT NULL,
    slots INTEGER NOT NULL
) STRICT;
CREATE TABLE vector (
    space INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    PRIMARY KEY (space, chunk)
) STRICT, WITHOUT ROWID;
CREATE TABLE tombstone (
    serial INTEGER PRIMARY KEY AUTOINCREMENT,
    document BLOB NOT NULL,
    chunks INTEGER NOT NULL,
    vectors INTEGER NOT NULL,
    removed BLOB NOT NULL,
    recorded INTEGER NOT NULL DEFAULT 0
) STRICT;
";

/// Opens the database for its one writer, and makes the tables of a new one.
pub(crate) fn writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = || StoreError::database("open");
    let mut connection = Connection::open(path).map_err(failed())?;
    pragmas(&connection).map_err(failed())?;
    let found: i64 =
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed())?;
    match found {
        FORMAT => {}
        0 => {
            let transaction = connection.transaction().map_err(failed())?;
            transaction.execute_batch(TABLES).map_err(failed())?;
            transaction.pragma_update(None, "user_version", FORMAT).map_err(failed())?;
            transaction.commit().map_err(failed())?;
        }
        found => return Err(StoreError::Format { found, known: FORMAT }),
    }
    Ok(connection)
}

/// Opens the database for reading.
pub(crate) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(StoreError::database("open"))?;
    pragmas(&connection).map_err(StoreError::database("open"))?;
    connection.pragma_update(None, "query_only", true).map_err(StoreError::database("open"))?;
    Ok(connection)
}

/// `synchronous=FULL`: a commit that was answered survives a power cut. `secure_delete`: what is
/// deleted is overwritten with zeros. Nothing is spilled to files outside the store.
fn pragmas(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;",
    )?;
    connection.busy_timeout(std::time::Duration::from_secs(5))
}
