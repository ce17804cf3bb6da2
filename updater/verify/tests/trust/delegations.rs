//! Who may make which release, and how a client finds its way through delegations.

use std::sync::Arc;

use cloister_domain::Coded as _;
use cloister_verify::{
    VerifyError,
    tuf::{Strict, TrustedSet},
};
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, STRANGER, enrolled, id, key, keys, listing, pack, release, role,
    root, signed,
};

const OTHER: u8 = 8;

fn delegation(name: &str, seeds: &[u8], paths: &[&str], terminating: bool) -> Value {
    let mut value = role(seeds, 1);
    value["name"] = name.into();
    value["paths"] = json!(paths);
    value["terminating"] = terminating.into();
    value
}

fn delegating(roles: Value, listed: Vec<(u64, Vec<u8>)>) -> Meta {
    let mut meta = Meta::new(1, listed);
    meta.roles = Some(roles);
    meta
}

#[test]
fn roles_are_asked_in_their_order_until_one_that_terminates() {
    let (first, second) = (release(1, PUBLISHER), release(2, OTHER));
    let judged = |terminating: bool| {
        let roles = json!([
            delegation("elsewhere", &[STRANGER], &["else/*"], true),
            delegation("first", &[PUBLISHER], &["demo/*"], terminating),
            delegation("second", &[OTHER], &["*/*"], true),
        ]);
        let meta = delegating(roles, vec![(1, first.clone()), (2, second.clone())]);
        let state = enrolled(&root(1)).unwrap().refresh(&meta.bytes()).unwrap();
        // Each is vouched for by the role that lets it in.
        for (text, role) in [(&first, "first"), (&second, "second")] {
            let of = state.vouchers(text).map(|vouchers| vouchers.role);
            assert_eq!(of, state.judge(text).is_ok().then(|| role.to_owned()));
        }
        [state.judge(&first).is_ok(), state.judge(&second).is_ok()]
    };
    assert_eq!(judged(false), [true, true]);
    assert_eq!(judged(true), [true, false]);
}

#[test]
fn key_ids_are_what_the_file_calls_them() {
    // TAP 12: a key's id need not be its digest. Releases are signed under the digest all the same.
    let mut root = root(1);
    root["keys"]["imp"] = root["keys"][id(IMPORTER)].take();
    root["keys"].as_object_mut().unwrap().remove(&id(IMPORTER));
    for name in ["timestamp", "snapshot", "targets"] {
        root["roles"][name]["keyids"] = json!(["imp"]);
    }
    let text = release(1, PUBLISHER);
    let mut meta = Meta::new(1, vec![(1, text.clone())]);
    meta.importer_id = Some("imp");
    let state = enrolled(&root).unwrap().refresh(&meta.bytes()).unwrap();
    assert!(state.judge(&text).is_ok());
    // Neither name may be borrowed by another key.
    meta.version = 2;
    meta.signer = STRANGER;
    assert_eq!(state.refresh(&meta.bytes()).unwrap_err().code(), "bundle.signature.threshold");
}

#[test]
fn a_delegation_that_is_not_understood_is_refused() {
    let good = delegation("a", &[PUBLISHER], &["demo/*"], true);
    let broken = |change: &dyn Fn(&mut Value)| {
        let mut one = good.clone();
        change(&mut one);
        let meta = delegating(json!([one]), Vec::new());
        enrolled(&root(1)).unwrap().refresh(&meta.bytes()).unwrap_err().code()
    };
    assert_eq!(broken(&|one| one["name"] = "root".into()), "bundle.trust.field");
    assert_eq!(broken(&|one| one["name"] = "".into()), "bundle.trust.field");
    assert_eq!(broken(&|one| one["name"] = Value::Null), "bundle.trust.field");
    assert_eq!(broken(&|one| one["paths"] = "demo/*".into()), "bundle.trust.field");
    assert_eq!(broken(&|one| one["path_hash_prefixes"] = json!(["ab"])), "bundle.trust.field");
    assert_eq!(broken(&|one| one["terminating"] = Value::Null), "bundle.trust.field");
    assert_eq!(broken(&|one| one["threshold"] = 0.into()), "bundle.trust.threshold");
    assert_eq!(broken(&|one| one["threshold"] = 2.into()), "bundle.trust.threshold");
    assert_eq!(broken(&|one| one["x-algorithms"] = json!(["none"])), "bundle.trust.field");
    let twice = delegating(json!([good, good]), Vec::new());
    let refusal = enrolled(&root(1)).unwrap().refresh(&twice.bytes()).unwrap_err();
    assert_eq!(refusal.code(), "bundle.trust.field");
}

