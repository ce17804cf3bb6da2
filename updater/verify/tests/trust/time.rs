//! Time without a clock: what is proven to have passed, and how far a stick may say it went.

use cloister_domain::Coded as _;
use cloister_verify::{RoleName, TrustState, VerifyError};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{
    IMPORTER, Meta, PUBLISHER, STRANGER, enrolled, keys, pack, release, role, root, signed,
};

fn stick(version: u64, extra: Value) -> Meta {
    let mut meta = Meta::new(version, Vec::new());
    meta.timestamp_extra = extra;
    meta
}

fn floor(state: &TrustState) -> Option<String> {
    state.stored().vector.time_floor.clone().map(String::from)
}

#[test]
fn expiry_is_judged_by_proven_time_only() {
    let state = enrolled(&root(1)).unwrap();
    // The files expire with 2031; nothing says that any time has passed.
    let state = state.refresh(&stick(1, Value::Null).bytes()).unwrap();
    assert_eq!(floor(&state), None);
    let state =
        state.refresh(&stick(2, json!({"issued": "2030-01-01T00:00:00Z"})).bytes()).unwrap();
    assert_eq!(floor(&state).as_deref(), Some("2030-01-01T00:00:00Z"));
    // A stick that proves its own expiry, and a later one after that.
    let late = state.refresh(&stick(3, json!({"issued": "2031-01-01T00:00:00Z"})).bytes());
    assert_eq!(late, Err(VerifyError::Expired { role: RoleName::Timestamp }));
    let mut fresh = stick(3, json!({"issued": "2031-01-01T00:00:00Z"}));
    fresh.expires = "2032-01-01T00:00:00Z";
    let state = state.refresh(&fresh.bytes()).unwrap();
    let stale = state.refresh(&stick(4, Value::Null).bytes());
    assert_eq!(stale, Err(VerifyError::Expired { role: RoleName::Timestamp }));
}

#[test]
fn the_floor_never_falls() {
    let state = enrolled(&root(1)).unwrap();
    let state =
        state.refresh(&stick(1, json!({"issued": "2030-06-01T00:00:00Z"})).bytes()).unwrap();
    let earlier = stick(2, json!({"issued": "1970-01-01T00:00:00Z"}));
    let state = state.refresh(&earlier.bytes()).unwrap();
    assert_eq!(floor(&state).as_deref(), Some("2030-06-01T00:00:00Z"));
    let again = TrustState::load(state.stored().clone()).unwrap();
    assert_eq!(floor(&again).as_deref(), Some("2030-06-01T00:00:00Z"));
}

#[test]
fn a_long_step_needs_the_officers() {
    let state = enrolled(&root(1)).unwrap();
    let state =
        state.refresh(&stick(1, json!({"issued": "2028-01-01T00:00:00Z"})).bytes()).unwrap();
    let mut far = stick(2, json!({"issued": "2029-02-05T00:00:00Z"}));
    let refused = state.refresh(&far.bytes());
    assert_eq!(refused, Err(VerifyError::TimeStep { days: 401, max: 400 }));
    assert_eq!(refused.unwrap_err().code(), "bundle.trust.time-step");
    far.timestamp_extra = json!({"issued": "2029-02-04T23:59:59Z"});
    assert!(state.refresh(&far.bytes()).is_ok());
    // The officers' root states the time, on the same stick as the far timestamp.
    let mut next = root(2);
    next["x-cloister"]["issued"] = "2030-05-01T00:00:00Z".into();
    let mut far = stick(2, json!({"issued": "2030-06-01T00:00:00Z"}));
    far.extra = vec![("2.root.json".to_owned(), signed(&next, &[1, 2]))];
    let after = state.refresh(&far.bytes()).unwrap();
    assert_eq!(floor(&after).as_deref(), Some("2030-06-01T00:00:00Z"));
    // Alone it raises the floor too, and an expired root is refused by it.
    let alone = pack(&[("2.root.json".to_owned(), signed(&next, &[1, 2]))]);
    assert_eq!(floor(&state.refresh(&alone).unwrap()).as_deref(), Some("2030-05-01T00:00:00Z"));
    // The list that is held expired with 2031, so nothing enters by it any more.
    let text = release(1, PUBLISHER);
    let mut listing = stick(2, json!({"issued": "2028-02-01T00:00:00Z"}));
    listing.releases = vec![(1, text.clone())];
    let listed = state.refresh(&listing.bytes()).unwrap();
    assert!(listed.judge(&text).is_ok());
    next["x-cloister"]["issued"] = "2031-06-01T00:00:00Z".into();
    let alone = pack(&[("2.root.json".to_owned(), signed(&next, &[1, 2]))]);
    let late = listed.refresh(&alone).unwrap();
    assert_eq!(late.judge(&text), Err(VerifyError::Expired { role: RoleName::Timestamp }));
    assert_eq!(late.may_activate(&text), Ok(()));
    next["x-cloister"]["issued"] = "2040-01-01T00:00:00Z".into();
    let alone = pack(&[("2.root.json".to_owned(), signed(&next, &[1, 2]))]);
    let expired = Err(VerifyError::Expired { role: RoleName::Root });
    assert_eq!(state.refresh(&alone), expired);
}

