//! The importer's acts and the station's, each judged by what an appliance makes of the files.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::path::Path;

use cloister_attest::{
    Algorithm, AnyKey, Signer, SigningKey,
    mldsa::{MlDsaSigningKey, ParameterSet},
};
use cloister_domain::{Coded as _, Digest, Secret};
use cloister_mint::{
    error::MintError,
    importer::{Delegation, Importer, Listed, Revocation},
    keys::Holder,
    trust::{Folder, Roles},
};
use cloister_samples::{key, manifest, signed};
use cloister_verify::{TrustState, VerifyError, enrol};

const EXPIRES: &str = "2036-01-01T00:00:00Z";
const IMPORTERS: [u8; 3] = [4, 5, 6];
const STATION: u8 = 7;
const PUBLISHER: u8 = 8;

fn quantum(seed: u8) -> MlDsaSigningKey {
    MlDsaSigningKey::from_seed(ParameterSet::MlDsa65, &Secret::new(vec![seed; 32])).unwrap()
}

fn holder(person: &str, key: impl Into<AnyKey>) -> Holder {
    Holder { person: person.parse().unwrap(), key: key.into() }
}

fn roles() -> Roles {
    let named = |name: &str, seeds: &[u8]| -> Vec<Holder> {
        seeds.iter().map(|seed| holder(&format!("{name}-{seed}"), key(*seed).public())).collect()
    };
    Roles {
        root: named("officer", &[1, 2, 3]),
        root_threshold: 2,
        importers: named("importer", &IMPORTERS),
        importer_threshold: 2,
        stations: named("station", &[STATION]),
        approvers: named("approver", &[10, 11]),
        approvals: 2,
        publishers: vec![
            holder("vendor", key(PUBLISHER).public()),
            holder("vendor", quantum(PUBLISHER).public().clone()),
        ],
        expires: EXPIRES.to_owned(),
        ..Roles::default()
    }
}

fn delegation(algorithms: &[Algorithm]) -> Delegation {
    Delegation {
        name: "publisher".to_owned(),
        publishers: roles().publishers,
        threshold: 1,
        paths: vec!["demo/*".to_owned()],
        algorithms: algorithms.to_vec(),
    }
}

/// A folder whose root is signed and where publishers may make releases.
fn folder(at: &Path, algorithms: &[Algorithm]) -> Folder {
    let folder = Folder::at(at).unwrap();
    folder.create_root(&roles(), &[key(1), key(2)]).unwrap();
    let keys = [key(4), key(5), key(STATION)];
    folder.delegate(&delegation(algorithms), &Importer::new(&keys, EXPIRES)).unwrap();
    folder
}

#[expect(clippy::disallowed_methods, reason = "a file that the test itself had written")]
fn appliance(folder: &Folder) -> TrustState {
    let root = std::fs::read(folder.first_root()).unwrap();
    let state = enrol(&root, Digest::of(&root)).unwrap();
    state.refresh(&folder.meta().unwrap()).unwrap()
}

fn release(counter: u64) -> Vec<u8> {
    signed(counter, PUBLISHER)
}

#[test]
fn importers_sign_together_and_the_station_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let text = release(1);
    let importer = |keys: &[SigningKey]| folder.admit(&text, &Importer::new(keys, EXPIRES));
    // One of two needed, and one importer beside the station: not trusted, and nothing is written.
    let before = folder.meta().unwrap();
    let refusal = importer(&[key(4), key(STATION)]).unwrap_err();
    let cause = refusal.downcast_ref::<VerifyError>().unwrap();
    assert_eq!(cause.code(), "bundle.signature.threshold");
    let refusal = importer(&[key(STATION)]).unwrap_err();
    assert!(refusal.to_string().contains("targets"), "{refusal}");
    assert_eq!(folder.meta().unwrap(), before);
    // Two importers without the station: the list is made, and current once the station stamped it.
    importer(&[key(4), key(6)]).unwrap();
    let station = [key(STATION)];
    folder.stamp(&Importer::new(&station, EXPIRES)).unwrap();
    assert!(appliance(&folder).judge(&text).is_ok());
}

