//! The header: who can open the file, and that nobody changed the list.

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    Identity, Recipient, SealedError,
    keys::{FileKey, derived},
};

/// The first line of every sealed file.
pub const INTRO: &[u8] = b"age-encryption.org/v1\n";
/// Bytes of a header: several hundred recipients.
pub(crate) const HEADER_BYTES_MAX: usize = 64 << 10;
/// Characters of a full line of a stanza's body.
const COLUMNS: usize = 64;

/// Whether a file that begins with `start` says that it is sealed.
#[must_use]
pub fn is_sealed(start: &[u8]) -> bool {
    start.starts_with(INTRO)
}

/// A stanza: one way to the file key.
struct Stanza<'a> {
    arguments: Vec<&'a str>,
    body: Vec<u8>,
}

/// Lines of the header, without their ends.
struct Lines<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, SealedError> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(SealedError::Header)?;
        let line = rest.get(..end).ok_or(SealedError::Header)?;
        self.read = self.read.saturating_add(end).saturating_add(1);
        if line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            std::str::from_utf8(line).map_err(|_quotes| SealedError::Header)
        } else {
            Err(SealedError::Header)
        }
    }
}

/// Reads the header at the start of `bytes`; the file key, and where the payload begins.
pub(crate) fn open(bytes: &[u8], identities: &[Identity]) -> Result<(FileKey, usize), SealedError> {
    if !is_sealed(bytes) {
        return Err(SealedError::Header);
    }
    let mut lines = Lines { bytes, read: INTRO.len() };
    let mut stanzas = Vec::new();
    let (end, mac) = loop {
        let begun = lines.read;
        let line = lines.next()?;
        if let Some(arguments) = line.strip_prefix("-> ") {
            stanzas.push(stanza(arguments, &mut lines)?);
        } else {
            let mac = line.strip_prefix("--- ").ok_or(SealedError::Header)?;
            // The MAC is over all up to its own three dashes.
            break (begun.saturating_add(3), digits::<32>(mac)?);
        }
    };
    if stanzas.is_empty() || stanzas.len() > 1 && stanzas.iter().any(|s| s.is("scrypt")) {
        return Err(SealedError::Header);
    }
    let key = unwrap(&stanzas, identities)?.ok_or(SealedError::NoMatch)?;
    let covered = bytes.get(..end).ok_or(SealedError::Header)?;
    mac_of(&key, covered).verify_slice(&mac).map_err(|_differs| SealedError::Mac)?;
    Ok((key, lines.read))
}

impl Stanza<'_> {
    fn is(&self, kind: &str) -> bool {
        self.arguments.first() == Some(&kind)
    }
}

fn stanza<'a>(arguments: &'a str, lines: &mut Lines<'a>) -> Result<Stanza<'a>, SealedError> {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    if arguments.iter().any(|argument| argument.is_empty()) {
        return Err(SealedError::Header);
    }
    let mut text = String::new();
    loop {
        let line = lines.next()?;
        if line.len() > COLUMNS {
            return Err(SealedError::Header);
        }
        text.push_str(line);
        if line.len() < COLUMNS {
            break;
        }
    }
    let body = BASE64.decode(text).map_err(|_quotes| SealedError::Header)?;
    Ok(Stanza { arguments, body })
}

fn digits<const N: usize>(text: &str) -> Result<[u8; N], SealedError> {
    let bytes = BASE64.decode(text).map_err(|_quotes| SealedError::Header)?;
    bytes.try_into().map_err(|_length| SealedError::Header)
}

/// The file key from the first stanza that one of the identities opens. Every X25519 stanza must be
/// of the right form, whoever it is for.
fn unwrap(stanzas: &[Stanza<'_>], identities: &[Identity]) -> Result<Option<FileKey>, SealedError> {
    let mut found = None;
    for stanza in stanzas.iter().filter(|stanza| stanza.is("X25519")) {
        let [_kind, share] = stanza.arguments.as_slice() else { return Err(SealedError::Header) };
        let share = digits::<32>(share)?;
        let Ok(body) = <[u8; 32]>::try_from(stanza.body.as_slice()) else {
            return Err(SealedError::Header);
        };
        for identity in identities {
            if found.is_none() {
                found = identity.unwrap(&share, &body)?;
            }
        }
    }
    Ok(found)
}

fn mac_of(key: &FileKey, covered: &[u8]) -> Hmac<Sha256> {
    let key = derived(b"", key.as_slice(), b"header");
    let mut mac = Hmac::new_from_slice(key.as_slice()).expect("a key of any length is taken");
    mac.update(covered);
    mac
}

/// The header of a file with `key` for `recipients`, each with random bytes of its own.
pub(crate) fn write(key: &FileKey, recipients: &[(Recipient, [u8; 32])]) -> Vec<u8> {
    let mut header = INTRO.to_vec();
    for (recipient, random) in recipients {
        let (share, body) = recipient.wrap(key, *random);
        let (share, body) = (BASE64.encode(share), BASE64.encode(body));
        header.extend_from_slice(format!("-> X25519 {share}\n{body}\n").as_bytes());
    }
    header.extend_from_slice(b"---");
    let mac = mac_of(key, &header).finalize().into_bytes();
    header.extend_from_slice(format!(" {}\n", BASE64.encode(mac)).as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use cloister_domain::Coded as _;

    use super::*;

    /// A header of these stanzas behind `intro`, with the MAC of one that is right.
    fn header(intro: &[u8], stanzas: &str) -> Vec<u8> {
        let covered = [intro, stanzas.as_bytes(), b"---"].concat();
        let mac = mac_of(&FileKey::new([1; 16]), &covered).finalize().into_bytes();
        [&covered[..], format!(" {}\n", BASE64.encode(mac)).as_bytes()].concat()
    }

    fn code(header: &[u8]) -> &'static str {
        match open(header, &[Identity::from_random([3; 32])]) {
            Ok(_) => "good",
            Err(error) => error.code(),
        }
    }

    #[test]
    fn the_right_mac_makes_no_other_form_good() {
        let recipient = Identity::from_random([3; 32]).recipient();
        let (share, body) = recipient.wrap(&FileKey::new([1; 16]), [9; 32]);
        let ours = format!("-> X25519 {}\n{}\n", BASE64.encode(share), BASE64.encode(body));
        let passphrase = format!("-> scrypt {} 18\n{}\n", "A".repeat(22), "A".repeat(43));
        let unknown = "-> joint some\n\n".to_owned();
        assert_eq!(code(&header(INTRO, &ours)), "good");
        assert_eq!(code(&header(INTRO, &[ours.as_str(), &unknown].concat())), "good");
        assert_eq!(code(&header(INTRO, &passphrase)), "sealed.recipient");
        assert_eq!(code(&header(INTRO, "")), "sealed.header");
        for both in [[&ours, &passphrase], [&passphrase, &ours], [&passphrase, &passphrase]] {
            let both: String = both.into_iter().map(String::as_str).collect();
            assert_eq!(code(&header(INTRO, &both)), "sealed.header");
        }
        assert_eq!(code(&header(b"age-encryption.org/v2\n", &ours)), "sealed.header");
    }
}
