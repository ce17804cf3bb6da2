//! Time without a clock: what is proven to have passed, and how far a stick may say it went.

use cloister_domain::Coded as _;
use cloister_verify::{RoleName, TrustState, VerifyError};
use serde_json::{Value, json};

use crate::support::{Meta, PUBLISHER, enrolled, pack, release, root, signed};

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
fn sticks_are_numbered_and_the_number_never_falls() {
    let state = enrolled(&root(1)).unwrap();
    let state = state.refresh(&stick(1, json!({"sequence": 4})).bytes()).unwrap();
    assert_eq!(state.stored().vector.sequence, 4);
    let later = state.refresh(&stick(2, json!({"sequence": 7})).bytes()).unwrap();
    assert_eq!(later.stored().vector.sequence, 7);
    let fallen = later.refresh(&stick(3, json!({"sequence": 6})).bytes());
    let stale = VerifyError::Sequence { offered: 6, held: 7 };
    assert_eq!(fallen, Err(stale));
    for wrong in [json!({"sequence": "7"}), json!({"issued": "2030"}), json!({"issued": 7})] {
        let refused = later.refresh(&stick(3, wrong).bytes()).unwrap_err();
        assert_eq!(refused.code(), "bundle.trust.field");
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
