//! Keys of algorithms that no appliance accepts: ECDSA on P-256 and RSA, as other repositories use.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use cloister_attest::AttestError;
use cloister_domain::Digest;
use cloister_verify::tuf::{Algorithms, Strict, Verifies};
use p256::{
    ecdsa::{self, signature::Verifier as _},
    pkcs8::DecodePublicKey as _,
};
use rsa::{RsaPublicKey, pkcs1v15, pss};
use serde_json::Value;
use sha2::Sha256;

/// What TUF's specification names (section 4.2), and what an appliance accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Foreign;

impl Algorithms for Foreign {
    fn key(&self, object: &Value) -> Result<Option<Arc<dyn Verifies>>, AttestError> {
        let text = |field: &str| object.get(field).and_then(Value::as_str);
        let pem = || object.get("keyval")?.get("public")?.as_str().and_then(der);
        let Some(scheme) = text("scheme") else { return Err(AttestError::KeyObject) };
        let key: Option<Arc<dyn Verifies>> = match scheme {
            "ecdsa-sha2-nistp256" => pem().and_then(|der| {
                let key = ecdsa::VerifyingKey::from_public_key_der(&der).ok()?;
                Some(Arc::new(Key { der, kind: Kind::P256(key) }) as Arc<dyn Verifies>)
            }),
            "rsassa-pss-sha256" => pem().and_then(|der| {
                let key = pss::VerifyingKey::new(RsaPublicKey::from_public_key_der(&der).ok()?);
                Some(Arc::new(Key { der, kind: Kind::Pss(key) }) as Arc<dyn Verifies>)
            }),
            "rsa-pkcs1v15-sha256" => pem().and_then(|der| {
                let key =
                    pkcs1v15::VerifyingKey::new(RsaPublicKey::from_public_key_der(&der).ok()?);
                Some(Arc::new(Key { der, kind: Kind::Pkcs1(key) }) as Arc<dyn Verifies>)
            }),
            _ => return Strict.key(object),
        };
        Ok(key)
    }
}

/// The bytes between the lines of a PEM text (RFC 7468).
fn der(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split_once("-----BEGIN PUBLIC KEY-----")?.1;
    let body = body.split_once("-----END PUBLIC KEY-----")?.0;
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64_STANDARD.decode(digits).ok()
}

/// A key with the bytes that it was read from (SubjectPublicKeyInfo, RFC 5280).
#[derive(Debug)]
struct Key {
    der: Vec<u8>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    P256(ecdsa::VerifyingKey),
    Pss(pss::VerifyingKey<Sha256>),
    Pkcs1(pkcs1v15::VerifyingKey<Sha256>),
}

impl Verifies for Key {
    fn algorithm(&self) -> &'static str {
        match self.kind {
            Kind::P256(_) => "ecdsa-sha2-nistp256",
            Kind::Pss(_) => "rsassa-pss-sha256",
            Kind::Pkcs1(_) => "rsa-pkcs1v15-sha256",
        }
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::P256(key) => ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Kind::Pss(key) => pss::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Kind::Pkcs1(key) => pkcs1v15::Signature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }

    fn identity(&self) -> Digest {
        Digest::of(&self.der)
    }
}
