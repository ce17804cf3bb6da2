//! Targets and the delegations between them: which files may enter, and whose word counts for which.

use std::collections::{BTreeMap, BTreeSet};

use cloister_domain::Digest;
use serde_json::Value;

use super::{
    keys::{Algorithms, Authority, Keys, keys},
    metadata::{Metadata, persons},
    pattern::matches_path,
    roles::{Bytes, Listed},
    root::Root,
};
use crate::{Instant, RoleName, VerifyError};

/// Roles that one targets file may delegate to.
const DELEGATIONS_MAX: usize = 1024;
/// Path patterns of one role.
const PATTERNS_MAX: usize = 1024;
/// Files that one targets file may list.
const TARGETS_MAX: usize = 65_536;
/// The longest role name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The most bits of a succinct delegation's number (TAP 15).
const BITS_MAX: u64 = 32;

/// A listed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its length, in bytes.
    pub length: u64,
    /// Its SHA-256, where the list gives one.
    pub sha256: Option<Digest>,
    bytes: Bytes,
}

impl Target {
    fn parse(entry: &Value) -> Option<Self> {
        let bytes = Bytes::parse(entry)?;
        entry.get("hashes")?;
        Some(Self { length: bytes.length?, sha256: bytes.sha256, bytes })
    }

    /// The digits that stand before the file's name in a consistent snapshot (section 6.2).
    #[must_use]
    pub fn name_digest(&self) -> String {
        self.bytes.name_digest()
    }

    /// Whether these are the listed bytes: length, and every digest of a kind that is known.
    #[must_use]
    pub fn is(&self, bytes: &[u8]) -> bool {
        self.bytes.are(bytes)
    }
}

/// One targets file: `targets.json` or that of a delegated role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    pub(crate) metadata: Metadata,
    targets: BTreeMap<String, Target>,
    delegations: Vec<Delegation>,
    succinct: Option<Succinct>,
}

impl Targets {
    /// Reads the file `text` that a snapshot lists as `listed` and that `authority` must have signed.
    pub(crate) fn parse(
        text: &[u8],
        role: RoleName,
        trust: (&Root, &Authority, &dyn Algorithms),
        listed: &Listed,
        now: Option<&Instant>,
    ) -> Result<Self, VerifyError> {
        let (root, authority, algorithms) = trust;
        let metadata = listed.metadata(text, role, authority)?;
        listed.current(&metadata, role, now)?;
        let targets = metadata
            .field("targets")?
            .as_object()
            .filter(|targets| targets.len() <= TARGETS_MAX)
            .ok_or(metadata.wrong("targets"))?
            .iter()
            .map(|(path, entry)| Some((path.clone(), Target::parse(entry)?)))
            .collect::<Option<_>>()
            .ok_or(metadata.wrong("targets"))?;
        let mut read = Self { targets, delegations: Vec::new(), succinct: None, metadata };
        if let Some(value) = read.metadata.optional("delegations") {
            let wrong = read.metadata.wrong("delegations");
            let holders = match value.get("x-persons") {
                None => root.persons.clone(),
                // The root's word on who holds a key goes before the delegator's.
                Some(own) => root.persons.clone().or(persons(own).ok_or(wrong)?),
            };
            let keys = keys(value.get("keys").ok_or(wrong)?, &holders, algorithms, wrong)?;
            match (value.get("roles"), value.get("succinct_roles")) {
                (Some(roles), None) => read.delegations = delegations(roles, &keys, wrong)?,
                (None, Some(value)) => read.succinct = Some(Succinct::parse(value, &keys, wrong)?),
                _ => return Err(wrong),
            }
        }
        Ok(read)
    }

    /// The file that the list itself gives at `path`.
    #[must_use]
    pub fn target(&self, path: &str) -> Option<&Target> {
        self.targets.get(path)
    }

    /// The roles whose word counts for `path`, in the order in which they are asked; the search ends
    /// with the first terminating one (section 5.6.7.2).
    #[must_use]
    pub fn delegations(&self, path: &str) -> Vec<Delegation> {
        let mut covering: Vec<Delegation> =
            self.succinct.iter().map(|succinct| succinct.delegation(path)).collect();
        for delegation in self.delegations.iter().filter(|delegation| delegation.covers(path)) {
            covering.push(delegation.clone());
            if delegation.terminating {
                break;
            }
        }
        covering
    }

    /// Everybody whom the file delegates to, for whatever paths.
    pub(crate) fn publishers(&self) -> impl Iterator<Item = &Authority> {
        let bins = self.succinct.iter().map(|succinct| &succinct.authority);
        self.delegations.iter().map(|delegation| &delegation.authority).chain(bins)
    }

    /// A field of the facility's own.
    pub(crate) fn extra(&self, field: &str) -> Option<&Value> {
        self.metadata.optional("x-cloister")?.get(field)
    }
}

/// A role that another delegates to: whose keys, for which paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    name: String,
    pub(crate) authority: Authority,
    terminating: bool,
    scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Patterns(Vec<String>),
    /// Beginnings of the SHA-256 of a path, in hexadecimal.
    Prefixes(Vec<String>),
    /// The one who delegates has chosen the role by the path already.
    Chosen,
}

