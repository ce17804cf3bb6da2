//! DSSE envelopes, version 1 (secure-systems-lab/dsse, protocol.md and envelope.md).

use std::collections::BTreeSet;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use cloister_domain::Digest;
use serde_json::{Map, Value};

use crate::{AnyKey, AttestError, PublicKey, SignError, Signer, SigningKey, json, sign_checked};

/// The payload type of in-toto statements.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The largest envelope text, in bytes.
pub const ENVELOPE_BYTES_MAX: usize = 8 << 20;

/// The most signatures of one envelope.
pub const SIGNATURES_MAX: usize = 32;

/// The longest signature, in bytes; a post-quantum one fits (ML-DSA-87 has 4627).
const SIGNATURE_BYTES_MAX: usize = 8 << 10;

/// The longest key id or payload type, in bytes.
const NAME_BYTES_MAX: usize = 256;

const fn engine(alphabet: &alphabet::Alphabet) -> GeneralPurpose {
    // Padding may be left out, as DSSE allows; stray bits at the end may not.
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

const STANDARD: GeneralPurpose = engine(&alphabet::STANDARD);
const URL_SAFE: GeneralPurpose = engine(&alphabet::URL_SAFE);

/// One signature, as received. The key id is a hint that anybody could have written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The signer's name for the key; may be empty.
    pub keyid: String,
    /// The signature's bytes.
    pub sig: Vec<u8>,
}

/// A payload with its signatures. Parsing checks the form only; [`Envelope::good_keys`] the
/// signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What kind of bytes the payload is; signed together with it.
    pub payload_type: String,
    /// The signed bytes, verbatim.
    pub payload: Vec<u8>,
    /// The signatures, in the order of the text.
    pub signatures: Vec<Signature>,
}

impl Envelope {
    /// A payload that nobody signed yet.
    #[must_use]
    pub fn unsigned(payload_type: &str, payload: Vec<u8>) -> Self {
        Self { payload_type: payload_type.to_owned(), payload, signatures: Vec::new() }
    }

    /// Reads an envelope's JSON text.
    ///
    /// # Errors
    /// [`AttestError::TooLong`], [`AttestError::TooManySignatures`], [`AttestError::Envelope`] and
    /// those of [`json::parse_strict`].
    pub fn parse(text: &[u8]) -> Result<Self, AttestError> {
        if text.len() > ENVELOPE_BYTES_MAX {
            return Err(AttestError::TooLong { bytes: text.len(), max: ENVELOPE_BYTES_MAX });
        }
        let value = json::parse_strict(text, json::DEPTH_MAX)?;
        let signatures =
            value.get("signatures").and_then(Value::as_array).ok_or(AttestError::Envelope)?;
        if signatures.len() > SIGNATURES_MAX {
            let count = signatures.len();
            return Err(AttestError::TooManySignatures { count, max: SIGNATURES_MAX });
        }
        Ok(Self {
            payload_type: name(value.get("payloadType"))?,
            payload: decoded(value.get("payload"))?,
            signatures: signatures.iter().map(signature).collect::<Result<_, _>>()?,
        })
    }

    /// As [`Envelope::parse`], for envelopes that have one spelling: `text` is that of [`Envelope::to_json`].
    ///
    /// # Errors
    /// [`AttestError::NotCanonical`], else as [`Envelope::parse`].
    pub fn parse_exact(text: &[u8]) -> Result<Self, AttestError> {
        let envelope = Self::parse(text)?;
        if envelope.to_json() == text { Ok(envelope) } else { Err(AttestError::NotCanonical) }
    }

