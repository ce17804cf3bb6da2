//! Approvals: distinct persons, each bound to the same package.

use cloister_attest::{
    approval::{Approval, Decision},
    dsse::Envelope,
};
use cloister_domain::{Coded as _, Digest};
use cloister_verify::{RoleName, VerifyError};

use crate::support::{IMPORTER, STRANGER, enrolled, key, manifest, root};

fn approval(seed: u8, person: &str, package: &[u8], decision: Decision) -> Vec<u8> {
    let approval = Approval {
        package: Digest::of(package),
        bundle: manifest(1).generation(),
        decision,
        person: person.parse().unwrap(),
        comment: String::new(),
    };
    approval.sign(&key(seed)).unwrap().to_json()
}

#[test]
fn two_distinct_approvers_are_needed_and_one_rejection_outweighs_them() {
    use Decision::{Approve, Reject};
    let state = enrolled(&root(1)).unwrap();
    let judge = |texts: &[Vec<u8>], needed| {
        state.approved(texts, Digest::of(b"p"), manifest(1).generation(), needed)
    };
    let eve = approval(6, "eve", b"p", Approve);
    let flo = approval(7, "flo", b"p", Approve);
    let both = judge(&[eve.clone(), flo.clone()], 0).unwrap();
    assert_eq!(both.persons().iter().map(|one| one.as_str()).collect::<Vec<_>>(), ["eve", "flo"]);
    assert_eq!((both.package(), both.bundle()), (Digest::of(b"p"), manifest(1).generation()));
    let few = |good, needed| VerifyError::Threshold { role: RoleName::Approver, good, needed };
    assert_eq!(judge(&[eve.clone(), eve.clone()], 1), Err(few(1, 2)));
    assert_eq!(judge(&[eve.clone(), flo.clone()], 3), Err(few(2, 3)));
    let no = approval(7, "flo", b"p", Reject);
    assert_eq!(judge(&[eve.clone(), flo, no], 0), Err(VerifyError::Rejected));
    let other = approval(7, "flo", b"other", Approve);
    assert_eq!(judge(&[eve, other], 0), Err(VerifyError::OtherPackage));
    for (text, code) in [
        (approval(6, "flo", b"p", Approve), "approval.person"),
        (approval(STRANGER, "eve", b"p", Approve), "approval.unknown-signer"),
        (approval(IMPORTER, "imp", b"p", Approve), "approval.unknown-signer"),
        (b"{}".to_vec(), "approval.form"),
    ] {
        assert_eq!(state.approval(&text).unwrap_err().code(), code);
    }
    // A release signed by an approver is no approval.
    let release = manifest(1).envelope().sign_with(&key(6)).to_json();
    assert_eq!(state.approval(&release).unwrap_err().code(), "approval.form");
    let two = Envelope::parse(&approval(6, "eve", b"p", Approve)).unwrap().sign_with(&key(7));
    assert_eq!(state.approval(&two.to_json()), Err(VerifyError::OtherPerson));
}