impl Delegation {
    fn parse(value: &Value, keys: &Keys, wrong: VerifyError) -> Result<Self, VerifyError> {
        let name = value.get("name").and_then(Value::as_str).ok_or(wrong)?;
        if !may_be_called(name) {
            return Err(wrong);
        }
        let list = |field: &str| -> Result<Option<Vec<String>>, VerifyError> {
            let Some(list) = value.get(field) else { return Ok(None) };
            let list = list.as_array().filter(|list| list.len() <= PATTERNS_MAX).ok_or(wrong)?;
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().map(Some).ok_or(wrong)
        };
        let scope = match (list("paths")?, list("path_hash_prefixes")?) {
            (Some(patterns), None) => Scope::Patterns(patterns),
            (None, Some(prefixes)) => Scope::Prefixes(prefixes),
            _ => return Err(wrong),
        };
        let terminating = value.get("terminating").and_then(Value::as_bool).ok_or(wrong)?;
        let authority = Authority::parse(value, keys, RoleName::Publisher)?;
        Ok(Self { name: name.to_owned(), authority, terminating, scope })
    }

    /// The role's name, as its file is called (section 4.5). Whoever wrote the file chose it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the search for a path that the role covers ends with it and those below it.
    #[must_use]
    pub const fn terminating(&self) -> bool {
        self.terminating
    }

    fn covers(&self, path: &str) -> bool {
        match &self.scope {
            Scope::Patterns(patterns) => patterns.iter().any(|pattern| matches_path(pattern, path)),
            Scope::Prefixes(prefixes) => {
                let digits = Digest::of(path.as_bytes()).to_string();
                prefixes.iter().any(|prefix| digits.starts_with(prefix.as_str()))
            }
            Scope::Chosen => true,
        }
    }
}

fn delegations(
    roles: &Value,
    keys: &Keys,
    wrong: VerifyError,
) -> Result<Vec<Delegation>, VerifyError> {
    let roles = roles.as_array().filter(|roles| roles.len() <= DELEGATIONS_MAX).ok_or(wrong)?;
    let mut names = BTreeSet::new();
    let mut delegations = Vec::with_capacity(roles.len());
    for role in roles {
        let delegation = Delegation::parse(role, keys, wrong)?;
        if !names.insert(delegation.name.clone()) {
            return Err(wrong);
        }
        delegations.push(delegation);
    }
    Ok(delegations)
}

/// A delegated role has a name, and not that of one of the four.
fn may_be_called(name: &str) -> bool {
    let taken = [RoleName::Root, RoleName::Timestamp, RoleName::Snapshot, RoleName::Targets];
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !taken.iter().any(|role| role.name() == name)
}

/// Delegation to bins that are numbered by the first bits of a path's SHA-256 (TAP 15).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Succinct {
    authority: Authority,
    bits: u32,
    prefix: String,
}

impl Succinct {
    fn parse(value: &Value, keys: &Keys, wrong: VerifyError) -> Result<Self, VerifyError> {
        let bits = value.get("bit_length").and_then(Value::as_u64);
        let bits = bits.filter(|bits| (1..=BITS_MAX).contains(bits)).ok_or(wrong)?;
        let prefix = value.get("name_prefix").and_then(Value::as_str);
        let prefix = prefix.filter(|prefix| may_be_called(prefix)).ok_or(wrong)?.to_owned();
        let authority = Authority::parse(value, keys, RoleName::Publisher)?;
        Ok(Self { authority, bits: u32::try_from(bits).map_err(|_cause| wrong)?, prefix })
    }

    /// The one bin that covers a path.
    fn delegation(&self, path: &str) -> Delegation {
        let digest = Digest::of(path.as_bytes());
        let first = digest.as_bytes().first_chunk::<4>().expect("32 bytes hold 4");
        let bin = u32::from_be_bytes(*first).unbounded_shr(u32::BITS.saturating_sub(self.bits));
        // As many digits as the last bin's number has.
        let last = u32::MAX.unbounded_shr(u32::BITS.saturating_sub(self.bits));
        let digits = format!("{last:x}").len();
        Delegation {
            name: format!("{}-{bin:0digits$x}", self.prefix),
            authority: self.authority.clone(),
            terminating: true,
            scope: Scope::Chosen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_numbered_as_in_the_proposal() {
        let wrong = VerifyError::Field { role: RoleName::Targets, field: "delegations" };
        let value = |bits: u64| serde_json::json!({"keyids": [], "threshold": 1, "bit_length": bits, "name_prefix": "bin"});
        let name = |bits: u64| {
            let bins = Succinct::parse(&value(bits), &Keys::new(), wrong).expect("good");
            bins.delegation("a").name
        };
        // sha256("a") begins with ca978112.
        assert_eq!(name(1), "bin-1");
        assert_eq!(name(3), "bin-6");
        assert_eq!(name(5), "bin-19");
        assert_eq!(name(8), "bin-ca");
        assert_eq!(name(32), "bin-ca978112");
        for bits in [0, 33, 1 << 40] {
            assert_eq!(Succinct::parse(&value(bits), &Keys::new(), wrong), Err(wrong));
        }
    }
}
