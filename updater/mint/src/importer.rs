//! What the importer does in the trust folder: lets publishers make releases, lists releases, takes
//! them back, and numbers the sticks.
//!
//! Who signs which file follows from the newest root: of the keys at hand those that hold the role.
//! The importers may so keep their keys apart from the station that writes sticks, whose keys hold
//! snapshot and timestamp only. What an act does not change keeps its bytes, so doing the same twice
//! changes nothing. Nothing is written that an appliance would not trust.

mod revoke;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::{Algorithm, Signer, SigningKey, json};
use cloister_domain::{Digest, Principal, Secret, counted};
use cloister_verify::{Instant, TrustState, VerifyError, enrol, target_path};
use serde_json::{Map, Value, json};

use crate::{
    error::MintError,
    files::{self, Pending},
    keys::Holder,
    trust::{Folder, SPEC_VERSION, demand, key_ids, pack, signed},
};

pub use revoke::Revocation;

/// The keys at hand, and what new files state.
#[derive(Clone, Debug)]
pub struct Importer<'a, S> {
    /// The keys: importers' and stations'.
    pub signers: &'a [S],
    /// When new files expire.
    pub expires: &'a str,
    /// The time by the connected side, which the next timestamp states; none states the last one.
    pub issued: Option<Instant>,
}

impl<'a, S: Signer> Importer<'a, S> {
    /// Signs with `signers`; new files expire at `expires` and state no other time than before.
    #[must_use]
    pub const fn new(signers: &'a [S], expires: &'a str) -> Self {
        Self { signers, expires, issued: None }
    }
}

/// Who may make which releases.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The role's name; a role of that name is replaced.
    pub name: String,
    /// Who signs releases.
    pub publishers: Vec<Holder>,
    /// How many of them must.
    pub threshold: u64,
    /// The releases, such as `cloister-demo/*`.
    pub paths: Vec<String>,
    /// Algorithms of which each publisher must bring a signature; any one will do if there are none.
    pub algorithms: Vec<Algorithm>,
}

/// What came of an act on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The version of the list now.
    pub version: u64,
    /// Whether it is a new one; a list that said so already stays.
    pub changed: bool,
}

/// What the metadata of a stick states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stick {
    /// Its number.
    pub number: u64,
    /// The time, if any is stated.
    pub issued: Option<Instant>,
}

/// The three files of the importer.
type Files = BTreeMap<String, Vec<u8>>;

impl Folder {
    /// Lets publishers make releases.
    ///
    /// # Errors
    /// When the files cannot be read or written, or the result would not be trusted.
    pub fn delegate<S: Signer>(
        &self,
        delegation: &Delegation,
        importer: &Importer<'_, S>,
    ) -> Result<Listed> {
        let Delegation { name, publishers, threshold, paths, algorithms } = delegation;
        let persons: BTreeSet<&Principal> = publishers.iter().map(|one| &one.person).collect();
        ensure!(
            (1..=persons.len() as u64).contains(threshold),
            MintError::Threshold {
                threshold: *threshold,
                publishers: counted(persons.len() as u64, "publisher").to_string(),
            }
        );
        ensure!(paths.iter().all(|path| may_cover(path)), MintError::Pattern);
        let mut targets = self.targets()?;
        let mut role = json!({
            "keyids": key_ids(publishers), "name": name, "paths": paths, "terminating": true,
            "threshold": threshold,
        });
        demand(&mut role, algorithms);
        let delegations = &mut targets["delegations"];
        for holder in publishers {
            let id = holder.key.key_id();
            // Without the name each key of a person would count as a person.
            delegations["x-persons"][&id] = holder.person.as_str().into();
            delegations["keys"][id] = holder.key.to_object();
        }
        let roles = delegations["roles"].as_array_mut().ok_or(lacks("roles"))?;
        roles.retain(|role| role["name"] != *name);
        roles.push(role);
        let named: Vec<String> = roles
            .iter()
            .filter_map(|role| role["keyids"].as_array())
            .flatten()
            .filter_map(|keyid| keyid.as_str().map(str::to_owned))
            .collect();
        let keys = delegations["keys"].as_object_mut().ok_or(lacks("keys"))?;
        keys.retain(|keyid, _| named.contains(keyid));
        if let Some(persons) = delegations.get_mut("x-persons").and_then(Value::as_object_mut) {
            persons.retain(|keyid, _| named.contains(keyid));
        }
        self.publish(targets, importer, None)
    }

