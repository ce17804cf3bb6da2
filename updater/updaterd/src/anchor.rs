//! The trust state outside the database, so that a database that is lost is not trust that is lost:
//! `trust/<sha256 of the vector>.json`, files and ratchets together, written before the log and the
//! database hear of them. The log says which of two is the one that counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_daemon::files::{FileError, read_limited, sync_folder, write_atomic};
use cloister_domain::Digest;
use cloister_verify::{Accepted, Stored, TrustState, Vector};
use serde::{Deserialize, Serialize};

use crate::core::vector_text;

/// The largest set: the largest files of trust metadata as base64, and some more.
const SET_BYTES_MAX: u64 = 64 << 20;

/// A set's file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    vector: Vector,
    /// Base64 by name.
    files: BTreeMap<String, String>,
}

fn name(trust: &TrustState) -> String {
    format!("{}.json", Digest::of(vector_text(trust).as_bytes()))
}

/// Keeps a trust state beside those that are there.
pub(crate) fn keep(folder: &Path, trust: &TrustState) -> Result<(), FileError> {
    let path = folder.join(name(trust));
    // One vector, one set: what is there is the same. Whoever wrote it may have been cut off behind the name.
    if path.is_file() {
        return sync_folder(folder)
            .map_err(|source| FileError::System { act: "flush the name of", source });
    }
    let stored = trust.stored();
    let files =
        stored.files.iter().map(|(name, bytes)| (name.clone(), BASE64_STANDARD.encode(bytes)));
    let set = Set { vector: stored.vector.clone(), files: files.collect() };
    let text = serde_json::to_vec(&set).expect("numbers, digests and texts");
    write_atomic(&path, &text, 0o600)
}

/// Removes every set but that of a trust state, which is durable by now.
pub(crate) fn forget_others(folder: &Path, trust: &TrustState) {
    let kept = name(trust);
    let Ok(listing) = fs::read_dir(folder) else { return };
    for entry in listing.flatten() {
        let other = entry.file_name();
        if is_set(&entry.path()) && other.to_str() != Some(kept.as_str()) {
            // One that stays is older, and the log says so.
            fs::remove_file(entry.path()).unwrap_or_default();
        }
    }
}

/// Every set that is whole and whose signatures hold.
pub(crate) fn all(folder: &Path) -> Result<Vec<TrustState>, FileError> {
    let unreadable = |source: io::Error| FileError::System { act: "list", source };
    let mut paths = BTreeSet::<PathBuf>::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if is_set(&path) {
            paths.insert(path);
        }
    }
    let mut states = Vec::new();
    for path in paths {
        let text = read_limited(&path, SET_BYTES_MAX)?;
        match taken_back(&text) {
            Some(state) => states.push(state),
            None => tracing::warn!("a file of the trust folder is not a usable trust state"),
        }
    }
    Ok(states)
}

/// Raises counters and floors to those of `others`, where theirs are higher.
pub(crate) fn merge(
    releases: &mut BTreeMap<String, Accepted>,
    others: &BTreeMap<String, Accepted>,
) {
    for (name, other) in others {
        match releases.get_mut(name) {
            Some(held) if held.counter >= other.counter => held.floor = held.floor.max(other.floor),
            Some(held) => {
                let floor = held.floor.max(other.floor);
                *held = Accepted { floor, ..other.clone() };
            }
            None => {
                releases.insert(name.clone(), other.clone());
            }
        }
    }
}

fn taken_back(text: &[u8]) -> Option<TrustState> {
    let Set { vector, files } = serde_json::from_slice(text).ok()?;
    let decoded = files.into_iter().map(|(name, base64)| {
        let bytes = BASE64_STANDARD.decode(base64).ok()?;
        Some((name, bytes.into()))
    });
    let files = decoded.collect::<Option<_>>()?;
    TrustState::load(Stored { files, vector }).ok()
}

fn is_set(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let digest = stem.is_some_and(|stem| stem.parse::<Digest>().is_ok());
    digest && path.extension().is_some_and(|ending| ending == "json")
}
