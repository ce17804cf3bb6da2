//! What each verifier alone could be told: one change of a good log for each, and what both find.

use cloister_attest::json::{self, canonical, parse_strict};
use cloister_domain::{Digest, LogHead};
use cloister_record::{Host, Note, Place, SUMMARY, Time, Verified, sign, with_signatures};
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::{Value, json};

use crate::{
    both::{Said, both},
    promotions::{digest, trust},
    rounds::export,
    support::{ORIGIN, approval, entry, judged, key, package, root},
    verifiers::{Piece, Wrapped, chained, pieces},
};

/// Enrolment, import, verdict, two approvals, an intent, its summary and its outcome.
fn good() -> Vec<Piece> {
    let mut texts: Vec<Vec<u8>> = Vec::new();
    let time = Time { rtc_s: 1_800_000_000, boot_id: Some("b".to_owned()) };
    let add = |texts: &mut Vec<Vec<u8>>, entry: &Entry| {
        let place =
            Place { seq: texts.len() as u64, prev: texts.last().map(|text| Digest::of(text)) };
        let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
        texts.push(sign(entry, place, &host, &time, &key(9)).unwrap());
    };
    add(&mut texts, &entry(Event::AnchorEnrolment, "anchor"));
    judged().iter().for_each(|entry| add(&mut texts, entry));
    texts.push(approval("ada", 9).to_json());
    texts.push(approval("bob", 10).to_json());
    add(&mut texts, &entry(Event::ActivationIntent, "activation/1/intent"));
    let input = |at: usize| (at as u64, Digest::of(&texts[at]));
    let verified = Verified {
        bundle: digest("bundle"),
        name: "demo".to_owned(),
        version: "1.0.0".to_owned(),
        policy: digest("policy"),
        inputs: [2, 3, 4].map(input).to_vec(),
    };
    texts.push(verified.sign(ORIGIN, &time, &key(9)).unwrap());
    let mut outcome = entry(Event::ActivationOutcome, "activation/1/outcome");
    let sha256 = Digest::of(texts.last().unwrap());
    outcome.subject.push(Subject { name: SUMMARY.to_owned(), sha256 });
    add(&mut texts, &outcome);
    pieces(&texts)
}

const SEEN: usize = 1;
const JUDGED: usize = 2;
const APPROVED: usize = 3;
const INTENT: usize = 5;
const VERIFIED: usize = 6;
const OUTCOME: usize = 7;

/// Changes the statement of a record.
fn said(log: &mut [Piece], at: usize, change: impl FnOnce(&mut Value)) {
    let mut statement = parse_strict(&log[at].payload, json::DEPTH_MAX).unwrap();
    change(&mut statement);
    log[at].payload = canonical(&statement).unwrap();
}

/// Sets what stands at a place of a record's statement.
fn set(log: &mut [Piece], at: usize, place: &str, value: Value) {
    said(log, at, |statement| {
        let (above, name) = place.rsplit_once('/').unwrap();
        let fields = statement.pointer_mut(above).unwrap().as_object_mut().unwrap();
        fields.insert(name.to_owned(), value);
    });
}

/// Another text in place of one that stands in the payload.
fn spelled(log: &mut [Piece], at: usize, from: &str, to: &str) {
    let text = std::str::from_utf8(&log[at].payload).unwrap();
    assert!(text.contains(from), "{from}");
    log[at].payload = text.replacen(from, to, 1).into_bytes();
}

/// Puts a record of the host's behind another, and counts on from there.
fn insert(log: &mut Vec<Piece>, at: usize, event: &str, facts: Value) {
    let mut piece = log[SEEN].clone();
    piece.was = Digest::of(format!("{event}{at}").as_bytes()).to_string();
    log.insert(at, piece);
    set(log, at, "/predicate/act", format!("{event}/{at}").into());
    set(log, at, "/predicate/event", event.into());
    set(log, at, "/predicate/facts", facts);
    set(log, at, "/predicateType", format!("https://cloister.invalid/{event}/v1").into());
    for later in at..log.len() {
        said(log, later, |statement| {
            let predicate = &mut statement["predicate"];
            if predicate.get("seq").is_some() {
                predicate["seq"] = later.into();
            }
            // The summary names the records that speak for the release by their places.
            for input in predicate["inputAttestations"].as_array_mut().into_iter().flatten() {
                let (uri, place) = input["uri"].as_str().unwrap().rsplit_once('/').unwrap();
                let place: usize = place.parse().unwrap();
                let moved = place + usize::from(place >= at);
                input["uri"] = format!("{uri}/{moved}").into();
            }
            if predicate["inputAttestations"].is_null() {
                predicate.as_object_mut().unwrap().remove("inputAttestations");
            }
        });
    }
    let (before, own) = (log[at - 1].was.clone(), log[at].was.clone());
    set(log, at, "/predicate/prev", before.into());
    // What stands behind follows it, unless it is a person's.
    let holds_prev = |piece: &Piece| {
        parse_strict(&piece.payload, json::DEPTH_MAX)
            .is_ok_and(|statement| statement["predicate"].get("prev").is_some())
    };
    if log.get(at + 1).is_some_and(holds_prev) {
        set(log, at + 1, "/predicate/prev", own.into());
    }
}

