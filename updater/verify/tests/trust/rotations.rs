//! How one root follows another, and what of the importer's outlives the change.

use cloister_domain::Coded as _;
use cloister_verify::{RoleName, TrustState, VerifyError, check_draft};
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, enrolled, keys, pack, release, role, root, signed, with,
};

#[test]
fn roots_follow_each_other_signed_by_both() {
    let state = with(vec![(1, release(1, PUBLISHER))]);
    let mut next = root(2);
    next["roles"]["root"] = role(&[1, 2, 8], 2);
    next["keys"] = keys(&[1, 2, 8, 4, 6, 7]);
    let refreshed =
        |text: &[u8]| state.refresh(&pack(&[("2.root.json".to_owned(), text.to_vec())]));
    let after = refreshed(&signed(&next, &[1, 2])).unwrap();
    assert_eq!(after.root_version(), 2);
    // The importer's keys are the same, so its files are still held.
    assert_eq!(after.stored().vector.targets, 1);
    // Signed by the new ones only, or by the old ones only.
    assert_eq!(
        refreshed(&signed(&next, &[2, 8])).unwrap_err().code(),
        "bundle.signature.threshold"
    );
    assert_eq!(
        refreshed(&signed(&next, &[1, 3])).unwrap_err().code(),
        "bundle.signature.threshold"
    );
    // CVE-2025-2885: a root under the next one's name, with another version.
    let skip = signed(&root(3), &[1, 2]);
    assert_eq!(refreshed(&skip), Err(VerifyError::RootChain { expected: 2, found: 3 }));
}

#[test]
fn a_root_behind_a_gap_is_not_passed_over_in_silence() {
    let state = enrolled(&root(1)).unwrap();
    let offered = |versions: &[u64]| {
        let name =
            |version: &u64| (format!("{version}.root.json"), signed(&root(*version), &[1, 2]));
        let files: Vec<(String, Vec<u8>)> = versions.iter().map(name).collect();
        state.refresh(&pack(&files)).map(|newer| newer.root_version())
    };
    assert_eq!(offered(&[1, 2, 3]), Ok(3));
    assert_eq!(offered(&[1]), Ok(1));
    for (versions, expected, found) in
        [(&[1, 2, 4][..], 3, 4), (&[1, 3], 2, 3), (&[1, (1 << 53) - 1], 2, (1 << 53) - 1)]
    {
        let gap = Err(VerifyError::RootChain { expected, found });
        assert_eq!(offered(versions), gap, "{versions:?}");
    }
    // What lies behind is an older medium's.
    let later = state.refresh(&pack(&[("2.root.json".to_owned(), signed(&root(2), &[1, 2]))]));
    let older = pack(&[("1.root.json".to_owned(), signed(&root(1), &[1, 2]))]);
    assert_eq!(later.unwrap().refresh(&older).map(|held| held.root_version()), Ok(2));
}

#[test]
fn new_importer_keys_start_their_versions_anew() {
    // A thief of the importer's key pushed the versions up; a new root takes the key away.
    let state = enrolled(&root(1)).unwrap();
    let mut far = Meta::new(1, Vec::new());
    far.version = (1 << 53) - 1;
    let state = state.refresh(&far.bytes()).unwrap();
    let mut next = root(2);
    next["keys"] = keys(&[1, 2, 3, 9, 6, 7]);
    for role_name in ["targets", "snapshot", "timestamp"] {
        next["roles"][role_name] = role(&[9], 1);
    }
    let mut meta = Meta::new(1, vec![(1, release(1, PUBLISHER))]);
    meta.signer = 9;
    meta.extra = vec![("2.root.json".to_owned(), signed(&next, &[1, 2]))];
    let state = state.refresh(&meta.bytes()).unwrap();
    assert_eq!(state.stored().vector.timestamp, 1);
    assert!(state.judge(&release(1, PUBLISHER)).is_ok());
    assert!(state.refresh(&far.bytes()).is_err());
}

/// A state that holds the importer's files of version 3 and the seventh stick, after root 2.
fn after(next: &Value) -> TrustState {
    let mut meta = Meta::new(3, vec![(1, release(1, PUBLISHER))]);
    meta.timestamp_extra = json!({"sequence": 7, "issued": "2030-01-01T00:00:00Z"});
    let state = enrolled(&root(1)).unwrap().refresh(&meta.bytes()).unwrap();
    assert_eq!(state.stored().vector.sequence, 7);
    state.refresh(&pack(&[("2.root.json".to_owned(), signed(next, &[1, 2]))])).unwrap()
}

