//! What holds is broken on purpose, one thing after the other, in a copy of the tree; a test must then
//! fail. `tests/flows/mutations.json` breaks each step of the story, which the flow test of that step
//! must notice; `tests/hostile/guards.json` takes away each check that refuses and each fence of the
//! updater's rooms, which the tests of that room must notice.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::release::{checkout, read_file};
use serde::Deserialize;

use super::Progress;
use crate::copy::Copy;

/// Whose programs the tests of cloister-crash start.
const WALKERS: [&str; 6] = [
    "cloister-cli",
    "cloister-intaked",
    "cloister-mint",
    "cloister-recordd",
    "cloister-stage",
    "cloister-updaterd",
];

/// Something broken on purpose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutation {
    name: String,
    /// The tests of which one must fail, as `cargo test` takes them.
    tests: Vec<String>,
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

/// Breaks each step of the story.
pub(super) fn story(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    run("tests/flows/mutations.json", true, progress, out)
}

/// Takes away each guard of the updater's rooms.
pub(super) fn guards(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    run("tests/hostile/guards.json", false, progress, out)
}

fn run(list: &str, programs: bool, progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let mutations: Vec<Mutation> = serde_json::from_slice(&read_file(&checkout().join(list))?)?;
    let copy = Copy::make("mutations")?;
    if progress.done == 0 {
        writeln!(out, "unbroken: building, and every test must pass")?;
        copy.restore()?;
        let all: BTreeSet<&[String]> =
            mutations.iter().map(|mutation| mutation.tests.as_slice()).collect();
        for tests in all {
            ensure!(copy.builds(programs, tests)?, "the tree does not build: {tests:?}");
            ensure!(
                copy.passes(tests)?,
                "a test fails in the unbroken tree: {tests:?}; see {}",
                copy.said().display()
            );
        }
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
        ensure!(
            copy.builds(programs, &mutation.tests)?,
            "the mutation {} does not build",
            mutation.name
        );
        ensure!(!copy.passes(&mutation.tests)?, "{} is not noticed", mutation.name);
        progress.held(&[&mutation.name])?;
        writeln!(out, "noticed")?;
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

    /// What the last call of cargo said.
    fn said(&self) -> PathBuf {
        self.build.join("said.log")
    }

    fn cargo(&self, words: &[&str], more: &[String]) -> Result<bool> {
        let said = File::create(self.said())?;
        let status = Command::new("cargo")
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.build)
            .args(words)
            .args(more)
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said)
            .status()
            .context("starting cargo")?;
        Ok(status.success())
    }

    /// Programs and tests, so that a test which fails afterwards fails by what it found.
    fn builds(&self, programs: bool, tests: &[String]) -> Result<bool> {
        let all = ["build", "--locked", "--workspace", "--bins"];
        let walks = ["build", "--locked", "--bins"];
        let of_walks = tests.iter().any(|word| word == "cloister-crash");
        let packages = WALKERS.iter().flat_map(|name| ["-p".to_owned(), (*name).to_owned()]);
        Ok((!programs || self.cargo(&all, &[])?)
            && (!of_walks || self.cargo(&walks, &packages.collect::<Vec<_>>())?)
            && self.cargo(&["test", "--locked", "--no-run"], tests)?)
    }

    fn passes(&self, tests: &[String]) -> Result<bool> {
        self.cargo(&["test", "--locked"], tests)
    }
}
