//! The tables, and how the database is opened.

use std::{path::Path, time::Duration};

use rusqlite::Connection;

use crate::StateError;

/// The version of the tables below; `PRAGMA user_version` holds it.
const VERSION: i32 = 5;

/// Readers and the writer are threads of one process; a wait longer than this is a fault.
const BUSY: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE series (
  name TEXT PRIMARY KEY,
  last INTEGER NOT NULL
) STRICT;
-- The trust vector has one row; files are kept verbatim, and every version that ever counted stays.
CREATE TABLE trust (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  vector TEXT NOT NULL,
  record INTEGER NOT NULL
) STRICT;
CREATE TABLE trust_files (
  serial INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  bytes BLOB NOT NULL,
  record INTEGER NOT NULL,
  UNIQUE (name, sha256)
) STRICT;
CREATE TABLE counters (
  name TEXT PRIMARY KEY,
  counter INTEGER NOT NULL,
  generation TEXT NOT NULL,
  record INTEGER NOT NULL
) STRICT;
CREATE TABLE imports (
  import INTEGER PRIMARY KEY,
  state TEXT NOT NULL,
  generation TEXT,
  summary TEXT,
  manifest BLOB,
  problem TEXT,
  record INTEGER NOT NULL
) STRICT;
CREATE INDEX imports_by_generation ON imports (generation);
CREATE TABLE transitions (
  serial INTEGER PRIMARY KEY AUTOINCREMENT,
  import INTEGER NOT NULL REFERENCES imports,
  state TEXT NOT NULL,
  record INTEGER NOT NULL
) STRICT;
CREATE TABLE evaluations (
  import INTEGER PRIMARY KEY REFERENCES imports,
  figures TEXT NOT NULL,
  policy TEXT NOT NULL,
  evaluation TEXT NOT NULL,
  package TEXT NOT NULL,
  record INTEGER NOT NULL
) STRICT;
CREATE TABLE approvals (
  import INTEGER NOT NULL REFERENCES imports,
  person TEXT NOT NULL,
  decision TEXT NOT NULL,
  envelope BLOB NOT NULL,
  record INTEGER NOT NULL,
  PRIMARY KEY (import, person)
) STRICT;
CREATE TABLE promoted (
  generation TEXT PRIMARY KEY,
  import INTEGER NOT NULL REFERENCES imports,
  record INTEGER NOT NULL
) STRICT;
CREATE TABLE activations (
  activation INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  generation TEXT NOT NULL,
  came_from TEXT,
  tries_left INTEGER NOT NULL,
  goes_back INTEGER NOT NULL DEFAULT 0,
  intent INTEGER NOT NULL,
  outcome TEXT,
  record INTEGER
) STRICT;
CREATE UNIQUE INDEX one_activation_under_way ON activations ((1)) WHERE outcome IS NULL;
";

/// What version 2 added.
const INSPECTIONS: &str = "
CREATE TABLE inspections (
  import INTEGER PRIMARY KEY REFERENCES imports,
  inspection TEXT NOT NULL,
  record INTEGER NOT NULL
) STRICT;
";

/// What version 3 added. An approval names policy, evidence and log since then, so what waits for
/// approvals is judged anew, and what was signed about it counts no more.
const PACKAGES: &str = "
CREATE TABLE importers (
  import INTEGER NOT NULL REFERENCES imports,
  operator TEXT NOT NULL,
  PRIMARY KEY (import, operator)
) STRICT;
CREATE TABLE scrub (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  uptime_s INTEGER NOT NULL
) STRICT;
CREATE TABLE pins (
  generation TEXT PRIMARY KEY,
  record INTEGER NOT NULL
) STRICT;
CREATE TABLE policies (
  serial INTEGER PRIMARY KEY AUTOINCREMENT,
  policy TEXT NOT NULL,
  record INTEGER NOT NULL
) STRICT;
ALTER TABLE evaluations RENAME COLUMN evaluation TO evidence;
UPDATE imports SET state = 'evaluating' WHERE state IN ('awaiting-approval', 'approved');
";

/// What version 4 added.
const TRIALS: &str = "
CREATE TABLE trials (
  trial INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  import INTEGER NOT NULL REFERENCES imports,
  generation TEXT NOT NULL,
  scope TEXT NOT NULL,
  seconds INTEGER NOT NULL,
  record INTEGER NOT NULL,
  lasted_s INTEGER NOT NULL DEFAULT 0,
  run TEXT,
  before TEXT,
  counted TEXT,
  ended TEXT,
  end_record INTEGER
) STRICT;
CREATE UNIQUE INDEX one_trial_under_way ON trials ((1)) WHERE ended IS NULL;
CREATE TABLE consents (
  matter TEXT NOT NULL,
  about TEXT NOT NULL,
  person TEXT NOT NULL,
  envelope BLOB NOT NULL,
  record INTEGER NOT NULL,
  PRIMARY KEY (matter, about, person)
) STRICT;
";

/// What version 5 added. Nobody knows whether what was promoted before stood its probation. It counts as if:
/// a release that served for months is not left without anybody's word, only because a machine starts slowly.
const PROBATIONS: &str = "
ALTER TABLE activations ADD COLUMN stood INTEGER NOT NULL DEFAULT 0;
UPDATE activations SET stood = 1 WHERE outcome = 'promoted';
";

/// Opens the database at `path` and makes its tables when there are none.
pub(crate) fn open(path: &Path) -> Result<Connection, StateError> {
    let failed = StateError::sqlite("open");
    let mut connection = Connection::open(path).map_err(&failed)?;
    connection.busy_timeout(BUSY).map_err(&failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(&failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(&failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(&failed)?;
    connection.pragma_update(None, "trusted_schema", false).map_err(&failed)?;
    check(&connection)?;
    let made = connection.transaction().map_err(&failed)?;
    let found: i32 =
        made.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    match found {
        VERSION => {}
        0..VERSION => {
            let failed = StateError::sqlite("make its tables");
            let all = [(1, TABLES), (2, INSPECTIONS), (3, PACKAGES), (4, TRIALS), (5, PROBATIONS)];
            for (version, added) in all {
                if found < version {
                    made.execute_batch(added).map_err(&failed)?;
                }
            }
            made.pragma_update(None, "user_version", VERSION).map_err(&failed)?;
        }
        found => return Err(StateError::Newer { found, known: VERSION }),
    }
    made.commit().map_err(&failed)?;
    Ok(connection)
}

/// Reads through the file, which is small: a page that does not fit is found before it is counted on.
fn check(connection: &Connection) -> Result<(), StateError> {
    const DAMAGED: i32 = 11;
    let failed = StateError::sqlite("check its file");
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(&failed)?;
    if found == "ok" {
        return Ok(());
    }
    // What was found quotes the file.
    Err(StateError::Database { act: "check its file", code: DAMAGED })
}
