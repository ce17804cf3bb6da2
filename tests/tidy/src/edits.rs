//! What proofs break on purpose: each edit still fits the file that it is made in.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::{Finding, Tree};

/// The lists of such edits.
const LISTS: [&str; 2] = ["tests/hostile/guards.json", "tests/flows/mutations.json"];

/// Something broken on purpose, as far as its edits go.
#[derive(Deserialize)]
struct Mutation {
    name: String,
    edits: Vec<Edit>,
}

#[derive(Deserialize)]
struct Edit {
    file: String,
    old: String,
    new: String,
}

/// Every text that `./x prove guards` and `./x prove mutations` take away stands exactly once in its file.
///
/// # Errors
/// When a list is not of its form.
pub fn stale_edits(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for list in LISTS {
        let mutations: Vec<Mutation> = serde_json::from_str(tree.text(list)?).context(list)?;
        for Mutation { name, edits } in mutations {
            for edit in edits {
                let found = tree.text(&edit.file).map_or(0, |text| text.matches(&edit.old).count());
                if found != 1 || edit.old == edit.new {
                    let file = edit.file;
                    findings.push(format!(
                        "{list}: `{name}`: its text stands {found} times in {file}; fit it to the code of now"
                    ));
                }
            }
        }
    }
    Ok(findings)
}
