//! The database of imports, approvals and trials as an outsider reads it: each row names the record that
//! justifies it, and what the log says has come to pass stands in the rows.

use std::{
    cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use rusqlite::{Connection, OpenFlags, Row, types::Value as Cell};

use crate::{
    disk::manifest,
    log::Entry,
    rows::{forgotten, told_again},
    tree::{hex, sha256},
};

/// What the rows say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Books {
    /// Imports by number.
    pub(crate) imports: BTreeMap<i64, Import>,
    /// Whose decisions count: import, person, and what was decided.
    pub(crate) approvals: BTreeSet<(i64, String, String)>,
    /// Evaluations by import: the policy that they were judged by.
    pub(crate) evaluations: BTreeMap<i64, String>,
    /// Pinned releases.
    pub(crate) pins: BTreeSet<String>,
    /// Releases that were active once.
    pub(crate) promoted: BTreeSet<String>,
    /// What persons allowed: what, about what, and who.
    pub(crate) consents: BTreeSet<(String, String, String)>,
    /// Trials by number.
    pub(crate) trials: BTreeMap<i64, Trial>,
    /// The highest counter of each release name, and which release has it.
    pub(crate) counters: BTreeMap<String, (String, String)>,
    /// The versions that are trusted; empty before an enrolment.
    pub(crate) vector: String,
    /// Who brought what: an import, and an operator.
    pub(crate) importers: BTreeSet<(i64, String)>,
    /// The number that each series gave last.
    pub(crate) series: BTreeMap<String, u64>,
}

/// An import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// The release that it brought, as far as that is known.
    pub(crate) generation: Option<String>,
    /// Its state.
    pub(crate) state: String,
    /// The objects that it counts on while it is under way.
    pub(crate) needs: BTreeSet<String>,
}

/// A trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    /// A canary or a shadow.
    pub(crate) kind: String,
    /// Of which release.
    pub(crate) generation: String,
    /// Why it ended; `None` while it goes on.
    pub(crate) ended: Option<String>,
}

/// Reads the database from a copy, so that nothing on the disk is changed by looking. It may be `lost`.
///
/// # Errors
/// When it is damaged, or a row and the log do not fit each other.
pub(crate) fn read_books(path: &Path, log: &[Entry], lost: bool) -> Result<Books> {
    if !path.exists() {
        ensure!(log.len() <= 1 || lost, "it is not there, and the log holds {} entries", log.len());
        return Ok(Books::default());
    }
    let scratch = tempfile::tempdir()?;
    let name = path.file_name().and_then(|name| name.to_str()).context("a database's name")?;
    for ending in ["", "-wal", "-journal"] {
        let from = path.with_file_name(format!("{name}{ending}"));
        if from.exists() {
            fs::copy(from, scratch.path().join(format!("db{ending}")))?;
        }
    }
    let Read { books, .. } = read_copy(&scratch.path().join("db"), log)?;
    // One that was lost knows nothing until it is made again.
    if !(lost && books == Books::default()) {
        backwards(&books, log)?;
        forgotten(&books, log)?;
    }
    Ok(books)
}

/// A database that was read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    /// What its rows say.
    pub(crate) books: Books,
    /// The last record that a row names.
    pub(crate) last: Option<usize>,
    /// SHA-256 of all rows of all tables; empty without tables.
    pub(crate) rows: String,
}

/// Reads the database at `path`, which may be written to, and holds each row against the record it names.
///
/// # Errors
/// When it is damaged, or a row says what the log does not.
pub(crate) fn read_copy(path: &Path, log: &[Entry]) -> Result<Read> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(sound == "ok", "{sound}");
    let tables: i64 =
        database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(Read::default());
    }
    let loose: i64 =
        database
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
    ensure!(loose == 0, "{loose} rows name what is not there");
    let mut books = Books::default();
    let ledger = Ledger { database: &database, log, last: cell::Cell::new(None) };
    ledger.imports(&mut books)?;
    ledger.decisions(&mut books)?;
    ledger.activations(&mut books)?;
    ledger.trials(&mut books)?;
    ledger.trust(&mut books)?;
    told_again(&database, log, &mut books)?;
    Ok(Read { books, last: ledger.last.get(), rows: all(&database)? })
}

