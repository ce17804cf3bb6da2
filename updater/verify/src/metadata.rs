//! What all TUF metadata has in common: the envelope, keys, and the counting of persons.

use std::collections::{BTreeMap, BTreeSet};

use cloister_attest::{PublicKey, dsse::Envelope, json};
use cloister_domain::{Digest, Principal};
use serde_json::{Map, Value};

use crate::{Instant, RoleName, VerifyError};

/// The largest file of root, snapshot or timestamp, in bytes (as in other TUF clients).
const SMALL_BYTES_MAX: usize = 1 << 20;
/// The largest file of targets, in bytes.
const TARGETS_BYTES_MAX: usize = 10 << 20;
/// Signatures of one file.
const SIGNATURES_MAX: usize = 64;
/// Keys that one file may name.
pub(crate) const KEYS_MAX: usize = 256;

/// A signature as TUF writes it: key id, and bytes in hexadecimal.
#[derive(Debug)]
struct Signature {
    keyid: String,
    sig: Vec<u8>,
}

/// A parsed file whose signatures nobody checked yet.
#[derive(Debug)]
pub(crate) struct Metadata {
    role: RoleName,
    signed: Map<String, Value>,
    message: Vec<u8>,
    signatures: Vec<Signature>,
    /// The version; from 1.
    pub(crate) version: u64,
    /// When it expires.
    pub(crate) expires: Instant,
}

impl Metadata {
    /// Reads a file of `role` (TUF 1.0.34, sections 4.2 and 4.3).
    pub(crate) fn parse(text: &[u8], role: RoleName) -> Result<Self, VerifyError> {
        let malformed = |cause| VerifyError::Metadata { role, cause };
        let max = if role == RoleName::Targets { TARGETS_BYTES_MAX } else { SMALL_BYTES_MAX };
        if text.len() > max {
            let bytes = text.len();
            return Err(malformed(cloister_attest::AttestError::TooLong { bytes, max }));
        }
        let mut value = json::parse_strict(text, json::DEPTH_MAX).map_err(malformed)?;
        let wrong = |field| VerifyError::Field { role, field };
        let signatures = value
            .get("signatures")
            .and_then(Value::as_array)
            .filter(|signatures| signatures.len() <= SIGNATURES_MAX)
            .ok_or(wrong("signatures"))?
            .iter()
            .map(|value| signature(value).ok_or(wrong("signatures")))
            .collect::<Result<Vec<_>, _>>()?;
        let signed = value.get_mut("signed").map(Value::take).ok_or(wrong("signed"))?;
        let message = json::canonical_tuf(&signed).map_err(malformed)?;
        let Value::Object(signed) = signed else { return Err(wrong("signed")) };
        let text =
            |field: &'static str| signed.get(field).and_then(Value::as_str).ok_or(wrong(field));
        if text("_type")? != role.name() {
            return Err(wrong("_type"));
        }
        if !text("spec_version")?.starts_with("1.") {
            return Err(wrong("spec_version"));
        }
        let expires = text("expires")?.parse().map_err(|_cause| wrong("expires"))?;
        let version = signed.get("version").and_then(Value::as_u64).filter(|version| *version > 0);
        let version = version.ok_or(wrong("version"))?;
        Ok(Self { role, signed, message, signatures, version, expires })
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

    /// Refuses what expired at or before `floor` (a time proven to have passed).
    pub(crate) fn unexpired(&self, floor: Option<&Instant>) -> Result<(), VerifyError> {
        if floor.is_some_and(|floor| self.expires <= *floor) {
            return Err(VerifyError::Expired { role: self.role });
        }
        Ok(())
    }

    /// Demands good signatures of enough persons of `authority`.
    pub(crate) fn signed_by(&self, authority: &Authority) -> Result<(), VerifyError> {
        let mut known = false;
        let mut persons = BTreeSet::new();
        for Signature { keyid, sig } in &self.signatures {
            if let Some(holder) = authority.holders.get(keyid) {
                known = true;
                if holder.key.verify(&self.message, sig).is_ok() {
                    persons.insert(&holder.person);
                }
            }
        }
        authority.enough(self.role, known, persons.len())
    }
}

fn signature(value: &Value) -> Option<Signature> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let keyid = text("keyid").filter(|keyid| keyid.len() <= 256)?.to_owned();
    // A signature that is no hexadecimal text, such as the empty one of a signer who has not
    // signed yet, is one that does not verify.
    Some(Signature { keyid, sig: unhex(text("sig")?).unwrap_or_default() })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble =
        |digit: u8| (digit as char).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect()
}

/// A key in somebody's hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The key.
    pub(crate) key: PublicKey,
    /// The person who holds it.
    pub(crate) person: Principal,
}

