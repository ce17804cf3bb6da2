//! The client's workflow (section 5.3 to 5.6), one file at a time.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    keys::Algorithms,
    roles::{Snapshot, Timestamp},
    root::Root,
    targets::Targets,
};
use crate::{Instant, RoleName, VerifyError};

/// A trusted root and what it vouches for. A file that is refused changes nothing, but one: an
/// expired timestamp or snapshot is kept as the measure of what may follow it.
#[derive(Clone, Debug)]
pub struct TrustedSet {
    algorithms: Arc<dyn Algorithms>,
    now: Option<Instant>,
    root: Root,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
    /// By role and by the role that delegated to it: one way to a file says nothing about another.
    delegated: BTreeMap<(String, String), Targets>,
}

impl TrustedSet {
    /// Begins with a root that is trusted for another reason than its signatures. `now` is a time
    /// that has passed, if one is known: what expired before it is refused.
    ///
    /// # Errors
    /// Those of [`Root::parse`].
    pub fn new(
        root: &[u8],
        algorithms: Arc<dyn Algorithms>,
        now: Option<Instant>,
    ) -> Result<Self, VerifyError> {
        let root = Root::parse(root, algorithms.as_ref())?;
        let delegated = BTreeMap::new();
        Ok(Self {
            algorithms,
            now,
            root,
            timestamp: None,
            snapshot: None,
            targets: None,
            delegated,
        })
    }

    /// The newest root.
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Whether the root has expired.
    pub(crate) fn root_in_time(&self) -> Result<(), VerifyError> {
        self.root.unexpired(self.now.as_ref())
    }

    /// Whether the timestamp, and the root above it, have expired.
    pub(crate) fn timestamp_in_time(&self) -> Result<(), VerifyError> {
        self.root_in_time()?;
        self.timestamp.iter().try_for_each(|held| held.metadata.unexpired(self.now.as_ref()))
    }

    /// Whether everything that is held is valid still at `now`.
    pub(crate) fn in_time(&self, now: Option<&Instant>) -> Result<(), VerifyError> {
        self.root.unexpired(now)?;
        let timestamp = self.timestamp.as_ref().map(|held| &held.metadata);
        let snapshot = self.snapshot.as_ref().map(|held| &held.metadata);
        let targets = self.targets.as_ref().map(|held| &held.metadata);
        let held = [timestamp, snapshot, targets];
        held.into_iter().flatten().try_for_each(|metadata| metadata.unexpired(now))
    }

    /// Forgets everything but the root.
    pub(crate) fn forget(&mut self) {
        (self.timestamp, self.snapshot, self.targets) = (None, None, None);
        self.delegated.clear();
    }

    /// Another time is known to have passed.
    pub(crate) fn set_now(&mut self, now: Option<Instant>) {
        self.now = now;
    }

    pub(crate) const fn timestamp(&self) -> Option<&Timestamp> {
        self.timestamp.as_ref()
    }

