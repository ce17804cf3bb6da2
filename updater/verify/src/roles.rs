//! The importer's three files, and the publishers that they delegate to.

use std::collections::BTreeMap;

use cloister_domain::Digest;
use serde_json::Value;

use crate::{
    Instant, RoleName, VerifyError,
    metadata::{Authority, Metadata, keys},
    root::Root,
};

/// Publishers that one targets file may delegate to.
const PUBLISHERS_MAX: usize = 64;
/// Path patterns of one publisher.
const PATTERNS_MAX: usize = 64;
/// Releases that one targets file may list.
const TARGETS_MAX: usize = 65_536;

/// A file that a role above names: its version, and its bytes where they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) version: u64,
    length: Option<u64>,
    sha256: Option<Digest>,
}

impl Listed {
    /// Reads the entry of `file` under `meta`.
    fn parse(metadata: &Metadata, file: &str) -> Result<Self, VerifyError> {
        let wrong = metadata.wrong("meta");
        let entry = metadata.field("meta")?.get(file).ok_or(wrong)?;
        let version = entry.get("version").and_then(Value::as_u64).ok_or(wrong)?;
        let length = entry.get("length").map(|length| length.as_u64().ok_or(wrong)).transpose()?;
        let sha256 = entry.get("hashes").map(|hashes| sha256(hashes).ok_or(wrong)).transpose()?;
        Ok(Self { version, length, sha256 })
    }

    /// Reads the file `text` for `role`: first its bytes are the listed ones, then `authority` signed
    /// it, its version is the listed one, and it has not expired (sections 5.5 and 5.6).
    fn metadata(
        &self,
        text: &[u8],
        role: RoleName,
        authority: &Authority,
        floor: Option<&Instant>,
    ) -> Result<Metadata, VerifyError> {
        self.check(text, role)?;
        let metadata = Metadata::parse(text, role)?;
        metadata.signed_by(authority)?;
        if metadata.version != self.version {
            return Err(VerifyError::Mixed { role });
        }
        metadata.unexpired(floor)?;
        Ok(metadata)
    }

    /// Whether `text` may be the file, before anything in it is read (section 5.5.2, 5.6.2).
    fn check(&self, text: &[u8], role: RoleName) -> Result<(), VerifyError> {
        let long = self.length.is_some_and(|length| u64::try_from(text.len()) != Ok(length));
        let other = self.sha256.is_some_and(|sha256| Digest::of(text) != sha256);
        if long || other { Err(VerifyError::Mixed { role }) } else { Ok(()) }
    }
}

fn sha256(hashes: &Value) -> Option<Digest> {
    hashes.get("sha256")?.as_str()?.parse().ok()
}

/// `timestamp.json`: which snapshot is current.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) version: u64,
    pub(crate) snapshot: Listed,
}

impl Timestamp {
    pub(crate) fn parse(
        text: &[u8],
        root: &Root,
        floor: Option<&Instant>,
    ) -> Result<Self, VerifyError> {
        let metadata = Metadata::parse(text, RoleName::Timestamp)?;
        metadata.signed_by(&root.timestamp)?;
        metadata.unexpired(floor)?;
        let snapshot = Listed::parse(&metadata, "snapshot.json")?;
        Ok(Self { version: metadata.version, snapshot })
    }
}

/// `snapshot.json`: which targets file belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    pub(crate) targets: Listed,
}

impl Snapshot {
    pub(crate) fn parse(
        text: &[u8],
        root: &Root,
        listed: &Listed,
        floor: Option<&Instant>,
    ) -> Result<Self, VerifyError> {
        let metadata = listed.metadata(text, RoleName::Snapshot, &root.snapshot, floor)?;
        let targets = Listed::parse(&metadata, "targets.json")?;
        Ok(Self { version: metadata.version, targets })
    }
}

/// A publisher: whose keys, for which paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publisher {
    pub(crate) authority: Authority,
    patterns: Vec<String>,
}

/// A listed manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) length: u64,
    pub(crate) sha256: Digest,
}

/// `targets.json`: which manifests may enter, and who may make them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    pub(crate) version: u64,
    pub(crate) targets: BTreeMap<String, Target>,
    publishers: Vec<Publisher>,
}