    /// Lists a release, so that it may enter.
    ///
    /// # Errors
    /// When the files cannot be read or written, or the release would not be trusted.
    pub fn admit<S: Signer>(&self, envelope: &[u8], importer: &Importer<'_, S>) -> Result<Listed> {
        let manifest = crate::volume::manifest(envelope)?;
        let release = manifest.release();
        let mut targets = self.targets()?;
        let entry = json!({
            "hashes": {"sha256": Digest::of(envelope).to_string()}, "length": envelope.len(),
        });
        targets["targets"][target_path(&release.name, &release.version)] = entry;
        self.publish(targets, importer, Some(envelope))
    }

    /// Takes something back: what is named neither enters an enclave nor is activated there again,
    /// once a stick with the new metadata was read.
    ///
    /// # Errors
    /// When the files cannot be read or written, or the result would not be trusted.
    pub fn revoke<S: Signer>(
        &self,
        revocations: &[Revocation],
        importer: &Importer<'_, S>,
    ) -> Result<Listed> {
        let mut targets = self.targets()?;
        let roots = (1..=self.root_version()).map(|version| {
            let name = format!("{version}.root.json");
            let text = self.file(&name)?.ok_or_else(|| self.no_root())?;
            self.part(&name, &text)
        });
        let roots = roots.collect::<Result<Vec<_>>>()?;
        revocations.iter().try_for_each(|revocation| revocation.add(&mut targets, &roots))?;
        self.publish(targets, importer, None)
    }

    /// Makes the metadata of the next stick: a new timestamp with the stick's number and the time,
    /// above the newest targets.
    ///
    /// # Errors
    /// When there are no targets yet, or the result would not be trusted.
    pub fn stamp<S: Signer>(&self, importer: &Importer<'_, S>) -> Result<Stick> {
        let Some(targets) = self.file("targets.json")? else {
            // Whoever mistyped the folder has no root there either.
            self.rooted()?;
            bail!(MintError::TargetsAbsent { path: self.path().to_owned() });
        };
        let mut written = Files::new();
        let stick = self.complete(&targets, importer, true, &mut written)?;
        self.check_and_write(&written, None)?;
        Ok(stick)
    }

    /// Signs `targets`, and what stands above it where keys for that are at hand, under new versions.
    fn publish<S: Signer>(
        &self,
        mut targets: Value,
        importer: &Importer<'_, S>,
        release: Option<&[u8]>,
    ) -> Result<Listed> {
        targets["expires"] = importer.expires.into();
        let unchanged = targets["version"] != 0 && targets == self.targets()?;
        let held = targets["version"].as_u64().ok_or(lacks("version"))?;
        if unchanged && self.current().is_ok_and(|current| current == held) {
            return Ok(Listed { version: held, changed: false });
        }
        let listed = Listed { version: held + 1, changed: true };
        targets["version"] = listed.version.into();
        let text = self.signed_as("targets", &targets, importer)?;
        let mut written = Files::from([("targets.json".to_owned(), text.clone())]);
        let station = ["snapshot", "timestamp"].map(|role| self.holders(role, importer.signers));
        let [snapshot, timestamp] = station;
        if snapshot?.is_empty() || timestamp?.is_empty() {
            // The station signs what stands above, when it writes the next stick.
            self.rehearse(&text, importer.expires, release)?;
            self.pending("targets.json", &text)?.place()?;
            return Ok(listed);
        }
        self.complete(&text, importer, false, &mut written)?;
        self.check_and_write(&written, release)?;
        Ok(listed)
    }