/// A change of the good log, and the first record that both find at fault.
struct Case {
    name: &'static str,
    log: Vec<Piece>,
    fault: Option<u64>,
}

fn case(name: &'static str, fault: Option<u64>, change: impl FnOnce(&mut Vec<Piece>)) -> Case {
    let mut log = good();
    change(&mut log);
    Case { name, log, fault }
}

/// A change of one place of one record.
fn place(name: &'static str, at: usize, place: &str, value: Value, fault: Option<u64>) -> Case {
    case(name, fault, |log| set(log, at, place, value))
}

fn facts() -> Vec<Case> {
    let fit = json!({"bundle": digest("bundle"), "policy": digest("policy")});
    let judged = json!([[[2, digest("x")]], fit, package()]);
    let asked = json!({"import": 1, "verdict": "passed", "policy": digest("policy")});
    let needed = |log: &mut Vec<Piece>, second: Value| {
        insert(log, 1, "policy-change", json!({"approvals_needed": 3}));
        insert(log, 2, "policy-change", json!({"approvals_needed": second}));
    };
    let mut cases = vec![
        case("good", None, |_log| {}),
        case("a verdict that a medium says", Some(6), |log| {
            set(log, JUDGED, "/predicate/facts/verdict", "refused".into());
            insert(log, 3, "media-seen", json!({"import": 1, "judged": judged}));
        }),
        case("a verdict that a question says", Some(5), |log| {
            let (event, kind) =
                ("evaluation-asked", "https://cloister.invalid/evaluation-asked/v1");
            set(log, JUDGED, "/predicate/event", event.into());
            set(log, JUDGED, "/predicateType", kind.into());
            set(log, JUDGED, "/predicate/facts", asked);
        }),
        case("who operated, named by another's import", None, |log| {
            insert(log, 2, "media-seen", json!({"import": true, "persons": ["ada"]}));
        }),
        case("persons that are no list", None, |log| {
            insert(log, 2, "media-seen", json!({"import": 1, "persons": "ada", "by": ["ada"]}));
        }),
        case("persons beside what is none", Some(6), |log| {
            let persons = json!([["x"], 1, "ada"]);
            insert(log, 2, "media-seen", json!({"import": 1, "persons": persons, "operator": {}}));
        }),
        case("an import of an unknown kind", None, |log| {
            insert(log, 2, "evaluation", json!({"import": [1], "verdict": "refused"}));
        }),
        case("a name that comes after the intent", None, |log| {
            insert(log, 6, "media-seen", json!({"import": 1, "name": "other", "version": "2"}));
        }),
        place("a policy that is no digest", JUDGED, "/predicate/facts/policy", "p".into(), Some(5)),
    ];
    for asked in [json!(true), json!(-1), json!("2"), json!(null), json!([])] {
        cases.push(case("what asks for fewer", Some(7), move |log| needed(log, asked)));
    }
    cases
}

