//! The trust state: an enrolled root, the newest metadata, and every ratchet.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::dsse::Envelope;
use cloister_bundle::{BundleError, Manifest, container};
use cloister_domain::{Digest, GenerationId, Principal};
use serde::{Deserialize, Serialize};

use crate::{
    Instant, RoleName, VerifyError,
    roles::{Snapshot, Targets, Timestamp},
    root::{Root, target_path},
};

/// Steps of the root chain that one stick may bring.
const ROOT_STEPS_MAX: usize = 1024;

/// Something that was checked against the trust state. Only this crate can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signers: BTreeSet<Principal>,
    already_promoted: bool,
}

impl<T> Verified<T> {
    pub(crate) const fn new(
        value: T,
        signers: BTreeSet<Principal>,
        already_promoted: bool,
    ) -> Self {
        Self { value, signers, already_promoted }
    }

    /// What was checked.
    pub const fn get(&self) -> &T {
        &self.value
    }

    /// The distinct persons whose good signatures counted.
    #[must_use]
    pub const fn signers(&self) -> &BTreeSet<Principal> {
        &self.signers
    }

    /// Whether exactly this release was promoted before; the caller decides what that means.
    #[must_use]
    pub const fn already_promoted(&self) -> bool {
        self.already_promoted
    }
}

/// The highest release of one name that was promoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Its counter.
    pub counter: u64,
    /// Which release it was.
    pub generation: GenerationId,
    /// The least counter that may be activated.
    pub floor: u64,
}

/// Every number that must never fall. Stored verbatim; 0 means that nothing is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// Version of the root.
    pub root: u64,
    /// SHA-256 of the root file.
    pub root_sha256: Digest,
    /// Version of the timestamp under its present keys.
    pub timestamp: u64,
    /// Version of the snapshot under its present keys.
    pub snapshot: u64,
    /// Version of the targets under their present keys.
    pub targets: u64,
    /// Promoted releases by name.
    pub releases: BTreeMap<String, Accepted>,
}

/// What the caller keeps: the files as received, and the vector. `root.json` is the newest root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `root.json`, `timestamp.json`, `snapshot.json`, `targets.json`: those that are held.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The ratchets.
    pub vector: Vector,
}

/// A trusted root with the newest metadata that it vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustState {
    stored: Stored,
    root: Root,
    current: Option<Current>,
}

/// The importer's metadata, as one consistent set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Current {
    timestamp: Timestamp,
    snapshot: Snapshot,
    targets: Targets,
}

/// Takes a root file that came by another way than any stick, whose SHA-256 the officers compared.
///
/// # Errors
/// [`VerifyError::Confirmed`] for another file; those of a malformed or badly signed root.
pub fn enrol(root_text: &[u8], confirmed: Digest) -> Result<TrustState, VerifyError> {
    if Digest::of(root_text) != confirmed {
        return Err(VerifyError::Confirmed);
    }
    let root = Root::parse(root_text)?;
    let vector = Vector {
        root: root.version,
        root_sha256: root.sha256,
        timestamp: 0,
        snapshot: 0,
        targets: 0,
        releases: BTreeMap::new(),
    };
    let files = BTreeMap::from([("root.json".to_owned(), root_text.to_vec())]);
    Ok(TrustState { stored: Stored { files, vector }, root, current: None })
}

impl TrustState {
    /// Takes back what [`TrustState::stored`] gave, checking every signature again.
    ///
    /// # Errors
    /// [`VerifyError::Corrupt`] if files and vector disagree, else as for received metadata.
    pub fn load(stored: Stored) -> Result<Self, VerifyError> {
        let file = |name: &str| stored.files.get(name).map(Vec::as_slice);
        let root = Root::parse(file("root.json").ok_or(VerifyError::Corrupt)?)?;
        let vector = &stored.vector;
        if root.sha256 != vector.root_sha256 || root.version != vector.root {
            return Err(VerifyError::Corrupt);
        }
        let current = match vector.timestamp {
            0 => None,
            _ => Some(Current::parse(&file, &root, None)?),
        };
        let versions = current.as_ref().map_or((0, 0, 0), Current::versions);
        if versions != (vector.timestamp, vector.snapshot, vector.targets) {
            return Err(VerifyError::Corrupt);
        }
        Ok(Self { root, current, stored })
    }

    /// What to keep, so that [`TrustState::load`] returns to this state.
    #[must_use]
    pub const fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Version of the trusted root.
    #[must_use]
    pub const fn root_version(&self) -> u64 {
        self.root.version
    }