    /// The envelope as RFC 8785 text, so that the same envelope has the same bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let text = |bytes: &[u8]| Value::String(base64::prelude::BASE64_STANDARD.encode(bytes));
        let signatures = self.signatures.iter().map(|signature| {
            Value::Object(Map::from_iter([
                ("keyid".to_owned(), Value::String(signature.keyid.clone())),
                ("sig".to_owned(), text(&signature.sig)),
            ]))
        });
        let value = Value::Object(Map::from_iter([
            ("payload".to_owned(), text(&self.payload)),
            ("payloadType".to_owned(), Value::String(self.payload_type.clone())),
            ("signatures".to_owned(), Value::Array(signatures.collect())),
        ]));
        json::canonical(&value).expect("an envelope holds strings only")
    }

    /// What is signed: the pre-authentication encoding of type and payload.
    #[must_use]
    pub fn pae(&self) -> Vec<u8> {
        let head = format!(
            "DSSEv1 {} {} {} ",
            self.payload_type.len(),
            self.payload_type,
            self.payload.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// The SHA-256 of the payload: for a release, its generation id.
    #[must_use]
    pub fn payload_digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// The same envelope with one more signature.
    #[must_use]
    pub fn sign_with(mut self, key: &SigningKey) -> Self {
        let sig = key.sign(&self.pae()).to_vec();
        self.signatures.push(Signature { keyid: key.public().key_id(), sig });
        self
    }

    /// The same envelope with one more signature, made by whatever holds the key.
    ///
    /// # Errors
    /// Those of [`sign_checked`].
    pub fn sign_by(mut self, signer: &dyn Signer) -> Result<Self, SignError> {
        let sig = sign_checked(signer, &self.pae())?;
        self.signatures.push(Signature { keyid: signer.public().key_id(), sig });
        Ok(self)
    }

    /// The keys of `known`, of any algorithm, that made a good signature, each once however often it
    /// signed. Who must have signed with which algorithms is the caller's to demand; a half that was
    /// stripped is simply not here.
    ///
    /// A key id that names a known key has that key tried, an empty one every key; another is
    /// passed over.
    #[must_use]
    pub fn good_any<'k>(
        &self,
        known: impl IntoIterator<Item = &'k AnyKey>,
    ) -> BTreeSet<&'k AnyKey> {
        let message = self.pae();
        let named: Vec<(String, &AnyKey)> =
            known.into_iter().map(|key| (key.key_id(), key)).collect();
        let mut good = BTreeSet::new();
        for Signature { keyid, sig } in self.signatures.iter().take(SIGNATURES_MAX) {
            for (_, key) in named.iter().filter(|(id, _)| keyid.is_empty() || id == keyid) {
                if !good.contains(key) && key.verify(&message, sig).is_ok() {
                    good.insert(*key);
                }
            }
        }
        good
    }

    /// Whether `key` made a good signature: one that names it, or that names no key.
    #[must_use]
    pub fn is_signed_by(&self, key: &AnyKey) -> bool {
        let (message, id) = (self.pae(), key.key_id());
        let all = self.signatures.iter().take(SIGNATURES_MAX);
        let mut own = all.filter(|one| one.keyid.is_empty() || one.keyid == id);
        own.any(|one| key.verify(&message, &one.sig).is_ok())
    }

    /// The Ed25519 keys of `known` that made a good signature, each once however often it signed.
    ///
    /// A key id that names a known key has that key tried, an empty one every key; another is
    /// passed over.
    #[must_use]
    pub fn good_keys(&self, known: &[PublicKey]) -> BTreeSet<PublicKey> {
        let message = self.pae();
        let named: Vec<(String, &PublicKey)> =
            known.iter().map(|key| (key.key_id(), key)).collect();
        let mut good = BTreeSet::new();
        for Signature { keyid, sig } in self.signatures.iter().take(SIGNATURES_MAX) {
            for (_, key) in named.iter().filter(|(id, _)| keyid.is_empty() || id == keyid) {
                if key.verify(&message, sig).is_ok() {
                    good.insert(**key);
                }
            }
        }
        good
    }
}

