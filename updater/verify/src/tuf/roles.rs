//! Timestamp and snapshot: which files are current, and belong together.

use std::collections::BTreeMap;

use cloister_domain::Digest;
use serde_json::Value;
use sha2::{Digest as _, Sha512};

use super::{keys::Authority, metadata::Metadata, root::Root};
use crate::{Instant, RoleName, VerifyError};

/// Files that one snapshot may name.
const FILES_MAX: usize = 65_536;

/// What a file's bytes must be, as far as the one who names it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    pub(crate) length: Option<u64>,
    pub(crate) sha256: Option<Digest>,
    sha512: Option<[u8; 64]>,
}

impl Bytes {
    /// Reads `length` and `hashes` where they are; `None` if they are malformed, or if hashes are
    /// given of which none is known here.
    pub(crate) fn parse(entry: &Value) -> Option<Self> {
        let length = match entry.get("length") {
            None => None,
            Some(length) => Some(length.as_u64()?),
        };
        let Some(hashes) = entry.get("hashes") else {
            return Some(Self { length, ..Self::default() });
        };
        let text = |name: &str| match hashes.as_object()?.get(name) {
            None => Some(None),
            Some(hash) => Some(Some(hash.as_str()?)),
        };
        let sha256 = match text("sha256")? {
            None => None,
            Some(digits) => Some(digits.parse().ok()?),
        };
        let sha512 = match text("sha512")? {
            None => None,
            Some(digits) => Some(unhex_64(digits)?),
        };
        let known = sha256.is_some() || sha512.is_some();
        known.then_some(Self { length, sha256, sha512 })
    }

    /// One of the digests, in hexadecimal.
    pub(crate) fn name_digest(&self) -> String {
        match (self.sha256, self.sha512) {
            (Some(sha256), _) => sha256.to_string(),
            (None, Some(sha512)) => sha512.iter().map(|byte| format!("{byte:02x}")).collect(),
            (None, None) => String::new(),
        }
    }

    /// Whether these are the bytes.
    pub(crate) fn are(&self, bytes: &[u8]) -> bool {
        self.length.is_none_or(|length| u64::try_from(bytes.len()) == Ok(length))
            && self.sha256.is_none_or(|sha256| Digest::of(bytes) == sha256)
            && self.sha512.is_none_or(|sha512| Sha512::digest(bytes)[..] == sha512)
    }
}

fn unhex_64(digits: &str) -> Option<[u8; 64]> {
    let (high, low) = digits.split_at_checked(64)?;
    let (high, low): (Digest, Digest) = (high.parse().ok()?, low.parse().ok()?);
    let mut bytes = [0; 64];
    let (first, second) = bytes.split_at_mut(32);
    first.copy_from_slice(high.as_bytes());
    second.copy_from_slice(low.as_bytes());
    Some(bytes)
}

/// A file that a role above names: its version, and its bytes where they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) version: u64,
    bytes: Bytes,
}

impl Listed {
    fn parse(entry: &Value) -> Option<Self> {
        let version = entry.get("version").and_then(Value::as_u64)?;
        Some(Self { version, bytes: Bytes::parse(entry)? })
    }

    /// Reads the file `text` for `role`: first its bytes are the listed ones, then `authority` signed
    /// it (sections 5.5 and 5.6). Its version is for [`Listed::current`] to compare.
    pub(crate) fn metadata(
        &self,
        text: &[u8],
        role: RoleName,
        authority: &Authority,
    ) -> Result<Metadata, VerifyError> {
        if !self.bytes.are(text) {
            return Err(VerifyError::Mixed { role });
        }
        let metadata = Metadata::parse(text, role)?;
        metadata.signed_by(authority)?;
        Ok(metadata)
    }

    /// Whether `metadata` is the listed version and has not expired.
    pub(crate) fn current(
        &self,
        metadata: &Metadata,
        role: RoleName,
        now: Option<&Instant>,
    ) -> Result<(), VerifyError> {
        if metadata.version != self.version {
            return Err(VerifyError::Mixed { role });
        }
        metadata.unexpired(now)
    }
}

/// `timestamp.json`: which snapshot is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) metadata: Metadata,
    pub(crate) snapshot: Listed,
}

impl Timestamp {
    pub(crate) fn parse(text: &[u8], root: &Root) -> Result<Self, VerifyError> {
        let metadata = Metadata::parse(text, RoleName::Timestamp)?;
        metadata.signed_by(&root.timestamp)?;
        let wrong = metadata.wrong("meta");
        let entry = metadata.field("meta")?.get("snapshot.json").ok_or(wrong)?;
        let snapshot = Listed::parse(entry).ok_or(wrong)?;
        Ok(Self { metadata, snapshot })
    }

    /// A field of the facility's own.
    pub(crate) fn extra(&self, field: &str) -> Option<&Value> {
        self.metadata.optional("x-cloister")?.get(field)
    }
}

/// `snapshot.json`: which targets files belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) metadata: Metadata,
    /// By file name, such as `targets.json`.
    pub(crate) files: BTreeMap<String, Listed>,
}

impl Snapshot {
    /// Reads a snapshot; `listed` may be absent for one that was trusted before.
    pub(crate) fn parse(
        text: &[u8],
        root: &Root,
        listed: Option<&Listed>,
    ) -> Result<Self, VerifyError> {
        let role = RoleName::Snapshot;
        let metadata = match listed {
            Some(listed) => listed.metadata(text, role, &root.snapshot)?,
            None => {
                let metadata = Metadata::parse(text, role)?;
                metadata.signed_by(&root.snapshot)?;
                metadata
            }
        };
        let wrong = metadata.wrong("meta");
        let files = metadata
            .field("meta")?
            .as_object()
            .filter(|files| files.len() <= FILES_MAX)
            .ok_or(wrong)?
            .iter()
            .map(|(name, entry)| Some((name.clone(), Listed::parse(entry)?)))
            .collect::<Option<_>>()
            .ok_or(wrong)?;
        Ok(Self { metadata, files })
    }

    /// What the snapshot says about a targets role.
    pub(crate) fn listed(&self, role: &str) -> Option<&Listed> {
        self.files.get(&format!("{role}.json"))
    }

    /// No file below may vanish or fall (section 5.5.5).
    pub(crate) fn not_before(&self, held: &Self) -> Result<(), VerifyError> {
        for (name, held) in &held.files {
            let role = if name == "targets.json" { RoleName::Targets } else { RoleName::Delegated };
            match self.files.get(name) {
                None => return Err(VerifyError::Removed { role }),
                Some(offered) if offered.version < held.version => {
                    let (offered, held) = (offered.version, held.version);
                    return Err(VerifyError::Stale { role, offered, held });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
