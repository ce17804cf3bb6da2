//! A root that demands both halves, Ed25519 and ML-DSA, of every person: neither can be stripped of a
//! root, of `targets.json`, of what a station signs, nor of an approval.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's own")]

use std::{fs, path::Path};

use cloister_attest::{
    Algorithm, Signer, SigningKey,
    approval::{Approval, Decision},
    dsse::Envelope,
    json,
    mldsa::{MlDsaSigningKey, ParameterSet},
};
use cloister_domain::{Coded as _, Digest, GenerationId, LogHead, Secret};
use cloister_mint::{
    importer::{Delegation, Importer},
    keys::Holder,
    trust::{Demanded, Folder, Roles},
};
use cloister_verify::{RoleName, TrustState, VerifyError, enrol};
use serde_json::Value;

const EXPIRES: &str = "2036-01-01T00:00:00Z";
const BOTH: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::MlDsa65];
const OFFICERS: [u8; 3] = [1, 2, 3];
const IMPORTER: u8 = 4;
const STATION: u8 = 5;
const APPROVER: u8 = 6;

/// The two keys of a person.
fn halves(seed: u8) -> [Box<dyn Signer>; 2] {
    let secret = Secret::new(vec![seed; 32]);
    let quantum = MlDsaSigningKey::from_seed(ParameterSet::MlDsa65, &secret).unwrap();
    [Box::new(SigningKey::from_seed(&secret).unwrap()), Box::new(quantum)]
}

fn person(seed: u8) -> Vec<Holder> {
    let person: cloister_domain::Principal = format!("person-{seed}").parse().unwrap();
    let holder = |key: Box<dyn Signer>| Holder { person: person.clone(), key: key.public() };
    halves(seed).into_iter().map(holder).collect()
}

fn roles(demanded: &[Algorithm]) -> Roles {
    Roles {
        root: OFFICERS.into_iter().flat_map(person).collect(),
        root_threshold: 2,
        importers: person(IMPORTER),
        stations: person(STATION),
        approvers: person(APPROVER),
        publishers: person(8),
        expires: EXPIRES.to_owned(),
        demanded: Demanded {
            root: demanded.to_vec(),
            importers: demanded.to_vec(),
            stations: demanded.to_vec(),
            approvers: demanded.to_vec(),
        },
        ..Roles::default()
    }
}

/// A folder under a root that demands `demanded`.
fn folder(at: &Path, demanded: &[Algorithm]) -> Folder {
    let folder = Folder::at(at).unwrap();
    let signers: Vec<_> = [1, 2].into_iter().flat_map(halves).collect();
    folder.create_root(&roles(demanded), &signers).unwrap();
    folder
}

fn code(refusal: &anyhow::Error) -> &'static str {
    refusal.downcast_ref::<VerifyError>().map_or("another reason", |error| error.code())
}

/// A file of the folder without its signature of this number.
fn stripped(at: &Path, number: usize) -> Vec<u8> {
    let mut file = json::parse_strict(&fs::read(at).unwrap(), json::DEPTH_MAX).unwrap();
    let Value::Array(signatures) = &mut file["signatures"] else { panic!("no signatures") };
    signatures.remove(number);
    json::canonical(&file).unwrap()
}

#[test]
fn neither_half_can_be_stripped_of_a_root() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &BOTH);
    for number in 0..4 {
        let text = stripped(&folder.first_root(), number);
        let refusal = enrol(&text, Digest::of(&text)).unwrap_err();
        assert_eq!(refusal.code(), "bundle.signature.threshold", "{number}");
    }
    // Nor is a root that follows made with one half of each officer, or with halves of two persons.
    let [[one, one_quantum], [two, two_quantum], [three, _]] = OFFICERS.map(halves);
    let next = |signers: &[Box<dyn Signer>]| folder.rotate_root(&roles(&BOTH), signers);
    let refusal = next(&[one, two, three]).unwrap_err();
    assert_eq!(code(&refusal), "bundle.signature.threshold");
    let [one, _] = halves(1);
    let refusal = next(&[one, one_quantum, two_quantum]).unwrap_err();
    assert_eq!(code(&refusal), "bundle.signature.threshold");
    let all: Vec<_> = [2, 3].into_iter().flat_map(halves).collect();
    next(&all).unwrap();
    // Where nothing is demanded, one half of each officer is enough.
    let scratch = tempfile::tempdir().unwrap();
    let signers = [1, 2].map(|seed| halves(seed).into_iter().next().unwrap());
    Folder::at(scratch.path()).unwrap().create_root(&roles(&[]), &signers).unwrap();
}

