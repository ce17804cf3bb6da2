//! Lists of chunks by what they hold, as they travel between an enclave and its connected side.
//!
//! A receipt of an inventory says what an appliance holds, signed by its host key, so that a thin
//! bundle can leave it out. A request names what an import lacks. `docs/formats/bundle.md` shows
//! both.

use std::fmt;

use cloister_attest::{
    PublicKey,
    dsse::Envelope,
    statement::{Statement, predicate_type},
};
use cloister_domain::Digest;
use serde::{Deserialize, Serialize};

use crate::BundleError;

/// The event of the record that a receipt begins with.
pub const INVENTORY: &str = "inventory";
/// The subject of that record: the SHA-256 of the list.
pub const SUBJECT: &str = "inventory";
/// The fact of that record that says which trust metadata is held: a [`Reached`].
pub const REACHED: &str = "trust";
/// Bytes of one content id.
const ID_BYTES: usize = 32;
/// The longest receipt, in bytes: 64 Mi chunks, 64 TiB at the average.
pub const RECEIPT_BYTES_MAX: u64 = 2 << 30;

/// Content ids, ascending and each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentIds(Vec<Digest>);

impl ContentIds {
    /// From ids in any order.
    #[must_use]
    pub fn new(mut ids: Vec<Digest>) -> Self {
        ids.sort_unstable();
        ids.dedup();
        Self(ids)
    }

    /// Reads 32 bytes an id.
    ///
    /// # Errors
    /// [`BundleError::Receipt`] for a rest, and for ids out of order.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let (ids, rest) = bytes.as_chunks::<ID_BYTES>();
        let ids: Vec<Digest> = ids.iter().map(|id| Digest::from_bytes(*id)).collect();
        let ascending = ids.windows(2).all(|pair| matches!(pair, [one, next] if one < next));
        if rest.is_empty() && ascending { Ok(Self(ids)) } else { Err(BundleError::Receipt) }
    }

    /// The list's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.iter().flat_map(|id| *id.as_bytes()).collect()
    }

    /// Whether `content` is listed.
    #[must_use]
    pub fn contains(&self, content: Digest) -> bool {
        self.0.binary_search(&content).is_ok()
    }

    /// The ids.
    #[must_use]
    pub fn as_slice(&self) -> &[Digest] {
        &self.0
    }
}

/// The bytes of a receipt: the record's envelope on a line of its own, then the list.
#[must_use]
pub fn encode_receipt(envelope: &str, ids: &ContentIds) -> Vec<u8> {
    let mut receipt = envelope.as_bytes().to_vec();
    receipt.push(b'\n');
    receipt.extend_from_slice(&ids.encode());
    receipt
}

/// What trust metadata an appliance holds, by its own word: an importer sees by it which sticks did not
/// arrive there, and so whether somebody keeps it at an old state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Version of the root.
    pub root_version: u64,
    /// Version of the importer's list; 0 before one came.
    pub targets_version: u64,
    /// The number of the last stick; 0 if sticks bear none.
    pub stick: u64,
    /// The latest time that is proven there, such as `2030-01-31T00:00:00Z`.
    pub time_floor: Option<String>,
}

impl fmt::Display for Reached {
    /// `root v1, list v3, stick 5, at least 2030-01-31T00:00:00Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { root_version, targets_version, stick, time_floor } = self;
        write!(f, "root v{root_version}, list v{targets_version}, ")?;
        match stick {
            0 => f.write_str("no numbered stick yet")?,
            stick => write!(f, "stick {stick}")?,
        }
        time_floor.as_ref().map_or(Ok(()), |time| write!(f, ", at least {time}"))
    }
}

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// What the appliance holds.
    pub held: ContentIds,
    /// Which trust metadata it has; absent from receipts that were written without.
    pub reached: Option<Reached>,
}