impl Targets {
    pub(crate) fn parse(
        text: &[u8],
        root: &Root,
        listed: &Listed,
        floor: Option<&Instant>,
    ) -> Result<Self, VerifyError> {
        let metadata = listed.metadata(text, RoleName::Targets, &root.targets, floor)?;
        let targets = metadata
            .field("targets")?
            .as_object()
            .filter(|targets| targets.len() <= TARGETS_MAX)
            .ok_or(metadata.wrong("targets"))?
            .iter()
            .map(|(path, entry)| {
                let length = entry.get("length").and_then(Value::as_u64);
                let sha256 = entry.get("hashes").and_then(sha256);
                let target = length.zip(sha256).map(|(length, sha256)| Target { length, sha256 });
                Ok((path.clone(), target.ok_or(metadata.wrong("targets"))?))
            })
            .collect::<Result<_, VerifyError>>()?;
        let publishers = match metadata.optional("delegations") {
            None => Vec::new(),
            Some(delegations) => publishers(delegations, root, &metadata)?,
        };
        Ok(Self { version: metadata.version, targets, publishers })
    }

    /// The first publisher whose paths cover `path`: delegations are terminating, so no later one
    /// is asked (section 5.6.7).
    pub(crate) fn publisher(&self, path: &str) -> Option<&Publisher> {
        let covers = |publisher: &&Publisher| {
            publisher.patterns.iter().any(|pattern| matches_path(pattern, path))
        };
        self.publishers.iter().find(covers)
    }
}

fn publishers(
    delegations: &Value,
    root: &Root,
    metadata: &Metadata,
) -> Result<Vec<Publisher>, VerifyError> {
    let wrong = metadata.wrong("delegations");
    let keys = keys(delegations.get("keys").ok_or(wrong)?, &root.persons, wrong)?;
    let roles = delegations
        .get("roles")
        .and_then(Value::as_array)
        .filter(|roles| roles.len() <= PUBLISHERS_MAX)
        .ok_or(wrong)?;
    let mut publishers = Vec::with_capacity(roles.len());
    for role in roles {
        let terminating = role.get("terminating").and_then(Value::as_bool) == Some(true);
        let patterns: Option<Vec<String>> = role
            .get("paths")
            .and_then(Value::as_array)
            .filter(|paths| (1..=PATTERNS_MAX).contains(&paths.len()))
            .and_then(|paths| paths.iter().map(|path| path.as_str().map(str::to_owned)).collect());
        let (true, Some(patterns)) = (terminating, patterns) else { return Err(wrong) };
        let authority = Authority::parse(role, &keys, RoleName::Publisher)?;
        // Who makes a release neither lets it in nor approves it.
        let own = authority.keys();
        if !own.is_disjoint(&root.targets.keys()) || !own.is_disjoint(&root.approvers.keys()) {
            return Err(VerifyError::SharedKey);
        }
        publishers.push(Publisher { authority, patterns });
    }
    Ok(publishers)
}

/// TUF's path patterns: `*` and `?` match within one component, components must be as many.
fn matches_path(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if matches_part(pattern.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Greedy with one point to return to, so it takes at most the product of the lengths.
fn matches_part(mut pattern: &[u8], mut part: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), part.split_first()) {
            (Some((b'*', rest)), _) => {
                retry = Some((rest, part));
                pattern = rest;
            }
            (Some((want, rest)), Some((have, tail))) if want == have || *want == b'?' => {
                (pattern, part) = (rest, tail);
            }
            (None, None) => return true,
            _ => {
                let Some((after_star, from)) = retry else { return false };
                let Some((_, tail)) = from.split_first() else { return false };
                retry = Some((after_star, tail));
                (pattern, part) = (after_star, tail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_within_its_component() {
        for (pattern, path, expected) in [
            ("demo/*", "demo/1.0.0.json", true),
            ("demo/*", "demo/a/b.json", false),
            ("demo/*", "demo", false),
            ("demo/*", "other/1.json", false),
            ("*/*", "demo/1.json", true),
            ("d?mo/1.*.json", "demo/1.2.3.json", true),
            ("d?mo/1.*.json", "demo/2.json", false),
            ("*a*a*a*b", &"a".repeat(2000), false),
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
        ] {
            assert_eq!(matches_path(pattern, path), expected, "{pattern}");
        }
    }
}
