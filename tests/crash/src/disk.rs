//! What lies on the disk, read by nobody's recovery: the pointer, the releases, the objects, quarantine,
//! the log and the database. Whatever is torn, strange, or does not fit the rest is an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_config::Config;
use rusqlite::{Connection, OpenFlags, Row, types::Value as Cell};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::log::{Entry, acts, read_log};

/// Larger than any file here.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Everything that is judged.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The release that is served.
    pub(crate) active: Option<String>,
    /// The releases on the shelf; each is whole.
    pub(crate) releases: BTreeSet<String>,
    /// Objects that were taken off because they were damaged.
    pub(crate) isolated: BTreeSet<String>,
    /// The log; it verifies.
    pub(crate) log: Vec<Entry>,
    /// Imports by number: their states.
    pub(crate) imports: BTreeMap<i64, String>,
    /// The approvals in the database: import and person.
    pub(crate) approvals: BTreeSet<(i64, String)>,
    /// Pinned releases.
    pub(crate) pins: BTreeSet<String>,
    /// Whether a trust root is enrolled.
    pub(crate) enrolled: bool,
}

impl Facts {
    /// Whether the log holds this act.
    pub(crate) fn has_act(&self, act: &str) -> bool {
        self.log.iter().any(|entry| entry.act == act)
    }

    /// Whether a release was accepted.
    pub(crate) fn accepted(&self, release: &str) -> bool {
        let accepted = |entry: &Entry| entry.event == "import-accepted";
        let of = |entry: &Entry| entry.subjects.get("bundle").is_some_and(|name| name == release);
        self.log.iter().any(|entry| accepted(entry) && of(entry))
    }

    /// How many entries are of this event.
    pub(crate) fn count(&self, event: &str) -> usize {
        self.log.iter().filter(|entry| entry.event == event).count()
    }
}

/// What may be wrong, because a test made it so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// An object whose bytes were changed on purpose.
    pub(crate) damaged: Option<String>,
}

/// Reads and checks the state of an appliance whose daemons have come to rest.
///
/// # Errors
/// Names the first thing that is not as it must be.
pub(crate) fn facts(config: &Config, log_key: &str, allowed: &Allowed) -> Result<Facts> {
    let log = read_log(&config.paths.record(), log_key).context("the log")?;
    acts(&log).context("the log")?;
    let shelf = config.paths.shelf();
    let (active, releases, isolated) = if shelf.exists() {
        read_shelf(&shelf, allowed).context("the shelf")?
    } else {
        (None, BTreeSet::new(), BTreeSet::new())
    };
    let mut facts = Facts {
        active,
        releases,
        isolated,
        log,
        imports: BTreeMap::new(),
        approvals: BTreeSet::new(),
        pins: BTreeSet::new(),
        enrolled: false,
    };
    read_database(&config.paths.supply_database(), &mut facts).context("the database")?;
    quarantine(&config.paths.quarantine(), &facts.imports).context("quarantine")?;
    promoted(&facts).context("what is served and what is recorded")?;
    Ok(facts)
}

type Shelf = (Option<String>, BTreeSet<String>, BTreeSet<String>);

fn read_shelf(shelf: &Path, allowed: &Allowed) -> Result<Shelf> {
    let known = ["objects", "generations", "slots", "active", "isolated", ".lock"];
    for name in names(shelf)? {
        ensure!(known.contains(&name.as_str()), "`{name}` is left over");
    }
    let isolated: BTreeSet<String> = names(&shelf.join("isolated"))?.into_iter().collect();
    let damaged = |name: &str| allowed.damaged.as_deref() == Some(name);
    for fan in names(&shelf.join("objects"))? {
        for name in names(&shelf.join("objects").join(&fan))? {
            ensure!(name.starts_with(&fan), "`{fan}/{name}` is no object");
            let bytes = read(&shelf.join("objects").join(&fan).join(&name))?;
            ensure!(sha256(&bytes) == name || damaged(&name), "object {name} is torn");
        }
    }
    let mut releases = BTreeSet::new();
    for name in names(&shelf.join("generations"))? {
        whole(&shelf.join("generations").join(&name), &name, allowed)
            .with_context(|| format!("release {name}"))?;
        releases.insert(name);
    }
    let active = pointer(&shelf.join("active"), "generations", &releases)?;
    for name in names(&shelf.join("slots"))? {
        ensure!(name == "a" || name == "b", "the slot `{name}`");
        pointer(&shelf.join("slots").join(name), "../generations", &releases)?;
    }
    Ok((active, releases, isolated))
}

