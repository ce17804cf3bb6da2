//! Every step of the story is broken on purpose, one after the other, in a copy of the tree; the flow
//! test of that step must then fail. `tests/flows/mutations.json` says what is broken, and how.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{
    programs,
    release::{checkout, read_file},
};
use serde::Deserialize;

use super::{Progress, said};

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

/// A copy of the tracked files, with a build folder of its own.
struct Copy {
    tree: PathBuf,
    build: PathBuf,
}

pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let mutations: Vec<Mutation> =
        serde_json::from_slice(&read_file(&checkout().join("tests/flows/mutations.json"))?)?;
    let copy = Copy::make()?;
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

impl Copy {
    fn make() -> Result<Self> {
        let folder = programs()?.parent().context("no build folder")?.join("mutants");
        let copy = Self { tree: folder.join("tree"), build: folder.join("build") };
        fs::create_dir_all(&copy.tree)?;
        fs::create_dir_all(&copy.build)?;
        Ok(copy)
    }

    /// Makes the copy equal to the checkout. A file that is equal is not touched, so that cargo builds
    /// anew what differs and no more.
    fn restore(&self) -> Result<()> {
        let listed = said(Command::new("git").arg("-C").arg(checkout()).args(["ls-files", "-z"]))?;
        let tracked: BTreeSet<&str> =
            listed.split('\0').filter(|name| checkout().join(name).is_file()).collect();
        for name in &tracked {
            let (from, to) = (checkout().join(name), self.tree.join(name));
            let bytes = read_file(&from)?;
            if read_file(&to).is_ok_and(|held| held == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().context("a file lies in a folder")?)?;
            fs::write(&to, bytes)?;
            fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        }
        remove_others(&self.tree, &self.tree, &tracked)
    }

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

/// Removes the files below `folder` that are not in `tracked`, by their names from `tree` on.
fn remove_others(tree: &Path, folder: &Path, tracked: &BTreeSet<&str>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(tree, &path, tracked)?;
        } else if !path.strip_prefix(tree)?.to_str().is_some_and(|name| tracked.contains(name)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
