//! What all TUF metadata has in common: the envelope, its version, and its signatures.

use std::sync::Arc;

use cloister_attest::json;
use cloister_domain::{Digest, Principal};
use serde_json::Value;

use super::keys::{Authority, KEY_ID_BYTES_MAX};
use crate::{Instant, RoleName, VerifyError};

/// The largest file of root, snapshot or timestamp, in bytes (as in other TUF clients).
const SMALL_BYTES_MAX: usize = 1 << 20;
/// The largest file of targets, in bytes.
const TARGETS_BYTES_MAX: usize = 10 << 20;
/// Signatures of one file.
const SIGNATURES_MAX: usize = 64;

/// A signature as TUF writes it: key id, and bytes in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    keyid: String,
    sig: Vec<u8>,
}

/// A parsed file. Its signatures are checked by [`Metadata::signed_by`] and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    role: RoleName,
    /// An object; shared, since a list may be long and whoever judges has a copy of what is held.
    signed: Arc<Value>,
    signatures: Vec<Signature>,
    /// The version; from 1.
    pub(crate) version: u64,
    /// When it expires.
    pub(crate) expires: Instant,
    /// SHA-256 of the file.
    pub(crate) sha256: Digest,
}

impl Metadata {
    /// Reads a file of `role` (sections 4.2 and 4.3).
    pub(crate) fn parse(text: &[u8], role: RoleName) -> Result<Self, VerifyError> {
        let malformed = |cause| VerifyError::Metadata { role, cause };
        let lists = matches!(role, RoleName::Targets | RoleName::Delegated);
        let max = if lists { TARGETS_BYTES_MAX } else { SMALL_BYTES_MAX };
        if text.len() > max {
            let bytes = text.len();
            return Err(malformed(cloister_attest::AttestError::TooLong { bytes, max }));
        }
        let mut value = json::parse_strict(text, json::DEPTH_MAX).map_err(malformed)?;
        let wrong = |field| VerifyError::Field { role, field };
        let signatures = signatures(&value).ok_or(wrong("signatures"))?;
        let signed = value.get_mut("signed").map(Value::take);
        let signed = signed.filter(Value::is_object).ok_or(wrong("signed"))?;
        let field =
            |field: &'static str| signed.get(field).and_then(Value::as_str).ok_or(wrong(field));
        if field("_type")? != role.file_type() {
            return Err(wrong("_type"));
        }
        if !field("spec_version")?.starts_with("1.") {
            return Err(wrong("spec_version"));
        }
        if !signed.get("x-cloister").is_none_or(|extra| is_known(extra, own_fields(role))) {
            return Err(wrong("x-cloister"));
        }
        let expires = field("expires")?.parse().map_err(|_cause| wrong("expires"))?;
        let version = signed.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
        let version = version.ok_or(wrong("version"))?;
        let sha256 = Digest::of(text);
        Ok(Self { role, signed: Arc::new(signed), signatures, version, expires, sha256 })
    }

    /// A field of the signed part.
    pub(crate) fn field(&self, field: &'static str) -> Result<&Value, VerifyError> {
        self.signed.get(field).ok_or(self.wrong(field))
    }

    /// A field that may be absent.
    pub(crate) fn optional(&self, field: &str) -> Option<&Value> {
        self.signed.get(field)
    }

    /// The refusal for a bad field.
    pub(crate) const fn wrong(&self, field: &'static str) -> VerifyError {
        VerifyError::Field { role: self.role, field }
    }

    /// Refuses what expired at or before `now` (a time that is proven to have passed).
    pub(crate) fn unexpired(&self, now: Option<&Instant>) -> Result<(), VerifyError> {
        if now.is_some_and(|now| self.expires <= *now) {
            return Err(VerifyError::Expired { role: self.role });
        }
        Ok(())
    }

    /// Demands good signatures of enough persons of `authority`.
    pub(crate) fn signed_by(&self, authority: &Authority) -> Result<(), VerifyError> {
        // DSSE's nameless signatures do not exist here (section 4.2.1).
        let named = self.signatures.iter().filter(|one| !one.keyid.is_empty());
        let named = named.map(|one| (one.keyid.as_str(), one.sig.as_slice()));
        let message = json::canonical_tuf(&self.signed)
            .map_err(|cause| VerifyError::Metadata { role: self.role, cause })?;
        authority.signed(&message, named, self.role).map(drop)
    }
}

/// What `x-cloister` may hold in a file of `role`.
const fn own_fields(role: RoleName) -> &'static [&'static str] {
    match role {
        RoleName::Root => &["approvers", "issued", "persons"],
        RoleName::Timestamp => &["issued", "sequence", "sequence_last"],
        RoleName::Targets => &["revoked"],
        RoleName::Snapshot | RoleName::Delegated | RoleName::Publisher | RoleName::Approver => &[],
    }
}

/// Whether `value` is an object with no other fields than these. The name is ours, so a field that is
/// not known is a slip of the pen or a later rule; either would read as one that was never made.
pub(crate) fn is_known(value: &Value, fields: &[&str]) -> bool {
    let known = |name: &String| fields.contains(&name.as_str());
    value.as_object().is_some_and(|all| all.keys().all(known))
}

/// The signatures of a file; no key id stands twice (section 4.2.1).
fn signatures(file: &Value) -> Option<Vec<Signature>> {
    let list = file.get("signatures")?.as_array().filter(|list| list.len() <= SIGNATURES_MAX)?;
    let mut signatures: Vec<Signature> = Vec::with_capacity(list.len());
    for value in list {
        let one = signature(value)?;
        if signatures.iter().any(|other| other.keyid == one.keyid) {
            return None;
        }
        signatures.push(one);
    }
    Some(signatures)
}

fn signature(value: &Value) -> Option<Signature> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let keyid = text("keyid").filter(|keyid| keyid.len() <= KEY_ID_BYTES_MAX)?.to_owned();
    // A signature that is no hexadecimal text, such as the empty one of a signer who has not
    // signed yet, is one that does not verify.
    Some(Signature { keyid, sig: unhex(text("sig")?).unwrap_or_default() })
}

/// Lower-case digits only: a signature has one spelling, so no bit of a file can change unseen.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a' - 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let byte = |[high, low]: &[u8; 2]| nibble(*high)?.checked_mul(16)?.checked_add(nibble(*low)?);
    pairs.iter().map(byte).collect()
}

/// The names of persons that a file gives, by key id. TUF signs and keeps fields it does not know.
pub(crate) fn persons(value: &Value) -> Option<std::collections::BTreeMap<String, Principal>> {
    let persons = value.as_object().filter(|all| all.len() <= super::KEYS_MAX)?;
    persons
        .iter()
        .map(|(keyid, person)| Some((keyid.clone(), person.as_str()?.parse().ok()?)))
        .collect()
}
