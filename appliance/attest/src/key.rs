//! Ed25519 keys (RFC 8032) that were checked before anything trusts them.

use std::fmt;

use cloister_domain::{Digest, Secret};
use curve25519_dalek::traits::Identity as _;
use curve25519_dalek::{constants::ED25519_BASEPOINT_POINT, edwards::EdwardsPoint, scalar::Scalar};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha512};

use crate::{AttestError, json, multiples::Multiples, point};

/// A public key: canonical, on the curve, and not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Checks the 32 bytes of a key (RFC 8032, section 5.1.3, with the stricter rules above it).
    ///
    /// # Errors
    /// [`AttestError::KeyEncoding`] and [`AttestError::KeySmallOrder`].
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, AttestError> {
        if !point::is_canonical(bytes) {
            return Err(AttestError::KeyEncoding);
        }
        if point::is_small_order(bytes) {
            return Err(AttestError::KeySmallOrder);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_cause| AttestError::KeyEncoding)?;
        if key.is_weak() { Err(AttestError::KeySmallOrder) } else { Ok(Self(*bytes)) }
    }

    /// Reads the 64 lower-case hexadecimal digits of a TUF key.
    ///
    /// # Errors
    /// As [`PublicKey::parse`].
    pub fn from_hex(text: &str) -> Result<Self, AttestError> {
        let digits: Digest = text.parse().map_err(|_cause| AttestError::KeyEncoding)?;
        Self::parse(digits.as_bytes())
    }

    /// Reads a TUF key object: `keytype` and `scheme` are `ed25519`, `keyval.public` is the key.
    ///
    /// # Errors
    /// [`AttestError::KeyObject`] for another object, else as [`PublicKey::parse`].
    pub fn from_object(object: &Value) -> Result<Self, AttestError> {
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        if text("keytype") != Some("ed25519") || text("scheme") != Some("ed25519") {
            return Err(AttestError::KeyObject);
        }
        let public = object.get("keyval").and_then(|value| value.get("public"));
        Self::from_hex(public.and_then(Value::as_str).ok_or(AttestError::KeyObject)?)
    }

    /// The key as TUF writes it (TUF 1.0.34, section 4.2).
    #[must_use]
    pub fn to_object(&self) -> Value {
        let text = |value: &str| Value::String(value.to_owned());
        let keyval = Map::from_iter([("public".to_owned(), Value::String(self.to_hex()))]);
        Value::Object(Map::from_iter([
            ("keytype".to_owned(), text("ed25519")),
            ("keyval".to_owned(), Value::Object(keyval)),
            ("scheme".to_owned(), text("ed25519")),
        ]))
    }

    /// The name that signatures call the key by: SHA-256 of its canonical TUF key object.
    #[must_use]
    pub fn key_id(&self) -> String {
        key_id(&self.to_object()).expect("a key object holds strings only")
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The bytes as 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        Digest::from_bytes(self.0).to_string()
    }

    /// Accepts a signature only in its one canonical spelling and without the cofactor's freedom.
    ///
    /// # Errors
    /// [`AttestError::SignatureEncoding`] and [`AttestError::SignatureWrong`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        verify(&self.point(), message, signature)
    }

    /// The key made ready for many signatures.
    #[must_use]
    pub fn checker(&self) -> Checker {
        Checker { point: self.point(), key_id: self.key_id(), multiples: None }
    }

    fn point(&self) -> VerifyingKey {
        VerifyingKey::from_bytes(&self.0).expect("checked when the key was made")
    }
}

/// A public key whose point is decoded and whose id is written, once for many signatures. It checks each
/// alone and accepts what [`PublicKey::verify`] does.
#[derive(Clone, Debug)]
pub struct Checker {
    point: VerifyingKey,
    key_id: String,
    /// Of the base point, and of the key's with the other sign.
    multiples: Option<[Multiples; 2]>,
}

impl Checker {
    /// As [`PublicKey::key_id`].
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Makes it twice as quick for thousands of signatures; for hundreds it is not worth the time.
    #[must_use]
    pub fn for_many(self) -> Self {
        let minus = -self.point.to_edwards();
        let multiples = Some([ED25519_BASEPOINT_POINT, minus].map(Multiples::of));
        Self { multiples, ..self }
    }

