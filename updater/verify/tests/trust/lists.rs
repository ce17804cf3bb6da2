//! What the importer's files say together: versions that move apart, versioned names, and lists.

use cloister_bundle::BundleError;
use cloister_domain::Digest;
use cloister_verify::{RoleName, VerifyError};
use serde_json::json;
use sha2::{Digest as _, Sha512};

use crate::support::{IMPORTER, Meta, PUBLISHER, enrolled, pack, release, root, signed, with};

/// Files whose timestamp, snapshot and targets have these versions.
fn of_versions(versions: [u64; 3]) -> Meta {
    let mut meta = Meta::new(1, vec![(1, release(1, PUBLISHER))]);
    meta.versions = Some(versions);
    meta
}

#[test]
fn a_newer_timestamp_may_name_what_is_held() {
    let mut state = enrolled(&root(1)).unwrap();
    for versions in [[1, 1, 1], [2, 1, 1], [3, 2, 1], [4, 3, 2]] {
        state = state.refresh(&of_versions(versions).bytes()).unwrap();
        let vector = &state.stored().vector;
        assert_eq!([vector.timestamp, vector.snapshot, vector.targets], versions);
        assert!(state.judge(&release(1, PUBLISHER)).is_ok());
    }
    let stale = |role, offered, held| Err(VerifyError::Stale { role, offered, held });
    assert_eq!(state.refresh(&of_versions([5, 2, 2]).bytes()), stale(RoleName::Snapshot, 2, 3));
    assert_eq!(state.refresh(&of_versions([5, 4, 1]).bytes()), stale(RoleName::Targets, 1, 2));
}

#[test]
fn files_are_called_by_their_versions_where_the_root_says_so() {
    let meta = Meta::new(3, vec![(1, release(1, PUBLISHER))]);
    let named = |snapshot: &str, targets: &str| {
        let mut files = meta.files();
        for (name, _) in &mut files {
            match name.as_str() {
                "snapshot.json" => *name = snapshot.to_owned(),
                "targets.json" => *name = targets.to_owned(),
                _ => {}
            }
        }
        files.sort();
        pack(&files)
    };
    let mut consistent = root(1);
    consistent["consistent_snapshot"] = true.into();
    let consistent = enrolled(&consistent).unwrap();
    let plain = enrolled(&root(1)).unwrap();
    let missing = |role| Err(VerifyError::Missing { role });
    for (snapshot, targets, by_version, without) in [
        ("3.snapshot.json", "3.targets.json", Ok(()), missing(RoleName::Snapshot)),
        ("snapshot.json", "3.targets.json", Ok(()), missing(RoleName::Targets)),
        ("3.snapshot.json", "targets.json", Ok(()), missing(RoleName::Snapshot)),
        ("snapshot.json", "targets.json", Ok(()), Ok(())),
        (
            "2.snapshot.json",
            "3.targets.json",
            missing(RoleName::Snapshot),
            missing(RoleName::Snapshot),
        ),
        ("snapshot.json", "2.targets.json", missing(RoleName::Targets), missing(RoleName::Targets)),
    ] {
        let bytes = named(snapshot, targets);
        assert_eq!(consistent.refresh(&bytes).map(drop), by_version, "{snapshot} {targets}");
        assert_eq!(plain.refresh(&bytes).map(drop), without, "{snapshot} {targets}");
    }
}

#[test]
fn a_file_that_nobody_would_read_is_refused() {
    let plain = enrolled(&root(1)).unwrap();
    let mut consistent = root(1);
    consistent["consistent_snapshot"] = true.into();
    let consistent = enrolled(&consistent).unwrap();
    let meta = Meta::new(3, Vec::new());
    let held = plain.refresh(&meta.bytes()).unwrap();
    let newer = held.refresh(&Meta::new(4, Vec::new()).bytes()).unwrap();
    let superfluous = VerifyError::from(BundleError::Meta);
    for more in ["2.snapshot.json", "3.snapshot.json", "9.snapshot.json", "2.targets.json"] {
        let mut files = meta.files();
        files.push((more.to_owned(), b"whatever".to_vec()));
        files.sort();
        let alone = pack(&[(more.to_owned(), b"whatever".to_vec())]);
        assert_eq!(plain.refresh(&pack(&files)), Err(superfluous), "{more}");
        assert_eq!(plain.refresh(&alone), Err(superfluous), "{more}");
        assert_eq!(held.refresh(&pack(&files)), Err(superfluous), "{more}");
        // A stick that is older than what is held changes nothing, whatever it brings.
        assert_eq!(newer.refresh(&pack(&files)).as_ref(), Ok(&newer), "{more}");
        // A repository whose names have versions keeps those that went before.
        if more != "3.snapshot.json" {
            assert!(consistent.refresh(&pack(&files)).is_ok(), "{more}");
        }
    }
}

#[test]
fn a_list_gives_the_sha256_of_a_release_and_its_length() {
    let text = release(1, PUBLISHER);
    let sha256 = Digest::of(&text).to_string();
    let sha512: String = Sha512::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    for (listing, verdict) in [
        (json!({"length": text.len(), "hashes": {"sha256": sha256}}), Ok(())),
        (
            json!({"length": text.len() + 1, "hashes": {"sha256": sha256}}),
            Err(VerifyError::NotListed),
        ),
        (json!({"length": text.len(), "hashes": {"sha512": sha512}}), Err(VerifyError::NotListed)),
    ] {
        let mut meta = Meta::new(1, vec![(1, text.clone())]);
        meta.listing = Some(listing.clone());
        let state = enrolled(&root(1)).unwrap().refresh(&meta.bytes()).unwrap();
        assert_eq!(state.judge(&text).map(drop), verdict, "{listing}");
    }
}

#[test]
fn a_snapshot_neither_drops_nor_lowers_the_list() {
    let state = with(Vec::new());
    let mut files = Meta::new(2, Vec::new()).files();
    let bare = signed(
        &json!({
            "_type": "snapshot", "spec_version": "1.0.34", "version": 2,
            "expires": "2031-01-01T00:00:00Z", "meta": {"other.json": {"version": 1}},
        }),
        &[IMPORTER],
    );
    files.iter_mut().find(|file| file.0 == "snapshot.json").unwrap().1 = bare;
    let removed = VerifyError::Removed { role: RoleName::Targets };
    assert_eq!(state.refresh(&pack(&files)), Err(removed));
}
