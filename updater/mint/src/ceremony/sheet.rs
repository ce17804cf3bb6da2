//! A root as its officers see it: all that it says, with every key in full.
//!
//! A root is read into what can be shown and written anew from that. One that differs from its copy
//! holds something that nobody would see, and is refused: nobody signs what was not shown.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result, ensure};
use cloister_attest::{Algorithm, AnyKey, AttestError, json};
use cloister_domain::{Digest, Principal, printable};
use cloister_verify::{Instant, InstantError};
use serde_json::{Map, Value, json};

use crate::{error::MintError, keys::Holder};

/// TUF's own roles, in the order in which they are shown.
const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];
/// Digits of a long public key that are shown; its id stands for all of them.
const LONG_KEY_DIGITS: usize = 32;
/// Characters that are shown of each word by which a foreign key says what it is.
const FOREIGN_WORD_CHARS: usize = 32;

/// Everything that a root says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sheet {
    /// The version; from 1.
    pub(super) version: u64,
    spec_version: String,
    expires: Instant,
    issued: Option<Instant>,
    consistent_snapshot: Option<bool>,
    /// By the id that was computed from the key.
    keys: BTreeMap<String, Key>,
    persons: Option<BTreeMap<String, Principal>>,
    roles: BTreeMap<String, Role>,
    approvers: Option<Role>,
}

/// A key that a root holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// One whose signatures count.
    Counted(AnyKey),
    /// One of a kind that no appliance counts, such as RSA, as the root writes it.
    Foreign(Value),
}

/// Who speaks for a role, as the root writes it.
#[derive(Clone, Debug, PartialEq)]
struct Role {
    keyids: Vec<String>,
    threshold: u64,
    /// Algorithms of which each person must bring a signature.
    demanded: Vec<Algorithm>,
}

impl Sheet {
    /// Reads the signed part of a root.
    ///
    /// # Errors
    /// When something in it is not understood, a key stands under an id that is not its own, or the
    /// stated time is not before the end of the root.
    pub(super) fn of(signed: &Value) -> Result<Self> {
        ensure!(signed["_type"] == "root", form("its type is not root"));
        let text = |field: &str, what| signed[field].as_str().ok_or(form(what));
        let extra = &signed["x-cloister"];
        let issued = match &extra["issued"] {
            Value::Null => None,
            issued => {
                Some(issued.as_str().ok_or(form("its time is no text"))?.parse().map_err(no_time)?)
            }
        };
        let roles = ROLES.map(|name| Ok((name.to_owned(), Role::of(&signed["roles"][name])?)));
        let approvers = &extra["approvers"];
        let sheet = Self {
            version: signed["version"].as_u64().ok_or(form("it has no version"))?,
            spec_version: text("spec_version", "it has no spec_version")?.to_owned(),
            expires: text("expires", "it has no expires")?.parse().map_err(no_time)?,
            issued,
            consistent_snapshot: signed["consistent_snapshot"].as_bool(),
            keys: keys(&signed["keys"])?,
            persons: persons(&extra["persons"])?,
            roles: roles.into_iter().collect::<Result<_>>()?,
            approvers: (!approvers.is_null()).then(|| Role::of(approvers)).transpose()?,
        };
        ensure!(sheet.written() == *signed, MintError::RootUnshown);
        let mut named = sheet.roles.values().chain(&sheet.approvers).flat_map(|role| &role.keyids);
        ensure!(named.all(|id| sheet.keys.contains_key(id)), MintError::RootRole);
        ensure!(
            sheet.issued.as_ref().is_none_or(|issued| *issued < sheet.expires),
            MintError::RootTime
        );
        Ok(sheet)
    }

