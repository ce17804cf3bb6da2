//! The trust folder: TUF's files as they stand on the connected side.
//!
//! `1.root.json` to `N.root.json` are the officers'; `targets.json` is the importers', `snapshot.json` and
//! `timestamp.json` the station's that writes sticks. Here are the officers' acts; the others are in
//! [`crate::importer`].

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_attest::{Algorithm, Signer, json, sign_checked};
use cloister_bundle::container;
use cloister_domain::Digest;
use cloister_verify::{Instant, TrustState, enrol};
use serde_json::{Map, Value, json};

use crate::{
    ceremony::Draft,
    error::{FileError, MintError},
    files::{self, Pending},
    keys::Holder,
};

/// The version of TUF that the files name.
pub(crate) const SPEC_VERSION: &str = "1.0.34";
/// The largest file that is read back, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 10 << 20;

/// Who holds which role; everything that the officers decide.
#[derive(Clone, Debug)]
pub struct Roles {
    /// The officers who keep the root.
    pub root: Vec<Holder>,
    /// Officers who must sign a root.
    pub root_threshold: u64,
    /// The facility's importers, who say which releases may enter.
    pub importers: Vec<Holder>,
    /// Importers who must sign.
    pub importer_threshold: u64,
    /// The stations that write sticks, each of which may sign; the importers, if there are none.
    pub stations: Vec<Holder>,
    /// Persons who approve inside the enclave.
    pub approvers: Vec<Holder>,
    /// Approvals that a release needs.
    pub approvals: u64,
    /// Publishers, so that their releases show a name instead of a key. They get no role.
    pub publishers: Vec<Holder>,
    /// When the root expires, such as `2036-01-01T00:00:00Z`.
    pub expires: String,
    /// A time that the officers vouch for, after an enclave slept for long.
    pub issued: Option<Instant>,
    /// Which algorithms each person must sign with.
    pub demanded: Demanded,
}

/// Algorithms of each of which a person of a role must bring a signature; any one will do where there
/// are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demanded {
    /// Of an officer.
    pub root: Vec<Algorithm>,
    /// Of an importer.
    pub importers: Vec<Algorithm>,
    /// Of a station, or of who signs in its place.
    pub stations: Vec<Algorithm>,
    /// Of an approver.
    pub approvers: Vec<Algorithm>,
}

impl Default for Roles {
    /// Nobody, and one signature of each role.
    fn default() -> Self {
        Self {
            root: Vec::new(),
            root_threshold: 1,
            importers: Vec::new(),
            importer_threshold: 1,
            stations: Vec::new(),
            approvers: Vec::new(),
            approvals: 1,
            publishers: Vec::new(),
            expires: String::new(),
            issued: None,
            demanded: Demanded::default(),
        }
    }
}