    /// Adds to `written` a snapshot that names `targets`, unless the present one does, and a timestamp.
    fn complete<S: Signer>(
        &self,
        targets: &[u8],
        importer: &Importer<'_, S>,
        next_stick: bool,
        written: &mut Files,
    ) -> Result<Stick> {
        let held = |name: &str| -> Result<(Value, u64)> {
            let part = self.file(name)?.map_or(Ok(Value::Null), |text| self.part(name, &text))?;
            let version = part["version"].as_u64().unwrap_or(0);
            Ok((part, version))
        };
        let above = |role: &str, held: u64, meta: &Map<String, Value>| {
            above(role, held + 1, meta, importer.expires)
        };
        let meta = self.listing("targets.json", targets)?;
        let (snapshot, version) = held("snapshot.json")?;
        let text = match self.file("snapshot.json")? {
            Some(text)
                if snapshot["meta"] == Value::Object(meta.clone()) && self.current().is_ok() =>
            {
                text
            }
            _ => self.signed_as("snapshot", &above("snapshot", version, &meta), importer)?,
        };
        let (timestamp, version) = held("timestamp.json")?;
        let meta = self.listing("snapshot.json", &text)?;
        written.insert("snapshot.json".to_owned(), text);
        let mut next = above("timestamp", version, &meta);
        let stated = &timestamp["x-cloister"];
        let number = |field: &str| stated[field].as_u64();
        let last = number("sequence").or(number("sequence_last")).unwrap_or(0);
        let before = stated["issued"].as_str().and_then(|text| text.parse().ok());
        // The stated time never falls, or an enclave would learn nothing from it.
        let issued = importer.issued.clone().max(before);
        // A number belongs to one stick. What is signed between two sticks only hands it on.
        if next_stick {
            next["x-cloister"]["sequence"] = (last + 1).into();
        } else if last > 0 {
            next["x-cloister"]["sequence_last"] = last.into();
        }
        if let Some(issued) = issued.clone() {
            next["x-cloister"]["issued"] = String::from(issued).into();
        }
        let text = self.signed_as("timestamp", &next, importer)?;
        written.insert("timestamp.json".to_owned(), text);
        Ok(Stick { number: last + u64::from(next_stick), issued })
    }

    /// What a file above says of `text`, the file `name`.
    fn listing(&self, name: &str, text: &[u8]) -> Result<Map<String, Value>> {
        let version = self.part(name, text)?["version"].clone();
        let hashes = json!({"sha256": Digest::of(text).to_string()});
        let entry = json!({"hashes": hashes, "length": text.len(), "version": version});
        Ok(Map::from_iter([(name.to_owned(), entry)]))
    }

    /// Refuses a list, or a release in it, that no appliance would trust, while the station's keys are
    /// elsewhere: judges it as an appliance does, but under a root in which one key that everybody knows
    /// plays the officers and the station.
    fn rehearse(&self, targets: &[u8], expires: &str, release: Option<&[u8]>) -> Result<()> {
        let everybodys = SigningKey::from_seed(&Secret::new(vec![0; 32]))?;
        let (id, object) = (everybodys.public().key_id(), everybodys.public().to_object());
        let (name, text) = self.newest()?;
        let mut root = self.part(&name, &text)?;
        root["version"] = 1.into();
        root["consistent_snapshot"] = false.into();
        root["keys"][&id] = object;
        for role in ["root", "snapshot", "timestamp"] {
            root["roles"][role] = json!({"keyids": [id], "threshold": 1});
        }
        let signed = |part: &Value| signed(part, &[&everybodys]);
        let root = signed(&root)?;
        let meta = self.listing("targets.json", targets)?;
        let snapshot = signed(&above("snapshot", 1, &meta, expires))?;
        let meta = self.listing("snapshot.json", &snapshot)?;
        let timestamp = signed(&above("timestamp", 1, &meta, expires))?;
        let files = [
            ("1.root.json", root.clone()),
            ("snapshot.json", snapshot),
            ("targets.json", targets.to_vec()),
            ("timestamp.json", timestamp),
        ];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        let state = enrol(&root, Digest::of(&root))?.refresh(&pack(&files)?);
        self.judged(state, release)
    }