/// SHA-256 of everything that the tables hold.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn all(database: &Connection) -> Result<String> {
    let mut text = String::new();
    for table in rows(database, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY 1")? {
        writeln!(text, "{}", serde_json::to_string(&table)?)?;
        for row in rows(database, &format!("SELECT * FROM \"{}\"", table[0]))? {
            writeln!(text, "{}", serde_json::to_string(&row)?)?;
        }
    }
    Ok(sha256(text.as_bytes()))
}

/// The rows beside the log.
struct Ledger<'a> {
    database: &'a Connection,
    log: &'a [Entry],
    /// The last record that a row named.
    last: cell::Cell<Option<usize>>,
}

impl<'a> Ledger<'a> {
    /// The record that a row names.
    fn entry(&self, record: &str) -> Result<&'a Entry> {
        let record = record.parse::<usize>()?;
        self.last.set(self.last.get().max(Some(record)));
        let found = self.log.get(record);
        found.with_context(|| format!("record {record} is not in the log"))
    }

    fn rows(&self, query: &str) -> Result<Vec<Vec<String>>> {
        rows(self.database, query)
    }

    fn imports(&self, books: &mut Books) -> Result<()> {
        let columns = "import, state, record, coalesce(generation, ''), hex(manifest)";
        for row in self.rows(&format!("SELECT {columns} FROM imports"))? {
            let found = self.entry(&row[2])?;
            let own = format!("import/{}/", row[0]);
            let its = found.act.starts_with(&own) || found.event == "approval";
            let its = its || found.event.starts_with("activation");
            ensure!(its, "import {} names the record {}", row[0], found.act);
            let (state, generation) = (row[1].clone(), row[3].clone());
            let ends = ["activated", "refused"].contains(&state.as_str());
            let needs = if ends || row[4].is_empty() { BTreeSet::new() } else { needs(&row[4])? };
            let generation = (!generation.is_empty()).then_some(generation);
            books.imports.insert(row[0].parse()?, Import { generation, state, needs });
        }
        for row in self.rows("SELECT import, state, record FROM transitions")? {
            self.entry(&row[2]).with_context(|| format!("import {} {}", row[0], row[1]))?;
        }
        for row in self.rows("SELECT import, policy, record FROM evaluations")? {
            let found = self.entry(&row[2])?;
            let its = ["evaluation", "trial-ended"].contains(&found.event.as_str());
            let its = its && found.facts["import"].as_u64() == row[0].parse().ok();
            ensure!(its, "the evaluation of import {} names {}", row[0], found.act);
            books.evaluations.insert(row[0].parse()?, row[1].clone());
        }
        for row in self.rows("SELECT name, counter, generation, record FROM counters")? {
            let found = self.entry(&row[3])?;
            ensure!(found.event == "evaluation", "a counter names a record of {}", found.event);
            ensure!(found.subjects.get("bundle") == Some(&row[2]), "a counter of another release");
            books.counters.insert(row[0].clone(), (row[1].clone(), row[2].clone()));
        }
        Ok(())
    }

    fn decisions(&self, books: &mut Books) -> Result<()> {
        let approvals = "SELECT import, person, decision, record, hex(envelope) FROM approvals";
        for row in self.rows(approvals)? {
            let found = self.entry(&row[3])?;
            ensure!(found.event == "approval", "an approval names a record of {}", found.event);
            ensure!(found.facts["person"] == row[1].as_str(), "an approval of somebody else");
            ensure!(found.facts["decision"] == row[2].as_str(), "another decision than recorded");
            ensure!(sha256(&unhex(&row[4])?) == found.digest, "another approval than recorded");
            books.approvals.insert((row[0].parse()?, row[1].clone(), row[2].clone()));
        }
        for row in self.rows("SELECT generation, record FROM pins")? {
            let found = self.entry(&row[1])?;
            ensure!(found.event == "pin" && found.facts["pinned"] == true, "another's pin");
            ensure!(found.subjects.get("bundle") == Some(&row[0]), "a pin of another release");
            books.pins.insert(row[0].clone());
        }
        let consents = "SELECT matter, about, person, record, hex(envelope) FROM consents";
        for row in self.rows(consents)? {
            let found = self.entry(&row[3])?;
            ensure!(found.event == row[0], "a consent names a record of {}", found.event);
            ensure!(found.facts["person"] == row[2].as_str(), "a consent of somebody else");
            ensure!(sha256(&unhex(&row[4])?) == found.digest, "another consent than recorded");
            books.consents.insert((row[0].clone(), row[1].clone(), row[2].clone()));
        }
        Ok(())
    }

    fn activations(&self, books: &mut Books) -> Result<()> {
        for row in self.rows("SELECT activation, generation, intent FROM activations")? {
            let found = self.entry(&row[2])?;
            ensure!(found.act == format!("activation/{}/intent", row[0]), "another's intent");
            ensure!(found.subjects.get("bundle") == Some(&row[1]), "an intent for another release");
        }
        let ended = "SELECT activation, outcome, record FROM activations WHERE outcome IS NOT NULL";
        for row in self.rows(ended)? {
            let found = self.entry(&row[2])?;
            ensure!(found.act == format!("activation/{}/outcome", row[0]), "another's outcome");
            ensure!(found.facts["outcome"] == row[1].as_str(), "another outcome than recorded");
        }
        for row in self.rows("SELECT generation, record FROM promoted")? {
            let found = self.entry(&row[1])?;
            let its = found.facts["outcome"] == "promoted";
            let its = its && found.subjects.get("bundle") == Some(&row[0]);
            ensure!(its, "a promotion names the record {}", found.act);
            books.promoted.insert(row[0].clone());
        }
        Ok(())
    }

    fn trials(&self, books: &mut Books) -> Result<()> {
        let columns =
            "trial, kind, generation, record, coalesce(ended, ''), coalesce(end_record, '')";
        for row in self.rows(&format!("SELECT {columns} FROM trials"))? {
            let (kind, begun) = (row[1].trim_matches('"').to_owned(), self.entry(&row[3])?);
            let act = match kind.as_str() {
                "canary" => format!("activation/{}/intent", row[0]),
                _ => format!("trial/{}", row[0]),
            };
            ensure!(begun.act == act, "trial {} names the record {}", row[0], begun.act);
            ensure!(begun.subjects.get("bundle") == Some(&row[2]), "a trial of another release");
            let ended = row[4].trim_matches('"').to_owned();
            if !ended.is_empty() {
                let end = self.entry(&row[5])?;
                ensure!(end.act == format!("trial/{}/end", row[0]), "another trial's end");
                ensure!(end.facts["ended"] == ended.as_str(), "another end than recorded");
            }
            let ended = (!ended.is_empty()).then_some(ended);
            let trial = Trial { kind, generation: row[2].clone(), ended };
            books.trials.insert(row[0].parse()?, trial);
        }
        Ok(())
    }

    fn trust(&self, books: &mut Books) -> Result<()> {
        for row in self.rows("SELECT vector, record FROM trust")? {
            let found = self.entry(&row[1])?;
            let known = ["anchor-enrolment", "trust-update", "activation-outcome", "state-rebuilt"];
            ensure!(
                known.contains(&found.event.as_str()),
                "trust names a record of {}",
                found.event
            );
            books.vector.clone_from(&row[0]);
        }
        for row in self.rows("SELECT name, record FROM trust_files")? {
            self.entry(&row[1]).with_context(|| row[0].clone())?;
        }
        Ok(())
    }
}