    /// The signed part of a root that says this and nothing else.
    fn written(&self) -> Value {
        let keys: Map<String, Value> =
            self.keys.iter().map(|(id, key)| (id.clone(), key.written())).collect();
        let roles: Map<String, Value> =
            self.roles.iter().map(|(name, role)| (name.clone(), role.written())).collect();
        let mut extra = Map::new();
        if let Some(issued) = &self.issued {
            extra.insert("issued".to_owned(), String::from(issued.clone()).into());
        }
        if let Some(persons) = &self.persons {
            let persons: Map<String, Value> =
                persons.iter().map(|(id, name)| (id.clone(), name.as_str().into())).collect();
            extra.insert("persons".to_owned(), persons.into());
        }
        if let Some(approvers) = &self.approvers {
            extra.insert("approvers".to_owned(), approvers.written());
        }
        let mut root = json!({
            "_type": "root", "expires": String::from(self.expires.clone()), "keys": keys,
            "roles": roles, "spec_version": self.spec_version, "version": self.version,
        });
        if let Some(consistent) = self.consistent_snapshot {
            root["consistent_snapshot"] = consistent.into();
        }
        if !extra.is_empty() {
            root["x-cloister"] = extra.into();
        }
        root
    }

    /// All of it, for people.
    ///
    /// # Errors
    /// None; text can always be written.
    pub(super) fn describe(&self, out: &mut String) -> Result<()> {
        let (expires, spec) = (String::from(self.expires.clone()), self.spec_version.as_bytes());
        writeln!(out, "root        version {}, expires {expires}", self.version)?;
        writeln!(out, "form        TUF {}", printable(spec))?;
        if self.consistent_snapshot == Some(true) {
            writeln!(out, "files       are called by their version (consistent_snapshot)")?;
        }
        if let Some(issued) = &self.issued {
            writeln!(out, "time        at least {}", String::from(issued.clone()))?;
        }
        for name in ROLES {
            if let Some(role) = self.roles.get(name) {
                self.describe_role(name, role, out)?;
            }
        }
        match &self.approvers {
            Some(role) => self.describe_role("approvers", role, out)?,
            None => writeln!(out, "approvers   nobody, so nothing can be approved")?,
        }
        self.describe_rest(out)
    }

    fn describe_role(&self, name: &str, role: &Role, out: &mut String) -> Result<()> {
        write!(out, "{name:<11} {} of", role.threshold)?;
        if !role.demanded.is_empty() {
            let words: Vec<&str> = role.demanded.iter().map(|algorithm| algorithm.word()).collect();
            write!(out, ", each with {}", words.join(" and "))?;
        }
        writeln!(out)?;
        role.keyids.iter().try_for_each(|id| self.describe_key(id, out))
    }

    /// Keys and names that belong to no role.
    fn describe_rest(&self, out: &mut String) -> Result<()> {
        let roles = self.roles.values().chain(&self.approvers);
        let held: Vec<&String> = roles.flat_map(|role| &role.keyids).collect();
        let names = self.persons.iter().flat_map(BTreeMap::keys);
        let all: std::collections::BTreeSet<&String> = self.keys.keys().chain(names).collect();
        let rest: Vec<&String> = all.into_iter().filter(|id| !held.contains(id)).collect();
        if rest.is_empty() {
            return Ok(());
        }
        writeln!(out, "by name     without a role here, such as publishers")?;
        rest.into_iter().try_for_each(|id| self.describe_key(id, out))
    }

    fn describe_key(&self, id: &str, out: &mut String) -> Result<()> {
        let person = self.person(id);
        match self.keys.get(id) {
            Some(Key::Counted(key)) => writeln!(out, "            {person}={}", public(key))?,
            Some(key) => writeln!(
                out,
                "            {person}, whose key this product does not count ({})",
                key.kind()
            )?,
            None => writeln!(out, "            {person}, whose key does not stand here")?,
        }
        writeln!(out, "              id {}", printable(id.as_bytes()))?;
        Ok(())
    }

    fn person(&self, id: &str) -> &str {
        let persons = self.persons.as_ref();
        persons.and_then(|persons| persons.get(id)).map_or("nobody", Principal::as_str)
    }

    /// Whether a key signs roots.
    pub(super) fn is_officer(&self, id: &str) -> bool {
        self.roles.get("root").is_some_and(|role| role.keyids.iter().any(|officer| officer == id))
    }

    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// An officer's key in one line: its holder, its kind, and the first digits of its id.
    pub(super) fn named(&self, id: &str) -> String {
        let kind = self.key(id).map_or_else(|| "unknown".to_owned(), Key::kind);
        let short: String = id.chars().take(16).collect();
        format!("{} ({kind}, {})", self.person(id), printable(short.as_bytes()))
    }
}

