//! The chapter in which an auditor checks the records.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use cloister_domain::counted;
use cloister_stage::release::{checkout, read_file};

use super::{Demo, Head, head, utf8};
use crate::story::Story;

/// The records are exported and checked; a flipped byte is found.
pub(super) fn play(demo: &Demo, story: &mut Story<'_>) -> Result<()> {
    let facility = &demo.facility;
    story.chapter("An auditor checks the records with a second verifier")?;
    let export = facility.home().join("export");
    facility.cloister(&["records", "export", utf8(&export)?])?.done()?;
    let Head { size, root, log_key } = head(facility)?;
    story.tell(&format!("exported: {}, their tree's head {root}", counted(size, "record")))?;
    ensure!(second_verifier(demo, &export, &log_key)?, "the second verifier refuses the export");
    story.tell("audit.py: every signature, leaf, root and checkpoint holds")?;
    let checkpoint = export.join("checkpoint");
    let good = read_file(&checkpoint)?;
    let mut bad = good.clone();
    let place = bad.len() / 2;
    *bad.get_mut(place).context("an empty checkpoint")? ^= 1;
    fs::write(&checkpoint, bad)?;
    ensure!(!second_verifier(demo, &export, &log_key)?, "a flipped byte was not found");
    fs::write(&checkpoint, good)?;
    story.tell("with one byte of the export changed it refuses")
}

fn second_verifier(demo: &Demo, export: &Path, log_key: &str) -> Result<bool> {
    let output = Command::new(&demo.python)
        // Not the copy in the export, which whoever made the export could have changed.
        .arg(checkout().join("appliance/record/audit.py"))
        .arg(export)
        .args(["--log-key", log_key, "--root"])
        .arg(demo.facility.root_file())
        .output()?;
    Ok(output.status.success())
}
