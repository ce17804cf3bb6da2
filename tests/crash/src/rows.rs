//! Rows of the database, and files, that say again what a record says: each must say the same.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use rusqlite::Connection;
use serde_json::Value;

use crate::{
    books::{Books, rows, unhex},
    log::Entry,
    tree::{OnDisk, Tree as _, sha256},
};

/// Holds rows that nothing else looks at against the records that they come from.
///
/// # Errors
/// Names the first that says something else.
pub(crate) fn told_again(database: &Connection, log: &[Entry], books: &mut Books) -> Result<()> {
    let entry = |record: &str| -> Result<&Entry> {
        log.get(record.parse::<usize>()?).with_context(|| format!("no record {record}"))
    };
    for row in rows(database, "SELECT import, operator FROM importers")? {
        let import = row[0].parse()?;
        books.importers.insert((import, row[1].clone()));
    }
    let of_log = importers(log);
    let stranger = books.importers.iter().find(|importer| !of_log.contains(importer));
    ensure!(stranger.is_none(), "no record says {stranger:?}, an import and who brought it");
    for row in rows(database, "SELECT import, inspection, record FROM inspections")? {
        let found = entry(&row[2])?;
        let own = found.act.starts_with(&format!("import/{}/", row[0]));
        ensure!(own && found.event == "inspection", "an inspection names {}", found.act);
        let inspection: Value = serde_json::from_str(&row[1])?;
        let (held, told) = (&inspection["refused"], &found.facts["refused"]);
        ensure!(held == told, "inspected, {held} is refused, and by the log {told}");
    }
    for row in rows(database, "SELECT import, package, record, evidence FROM evaluations")? {
        let found = entry(&row[2])?;
        let is = found.subjects.get("package") == Some(&row[1]);
        ensure!(is, "another package of import {} than recorded", row[0]);
        let told = &found.facts["evidence"];
        ensure!(told.is_null() || *told == row[3].as_str(), "other evidence than {told}");
    }
    for row in rows(database, "SELECT name, last FROM series")? {
        books.series.insert(row[0].clone(), row[1].parse()?);
    }
    for row in rows(database, "SELECT name, sha256, hex(bytes) FROM trust_files")? {
        ensure!(sha256(&unhex(&row[2])?) == row[1], "{} is not the file it was", row[0]);
    }
    Ok(())
}

/// Whom the log names as who brought each import.
fn importers(log: &[Entry]) -> Vec<(i64, String)> {
    let mut named = Vec::new();
    for entry in log {
        let about = entry.act.strip_prefix("import/").and_then(|act| act.split('/').next());
        let Some(import) = about.and_then(|number| number.parse().ok()) else { continue };
        let persons = entry.facts["persons"].as_array().into_iter().flatten();
        let names = persons.chain([&entry.facts["operator"]]).filter_map(Value::as_str);
        named.extend(names.map(|name| (import, name.to_owned())));
    }
    named
}

/// Whom the log names as having brought an import, the database knows; and no number in the log will be given
/// again.
///
/// # Errors
/// Names the first that is not so.
pub(crate) fn forgotten(books: &Books, log: &[Entry]) -> Result<()> {
    let known = |(import, _): &&(i64, String)| books.imports.contains_key(import);
    let importers = importers(log);
    let lost = importers.iter().filter(known).find(|importer| !books.importers.contains(importer));
    ensure!(lost.is_none(), "{lost:?} stands in the log alone, an import and who brought it");
    let mut last = BTreeMap::<&str, u64>::new();
    for entry in log {
        let parts: Vec<&str> = entry.act.split('/').collect();
        let number = |at: usize| parts.get(at).and_then(|part| part.parse().ok()).unwrap_or(0);
        let given = match parts.as_slice() {
            ["import", ..] => ("import", number(1)),
            ["activation" | "trial", ..] => ("activation", number(1)),
            ["refusal" | "rollback", ..] => ("refusal", number(1)),
            _ => continue,
        };
        let most = last.entry(given.0).or_default();
        *most = given.1.max(*most);
    }
    for (series, number) in last {
        let held = books.series.get(series).copied().unwrap_or(0);
        ensure!(held >= number, "the {series} {number} is in the log, and {held} was given last");
    }
    Ok(())
}