impl Key {
    /// Reads a key object as the verifier does: a kind that it does not know is passed over, one that
    /// it knows is whole or refused.
    fn of(object: &Value) -> Result<Self> {
        match AnyKey::from_object(object) {
            Ok(key) => Ok(Self::Counted(key)),
            Err(AttestError::KeyScheme) if object["keytype"].is_string() => {
                Ok(Self::Foreign(object.clone()))
            }
            Err(cause) => Err(cause).context("it holds a key that is not understood"),
        }
    }

    /// The object that stands in the root.
    fn written(&self) -> Value {
        match self {
            Self::Counted(key) => key.to_object(),
            Self::Foreign(object) => object.clone(),
        }
    }

    /// What it is, for people.
    fn kind(&self) -> String {
        match self {
            Self::Counted(key) => key.algorithm().word().to_owned(),
            Self::Foreign(object) => {
                let word = |field: &str| -> String {
                    let text = object[field].as_str().unwrap_or_default();
                    printable(text.as_bytes()).chars().take(FOREIGN_WORD_CHARS).collect()
                };
                format!("{} {}", word("keytype"), word("scheme")).trim_end().to_owned()
            }
        }
    }

    /// What signatures call it: SHA-256 of its object.
    fn id(&self) -> Result<String> {
        Ok(Digest::of(&json::canonical_tuf(&self.written())?).to_string())
    }
}

impl Role {
    fn of(value: &Value) -> Result<Self> {
        let texts = |field: &str| -> Option<Vec<&str>> {
            value[field].as_array()?.iter().map(Value::as_str).collect()
        };
        let keyids = texts("keyids").ok_or(form("a role has no key ids"))?;
        let demanded = match &value["x-algorithms"] {
            Value::Null => Vec::new(),
            _ => texts("x-algorithms").ok_or(form("a role demands what is no list"))?,
        };
        let demanded = demanded.into_iter().map(Algorithm::of_word).collect::<Option<_>>();
        Ok(Self {
            keyids: keyids.into_iter().map(str::to_owned).collect(),
            threshold: value["threshold"].as_u64().ok_or(form("a role has no threshold"))?,
            demanded: demanded.ok_or(form("a role demands an algorithm that is not known"))?,
        })
    }

    fn written(&self) -> Value {
        let mut role = json!({"keyids": self.keyids, "threshold": self.threshold});
        if !self.demanded.is_empty() {
            role["x-algorithms"] = self.demanded.iter().map(|algorithm| algorithm.word()).collect();
        }
        role
    }
}

const fn form(what: &'static str) -> MintError {
    MintError::RootForm { what }
}

fn no_time(_text: InstantError) -> MintError {
    form("a time is not written like 2030-01-31T00:00:00Z")
}

fn keys(value: &Value) -> Result<BTreeMap<String, Key>> {
    let mut keys = BTreeMap::new();
    for (id, object) in value.as_object().ok_or(form("it has no keys"))? {
        let key = Key::of(object)?;
        // Whoever wrote the draft could call a key of their own by the id of somebody else's.
        ensure!(key.id()? == *id, MintError::RootKeyId);
        keys.insert(id.clone(), key);
    }
    Ok(keys)
}

fn persons(value: &Value) -> Result<Option<BTreeMap<String, Principal>>> {
    if value.is_null() {
        return Ok(None);
    }
    let mut persons = BTreeMap::new();
    let names = value.as_object().ok_or(form("it names persons in no known way"))?;
    for (id, name) in names {
        let name = name.as_str().and_then(|name| name.parse().ok());
        persons.insert(id.clone(), name.ok_or(form("a person's name is none"))?);
    }
    Ok(Some(persons))
}

/// A public key as its holder's `.pub` line has it; of a long one the first digits.
fn public(key: &AnyKey) -> String {
    let digits = key.to_hex();
    if key.algorithm() == Algorithm::Ed25519 {
        return digits;
    }
    let (start, _) = digits.split_at_checked(LONG_KEY_DIGITS).unwrap_or((&digits, ""));
    format!("{}:{start}…", key.algorithm())
}

/// A holder's key as [`Sheet::describe`] shows it, for the holder to compare.
pub(crate) fn compared(holder: &Holder) -> String {
    format!("{}={}\n  id {}", holder.person, public(&holder.key), holder.key.key_id())
}