#[test]
fn each_stick_has_a_number_and_a_time_that_never_falls() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let station = [key(STATION)];
    let stamp = |issued: &str| {
        let importer =
            Importer { issued: Some(issued.parse().unwrap()), ..Importer::new(&station, EXPIRES) };
        folder.stamp(&importer).unwrap();
        let vector = appliance(&folder).stored().vector.clone();
        (vector.sequence, String::from(vector.time_floor.unwrap()))
    };
    assert_eq!(stamp("2030-01-01T00:00:00Z"), (1, "2030-01-01T00:00:00Z".to_owned()));
    assert_eq!(stamp("2029-01-01T00:00:00Z"), (2, "2030-01-01T00:00:00Z".to_owned()));
    assert_eq!(stamp("2030-06-01T00:00:00Z"), (3, "2030-06-01T00:00:00Z".to_owned()));
    #[expect(clippy::disallowed_methods, reason = "a file that the test itself had written")]
    let first = std::fs::read(folder.first_root()).unwrap();
    let third = folder.meta().unwrap();
    // Listing a release is no stick.
    let keys = [key(4), key(5), key(STATION)];
    folder.admit(&release(1), &Importer::new(&keys, EXPIRES)).unwrap();
    let admit = |counter: u64| {
        folder.admit(&release(counter), &Importer::new(&keys, EXPIRES)).unwrap();
        appliance(&folder).stored().vector.sequence
    };
    assert_eq!((admit(2), admit(3)), (0, 0), "no number of a stick is on it");
    // Whoever read the third stick takes what was listed since, and the fourth as the next.
    let held = enrol(&first, Digest::of(&first)).unwrap().refresh(&third).unwrap();
    let listed = held.refresh(&folder.meta().unwrap()).unwrap();
    assert_eq!(listed.stored().vector.sequence, 3);
    assert_eq!(stamp("2030-06-01T00:00:00Z").0, 4);
    assert_eq!(listed.refresh(&folder.meta().unwrap()).unwrap().stored().vector.sequence, 4);
    // A stick with the officers' time.
    let next = Roles { issued: Some("2033-01-01T00:00:00Z".parse().unwrap()), ..roles() };
    folder.rotate_root(&next, &[key(1), key(3)]).unwrap();
    let floor = appliance(&folder).stored().vector.time_floor.clone().map(String::from);
    assert_eq!(floor.as_deref(), Some("2033-01-01T00:00:00Z"));
}

#[test]
fn what_is_taken_back_does_not_enter() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let keys = [key(4), key(5), key(STATION)];
    let importer = Importer::new(&keys, EXPIRES);
    let texts: Vec<Vec<u8>> = (1..=3).map(release).collect();
    for text in &texts {
        folder.admit(text, &importer).unwrap();
    }
    let before = appliance(&folder);
    let codes = |texts: &[Vec<u8>]| -> Vec<&str> {
        let state = appliance(&folder);
        texts
            .iter()
            .map(|text| state.judge(text).map_or_else(|error| error.code(), |_| ""))
            .collect()
    };
    folder.revoke(&[Revocation::Bundle(manifest(2).generation())], &importer).unwrap();
    assert_eq!(codes(&texts), ["", "bundle.revoked", ""]);
    let below = [Revocation::Below { name: "demo".to_owned(), counter: 3 }];
    folder.revoke(&below, &importer).unwrap();
    let lower = [Revocation::Below { name: "demo".to_owned(), counter: 1 }];
    folder.revoke(&lower, &importer).unwrap();
    assert_eq!(codes(&texts), ["bundle.revoked", "bundle.revoked", ""]);
    // Said twice is said once.
    let once = folder.meta().unwrap();
    let said = folder.revoke(&below, &importer).unwrap();
    assert_eq!((said.changed, folder.meta().unwrap()), (false, once));
    let stolen = [publishers_key("vendor", key(PUBLISHER).public(), false)];
    folder.revoke(&stolen, &importer).unwrap();
    assert_eq!(codes(&texts[2..]), ["bundle.revoked.key"]);
    // An appliance that was enrolled before learns it from the same files.
    let after = before.refresh(&folder.meta().unwrap()).unwrap();
    assert_eq!(after.may_activate(&texts[2]), Err(VerifyError::RevokedKey));
}

