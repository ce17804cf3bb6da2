//! What the shelf holds, chunk by chunk: told to the connected side in a receipt.
//!
//! The signed index of a release comes with it from quarantine to the shelf and is kept beside that for as
//! long as the generation stays. It says where in which object a content id lies; nothing is believed of it but
//! the place: bytes are hashed again wherever they go.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_bundle::{
    Manifest, Release, Table,
    receipt::{ContentIds, INVENTORY, REACHED, Reached, SUBJECT},
};
use cloister_daemon::files::copy_atomic;
use cloister_domain::{Digest, GenerationId, Hasher};
use cloister_shelf::Shelved;
use cloister_wire::{
    inventory::{PAGE_IDS, Page},
    record::Event,
};
use nix::fcntl::OFlag;
use serde_json::json;

use crate::{
    arriving::{self, of_table},
    core::Core,
    error::ActError,
    intake,
};

/// Where indexes are kept.
pub(crate) fn folder(core: &Core) -> PathBuf {
    core.config.paths.state.join("indexes")
}

/// Makes the folder of indexes, so that a release that is refused leaves nothing, not even that.
pub(crate) fn prepare(paths: &cloister_config::Paths) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(paths.state.join("indexes"))
}

/// The name of the index in the quarantine of an import.
const RECEIVED: &str = "index";

/// Puts the verified index of a release into its `quarantine`, for when all of it is there.
pub(crate) fn receive_index(quarantine: &Path, index: &Table<File>) -> Result<(), ActError> {
    let mut aside = index.file();
    aside.rewind().map_err(|source| ActError::Quarantine { act: "read", source })?;
    Ok(copy_atomic(&quarantine.join(RECEIVED), &mut aside, 0o600)?)
}

/// The index in `quarantine`, if it is still the signed one: others may write there. Without it the
/// release is as good, and a thin one cannot build on it.
pub(crate) fn received_index(quarantine: &Path, release: &Release) -> Option<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
        .open(quarantine.join(RECEIVED))
        .ok()?;
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; 64 << 10]);
    let mut rest = (&file).take(release.index.length);
    loop {
        match rest.read(&mut piece).ok()? {
            0 => break,
            count => hasher.update(piece.get(..count)?),
        }
    }
    file.rewind().ok()?;
    (hasher.finish() == release.index.sha256).then_some(file)
}

/// Keeps the index of a release that goes to the shelf. The caller holds the right to act.
pub(crate) fn keep_index(
    core: &Core,
    generation: GenerationId,
    release: &Release,
    index: Option<File>,
) -> Result<(), ActError> {
    let Some(index) = index else {
        tracing::warn!("the index of a release was lost; none can be built on it");
        return Ok(());
    };
    let mut bytes = index.take(release.index.length);
    Ok(copy_atomic(&folder(core).join(generation.to_string()), &mut bytes, 0o600)?)
}

/// Removes the indexes of generations that are not in `keep`; what cannot be removed is removed next
/// time.
pub(crate) fn prune(core: &Core, keep: &BTreeSet<GenerationId>) {
    let Ok(listing) = fs::read_dir(folder(core)) else { return };
    for entry in listing.flatten() {
        let generation = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if generation.is_none_or(|generation| !keep.contains(&GenerationId(generation)))
            && fs::remove_file(entry.path()).is_err()
        {
            tracing::warn!("an index that is not needed any more was not removed");
        }
    }
}

/// The kept index of a release; none for one that came before indexes were kept.
fn kept(
    core: &Core,
    generation: GenerationId,
    manifest: &Manifest,
) -> Result<Option<Table<File>>, ActError> {
    let unreadable = |source| ActError::Quarantine { act: "read", source };
    let file = match File::open(folder(core).join(generation.to_string())) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let bytes = file.metadata().map_err(unreadable)?.len();
    Ok(Some(arriving::open(file, bytes, manifest.release())?))
}

/// A generation on the shelf: its manifest, and its index where it is kept.
pub(crate) fn indexed(
    core: &Core,
    shelved: &Shelved,
) -> Result<Option<(Manifest, Table<File>)>, ActError> {
    let manifest = intake::manifest(&shelved.manifest()?)?;
    let index = kept(core, shelved.id(), &manifest)?;
    Ok(index.map(|index| (manifest, index)))
}

/// A page of the inventory, with the record that names the whole and says which trust metadata is held. The
/// same inventory under the same metadata has one record.
pub(crate) fn page(core: &Core, from: u64) -> Result<Page, ActError> {
    let mut ids = Vec::new();
    let mut generations = 0u64;
    for shelved in core.shelf.list()? {
        if let Some((_, index)) = indexed(core, &shelved)? {
            for chunk in index.chunks() {
                ids.push(chunk.map_err(of_table)?.content);
            }
            generations += 1;
        }
    }
    let ids = ContentIds::new(ids);
    let digest = Digest::of(&ids.encode());
    let count = ids.as_slice().len() as u64;
    let _act = core.act();
    let vector = core.trust()?.stored().vector.clone();
    let reached = Reached {
        root_version: vector.root,
        targets_version: vector.targets,
        stick: vector.sequence,
        time_floor: vector.time_floor.map(String::from),
    };
    let (root, targets, stick) = (vector.root, vector.targets, vector.sequence);
    let record = core.recordd.append(&Core::entry(
        Event::Inventory,
        format!("{INVENTORY}/{digest}/{root}.{targets}.{stick}"),
        &[(SUBJECT, digest)],
        json!({ "chunks": count, "generations": generations, REACHED: reached }),
    ))?;
    let envelope = core.recordd.read(record, 1)?.into_iter().next();
    let envelope = envelope.ok_or(ActError::Answer { daemon: "recordd" })?;
    let first = usize::try_from(from).unwrap_or(usize::MAX);
    let some = ids.as_slice().iter().skip(first).take(PAGE_IDS);
    let bytes: Vec<u8> = some.flat_map(|id| *id.as_bytes()).collect();
    Ok(Page { envelope, count, base64: BASE64_STANDARD.encode(bytes) })
}