/// The objects that a manifest, in hexadecimal digits, names.
fn needs(envelope: &str) -> Result<BTreeSet<String>> {
    let envelope = unhex(envelope)?;
    Ok(manifest(&envelope)?.1.into_values().collect())
}

/// What the log says came to pass, the database knows. What was seen or refused before it became an
/// import may stand in the log alone.
fn backwards(books: &Books, log: &[Entry]) -> Result<()> {
    for found in log {
        let parts: Vec<&str> = found.act.split('/').collect();
        let ["import", number, what] = parts.as_slice() else { continue };
        let import = books.imports.get(&number.parse::<i64>()?);
        let state = import.map(|import| import.state.as_str());
        let fits = match *what {
            "accepted" => !matches!(state, None | Some("receiving" | "received")),
            "refused" => matches!(state, None | Some("refused")),
            _ => true,
        };
        ensure!(fits, "the log holds {}, and the import is {state:?}", found.act);
    }
    // An enrolment that was cut off behind its record goes on when it is asked for again.
    ensure!(log.len() <= 1 || !books.vector.is_empty(), "a log of a root that is not enrolled");
    versions(books, log)?;
    let open = books.trials.values().filter(|trial| trial.ended.is_none()).count();
    ensure!(open <= 1, "{open} trials are under way");
    let said = said(log);
    ensure!(said.pins == books.pins, "pinned is {:?}, and by the log {:?}", books.pins, said.pins);
    for (import, decisions) in &said.decisions {
        let held = books.imports.get(import).map(|held| held.state.as_str());
        if matches!(held, None | Some("refused" | "activated" | "evaluating")) {
            continue;
        }
        let known = books.approvals.iter().filter(|(of, ..)| of == import);
        let known: BTreeMap<&str, &str> =
            known.map(|(_, person, decision)| (person.as_str(), decision.as_str())).collect();
        for (person, decision) in decisions {
            let stands = known.get(person.as_str()) == Some(&decision.as_str());
            ensure!(stands, "{person}'s {decision} of import {import} stands in the log alone");
        }
    }
    let consents: BTreeSet<(&str, &str)> = books
        .consents
        .iter()
        .map(|(matter, _, person)| (matter.as_str(), person.as_str()))
        .collect();
    for (matter, person) in &said.consents {
        let stands = consents.contains(&(matter.as_str(), person.as_str()));
        ensure!(stands, "{person}'s {matter} stands in the log alone");
    }
    for (trial, ended) in &said.trials {
        let row = books.trials.get(trial).map(|row| row.ended.is_some());
        ensure!(row == Some(*ended), "trial {trial} has ended: {ended} by the log, {row:?} here");
    }
    for (import, asked) in &said.asked {
        let state = books.imports.get(import).map(|held| held.state.as_str());
        let waits = matches!(state, Some("awaiting-approval" | "approved"));
        ensure!(!asked || !waits, "import {import} is to be judged again, and is {state:?}");
    }
    Ok(())
}

