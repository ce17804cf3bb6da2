//! What Miri and Kani would look at, where neither can be had: the tests of every crate that holds
//! unsafe code or reads foreign bytes, under AddressSanitizer and under valgrind.
//!
//! AddressSanitizer sees our code, what of others it calls, and zstd, which is built with it. Valgrind
//! sees every instruction, SQLite's and the vector kernels' included. The standard library comes as
//! it was built. Neither looks for leaks: what a process of ours keeps to its end is no error.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{programs, release::checkout};
use serde_json::Value;

use super::{Progress, said};

/// Under AddressSanitizer. `services/model` holds one unsafe block beside burn, which takes too long
/// to build so; cells, whose address space is bounded, cannot hold the sanitizer's shadow.
const INSTRUMENTED: [&str; 14] = [
    "attest",
    "bundle",
    "conformance",
    "daemon",
    "domain",
    "formats",
    "fuzz",
    "inspect",
    "quarantine",
    "sealed",
    "simd",
    "tokenize",
    "verify",
    "weights",
];
/// Tests that shut a process in, and those of time, size and speed.
const NOT_INSTRUMENTED: [&str; 3] = ["cage::tests", "cell::tests", "tests::large"];
/// Under valgrind, which takes some thirty times as long.
const WATCHED: [&str; 3] = ["conformance", "state", "weights"];
/// Mutants of each parser's corpus under AddressSanitizer, and under valgrind.
const INSTRUMENTED_MUTANTS: u64 = 5_000;
const WATCHED_MUTANTS: u64 = 20;
/// What valgrind ends with when it saw an error.
const SEEN: &str = "--error-exitcode=99";

/// One round for each of the two.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let folder = programs()?.parent().context("no build folder")?.join("sanitizers");
    if progress.done == 0 {
        writeln!(out, "under AddressSanitizer")?;
        let mut counts = BTreeMap::new();
        let (tests, fuzz) = instrumented(&folder)?;
        for test in &tests {
            let skip = NOT_INSTRUMENTED.into_iter().flat_map(|name| ["--skip", name]);
            passes(test, Command::new(&test.program).arg("-q").args(skip))?;
        }
        counts.insert("test programs under AddressSanitizer".to_owned(), tests.len() as u64);
        let inputs = fuzzed(&[fuzz.as_os_str()], progress.seed, INSTRUMENTED_MUTANTS, out)?;
        counts.insert("inputs under AddressSanitizer".to_owned(), inputs);
        progress.held_often(&counts)?;
    }
    if progress.done == 1 {
        writeln!(out, "under valgrind")?;
        let mut counts = BTreeMap::new();
        let tests = built(&mut cargo(&folder.join("plain"), &WATCHED))?;
        for test in &tests {
            passes(test, Command::new("valgrind").args(["-q", SEEN]).arg(&test.program))?;
        }
        counts.insert("test programs under valgrind".to_owned(), tests.len() as u64);
        let fuzz = programs()?.join("cloister-fuzz");
        let words = ["valgrind", "-q", SEEN].map(OsStr::new);
        let words = [&words[..], &[fuzz.as_os_str()]].concat();
        let inputs = fuzzed(&words, progress.seed, WATCHED_MUTANTS, out)?;
        counts.insert("inputs under valgrind".to_owned(), inputs);
        progress.held_often(&counts)?;
    }
    Ok(())
}

/// A program of tests, and the folder that it expects to be started in.
struct Test {
    program: PathBuf,
    package: PathBuf,
}

fn cargo(target: &Path, crates: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .current_dir(checkout())
        .env("CARGO_TARGET_DIR", target)
        .args(["test", "--locked", "--no-run", "--message-format=json", "--lib", "--tests"])
        .args(crates.iter().flat_map(|name| ["-p".to_owned(), format!("cloister-{name}")]))
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The tests with AddressSanitizer, and the program that drives the parsers.
fn instrumented(folder: &Path) -> Result<(Vec<Test>, PathBuf)> {
    let about = said(Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc names no host")?;
    let mut tests = cargo(folder, &INSTRUMENTED);
    tests
        // The sanitizer is no part of the stable compiler; nothing that is shipped is built so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address -Cforce-frame-pointers=yes")
        .env(format!("CFLAGS_{}", host.replace('-', "_")), "-fsanitize=address")
        // With a target of its own, build scripts and macros are left as they are.
        .args(["--target", host]);
    let tests = built(&mut tests)?;
    let fuzz = folder.join(host).join("debug/cloister-fuzz");
    ensure!(fuzz.is_file(), "cloister-fuzz was not built");
    Ok((tests, fuzz))
}

/// Builds, and lists the programs of tests.
fn built(cargo: &mut Command) -> Result<Vec<Test>> {
    let output = cargo.output().context("starting cargo")?;
    ensure!(output.status.success(), "the tests cannot be built: {cargo:?}");
    let mut tests = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let about: Value = serde_json::from_str(line)?;
        let text = |place: &str| about.pointer(place).and_then(Value::as_str).map(PathBuf::from);
        let is_test = about.pointer("/profile/test") == Some(&Value::Bool(true));
        if let (true, Some(program), Some(manifest)) =
            (is_test, text("/executable"), text("/manifest_path"))
        {
            let package = manifest.parent().context("a manifest lies in a folder")?.to_owned();
            tests.push(Test { program, package });
        }
    }
    ensure!(!tests.is_empty(), "no tests were built");
    Ok(tests)
}

fn passes(test: &Test, command: &mut Command) -> Result<()> {
    let output = settled(command).current_dir(&test.package).output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} fails: {words}", test.program.display());
    Ok(())
}

/// Drives every parser, `count` mutants of each; how many in all.
fn fuzzed(words: &[&OsStr], seed: u64, count: u64, out: &mut dyn Write) -> Result<u64> {
    let [program, more @ ..] = words else { return Ok(0) };
    let call = || {
        let mut command = Command::new(program);
        command.args(more);
        command
    };
    let targets = said(settled(&mut call()))?;
    for target in targets.lines() {
        let numbers = [seed, 0, count].map(|number| number.to_string());
        said(settled(&mut call()).arg(target).args(numbers))
            .with_context(|| format!("the parser {target} fails"))?;
    }
    let inputs = count * targets.lines().count() as u64;
    writeln!(out, "{inputs} inputs")?;
    Ok(inputs)
}

fn settled(command: &mut Command) -> &mut Command {
    command.env("ASAN_OPTIONS", "detect_leaks=0").stdin(Stdio::null())
}