#[test]
fn the_volumes_of_one_stick_take_one_step_together() {
    let at = |version, time: &str| stick(version, json!({ "issued": time })).bytes();
    let state = enrolled(&root(1)).unwrap().refresh(&at(1, "2028-01-01T00:00:00Z")).unwrap();
    let begun = state.stored().vector.time_floor.clone();
    let within = state.stepping_from(begun).refresh(&at(2, "2029-01-01T00:00:00Z")).unwrap();
    let second = at(3, "2029-03-01T00:00:00Z");
    assert_eq!(within.refresh(&second), Err(VerifyError::TimeStep { days: 425, max: 400 }));
    assert!(within.refresh(&at(3, "2029-02-04T00:00:00Z")).is_ok());
    // The officers' word moves the beginning too.
    let mut next = root(2);
    next["x-cloister"]["issued"] = "2028-06-01T00:00:00Z".into();
    let alone = pack(&[("2.root.json".to_owned(), signed(&next, &[1, 2]))]);
    assert!(within.refresh(&alone).unwrap().refresh(&second).is_ok());
    // The next stick takes its own step.
    assert!(within.stepping_from(None).refresh(&second).is_ok());
}

#[test]
fn sticks_are_numbered_and_the_number_never_falls() {
    let state = enrolled(&root(1)).unwrap();
    let state = state.refresh(&stick(1, json!({"sequence": 4})).bytes()).unwrap();
    assert_eq!(state.stored().vector.sequence, 4);
    let later = state.refresh(&stick(2, json!({"sequence": 7})).bytes()).unwrap();
    assert_eq!(later.stored().vector.sequence, 7);
    let fallen = later.refresh(&stick(3, json!({"sequence": 6})).bytes());
    let stale = VerifyError::Sequence { offered: 6, held: 7 };
    assert_eq!(fallen, Err(stale));
    assert_eq!(stale.code(), "bundle.trust.sequence");
    // The very stick again, the one before it, and one that another stick's number was given to.
    assert_eq!(later.refresh(&stick(2, json!({"sequence": 7})).bytes()).as_ref(), Ok(&later));
    assert_eq!(later.refresh(&stick(1, json!({"sequence": 4})).bytes()).as_ref(), Ok(&later));
    let used = VerifyError::SequenceUsed { number: 7 };
    assert_eq!(later.refresh(&stick(3, json!({"sequence": 7})).bytes()), Err(used));
    assert_eq!(used.code(), "bundle.trust.sequence.used");
    // One that states no number is not counted, and gives none free.
    for none in [Value::Null, json!({}), json!({"sequence_last": 7})] {
        let without = later.refresh(&stick(3, none).bytes()).unwrap();
        assert_eq!(without.stored().vector.sequence, 7);
        assert_eq!(without.refresh(&stick(4, json!({"sequence": 7})).bytes()), Err(used));
        assert!(without.refresh(&stick(4, json!({"sequence": 8})).bytes()).is_ok());
    }
    for wrong in [
        json!({"sequence": "7"}),
        json!({"sequence": 0}),
        json!({"sequence": -8}),
        json!({"sequence_last": "7"}),
        json!({"issued": "2030"}),
        json!({"issued": 7}),
        json!({"sequence": 8, "x-more": 1}),
        json!({"Sequence": 8}),
        json!([]),
    ] {
        let refused = later.refresh(&stick(3, wrong).bytes()).unwrap_err();
        assert_eq!(refused.code(), "bundle.trust.field");
    }
}