fn pointer(link: &Path, folder: &str, releases: &BTreeSet<String>) -> Result<Option<String>> {
    let target = match fs::read_link(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        target => target?,
    };
    let name = target.to_str().and_then(|target| target.strip_prefix(folder)?.strip_prefix('/'));
    let name = name.with_context(|| format!("a pointer to {}", target.display()))?;
    ensure!(releases.contains(name), "a pointer to {name}, which is not there");
    Ok(Some(name.to_owned()))
}

/// The release is named by its manifest, and holds the files that the manifest names, and no others.
fn whole(folder: &Path, name: &str, allowed: &Allowed) -> Result<()> {
    for name in names(folder)? {
        let known = ["manifest.json", "tree", "attest"];
        ensure!(known.contains(&name.as_str()), "`{name}` is no part of it");
    }
    let envelope: Value = serde_json::from_slice(&read(&folder.join("manifest.json"))?)?;
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().context("no payload")?)?;
    ensure!(sha256(&payload) == name, "its manifest is another's");
    let statement: Value = serde_json::from_slice(&payload)?;
    let files = statement["predicate"]["files"].as_array().context("no files")?;
    let mut expected = BTreeMap::new();
    for file in files {
        let (path, sha256) = (file["path"].as_str(), file["sha256"].as_str());
        expected.insert(path.context("no path")?.to_owned(), sha256.context("no digest")?);
    }
    let mut found = BTreeSet::new();
    walk(&folder.join("tree"), "", &mut found)?;
    ensure!(found.iter().eq(expected.keys()), "its tree holds other files: {found:?}");
    for (path, digest) in expected {
        let is = sha256(&read(&folder.join("tree").join(&path))?);
        ensure!(is == digest || allowed.damaged.as_deref() == Some(digest), "{path} is torn");
    }
    Ok(())
}

fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) -> Result<()> {
    for name in names(folder)? {
        let (path, below) = (folder.join(&name), format!("{prefix}{name}"));
        if path.is_dir() {
            walk(&path, &format!("{below}/"), found)?;
        } else {
            found.insert(below);
        }
    }
    Ok(())
}

/// Only what is being received or waits for its adoption lies there.
fn quarantine(folder: &Path, imports: &BTreeMap<i64, String>) -> Result<()> {
    for name in names(folder)? {
        let import: i64 = name.parse().with_context(|| format!("`{name}` is left over"))?;
        let state = imports.get(&import).map_or("unknown", String::as_str);
        ensure!(matches!(state, "receiving" | "received"), "import {import} is over: {state}");
    }
    Ok(())
}

/// Reads the database from a copy, so that nothing on the disk is changed by looking.
fn read_database(path: &Path, facts: &mut Facts) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let scratch = tempfile::tempdir()?;
    let name = path.file_name().and_then(|name| name.to_str()).context("a database's name")?;
    for ending in ["", "-wal", "-journal"] {
        let from = path.with_file_name(format!("{name}{ending}"));
        if from.exists() {
            fs::copy(from, scratch.path().join(format!("db{ending}")))?;
        }
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(scratch.path().join("db"), flags)?;
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(sound == "ok", "{sound}");
    let tables: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(());
    }
    let loose: i64 =
        database
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
    ensure!(loose == 0, "{loose} rows name what is not there");
    compare(&database, facts)
}

