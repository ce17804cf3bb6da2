//! The client's own steps: what is held, what it is measured by, and what a list says about a file.

use std::sync::Arc;

use cloister_domain::{Coded as _, Digest};
use cloister_verify::{
    RoleName, VerifyError,
    tuf::{Strict, TrustedSet},
};
use serde_json::{Value, json};

use crate::support::{IMPORTER, PUBLISHER, STRANGER, key, keys, role, root, signed};

/// SHA-512 of `abc` (FIPS 180-4, its first example).
const ABC_SHA512: &str = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                          2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

fn begun() -> TrustedSet {
    TrustedSet::new(&signed(&root(1), &[1, 2]), Arc::new(Strict), None).unwrap()
}

fn part(kind: &str, version: u64) -> Value {
    json!({
        "_type": kind, "spec_version": "1.0.34", "version": version,
        "expires": "2031-01-01T00:00:00Z",
    })
}

fn timestamp(version: u64, snapshot: &Value) -> Vec<u8> {
    let mut file = part("timestamp", version);
    file["meta"] = json!({ "snapshot.json": snapshot });
    signed(&file, &[IMPORTER])
}

fn snapshot(version: u64, files: Value) -> Vec<u8> {
    let mut file = part("snapshot", version);
    file["meta"] = files;
    signed(&file, &[IMPORTER])
}

/// The importer's list of version 1 with further fields, and what it delegates.
fn targets(targets: Value, delegations: Value) -> Vec<u8> {
    let mut file = part("targets", 1);
    file["targets"] = targets;
    file["delegations"] = delegations;
    signed(&file, &[IMPORTER])
}

/// A client that holds the three files of version 1 with this list.
fn holding(list: &[u8]) -> Result<TrustedSet, VerifyError> {
    let mut set = begun();
    assert_eq!(set.update_timestamp(&timestamp(1, &json!({"version": 1}))), Ok(true));
    set.update_snapshot(&snapshot(1, json!({"targets.json": {"version": 1}})), false).unwrap();
    set.update_targets(list).map(|()| set)
}

fn delegating(roles: &Value) -> Value {
    json!({"keys": keys(&[PUBLISHER, STRANGER]), "roles": roles})
}

#[test]
fn a_list_may_give_either_digest_and_every_one_counts() {
    let sha256 = Digest::of(b"abc").to_string();
    let other = Digest::of(b"other").to_string();
    let set = |entry: Value| holding(&targets(json!({ "f": entry }), delegating(&json!([]))));
    for (entry, name_digest) in [
        (json!({"length": 3, "hashes": {"sha512": ABC_SHA512}}), ABC_SHA512),
        (json!({"length": 3, "hashes": {"sha256": sha256}}), sha256.as_str()),
        (json!({"length": 3, "hashes": {"sha256": sha256, "sha512": ABC_SHA512}}), &sha256),
    ] {
        let set = set(entry).unwrap();
        let target = set.targets().unwrap().target("f").unwrap();
        assert_eq!((target.length, target.name_digest().as_str()), (3, name_digest));
        assert!(target.is(b"abc") && !target.is(b"abd") && !target.is(b"abcd"));
    }
    for wrong in [
        json!({"length": 4, "hashes": {"sha256": sha256}}),
        json!({"length": 3, "hashes": {"sha256": other, "sha512": ABC_SHA512}}),
        json!({"length": 3, "hashes": {"sha256": sha256, "sha512": other.repeat(2)}}),
    ] {
        assert!(!set(wrong).unwrap().targets().unwrap().target("f").unwrap().is(b"abc"));
    }
    for refused in [
        json!({"hashes": {"sha256": sha256}}),
        json!({"length": 3}),
        json!({"length": 3, "hashes": {"md5": "0"}}),
        json!({"length": 3, "hashes": {"sha512": sha256}}),
        json!({"length": 3, "hashes": {"sha512": ABC_SHA512.to_uppercase()}}),
    ] {
        assert_eq!(set(refused).unwrap_err().code(), "bundle.trust.field");
    }
}