    /// Whether an appliance in this state lets the release in.
    fn judged(&self, state: Result<TrustState, VerifyError>, release: Option<&[u8]>) -> Result<()> {
        let state = state.with_context(|| {
            format!("{}: this metadata would not be trusted", self.path().display())
        })?;
        if let Some(release) = release {
            state.judge(release).context("this release would not be trusted")?;
        }
        Ok(())
    }

    fn check_and_write(&self, written: &Files, release: Option<&[u8]>) -> Result<()> {
        let mut files = self.files()?;
        files.extend(written.clone());
        self.judged(self.rooted()?.refresh(&pack(&files)?), release)?;
        // All of them stand complete before the first is put in its place.
        let _folder = files::Folder::at(self.path())?;
        let pending = written.iter().map(|(name, text)| self.pending(name, text));
        pending.collect::<Result<Vec<_>>>()?.into_iter().try_for_each(Pending::place)
    }

    /// The version of the targets that an appliance would hold now.
    fn current(&self) -> Result<u64> {
        Ok(self.rooted()?.refresh(&self.meta()?)?.stored().vector.targets)
    }

    /// Signs a file with those keys at hand that hold its role.
    fn signed_as<S: Signer>(
        &self,
        role: &str,
        part: &Value,
        importer: &Importer<'_, S>,
    ) -> Result<Vec<u8>> {
        let holders = self.holders(role, importer.signers)?;
        ensure!(
            !holders.is_empty(),
            MintError::Role { path: self.path().to_owned(), role: role.to_owned() }
        );
        signed(part, &holders)
    }

    fn holders<'s, S: Signer>(&self, role: &str, signers: &'s [S]) -> Result<Vec<&'s S>> {
        let (name, text) = self.newest()?;
        let root = self.part(&name, &text)?;
        let keyids = root["roles"][role]["keyids"].as_array().cloned().unwrap_or_default();
        let holds = |signer: &&S| keyids.contains(&signer.public().key_id().into());
        Ok(signers.iter().filter(holds).collect())
    }

    /// The signed part of the folder's file `name`.
    fn part(&self, name: &str, text: &[u8]) -> Result<Value> {
        let file = json::parse_strict(text, json::DEPTH_MAX);
        Ok(file.with_context(|| self.path().join(name).display().to_string())?["signed"].take())
    }

    fn targets(&self) -> Result<Value> {
        match self.file("targets.json")? {
            Some(text) => self.part("targets.json", &text),
            None => Ok(json!({
                "_type": "targets", "delegations": {"keys": {}, "roles": []},
                "spec_version": SPEC_VERSION, "targets": {}, "version": 0,
            })),
        }
    }
}

/// Whether a pattern can cover the path of a release: a name, and a version with its ending.
fn may_cover(pattern: &str) -> bool {
    let sign = |c: u8| matches!(c, b'*' | b'?' | b'.' | b'-');
    let in_name = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || sign(c) || c == b'_';
    let in_version = |c: u8| c.is_ascii_alphanumeric() || sign(c) || c == b'+';
    pattern.split_once('/').is_some_and(|(name, version)| {
        let begun = name.bytes().next().is_some_and(|c| !matches!(c, b'.' | b'-' | b'_'));
        let ended = version.ends_with(".json") || version.ends_with(['*', '?']);
        begun && name.bytes().all(in_name) && ended && version.bytes().all(in_version)
    })
}

/// A snapshot or a timestamp that names what `meta` lists.
fn above(role: &str, version: u64, meta: &Map<String, Value>, expires: &str) -> Value {
    json!({
        "_type": role, "expires": expires, "meta": meta, "spec_version": SPEC_VERSION,
        "version": version,
    })
}

const fn lacks(what: &'static str) -> MintError {
    MintError::Targets { what }
}
