//! The names of documents and passages, and the proof of a deletion.

use cloister_domain::{Digest, DocumentId, Hasher};

/// The id of a document: SHA-256 over its collection, name and original bytes, each led by its
/// length as a little-endian `u64`, so that no two triples have the same bytes.
#[must_use]
pub fn document_id(collection: &str, name: &str, bytes: &[u8]) -> DocumentId {
    let mut hasher = Hasher::new();
    for field in [collection.as_bytes(), name.as_bytes(), bytes] {
        hasher.update(&u64::try_from(field.len()).expect("lengths fit").to_le_bytes());
        hasher.update(field);
    }
    DocumentId(hasher.finish())
}

/// The digest that a citation shows of its passage: SHA-256 of the passage's UTF-8 text.
#[must_use]
pub fn chunk_digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// What a deletion's receipt says was removed: SHA-256 over the digests of the passages, in order.
#[must_use]
pub fn receipt(passages: &[Digest]) -> Digest {
    let mut hasher = Hasher::new();
    for passage in passages {
        hasher.update(passage.as_bytes());
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_id_is_that_of_the_documented_bytes() {
        let mut bytes = Vec::new();
        for field in ["c", "name", "text"] {
            bytes.extend((field.len() as u64).to_le_bytes());
            bytes.extend(field.as_bytes());
        }
        assert_eq!(document_id("c", "name", b"text"), DocumentId(Digest::of(&bytes)));
    }

    proptest! {
        #[test]
        fn moving_a_byte_between_fields_changes_the_id(a in ".{1,8}", b in ".{0,8}") {
            let joined = format!("{a}{b}");
            prop_assert_ne!(document_id(&joined, "", b""), document_id(&a, &b, b"z"));
            if !b.is_empty() {
                prop_assert_ne!(document_id(&joined, "", b"x"), document_id(&a, &b, b"x"));
            }
        }
    }
}
