//! Who vouches for a release: the signed texts from the trust root down to its manifest, each with the
//! keys whose signatures are good. What is held was verified when it was taken; this only says by whom.

use std::collections::BTreeMap;

use cloister_attest::{AnyKey, json};
use cloister_bundle::{Manifest, Release};
use cloister_domain::{ByteCount, Digest};
use cloister_verify::{TrustState, target_path};
use cloister_wire::review::{Attestation, Link, Provenance, Signer, Step};
use serde_json::Value;

/// The metadata of the chain: the file's name in the trust state, and its role.
const CHAIN: [(&str, &str); 4] = [
    ("root.json", "root"),
    ("timestamp.json", "timestamp"),
    ("snapshot.json", "snapshot"),
    ("targets.json", "targets"),
];

/// The provenance of a release that has this envelope, under the trust state of now.
pub(crate) fn provenance(
    trust: &TrustState,
    envelope: &[u8],
    manifest: &Manifest,
    steps: Vec<Step>,
) -> Provenance {
    let files = &trust.stored().files;
    let parsed = |name: &str| {
        let text = files.get(name)?;
        json::parse_strict(text, json::DEPTH_MAX).ok().map(|value| (text, value))
    };
    let root = parsed("root.json").map(|(_, root)| root).unwrap_or_default();
    let people = people(&root);
    let mut chain = Vec::new();
    for (name, role) in CHAIN {
        let Some((text, value)) = parsed(name) else { continue };
        let authority = root.pointer(&format!("/signed/roles/{role}")).cloned().unwrap_or_default();
        chain.push(Link {
            text: role.to_owned(),
            version: value.pointer("/signed/version").and_then(Value::as_u64).unwrap_or_default(),
            sha256: Digest::of(text),
            role: role.to_owned(),
            needed: threshold(&authority),
            signers: of_metadata(&value, &keys(&root, &authority), &people),
        });
    }
    chain.push(of_manifest(trust, envelope, manifest));
    let vector = &trust.stored().vector;
    Provenance {
        chain,
        stick: vector.sequence,
        time_floor: vector.time_floor.clone().map(String::from),
        attestations: attestations(manifest.release()),
        steps,
    }
}

fn attestations(release: &Release) -> Vec<Attestation> {
    let told = release.attestations.iter().map(|attached| Attestation {
        predicate_type: attached.predicate_type.clone(),
        sha256: attached.sha256,
        bytes: ByteCount(attached.length),
    });
    told.collect()
}

/// Who holds which key, by its id, as the officers say.
fn people(root: &Value) -> BTreeMap<String, String> {
    let named = root.pointer("/signed/x-cloister/persons").and_then(Value::as_object);
    let named = named.into_iter().flatten();
    named.filter_map(|(id, person)| Some((id.clone(), person.as_str()?.to_owned()))).collect()
}

fn threshold(authority: &Value) -> u64 {
    authority.get("threshold").and_then(Value::as_u64).unwrap_or_default()
}

/// The keys of a role, by their ids: its `keyids`, found in `holder`'s `keys`.
fn keys(holder: &Value, authority: &Value) -> BTreeMap<String, AnyKey> {
    let objects = holder.pointer("/signed/keys").or_else(|| holder.get("keys"));
    let ids = authority.get("keyids").and_then(Value::as_array).into_iter().flatten();
    let found = ids.filter_map(Value::as_str).filter_map(|id| {
        let key = AnyKey::from_object(objects?.get(id)?).ok()?;
        Some((id.to_owned(), key))
    });
    found.collect()
}

fn signer(id: &str, key: &AnyKey, people: &BTreeMap<String, String>) -> Signer {
    let person = people.get(id).or_else(|| people.get(&key.key_id()));
    Signer { key: id.to_owned(), person: person.cloned() }
}

/// The keys whose signatures under TUF metadata are good.
fn of_metadata(
    value: &Value,
    keys: &BTreeMap<String, AnyKey>,
    people: &BTreeMap<String, String>,
) -> Vec<Signer> {
    let Some(Ok(message)) = value.get("signed").map(json::canonical_tuf) else { return Vec::new() };
    let signatures = value.get("signatures").and_then(Value::as_array).into_iter().flatten();
    let good = signatures.filter_map(|signature| {
        let id = signature.get("keyid")?.as_str()?;
        let key = keys.get(id)?;
        key.verify(&message, &unhex(signature.get("sig")?.as_str()?)?).ok()?;
        Some(signer(id, key, people))
    });
    good.collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

/// The manifest, under the role whose word lets it in now; what nobody vouches for any more has no signers.
fn of_manifest(trust: &TrustState, text: &[u8], manifest: &Manifest) -> Link {
    let release = manifest.release();
    let vouchers = trust.vouchers(text);
    let path = || target_path(&release.name, &release.version);
    let keys = vouchers.iter().flat_map(|vouchers| &vouchers.keys);
    let signers =
        keys.map(|(id, person)| Signer { key: id.clone(), person: Some(person.to_string()) });
    Link {
        text: "manifest".to_owned(),
        version: release.release_counter,
        sha256: Digest::of(text),
        signers: signers.collect(),
        needed: vouchers.as_ref().map_or(0, |vouchers| vouchers.needed),
        role: vouchers.map_or_else(path, |vouchers| vouchers.role),
    }
}

#[cfg(test)]
mod tests {
    use cloister_attest::SigningKey;
    use cloister_domain::Secret;
    use serde_json::json;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("a seed")
    }

    #[test]
    fn only_keys_of_the_role_with_good_signatures_are_named() {
        let id = |seed: u8| key(seed).public().key_id();
        let signed = json!({ "version": 1 });
        let message = json::canonical_tuf(&signed).expect("integers");
        let hex = |bytes: [u8; 64]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let signature = |seed: u8, message: &[u8]| json!({ "keyid": id(seed), "sig": hex(key(seed).sign(message)) });
        let file = json!({
            "signed": signed,
            "signatures": [
                signature(1, &message), signature(2, b"something else"), signature(3, &message),
                { "keyid": id(1), "sig": "no hexadecimal" },
            ],
        });
        let objects: serde_json::Map<String, Value> =
            (1..=3).map(|seed| (id(seed), key(seed).public().to_object())).collect();
        let root = json!({ "signed": {
            "keys": objects,
            "x-cloister": { "persons": { id(1): "ada", id(2): "bob" } },
        } });
        let keys = keys(&root, &json!({ "keyids": [id(1), id(2)], "threshold": 2 }));
        assert_eq!(keys.len(), 2);
        let named = of_metadata(&file, &keys, &people(&root));
        let expected = Signer { key: id(1), person: Some("ada".to_owned()) };
        assert_eq!(named, [expected], "the second signed something else, the third is of no role");
    }
}
