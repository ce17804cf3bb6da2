//! `./x test`: every check that a change must pass, in the order of what fails soonest.

use std::{io::Write, process::Command, time::Instant};

use anyhow::{Context as _, Result, bail};

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
    writeln!(out, "== mutants of changed lines")?;
    crate::mutants::of_changed_lines(out)?;
    let mut doc = cargo(&[
        "doc",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    step(out, "documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    let deny = crate::tools::program("cargo-deny", None)?;
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