/// Each row that says what happened is justified by the record it names.
fn compare(database: &Connection, facts: &mut Facts) -> Result<()> {
    let entry = |record: &str, log: &[Entry]| -> Result<Entry> {
        let record: usize = record.parse()?;
        log.get(record).cloned().with_context(|| format!("record {record} is not in the log"))
    };
    for row in rows(database, "SELECT import, state, record FROM imports")? {
        let found = entry(&row[2], &facts.log)?;
        let own = format!("import/{}/", row[0]);
        let its = found.act.starts_with(&own) || found.event == "approval";
        let its = its || found.event.starts_with("activation");
        ensure!(its, "import {} names the record {}", row[0], found.act);
        facts.imports.insert(row[0].parse()?, row[1].clone());
    }
    for row in rows(database, "SELECT import, state, record FROM transitions")? {
        entry(&row[2], &facts.log).with_context(|| format!("import {} {}", row[0], row[1]))?;
    }
    for row in rows(database, "SELECT import, person, record FROM approvals")? {
        let found = entry(&row[2], &facts.log)?;
        ensure!(found.event == "approval", "an approval names a record of {}", found.event);
        ensure!(found.facts["person"] == row[1].as_str(), "an approval of somebody else");
        facts.approvals.insert((row[0].parse()?, row[1].clone()));
    }
    for row in rows(database, "SELECT activation, generation, intent FROM activations")? {
        let found = entry(&row[2], &facts.log)?;
        ensure!(found.act == format!("activation/{}/intent", row[0]), "another's intent");
        ensure!(found.subjects.get("bundle") == Some(&row[1]), "an intent for another release");
    }
    let ended = "SELECT activation, outcome, record FROM activations WHERE outcome IS NOT NULL";
    for row in rows(database, ended)? {
        let found = entry(&row[2], &facts.log)?;
        ensure!(found.act == format!("activation/{}/outcome", row[0]), "another's outcome");
        ensure!(found.facts["outcome"] == row[1].as_str(), "another outcome than recorded");
    }
    let open = rows(database, "SELECT activation FROM activations WHERE outcome IS NULL")?;
    ensure!(open.is_empty(), "an activation is under way: {open:?}");
    for row in rows(database, "SELECT generation, record FROM pins")? {
        let found = entry(&row[1], &facts.log)?;
        ensure!(found.event == "pin" && found.facts["pinned"] == true, "another's pin");
        facts.pins.insert(row[0].clone());
    }
    for row in rows(database, "SELECT record FROM trust")? {
        entry(&row[0], &facts.log)?;
        facts.enrolled = true;
    }
    backwards(facts)
}

/// What the log says came of an import, the database knows. What was seen or refused before it became an
/// import may stand in the log alone.
fn backwards(facts: &Facts) -> Result<()> {
    for found in &facts.log {
        let parts: Vec<&str> = found.act.split('/').collect();
        let ["import", number, what] = parts.as_slice() else { continue };
        let state = facts.imports.get(&number.parse::<i64>()?).map(String::as_str);
        let fits = match *what {
            "accepted" => !matches!(state, None | Some("receiving" | "received")),
            "refused" => matches!(state, None | Some("refused")),
            _ => true,
        };
        ensure!(fits, "the log holds {}, and the import is {state:?}", found.act);
    }
    // An enrolment that was cut off behind its record goes on when it is asked for again.
    ensure!(facts.log.len() <= 1 || facts.enrolled, "a log of a root that is not enrolled");
    Ok(())
}

/// The last promotion that was recorded is what is served.
fn promoted(facts: &Facts) -> Result<()> {
    let outcomes = facts.log.iter().filter(|entry| entry.event == "activation-outcome");
    let last = outcomes.rev().find(|entry| entry.facts["outcome"] == "promoted");
    let last = last.and_then(|entry| entry.subjects.get("bundle"));
    if facts.active.as_ref() != last {
        bail!("{:?} is served, and {last:?} was recorded", facts.active);
    }
    Ok(())
}

/// Every row as texts.
fn rows(database: &Connection, query: &str) -> Result<Vec<Vec<String>>> {
    let mut statement = database.prepare(query)?;
    let columns = statement.column_count();
    let text = |row: &Row<'_>, at: usize| {
        Ok(match row.get(at)? {
            Cell::Null => String::new(),
            Cell::Integer(number) => number.to_string(),
            Cell::Real(number) => number.to_string(),
            Cell::Text(text) => text,
            Cell::Blob(bytes) => hex(&bytes),
        })
    };
    let read = |row: &Row<'_>| (0..columns).map(|at| text(row, at)).collect();
    let rows = statement.query_map([], read)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// The names in a folder, in order; none where there is no folder.
///
/// # Errors
/// When it cannot be listed, or a name is not UTF-8.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut names = Vec::new();
    for entry in listing {
        let name = entry?.file_name();
        names.push(name.to_str().context("a name that is not UTF-8")?.to_owned());
    }
    names.sort_unstable();
    Ok(names)
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    cloister_daemon::files::read_limited(path, FILE_BYTES_MAX).context(name)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