/// A receipt that the holder of `host` signed.
///
/// # Errors
/// [`BundleError::Receipt`] when it is no receipt, was signed by another key, or lists something else
/// than what was signed.
pub fn read_receipt(receipt: &[u8], host: &PublicKey) -> Result<Receipt, BundleError> {
    let end = receipt.iter().position(|byte| *byte == b'\n').ok_or(BundleError::Receipt)?;
    let (envelope, list) = receipt.split_at(end);
    let list = list.get(1..).ok_or(BundleError::Receipt)?;
    let envelope = Envelope::parse(envelope).map_err(|_cause| BundleError::Receipt)?;
    if !envelope.good_keys(std::slice::from_ref(host)).contains(host) {
        return Err(BundleError::Receipt);
    }
    let statement = Statement::of(&envelope).map_err(|_cause| BundleError::Receipt)?;
    let about = statement.predicate_type == predicate_type(INVENTORY)
        && statement.subject(SUBJECT) == Some(Digest::of(list));
    if !about {
        return Err(BundleError::Receipt);
    }
    let reached = statement.predicate.get("facts").and_then(|facts| facts.get(REACHED));
    let reached = reached.map(Reached::deserialize).transpose();
    let reached = reached.map_err(|_other_form| BundleError::Receipt)?;
    Ok(Receipt { held: ContentIds::parse(list)?, reached })
}

#[cfg(test)]
mod tests {
    use cloister_attest::{SigningKey, statement::Subject};
    use cloister_domain::Secret;
    use serde_json::{Value, json};

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    fn signed(ids: &ContentIds, seed: u8, event: &str) -> Vec<u8> {
        stating(ids, seed, event, json!({}))
    }

    fn stating(ids: &ContentIds, seed: u8, event: &str, predicate: Value) -> Vec<u8> {
        let statement = Statement {
            subject: vec![Subject { name: SUBJECT.to_owned(), sha256: Digest::of(&ids.encode()) }],
            predicate_type: predicate_type(event),
            predicate,
        };
        let payload = statement.to_json().expect("a statement");
        let envelope = Envelope::unsigned(cloister_attest::dsse::PAYLOAD_TYPE, payload);
        let text = String::from_utf8(envelope.sign_with(&key(seed)).to_json()).expect("text");
        encode_receipt(&text, ids)
    }

    #[test]
    fn a_receipt_is_its_hosts_and_lists_what_was_signed() {
        let ids = ContentIds::new((0..9u8).map(|n| Digest::of(&[n])).collect());
        let receipt = signed(&ids, 1, INVENTORY);
        let host = key(1).public();
        let read = Receipt { held: ids.clone(), reached: None };
        assert_eq!(read_receipt(&receipt, &host), Ok(read));
        assert!(ids.contains(Digest::of(&[3])) && !ids.contains(Digest::of(&[9])));
        for wrong in [
            signed(&ids, 2, INVENTORY),
            signed(&ids, 1, "media-seen"),
            receipt[..receipt.len() - 32].to_vec(),
            [&receipt[..], &[0; 32]].concat(),
            receipt[..receipt.len() - 1].to_vec(),
            Vec::new(),
            b"\n".to_vec(),
        ] {
            assert_eq!(read_receipt(&wrong, &host), Err(BundleError::Receipt));
        }
        assert_eq!(read_receipt(&receipt, &key(2).public()), Err(BundleError::Receipt));
    }

    #[test]
    fn a_receipt_says_which_sticks_arrived() {
        let ids = ContentIds::default();
        let of = |trust: Value| {
            let predicate = json!({ "facts": { REACHED: trust } });
            read_receipt(&stating(&ids, 1, INVENTORY, predicate), &key(1).public())
        };
        let said = json!({"root_version": 1, "targets_version": 3, "stick": 5, "time_floor": "2030-01-31T00:00:00Z"});
        let reached = of(said).expect("a receipt").reached.expect("it says");
        assert_eq!(reached.to_string(), "root v1, list v3, stick 5, at least 2030-01-31T00:00:00Z");
        let none = Reached { stick: 0, time_floor: None, ..reached };
        assert_eq!(none.to_string(), "root v1, list v3, no numbered stick yet");
        assert_eq!(of(json!({"stick": "5"})), Err(BundleError::Receipt));
    }

    #[test]
    fn lists_are_ascending_and_without_repetition() {
        let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        assert_eq!(ContentIds::new(vec![two, one, two]).as_slice(), [one, two]);
        for wrong in [[[2; 32], [1; 32]].concat(), [[1; 32], [1; 32]].concat(), vec![0; 31]] {
            assert_eq!(ContentIds::parse(&wrong), Err(BundleError::Receipt));
        }
    }
}