/// A client that took the importer's files of version 1, which delegate as `roles` say, and whose
/// snapshot lists the delegated `files` too.
fn client(roles: Value, files: &[(&str, &[u8])]) -> TrustedSet {
    let mut meta = delegating(roles, Vec::new());
    meta.delegated = files.iter().map(|(name, _)| ((*name).to_owned(), 1)).collect();
    let root = signed(&root(1), &[1, 2]);
    let mut set = TrustedSet::new(&root, Arc::new(Strict), None).unwrap();
    let files = meta.files();
    let file = |name: &str| &files.iter().find(|file| file.0 == name).unwrap().1;
    assert_eq!(set.update_timestamp(file("timestamp.json")), Ok(true));
    set.update_snapshot(file("snapshot.json"), false).unwrap();
    set.update_targets(file("targets.json")).unwrap();
    set
}

/// A delegated role's file, listing nothing and delegating as `roles` say.
fn delegated_file(signer: u8, roles: &[Value]) -> Vec<u8> {
    let file = json!({
        "_type": "targets", "spec_version": "1.0.34", "version": 1,
        "expires": "2031-01-01T00:00:00Z", "targets": {},
        "delegations": {"keys": keys(&[PUBLISHER, OTHER]), "roles": roles},
    });
    signed(&file, &[signer])
}

/// CVE-2025-2886, CVE-2025-2887: one delegator's word about a role says nothing for another's.
#[test]
fn a_delegated_role_is_judged_by_each_delegator_anew() {
    let roles = json!([
        delegation("a", &[PUBLISHER], &["team-a/*"], false),
        delegation("b", &[PUBLISHER], &["team-b/*"], false),
    ]);
    let parent_a =
        delegated_file(PUBLISHER, &[delegation("release", &[PUBLISHER], &["team-a/*"], true)]);
    let parent_b =
        delegated_file(PUBLISHER, &[delegation("release", &[OTHER], &["team-b/*"], true)]);
    let release = delegated_file(PUBLISHER, &[]);
    let mut set = client(roles, &[("a", &parent_a), ("b", &parent_b), ("release", &release)]);
    set.update_delegated(&parent_a, "a", ("targets", "targets"), "team-a/x").unwrap();
    set.update_delegated(&parent_b, "b", ("targets", "targets"), "team-b/x").unwrap();
    assert_eq!(set.update_delegated(&release, "release", ("a", "targets"), "team-a/x"), Ok(()));
    assert!(set.delegated("release", "a").is_some());
    let refused = set.update_delegated(&release, "release", ("b", "targets"), "team-b/x");
    assert_eq!(refused.unwrap_err().code(), "bundle.signature.unknown-signer");
    assert!(set.delegated("release", "b").is_none());
    // Out of a delegation's paths, and of a role that nobody names, there is no way.
    let outside = set.update_delegated(&release, "release", ("a", "targets"), "team-b/x");
    assert_eq!(outside, Err(VerifyError::OutOfScope));
    let unknown = set.update_delegated(&release, "nobody", ("a", "targets"), "team-a/x");
    assert_eq!(unknown, Err(VerifyError::OutOfScope));
}

