//! `./x test`: every check that a change must pass, in the order of what fails soonest.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// cargo-deny, if it must be built.
const DENY: &str = "cargo-deny";

/// Runs every check; the first that fails ends the run.
///
/// # Errors
/// Names the check that failed.
pub(crate) fn run(out: &mut dyn Write) -> Result<()> {
    let begun = Instant::now();
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments);
        command
    };
    step(out, "format", &mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy =
        ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    step(out, "lints", &mut cargo(&clippy))?;
    let cuda = ["check", "--quiet", "--locked", "-p", "cloister-engined", "--features", "cuda"];
    step(out, "burn-cuda compiles", &mut cargo(&cuda))?;
    step(
        out,
        "tests",
        &mut cargo(&["test", "--quiet", "--locked", "--workspace", "--no-fail-fast"]),
    )?;
    let mut doc = cargo(&[
        "doc",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    step(out, "documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    let deny = deny()?;
    step(
        out,
        "dependencies",
        Command::new(deny)
            .args(["--offline", "--features", "cloister-engined/cuda"])
            .args(["check", "bans", "licenses", "sources"]),
    )?;
    step(out, "units", &mut Command::new("packaging/check-units.sh"))?;
    writeln!(out, "all checks passed in {} s", begun.elapsed().as_secs())?;
    Ok(())
}

fn step(out: &mut dyn Write, name: &str, command: &mut Command) -> Result<()> {
    writeln!(out, "== {name}")?;
    out.flush()?;
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("starting the check `{name}`"))?;
    if !status.success() {
        bail!("the check `{name}` failed");
    }
    writeln!(out, "== {name}: passed, {} s", begun.elapsed().as_secs())?;
    Ok(())
}

/// The cargo-deny program: the machine's, or one built from its crate beside our build.
fn deny() -> Result<PathBuf> {
    let works = |program: &Path| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let installed = PathBuf::from(DENY);
    if works(&installed) {
        return Ok(installed);
    }
    let tools = cloister_stage::programs()?.parent().context("no build folder")?.join("tools");
    let built = tools.join("bin").join(DENY);
    if !works(&built) {
        let status = Command::new("cargo")
            .args(["install", "--quiet", "--locked", DENY, "--root"])
            .arg(&tools)
            .status()?;
        anyhow::ensure!(status.success(), "cargo-deny could not be built");
    }
    Ok(built)
}
