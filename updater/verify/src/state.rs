//! The trust state: an enrolled root, the newest metadata, and every ratchet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cloister_bundle::{BundleError, container};
use cloister_domain::{Digest, GenerationId, Principal};
use serde::{Deserialize, Serialize};

use crate::{
    Instant, RoleName, VerifyError,
    facility::{self, Stated},
    revoked::Revoked,
    tuf::{Root, Strict, TrustedSet},
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
    /// The latest time that is proven to have passed; it never falls.
    #[serde(default)]
    pub time_floor: Option<Instant>,
    /// The number of the last stick under the timestamp's present keys.
    #[serde(default)]
    pub sequence: u64,
    /// While a root has made the importer's files void: the versions that timestamp, snapshot and
    /// targets had under keys that are still theirs, and that the next ones must have at least.
    #[serde(default)]
    pub void: [u64; 3],
}

/// What the caller keeps: the files as received, and the vector. `root.json` is the newest root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// `root.json`, `timestamp.json`, `snapshot.json`, `targets.json`: those that are held. While a root
    /// has made the importer's void, `N.revoked.json`: what the last list took back, kept under root N.
    /// Files with other names are passed over.
    pub files: BTreeMap<String, Arc<[u8]>>,
    /// The ratchets.
    pub vector: Vector,
}

/// A trusted root with the newest metadata that it vouches for.
#[derive(Clone, Debug)]
pub struct TrustState {
    stored: Stored,
    set: TrustedSet,
    revoked: Revoked,
    /// What a step of time is measured from, where that is not the floor; not stored.
    step_from: Option<Instant>,
}

impl PartialEq for TrustState {
    fn eq(&self, other: &Self) -> bool {
        // Everything else follows from what is stored.
        self.stored == other.stored
    }
}

impl Eq for TrustState {}

/// Takes a root file that came by another way than any stick, whose SHA-256 the officers compared.
///
/// # Errors
/// [`VerifyError::Confirmed`] for another file; those of a malformed or badly signed root.
pub fn enrol(root_text: &[u8], confirmed: Digest) -> Result<TrustState, VerifyError> {
    if Digest::of(root_text) != confirmed {
        return Err(VerifyError::Confirmed);
    }
    let set = TrustedSet::new(root_text, Arc::new(Strict), None)?;
    facility::check_root(set.root())?;
    let vector = Vector {
        root: set.root().version(),
        root_sha256: set.root().sha256(),
        timestamp: 0,
        snapshot: 0,
        targets: 0,
        releases: BTreeMap::new(),
        time_floor: facility::officers_time(set.root())?,
        sequence: 0,
        void: [0; 3],
    };
    let files = BTreeMap::from([("root.json".to_owned(), root_text.into())]);
    let stored = Stored { files, vector };
    Ok(TrustState { stored, set, revoked: Revoked::default(), step_from: None })
}

/// Whether a root of this text could be trusted once enough officers have signed it.
///
/// # Errors
/// Those of a malformed root, and of roles that nobody could fill or that share a key.
pub fn check_draft(root_text: &[u8]) -> Result<(), VerifyError> {
    facility::check_root(&Root::unsigned(root_text, &Strict)?)
}

impl TrustState {
    /// Takes back what [`TrustState::stored`] gave, checking every signature again.
    ///
    /// # Errors
    /// [`VerifyError::Corrupt`] if files and vector disagree, else as for received metadata.
    pub fn load(mut stored: Stored) -> Result<Self, VerifyError> {
        let file = |name: &str| stored.files.get(name).map(AsRef::as_ref);
        let root = file("root.json").ok_or(VerifyError::Corrupt)?;
        let mut set = TrustedSet::new(root, Arc::new(Strict), None)?;
        facility::check_root(set.root())?;
        let vector = &stored.vector;
        if set.root().sha256() != vector.root_sha256 || set.root().version() != vector.root {
            return Err(VerifyError::Corrupt);
        }
        let kept = kept_list(vector.root);
        let void = vector.timestamp == 0;
        stored.files.retain(|name, _| match name.as_str() {
            "root.json" => true,
            "timestamp.json" | "snapshot.json" | "targets.json" => !void,
            other => void && other == kept,
        });
        let revoked = match (vector.timestamp, stored.files.get(&kept)) {
            (0, None) => Revoked::default(),
            (0, Some(list)) => Revoked::of_text(list).ok_or(VerifyError::Corrupt)?,
            _ => take_again(&mut set, &stored.files)?,
        };
        if versions(&set) != (vector.timestamp, vector.snapshot, vector.targets) {
            return Err(VerifyError::Corrupt);
        }
        Ok(Self { stored, set, revoked, step_from: None })
    }