/// CVE-2026-6967: what a delegated file is, and whether it has expired, is checked as of any other.
#[test]
fn a_delegated_file_must_be_the_listed_one() {
    let roles = json!([delegation("a", &[PUBLISHER], &["*"], true)]);
    let good = delegated_file(PUBLISHER, &[]);
    let mut set = client(roles.clone(), &[("a", &good)]);
    let mut take = |text: &[u8]| set.update_delegated(text, "a", ("targets", "targets"), "x");
    assert_eq!(take(&good), Ok(()));
    let mut other: Value = serde_json::from_slice(&good).unwrap();
    other["signed"]["version"] = 2.into();
    let other = signed(&other["signed"], &[PUBLISHER]);
    assert_eq!(take(&other).unwrap_err().code(), "bundle.trust.mixed");
    let mut other: Value = serde_json::from_slice(&good).unwrap();
    other["signed"]["_type"] = "snapshot".into();
    let other = signed(&other["signed"], &[PUBLISHER]);
    assert_eq!(take(&other).unwrap_err().code(), "bundle.trust.field");
    assert!(take(&signed(&json!({}), &[PUBLISHER])).is_err());
    // A role that the snapshot does not name.
    let mut set = client(roles, &[]);
    let unlisted = set.update_delegated(&good, "a", ("targets", "targets"), "x");
    assert_eq!(unlisted.unwrap_err().code(), "bundle.trust.mixed");
}

#[test]
fn two_keys_of_one_person_are_one_person_under_whatever_id() {
    // The root knows both keys of ada; the list delegates to one of them under another id.
    const SECOND: u8 = 8;
    let mut first = root(1);
    first["keys"] = keys(&[1, 2, 3, 4, 6, 7, PUBLISHER, SECOND]);
    first["x-cloister"]["persons"][id(PUBLISHER)] = "pub".into();
    first["x-cloister"]["persons"][id(SECOND)] = "pub".into();
    for (called, person) in [("k2".to_owned(), None), ("k2".to_owned(), Some("zoe")), (id(2), None)]
    {
        let mut delegated = role(&[PUBLISHER], 2);
        delegated["keyids"] = json!([id(PUBLISHER), called]);
        delegated["name"] = "publisher".into();
        delegated["terminating"] = true.into();
        delegated["paths"] = json!(["demo/*"]);
        let mut files = Meta::new(1, Vec::new()).files();
        let targets = files.iter_mut().find(|(name, _)| name == "targets.json").unwrap();
        let mut value: Value = serde_json::from_slice(&targets.1).unwrap();
        let delegations = &mut value["signed"]["delegations"];
        delegations["keys"] = json!({
            id(PUBLISHER): key(PUBLISHER).public().to_object(),
            called.clone(): key(SECOND).public().to_object(),
        });
        delegations["roles"] = json!([delegated]);
        if let Some(person) = person {
            delegations["x-persons"] = json!({ called.clone(): person });
        }
        targets.1 = signed(&value["signed"], &[IMPORTER]);
        let text = targets.1.clone();
        let snapshot = files.iter_mut().find(|(name, _)| name == "snapshot.json").unwrap();
        let mut value: Value = serde_json::from_slice(&snapshot.1).unwrap();
        let mut entry = listing(&text);
        entry["version"] = 1.into();
        value["signed"]["meta"]["targets.json"] = entry;
        snapshot.1 = signed(&value["signed"], &[IMPORTER]);
        let refusal = enrolled(&first).unwrap().refresh(&pack(&files)).unwrap_err();
        assert_eq!(refusal.code(), "bundle.trust.threshold", "{called} {person:?}");
    }
}

#[test]
fn an_id_of_the_root_lends_its_person_to_no_other_key() {
    const FOREIGN: u8 = 77;
    let text = release(1, FOREIGN);
    let mut meta = Meta::new(1, vec![(1, text.clone())]);
    meta.keys_extra = json!({ id(1): key(FOREIGN).public().to_object() });
    meta.publisher["keyids"] = json!([id(1)]);
    let state = enrolled(&root(1)).unwrap().refresh(&meta.bytes()).unwrap();
    let verified = state.judge(&text).unwrap();
    let signers: Vec<String> = verified.signers().iter().map(ToString::to_string).collect();
    assert_eq!(signers, [id(FOREIGN)], "not ada");
}
