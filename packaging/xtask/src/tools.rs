//! Programs of cargo's that the checks use: the machine's, or built beside our build.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// The program `name` from the crate of that name. With a `version` it must be that one, because its
/// output is read.
///
/// # Errors
/// When there is none and it cannot be built.
pub(crate) fn program(name: &str, version: Option<&str>) -> Result<PathBuf> {
    // As cargo calls it, with its own name first; not every one answers otherwise.
    let word = name.strip_prefix("cargo-").unwrap_or(name);
    let works = |program: &Path| {
        let asked = Command::new(program).args([word, "--version"]).output();
        let Ok(output) = asked else { return false };
        let said = String::from_utf8_lossy(&output.stdout);
        let right = |version: &str| said.split_whitespace().any(|word| word == version);
        output.status.success() && version.is_none_or(right)
    };
    let installed = PathBuf::from(name);
    if works(&installed) {
        return Ok(installed);
    }
    let tools = cloister_stage::programs()?.parent().context("no build folder")?.join("tools");
    let built = tools.join("bin").join(name);
    if !works(&built) {
        let mut install = Command::new("cargo");
        install.args(["install", "--quiet", "--locked", name, "--root"]).arg(&tools);
        if let Some(version) = version {
            install.args(["--force", "--version", version]);
        }
        ensure!(install.status()?.success() && works(&built), "{name} could not be built");
    }
    Ok(built)
}
