//! C2SP checkpoints (c2sp.org/tlog-checkpoint): origin, size and root, in a signed note.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_attest::SigningKey;
use cloister_domain::Digest;

use crate::{Note, RecordError, VerifierKey, open_note, sign_note};

/// What a log says of itself at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Merkle root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The checkpoint as a note signed by the log's key.
    ///
    /// # Errors
    /// [`RecordError::VerifierKey`] for an origin that no note can carry.
    pub fn sign(&self, key: &SigningKey) -> Result<String, RecordError> {
        sign_note(&self.text(), &self.origin, key)
    }

    /// Reads a signed checkpoint of the log that `key` names.
    ///
    /// # Errors
    /// Those of [`open_note`]; [`RecordError::Checkpoint`] if the text is no checkpoint of that log,
    /// or has extension lines, which this log does not write.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, RecordError> {
        let text = open_note(note, key)?;
        let this = Self::parse(text).ok_or(RecordError::Checkpoint)?;
        if this.origin == key.name() { Ok(this) } else { Err(RecordError::Checkpoint) }
    }

    /// Reads what a note says of a log of this name; whose signatures it bears is not asked.
    ///
    /// # Errors
    /// [`RecordError::Note`], [`RecordError::Checkpoint`].
    pub fn unsigned(note: &str, origin: &str) -> Result<Self, RecordError> {
        let this = Self::parse(Note::parse(note)?.text()).ok_or(RecordError::Checkpoint)?;
        if this.origin == origin { Ok(this) } else { Err(RecordError::Checkpoint) }
    }

    /// SHA-256 of what is signed: origin, size and root.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.text().as_bytes())
    }

    fn text(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root.as_bytes());
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root: [u8; 32] = BASE64_STANDARD.decode(root).ok()?.try_into().ok()?;
        let origin = origin.to_owned();
        let this = Self { origin, size: size.parse().ok()?, root: Digest::from_bytes(root) };
        // One spelling only: no sign, no leading zero, no further line.
        (lines.next().is_none() && this.text() == text).then_some(this)
    }
}

#[cfg(test)]
mod tests {
    use cloister_domain::Secret;

    use super::*;

    #[test]
    fn a_checkpoint_has_one_spelling() {
        let key = SigningKey::from_seed(&Secret::new(vec![1; 32])).expect("32 bytes");
        let verifier = VerifierKey::new("enclave/one", key.public()).expect("a name");
        let root = Digest::of(b"");
        let checkpoint = Checkpoint { origin: "enclave/one".to_owned(), size: 0, root };
        let note = checkpoint.sign(&key).expect("a good origin");
        assert!(note.starts_with(
            "enclave/one\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\u{2014} enclave/one "
        ));
        assert_eq!(Checkpoint::open(&note, &verifier), Ok(checkpoint));
        for text in [
            "enclave/one\n00\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
            "enclave/one\n+1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
            "enclave/one\n1\n47DEQpj8\n",
            "enclave/one\n1\n",
            "enclave/two\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
            "enclave/one\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nmore\n",
        ] {
            let note = sign_note(text, "enclave/one", &key).expect("plain text");
            assert_eq!(Checkpoint::open(&note, &verifier), Err(RecordError::Checkpoint), "{text}");
        }
    }
}
