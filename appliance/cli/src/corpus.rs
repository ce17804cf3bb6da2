//! `corpus add`, `corpus delete`, `corpus list` and `corpus verify`: the facility's own documents.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use cloister_config::{Config, Role};
use cloister_domain::{Label, LabelSet, NameError, Principal, Sensitive, counted};
use cloister_wire::corpus::{Answer, Request};

use crate::{CorpusVerb, Failure, ask_daemon, print_json, read, say, supply};

/// File name endings that are taken as text.
const TEXT_ENDINGS: [&str; 3] = ["md", "txt", "text"];
/// Files of one `add`, so that a wrong folder is noticed.
const FILES_MAX: usize = 100_000;

/// Asks corpusd one thing.
fn ask(config: &Config, request: &Request) -> Result<Answer, Failure> {
    ask_daemon(config, Role::Corpusd, request)
}

pub(crate) fn corpus(
    config: &Config,
    verb: CorpusVerb,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let name = |error: NameError| Failure::usage(&error.to_string());
    match verb {
        CorpusVerb::Add { path, label, collection } => {
            let label = label.parse().map_err(name)?;
            add(config, &path, &label, &collection, json, out)
        }
        CorpusVerb::Delete { id } => {
            let document = id.parse().map_err(|error: cloister_domain::DigestError| {
                Failure::usage(&error.to_string())
            })?;
            let answer = ask(config, &Request::Delete { document })?;
            let Answer::Deleted(receipt) = &answer else {
                return Err(Failure::conversation("corpusd"));
            };
            if json {
                return print_json(receipt, out);
            }
            say!(out, "deleted     {}", receipt.document);
            say!(out, "passages    {}", receipt.chunks);
            say!(out, "vectors     {}", receipt.vectors);
            say!(out, "receipt     {}", receipt.removed);
            Ok(())
        }
        CorpusVerb::List { label } => {
            let labels: LabelSet =
                label.iter().map(|label| label.parse()).collect::<Result<_, _>>().map_err(name)?;
            let active = supply::ask_status(config)?.generations.into_iter().find(|one| one.active);
            let generation = active.map(|one| one.generation);
            let answer = ask(config, &Request::List { generation, labels })?;
            let Answer::Documents(documents) = &answer else {
                return Err(Failure::conversation("corpusd"));
            };
            if json {
                return print_json(documents, out);
            }
            for one in documents {
                let origin = if one.bundled { "bundle" } else { "facility" };
                let words = one.name.expose();
                say!(out, "{}  {}  {}  {origin}  {words}", one.document, one.collection, one.label);
            }
            Ok(())
        }
        CorpusVerb::Verify => {
            let answer = ask(config, &Request::Verify)?;
            let Answer::Verified { documents, chunks, vectors } = &answer else {
                return Err(Failure::conversation("corpusd"));
            };
            if json {
                return print_json(&answer, out);
            }
            let documents = counted(*documents, "document");
            let (chunks, vectors) = (counted(*chunks, "passage"), counted(*vectors, "vector"));
            say!(out, "they agree: {documents}, {chunks}, {vectors}");
            Ok(())
        }
    }
}

fn add(
    config: &Config,
    path: &Path,
    label: &Label,
    collection: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let owner: Principal = "operator".parse().expect("a lower-case word is a principal");
    let mut found = Vec::new();
    collect(path, &mut found)?;
    if found.is_empty() {
        return Err(Failure::usage("the folder holds no .md, .txt or .text file"));
    }
    // All are read before the first is taken, so that one bad file leaves nothing half done.
    for file in &found {
        document(config, file)?;
    }
    for file in found {
        let text = document(config, &file)?;
        let shown =
            file.file_name().and_then(|name| name.to_str()).unwrap_or("document").to_owned();
        let request = Request::Add {
            collection: collection.to_owned(),
            label: label.clone(),
            owner: owner.clone(),
            name: Sensitive::new(shown),
            text: Sensitive::new(text),
        };
        let answer = ask(config, &request)?;
        let Answer::Added(listed) = &answer else { return Err(Failure::conversation("corpusd")) };
        if json {
            print_json(listed, out)?;
        } else {
            let passages = counted(u64::from(listed.chunks), "passage");
            say!(out, "{}  {passages}  {}", listed.document, listed.name.expose());
        }
    }
    Ok(())
}

/// The text of a document.
fn document(config: &Config, file: &Path) -> Result<String, Failure> {
    let bytes = read(file, config.corpus.document_bytes_max.0, "nothing was taken")?;
    String::from_utf8(bytes).map_err(|_content| {
        Failure::usage(&format!("{}: not UTF-8 text; nothing was taken", file.display()))
    })
}

/// Text files below `path` in the order of their names; links are not followed.
fn collect(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |_detail| Failure::usage("the folder cannot be read");
    let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
    if kind.is_file() {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        if TEXT_ENDINGS.contains(&ending) {
            found.push(path.to_owned());
        }
    } else if kind.is_dir() {
        let mut inside: Vec<PathBuf> = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(failed)?;
        inside.sort();
        inside.iter().try_for_each(|entry| collect(entry, found))?;
    }
    if found.len() > FILES_MAX {
        return Err(Failure::usage(
            "the folder holds more than 100000 documents; add its parts one by one",
        ));
    }
    Ok(())
}