    pub(crate) const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The importer's list, once it came.
    #[must_use]
    pub const fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref()
    }

    /// Versions of timestamp and of the snapshot that it names, once a timestamp came.
    #[must_use]
    pub fn offered_snapshot(&self) -> Option<u64> {
        self.timestamp.as_ref().map(|timestamp| timestamp.snapshot.version)
    }

    /// The version of a targets role by the snapshot.
    #[must_use]
    pub fn offered_targets(&self, role: &str) -> Option<u64> {
        self.snapshot.as_ref()?.listed(role).map(|listed| listed.version)
    }

    /// Takes the root that follows. What its predecessor vouched for must be taken anew, because
    /// other keys, persons or thresholds may count now.
    ///
    /// # Errors
    /// Those of [`Root::followed_by`].
    pub fn update_root(&mut self, text: &[u8]) -> Result<(), VerifyError> {
        self.root = self.root.followed_by(text, self.algorithms.as_ref())?;
        self.forget();
        Ok(())
    }

    /// Takes a timestamp that is newer than the one held (section 5.4), and says whether it was. One
    /// of the same version is passed over, whatever it says: a version has one content.
    ///
    /// # Errors
    /// [`VerifyError::Expired`] of the root or of the timestamp, [`VerifyError::Stale`], and those of
    /// form and signatures.
    pub fn update_timestamp(&mut self, text: &[u8]) -> Result<bool, VerifyError> {
        self.root.unexpired(self.now.as_ref())?;
        let offered = Timestamp::parse(text, &self.root)?;
        if let Some(held) = &self.timestamp {
            for (role, offered, held) in [
                (RoleName::Timestamp, offered.metadata.version, held.metadata.version),
                (RoleName::Snapshot, offered.snapshot.version, held.snapshot.version),
            ] {
                if offered < held {
                    return Err(VerifyError::Stale { role, offered, held });
                }
            }
            if offered.metadata.version == held.metadata.version {
                return held.metadata.unexpired(self.now.as_ref()).map(|()| false);
            }
        }
        let in_time = offered.metadata.unexpired(self.now.as_ref());
        self.timestamp = Some(offered);
        in_time.map(|()| true)
    }

    /// Takes the snapshot that the timestamp names (section 5.5). One that was `trusted` before need
    /// not be the named one: then it is the measure of what may follow, and [`VerifyError::Mixed`].
    ///
    /// # Errors
    /// [`VerifyError::Missing`] before a timestamp; [`VerifyError::Mixed`], [`VerifyError::Stale`],
    /// [`VerifyError::Removed`], [`VerifyError::Expired`], and those of form and signatures.
    pub fn update_snapshot(&mut self, text: &[u8], trusted: bool) -> Result<(), VerifyError> {
        let missing = VerifyError::Missing { role: RoleName::Timestamp };
        let timestamp = self.timestamp.as_ref().ok_or(missing)?;
        timestamp.metadata.unexpired(self.now.as_ref())?;
        let listed = &timestamp.snapshot;
        let offered = Snapshot::parse(text, &self.root, (!trusted).then_some(listed))?;
        if let Some(held) = &self.snapshot {
            offered.not_before(held)?;
        }
        let current = listed.current(&offered.metadata, RoleName::Snapshot, self.now.as_ref());
        if current.is_ok() || trusted {
            self.snapshot = Some(offered);
        }
        current
    }

    /// Takes the targets file that the snapshot names (section 5.6).
    ///
    /// # Errors
    /// [`VerifyError::Missing`] before a snapshot; [`VerifyError::Mixed`], [`VerifyError::Expired`],
    /// and those of form and signatures.
    pub fn update_targets(&mut self, text: &[u8]) -> Result<(), VerifyError> {
        let trust = (&self.root, &self.root.targets, self.algorithms.as_ref());
        let role = RoleName::Targets;
        let listed = self.current_snapshot()?.listed("targets");
        let listed = listed.ok_or(VerifyError::Mixed { role })?;
        let targets = Targets::parse(text, role, trust, listed, self.now.as_ref())?;
        self.targets = Some(targets);
        Ok(())
    }

    /// Takes the file of `role` on the word of `delegator`, whose own file was taken before (the
    /// importer's list is called `targets`). The word of one delegator says nothing for another's.
    ///
    /// # Errors
    /// As [`TrustedSet::update_targets`]; [`VerifyError::OutOfScope`] if `delegator` does not
    /// delegate to `role` for `path`.
    pub fn update_delegated(
        &mut self,
        text: &[u8],
        role: &str,
        delegator: (&str, &str),
        path: &str,
    ) -> Result<(), VerifyError> {
        let parent = self.delegated(delegator.0, delegator.1).ok_or(VerifyError::OutOfScope)?;
        let delegations = parent.delegations(path);
        let delegation = delegations.iter().find(|delegation| delegation.name() == role);
        let authority = &delegation.ok_or(VerifyError::OutOfScope)?.authority;
        let trust = (&self.root, authority, self.algorithms.as_ref());
        let listed = self.current_snapshot()?.listed(role);
        let listed = listed.ok_or(VerifyError::Mixed { role: RoleName::Delegated })?;
        let now = self.now.as_ref();
        let targets = Targets::parse(text, RoleName::Delegated, trust, listed, now)?;
        self.delegated.insert((role.to_owned(), delegator.0.to_owned()), targets);
        Ok(())
    }

    /// The file of `role` as `delegator` vouched for it; `targets` is the importer's list.
    #[must_use]
    pub fn delegated(&self, role: &str, delegator: &str) -> Option<&Targets> {
        if role == RoleName::Targets.name() {
            return self.targets.as_ref();
        }
        self.delegated.get(&(role.to_owned(), delegator.to_owned()))
    }

    /// The snapshot, if it is the one that the timestamp names.
    fn current_snapshot(&self) -> Result<&Snapshot, VerifyError> {
        let role = RoleName::Snapshot;
        let (Some(timestamp), Some(snapshot)) = (&self.timestamp, &self.snapshot) else {
            return Err(VerifyError::Missing { role });
        };
        timestamp.snapshot.current(&snapshot.metadata, role, self.now.as_ref())?;
        Ok(snapshot)
    }
}