    /// SHA-256 of the trusted root file.
    #[must_use]
    pub const fn root_digest(&self) -> Digest {
        self.root.sha256
    }

    /// Persons who must approve a release, by the root.
    #[must_use]
    pub const fn approvals_needed(&self) -> u64 {
        self.root.approvers.threshold()
    }

    pub(crate) const fn root(&self) -> &Root {
        &self.root
    }

    /// The state after a stick's `clb/10-meta`: newer roots in an unbroken chain, then the importer's
    /// files where they are newer. Older ones change nothing. Keep the result even if the release
    /// beside it is refused: revocations travel this way.
    ///
    /// `floor` is the latest time that is proven to have passed, if any is.
    ///
    /// # Errors
    /// Those of the container, and of metadata that is malformed, badly signed, mixed or expired.
    pub fn refresh(&self, meta: &[u8], floor: Option<&Instant>) -> Result<Self, VerifyError> {
        let files: BTreeMap<&str, &[u8]> = container::entries(meta)?.into_iter().collect();
        let file = |name: &str| files.get(name).copied();
        let mut next = self.clone();
        next.check_same("root.json", file(&format!("{}.root.json", self.root.version)))?;
        for _step in 0..ROOT_STEPS_MAX {
            let name = format!("{}.root.json", next.root.version.saturating_add(1));
            let Some(text) = file(&name) else { break };
            let root = next.root.followed_by(text)?;
            next.take_root(root, text);
        }
        next.root.unexpired(floor)?;
        let offered = file("timestamp.json")
            .map(|text| Timestamp::parse(text, &next.root, floor))
            .transpose()?
            .map(|timestamp| timestamp.version);
        let held = next.stored.vector.timestamp;
        if offered.is_some_and(|version| version > held) {
            let current = Current::parse(&file, &next.root, floor)?;
            next.check_ratchets(&current)?;
            next.take_current(current, &file);
        } else if offered == Some(held) {
            for name in ["timestamp.json", "snapshot.json", "targets.json"] {
                next.check_same(name, file(name))?;
            }
        }
        Ok(next)
    }

    /// A version has one content: other bytes under a version that is held are damage or a lie.
    fn check_same(&self, file: &'static str, offered: Option<&[u8]>) -> Result<(), VerifyError> {
        let held = self.stored.files.get(file).map(Vec::as_slice);
        match offered.zip(held) {
            Some((offered, held)) if offered != held => Err(VerifyError::OtherContent { file }),
            _ => Ok(()),
        }
    }

    fn take_root(&mut self, root: Root, text: &[u8]) {
        let same_keys = self.root.importer_keys() == root.importer_keys();
        // The same keys may have other persons or thresholds now: what is held is judged again.
        let file = |name: &str| self.stored.files.get(name).map(Vec::as_slice);
        self.current = self
            .current
            .take()
            .filter(|_| same_keys)
            .and_then(|_| Current::parse(&file, &root, None).ok());
        let vector = &mut self.stored.vector;
        if self.current.is_none() {
            // Section 5.3.11, and the same for targets: versions are compared under the same keys
            // only, so that a stolen key cannot push them out of reach for ever.
            (vector.timestamp, vector.snapshot, vector.targets) = (0, 0, 0);
            self.stored.files.clear();
        }
        (vector.root, vector.root_sha256) = (root.version, root.sha256);
        self.stored.files.insert("root.json".to_owned(), text.to_vec());
        self.root = root;
    }

    /// Sections 5.4.3, 5.5.5: no version below falls.
    fn check_ratchets(&self, offered: &Current) -> Result<(), VerifyError> {
        let vector = &self.stored.vector;
        for (role, offered, held) in [
            (RoleName::Snapshot, offered.snapshot.version, vector.snapshot),
            (RoleName::Targets, offered.targets.version, vector.targets),
        ] {
            if offered < held {
                return Err(VerifyError::Stale { role, offered, held });
            }
        }
        Ok(())
    }

