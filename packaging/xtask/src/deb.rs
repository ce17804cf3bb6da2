//! `./x deb OUT`: the Debian package of what is built.

use std::{path::Path, process::Command};

use anyhow::{Result, ensure};
use cloister_stage::{programs, release::checkout};

/// Packs the built programs into a package under `out`; the packer prints its path.
///
/// # Errors
/// When a program is missing or `dpkg-deb` fails.
pub(crate) fn run(out: &Path) -> Result<()> {
    let status = Command::new(checkout().join("packaging/deb/build.sh"))
        .arg(out)
        .arg(programs()?)
        .status()?;
    ensure!(status.success(), "the package was not made");
    Ok(())
}