#[test]
fn a_delegation_names_paths_by_patterns_by_digests_or_by_bins() {
    let mut by_digest = role(&[PUBLISHER], 1);
    by_digest["name"] = "by-digest".into();
    by_digest["terminating"] = false.into();
    // sha256("a") begins with ca978112, sha256("b") with 3e23e816.
    by_digest["path_hash_prefixes"] = json!(["0000", "ca97"]);
    let set = holding(&targets(json!({}), delegating(&json!([by_digest])))).unwrap();
    let asked = set.targets().unwrap().delegations("a");
    assert_eq!(asked.iter().map(|one| one.name()).collect::<Vec<_>>(), ["by-digest"]);
    assert!(!asked[0].terminating());
    assert!(set.targets().unwrap().delegations("b").is_empty());
    // Another key under the same name, or another person with it, makes another delegation.
    let asked_of = |seed: u8, persons: Value| {
        let mut named = by_digest.clone();
        named["keyids"] = json!(["k"]);
        let keys = json!({"k": key(seed).public().to_object()});
        let delegations = json!({"keys": keys, "roles": [named], "x-persons": persons});
        holding(&targets(json!({}), delegations)).unwrap().targets().unwrap().delegations("a")
    };
    let one = asked_of(STRANGER, json!({}));
    assert_eq!(asked_of(STRANGER, json!({})), one);
    assert_ne!(asked_of(STRANGER, json!({"k": "pub"})), asked_of(PUBLISHER, json!({"k": "pub"})));
    assert_ne!(asked_of(STRANGER, json!({"k": "pub"})), one);

    let mut bins = role(&[PUBLISHER], 1);
    bins["bit_length"] = 8.into();
    bins["name_prefix"] = "bin".into();
    let succinct = json!({"keys": keys(&[PUBLISHER]), "succinct_roles": bins});
    let set = holding(&targets(json!({}), succinct)).unwrap();
    let asked = set.targets().unwrap().delegations("a");
    assert_eq!(asked.iter().map(|one| one.name()).collect::<Vec<_>>(), ["bin-ca"]);
    assert!(asked[0].terminating());
}

#[test]
fn a_snapshot_that_was_trusted_before_is_the_measure_of_the_next() {
    let old = snapshot(1, json!({"targets.json": {"version": 1}, "a.json": {"version": 1}}));
    let next = snapshot(2, json!({"targets.json": {"version": 1}}));
    let listed = json!({"version": 2, "length": next.len()});
    let offered = || {
        let mut set = begun();
        assert_eq!((set.offered_snapshot(), set.offered_targets("targets")), (None, None));
        assert_eq!(set.update_timestamp(&timestamp(5, &listed)), Ok(true));
        assert_eq!(set.offered_snapshot(), Some(2));
        set
    };
    let role = RoleName::Snapshot;
    let mut set = offered();
    assert_eq!(set.update_snapshot(&old, true), Err(VerifyError::Mixed { role }));
    // It is held, though nothing below it can be taken on its word.
    assert_eq!(set.offered_targets("a"), Some(1));
    let list = targets(json!({}), delegating(&json!([])));
    assert_eq!(set.update_targets(&list), Err(VerifyError::Mixed { role }));
    let removed = VerifyError::Removed { role: RoleName::Delegated };
    assert_eq!(set.update_snapshot(&next, false), Err(removed));
    // One that was not trusted before leaves nothing behind.
    let mut set = offered();
    assert_eq!(set.update_snapshot(&old, false), Err(VerifyError::Mixed { role }));
    assert_eq!(set.offered_targets("a"), None);
    assert_eq!(set.update_targets(&list), Err(VerifyError::Missing { role }));
    assert_eq!(set.update_snapshot(&next, false), Ok(()));
    assert_eq!(set.update_targets(&list), Ok(()));
}

#[test]
fn the_length_is_compared_where_no_digest_is_given() {
    let next = snapshot(1, json!({"targets.json": {"version": 1}}));
    let mut set = begun();
    let listed = json!({"version": 1, "length": next.len() + 1});
    assert_eq!(set.update_timestamp(&timestamp(1, &listed)), Ok(true));
    let mixed = VerifyError::Mixed { role: RoleName::Snapshot };
    assert_eq!(set.update_snapshot(&next, false), Err(mixed));
}

#[test]
fn what_the_timestamp_names_never_falls() {
    let take = |version: u64, named: u64| timestamp(version, &json!({ "version": named }));
    let mut set = begun();
    assert_eq!(set.update_timestamp(&take(2, 2)), Ok(true));
    assert_eq!(set.update_timestamp(&take(2, 2)), Ok(false));
    let stale = |role, offered, held| Err(VerifyError::Stale { role, offered, held });
    assert_eq!(set.update_timestamp(&take(1, 2)), stale(RoleName::Timestamp, 1, 2));
    assert_eq!(set.update_timestamp(&take(3, 1)), stale(RoleName::Snapshot, 1, 2));
    assert_eq!(set.update_timestamp(&take(3, 2)), Ok(true));
}

#[test]
fn a_new_root_vouches_for_nothing_yet() {
    let mut set = holding(&targets(json!({}), delegating(&json!([])))).unwrap();
    assert!(set.targets().is_some() && set.delegated("targets", "").is_some());
    set.update_root(&signed(&root(2), &[1, 2])).unwrap();
    assert!(set.targets().is_none() && set.delegated("targets", "").is_none());
    assert_eq!((set.offered_snapshot(), set.offered_targets("targets")), (None, None));
    assert_eq!(set.root().version(), 2);
}
