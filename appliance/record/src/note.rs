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
use cloister_domain::Hasher;

use crate::RecordError;

/// The signature type of Ed25519 in notes.
pub(crate) const ED25519: u8 = 1;

/// The signature type of timestamped Ed25519 cosignatures (c2sp.org/tlog-cosignature). Others, such as
/// 6 for ML-DSA-44, may stand in a note or a policy; they count for nothing.
pub(crate) const COSIGNATURE: u8 = 4;

/// The longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// The largest note, in bytes; a checkpoint with many witnesses is a few kilobytes.
const NOTE_BYTES_MAX: usize = 64 << 10;

/// The most signatures of one note.
const SIGNATURES_MAX: usize = 100;

/// A verifier key of any signature type, as its text gives it: `NAME+ID+BASE64(TYPE ‖ KEY)`.
///
/// Its id is compared only where the type says how it is made.
pub(crate) struct TypedKey<'text> {
    pub(crate) name: &'text str,
    pub(crate) kind: u8,
    /// The key as its type writes it.
    pub(crate) material: Vec<u8>,
}

impl<'text> TypedKey<'text> {
    pub(crate) fn parse(text: &'text str) -> Option<Self> {
        let mut parts = text.splitn(3, '+');
        let (name, id, typed) = (parts.next()?, parts.next()?, parts.next()?);
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let typed = BASE64_STANDARD.decode(typed).ok()?;
        let (&kind, material) = typed.split_first()?;
        let good = is_name(name) && id.len() == 8 && id.bytes().all(digit) && !material.is_empty();
        good.then(|| Self { name, kind, material: material.to_vec() })
    }

    /// The Ed25519 key, if it is one by its length and its point.
    pub(crate) fn ed25519(&self) -> Option<PublicKey> {
        PublicKey::parse(self.material.as_slice().try_into().ok()?).ok()
    }
}

/// Whether `name` can name a key: no white space, no control character, no plus sign.
fn is_name(name: &str) -> bool {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(wrong)
}

/// What signature lines name a key by: the first four bytes of SHA-256 over name, newline, type and
/// key.
fn key_id(name: &str, kind: u8, key: &PublicKey) -> [u8; 4] {
    let mut hasher = Hasher::new();
    hasher.update(name.as_bytes());
    hasher.update(&[b'\n', kind]);
    hasher.update(key.as_bytes());
    *hasher.finish().as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// Makes a kind of verifier key: a name with an Ed25519 key, for one type of signatures.
macro_rules! verifier_key {
    ($(#[doc = $about:literal])+ $name:ident = $kind:expr) => {
        $(#[doc = $about])+
        ///
        /// Written `NAME+ID+KEY`, where `ID` is eight hexadecimal digits and `KEY` base64.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            name: String,
            key: PublicKey,
        }

        impl $name {
            /// The key `key` under the name `name`.
            ///
            /// # Errors
            /// [`RecordError::VerifierKey`] if the name is empty or holds white space or `+`.
            pub fn new(name: &str, key: PublicKey) -> Result<Self, RecordError> {
                let name = is_name(name).then(|| name.to_owned());
                Ok(Self { name: name.ok_or(RecordError::VerifierKey)?, key })
            }

            /// The name that its signature lines bear; a log's is the origin line of its checkpoints.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.name
            }

            /// The public key.
            #[must_use]
            pub const fn key(&self) -> &PublicKey {
                &self.key
            }

            /// What signature lines name the key by: the first four bytes of SHA-256 over name,
            /// newline, type and key.
            #[must_use]
            pub fn id(&self) -> [u8; 4] {
                key_id(&self.name, $kind, &self.key)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut typed = vec![$kind];
                typed.extend_from_slice(self.key.as_bytes());
                let id = u32::from_be_bytes(self.id());
                write!(f, "{}+{id:08x}+{}", self.name, BASE64_STANDARD.encode(typed))
            }
        }

        impl FromStr for $name {
            type Err = RecordError;

            fn from_str(text: &str) -> Result<Self, RecordError> {
                let typed = TypedKey::parse(text).filter(|typed| typed.kind == $kind);
                let named = |typed: &TypedKey<'_>| Some((typed.name.to_owned(), typed.ed25519()?));
                let (name, key) = typed.as_ref().and_then(named).ok_or(RecordError::VerifierKey)?;
                let this = Self { name, key };
                // One spelling only, the id included.
                if this.to_string() == text { Ok(this) } else { Err(RecordError::VerifierKey) }
            }
        }
    };
}

verifier_key! {
    /// What a log's checkpoints are checked with: the log's name and its public key.
    VerifierKey = ED25519
}

verifier_key! {
    /// What a witness's cosignatures are checked with: the witness's name and its public key.
    WitnessKey = COSIGNATURE
}

/// The note of `text` with one signature by `key` under `name`.
///
/// # Errors
/// [`RecordError::Note`] unless `text` is lines without control characters, the last one ended;
/// [`RecordError::VerifierKey`] for a name that no note can carry.
pub fn sign_note(text: &str, name: &str, key: &SigningKey) -> Result<String, RecordError> {
    check_text(text)?;
    let verifier = VerifierKey::new(name, key.public())?;
    let line = signature_line(name, verifier.id(), &key.sign(text.as_bytes()));
    Ok(format!("{text}\n{line}"))
}

/// The text of `note`, if `key` signed it. Signatures of others are passed over.
///
/// # Errors
/// [`RecordError::Note`] for another form, [`RecordError::NoteSignature`] if there is no signature
/// by `key`, or one that does not fit.
pub fn open_note<'note>(note: &'note str, key: &VerifierKey) -> Result<&'note str, RecordError> {
    let note = Note::parse(note)?;
    let mut signed = false;
    for signature in note.signatures_by(key.name(), key.id()) {
        let wrong = |_kind| RecordError::NoteSignature;
        key.key.verify(note.text.as_bytes(), signature).map_err(wrong)?;
        signed = true;
    }
    if signed { Ok(note.text) } else { Err(RecordError::NoteSignature) }
}

