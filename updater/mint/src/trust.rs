//! The trust folder: TUF's files as they stand on the connected side.
//!
//! `1.root.json` to `N.root.json` are the officers'; `targets.json`, `snapshot.json` and
//! `timestamp.json` the importer's. What an act does not change keeps its bytes, so doing the same
//! twice changes nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::{Signer, json, sign_checked};
use cloister_bundle::container;
use cloister_domain::Digest;
use cloister_verify::{TrustState, enrol, target_path};
use serde_json::{Map, Value, json};

use crate::{files, keys::Holder};

/// The version of TUF that the files name.
const SPEC_VERSION: &str = "1.0.34";
/// The largest file that is read back, in bytes.
const FILE_BYTES_MAX: u64 = 10 << 20;

/// Who holds which role; everything that the officers decide.
#[derive(Clone, Debug)]
pub struct Roles {
    /// The officers who keep the root.
    pub root: Vec<Holder>,
    /// Officers who must sign a root.
    pub root_threshold: u64,
    /// The facility's importers.
    pub importers: Vec<Holder>,
    /// Persons who approve inside the enclave.
    pub approvers: Vec<Holder>,
    /// Approvals that a release needs.
    pub approvals: u64,
    /// Publishers, so that their releases show a name instead of a key.
    pub publishers: Vec<Holder>,
    /// When the root expires, such as `2036-01-01T00:00:00Z`.
    pub expires: String,
}

/// A folder with TUF's files.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn at(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Writes `1.root.json`, signed by `signers`.
    ///
    /// # Errors
    /// When a root is there already, or the result would not be trusted.
    pub fn create_root<S: Signer>(&self, roles: &Roles, signers: &[S]) -> Result<Digest> {
        ensure!(self.root_version() == 0, "the folder holds a root already; rotate it");
        self.adopt_root(&signed(&root(roles, 1), signers)?)
    }

    /// Writes the root that follows, signed by `signers`: enough of the old and of the new officers.
    ///
    /// # Errors
    /// When there is no root yet, or the result would not be trusted.
    pub fn rotate_root<S: Signer>(&self, roles: &Roles, signers: &[S]) -> Result<Digest> {
        let version = self.root_version();
        ensure!(version > 0, "the folder holds no root yet; create it");
        self.adopt_root(&signed(&root(roles, version + 1), signers)?)
    }

    /// The signed part of the root that comes next, for officers who sign apart.
    #[must_use]
    pub fn next_root(&self, roles: &Roles) -> Value {
        root(roles, self.root_version() + 1)
    }

    /// The signed part of a first root, for officers who sign apart.
    #[must_use]
    pub fn first(roles: &Roles) -> Value {
        root(roles, 1)
    }

    /// Writes a root that its officers signed: the first, or the one that follows.
    ///
    /// # Errors
    /// When it would not be trusted.
    pub fn adopt_root(&self, text: &[u8]) -> Result<Digest> {
        let version = self.root_version() + 1;
        let name = format!("{version}.root.json");
        let distrusted = "this root would not be trusted";
        if version == 1 {
            enrol(text, Digest::of(text)).context(distrusted)?;
        } else {
            let meta = container::archive([(name.as_str(), text)])?;
            self.enrolled()?.refresh(&meta).context(distrusted)?;
        }
        self.write(&name, text)?;
        Ok(Digest::of(text))
    }

    /// Lets `publishers`, of whom `threshold` must sign, make the releases whose path matches one of
    /// `paths`, such as `cloister-demo/*`. The role of the same `name` is replaced.
    ///
    /// # Errors
    /// When the files cannot be read or written, or the result would not be trusted.
    pub fn delegate(
        &self,
        name: &str,
        publishers: &[Holder],
        threshold: u64,
        paths: &[String],
        importer: &impl Signer,
        expires: &str,
    ) -> Result<()> {
        let mut targets = self.targets()?;
        let role = json!({
            "keyids": key_ids(publishers), "name": name, "paths": paths, "terminating": true,
            "threshold": threshold,
        });
        let delegations = &mut targets["delegations"];
        for holder in publishers {
            delegations["keys"][holder.key.key_id()] = holder.key.to_object();
        }
        let roles = delegations["roles"].as_array_mut().context("targets.json has no roles")?;
        roles.retain(|role| role["name"] != name);
        roles.push(role);
        self.publish(targets, importer, expires, None)
    }

    /// Lists a release, so that it may enter.
    ///
    /// # Errors
    /// When the files cannot be read or written, or the release would not be trusted.
    pub fn admit(&self, envelope: &[u8], importer: &impl Signer, expires: &str) -> Result<()> {
        let manifest = crate::volume::manifest(envelope)?;
        let release = manifest.release();
        let mut targets = self.targets()?;
        let entry = json!({
            "hashes": {"sha256": Digest::of(envelope).to_string()}, "length": envelope.len(),
        });
        targets["targets"][target_path(&release.name, &release.version)] = entry;
        self.publish(targets, importer, expires, Some(envelope))
    }

    /// The content of `clb/10-meta`: all files, verbatim.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn meta(&self) -> Result<Vec<u8>> {
        pack(&self.files()?)
    }

    fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut members = BTreeMap::new();
        for version in 1..=self.root_version() {
            let name = format!("{version}.root.json");
            members.insert(name.clone(), self.read(&name)?);
        }
        for name in ["snapshot.json", "targets.json", "timestamp.json"] {
            if self.path.join(name).exists() {
                members.insert(name.to_owned(), self.read(name)?);
            }
        }
        Ok(members)
    }

    /// Path of the first root: the file that is enrolled.
    #[must_use]
    pub fn first_root(&self) -> PathBuf {
        self.path.join("1.root.json")
    }

    /// Path of the newest root, if there is one.
    #[must_use]
    pub fn newest_root(&self) -> Option<PathBuf> {
        let version = self.root_version();
        (version > 0).then(|| self.path.join(format!("{version}.root.json")))
    }

    fn enrolled(&self) -> Result<TrustState> {
        let first = self.read("1.root.json")?;
        Ok(enrol(&first, Digest::of(&first))?.refresh(&self.meta()?)?)
    }

    /// The version of the newest root; 0 before the first.
    #[must_use]
    pub fn root_version(&self) -> u64 {
        let exists = |version: &u64| self.path.join(format!("{version}.root.json")).exists();
        (1..).take_while(exists).last().unwrap_or(0)
    }

    fn targets(&self) -> Result<Value> {
        if !self.path.join("targets.json").exists() {
            return Ok(json!({
                "_type": "targets", "delegations": {"keys": {}, "roles": []},
                "spec_version": SPEC_VERSION, "targets": {}, "version": 0,
            }));
        }
        let mut file = json::parse_strict(&self.read("targets.json")?, json::DEPTH_MAX)?;
        Ok(file["signed"].take())
    }

    /// Signs `targets` and what stands above it under new versions, unless nothing changed. Nothing is
    /// written that an appliance would not trust, `release` included.
    fn publish(
        &self,
        mut targets: Value,
        importer: &impl Signer,
        expires: &str,
        release: Option<&[u8]>,
    ) -> Result<()> {
        targets["expires"] = expires.into();
        if targets["version"] != 0 && targets == self.targets()? {
            return Ok(());
        }
        let Some(version) = targets["version"].as_u64().map(|version| version + 1) else {
            bail!("targets.json has no version");
        };
        targets["version"] = version.into();
        let signers = std::slice::from_ref(importer);
        let targets = signed(&targets, signers)?;
        let listing = |text: &[u8]| {
            let hashes = json!({"sha256": Digest::of(text).to_string()});
            json!({"hashes": hashes, "length": text.len(), "version": version})
        };
        let above = |kind: &str, below: &str, text: &[u8]| {
            let meta = Map::from_iter([(below.to_owned(), listing(text))]);
            json!({
                "_type": kind, "expires": expires, "meta": meta, "spec_version": SPEC_VERSION,
                "version": version,
            })
        };
        let snapshot = signed(&above("snapshot", "targets.json", &targets), signers)?;
        let timestamp = signed(&above("timestamp", "snapshot.json", &snapshot), signers)?;
        let mut files = self.files()?;
        let written = [("targets", targets), ("snapshot", snapshot), ("timestamp", timestamp)]
            .map(|(role, text)| (format!("{role}.json"), text));
        files.extend(written.clone());
        let state = self.enrolled()?.refresh(&pack(&files)?);
        let state = state.context("this metadata would not be trusted")?;
        if let Some(release) = release {
            state.judge(release).context("this release would not be trusted")?;
        }
        written.iter().try_for_each(|(name, text)| self.write(name, text))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        files::read_limited(&self.path.join(name), FILE_BYTES_MAX)
    }

    fn write(&self, name: &str, text: &[u8]) -> Result<()> {
        files::write_whole(&self.path.join(name), |out| Ok(out.write_all(text)?))
    }
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let members = files.iter().map(|(name, text)| (name.as_str(), text.as_slice()));
    Ok(container::archive(members)?)
}

