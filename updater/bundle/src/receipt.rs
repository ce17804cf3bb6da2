//! Lists of chunks by what they hold, as they travel between an enclave and its connected side.
//!
//! A receipt of an inventory says what an appliance holds, signed by its host key, so that a thin
//! bundle can leave it out. A request names what an import lacks. `docs/formats/bundle.md` shows
//! both.

use cloister_attest::{
    PublicKey,
    dsse::Envelope,
    statement::{Statement, predicate_type},
};
use cloister_domain::Digest;

use crate::BundleError;

/// The event of the record that a receipt begins with.
pub const INVENTORY: &str = "inventory";
/// The subject of that record: the SHA-256 of the list.
pub const SUBJECT: &str = "inventory";
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

/// The list of a receipt that the holder of `host` signed.
///
/// # Errors
/// [`BundleError::Receipt`] when it is no receipt, was signed by another key, or lists something else
/// than what was signed.
pub fn read_receipt(receipt: &[u8], host: &PublicKey) -> Result<ContentIds, BundleError> {
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
    if about { ContentIds::parse(list) } else { Err(BundleError::Receipt) }
}

#[cfg(test)]
mod tests {
    use cloister_attest::{SigningKey, statement::Subject};
    use cloister_domain::Secret;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    fn signed(ids: &ContentIds, seed: u8, event: &str) -> Vec<u8> {
        let statement = Statement {
            subject: vec![Subject { name: SUBJECT.to_owned(), sha256: Digest::of(&ids.encode()) }],
            predicate_type: predicate_type(event),
            predicate: serde_json::json!({}),
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
        assert_eq!(read_receipt(&receipt, &host), Ok(ids.clone()));
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
    fn lists_are_ascending_and_without_repetition() {
        let (one, two) = (Digest::from_bytes([1; 32]), Digest::from_bytes([2; 32]));
        assert_eq!(ContentIds::new(vec![two, one, two]).as_slice(), [one, two]);
        for wrong in [[[2; 32], [1; 32]].concat(), [[1; 32], [1; 32]].concat(), vec![0; 31]] {
            assert_eq!(ContentIds::parse(&wrong), Err(BundleError::Receipt));
        }
    }
}