/// The usable keys of a file, by key id. Keys of other algorithms are passed over.
pub(crate) type Keys = BTreeMap<String, Holder>;

/// Reads a `keys` object; `persons` says who holds which, a key without an entry is its own person.
pub(crate) fn keys(
    value: &Value,
    persons: &BTreeMap<String, Principal>,
    wrong: VerifyError,
) -> Result<Keys, VerifyError> {
    let objects = value.as_object().filter(|keys| keys.len() <= KEYS_MAX).ok_or(wrong)?;
    let mut holders = Keys::new();
    let mut seen = BTreeSet::new();
    for (keyid, object) in objects {
        let computed = json::canonical_tuf(object).map_err(|_cause| wrong)?;
        if Digest::of(&computed).to_string() != *keyid {
            return Err(wrong);
        }
        let foreign = object.get("keytype").and_then(Value::as_str).ok_or(wrong)? != "ed25519";
        if foreign {
            continue;
        }
        let key = PublicKey::from_object(object).map_err(|_cause| wrong)?;
        // One key under two ids could be counted as two.
        if !seen.insert(key) {
            return Err(wrong);
        }
        let itself = || keyid.parse().map_err(|_cause| wrong);
        let person = persons.get(keyid).cloned().map_or_else(itself, Ok)?;
        holders.insert(keyid.clone(), Holder { key, person });
    }
    Ok(holders)
}

/// Who may speak for a role, and how many persons must.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    holders: Keys,
    threshold: u64,
}

impl Authority {
    /// Reads `keyids` and `threshold`; refuses a threshold that no number of persons can meet or
    /// that nobody has to.
    pub(crate) fn parse(value: &Value, keys: &Keys, role: RoleName) -> Result<Self, VerifyError> {
        let wrong = |field| VerifyError::Field { role, field };
        let threshold = value.get("threshold").and_then(Value::as_u64).ok_or(wrong("threshold"))?;
        let keyids = value
            .get("keyids")
            .and_then(Value::as_array)
            .filter(|keyids| keyids.len() <= KEYS_MAX)
            .ok_or(wrong("keyids"))?;
        let mut holders = Keys::new();
        let mut named = BTreeSet::new();
        for keyid in keyids {
            let keyid = keyid.as_str().ok_or(wrong("keyids"))?;
            if !named.insert(keyid) {
                return Err(wrong("keyids"));
            }
            if let Some(holder) = keys.get(keyid) {
                holders.insert(keyid.to_owned(), holder.clone());
            }
        }
        let persons: BTreeSet<&Principal> = holders.values().map(|holder| &holder.person).collect();
        let persons = u64::try_from(persons.len()).unwrap_or(u64::MAX);
        if threshold == 0 || threshold > persons {
            return Err(VerifyError::Impossible { role, threshold, persons });
        }
        Ok(Self { holders, threshold })
    }

    /// The persons of this role with a good signature on `envelope`, if they are enough.
    pub(crate) fn signers(
        &self,
        envelope: &Envelope,
        role: RoleName,
    ) -> Result<BTreeSet<Principal>, VerifyError> {
        let keys: Vec<PublicKey> = self.holders.values().map(|holder| holder.key).collect();
        let good = envelope.good_keys(&keys);
        let persons: BTreeSet<Principal> = self
            .holders
            .values()
            .filter(|holder| good.contains(&holder.key))
            .map(|holder| holder.person.clone())
            .collect();
        let known = envelope.signatures.iter().any(|signature| {
            signature.keyid.is_empty() || self.holders.contains_key(&signature.keyid)
        });
        self.enough(role, known, persons.len())?;
        Ok(persons)
    }

    /// Who may speak, by key.
    pub(crate) fn persons(&self) -> BTreeMap<PublicKey, Principal> {
        self.holders.values().map(|holder| (holder.key, holder.person.clone())).collect()
    }

    /// How many persons must speak.
    pub(crate) const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// The same role with a higher threshold.
    pub(crate) fn at_least(&self, threshold: u64) -> Self {
        Self { holders: self.holders.clone(), threshold: self.threshold.max(threshold) }
    }

    /// The same keys, of which one is enough.
    pub(crate) fn any_one(&self) -> Self {
        Self { holders: self.holders.clone(), threshold: 1 }
    }

    /// The keys themselves.
    pub(crate) fn keys(&self) -> BTreeSet<PublicKey> {
        self.holders.values().map(|holder| holder.key).collect()
    }

    fn enough(&self, role: RoleName, known: bool, good: usize) -> Result<(), VerifyError> {
        let good = u64::try_from(good).unwrap_or(u64::MAX);
        if good >= self.threshold {
            Ok(())
        } else if known {
            Err(VerifyError::Threshold { role, good, needed: self.threshold })
        } else {
            Err(VerifyError::UnknownSigner { role })
        }
    }
}