    /// As [`PublicKey::verify`].
    ///
    /// # Errors
    /// As [`PublicKey::verify`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
        self.verify_all(&[(message, signature)]).pop().expect("a verdict for each")
    }

    /// As [`PublicKey::verify`] of each message with its signature. Only the last step is shared.
    #[must_use]
    pub fn verify_all(&self, signed: &[(&[u8], &[u8])]) -> Vec<Result<(), AttestError>> {
        let Some([base, key]) = &self.multiples else {
            return signed.iter().map(|(message, sig)| verify(&self.point, message, sig)).collect();
        };
        // RFC 8032, section 5.1.7, step 3 without the cofactor: R made anew has R's one spelling.
        let made = signed.iter().map(|(message, signature)| {
            let Halves { r, s, .. } = halves(signature)?;
            let hash = Sha512::new().chain_update(r).chain_update(self.point.as_bytes());
            let challenge = hash.chain_update(message).finalize();
            let challenge = Scalar::from_bytes_mod_order_wide(&challenge.into());
            let sum = base.add_to(EdwardsPoint::identity(), s);
            Ok((r, key.add_to(sum, challenge.as_bytes())))
        });
        let made: Vec<Result<_, AttestError>> = made.collect();
        let points: Vec<EdwardsPoint> = made.iter().flatten().map(|(_, point)| *point).collect();
        let mut spelled = EdwardsPoint::compress_batch_alloc(&points).into_iter();
        let judge = |made: Result<(&[u8; 32], EdwardsPoint), AttestError>| {
            let (r, _point) = made?;
            let same = spelled.next().is_some_and(|spelled| spelled.as_bytes() == r);
            if same { Ok(()) } else { Err(AttestError::SignatureWrong) }
        };
        made.into_iter().map(judge).collect()
    }
}

/// A signature.
struct Halves<'a> {
    whole: &'a [u8; 64],
    r: &'a [u8; 32],
    s: &'a [u8; 32],
}

/// The two halves of a signature, each in its one spelling, and R not of small order.
fn halves(signature: &[u8]) -> Result<Halves<'_>, AttestError> {
    let whole: &[u8; 64] = signature.try_into().map_err(|_cause| AttestError::SignatureEncoding)?;
    let (r, s) = whole.split_first_chunk::<32>().expect("64 bytes hold 32");
    let s: &[u8; 32] = s.try_into().expect("the other 32");
    if !point::is_canonical(r) || point::is_small_order(r) || !point::is_reduced(s) {
        return Err(AttestError::SignatureEncoding);
    }
    Ok(Halves { whole, r, s })
}

fn verify(key: &VerifyingKey, message: &[u8], signature: &[u8]) -> Result<(), AttestError> {
    let whole = halves(signature)?.whole;
    key.verify_strict(message, &Signature::from_bytes(whole))
        .map_err(|_cause| AttestError::SignatureWrong)
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_hex())
    }
}

/// The key id of any TUF key object: SHA-256 of the object's canonical form as it was received.
///
/// # Errors
/// Those of [`json::canonical_tuf`].
pub(crate) fn key_id(object: &Value) -> Result<String, AttestError> {
    Ok(Digest::of(&json::canonical_tuf(object)?).to_string())
}

