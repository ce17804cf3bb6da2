//! Who can open: X25519 recipients and identities (C2SP `age.md`, "The X25519 recipient type").

use std::fmt;

use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
use cloister_domain::Secret;
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::{SealedError, bech32};

const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";

/// The key of a file, under which its header and payload are.
pub(crate) type FileKey = Zeroizing<[u8; 16]>;

/// Whom a file is sealed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recipient(PublicKey);

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(RECIPIENT, self.0.as_bytes()))
    }
}

impl std::str::FromStr for Recipient {
    type Err = SealedError;

    fn from_str(text: &str) -> Result<Self, SealedError> {
        let bytes = bech32::decode(RECIPIENT, text).filter(|_| text == text.to_ascii_lowercase());
        bytes.map(|bytes| Self(bytes.into())).ok_or(SealedError::Key { what: "recipient" })
    }
}

/// Who opens.
pub struct Identity(StaticSecret);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Identity {
    /// From 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// Reads an identity file as `age-keygen` writes it: one identity, and lines that begin with `#`.
    ///
    /// # Errors
    /// [`SealedError::Key`].
    pub fn from_file(content: &Secret) -> Result<Self, SealedError> {
        let wrong = SealedError::Key { what: "identity" };
        let Ok(text) = std::str::from_utf8(content.expose()) else { return Err(wrong) };
        let mut lines =
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(wrong) };
        let upper = line == line.to_ascii_uppercase();
        let bytes = bech32::decode(IDENTITY, line).filter(|_| upper).ok_or(wrong)?;
        Ok(Self(StaticSecret::from(bytes)))
    }

    /// The text of an identity file.
    #[must_use]
    pub fn to_file(&self) -> Secret {
        let text = bech32::encode(IDENTITY, self.0.as_bytes()).to_ascii_uppercase();
        Secret::new(format!("# public key: {}\n{text}\n", self.recipient()).into_bytes())
    }

    /// What files are sealed for to be opened by this identity.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(PublicKey::from(&self.0))
    }

    /// The file key inside a stanza, if it is for this identity.
    ///
    /// # Errors
    /// [`SealedError::Header`] for a share of small order.
    pub(crate) fn unwrap(
        &self,
        share: &[u8; 32],
        body: &[u8; 32],
    ) -> Result<Option<FileKey>, SealedError> {
        let shared = Zeroizing::new(self.0.diffie_hellman(&PublicKey::from(*share)).to_bytes());
        if shared.ct_eq(&[0; 32]).into() {
            return Err(SealedError::Header);
        }
        let cipher = wrapping(&shared, share, &self.recipient());
        let plain = cipher.decrypt(&[0; 12].into(), body.as_slice()).ok().map(Zeroizing::new);
        Ok(plain.and_then(|plain| Some(Zeroizing::new(*plain.first_chunk::<16>()?))))
    }
}

impl Recipient {
    /// A stanza's share and body for `key`, by 32 random bytes that are used nowhere else.
    pub(crate) fn wrap(&self, key: &FileKey, random: [u8; 32]) -> ([u8; 32], Vec<u8>) {
        let ephemeral = StaticSecret::from(random);
        let share = PublicKey::from(&ephemeral).to_bytes();
        let shared = Zeroizing::new(ephemeral.diffie_hellman(&self.0).to_bytes());
        let cipher = wrapping(&shared, &share, self);
        let body = cipher.encrypt(&[0; 12].into(), key.as_slice());
        (share, body.expect("16 bytes are not too long"))
    }
}

fn wrapping(shared: &[u8; 32], share: &[u8; 32], recipient: &Recipient) -> ChaCha20Poly1305 {
    let mut salt = [0; 64];
    let (first, second) = salt.split_at_mut(32);
    first.copy_from_slice(share);
    second.copy_from_slice(recipient.0.as_bytes());
    ChaCha20Poly1305::new(&(*derived(&salt, shared, INFO)).into())
}

/// 32 bytes of HKDF-SHA256 (RFC 5869).
pub(crate) fn derived(salt: &[u8], key: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let made = Hkdf::<Sha256>::new(Some(salt), key).expand(info, out.as_mut_slice());
    made.expect("32 bytes are one block of the hash");
    out
}