fn signature(value: &Value) -> Result<Signature, AttestError> {
    let keyid = match value.get("keyid") {
        None => String::new(),
        given => name(given)?,
    };
    let sig = decoded(value.get("sig"))?;
    if sig.len() > SIGNATURE_BYTES_MAX {
        return Err(AttestError::TooLong { bytes: sig.len(), max: SIGNATURE_BYTES_MAX });
    }
    Ok(Signature { keyid, sig })
}

fn name(value: Option<&Value>) -> Result<String, AttestError> {
    let text = value.and_then(Value::as_str).ok_or(AttestError::Envelope)?;
    if text.len() > NAME_BYTES_MAX {
        return Err(AttestError::TooLong { bytes: text.len(), max: NAME_BYTES_MAX });
    }
    Ok(text.to_owned())
}

/// Base64 in either alphabet, as the protocol demands of readers.
fn decoded(value: Option<&Value>) -> Result<Vec<u8>, AttestError> {
    let text = value.and_then(Value::as_str).ok_or(AttestError::Envelope)?;
    STANDARD
        .decode(text)
        .or_else(|_other_alphabet| URL_SAFE.decode(text))
        .map_err(|_cause| AttestError::Envelope)
}

#[cfg(test)]
mod tests {
    use cloister_domain::Secret;
    use proptest::prelude::*;

