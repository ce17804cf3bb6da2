//! Approvals: distinct persons, each bound to the same package.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::{
    approval::{Approval, Decision},
    dsse::Envelope,
};
use cloister_domain::{Digest, GenerationId, Principal};

use crate::{
    RoleName, TrustState, Verified, VerifyError,
    tuf::{Authority, Root, Speakers, Strict},
};

/// Enough distinct persons approved one package. Only this crate can make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    package: Digest,
    bundle: GenerationId,
    persons: BTreeSet<Principal>,
}

impl Approved {
    /// The package that was approved.
    #[must_use]
    pub const fn package(&self) -> Digest {
        self.package
    }

    /// The release that was approved.
    #[must_use]
    pub const fn bundle(&self) -> GenerationId {
        self.bundle
    }

    /// Who approved.
    #[must_use]
    pub const fn persons(&self) -> &BTreeSet<Principal> {
        &self.persons
    }
}

/// What an auditor knows from the trust roots: the digest of the enrolled one, and who could approve
/// under it and under each of its successors, by the root's digest.
///
/// # Errors
/// [`VerifyError::Missing`] without a root, else those of a root that is malformed, badly signed or
/// does not follow the one before.
pub fn auditors_view(roots: &[&[u8]]) -> Result<(Digest, BTreeMap<Digest, Speakers>), VerifyError> {
    let missing = VerifyError::Missing { role: RoleName::Root };
    let (first, later) = roots.split_first().ok_or(missing)?;
    let mut root = Root::parse(first, &Strict)?;
    let enrolled = root.sha256();
    let mut all = BTreeMap::from([(enrolled, approvers(&root))]);
    for text in later {
        root = root.followed_by(text, &Strict)?;
        all.insert(root.sha256(), approvers(&root));
    }
    Ok((enrolled, all))
}

fn approvers(root: &Root) -> Speakers {
    root.approvers.as_ref().map(Authority::speakers).unwrap_or_default()
}

impl TrustState {
    /// One person's decision, if the person is an approver and the key is that person's.
    ///
    /// # Errors
    /// [`VerifyError::Approval`] for its form, [`VerifyError::UnknownSigner`],
    /// [`VerifyError::Threshold`] for a bad signature of a known key, [`VerifyError::OtherPerson`].
    pub fn approval(&self, envelope_text: &[u8]) -> Result<Verified<Approval>, VerifyError> {
        let envelope = Envelope::parse(envelope_text).map_err(VerifyError::Approval)?;
        let unknown = VerifyError::UnknownSigner { role: RoleName::Approver };
        let one = self.root().approvers.as_ref().ok_or(unknown)?.any_one();
        let signers = one.signers(&envelope, RoleName::Approver)?;
        let approval = Approval::of(&envelope).map_err(VerifyError::Approval)?;
        // One envelope, one person: a second signature would speak for words that were not its own.
        if signers.len() != 1 || !signers.contains(&approval.person) {
            return Err(VerifyError::OtherPerson);
        }
        Ok(Verified::new(approval, signers, false))
    }

    /// Whether enough distinct persons approved exactly `package` of `bundle`. The envelopes are
    /// checked again here, under the root of now.
    ///
    /// `needed` may ask for more persons than the root does, never for fewer.
    ///
    /// # Errors
    /// Those of [`TrustState::approval`]; [`VerifyError::OtherPackage`], [`VerifyError::Rejected`],
    /// [`VerifyError::Threshold`].
    pub fn approved<T: AsRef<[u8]>>(
        &self,
        envelope_texts: &[T],
        package: Digest,
        bundle: GenerationId,
        needed: u64,
    ) -> Result<Approved, VerifyError> {
        let mut persons = BTreeSet::new();
        for text in envelope_texts {
            let verified = self.approval(text.as_ref())?;
            let approval = verified.get();
            if approval.package != package || approval.bundle != bundle {
                return Err(VerifyError::OtherPackage);
            }
            match approval.decision {
                Decision::Reject => return Err(VerifyError::Rejected),
                Decision::Approve => persons.insert(approval.person.clone()),
            };
        }
        let unknown = VerifyError::UnknownSigner { role: RoleName::Approver };
        let of_root = self.approvals_needed().ok_or(unknown)?;
        let needed = of_root.max(needed);
        let good = u64::try_from(persons.len()).unwrap_or(u64::MAX);
        if good < needed {
            return Err(VerifyError::Threshold { role: RoleName::Approver, good, needed });
        }
        Ok(Approved { package, bundle, persons })
    }
}
