//! Releases: which may enter, which were promoted, which may be activated.

use cloister_attest::dsse::Envelope;
use cloister_bundle::{BundleError, Manifest};
use cloister_domain::{Digest, Principal};

use crate::{Accepted, RoleName, TrustState, Verified, VerifyError, tuf::Targets};

/// Where TUF's targets list the manifest of a release: `<name>/<version>.json`.
#[must_use]
pub fn target_path(name: &str, version: &str) -> String {
    format!("{name}/{version}.json")
}

/// Under whose word a release counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vouchers {
    /// The publisher's role.
    pub role: String,
    /// How many persons of it must sign.
    pub needed: u64,
    /// Its keys that signed and are not revoked, by their ids in the metadata, with who holds them.
    pub keys: Vec<(String, Principal)>,
}

impl TrustState {
    /// Judges a release by `clb/20-manifest` as it lies on the medium.
    ///
    /// In this order: a publisher for its name signed it (threshold of persons whose keys are not
    /// revoked), it is not revoked itself, no later release was promoted, the importer's current list
    /// holds exactly these bytes.
    ///
    /// # Errors
    /// [`VerifyError::Bundle`] for its form; [`VerifyError::OutOfScope`],
    /// [`VerifyError::UnknownSigner`], [`VerifyError::Threshold`], [`VerifyError::Revoked`],
    /// [`VerifyError::Rollback`], [`VerifyError::NotListed`]; [`VerifyError::Missing`] before any
    /// importer's metadata came, [`VerifyError::Expired`] once what came has provably expired.
    pub fn judge(&self, envelope_text: &[u8]) -> Result<Verified<Manifest>, VerifyError> {
        let missing = VerifyError::Missing { role: RoleName::Targets };
        let targets = self.set().targets().ok_or(missing)?;
        // The officers may have stated a later time than the list was made for.
        self.set().in_time(self.stored().vector.time_floor.as_ref())?;
        let envelope = Envelope::parse(envelope_text).map_err(BundleError::Manifest)?;
        // The name is read before the signature, because it chooses whose signature must be there.
        let manifest = Manifest::of(&envelope)?;
        let release = manifest.release();
        let path = target_path(&release.name, &release.version);
        let signers = self.publishers(targets, &path, &envelope)?;
        self.revoked().check(&manifest)?;
        let already_promoted = self.check_counter(&manifest)?;
        let listed = targets.target(&path).ok_or(VerifyError::NotListed)?;
        // A list without SHA-256 would say nothing that a release's identity hangs on.
        if listed.sha256 != Some(Digest::of(envelope_text)) || !listed.is(envelope_text) {
            return Err(VerifyError::NotListed);
        }
        Ok(Verified::new(manifest, signers, already_promoted))
    }

    /// Under whose word a release counts: the first role that covers its name and for which enough persons
    /// signed with keys that are not revoked. `None` where there is none, or the envelope is no manifest's.
    #[must_use]
    pub fn vouchers(&self, envelope_text: &[u8]) -> Option<Vouchers> {
        let envelope = Envelope::parse(envelope_text).ok()?;
        let manifest = Manifest::of(&envelope).ok()?;
        let release = manifest.release();
        let path = target_path(&release.name, &release.version);
        let revoked = self.revoked().keys();
        let publishers = self.set().targets()?.delegations(&path);
        publishers.into_iter().find_map(|publisher| {
            let authority = publisher.authority.without(&revoked);
            authority.signers(&envelope, RoleName::Publisher).ok()?;
            let (keys, needed) = authority.good_keys(&envelope);
            Some(Vouchers { role: publisher.name().to_owned(), needed, keys })
        })
    }

    /// The persons who signed `envelope` for one of the roles that cover `path`. Of several such
    /// roles each is enough; the refusal is the first one's.
    fn publishers(
        &self,
        targets: &Targets,
        path: &str,
        envelope: &Envelope,
    ) -> Result<std::collections::BTreeSet<Principal>, VerifyError> {
        let revoked = self.revoked().keys();
        let mut refusal = None;
        for publisher in targets.delegations(path) {
            let authority = publisher.authority.without(&revoked);
            match authority.signers(envelope, RoleName::Publisher) {
                Ok(signers) => return Ok(signers),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            None => Err(VerifyError::OutOfScope),
            Some(_) if self.revoked().signed(envelope) => Err(VerifyError::RevokedKey),
            Some(error) => Err(error),
        }
    }

    /// Equality of numbers is not newer: only the same release may come again.
    fn check_counter(&self, manifest: &Manifest) -> Result<bool, VerifyError> {
        let release = manifest.release();
        let Some(held) = self.stored().vector.releases.get(&release.name) else { return Ok(false) };
        let same = held.generation == manifest.generation();
        if same || release.release_counter > held.counter {
            return Ok(same);
        }
        Err(VerifyError::Rollback { offered: release.release_counter, held: held.counter })
    }

    /// The state after `manifest` was promoted: its counter is the least from now on, and so is its
    /// floor. Both only rise, each by itself: an older release may forbid what a newer one does not.
    #[must_use]
    pub fn promoted(&self, manifest: &Manifest) -> Self {
        let mut next = self.clone();
        let release = manifest.release();
        let held = next.stored().vector.releases.get(&release.name);
        let floor = held.map_or(0, |held| held.floor).max(release.min_release_counter);
        let accepted = match held.filter(|held| held.counter >= release.release_counter) {
            Some(newer) => Accepted { floor, ..newer.clone() },
            None => {
                let generation = manifest.generation();
                Accepted { counter: release.release_counter, generation, floor }
            }
        };
        next.vector_mut().releases.insert(release.name.clone(), accepted);
        next
    }

    /// Whether a retained release was taken back, by name, by counter or with a key that signed it.
    #[must_use]
    pub fn is_revoked(&self, envelope_text: &[u8]) -> bool {
        let refusal = self.may_activate(envelope_text);
        matches!(refusal, Err(VerifyError::Revoked | VerifyError::RevokedKey))
    }

    /// Whether a retained release, by its envelope as it was received, may be activated (again).
    ///
    /// # Errors
    /// [`VerifyError::Rollback`] below the floor of what was promoted under its name;
    /// [`VerifyError::Revoked`] if it was taken back; [`VerifyError::RevokedKey`] if a revoked key
    /// signed it and those that are still valid are not enough.
    pub fn may_activate(&self, envelope_text: &[u8]) -> Result<(), VerifyError> {
        let envelope = Envelope::parse(envelope_text).map_err(BundleError::Manifest)?;
        let manifest = Manifest::of(&envelope)?;
        let release = manifest.release();
        self.revoked().check(&manifest)?;
        // A publisher whose key was exchanged without revoking it leaves its releases valid.
        let path = target_path(&release.name, &release.version);
        let by_others = self.set().targets().is_some_and(|targets| {
            // Where nobody may sign that name any more, none who still may is left beside the revoked one.
            self.publishers(targets, &path, &envelope).is_ok()
        });
        if self.revoked().signed(&envelope) && !by_others {
            return Err(VerifyError::RevokedKey);
        }
        // Last, because persons may let one go below the floor, and not to what a thief signed.
        let floor = self.stored().vector.releases.get(&release.name).map_or(0, |held| held.floor);
        if release.release_counter < floor {
            return Err(VerifyError::Rollback { offered: release.release_counter, held: floor });
        }
        Ok(())
    }
}