    /// What to keep, so that [`TrustState::load`] returns to this state.
    #[must_use]
    pub const fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Version of the trusted root.
    #[must_use]
    pub const fn root_version(&self) -> u64 {
        self.root().version()
    }

    /// SHA-256 of the trusted root file.
    #[must_use]
    pub const fn root_digest(&self) -> Digest {
        self.root().sha256()
    }

    /// Persons who must approve a release, by the root; `None` if it names nobody who may.
    #[must_use]
    pub fn approvals_needed(&self) -> Option<u64> {
        Some(self.root().approvers.as_ref()?.threshold())
    }

    pub(crate) const fn root(&self) -> &Root {
        self.set.root()
    }

    pub(crate) const fn set(&self) -> &TrustedSet {
        &self.set
    }

    pub(crate) const fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    pub(crate) const fn vector_mut(&mut self) -> &mut Vector {
        &mut self.stored.vector
    }

    /// The same, whose steps of time are measured from `floor` from now on, or from what is held where that
    /// is `None`: the volumes of one stick together take one step ([`VerifyError::TimeStep`]).
    #[must_use]
    pub fn stepping_from(self, floor: Option<Instant>) -> Self {
        Self { step_from: floor, ..self }
    }

    /// The state after a stick's `clb/10-meta`: newer roots in an unbroken chain, then the importer's
    /// files where they are newer. Older ones change nothing. Keep the result even if the release
    /// beside it is refused, or if there is none: revocations travel this way.
    ///
    /// No clock is read. What is proven to have passed is what the timestamp and the root state, and
    /// that only rises ([`Vector::time_floor`]).
    ///
    /// # Errors
    /// Those of the container, and of metadata that is malformed, badly signed, mixed or expired, or
    /// that states a time too far ahead ([`VerifyError::TimeStep`]).
    pub fn refresh(&self, meta: &[u8]) -> Result<Self, VerifyError> {
        let files: BTreeMap<&str, &[u8]> = container::entries(meta)?.into_iter().collect();
        if !files.keys().all(|name| is_meta_name(name)) {
            return Err(BundleError::Meta.into());
        }
        let file = |name: &str| files.get(name).copied();
        let mut next = self.clone();
        let held = format!("{}.root.json", self.root_version());
        next.check_same("root.json", file(&held))?;
        for _step in 0..ROOT_STEPS_MAX {
            let name = format!("{}.root.json", next.root_version().saturating_add(1));
            let Some(text) = file(&name) else { break };
            next.take_root(text)?;
        }
        next.check_roots_reached(files.keys().copied())?;
        next.set.set_now(next.stored.vector.time_floor.clone());
        let versioned = next.take_importers(&file)? && !next.root().consistent_snapshot();
        if versioned && files.keys().any(|name| is_versioned(name)) {
            return Err(BundleError::Meta.into());
        }
        next.set.set_now(None);
        Ok(next)
    }