/// What is trusted stands in a file of its own beside the database.
///
/// # Errors
/// When it does not, or the file is torn.
pub(crate) fn trusted_beside(folder: &Path, books: &Books) -> Result<()> {
    if books.vector.is_empty() {
        return Ok(());
    }
    let file = folder.join(format!("{}.json", sha256(books.vector.as_bytes())));
    let set: Value = serde_json::from_slice(&OnDisk.read(&file)?).context("it is torn")?;
    let vector: Value = serde_json::from_str(&books.vector)?;
    ensure!(set["vector"] == vector, "it is another's");
    ensure!(set["files"].as_object().is_some_and(|files| !files.is_empty()), "it has no files");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::Import;

    fn entry(act: &str, facts: Value) -> Entry {
        let (event, digest) = ("media-seen".to_owned(), String::new());
        Entry { event, act: act.to_owned(), facts, subjects: BTreeMap::new(), digest }
    }

    #[test]
    fn a_row_that_says_something_else_is_noticed() {
        let database = Connection::open_in_memory().unwrap();
        database
            .execute_batch(
                "CREATE TABLE importers (import, operator);
                 CREATE TABLE inspections (import, inspection, record);
                 CREATE TABLE evaluations (import, package, record, evidence);
                 CREATE TABLE series (name, last);
                 CREATE TABLE trust_files (name, sha256, bytes);
                 INSERT INTO importers VALUES (1, 'op');
                 INSERT INTO inspections VALUES (1, '{\"refused\":[\"a\"]}', 1);
                 INSERT INTO evaluations VALUES (1, 'p', 2, 'e');",
            )
            .unwrap();
        let mut inspected = entry("import/1/inspected", serde_json::json!({ "refused": ["a"] }));
        inspected.event = "inspection".to_owned();
        let mut judged = entry("import/1/evaluated", serde_json::json!({ "evidence": "e" }));
        judged.subjects.insert("package".to_owned(), "p".to_owned());
        let seen = entry("import/1/seen", serde_json::json!({ "operator": "op" }));
        let log = [seen, inspected, judged];
        let read = || {
            let mut books = Books::default();
            told_again(&database, &log, &mut books).map(|()| books)
        };
        read().unwrap();
        for (spoil, mend) in [
            ("UPDATE importers SET operator = 'x'", "UPDATE importers SET operator = 'op'"),
            ("UPDATE inspections SET inspection = '{\"refused\":[]}'", "DELETE FROM inspections"),
            ("UPDATE evaluations SET package = 'q'", "UPDATE evaluations SET package = 'p'"),
            ("UPDATE evaluations SET evidence = 'f'", "DELETE FROM evaluations"),
            ("INSERT INTO trust_files VALUES ('root', 'x', x'00')", "DELETE FROM trust_files"),
        ] {
            database.execute_batch(spoil).unwrap();
            read().expect_err(spoil);
            database.execute_batch(mend).unwrap();
            read().unwrap();
        }
    }

    #[test]
    fn an_importer_and_a_number_of_the_log_alone_are_noticed() {
        let log = [entry("import/3/seen", serde_json::json!({ "operator": "op" }))];
        let state = "received".to_owned();
        let import = Import { generation: None, state, needs: std::collections::BTreeSet::new() };
        let mut books = Books::default();
        books.imports.insert(3, import);
        books.series.insert("import".to_owned(), 3);
        let wrong = forgotten(&books, &log).unwrap_err().to_string();
        assert!(wrong.contains("who brought it"), "{wrong}");
        books.importers.insert((3, "op".to_owned()));
        forgotten(&books, &log).unwrap();
        books.series.insert("import".to_owned(), 2);
        let wrong = forgotten(&books, &log).unwrap_err().to_string();
        assert!(wrong.contains("2 was given last"), "{wrong}");
    }
}
