use cloister_attest::{
    SigningKey,
    statement::{Subject, predicate_type},
};
use cloister_domain::Secret;
use serde_json::json;

use super::*;

fn generation(number: u8) -> GenerationId {
    GenerationId(Digest::of(&[number]))
}

/// An entry as the host writes it.
fn entry(event: &str, act: &str, subject: &[(&str, Digest)], facts: &Value) -> String {
    // About nothing that has a digest, it is about the host.
    let host = [("host-key", Digest::of(b"key"))];
    let subject = if subject.is_empty() { host.as_slice() } else { subject };
    let subject = subject
        .iter()
        .map(|(name, sha256)| Subject { name: (*name).to_owned(), sha256: *sha256 })
        .collect();
    let predicate = json!({ "event": event, "act": act, "facts": facts });
    let statement = Statement { subject, predicate_type: predicate_type(event), predicate };
    let key = SigningKey::from_seed(&Secret::new(vec![1; 32])).expect("a seed");
    let envelope = statement.envelope().expect("integers").sign_with(&key);
    String::from_utf8(envelope.to_json()).expect("JSON")
}

fn after(entries: &[String]) -> History {
    let mut history = History::default();
    entries.iter().for_each(|entry| history.take(entry));
    history
}

fn bundle(number: u8) -> [(&'static str, Digest); 1] {
    [("bundle", generation(number).0)]
}

fn seen(import: u64, number: u8) -> String {
    let facts = json!({
        "name": "demo", "version": "1.0.0", "counter": number, "root_version": 1,
        "signers": ["pub"], "operator": "uma",
    });
    entry("media-seen", &format!("import/{import}/seen"), &bundle(number), &facts)
}

fn switched(activation: u64, number: u8, kind: &str, outcome: Option<&str>) -> Vec<String> {
    let facts = json!({ "activation": activation, "kind": kind });
    let act = |end: &str| format!("activation/{activation}/{end}");
    let mut entries = vec![entry("activation-intent", &act("intent"), &bundle(number), &facts)];
    if let Some(outcome) = outcome {
        let mut facts = facts;
        facts["outcome"] = outcome.into();
        entries.push(entry("activation-outcome", &act("outcome"), &bundle(number), &facts));
    }
    entries
}

#[test]
fn the_next_number_of_each_series_is_beyond_every_name_of_the_log() {
    let facts = json!({});
    let numbers = |act: &str| {
        let told = after(&[entry("act-refused", act, &[], &facts)]);
        [told.import_last, told.activation_last, told.refusal_last]
    };
    for (act, expected) in [
        ("import/7/seen", [7, 0, 0]),
        ("import/7/interrupted/9", [7, 0, 9]),
        ("import/7/parted/12", [7, 0, 12]),
        ("import/7/operator/3", [7, 0, 3]),
        ("activation/5/intent", [0, 5, 0]),
        ("refusal/4", [0, 0, 4]),
        ("rollback/6", [0, 0, 6]),
        ("sweep/100", [0, 0, 0]),
        ("anchor/abc", [0, 0, 0]),
    ] {
        assert_eq!(numbers(act), expected, "{act}");
    }
    let many = after(&[seen(3, 1), seen(2, 1), entry("act-refused", "refusal/8", &[], &facts)]);
    let last: Vec<u64> = many.series().into_iter().map(|(_, last)| last).collect();
    assert_eq!(last, [3, 0, 8]);
}

#[test]
fn an_import_stands_where_its_last_record_put_it_and_refused_is_the_end() {
    let accepted = entry(
        "import-accepted",
        "import/1/accepted",
        &[("bundle", generation(1).0), ("envelope", Digest::of(b"envelope"))],
        &json!({ "floor": 2, "plain_bytes": 9 }),
    );
    let asked = entry("evaluation-asked", "import/1/evaluate/9", &bundle(1), &json!({}));
    let refused = entry(
        "import-refused",
        "import/1/refused",
        &bundle(1),
        &json!({ "code": "approval.rejected", "class": "refused" }),
    );
    let received =
        entry("media-seen", "import/1/received", &bundle(1), &json!({"operator": "vic"}));
    let whole = [seen(1, 1), received, accepted, refused, asked];
    let standing = |count: usize| after(&whole[..count]).imports[&ImportId(1)].clone();
    let states: Vec<_> = (1..=5).map(|count| standing(count).state().expect("seen")).collect();
    let expected = [
        ImportState::Receiving,
        ImportState::Received,
        ImportState::Evaluating,
        ImportState::Refused,
        ImportState::Refused,
    ];
    assert_eq!(states, expected);
    let told = standing(5);
    let names: Vec<&str> = told.operators.iter().map(String::as_str).collect();
    assert_eq!(names, ["uma", "vic"], "everybody who operated it");
    assert_eq!((told.floor, told.counter, told.plain_bytes), (Some(2), Some(1), 9));
    assert_eq!(told.envelope, Some(Digest::of(b"envelope")));
    assert_eq!(told.refused, Some(("approval.rejected".to_owned(), "refused".to_owned())));
    assert_eq!(told.generation, Some(generation(1)));
    assert!(after(&whole).import_of(generation(1)).is_none(), "a refused one is none");
}

#[test]
fn activations_have_their_outcomes_and_only_what_was_promoted_was_promoted() {
    let mut entries = vec![seen(1, 1), seen(2, 2)];
    entries.extend(switched(1, 1, "activate", Some("promoted")));
    entries.extend(switched(2, 2, "activate", Some("returned")));
    entries.extend(switched(3, 2, "activate", None));
    let told = after(&entries);
    let outcome = |number: u64| told.activations[&number].outcome.map(|(outcome, _)| outcome);
    assert_eq!(outcome(1), Some(Outcome::Promoted));
    assert_eq!(outcome(2), Some(Outcome::Returned));
    assert_eq!(outcome(3), None);
    let promoted: Vec<GenerationId> = told.promotions.iter().map(|(id, _)| *id).collect();
    assert_eq!(promoted, [generation(1)]);
    assert_eq!(told.imports[&ImportId(1)].state(), Some(ImportState::Activated));
    assert_eq!(told.imports[&ImportId(2)].state(), Some(ImportState::Receiving));
    // A return promotes nothing anew, and moves no import.
    let mut back = vec![seen(1, 1)];
    back.extend(switched(1, 1, "rollback", Some("promoted")));
    assert_eq!(after(&back).imports[&ImportId(1)].state(), Some(ImportState::Receiving));
}

#[test]
fn pins_policies_and_trust_are_those_that_were_told_last() {
    let pin = |act: &str, number, pinned: bool| {
        entry("pin", act, &bundle(number), &json!({ "pinned": pinned }))
    };
    let policy = |text: &str| {
        entry("policy-change", "policy/1", &[("policy", Digest::of(text.as_bytes()))], &json!({}))
    };
    let root = [("trust-root", Digest::of(b"root"))];
    let enrolled = entry("anchor-enrolment", "anchor/x", &root, &json!({ "root_version": 1 }));
    let newer = entry(
        "trust-update",
        "trust/x",
        &root,
        &json!({
            "root_version": 1, "timestamp_version": 4, "snapshot_version": 3,
            "targets_version": 2, "stick": 9, "time_floor": "2030-01-31T00:00:00Z",
        }),
    );
    let first = after(std::slice::from_ref(&enrolled));
    let first = first.trusted.expect("enrolled");
    assert_eq!((first.root, first.versions), (Some(root[0].1), None));
    let told = after(&[
        enrolled,
        newer,
        pin("pin/2", 1, true),
        pin("pin/3", 2, true),
        pin("pin/4", 1, false),
        policy("a"),
        policy("b"),
    ]);
    let trusted = told.trusted.expect("enrolled");
    assert_eq!(trusted.versions, Some([1, 4, 3, 2, 9]));
    assert_eq!(trusted.record, RecordIndex(1));
    assert_eq!(trusted.time_floor.as_deref(), Some("2030-01-31T00:00:00Z"));
    let pinned: Vec<GenerationId> = told.pins.keys().copied().collect();
    assert_eq!(pinned, [generation(2)]);
    let policies: Vec<Digest> = told.policies.iter().map(|(policy, _)| *policy).collect();
    assert_eq!(policies, [Digest::of(b"a"), Digest::of(b"b")]);
}

#[test]
fn what_is_no_entry_counts_as_one_and_says_nothing() {
    let told = after(&["nonsense".to_owned(), String::new(), seen(1, 1)]);
    assert_eq!(told.size, 3);
    assert_eq!(told.imports[&ImportId(1)].steps, [(ImportState::Receiving, RecordIndex(2))]);
}

#[test]
fn words_for_a_key_leave_nothing_and_others_do() {
    let consent = |matter: Matter| {
        let log = cloister_domain::LogHead { origin: "enclave/one".to_owned(), size: 1 };
        let consent = Consent { matter, log, person: "ada".parse().expect("a name") };
        String::from_utf8(consent.unsigned().expect("small").to_json()).expect("JSON")
    };
    let (checkpoint, key) = (Digest::of(b"checkpoint"), Digest::of(b"key"));
    let facts = json!({ "former_log_key": "a", "log_key": "b", "size": 1 });
    let history = after(&[
        consent(Matter::Acknowledgement { checkpoint }),
        consent(Matter::Succession { checkpoint, key }),
        entry("key-succession", "succession/1", &[], &facts),
    ]);
    assert_eq!(history.size, 3);
    let kept: Vec<Matter> = history.consents.iter().map(|consent| consent.matter).collect();
    assert_eq!(kept, [Matter::Acknowledgement { checkpoint }]);
}