/// A folder with TUF's files.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder at `path`, which is made with its first file if it is not there.
    ///
    /// # Errors
    /// When `path` is something else.
    pub fn at(path: &Path) -> Result<Self> {
        let other = files::exists(path)? && !path.is_dir();
        ensure!(!other, FileError::NoFolder { path: path.to_owned() });
        Ok(Self { path: path.to_owned() })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `1.root.json`, signed by `signers`.
    ///
    /// # Errors
    /// When a root is there already, or the result would not be trusted.
    pub fn create_root<S: Signer>(&self, roles: &Roles, signers: &[S]) -> Result<Digest> {
        ensure!(self.root_version() == 0, MintError::RootHeld { path: self.path.clone() });
        self.adopt_root(&signed(&root(roles, 1), signers)?)
    }

    /// Writes the root that follows, signed by `signers`: enough of the old and of the new officers.
    ///
    /// # Errors
    /// When there is no root yet, or the result would not be trusted.
    pub fn rotate_root<S: Signer>(&self, roles: &Roles, signers: &[S]) -> Result<Digest> {
        let version = self.root_version();
        ensure!(version > 0, self.no_root());
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
        let name = self.trusted_root(text)?;
        let _folder = files::Folder::at(&self.path)?;
        self.pending(&name, text)?.place()?;
        Ok(Digest::of(text))
    }

    /// The name under which a root is adopted, if appliances will trust it.
    ///
    /// # Errors
    /// When they will not.
    pub(crate) fn trusted_root(&self, text: &[u8]) -> Result<String> {
        let version = self.root_version() + 1;
        let name = format!("{version}.root.json");
        let path = self.path.join(&name);
        let distrusted = || format!("{}: this root would not be trusted", path.display());
        Draft::parse(text).with_context(distrusted)?;
        if version == 1 {
            enrol(text, Digest::of(text)).with_context(distrusted)?;
        } else {
            let meta = container::archive([(name.as_str(), text)])?;
            self.rooted()?.refresh(&meta).with_context(distrusted)?;
        }
        Ok(name)
    }

    /// The content of `clb/10-meta`: all files, verbatim.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn meta(&self) -> Result<Vec<u8>> {
        pack(&self.files()?)
    }

    pub(crate) fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
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

    /// The version of the newest root; 0 before the first.
    #[must_use]
    pub fn root_version(&self) -> u64 {
        let exists = |version: &u64| self.path.join(format!("{version}.root.json")).exists();
        (1..).take_while(exists).last().unwrap_or(0)
    }

    /// The state of an appliance that knows the roots alone.
    pub(crate) fn rooted(&self) -> Result<TrustState> {
        ensure!(self.root_version() > 0, self.no_root());
        let first = self.read("1.root.json")?;
        let mut roots = self.files()?;
        roots.retain(|name, _| name.ends_with(".root.json"));
        let shown = || format!("the roots in {}", self.path.display());
        let state = enrol(&first, Digest::of(&first)).with_context(shown)?;
        state.refresh(&pack(&roots)?).with_context(shown)
    }

    /// A file, if it is there.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.path.join(name).exists().then(|| self.read(name)).transpose()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        files::read_limited(&self.path.join(name), FILE_BYTES_MAX)
    }

    /// The newest root: its name and text.
    pub(crate) fn newest(&self) -> Result<(String, Vec<u8>)> {
        let version = self.root_version();
        ensure!(version > 0, self.no_root());
        let name = format!("{version}.root.json");
        let text = self.read(&name)?;
        Ok((name, text))
    }

    pub(crate) fn no_root(&self) -> MintError {
        MintError::RootAbsent { path: self.path.clone() }
    }

    /// A file that only needs to be put in its place.
    pub(crate) fn pending(&self, name: &str, text: &[u8]) -> Result<Pending> {
        Pending::write(&self.path.join(name), |out| Ok(out.write_all(text)?))
    }
}

pub(crate) fn pack(files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<u8>> {
    let members = files.iter().map(|(name, text)| (name.as_str(), text.as_slice()));
    Ok(container::archive(members)?)
}

pub(crate) fn key_ids(holders: &[Holder]) -> Vec<String> {
    holders.iter().map(|holder| holder.key.key_id()).collect()
}

/// Makes a role demand a signature of each of these algorithms from each person.
pub(crate) fn demand(role: &mut Value, algorithms: &[Algorithm]) {
    if !algorithms.is_empty() {
        role["x-algorithms"] = algorithms.iter().map(|algorithm| algorithm.word()).collect();
    }
}

fn root(roles: &Roles, version: u64) -> Value {
    let stations = if roles.stations.is_empty() { &roles.importers } else { &roles.stations };
    // A publisher's key holds no role here. It stands beside the name, so that officers can see whom
    // they name.
    let in_root = || {
        let holders = roles.root.iter().chain(&roles.importers).chain(stations);
        holders.chain(&roles.approvers).chain(&roles.publishers)
    };
    let keys: Map<String, Value> =
        in_root().map(|holder| (holder.key.key_id(), holder.key.to_object())).collect();
    let persons: Map<String, Value> =
        in_root().map(|holder| (holder.key.key_id(), holder.person.as_str().into())).collect();
    let role = |holders: &[Holder], threshold: u64, demanded: &[Algorithm]| {
        let mut role = json!({"keyids": key_ids(holders), "threshold": threshold});
        demand(&mut role, demanded);
        role
    };
    let demanded = &roles.demanded;
    let station = || role(stations, 1, &demanded.stations);
    let approvers = role(&roles.approvers, roles.approvals, &demanded.approvers);
    let mut extra = json!({"approvers": approvers, "persons": persons});
    if let Some(issued) = &roles.issued {
        extra["issued"] = String::from(issued.clone()).into();
    }
    json!({
        "_type": "root",
        "consistent_snapshot": false,
        "expires": roles.expires,
        "keys": keys,
        "roles": {
            "root": role(&roles.root, roles.root_threshold, &demanded.root),
            "snapshot": station(),
            "targets": role(&roles.importers, roles.importer_threshold, &demanded.importers),
            "timestamp": station(),
        },
        "spec_version": SPEC_VERSION,
        "version": version,
        "x-cloister": extra,
    })
}

/// A TUF file: the signed part with its signatures, as canonical text.
pub(crate) fn signed<S: Signer>(part: &Value, signers: &[S]) -> Result<Vec<u8>> {
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
