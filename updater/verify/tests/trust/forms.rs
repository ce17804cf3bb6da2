//! The form of metadata: lengths, versions, names, and what a key or a signature may be.

use cloister_domain::{Coded as _, Digest};
use cloister_verify::{RoleName, TrustState, VerifyError, enrol};
use serde_json::{Value, json};

use crate::support::{
    Meta, PUBLISHER, STRANGER, enrolled, key, manifest, pack, root, signed, with,
};

fn enrolled_text(text: &[u8]) -> Result<TrustState, VerifyError> {
    enrol(text, Digest::of(text))
}

#[test]
fn a_root_has_at_most_a_mebibyte() {
    let mut text = signed(&root(1), &[1, 2]);
    // White space before the object: the same message with the same signatures.
    text.splice(0..0, std::iter::repeat_n(b' ', (1 << 20) - text.len()));
    assert_eq!(text.len(), 1 << 20);
    assert!(enrolled_text(&text).is_ok());
    text.insert(0, b' ');
    assert_eq!(enrolled_text(&text).unwrap_err().code(), "bundle.trust.metadata");
    text.splice(0..0, std::iter::repeat_n(b' ', 9));
    assert_eq!(enrolled_text(&text).unwrap_err().code(), "bundle.trust.metadata");
}

#[test]
fn fields_that_every_file_has_are_checked() {
    let refused = |name: &'static str, value: Value| {
        let mut part = root(1);
        part[name] = value;
        let wrong = VerifyError::Field { role: RoleName::Root, field: name };
        assert_eq!(enrolled(&part), Err(wrong), "{name}");
    };
    refused("version", 0.into());
    refused("version", (-1).into());
    refused("version", "1".into());
    refused("spec_version", "2.0.0".into());
    refused("_type", "targets".into());
    refused("expires", "2040-01-01".into());
    refused("keys", json!([]));
    assert!(enrolled(&root(1)).is_ok());
}

#[test]
fn a_key_id_has_at_most_256_bytes() {
    for (bytes, good) in [(256, true), (257, false), (300, false)] {
        let mut named = root(1);
        named["keys"]["x".repeat(bytes)] = key(STRANGER).public().to_object();
        assert_eq!(enrolled(&named).is_ok(), good, "{bytes}");
    }
}

#[test]
fn keys_of_other_kinds_are_passed_over_and_what_is_no_key_is_not() {
    let with_key = |object: Value| {
        let mut other = root(1);
        other["keys"]["other"] = object;
        enrolled(&other).map(drop)
    };
    let keyval = json!({"public": "x"});
    assert_eq!(with_key(json!({"keytype": "rsa", "scheme": "x", "keyval": keyval})), Ok(()));
    let wrong = Err(VerifyError::Field { role: RoleName::Root, field: "keys" });
    for object in [
        json!({"scheme": "x", "keyval": keyval}),
        json!({"keytype": 7, "scheme": "x", "keyval": keyval}),
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": keyval}),
        json!([]),
    ] {
        assert_eq!(with_key(object), wrong);
    }
}

#[test]
fn a_release_may_be_signed_without_a_name_and_metadata_may_not() {
    let nameless = |text: &[u8]| -> Vec<u8> {
        let mut file: Value = serde_json::from_slice(text).unwrap();
        for signature in file["signatures"].as_array_mut().unwrap() {
            signature["keyid"] = "".into();
        }
        file.to_string().into_bytes()
    };
    // DSSE: a key id is a hint, and may be missing.
    let text = nameless(&manifest(1).envelope().sign_with(&key(PUBLISHER)).to_json());
    assert!(with(vec![(1, text.clone())]).judge(&text).is_ok());
    // TUF: the id says which key it is (section 4.2.1).
    let mut files = Meta::new(1, Vec::new()).files();
    let timestamp = files.iter_mut().find(|file| file.0 == "timestamp.json").unwrap();
    timestamp.1 = nameless(&timestamp.1);
    let refused = enrolled(&root(1)).unwrap().refresh(&pack(&files));
    assert_eq!(refused, Err(VerifyError::UnknownSigner { role: RoleName::Timestamp }));
}

#[test]
fn a_refusal_names_the_role() {
    for (role, name) in [
        (RoleName::Root, "root"),
        (RoleName::Timestamp, "timestamp"),
        (RoleName::Snapshot, "snapshot"),
        (RoleName::Targets, "targets"),
        (RoleName::Delegated, "delegated targets"),
        (RoleName::Publisher, "publisher"),
        (RoleName::Approver, "approver"),
    ] {
        let said = VerifyError::Expired { role }.to_string();
        assert_eq!(said, format!("the {name} metadata has expired; ask for a newer stick"));
    }
}