#[test]
fn neither_half_can_be_stripped_of_the_list() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &BOTH);
    let delegation = Delegation {
        name: "publisher".to_owned(),
        publishers: person(8),
        threshold: 1,
        paths: vec!["demo/*".to_owned()],
        algorithms: BOTH.to_vec(),
    };
    let station = halves(STATION);
    let signed = |importer: Vec<Box<dyn Signer>>| {
        let keys: Vec<_> = importer.into_iter().chain(halves(STATION)).collect();
        folder.delegate(&delegation, &Importer::new(&keys, EXPIRES))
    };
    for number in 0..2 {
        let half = halves(IMPORTER).into_iter().nth(number).unwrap();
        assert_eq!(code(&signed(vec![half]).unwrap_err()), "bundle.signature.threshold");
    }
    signed(halves(IMPORTER).into_iter().collect()).unwrap();
    // Whoever holds the station's keys can name other bytes, and they are refused all the same.
    let list = scratch.path().join("targets.json");
    let whole = fs::read(&list).unwrap();
    let stamped = || folder.stamp(&Importer::new(&station, EXPIRES));
    stamped().unwrap();
    for number in 0..2 {
        fs::write(&list, stripped(&list, number)).unwrap();
        assert_eq!(code(&stamped().unwrap_err()), "bundle.signature.threshold", "{number}");
        fs::write(&list, &whole).unwrap();
    }
    stamped().unwrap();
}

/// What an appliance makes of the folder's files.
fn appliance(folder: &Folder) -> Result<TrustState, VerifyError> {
    let root = fs::read(folder.first_root()).unwrap();
    enrol(&root, Digest::of(&root)).unwrap().refresh(&folder.meta().unwrap())
}

#[test]
fn neither_half_can_be_stripped_of_what_a_station_signs() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &BOTH);
    let importer = halves(IMPORTER);
    let delegation = Delegation {
        name: "publisher".to_owned(),
        publishers: person(8),
        threshold: 1,
        paths: vec!["demo/*".to_owned()],
        algorithms: Vec::new(),
    };
    folder.delegate(&delegation, &Importer::new(&importer, EXPIRES)).unwrap();
    for half in halves(STATION) {
        let refusal = folder.stamp(&Importer::new(&[half], EXPIRES)).unwrap_err();
        assert_eq!(code(&refusal), "bundle.signature.threshold");
    }
    folder.stamp(&Importer::new(&halves(STATION), EXPIRES)).unwrap();
    assert!(appliance(&folder).is_ok());
    let timestamp = scratch.path().join("timestamp.json");
    let whole = fs::read(&timestamp).unwrap();
    for number in 0..2 {
        fs::write(&timestamp, stripped(&timestamp, number)).unwrap();
        let half = VerifyError::Threshold { role: RoleName::Timestamp, good: 0, needed: 1 };
        assert_eq!(appliance(&folder).unwrap_err(), half, "{number}");
        fs::write(&timestamp, &whole).unwrap();
    }
}

#[test]
fn neither_half_can_be_stripped_of_an_approval() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &BOTH);
    let state = appliance(&folder).unwrap();
    let (package, bundle) = (Digest::of(b"package"), GenerationId(Digest::of(b"bundle")));
    let approval = Approval {
        package,
        bundle,
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        log: LogHead { origin: "enclave/one".to_owned(), size: 1 },
        decision: Decision::Approve,
        person: "person-6".parse().unwrap(),
        comment: String::new(),
    };
    let [classical, quantum] = halves(APPROVER);
    let unsigned = || approval.unsigned().unwrap();
    let judged = |envelope: Envelope| state.approval(&envelope.to_json());
    let half = VerifyError::Threshold { role: RoleName::Approver, good: 0, needed: 1 };
    for key in [&classical, &quantum] {
        assert_eq!(judged(unsigned().sign_by(key).unwrap()).unwrap_err(), half);
    }
    let both = unsigned().sign_by(&classical).unwrap().sign_by(&quantum).unwrap();
    assert_eq!(judged(both).unwrap().get().person.as_str(), "person-6");
}