fn predicates() -> Vec<Case> {
    let other = key(7).public().key_id();
    let mut cases = vec![
        place("a field more", SEEN, "/predicate/more", json!(1), Some(1)),
        place("no act", SEEN, "/predicate/act", "".into(), Some(1)),
        place("an act that moves the cursor", SEEN, "/predicate/act", "\u{1b}[2J".into(), Some(1)),
        place("a long act", SEEN, "/predicate/act", "a".repeat(201).into(), Some(1)),
        place("the longest act", SEEN, "/predicate/act", "a".repeat(200).into(), None),
        place("peers of no kind", SEEN, "/predicate/host/peers", "some".into(), Some(1)),
        place("another host's key", SEEN, "/predicate/host/key", other.into(), Some(1)),
        place("a host of more", SEEN, "/predicate/host/name", "x".into(), Some(1)),
        place("before 1970", SEEN, "/predicate/time/rtc_s", json!(-1), Some(1)),
        place("a time that is none", SEEN, "/predicate/time/rtc_s", json!(true), Some(1)),
        place("a time that is trusted", SEEN, "/predicate/time/trusted", json!(true), Some(1)),
        place("a time of more", SEEN, "/predicate/time/zone", "UTC".into(), Some(1)),
        place("a boot without a name", SEEN, "/predicate/time/boot_id", json!(null), Some(1)),
        place("no subject", SEEN, "/subject", json!([]), Some(1)),
        place("a comment", APPROVED, "/predicate/comment", "\u{e4}".repeat(2048).into(), None),
        place(
            "a long comment",
            APPROVED,
            "/predicate/comment",
            "\u{e4}".repeat(2049).into(),
            Some(3),
        ),
        place("an empty comment", APPROVED, "/predicate/comment", "".into(), Some(3)),
        place(
            "a decision that is an object",
            APPROVED,
            "/predicate/decision",
            json!({"approve": null}),
            Some(3),
        ),
        place("a log that is a list", APPROVED, "/predicate/log", json!([ORIGIN, 1]), Some(3)),
        place("a size below 0", APPROVED, "/predicate/log/size", json!(-1), Some(3)),
        place("a log of more", APPROVED, "/predicate/log/root", json!(1), Some(3)),
        place("levels in another order", VERIFIED, "/predicate/verifiedLevels", json!([]), Some(7)),
        place("a subject of the summary's", VERIFIED, "/predicate/more", json!(1), Some(7)),
    ];
    for (name, twin) in [("bundle", digest("bundle")), ("bundle", digest("other"))] {
        cases.push(case("two things of one name", Some(1), |log| {
            said(log, SEEN, |statement| {
                let subjects = statement["subject"].as_array_mut().unwrap();
                subjects.push(json!({"digest": {"sha256": twin}, "name": name}));
            });
        }));
    }
    cases.extend(subjects_of_persons());
    for digest in [json!("AB".repeat(32)), json!("ab"), json!(1), json!("ab".repeat(33))] {
        cases.push(place("no digest", SEEN, "/subject/0/digest/sha256", digest, Some(1)));
    }
    cases
}

/// What persons' entries are about has one order, and each name is one.
fn subjects_of_persons() -> Vec<Case> {
    let mut cases = Vec::new();
    let consent = |names: &'static [&'static str], event: &'static str, fault| {
        case("a consent about other things, or in another order", fault, move |log| {
            let mut piece = log[APPROVED].clone();
            piece.was = digest("consent").to_string();
            log.push(piece);
            let at = log.len() - 1;
            let kind = format!("https://cloister.invalid/{event}/v1");
            set(log, at, "/predicateType", kind.into());
            set(log, at, "/predicate/decision", "consent".into());
            let one = |name| json!({"digest": {"sha256": digest("bundle")}, "name": name});
            let subjects: Vec<Value> = names.iter().map(one).collect();
            set(log, at, "/subject", subjects.into());
        })
    };
    for (names, event, fault) in [
        (&["bundle", "from"][..], "downgrade", None),
        (&["from", "bundle"], "downgrade", Some(8)),
        (&["bundle from"], "downgrade", Some(8)),
        (&["bundle", "from", ""], "downgrade", Some(8)),
        (&["checkpoint"], "acknowledgement", None),
        (&["checkpoint "], "acknowledgement", Some(8)),
    ] {
        cases.push(consent(names, event, fault));
    }
    cases.push(case("an approval's subjects in another order", Some(3), |log| {
        said(log, APPROVED, |statement| statement["subject"].as_array_mut().unwrap().reverse());
    }));
    cases.push(case("two of an approval's subjects under one name", Some(3), |log| {
        said(log, APPROVED, |statement| {
            let subjects = statement["subject"].as_array_mut().unwrap();
            subjects.truncate(2);
            subjects[0]["name"] = "bundle evidence".into();
            subjects[1]["name"] = "package policy".into();
        });
    }));
    cases
}

fn spellings() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, to, fault) in [
        ("an integer", "\"a\":9007199254740991,", None),
        ("2^53", "\"a\":9007199254740992,", Some(1)),
        ("a large number", "\"a\":100000000000000000000,", Some(1)),
        ("minus 0", "\"a\":-0,", Some(1)),
        ("a fraction", "\"a\":1.0,", Some(1)),
        ("an exponent", "\"a\":1e2,", Some(1)),
        ("a lone surrogate", "\"a\":\"\\ud800\",", Some(1)),
        ("a pair of surrogates", "\"a\":\"\u{1f600}\",", None),
        ("an escape that is none", "\"a\":\"\\u0061\",", Some(1)),
        ("the shortest escapes", "\"a\":\"\\b\\t\\n\\f\\r\\\"\\\\\\u001f\u{7f}\",", None),
        ("white space", "\"a\": 1,", Some(1)),
        ("a key that stands twice", "\"a\":1,\"a\":1,", Some(1)),
        ("keys in no order", "\"b\":1,\"a\":1,", Some(1)),
        ("keys by UTF-16", "\"a\":1,", None),
        (
            "29 lists within",
            "\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]],",
            None,
        ),
        (
            "30 lists within",
            "\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],",
            Some(1),
        ),
    ] {
        cases.push(case(name, fault, |log| {
            spelled(log, SEEN, "\"facts\":{", &format!("\"facts\":{{{to}"));
        }));
    }
    cases.push(case("keys by UTF-16, of two planes", None, |log| {
        set(log, SEEN, "/predicate/facts/\u{1f600}", json!(1));
        set(log, SEEN, "/predicate/facts/\u{fb33}", json!(1));
    }));
    cases.push(case("keys by code point", Some(1), |log| {
        spelled(log, SEEN, "},\"host\"", ",\"\u{fb33}\":1,\"\u{1f600}\":1},\"host\"");
    }));
    for (wrapped, fault) in [
        (Wrapped::Unnamed, Some(3)),
        (Wrapped::Misnamed, Some(3)),
        (Wrapped::ByAnother, Some(3)),
        (Wrapped::WithAField, Some(3)),
        (Wrapped::WithASpace, Some(3)),
        (Wrapped::Unpadded, Some(3)),
        (Wrapped::CutShort, Some(3)),
        (Wrapped::OfAnotherType, Some(3)),
        (Wrapped::Twice, None),
    ] {
        cases.push(case("an approval of another form", fault, |log| {
            log[APPROVED].wrapped = wrapped
        }));
    }
    cases
}

