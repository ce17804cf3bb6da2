//! Mutants: one small change of the code at a time (`cargo-mutants`), which a test of the same crate
//! must notice. What survives must be argued in `updater/mutants.json`, line by line.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_stage::release::{checkout, read_file};
use serde::Deserialize;

use crate::{copy::Copy, prove::said, tools};

/// The program and its version; its lists are read here.
const PROGRAM: (&str, &str) = ("cargo-mutants", "27.1.0");
/// A crate whose code is changed, and whose tests must notice.
pub(crate) struct Package {
    name: &'static str,
    /// Where it lies.
    pub(crate) folder: &'static str,
    /// Mutants of its changed lines that a check runs: with the build, about two minutes on two cores.
    changed_max: usize,
}

/// Those that decide what comes in and what is served, and what convinces of it.
pub(crate) const PACKAGES: [Package; 4] = [
    Package { name: "cloister-bundle", folder: "updater/bundle", changed_max: 20 },
    Package { name: "cloister-verify", folder: "updater/verify", changed_max: 20 },
    Package { name: "cloister-promotion", folder: "updater/promotion", changed_max: 6 },
    Package { name: "cloister-record", folder: "appliance/record", changed_max: 6 },
];
/// A test that takes longer than this many seconds turns in circles; all of a crate's take one.
const TEST_SECONDS: &str = "20";
/// What became of a mutant: the files in which `cargo-mutants` lists them.
const ENDS: [&str; 4] = ["caught", "missed", "timeout", "unviable"];

/// A mutant that no test can notice, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argued {
    /// The file, from the checkout on.
    file: String,
    /// The changed line as it stands there, without the space around it.
    line: String,
    /// The change, as `cargo-mutants` says it.
    mutant: String,
    #[serde(rename = "because")]
    _because: String,
}

/// Runs a share of the mutants in a copy of the checkout.
pub(crate) struct Runner {
    copy: Copy,
    program: PathBuf,
    /// Held for as long as the copy is in use.
    _lock: File,
}

impl Runner {
    /// A runner whose copy equals the checkout.
    pub(crate) fn make() -> Result<Self> {
        let copy = Copy::make("mutants")?;
        let lock = File::create(copy.build.join("in-use"))?;
        lock.try_lock().context("mutants are being run already; wait until they end")?;
        copy.restore()?;
        Ok(Self { copy, program: tools::program(PROGRAM.0, Some(PROGRAM.1))?, _lock: lock })
    }

    /// One crate at a time: two together would build what they stand on once more.
    fn command(&self, package: &Package, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["mutants", "--in-place", "--profile=mutants"])
            .args(["--colors=never", "--cap-lints=true"])
            .args(["--package", package.name])
            .args(["--minimum-test-timeout", TEST_SECONDS, "--cargo-arg=--locked"])
            // Without the examples in comments, of which there are none.
            .arg("--cargo-arg=--tests")
            .args(words)
            .arg("--output")
            .arg(&self.copy.build)
            .current_dir(&self.copy.tree)
            .env("CARGO_TARGET_DIR", &self.copy.build)
            .stdin(Stdio::null());
        command
    }

    /// Runs those of a crate that `words` choose; gives the names of the mutants by what became of them.
    ///
    /// # Errors
    /// When the unchanged tree does not pass.
    pub(crate) fn run(
        &self,
        package: &Package,
        words: &[&str],
    ) -> Result<BTreeMap<&'static str, Vec<String>>> {
        // An interrupted run leaves a mutant behind.
        self.copy.restore()?;
        let output = self.command(package, words).output().context("starting cargo-mutants")?;
        // 0: all noticed; 2: some missed; 3: some did not end.
        if !matches!(output.status.code(), Some(0 | 2 | 3)) {
            let said = [output.stdout, output.stderr].concat();
            bail!("cargo-mutants failed:\n{}", String::from_utf8_lossy(&said).trim_end());
        }
        ENDS.into_iter().map(|end| Ok((end, self.names(end)?))).collect()
    }

    fn names(&self, end: &str) -> Result<Vec<String>> {
        let file = self.copy.build.join("mutants.out").join(end).with_extension("txt");
        Ok(String::from_utf8(read_file(&file)?)?.lines().map(str::to_owned).collect())
    }

    /// How many mutants `words` choose.
    fn count(&self, package: &Package, words: &[&str]) -> Result<usize> {
        Ok(said(self.command(package, words).arg("--list"))?.lines().count())
    }

    /// Parts the survivors `missed` by what is argued in the checkout.
    pub(crate) fn judge(&self, missed: &[String]) -> Result<Verdict> {
        let argued = read_file(&checkout().join("updater/mutants.json"))?;
        Verdict::new(&self.copy.tree, missed, serde_json::from_slice(&argued)?)
    }
}

/// What survivors come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many are argued.
    pub(crate) argued: u64,
    /// Those that are not, each with its line.
    pub(crate) open: Vec<String>,
    /// What is argued and does not survive.
    pub(crate) idle: Vec<String>,
}

