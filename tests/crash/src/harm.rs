//! What a judge must notice: harm that is done to a disk while the updater is dead.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    log::round_end,
    tracer::Harm,
    tree::{names, read},
};

/// Where a round of the journal may begin.
const BLOCK: usize = 4096;

/// A release that is torn, a pointer that is gone, and a database that forgot what it had taken.
pub(crate) const HARMS: [Harm; 3] = [tear, lose_pointer, forget];

/// Changes one byte of a release, in the tree and in the object, which are one file.
fn tear(shelf: &Path) -> Result<()> {
    let folder = shelf.join("generations");
    let release = names(&folder)?.into_iter().find(|name| !name.starts_with('.'));
    let file = folder.join(release.context("no release")?).join("tree/licences/MIT.txt");
    let mut bytes = read(&file)?;
    *bytes.first_mut().context("an empty file")? ^= 1;
    Ok(fs::write(file, bytes)?)
}

fn lose_pointer(shelf: &Path) -> Result<()> {
    Ok(fs::remove_file(shelf.join("active"))?)
}

/// As a disk would that lies about flushes.
fn forget(shelf: &Path) -> Result<()> {
    let state = shelf.parent().context("a shelf without a state folder")?;
    fs::remove_file(state.join("supply.db"))?;
    Ok(fs::remove_file(state.join("supply.db-wal"))?)
}

/// Takes the last round of the log's journal away.
pub(crate) fn forget_record(shelf: &Path) -> Result<()> {
    let journal = shelf.parent().context("a shelf without a state folder")?.join("record/journal");
    let mut bytes = read(&journal)?;
    let rounds = (0..bytes.len()).step_by(BLOCK);
    let ends = rounds.filter_map(|at| Some((round_end(&bytes[at..])?, at)));
    let (_end, last) = ends.max().context("no round in the journal")?;
    bytes[last..last + BLOCK].fill(0);
    Ok(fs::write(journal, bytes)?)
}
