//! Every step of the story is broken on purpose, one after the other, in a copy of the tree; the flow
//! test of that step must then fail. `tests/flows/mutations.json` says what is broken, and how.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::release::{checkout, read_file};
use serde::Deserialize;

use super::Progress;
use crate::copy::Copy;

/// A step broken on purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    name: String,
    /// The file in `tests/flows/tests` that must fail.
    flow: String,
    /// What no longer holds, in words.
    breaks: String,
    edits: Vec<Edit>,
}

/// A text that stands once in a file, and what stands there instead.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    file: String,
    old: String,
    new: String,
}

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let mutations: Vec<Mutation> =
        serde_json::from_slice(&read_file(&checkout().join("tests/flows/mutations.json"))?)?;
    let copy = Copy::make("mutations")?;
    if progress.done == 0 {
        writeln!(out, "unbroken: building, and every flow test must pass")?;
        copy.restore()?;
        ensure!(copy.builds()?, "the tree does not build");
        ensure!(copy.passes(None)?, "a flow test fails in the unbroken tree");
        progress.held(&["unbroken passes"])?;
    }
    let rounds = progress.rounds.min(mutations.len() as u64 + 1);
    for mutation in mutations.iter().take(usize::try_from(rounds - 1)?) {
        if progress.counts.contains_key(&mutation.name) {
            continue;
        }
        write!(out, "{}: {} … ", mutation.name, mutation.breaks)?;
        out.flush()?;
        copy.restore()?;
        copy.apply(mutation)?;
        ensure!(copy.builds()?, "the mutation {} does not build", mutation.name);
        ensure!(!copy.passes(Some(&mutation.flow))?, "{} is not noticed", mutation.name);
        progress.held(&[&mutation.name])?;
        writeln!(out, "{} fails", mutation.flow)?;
    }
    copy.restore()
}

/// Breaking and building in a copy.
impl Copy {
    fn apply(&self, mutation: &Mutation) -> Result<()> {
        for edit in &mutation.edits {
            let path = self.tree.join(&edit.file);
            let text = String::from_utf8(read_file(&path)?)?;
            ensure!(
                text.matches(&edit.old).count() == 1,
                "the mutation {} no longer fits {}",
                mutation.name,
                edit.file
            );
            fs::write(&path, text.replace(&edit.old, &edit.new))?;
        }
        Ok(())
    }

    fn cargo(&self, words: &[&str]) -> Result<bool> {
        let status = Command::new("cargo")
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.build)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("starting cargo")?;
        Ok(status.success())
    }

    /// Programs and tests, so that a test which fails afterwards fails by what it found.
    fn builds(&self) -> Result<bool> {
        let tests = ["test", "--locked", "-p", "cloister-flows", "--no-run"];
        Ok(self.cargo(&["build", "--locked", "--workspace", "--bins"])? && self.cargo(&tests)?)
    }

    fn passes(&self, flow: Option<&str>) -> Result<bool> {
        let mut words = vec!["test", "--locked", "-p", "cloister-flows"];
        words.extend(flow.into_iter().flat_map(|flow| ["--test", flow]));
        self.cargo(&words)
    }
}