fn publishers_key(person: &str, key: impl Into<AnyKey>, former: bool) -> Revocation {
    Revocation::Key { holder: Box::new(holder(person, key)), former }
}

fn below(name: &str, counter: u64) -> Revocation {
    Revocation::Below { name: name.to_owned(), counter }
}

#[test]
fn a_slip_of_the_pen_takes_nothing_back() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let keys = [key(4), key(5), key(STATION)];
    let importer = Importer::new(&keys, EXPIRES);
    let vendor = || key(PUBLISHER).public();
    let before = folder.meta().unwrap();
    for (slip, code) in [
        (below("../x", 3), "mint.revoke.name"),
        (below("", 3), "mint.revoke.name"),
        (below("Demo", 3), "mint.revoke.name"),
        (below(&"x".repeat(65), 3), "mint.revoke.name"),
        (below("valves", 0), "mint.revoke.counter"),
        (below("valves", 1 << 53), "mint.revoke.counter"),
        (publishers_key("nobody", key(10).public(), false), "mint.revoke.role"),
        (publishers_key("approver-10", key(10).public(), true), "mint.revoke.role"),
        (publishers_key("importer-4", key(4).public(), true), "mint.revoke.role"),
        (publishers_key("station-7", key(STATION).public(), true), "mint.revoke.role"),
        (publishers_key("officer-1", key(1).public(), true), "mint.revoke.role"),
        (publishers_key("nobody", vendor(), false), "mint.revoke.person"),
        (publishers_key("nobody", vendor(), true), "mint.revoke.person"),
        (publishers_key("importer-4", vendor(), false), "mint.revoke.person"),
        (publishers_key("vendor", key(99).public(), false), "mint.revoke.unknown"),
    ] {
        // Beside something that could be meant: all or nothing.
        let both = [below("demo", 2), slip];
        let refusal = folder.revoke(&both, &importer).unwrap_err();
        let cause = refusal.downcast_ref::<MintError>().map(|error| error.code());
        assert_eq!(cause, Some(code), "{}", both[1]);
        assert_eq!(folder.meta().unwrap(), before, "{}", both[1]);
    }
}

#[test]
fn a_key_that_was_exchanged_can_be_taken_back_still() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let keys = [key(4), key(5), key(STATION)];
    let importer = Importer::new(&keys, EXPIRES);
    let only = |seed: u8| Delegation {
        publishers: vec![holder("late", key(seed).public())],
        ..delegation(&[])
    };
    // The vendor's stands in the root still; that of somebody whom no root names is forgotten.
    folder.delegate(&only(30), &importer).unwrap();
    folder.delegate(&only(31), &importer).unwrap();
    folder.revoke(&[publishers_key("vendor", key(PUBLISHER).public(), false)], &importer).unwrap();
    let forgotten = |former: bool| {
        folder.revoke(&[publishers_key("late", key(30).public(), former)], &importer)
    };
    let refusal = forgotten(false).unwrap_err();
    assert_eq!(refusal.downcast_ref::<MintError>().unwrap().code(), "mint.revoke.unknown");
    let listed = forgotten(true).unwrap();
    assert_eq!(
        listed,
        Listed { version: appliance(&folder).stored().vector.targets, changed: true }
    );
    // What the list says already is known.
    assert!(!forgotten(false).unwrap().changed);
    folder.revoke(&[publishers_key("late", key(31).public(), false)], &importer).unwrap();
}