impl Verdict {
    fn new(tree: &Path, missed: &[String], mut argued: Vec<Argued>) -> Result<Self> {
        let mut verdict = Self::default();
        for name in missed {
            let (file, line, mutant) = place(tree, name)?;
            let fits =
                |one: &Argued| (&one.file, &one.line, &one.mutant) == (&file, &line, &mutant);
            // One argument is for one mutant: a second survivor of the same line needs its own.
            if let Some(at) = argued.iter().position(fits) {
                argued.remove(at);
                verdict.argued += 1;
            } else {
                verdict.open.push(format!("{name}\n    {line}"));
            }
        }
        verdict.idle = argued.iter().map(|one| format!("{}: {}", one.file, one.mutant)).collect();
        Ok(verdict)
    }
}

/// The file, the line's text and the change of a mutant called `file:line:column: change`.
fn place(tree: &Path, name: &str) -> Result<(String, String, String)> {
    let (at, mutant) = name.split_once(": ").context("a mutant without a place")?;
    let mut at = at.split(':');
    let (Some(file), Some(line)) = (at.next(), at.next()) else { bail!("a mutant without a line") };
    let text = String::from_utf8(read_file(&tree.join(file))?)?;
    let number: usize = line.parse()?;
    let line = text.lines().nth(number.saturating_sub(1)).context("a mutant beyond its file")?;
    Ok((file.to_owned(), line.trim().to_owned(), mutant.to_owned()))
}

/// Runs mutants of the lines that differ from the commit before, and says what it left out.
///
/// # Errors
/// Names each survivor that is not argued.
pub(crate) fn of_changed_lines(out: &mut dyn Write) -> Result<()> {
    let Some(base) = base() else {
        return Ok(writeln!(out, "no commit before this one is here; left out")?);
    };
    for package in &PACKAGES {
        let said = of_package(package, &base)?;
        writeln!(out, "{} since {base:.12}: {said}", package.name)?;
    }
    Ok(())
}

fn of_package(package: &Package, base: &str) -> Result<String> {
    let diff = |how: &str| {
        git()
            .args(["diff", "--no-color", "--no-ext-diff", "--no-renames"])
            .args(["--src-prefix=a/", "--dst-prefix=b/", how, base, "--"])
            .arg(format!("{}/src", package.folder))
            .status()
            .context("starting git")
    };
    if diff("--quiet")?.success() {
        return Ok("no line changed".to_owned());
    }
    let runner = Runner::make()?;
    let file = runner.copy.build.join("changed.diff");
    let written = diff(&format!("--output={}", file.display()))?;
    ensure!(written.success(), "git could not tell what changed since {base}");
    let chosen = format!("--in-diff={}", file.display());
    let all = runner.count(package, &[&chosen])?;
    if all == 0 {
        return Ok("no mutant of the changed lines".to_owned());
    }
    let share = format!("--shard=0/{}", all.div_ceil(package.changed_max));
    let ends = runner.run(package, &[&chosen, &share, "--sharding=round-robin"])?;
    let run: usize = ends.values().map(Vec::len).sum();
    let verdict = runner.judge(&ends["missed"])?;
    ensure!(verdict.open.is_empty(), "no test notices:\n{}", verdict.open.join("\n"));
    let (argued, left) = (verdict.argued, all.saturating_sub(run));
    Ok(format!("{run} mutants run, {argued} argued; {left} left to ./x prove mutants"))
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(checkout());
    git
}

/// What the checkout is compared with: where it left the published line, or the commit before.
fn base() -> Option<String> {
    let commit = |words: &[&str]| said(git().args(words).stderr(Stdio::null())).ok();
    let head = commit(&["rev-parse", "HEAD"])?;
    let left = commit(&["merge-base", "origin/main", "HEAD"]).filter(|left| *left != head);
    left.or_else(|| commit(&["rev-parse", "--verify", "--quiet", "HEAD~1"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_for_one_mutant_of_one_line() {
        let tree = tempfile::tempdir().expect("a folder");
        std::fs::write(tree.path().join("a.rs"), "fn f() {\n    a < b && b < c\n}\n")
            .expect("written");
        let argued = |line: &str| Argued {
            file: "a.rs".to_owned(),
            line: line.to_owned(),
            mutant: "replace < with <= in f".to_owned(),
            _because: String::new(),
        };
        let judged = |missed: &[&str], argued: Vec<Argued>| {
            let missed: Vec<String> = missed.iter().map(|name| (*name).to_owned()).collect();
            Verdict::new(tree.path(), &missed, argued).expect("places in the file")
        };
        let (first, second) =
            ("a.rs:2:7: replace < with <= in f", "a.rs:2:16: replace < with <= in f");
        let whole = "a < b && b < c";
        assert_eq!(judged(&[first], vec![argued(whole)]).argued, 1);
        // The same change of the same line, once more.
        let twice = judged(&[first, second], vec![argued(whole)]);
        assert_eq!(twice.open, [format!("{second}\n    {whole}")]);
        assert_eq!(judged(&[first, second], vec![argued(whole), argued(whole)]).argued, 2);
        // Another line, another change, and no survivor at all.
        assert_eq!(judged(&[first], vec![argued("a < b")]).open.len(), 1);
        let other = judged(&["a.rs:2:7: replace < with > in f"], vec![argued(whole)]);
        assert_eq!((other.open.len(), other.idle.len()), (1, 1));
        assert_eq!(judged(&[], vec![argued(whole)]).idle, ["a.rs: replace < with <= in f"]);
    }
}