/// Whether nothing of the importer's is held, so that another list is needed.
fn forgot(state: &TrustState) -> bool {
    let vector = &state.stored().vector;
    let none = [vector.timestamp, vector.snapshot, vector.targets] == [0; 3];
    let missing = VerifyError::Missing { role: RoleName::Targets };
    assert_eq!(state.judge(&release(1, PUBLISHER)) == Err(missing), none);
    assert_eq!(state.stored().files.len(), if none { 1 } else { 4 });
    // What is proven to have passed stays so, whoever's keys proved it.
    assert_eq!(vector.time_floor, Some("2030-01-01T00:00:00Z".parse().unwrap()));
    none
}

#[test]
fn a_root_with_the_importers_same_keys_leaves_its_files() {
    assert!(!forgot(&after(&root(2))));
    let mut roomier = root(2);
    roomier["roles"]["root"]["threshold"] = 1.into();
    assert!(!forgot(&after(&roomier)));
}

#[test]
fn a_key_more_for_a_role_starts_its_versions_anew_though_its_files_would_still_do() {
    let roles = [RoleName::Timestamp, RoleName::Snapshot, RoleName::Targets];
    for (changed, of_changed) in roles.into_iter().enumerate() {
        let mut next = root(2);
        next["keys"] = keys(&[1, 2, 3, 4, 6, 7, 9]);
        next["roles"][of_changed.name()] = role(&[IMPORTER, 9], 1);
        let state = after(&next);
        assert!(forgot(&state), "{of_changed}");
        let mut least = [3; 3];
        least[changed] = 0;
        assert_eq!(state.stored().vector.void, least);
        assert_eq!(state.stored().vector.sequence, if changed == 0 { 0 } else { 7 });
        let offer = |versions: [u64; 3]| {
            let mut meta = Meta::new(1, vec![(1, release(1, PUBLISHER))]);
            meta.versions = Some(versions);
            state.refresh(&meta.bytes())
        };
        // The others keep theirs as the least that may come.
        least[changed] = 1;
        let taken = offer(least).unwrap();
        assert_eq!(taken.stored().vector.void, [0; 3]);
        assert_eq!(taken.stored().vector.timestamp, least[0]);
        for (kept, role) in roles.into_iter().enumerate().filter(|(kept, _)| *kept != changed) {
            let mut lower = least;
            lower[kept] = 2;
            assert_eq!(offer(lower), Err(VerifyError::Stale { role, offered: 2, held: 3 }));
        }
    }
}

#[test]
fn a_list_that_the_new_root_would_not_accept_is_forgotten() {
    // The publisher becomes an approver, so it may not make releases any more.
    let mut next = root(2);
    next["keys"] = keys(&[1, 2, 3, 4, PUBLISHER, 7]);
    next["x-cloister"]["approvers"] = role(&[PUBLISHER, 7], 2);
    assert!(forgot(&after(&next)));
    // Nothing was held, so there is nothing to keep.
    let begun = enrolled(&root(1)).unwrap();
    let moved = begun.refresh(&pack(&[("2.root.json".to_owned(), signed(&root(2), &[1, 2]))]));
    assert_eq!(moved.unwrap().root_version(), 2);
}

#[test]
fn files_that_are_not_the_states_are_passed_over() {
    let loaded = |state: &TrustState, extra: &[(&str, &[u8])]| {
        let mut stored = state.stored().clone();
        stored.files.extend(extra.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())));
        TrustState::load(stored)
    };
    let held = with(vec![(1, release(1, PUBLISHER))]);
    assert_eq!(loaded(&held, &[("1.revoked.json", b"[]"), ("x.json", b"{}")]), Ok(held));
    // A root took the place of another, and what it made void lies there still.
    let begun = enrolled(&root(1)).unwrap();
    for left in ["timestamp.json", "snapshot.json", "targets.json", "2.revoked.json", "x.json"] {
        assert_eq!(loaded(&begun, &[(left, b"{}")]).as_ref(), Ok(&begun), "{left}");
    }
    // Its own list of what was taken back counts, so it must be one.
    assert_eq!(loaded(&begun, &[("1.revoked.json", b"[]")]), Err(VerifyError::Corrupt));
    assert!(loaded(&begun, &[("1.revoked.json", b"{}")]).is_ok());
}

#[test]
fn a_draft_is_judged_before_anybody_has_signed_it() {
    let judged = |root: &Value| check_draft(&signed(root, &[]));
    assert_eq!(judged(&root(1)), Ok(()));
    let mut shared = root(1);
    shared["x-cloister"]["approvers"] = role(&[IMPORTER, 6], 2);
    assert_eq!(judged(&shared), Err(VerifyError::SharedKey));
    let mut impossible = root(1);
    impossible["roles"]["root"]["threshold"] = 4.into();
    assert_eq!(judged(&impossible).unwrap_err().code(), "bundle.trust.threshold");
    assert_eq!(check_draft(b"{}").unwrap_err().code(), "bundle.trust.field");
}