    use super::*;
    use crate::mldsa::{MlDsaSigningKey, ParameterSet};

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    #[test]
    fn the_encoding_is_that_of_the_protocol() {
        // The example of protocol.md.
        let envelope = Envelope::unsigned("http://example.com/HelloWorld", b"hello world".to_vec());
        assert_eq!(envelope.pae(), b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn an_envelope_returns_from_its_text() {
        let envelope = Envelope::unsigned(PAYLOAD_TYPE, vec![0, 255, b'{']).sign_with(&key(1));
        assert_eq!(Envelope::parse(&envelope.to_json()), Ok(envelope));
    }

    #[test]
    fn both_alphabets_and_missing_padding_are_read() {
        for payload in ["+/+/Zg==", "-_-_Zg==", "-_-_Zg"] {
            let text = format!(r#"{{"payload":"{payload}","payloadType":"t","signatures":[]}}"#);
            let envelope = Envelope::parse(text.as_bytes()).expect("good base64");
            assert_eq!(envelope.payload, [0xfb, 0xff, 0xbf, 0x66]);
        }
    }

    #[test]
    fn one_key_counts_once_however_often_it_signs() {
        let envelope = Envelope::unsigned(PAYLOAD_TYPE, b"x".to_vec());
        let mut twice = envelope.sign_with(&key(1)).sign_with(&key(1));
        twice.signatures[1].keyid.clear();
        let known = [key(1).public(), key(2).public()];
        assert_eq!(twice.good_keys(&known), BTreeSet::from([key(1).public()]));
        assert!(twice.good_keys(&[key(2).public()]).is_empty());
    }

    fn quantum(seed: u8) -> MlDsaSigningKey {
        let seed = Secret::new(vec![seed; 32]);
        MlDsaSigningKey::from_seed(ParameterSet::MlDsa65, &seed).expect("32 bytes")
    }

    #[test]
    fn both_halves_are_seen_and_a_stripped_one_is_missed() {
        let known = [AnyKey::from(key(1).public()), quantum(1).public().clone().into()];
        let envelope = Envelope::unsigned(PAYLOAD_TYPE, b"x".to_vec());
        let both = envelope.sign_by(&key(1)).and_then(|half| half.sign_by(&quantum(1)));
        let both = both.expect("signatures");
        assert_eq!(Envelope::parse(&both.to_json()).as_ref(), Ok(&both));
        assert_eq!(both.good_any(&known), known.iter().collect());
        for (stripped, left) in [(0, 1), (1, 0)] {
            let mut half = both.clone();
            half.signatures.remove(stripped);
            assert_eq!(half.good_any(&known), BTreeSet::from([&known[left]]));
            // Nor does one half stand in for the other under the other's name, or under none.
            for keyid in [known[stripped].key_id(), String::new()] {
                let mut renamed = half.clone();
                renamed.signatures.push(Signature { keyid, ..half.signatures[0].clone() });
                assert_eq!(renamed.good_any(&known), BTreeSet::from([&known[left]]));
            }
        }
        let other = Envelope { payload: b"y".to_vec(), ..both };
        assert!(other.good_any(&known).is_empty());
    }

    #[test]
    fn a_signature_of_another_key_than_promised_is_thrown_away() {
        struct Swapped;
        impl Signer for Swapped {
            fn public(&self) -> AnyKey {
                key(1).public().into()
            }
            fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
                Signer::sign(&key(2), message)
            }
        }
        let envelope = Envelope::unsigned(PAYLOAD_TYPE, b"x".to_vec());
        assert!(matches!(envelope.sign_by(&Swapped), Err(SignError::Misfit)));
    }

    #[test]
    fn a_signature_is_bound_to_type_and_payload() {
        let good = Envelope::unsigned(PAYLOAD_TYPE, b"x".to_vec()).sign_with(&key(1));
        let known = [key(1).public()];
        let other_type = Envelope { payload_type: "text/plain".to_owned(), ..good.clone() };
        let other_payload = Envelope { payload: b"y".to_vec(), ..good };
        assert!(other_type.good_keys(&known).is_empty());
        assert!(other_payload.good_keys(&known).is_empty());
    }

    #[test]
    fn an_exact_envelope_has_one_spelling() {
        let envelope = Envelope::unsigned(PAYLOAD_TYPE, b"x>?".to_vec()).sign_with(&key(1));
        let text = String::from_utf8(envelope.to_json()).expect("JSON is UTF-8");
        assert_eq!(Envelope::parse_exact(text.as_bytes()), Ok(envelope.clone()));
        let keyid = format!("\"keyid\":\"{}\",", key(1).public().key_id());
        for (from, to) in [
            ("{\"payload\"", " {\"payload\""),
            ("}]}", "}]}\n"),
            ("}]}", "}],\"x\":1}"),
            ("eD4/", "eD4_"),
            ("==\"", "\""),
            (keyid.as_str(), "\"extra\":1,"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            let read = Envelope::parse(other.as_bytes()).expect("an envelope all the same");
            assert_eq!(read.payload, envelope.payload, "{to}");
            let exact = Envelope::parse_exact(other.as_bytes());
            assert_eq!(exact, Err(AttestError::NotCanonical), "{to}");
        }
    }

    #[test]
    fn wrong_forms_are_refused() {
        for text in [
            r#"{"payload":"YQ==","payloadType":"t"}"#,
            r#"{"payload":"YQ==","signatures":[]}"#,
            r#"{"payload":1,"payloadType":"t","signatures":[]}"#,
            r#"{"payload":"YR==","payloadType":"t","signatures":[]}"#,
            r#"{"payload":"YQ==","payloadType":"t","signatures":[{"keyid":"k"}]}"#,
            r#"{"payload":"YQ==","payloadType":"t","signatures":[{"keyid":7,"sig":""}]}"#,
        ] {
            assert_eq!(Envelope::parse(text.as_bytes()), Err(AttestError::Envelope), "{text}");
        }
        let many = vec![r#"{"sig":""}"#; SIGNATURES_MAX + 1].join(",");
        let text = format!(r#"{{"payload":"","payloadType":"t","signatures":[{many}]}}"#);
        assert!(matches!(
            Envelope::parse(text.as_bytes()),
            Err(AttestError::TooManySignatures { count: 33, max: 32 })
        ));
        let long = vec![b' '; ENVELOPE_BYTES_MAX + 1];
        assert!(matches!(Envelope::parse(&long), Err(AttestError::TooLong { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            assert!(Envelope::parse(&bytes).is_err() || bytes.len() > 30);
        }
    }
}