/// What is trusted has the versions that the log was told last.
fn versions(books: &Books, log: &[Entry]) -> Result<()> {
    let last = log.iter().rev().find(|entry| entry.event == "trust-update");
    let Some(last) = last else { return Ok(()) };
    let vector: serde_json::Value = serde_json::from_str(&books.vector).context("the vector")?;
    for (fact, field) in [
        ("root_version", "root"),
        ("timestamp_version", "timestamp"),
        ("snapshot_version", "snapshot"),
        ("targets_version", "targets"),
        ("stick", "sequence"),
    ] {
        let (told, held) = (&last.facts[fact], &vector[field]);
        ensure!(told == held, "the log was told {fact} {told}, and {held} is trusted");
    }
    Ok(())
}

/// What the log alone says.
#[derive(Debug, Default)]
struct Said {
    pins: BTreeSet<String>,
    /// What each person decided about an import since its last evaluation.
    decisions: BTreeMap<i64, BTreeMap<String, String>>,
    /// Consents: to what, and whose.
    consents: BTreeSet<(String, String)>,
    /// Shadows and canaries that began, and whether they ended.
    trials: BTreeMap<i64, bool>,
    /// Whether an evaluation of an import was asked for and has not come.
    asked: BTreeMap<i64, bool>,
}

fn said(log: &[Entry]) -> Said {
    let mut said = Said::default();
    // The package that persons decide about names its import.
    let mut packages: BTreeMap<&str, i64> = BTreeMap::new();
    let subject = |entry: &'_ Entry, name: &str| entry.subjects.get(name).cloned();
    for entry in log {
        let import = entry.facts["import"].as_i64();
        match entry.event.as_str() {
            "pin" => {
                let release = subject(entry, "bundle").unwrap_or_default();
                if entry.facts["pinned"] == true {
                    said.pins.insert(release);
                } else {
                    said.pins.remove(&release);
                }
            }
            "evaluation" | "evaluation-asked" | "trial-ended" => {
                let (Some(import), event) = (import, entry.event.as_str()) else { continue };
                if event == "trial-ended"
                    && let Some(trial) = entry.facts["trial"].as_i64()
                {
                    said.trials.insert(trial, true);
                }
                let package = entry.subjects.get("package");
                if event != "trial-ended" || package.is_some() {
                    said.decisions.remove(&import);
                }
                if event != "trial-ended" {
                    said.asked.insert(import, event == "evaluation-asked");
                }
                if let Some(package) = package {
                    packages.insert(package, import);
                }
            }
            "approval" => {
                let package = entry.subjects.get("package").map(String::as_str);
                let import = package.and_then(|package| packages.get(package));
                let word = |field: &str| entry.facts[field].as_str().unwrap_or_default().to_owned();
                if let Some(import) = import {
                    let decisions = said.decisions.entry(*import).or_default();
                    decisions.insert(word("person"), word("decision"));
                }
            }
            "downgrade" | "acknowledgement" => {
                let person = entry.facts["person"].as_str().unwrap_or_default();
                said.consents.insert((entry.event.clone(), person.to_owned()));
            }
            "shadow-started" => {
                said.trials.extend(entry.facts["trial"].as_i64().map(|trial| (trial, false)));
            }
            "activation-outcome" if entry.facts["outcome"] == "begun" => {
                let canary = entry.facts["activation"].as_i64();
                said.trials.extend(canary.map(|trial| (trial, false)));
            }
            _ => {}
        }
    }
    said
}

