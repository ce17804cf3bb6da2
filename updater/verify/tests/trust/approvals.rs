//! Approvals and consents: whose they are.

use cloister_attest::{
    approval::{Approval, Decision},
    consent::{Consent, Matter},
    dsse::Envelope,
};
use cloister_domain::{Coded as _, Digest, LogHead};
use cloister_verify::VerifyError;

use crate::support::{IMPORTER, STRANGER, enrolled, key, manifest, root};

fn approval(seed: u8, person: &str, package: &[u8], decision: Decision) -> Vec<u8> {
    let approval = Approval {
        package: Digest::of(package),
        bundle: manifest(1).generation(),
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        log: LogHead { origin: "enclave/one".to_owned(), size: 1 },
        decision,
        person: person.parse().unwrap(),
        comment: String::new(),
    };
    approval.sign(&key(seed)).unwrap().to_json()
}

#[test]
fn an_approval_is_of_the_person_whose_key_signed_it() {
    use Decision::{Approve, Reject};
    let state = enrolled(&root(1)).unwrap();
    for (seed, person, decision) in [(6, "eve", Approve), (7, "flo", Reject)] {
        let verified = state.approval(&approval(seed, person, b"p", decision)).unwrap();
        let said = verified.get();
        assert_eq!((said.person.as_str(), said.decision), (person, decision));
        assert_eq!((said.package, said.bundle), (Digest::of(b"p"), manifest(1).generation()));
        assert_eq!((said.log.origin.as_str(), said.log.size), ("enclave/one", 1));
    }
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

/// Each of these is a good approval to a reader of DSSE. As records they would spoil the log for ever.
#[test]
fn what_a_person_signed_has_one_spelling() {
    let text = approval(6, "eve", b"p", Decision::Approve);
    let good = Envelope::parse(&text).unwrap();
    let renamed = |keyid: &str| {
        let mut envelope = good.clone();
        envelope.signatures[0].keyid = keyid.to_owned();
        envelope.to_json()
    };
    let plain = String::from_utf8(text).unwrap();
    let changed = |from: &str, to: &str| {
        assert!(plain.contains(from), "{from}");
        plain.replacen(from, to, 1).into_bytes()
    };
    let payload = String::from_utf8(good.payload.clone()).unwrap();
    let spaced = Envelope::unsigned(&good.payload_type, format!("{payload} ").into_bytes());
    let keyid = format!("\"keyid\":\"{}\",", key(6).public().key_id());
    let mut strange = good.clone();
    strange.signatures.push(good.clone().sign_with(&key(STRANGER)).signatures.remove(1));
    let sig = plain.rfind("==\"").unwrap();
    let unpadded = [plain.get(..sig).unwrap(), plain.get(sig + 2..).unwrap()].concat();
    for (other, why) in [
        (renamed(""), "no key id"),
        (changed(&keyid, ""), "no key id field"),
        (changed("{\"payload\"", "{ \"payload\""), "a space"),
        (changed("{\"payload\"", "{\"also\":1,\"payload\""), "a field"),
        (unpadded.into_bytes(), "no padding"),
        (spaced.sign_with(&key(6)).to_json(), "a statement with a space"),
        (strange.to_json(), "a stranger's signature beside it"),
    ] {
        let refused = enrolled(&root(1)).unwrap().approval(&other).unwrap_err();
        assert_eq!(refused.code(), "approval.form", "{why}");
    }
    assert!(enrolled(&root(1)).unwrap().approval(plain.as_bytes()).is_ok());
}

/// A key that the root calls by an id of its own is called by its computed one in a record.
#[test]
fn an_opaque_key_id_is_no_name_for_a_record() {
    let (id, opaque) = (key(6).public().key_id(), "eves-card");
    let text = root(1).to_string().replace(&id, opaque);
    let state = enrolled(&serde_json::from_str(&text).unwrap()).unwrap();
    let good = Envelope::parse(&approval(6, "eve", b"p", Decision::Approve)).unwrap();
    assert!(state.approval(&good.to_json()).is_ok());
    let mut other = good;
    other.signatures[0].keyid = opaque.to_owned();
    assert_eq!(state.approval(&other.to_json()).unwrap_err().code(), "approval.form");
}

#[test]
fn a_consent_is_of_the_person_whose_key_signed_it() {
    let state = enrolled(&root(1)).unwrap();
    let matter = Matter::Acknowledgement { checkpoint: Digest::of(b"checkpoint") };
    let unsigned = |person: &str| {
        let log = LogHead { origin: "enclave/one".to_owned(), size: 1 };
        Consent { matter, log, person: person.parse().unwrap() }.unsigned().unwrap()
    };
    let good = unsigned("eve").sign_with(&key(6));
    let verified = state.consent(&good.to_json()).unwrap();
    assert_eq!((verified.get().person.as_str(), verified.get().matter), ("eve", matter));
    for (text, code) in [
        (unsigned("flo").sign_with(&key(6)).to_json(), "approval.person"),
        (unsigned("eve").sign_with(&key(STRANGER)).to_json(), "approval.unknown-signer"),
        (unsigned("imp").sign_with(&key(IMPORTER)).to_json(), "approval.unknown-signer"),
        (good.sign_with(&key(7)).to_json(), "approval.person"),
        (approval(6, "eve", b"p", Decision::Approve), "approval.form"),
    ] {
        assert_eq!(state.consent(&text).unwrap_err().code(), code);
    }
}