fn roots() -> Vec<Case> {
    let updated = |log: &mut Vec<Piece>, at: usize, root: &[u8]| {
        insert(log, at, "trust-update", json!({}));
        let subject = json!([{"digest": {"sha256": Digest::of(root)}, "name": "trust-root"}]);
        set(log, at, "/subject", subject);
    };
    let own = root();
    vec![
        case("the root in force again", None, |log| updated(log, 2, &own)),
        case("a root that nobody brought along", Some(8), |log| updated(log, 8, b"next")),
        case("an outcome of no kind", Some(7), |log| {
            set(log, OUTCOME, "/predicate/facts/outcome", json!(["promoted"]));
        }),
        place("an outcome of its kind", OUTCOME, "/predicate/facts/kind", "activate".into(), None),
        place("of another kind", OUTCOME, "/predicate/facts/kind", "rollback".into(), Some(7)),
        place("of no kind", OUTCOME, "/predicate/facts/kind", json!(null), Some(7)),
        case("an outcome of nothing", Some(8), |log| {
            insert(log, 8, "activation-outcome", json!({"outcome": "aborted"}));
            set(log, 8, "/predicate/act", "outcome".into());
            set(log, 8, "/subject/0/name", "nothing".into());
        }),
        case("an intent of no kind", Some(5), |log| {
            set(log, INTENT, "/predicate/facts/kind", json!(["activate"]));
        }),
        case("a rejection that names another log", None, |log| {
            let mut piece = log[APPROVED].clone();
            piece.was = digest("rejection").to_string();
            log.push(piece);
            let at = log.len() - 1;
            set(log, at, "/predicate/decision", "reject".into());
            let other = LogHead { origin: "another".to_owned(), size: 1 };
            set(log, at, "/predicate/log", serde_json::to_value(other).unwrap());
        }),
    ]
}

#[test]
fn each_way_to_tell_one_verifier_another_story_is_seen_by_both() {
    let cases: Vec<Case> =
        [facts(), predicates(), spellings(), roots()].into_iter().flatten().collect();
    let said = both(cases.iter().map(|case| export(&chained(&case.log))), &trust());
    for (case, said) in cases.iter().zip(said) {
        let (first, Said { ours, theirs, .. }) = (said.first(), said);
        assert_eq!(first, [case.fault; 2], "{}: {ours:?} {theirs:?}", case.name);
    }
}

/// Bounds of a checkpoint, and what is no log at all.
#[test]
fn both_verifiers_read_a_checkpoint_within_the_same_bounds() {
    let whole = export(&chained(&good()));
    let own = std::str::from_utf8(&whole["checkpoint"]).unwrap().to_owned();
    let line = |name: &str| format!("\u{2014} {name} AAAAAAA=\n");
    let with = |lines: &str| {
        let mut export = whole.clone();
        export.insert("checkpoint".to_owned(), format!("{own}{lines}").into_bytes());
        export
    };
    let exports = [
        (with(&line("x").repeat(99)), true),
        (with(&line("x").repeat(100)), false),
        (with(&line(&"\u{e4}".repeat(128))), true),
        (with(&line(&"\u{e4}".repeat(129))), false),
        (with(&line("a+b")), false),
        (with(&line("")), false),
        (export(&[]), false),
    ];
    assert!(with_signatures(&own, &line("x")).is_ok() && Note::parse(&own).is_ok());
    let good = exports.each_ref().map(|(_, good)| *good);
    let said = both(exports.into_iter().map(|(export, _)| export), &trust());
    for (number, (said, good)) in said.iter().zip(good).enumerate() {
        assert_eq!([said.ours.is_empty(), said.theirs.is_empty()], [good; 2], "{number}");
    }
}