/// Every row as texts.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn rows(database: &Connection, query: &str) -> Result<Vec<Vec<String>>> {
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

/// The bytes of hexadecimal digits.
///
/// # Errors
/// When there are others.
pub(crate) fn unhex(digits: &str) -> Result<Vec<u8>> {
    let pair = |at: usize| digits.get(at..at + 2).context("an odd number of digits");
    let bytes = (0..digits.len()).step_by(2);
    bytes.map(|at| Ok(u8::from_str_radix(pair(at)?, 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes() {
        assert_eq!(unhex(&hex(&[0, 15, 255])).unwrap(), [0, 15, 255]);
        unhex("0").unwrap_err();
    }

    fn entry(event: &str, facts: serde_json::Value, subjects: &[(&str, &str)]) -> Entry {
        let own = |(name, digest): &(&str, &str)| ((*name).to_owned(), (*digest).to_owned());
        Entry {
            event: event.to_owned(),
            act: String::new(),
            facts,
            subjects: subjects.iter().map(own).collect(),
            digest: String::new(),
        }
    }

    #[test]
    fn a_pin_and_an_approval_of_the_log_alone_are_not_passed_over() {
        let mut books = Books { vector: "1".to_owned(), ..Books::default() };
        let pinned = entry("pin", serde_json::json!({ "pinned": true }), &[("bundle", "r")]);
        let wrong = backwards(&books, std::slice::from_ref(&pinned)).unwrap_err();
        assert!(wrong.to_string().starts_with("pinned is"), "{wrong}");
        books.pins.insert("r".to_owned());
        backwards(&books, &[pinned]).unwrap();
        books.pins.clear();
        let state = "awaiting-approval".to_owned();
        let import = Import { generation: None, state, needs: BTreeSet::new() };
        books.imports.insert(1, import);
        let judged = entry("evaluation", serde_json::json!({ "import": 1 }), &[("package", "p")]);
        let ada = serde_json::json!({ "person": "ada", "decision": "approve" });
        let log = [judged, entry("approval", ada, &[("package", "p")])];
        let wrong = backwards(&books, &log).unwrap_err();
        assert!(wrong.to_string().contains("in the log alone"), "{wrong}");
        books.approvals.insert((1, "ada".to_owned(), "approve".to_owned()));
        backwards(&books, &log).unwrap();
    }
}