#[test]
fn a_root_that_voids_the_files_leaves_the_last_stick_its_number() {
    let state = enrolled(&root(1)).unwrap();
    let state = state.refresh(&stick(5, json!({"sequence": 7})).bytes()).unwrap();
    // Another key lists releases; that of the timestamp stays, and so does what it counted.
    let mut next = root(2);
    next["keys"] = keys(&[1, 2, 3, IMPORTER, 6, 7, STRANGER]);
    next["roles"]["targets"] = role(&[IMPORTER, STRANGER], 1);
    let with_root = |version: u64, number: u64| {
        let mut meta = stick(version, json!({"sequence": number}));
        meta.extra = vec![("2.root.json".to_owned(), signed(&next, &[1, 2]))];
        meta.bytes()
    };
    assert!(state.refresh(&with_root(5, 7)).is_ok());
    assert!(state.refresh(&with_root(6, 8)).is_ok());
    let used = VerifyError::SequenceUsed { number: 7 };
    assert_eq!(state.refresh(&with_root(6, 7)), Err(used));
    let fallen = VerifyError::Sequence { offered: 6, held: 7 };
    assert_eq!(state.refresh(&with_root(5, 6)), Err(fallen));
    assert_eq!(state.refresh(&with_root(6, 6)), Err(fallen));
    // New keys of the station begin anew.
    next["roles"]["timestamp"] = role(&[STRANGER], 1);
    next["roles"]["snapshot"] = role(&[STRANGER], 1);
    next["roles"]["targets"] = role(&[STRANGER], 1);
    let mut meta = stick(1, json!({"sequence": 1}));
    meta.signer = STRANGER;
    meta.extra = vec![("2.root.json".to_owned(), signed(&next, &[1, 2]))];
    assert_eq!(state.refresh(&meta.bytes()).unwrap().stored().vector.sequence, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes in whatever order: a number that is held rises with each newer timestamp that
    /// states one, and nothing but that is refused for its number.
    #[test]
    fn a_number_counts_for_one_stick_only(
        sticks in prop::collection::vec((1_u64..6, prop::option::of(1_u64..6)), 1..12)
    ) {
        let mut state = enrolled(&root(1)).unwrap();
        let (mut held_version, mut held_number, mut taken) = (0, 0, None);
        for (version, number) in sticks {
            let extra = number.map_or(Value::Null, |number| json!({"sequence": number}));
            let bytes = stick(version, extra).bytes();
            let seen = state.refresh(&bytes);
            if version < held_version || taken.as_ref() == Some(&bytes) {
                prop_assert_eq!(seen.as_ref(), Ok(&state));
                continue;
            }
            let expected = match number {
                _ if version == held_version => Some("bundle.trust.other-content"),
                Some(number) if number < held_number => Some("bundle.trust.sequence"),
                Some(number) if number == held_number => Some("bundle.trust.sequence.used"),
                _ => None,
            };
            prop_assert_eq!(seen.as_ref().err().map(|error| error.code()), expected);
            if let Ok(next) = seen {
                held_version = version;
                held_number = number.unwrap_or(held_number);
                prop_assert_eq!(next.stored().vector.sequence, held_number);
                (state, taken) = (next, Some(bytes));
            }
        }
    }
}

#[test]
fn a_root_that_the_stick_itself_outlives_is_refused() {
    let mut short = root(1);
    short["expires"] = "2030-02-01T00:00:00Z".into();
    let state = enrolled(&short).unwrap();
    let mut late = stick(1, json!({"issued": "2030-01-31T23:59:59Z"}));
    assert!(state.refresh(&late.bytes()).is_ok());
    late.timestamp_extra = json!({"issued": "2030-02-01T00:00:00Z"});
    let expired = Err(VerifyError::Expired { role: RoleName::Root });
    assert_eq!(state.refresh(&late.bytes()), expired);
}
