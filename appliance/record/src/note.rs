//! C2SP signed notes with Ed25519 signatures (c2sp.org/signed-note).
//!
//! ```text
//! TEXT, one or more lines
//!
//! — NAME BASE64(ID ‖ SIGNATURE)
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_attest::{PublicKey, SigningKey};
use cloister_domain::{Digest, Hasher};

use crate::RecordError;

/// The signature type of Ed25519 in notes.
const ED25519: u8 = 1;

/// The largest note, in bytes; a checkpoint with many witnesses is a few kilobytes.
const NOTE_BYTES_MAX: usize = 64 << 10;

/// The most signatures of one note.
const SIGNATURES_MAX: usize = 100;

/// What a log's checkpoints are checked with: the log's name and its public key.
///
/// Written `NAME+ID+KEY`, where `ID` is eight hexadecimal digits and `KEY` base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: PublicKey,
}

impl VerifierKey {
    /// The key `key` under the name `name`.
    ///
    /// # Errors
    /// [`RecordError::VerifierKey`] if the name is empty or holds white space or `+`.
    pub fn new(name: &str, key: PublicKey) -> Result<Self, RecordError> {
        let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if name.is_empty() || name.len() > 256 || name.chars().any(wrong) {
            return Err(RecordError::VerifierKey);
        }
        Ok(Self { name: name.to_owned(), key })
    }

    /// The log's name: the origin line of its checkpoints.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// What signature lines name the key by: the first four bytes of SHA-256 over name, newline,
    /// type and key.
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let mut hasher = Hasher::new();
        hasher.update(self.name.as_bytes());
        hasher.update(&[b'\n', ED25519]);
        hasher.update(self.key.as_bytes());
        let digest: Digest = hasher.finish();
        *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519];
        typed.extend_from_slice(self.key.as_bytes());
        let id = u32::from_be_bytes(self.id());
        write!(f, "{}+{id:08x}+{}", self.name, BASE64_STANDARD.encode(typed))
    }
}

impl FromStr for VerifierKey {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(RecordError::VerifierKey);
        };
        let typed = BASE64_STANDARD.decode(key).map_err(|_quotes| RecordError::VerifierKey)?;
        let Some((&ED25519, bytes)) = typed.split_first() else {
            return Err(RecordError::VerifierKey);
        };
        let bytes = bytes.try_into().map_err(|_length| RecordError::VerifierKey)?;
        let key = PublicKey::parse(bytes).map_err(|_kind| RecordError::VerifierKey)?;
        let this = Self::new(name, key)?;
        // One spelling only, the id included.
        if this.to_string() == text { Ok(this) } else { Err(RecordError::VerifierKey) }
    }
}

/// The note of `text` with one signature by `key` under `name`.
///
/// # Errors
/// [`RecordError::Note`] unless `text` is lines without control characters, the last one ended;
/// [`RecordError::VerifierKey`] for a name that no note can carry.
pub fn sign_note(text: &str, name: &str, key: &SigningKey) -> Result<String, RecordError> {
    check_text(text)?;
    let verifier = VerifierKey::new(name, key.public())?;
    let mut typed = verifier.id().to_vec();
    typed.extend_from_slice(&key.sign(text.as_bytes()));
    Ok(format!("{text}\n\u{2014} {name} {}\n", BASE64_STANDARD.encode(typed)))
}

/// The text of `note`, if `key` signed it. Signatures of others are passed over.
///
/// # Errors
/// [`RecordError::Note`] for another form, [`RecordError::NoteSignature`] if there is no signature
/// by `key`, or one that does not fit.
pub fn open_note<'note>(note: &'note str, key: &VerifierKey) -> Result<&'note str, RecordError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(RecordError::Note);
    }
    let (body, signatures) = note.rsplit_once("\n\n").ok_or(RecordError::Note)?;
    let text = note.get(..=body.len()).ok_or(RecordError::Note)?;
    check_text(text)?;
    let lines = signatures.strip_suffix('\n').ok_or(RecordError::Note)?;
    let mut signed = false;
    for (count, line) in lines.split('\n').enumerate() {
        let Signature { name, id, bytes } = Signature::parse(line).ok_or(RecordError::Note)?;
        if count >= SIGNATURES_MAX {
            return Err(RecordError::Note);
        }
        if name == key.name && id == key.id() {
            let wrong = |_kind| RecordError::NoteSignature;
            key.key.verify(text.as_bytes(), &bytes).map_err(wrong)?;
            signed = true;
        }
    }
    if signed { Ok(text) } else { Err(RecordError::NoteSignature) }
}

fn check_text(text: &str) -> Result<(), RecordError> {
    let plain = text.chars().all(|c| c == '\n' || !c.is_control());
    if plain && text.ends_with('\n') { Ok(()) } else { Err(RecordError::Note) }
}

/// One signature line.
struct Signature<'note> {
    name: &'note str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'note> Signature<'note> {
    fn parse(line: &'note str) -> Option<Self> {
        let (name, typed) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let typed = BASE64_STANDARD.decode(typed).ok()?;
        let (id, bytes) = typed.split_first_chunk::<4>()?;
        let good = !name.is_empty() && !name.contains('+') && !bytes.is_empty();
        good.then(|| Self { name, id: *id, bytes: bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Secret;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    /// The example of golang.org/x/mod/sumdb/note: a verifier key and a note that it opens.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_example_of_go_opens() {
        let key: VerifierKey = GO_KEY.parse().expect("a good key");
        assert_eq!(key.to_string(), GO_KEY);
        assert!(open_note(GO_NOTE, &key).expect("a good note").ends_with("problem is.\n"));
    }

    #[test]
    fn a_changed_byte_is_found_and_another_signature_is_passed_over() {
        let text = "origin\n1\nroot\n";
        let note = sign_note(text, "origin", &key(1)).expect("plain text");
        let verifier = VerifierKey::new("origin", key(1).public()).expect("a name");
        assert_eq!(open_note(&note, &verifier), Ok(text));
        for place in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[place] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(open_note(&changed, &verifier).is_err(), "byte {place}");
            }
        }
        let other = sign_note(text, "witness", &key(2)).expect("plain text");
        let line = other.split("\n\n").nth(1).expect("signatures");
        assert_eq!(open_note(&format!("{note}{line}"), &verifier), Ok(text));
        assert_eq!(open_note(&other, &verifier), Err(RecordError::NoteSignature));
    }

    #[test]
    fn keys_and_notes_of_other_forms_are_refused() {
        let good = VerifierKey::new("a", key(1).public()).expect("a name").to_string();
        for text in ["", "a", "a+00000000+AQ==", &good.replace("a+", "b+"), &format!("{good}=")] {
            assert_eq!(text.parse::<VerifierKey>(), Err(RecordError::VerifierKey));
        }
        for name in ["", "a b", "a+b", "a\n"] {
            assert!(VerifierKey::new(name, key(1).public()).is_err());
        }
        for text in ["no end", "tab\t\n"] {
            assert_eq!(sign_note(text, "a", &key(1)), Err(RecordError::Note));
        }
    }
}