/// A note as it is written. Nothing in it has been believed yet.
#[derive(Clone, Debug)]
pub struct Note<'note> {
    text: &'note str,
    signatures: Vec<Signature<'note>>,
}

impl<'note> Note<'note> {
    /// Reads a note's form.
    ///
    /// # Errors
    /// [`RecordError::Note`] unless it is a text, an empty line, and signature lines within bounds.
    pub fn parse(note: &'note str) -> Result<Self, RecordError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(RecordError::Note);
        }
        let (body, lines) = note.rsplit_once("\n\n").ok_or(RecordError::Note)?;
        let text = note.get(..=body.len()).ok_or(RecordError::Note)?;
        check_text(text)?;
        Ok(Self { text, signatures: signatures(lines)? })
    }

    /// What was signed, its last newline included.
    #[must_use]
    pub const fn text(&self) -> &'note str {
        self.text
    }

    /// The note with the first signature line of `key` alone; absent if there is none. It is not checked.
    #[must_use]
    pub fn signed_by_alone(&self, key: &VerifierKey) -> Option<String> {
        let signature = self.signatures_by(key.name(), key.id()).next()?;
        Some(format!("{}\n{}", self.text, signature_line(key.name(), key.id(), signature)))
    }

    /// The signature lines that are called by this name and id; none of them is checked.
    pub(crate) fn signatures_by(&self, name: &str, id: [u8; 4]) -> impl Iterator<Item = &[u8]> {
        let by = move |signature: &&Signature<'_>| signature.name == name && signature.id == id;
        self.signatures.iter().filter(by).map(|signature| signature.bytes.as_slice())
    }
}

/// Reads signature lines, each ended by a newline, and at least one.
pub(crate) fn signatures(lines: &str) -> Result<Vec<Signature<'_>>, RecordError> {
    let lines = lines.strip_suffix('\n').ok_or(RecordError::Note)?;
    if lines.split('\n').count() > SIGNATURES_MAX {
        return Err(RecordError::Note);
    }
    lines.split('\n').map(|line| Signature::parse(line).ok_or(RecordError::Note)).collect()
}

/// A signature line by the key that `name` and `id` call.
pub(crate) fn signature_line(name: &str, id: [u8; 4], signature: &[u8]) -> String {
    let typed = [id.as_slice(), signature].concat();
    format!("\u{2014} {name} {}\n", BASE64_STANDARD.encode(typed))
}

fn check_text(text: &str) -> Result<(), RecordError> {
    let plain = text.chars().all(|c| c == '\n' || !c.is_control());
    if plain && text.ends_with('\n') { Ok(()) } else { Err(RecordError::Note) }
}

/// One signature line.
#[derive(Clone, Debug)]
pub(crate) struct Signature<'note> {
    name: &'note str,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl<'note> Signature<'note> {
    fn parse(line: &'note str) -> Option<Self> {
        let (name, typed) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
        let typed = BASE64_STANDARD.decode(typed).ok()?;
        let (id, bytes) = typed.split_first_chunk::<4>()?;
        (is_name(name) && !bytes.is_empty()).then(|| Self { name, id: *id, bytes: bytes.to_vec() })
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

    /// What note_test.go of golang.org/x/mod refuses: every part of the key, every byte one higher, a key
    /// that is too long, and one of another type, both with an id that fits.
    #[test]
    fn the_manglings_of_go_are_refused() {
        let refused = |text: &str| assert!(text.parse::<VerifierKey>().is_err(), "{text}");
        for from in 0..GO_KEY.len() {
            for to in from..=GO_KEY.len() {
                if to - from < GO_KEY.len() {
                    refused(GO_KEY.get(from..to).expect("plain text"));
                }
            }
            let mut bytes = GO_KEY.as_bytes().to_vec();
            bytes[from] += 1;
            refused(std::str::from_utf8(&bytes).expect("plain text"));
        }
        refused("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==");
        refused("PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW");
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
