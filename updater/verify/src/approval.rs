//! Approvals and consents: whose they are. What they come to together is judged by
//! `cloister-promotion`.

use std::collections::BTreeSet;

use cloister_attest::{AttestError, approval::Approval, consent::Consent, dsse::Envelope};
use cloister_domain::{Digest, Principal};

use crate::{
    RoleName, TrustState, Verified, VerifyError,
    tuf::{Authority, Root, Speakers, Strict},
};

/// What an auditor knows from the trust roots: the digest of the enrolled one, and who could approve
/// under it and under each of its successors, oldest first, by the root's digest.
///
/// # Errors
/// [`VerifyError::Missing`] without a root, else those of a root that is malformed, badly signed or
/// does not follow the one before.
pub fn auditors_view(roots: &[&[u8]]) -> Result<(Digest, Vec<(Digest, Speakers)>), VerifyError> {
    let missing = VerifyError::Missing { role: RoleName::Root };
    let (first, later) = roots.split_first().ok_or(missing)?;
    let mut root = Root::parse(first, &Strict)?;
    let enrolled = root.sha256();
    let mut all = vec![(enrolled, approvers(&root))];
    for text in later {
        root = root.followed_by(text, &Strict)?;
        all.push((root.sha256(), approvers(&root)));
    }
    Ok((enrolled, all))
}

fn approvers(root: &Root) -> Speakers {
    root.approvers.as_ref().map(Authority::speakers).unwrap_or_default()
}

impl TrustState {
    /// One person's decision, if the person is an approver and the key is that person's. It becomes a record
    /// as it is, which others must be able to check, so it is taken in its one spelling, and each of its
    /// signatures names a key of that person by the SHA-256 of the key's object.
    ///
    /// # Errors
    /// [`VerifyError::Approval`] for its form, [`VerifyError::UnknownSigner`],
    /// [`VerifyError::Threshold`] for a bad signature of a known key, [`VerifyError::OtherPerson`].
    pub fn approval(&self, envelope_text: &[u8]) -> Result<Verified<Approval>, VerifyError> {
        let envelope = Envelope::parse_exact(envelope_text).map_err(VerifyError::Approval)?;
        let approval = Approval::of(&envelope).map_err(VerifyError::Approval);
        let (approval, signers) = self.said_by(&envelope, approval, |said| &said.person)?;
        Ok(Verified::new(approval, signers, false))
    }

    /// A person's consent to what only several persons together may allow.
    ///
    /// # Errors
    /// As [`TrustState::approval`].
    pub fn consent(&self, envelope_text: &[u8]) -> Result<Verified<Consent>, VerifyError> {
        let envelope = Envelope::parse_exact(envelope_text).map_err(VerifyError::Approval)?;
        let consent = Consent::of(&envelope).map_err(VerifyError::Approval);
        let (consent, signers) = self.said_by(&envelope, consent, |said| &said.person)?;
        Ok(Verified::new(consent, signers, false))
    }

    /// What the envelope says, if the approver whom it names signed it, and nobody else.
    fn said_by<T>(
        &self,
        envelope: &Envelope,
        said: Result<T, VerifyError>,
        person: impl Fn(&T) -> &Principal,
    ) -> Result<(T, BTreeSet<Principal>), VerifyError> {
        let unknown = VerifyError::UnknownSigner { role: RoleName::Approver };
        let one = self.root().approvers.as_ref().ok_or(unknown)?.any_one();
        let signers = one.signers(envelope, RoleName::Approver)?;
        let said = said?;
        // One envelope, one person: a second signature would speak for words that were not its own.
        if signers.len() != 1 || !signers.contains(person(&said)) {
            return Err(VerifyError::OtherPerson);
        }
        let own = one.key_ids(person(&said));
        if !envelope.signatures.iter().all(|signature| own.contains(&signature.keyid)) {
            return Err(VerifyError::Approval(AttestError::NotCanonical));
        }
        Ok((said, signers))
    }
}