    fn take_current<'a>(&mut self, current: Current, file: &impl Fn(&str) -> Option<&'a [u8]>) {
        for name in ["timestamp.json", "snapshot.json", "targets.json"] {
            if let Some(text) = file(name) {
                self.stored.files.insert(name.to_owned(), text.to_vec());
            }
        }
        let vector = &mut self.stored.vector;
        (vector.timestamp, vector.snapshot, vector.targets) = current.versions();
        self.current = Some(current);
    }

    /// Judges a release by `clb/20-manifest` as it lies on the medium.
    ///
    /// In this order: the publisher for its name signed it (threshold of persons), no later release
    /// was promoted, the importer's current list holds exactly these bytes.
    ///
    /// # Errors
    /// [`VerifyError::Bundle`] for its form; [`VerifyError::OutOfScope`],
    /// [`VerifyError::UnknownSigner`], [`VerifyError::Threshold`], [`VerifyError::Rollback`],
    /// [`VerifyError::NotListed`]; [`VerifyError::Missing`] before any importer's metadata came.
    pub fn judge(&self, envelope_text: &[u8]) -> Result<Verified<Manifest>, VerifyError> {
        let missing = VerifyError::Missing { role: RoleName::Targets };
        let targets = &self.current.as_ref().ok_or(missing)?.targets;
        let envelope = Envelope::parse(envelope_text).map_err(BundleError::Manifest)?;
        // The name is read before the signature, because it chooses whose signature must be there.
        let manifest = Manifest::of(&envelope)?;
        let release = manifest.release();
        let path = target_path(&release.name, &release.version);
        let publisher = targets.publisher(&path).ok_or(VerifyError::OutOfScope)?;
        let signers = publisher.authority.signers(&envelope, RoleName::Publisher)?;
        let already_promoted = self.check_counter(&manifest)?;
        let listed = targets.targets.get(&path).ok_or(VerifyError::NotListed)?;
        let sized = u64::try_from(envelope_text.len()) == Ok(listed.length);
        if !sized || Digest::of(envelope_text) != listed.sha256 {
            return Err(VerifyError::NotListed);
        }
        Ok(Verified::new(manifest, signers, already_promoted))
    }

    /// Equality of numbers is not newer: only the same release may come again.
    fn check_counter(&self, manifest: &Manifest) -> Result<bool, VerifyError> {
        let release = manifest.release();
        let Some(held) = self.stored.vector.releases.get(&release.name) else { return Ok(false) };
        let same = held.generation == manifest.generation();
        if same || release.release_counter > held.counter {
            return Ok(same);
        }
        Err(VerifyError::Rollback { offered: release.release_counter, held: held.counter })
    }

    /// The state after `manifest` was promoted: its counter is the least from now on, and so is its
    /// floor. Both only rise; promoting an older retained release changes nothing.
    #[must_use]
    pub fn promoted(&self, manifest: &Manifest) -> Self {
        let mut next = self.clone();
        let release = manifest.release();
        let held = next.stored.vector.releases.get(&release.name);
        let floor = held.map_or(0, |held| held.floor).max(release.min_release_counter);
        let newer = held.is_none_or(|held| held.counter < release.release_counter);
        if newer {
            let generation = manifest.generation();
            let accepted = Accepted { counter: release.release_counter, generation, floor };
            next.stored.vector.releases.insert(release.name.clone(), accepted);
        }
        next
    }

    /// Whether a retained release may be activated again.
    ///
    /// # Errors
    /// [`VerifyError::Rollback`] below the floor of what was promoted under this name.
    pub fn may_activate(&self, name: &str, counter: u64) -> Result<(), VerifyError> {
        let floor = self.stored.vector.releases.get(name).map_or(0, |held| held.floor);
        if counter < floor {
            return Err(VerifyError::Rollback { offered: counter, held: floor });
        }
        Ok(())
    }
}

impl Current {
    fn parse<'a>(
        file: &impl Fn(&str) -> Option<&'a [u8]>,
        root: &Root,
        floor: Option<&Instant>,
    ) -> Result<Self, VerifyError> {
        let text = |name: &str, role| file(name).ok_or(VerifyError::Missing { role });
        let timestamp = text("timestamp.json", RoleName::Timestamp)?;
        let timestamp = Timestamp::parse(timestamp, root, floor)?;
        let snapshot = text("snapshot.json", RoleName::Snapshot)?;
        let snapshot = Snapshot::parse(snapshot, root, &timestamp.snapshot, floor)?;
        let targets = text("targets.json", RoleName::Targets)?;
        let targets = Targets::parse(targets, root, &snapshot.targets, floor)?;
        Ok(Self { timestamp, snapshot, targets })
    }

    const fn versions(&self) -> (u64, u64, u64) {
        (self.timestamp.version, self.snapshot.version, self.targets.version)
    }
}