/// A private key, made from its 32-byte seed; wiped when dropped and never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Derives the key from its seed (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// [`AttestError::Seed`] unless the seed has 32 bytes.
    pub fn from_seed(seed: &Secret) -> Result<Self, AttestError> {
        let bytes = seed.expose();
        let seed: &[u8; 32] =
            bytes.try_into().map_err(|_cause| AttestError::Seed { bytes: bytes.len() })?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(seed)))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` deterministically.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |c: u8| (c as char).to_digit(16).expect("a hexadecimal digit");
        hex.as_bytes()
            .chunks_exact(2)
            .map(|pair| u8::try_from(digit(pair[0]) * 16 + digit(pair[1])).expect("two digits"))
            .collect()
    }

    /// RFC 8032, section 7.1, tests 1, 2 and 3: seed, public key, message, signature.
    const VECTORS: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    #[test]
    fn the_vectors_of_rfc_8032_hold() {
        for [seed, public, message, signature] in VECTORS {
            let key = SigningKey::from_seed(&Secret::new(bytes(seed))).expect("32 bytes");
            assert_eq!(key.public(), PublicKey::from_hex(public).expect("a good key"));
            assert_eq!(key.sign(&bytes(message)).to_vec(), bytes(signature));
            assert_eq!(key.public().verify(&bytes(message), &bytes(signature)), Ok(()));
            let checker = key.public().checker();
            assert_eq!(checker.verify(&bytes(message), &bytes(signature)), Ok(()));
            assert_eq!(checker.key_id(), key.public().key_id());
            assert_eq!(checker.for_many().verify(&bytes(message), &bytes(signature)), Ok(()));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let [_, public, message, signature] = VECTORS[2];
        let (message, signature) = (bytes(message), bytes(signature));
        let key = PublicKey::from_hex(public).expect("a good key");
        let many = key.checker().for_many();
        // Side by side with good ones, and each judged alone.
        let mut wrong = signature.clone();
        wrong[40] ^= 1;
        let (good, short) = (signature.as_slice(), &signature[1..]);
        let side = [good, &wrong, short, good].map(|signature| (message.as_slice(), signature));
        let verdicts =
            [Ok(()), Err(AttestError::SignatureWrong), Err(AttestError::SignatureEncoding), Ok(())];
        assert_eq!(many.verify_all(&side), verdicts);
        assert_eq!(key.checker().verify_all(&side), verdicts);
        for bit in 0..512 {
            let mut flipped = signature.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let refused = key.verify(&message, &flipped);
            assert!(refused.is_err(), "bit {bit}");
            assert_eq!(many.verify(&message, &flipped), refused, "bit {bit}");
        }
        assert_eq!(many.verify(b"other", &signature), Err(AttestError::SignatureWrong));
    }

    /// What holds only up to a point of small order, which whoever has the key can make: one verifier that
    /// took it would differ from the others (Chalkias et al. 2020, section 3).
    #[test]
    fn the_cofactor_gives_no_freedom() {
        use curve25519_dalek::constants::EIGHT_TORSION;
        let (secret, nonce) = (Scalar::from(7u64), Scalar::from(11u64));
        let key = EdwardsPoint::mul_base(&secret).compress().to_bytes();
        let key = PublicKey::parse(&key).expect("a good key");
        let many = key.checker().for_many();
        for (number, torsion) in EIGHT_TORSION.iter().enumerate() {
            let r = (EdwardsPoint::mul_base(&nonce) + torsion).compress();
            let hash = Sha512::new().chain_update(r.as_bytes()).chain_update(key.as_bytes());
            let challenge = hash.chain_update(b"message").finalize();
            let s = nonce + Scalar::from_bytes_mod_order_wide(&challenge.into()) * secret;
            let signature = [*r.as_bytes(), s.to_bytes()].concat();
            let good = if number == 0 { Ok(()) } else { Err(AttestError::SignatureWrong) };
            assert_eq!(key.verify(b"message", &signature), good, "{number}");
            assert_eq!(many.verify(b"message", &signature), good, "{number}");
        }
    }

    #[test]
    fn s_plus_the_group_order_is_refused() {
        // The classic malleable twin: the same point equation, another spelling.
        let order = bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let [_, public, message, signature] = VECTORS[1];
        let mut twin = bytes(signature);
        let mut carry = 0;
        for (digit, add) in twin[32..].iter_mut().zip(order) {
            let sum = u16::from(*digit) + u16::from(add) + carry;
            *digit = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        let key = PublicKey::from_hex(public).expect("a good key");
        assert_eq!(key.verify(&bytes(message), &twin), Err(AttestError::SignatureEncoding));
        let many = key.checker().for_many();
        assert_eq!(many.verify(&bytes(message), &twin), Err(AttestError::SignatureEncoding));
    }

    #[test]
    fn the_identity_forges_nothing() {
        // With the identity as key, R = B·s and any s fit every message; libraries accept that.
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::parse(&identity), Err(AttestError::KeySmallOrder));
        let mut forged = [0; 64];
        forged[0] = 1;
        let library = VerifyingKey::from_bytes(&identity).expect("the library takes the key");
        let signature = Signature::from_bytes(&forged);
        assert!(ed25519_dalek::Verifier::verify(&library, b"any", &signature).is_ok());
        // The same R under an honest key is refused for its own sake.
        let key = PublicKey::from_hex(VECTORS[0][1]).expect("a good key");
        assert_eq!(key.verify(b"any", &forged), Err(AttestError::SignatureEncoding));
        let many = key.checker().for_many();
        assert_eq!(many.verify(b"any", &forged), Err(AttestError::SignatureEncoding));
    }

    #[test]
    fn a_key_off_the_curve_or_above_p_is_refused() {
        assert_eq!(PublicKey::parse(&[0xff; 32]), Err(AttestError::KeyEncoding));
        let mut off = [0; 32];
        off[0] = 2;
        assert_eq!(PublicKey::parse(&off), Err(AttestError::KeyEncoding));
        assert_eq!(PublicKey::from_hex(&"D7".repeat(32)), Err(AttestError::KeyEncoding));
    }

    #[test]
    fn a_key_object_returns_to_the_same_key_and_id() {
        let key = PublicKey::from_hex(VECTORS[0][1]).expect("a good key");
        assert_eq!(PublicKey::from_object(&key.to_object()), Ok(key));
        // sha256 of {"keytype":"ed25519","keyval":{"public":"d75a…"},"scheme":"ed25519"}
        let text = format!(
            "{{\"keytype\":\"ed25519\",\"keyval\":{{\"public\":\"{}\"}},\"scheme\":\"ed25519\"}}",
            VECTORS[0][1]
        );
        assert_eq!(key.key_id(), Digest::of(text.as_bytes()).to_string());
        let mut other = key.to_object();
        other["scheme"] = Value::from("rsa");
        assert_eq!(PublicKey::from_object(&other), Err(AttestError::KeyObject));
    }
}