    /// A root behind a gap may be what the officers decided last: it is not passed over in silence.
    fn check_roots_reached<'a>(
        &self,
        mut names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), VerifyError> {
        let expected = self.root_version().saturating_add(1);
        let version = |name: &str| name.strip_suffix(".root.json")?.parse::<u64>().ok();
        // The chain goes on behind as many steps as one medium may bring.
        if names.clone().any(|name| version(name) == Some(expected)) {
            return Ok(());
        }
        let held = self.root_version();
        match names.find_map(|name| version(name).filter(|found| *found > held)) {
            Some(found) => Err(VerifyError::RootChain { expected, found }),
            None => Ok(()),
        }
    }

    /// A version has one content: other bytes under a version that is held are damage or a lie.
    fn check_same(&self, file: &'static str, offered: Option<&[u8]>) -> Result<(), VerifyError> {
        let held = self.stored.files.get(file).map(AsRef::as_ref);
        match offered.zip(held) {
            Some((offered, held)) if offered != held => Err(VerifyError::OtherContent { file }),
            _ => Ok(()),
        }
    }

    fn take_root(&mut self, text: &[u8]) -> Result<(), VerifyError> {
        let keys = self.root().ratchet_keys();
        let taken_back = self.taken_back();
        self.set.update_root(text)?;
        facility::check_root(self.root())?;
        let stated = facility::officers_time(self.root())?;
        // Section 5.3.11, and the same for targets: versions are compared under the same keys only,
        // so that a stolen key cannot push them out of reach for ever.
        let now = self.root().ratchet_keys();
        let same: [bool; 3] = std::array::from_fn(|role| keys.get(role) == now.get(role));
        let kept = same == [true; 3] && take_again(&mut self.set, &self.stored.files).is_ok();
        if !kept {
            self.forget(taken_back, same);
        }
        let vector = &mut self.stored.vector;
        (vector.root, vector.root_sha256) = (self.set.root().version(), self.set.root().sha256());
        // The officers' word needs no bound: they could replace every key.
        if self.step_from.is_some() {
            self.step_from = self.step_from.take().max(stated.clone());
        }
        vector.time_floor = vector.time_floor.take().max(stated);
        self.stored.files.insert("root.json".to_owned(), text.into());
        Ok(())
    }

    /// What the importer's last list takes back, as text.
    fn taken_back(&self) -> Option<Arc<[u8]>> {
        let kept = || self.stored.files.get(&kept_list(self.root_version())).cloned();
        match self.set.targets() {
            Some(targets) => {
                targets.extra("revoked").map(|list| list.to_string().into_bytes().into())
            }
            None => kept(),
        }
    }

    /// Nothing of the importer's is held any more but what it took back: that stays so until another
    /// list comes, or whoever withholds it would bring back what was revoked. A role that keeps its keys
    /// keeps its version as the least that may come, or an older list could be sent again.
    fn forget(&mut self, taken_back: Option<Arc<[u8]>>, same_keys: [bool; 3]) {
        let vector = &mut self.stored.vector;
        let held = [vector.timestamp, vector.snapshot, vector.targets];
        for ((least, held), same) in vector.void.iter_mut().zip(held).zip(same_keys) {
            *least = if same { held.max(*least) } else { 0 };
        }
        let [same_station, ..] = same_keys;
        vector.sequence = if same_station { vector.sequence } else { 0 };
        (vector.timestamp, vector.snapshot, vector.targets) = (0, 0, 0);
        self.set.forget();
        self.stored.files.clear();
        if let Some(list) = taken_back {
            self.stored.files.insert(kept_list(self.root_version()), list);
        }
    }

    /// Takes timestamp, snapshot and targets if the timestamp is newer than the one held; says whether
    /// the stick is no older than what is held.
    fn take_importers<'a>(
        &mut self,
        file: &impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<bool, VerifyError> {
        let Some(timestamp) = file("timestamp.json") else {
            return self.set.root_in_time().map(|()| true);
        };
        let held = self.stored.vector.clone();
        match self.set.update_timestamp(timestamp) {
            Ok(true) => {}
            Ok(false) => {
                return ["timestamp.json", "snapshot.json", "targets.json"]
                    .into_iter()
                    .try_for_each(|name| self.check_same(name, self.current(name, file)))
                    .map(|()| true);
            }
            // The stick is older than what is held, which stays.
            Err(VerifyError::Stale { role: RoleName::Timestamp, .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        let step_from = self.step_from.as_ref().or(held.time_floor.as_ref());
        let Stated { time, sequence } = facility::stated(&self.set, &held, step_from)?;
        self.set.set_now(time.clone());
        self.set.timestamp_in_time()?;
        let text = |name, role| self.current(name, file).ok_or(VerifyError::Missing { role });
        let snapshot = text("snapshot.json", RoleName::Snapshot)?;
        self.set.update_snapshot(snapshot, false)?;
        let targets = self.current("targets.json", file);
        let targets = targets.ok_or(VerifyError::Missing { role: RoleName::Targets })?;
        self.set.update_targets(targets)?;
        let (timestamp_version, snapshot_version, targets_version) = versions(&self.set);
        let [timestamp_least, snapshot_least, targets_least] = held.void;
        for (role, offered, held) in [
            (RoleName::Timestamp, timestamp_version, timestamp_least),
            (RoleName::Snapshot, snapshot_version, snapshot_least),
            (RoleName::Targets, targets_version, targets_least.max(held.targets)),
        ] {
            if offered < held {
                return Err(VerifyError::Stale { role, offered, held });
            }
        }
        for (name, text, same) in [
            ("snapshot.json", snapshot, snapshot_version == held.snapshot),
            ("targets.json", targets, targets_version == held.targets),
        ] {
            if same {
                self.check_same(name, Some(text))?;
            }
        }
        self.revoked = facility::check_targets(&self.set)?;
        self.stored.files.remove(&kept_list(self.root_version()));
        for (name, text) in
            [("timestamp.json", timestamp), ("snapshot.json", snapshot), ("targets.json", targets)]
        {
            self.stored.files.insert(name.to_owned(), text.into());
        }
        let vector = &mut self.stored.vector;
        (vector.timestamp, vector.snapshot, vector.targets) =
            (timestamp_version, snapshot_version, targets_version);
        (vector.time_floor, vector.sequence) = (time, sequence);
        vector.void = [0; 3];
        Ok(true)
    }

    /// The file called `name`, or by its version where the root says so (section 6.2).
    fn current<'a>(
        &self,
        name: &str,
        file: &impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Option<&'a [u8]> {
        let version = match name {
            "snapshot.json" => self.set.offered_snapshot(),
            "targets.json" => self.set.offered_targets(RoleName::Targets.name()),
            _ => None,
        };
        let versioned = version.filter(|_| self.root().consistent_snapshot());
        let versioned = versioned.and_then(|version| file(&format!("{version}.{name}")));
        versioned.or_else(|| file(name))
    }
}

/// Whether trust metadata may hold a file of this name: `N.root.json`, and the importer's, with their
/// version in front or without.
fn is_meta_name(name: &str) -> bool {
    if matches!(name, "timestamp.json" | "snapshot.json" | "targets.json") {
        return true;
    }
    let Some((version, name)) = name.split_once('.') else { return false };
    let plain =
        version.parse::<u64>().is_ok_and(|number| number > 0 && number.to_string() == version);
    plain && matches!(name, "root.json" | "snapshot.json" | "targets.json")
}

/// Whether a name that trust metadata may hold is that of a snapshot or targets with their version,
/// which is read only where the root says so (section 6.2).
fn is_versioned(name: &str) -> bool {
    name.ends_with(".snapshot.json") || name.ends_with(".targets.json")
}

/// The name under which revocations are kept that no list holds any more. Each root has its own, so
/// that no name ever stands for two contents.
fn kept_list(root_version: u64) -> String {
    format!("{root_version}.revoked.json")
}

/// Takes files that were accepted before; gives what they take back.
fn take_again(
    set: &mut TrustedSet,
    files: &BTreeMap<String, Arc<[u8]>>,
) -> Result<Revoked, VerifyError> {
    let file = |name: &str| files.get(name).ok_or(VerifyError::Corrupt);
    set.update_timestamp(file("timestamp.json")?)?;
    set.update_snapshot(file("snapshot.json")?, false)?;
    set.update_targets(file("targets.json")?)?;
    facility::check_targets(set)
}

/// Versions of timestamp, snapshot and targets; 0 for what is not held.
fn versions(set: &TrustedSet) -> (u64, u64, u64) {
    (
        set.timestamp().map_or(0, |held| held.metadata.version),
        set.snapshot().map_or(0, |held| held.metadata.version),
        set.targets().map_or(0, |held| held.metadata.version),
    )
}
