//! What the importer takes back, and whether there is anything that could be meant: a list is signed for
//! good, so a slip of the pen is refused before.

use std::fmt;

use anyhow::{Result, bail, ensure};
use cloister_attest::{AnyKey, json::INTEGER_MAX};
use cloister_bundle::is_release_name;
use cloister_domain::GenerationId;
use serde_json::Value;

use crate::{error::MintError, keys::Holder};

/// The roles of a root, and what a message calls them.
const ROLES: [(&str, &str); 4] = [
    ("root", "officer"),
    ("targets", "importer"),
    ("snapshot", "station"),
    ("timestamp", "station"),
];

/// What is taken back.
#[derive(Clone, Debug)]
pub enum Revocation {
    /// One release.
    Bundle(GenerationId),
    /// All releases of a name below a counter.
    Below {
        /// The name.
        name: String,
        /// The least counter that stays valid.
        counter: u64,
    },
    /// A publisher's key, with everything that hangs on it.
    Key {
        /// The publisher and the key.
        holder: Box<Holder>,
        /// Whether it may be one that neither the list nor a root names any more.
        former: bool,
    },
}

impl Revocation {
    /// Adds it to the `targets`; `roots` are the signed parts of all roots, the newest last.
    pub(super) fn add(&self, targets: &mut Value, roots: &[Value]) -> Result<()> {
        match self {
            Self::Bundle(generation) => {
                let revoked = &mut targets["x-cloister"]["revoked"];
                let mut bundles = revoked["bundles"].as_array().cloned().unwrap_or_default();
                let generation = Value::from(generation.0.to_string());
                if !bundles.contains(&generation) {
                    bundles.push(generation);
                }
                revoked["bundles"] = bundles.into();
            }
            Self::Below { name, counter } => {
                ensure!(is_release_name(name), MintError::RevokedName);
                ensure!((1..=INTEGER_MAX).contains(counter), MintError::RevokedCounter);
                let revoked = &mut targets["x-cloister"]["revoked"];
                let least = revoked["releases"][name].as_u64().unwrap_or(0);
                revoked["releases"][name] = least.max(*counter).into();
            }
            Self::Key { holder, former } => {
                check_publisher(holder, *former, targets, roots)?;
                let revoked = &mut targets["x-cloister"]["revoked"];
                revoked["keys"][holder.key.key_id()] = holder.key.to_object();
            }
        }
        Ok(())
    }
}

/// In words, for the line that says that it was done.
impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bundle(generation) => write!(f, "the release {generation}"),
            Self::Below { name, counter } => {
                write!(f, "every release of {name} with a number below {counter}")
            }
            Self::Key { holder, .. } => {
                write!(f, "the key {} of {}", holder.key.key_id(), holder.person)
            }
        }
    }
}

/// Refuses a key that is not, or was not, that publisher's.
fn check_publisher(holder: &Holder, former: bool, targets: &Value, roots: &[Value]) -> Result<()> {
    let Holder { person, key } = holder;
    let person = person.as_str();
    let delegations = &targets["delegations"];
    let root = roots.last().unwrap_or(&Value::Null);
    // The root's word on who holds a key goes before the list's.
    let mut ids = ids_of(key, &delegations["keys"]).peekable();
    if ids.peek().is_some() {
        let persons = [&root["x-cloister"]["persons"], &delegations["x-persons"]];
        let same = ids.all(|id| {
            let named = persons.iter().find_map(|persons| persons[id].as_str());
            named.is_none_or(|named| named == person)
        });
        ensure!(same, MintError::RevokedPerson { person: person.to_owned() });
        return Ok(());
    }
    let mut known = ids_of(key, &targets["x-cloister"]["revoked"]["keys"]).next().is_some();
    for root in roots {
        for id in ids_of(key, &root["keys"]) {
            if let Some(role) = role_of(id, root) {
                bail!(MintError::RevokedRole { role });
            }
            let same = root["x-cloister"]["persons"][id].as_str().is_none_or(|one| one == person);
            ensure!(same, MintError::RevokedPerson { person: person.to_owned() });
            known = true;
        }
    }
    ensure!(known || former, MintError::RevokedUnknown { person: person.to_owned() });
    Ok(())
}

/// The ids under which `keys` holds this key: whoever wrote them chose them (TAP 12).
fn ids_of<'v>(key: &AnyKey, keys: &'v Value) -> impl Iterator<Item = &'v str> {
    let bytes = key.to_object()["keyval"].take();
    let same = move |(_, object): &(&String, &Value)| object["keyval"] == bytes;
    keys.as_object().into_iter().flatten().filter(same).map(|(id, _)| id.as_str())
}

/// The role that a key holds in a root, if it holds one.
fn role_of(id: &str, root: &Value) -> Option<&'static str> {
    let holds =
        |role: &Value| role["keyids"].as_array().is_some_and(|ids| ids.contains(&id.into()));
    let role = ROLES.iter().find(|(name, _)| holds(&root["roles"][*name]));
    let role = role.map(|(_, word)| *word);
    role.or_else(|| holds(&root["x-cloister"]["approvers"]).then_some("approver"))
}