#[test]
fn what_no_appliance_would_trust_is_not_listed_while_the_station_is_elsewhere() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let both = [key(4), key(5)];
    let importer = Importer::new(&both, EXPIRES);
    let before = folder.meta().unwrap();
    let code = |refusal: anyhow::Error| {
        assert_eq!(folder.meta().unwrap(), before, "{refusal:#}");
        refusal.downcast_ref::<VerifyError>().map(|error| error.code())
    };
    let alone = folder.admit(&release(1), &Importer::new(&[key(4)], EXPIRES)).unwrap_err();
    assert_eq!(code(alone), Some("bundle.signature.threshold"), "one importer of two");
    let foreign = folder.admit(&signed(1, 77), &importer).unwrap_err();
    assert_eq!(code(foreign), Some("bundle.signature.unknown-signer"));
    let own =
        Delegation { publishers: vec![holder("importer-4", key(4).public())], ..delegation(&[]) };
    let own = code(folder.delegate(&own, &importer).unwrap_err());
    assert!(own.is_some(), "an importer lets in what an importer made");
    for path in
        ["", "demo", "demo/", "/x", "demo/a/*", "Demo/*", "../*", "demo/1.0.0", "démo/*", "demo/* "]
    {
        let uncovered = Delegation { paths: vec![path.to_owned()], ..delegation(&[]) };
        let refusal = folder.delegate(&uncovered, &importer).unwrap_err();
        let cause = refusal.downcast_ref::<MintError>().map(|error| error.code());
        assert_eq!(cause, Some("mint.delegation.path"), "{path}");
    }
    assert_eq!(folder.meta().unwrap(), before);
    for path in ["demo/*", "*/*", "d?mo/1.*.json", "a-b_c.9/1.0.0+x-?.json"] {
        let covering = Delegation { paths: vec![path.to_owned()], ..delegation(&[]) };
        assert!(folder.delegate(&covering, &importer).is_ok(), "{path}");
    }
}

#[test]
fn new_importers_sign_the_old_list_anew() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let keys = [key(4), key(5), key(STATION)];
    folder.admit(&release(1), &Importer::new(&keys, EXPIRES)).unwrap();
    let mut next = roles();
    next.importers = vec![holder("new-20", key(20).public()), holder("new-21", key(21).public())];
    folder.rotate_root(&next, &[key(1), key(2)]).unwrap();
    let new = [key(20), key(21), key(STATION)];
    folder.admit(&release(1), &Importer::new(&new, EXPIRES)).unwrap();
    assert!(appliance(&folder).judge(&release(1)).is_ok());
}

#[test]
fn a_publisher_can_be_held_to_both_halves() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[Algorithm::Ed25519, Algorithm::MlDsa65]);
    let keys = [key(4), key(5), key(STATION)];
    let importer = Importer::new(&keys, EXPIRES);
    let refusal = folder.admit(&release(1), &importer).unwrap_err();
    let cause = refusal.downcast_ref::<VerifyError>().unwrap();
    assert_eq!(cause.code(), "bundle.signature.threshold");
    let both = manifest(1).envelope().sign_with(&key(PUBLISHER)).sign_by(&quantum(PUBLISHER));
    let both = both.unwrap().to_json();
    folder.admit(&both, &importer).unwrap();
    assert!(appliance(&folder).judge(&both).is_ok());
    assert_eq!(quantum(PUBLISHER).public().set(), ParameterSet::MlDsa65);
    assert_eq!(Signer::public(&quantum(PUBLISHER)).algorithm(), Algorithm::MlDsa65);
}

#[test]
fn two_keys_of_one_publisher_are_one_person() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = folder(scratch.path(), &[]);
    let keys = [key(4), key(5), key(STATION)];
    let importer = Importer::new(&keys, EXPIRES);
    // Persons whom no root names: only the list says who they are.
    let (one, again, other) = (key(30), key(31), key(32));
    let publishers = vec![
        holder("new", one.public()),
        holder("new", again.public()),
        holder("other", other.public()),
    ];
    let pair = Delegation { publishers, threshold: 2, ..delegation(&[]) };
    folder.delegate(&pair, &importer).unwrap();
    // The names outlive the delegations that follow.
    let third = Delegation {
        name: "third".to_owned(),
        publishers: vec![holder("third", key(33).public())],
        paths: vec!["third/*".to_owned()],
        ..delegation(&[])
    };
    folder.delegate(&third, &importer).unwrap();
    let signed =
        |second: &SigningKey| manifest(1).envelope().sign_with(&one).sign_with(second).to_json();
    let refusal = folder.admit(&signed(&again), &importer).unwrap_err();
    let cause = refusal.downcast_ref::<VerifyError>().unwrap();
    assert_eq!(cause.code(), "bundle.signature.threshold");
    let both = signed(&other);
    folder.admit(&both, &importer).unwrap();
    let signers = appliance(&folder).judge(&both).unwrap().signers().len();
    assert_eq!(signers, 2);
}