fn key_ids(holders: &[Holder]) -> Vec<String> {
    holders.iter().map(|holder| holder.key.key_id()).collect()
}

fn root(roles: &Roles, version: u64) -> Value {
    let in_root = || roles.root.iter().chain(&roles.importers).chain(&roles.approvers);
    let keys: Map<String, Value> =
        in_root().map(|holder| (holder.key.key_id(), holder.key.to_object())).collect();
    let persons: Map<String, Value> = in_root()
        .chain(&roles.publishers)
        .map(|holder| (holder.key.key_id(), holder.person.as_str().into()))
        .collect();
    let role = |holders: &[Holder], threshold: u64| json!({"keyids": key_ids(holders), "threshold": threshold});
    json!({
        "_type": "root",
        "consistent_snapshot": false,
        "expires": roles.expires,
        "keys": keys,
        "roles": {
            "root": role(&roles.root, roles.root_threshold),
            "snapshot": role(&roles.importers, 1),
            "targets": role(&roles.importers, 1),
            "timestamp": role(&roles.importers, 1),
        },
        "spec_version": SPEC_VERSION,
        "version": version,
        "x-cloister": {"approvers": role(&roles.approvers, roles.approvals), "persons": persons},
    })
}

/// A TUF file: the signed part with its signatures, as canonical text.
fn signed<S: Signer>(part: &Value, signers: &[S]) -> Result<Vec<u8>> {
    let message = json::canonical_tuf(part)?;
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut signatures = BTreeMap::new();
    for key in signers {
        signatures.insert(key.public().key_id(), hex(sign_checked(key, &message)?));
    }
    let signatures: Vec<Value> =
        signatures.into_iter().map(|(keyid, sig)| json!({"keyid": keyid, "sig": sig})).collect();
    Ok(json::canonical(&json!({"signatures": signatures, "signed": part}))?)
}
