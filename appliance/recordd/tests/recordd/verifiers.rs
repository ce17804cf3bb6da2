//! Two verifiers that share no code agree on logs whose records were changed: in their facts, their forms,
//! their spelling, their signatures and their order, each change signed again by whom it must be.
//! `CLOISTER_VERIFIERS_SEED` and `CLOISTER_VERIFIERS_LOGS` say where the logs begin and how many there are.

use std::io::Write as _;

use cloister_attest::{
    dsse::{Envelope, PAYLOAD_TYPE},
    json,
};
use cloister_domain::Digest;
use cloister_record::verify;
use serde_json::{Map, Value, json};

use crate::{
    both::{WHOLE, both, codes},
    promotions::{Dice, Log, digest, trust},
    rounds::export,
    support::key,
};

/// Logs of a usual run.
const LOGS: u64 = 400;

/// A record as it will be written.
#[derive(Clone)]
pub(crate) struct Piece {
    /// SHA-256 of the text that it was.
    pub(crate) was: String,
    pub(crate) payload: Vec<u8>,
    /// Who signs.
    pub(crate) seed: u8,
    /// What becomes of the envelope.
    pub(crate) wrapped: Wrapped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrapped {
    Rightly,
    Unnamed,
    Misnamed,
    Twice,
    ByAnother,
    WithAField,
    WithASpace,
    ForTheWeb,
    Unpadded,
    OfAnotherType,
    CutShort,
}

const WRAPPED: [Wrapped; 11] = [
    Wrapped::Rightly,
    Wrapped::Unnamed,
    Wrapped::Misnamed,
    Wrapped::Twice,
    Wrapped::ByAnother,
    Wrapped::WithAField,
    Wrapped::WithASpace,
    Wrapped::ForTheWeb,
    Wrapped::Unpadded,
    Wrapped::OfAnotherType,
    Wrapped::CutShort,
];

const EVENTS: [&str; 15] = [
    "media-seen",
    "evaluation",
    "evaluation-asked",
    "policy-change",
    "trial-ended",
    "activation-intent",
    "activation-outcome",
    "trust-update",
    "approval",
    "downgrade",
    "acknowledgement",
    "succession",
    "anchor-enrolment",
    "key-change",
    "nonsense",
];

const FACTS: [&str; 16] = [
    "import",
    "name",
    "version",
    "operator",
    "persons",
    "verdict",
    "policy",
    "approvals_needed",
    "kind",
    "because",
    "outcome",
    "judged",
    "by",
    "bundle",
    "\u{1f600}",
    "\u{fb33}",
];

const FIELDS: [&str; 13] = [
    "act", "event", "facts", "host", "prev", "seq", "time", "decision", "log", "person", "comment",
    "also", "import",
];

const SUBJECTS: [&str; 10] = [
    "bundle",
    "package",
    "policy",
    "evidence",
    "active",
    "from",
    "trust-root",
    "verification-summary",
    "checkpoint",
    "host-key",
];

/// Values of every kind, right and wrong ones.
fn values() -> Vec<Value> {
    let policy = digest("policy").to_string();
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(3),
        json!(-1),
        json!(json::INTEGER_MAX),
        json!(""),
        json!("1"),
        json!("ada"),
        json!("bob"),
        json!("passed"),
        json!("promoted"),
        json!("activate"),
        json!([]),
        json!(["ada"]),
        json!(["ada", 1, null]),
        json!([["ada"]]),
        json!({}),
        json!({"import": 1, "package": crate::support::package()}),
        json!({"import": true, "package": crate::support::package()}),
        json!(policy.to_uppercase()),
        json!(policy),
        json!("\u{1b}[2J\u{7f}\u{2028}\u{1f600}"),
    ]
}

/// An object below a value, or something to write into that is thrown away.
fn object<'a>(
    value: &'a mut Value,
    path: &str,
    none: &'a mut Map<String, Value>,
) -> &'a mut Map<String, Value> {
    match value.pointer_mut(path) {
        Some(Value::Object(fields)) => fields,
        _ => none,
    }
}

/// Changes one thing of a statement.
fn change(dice: &mut Dice, statement: &mut Value) {
    let (mut none, value) = (Map::new(), dice.one_of(&values()));
    match dice.below(17) {
        0..=6 => {
            let name = dice.one_of(&FACTS);
            object(statement, "/predicate/facts", &mut none).insert(name.to_owned(), value);
        }
        7 => {
            let name = dice.one_of(&FACTS);
            object(statement, "/predicate/facts", &mut none).remove(name);
        }
        8 => {
            let event = dice.one_of(&EVENTS);
            let kind = format!("https://cloister.invalid/{event}/v1");
            object(statement, "", &mut none).insert("predicateType".to_owned(), kind.into());
            if dice.mostly() {
                let fields = object(statement, "/predicate", &mut none);
                fields.insert("event".to_owned(), event.into());
            }
        }
        9 | 10 => change_subject(dice, statement),
        11 => {
            let name = dice.one_of(&FIELDS);
            object(statement, "/predicate", &mut none).insert(name.to_owned(), value);
        }
        12 => {
            let name = dice.one_of(&FIELDS);
            object(statement, "/predicate", &mut none).remove(name);
        }
        13 => {
            let (path, name) = dice.one_of(&[
                ("/predicate/time", "rtc_s"),
                ("/predicate/time", "boot_id"),
                ("/predicate/time", "trusted"),
                ("/predicate/time", "zone"),
                ("/predicate/host", "key"),
                ("/predicate/host", "origin"),
                ("/predicate/host", "peers"),
                ("/predicate/log", "size"),
                ("/predicate/log", "origin"),
                ("/predicate/log", "root"),
                ("/predicate/facts/because", "import"),
                ("/predicate/facts/because", "package"),
            ]);
            object(statement, path, &mut none).insert(name.to_owned(), value);
        }
        14 => reshape(dice, statement),
        15 => {
            let name = dice.one_of(&["_type", "also", "predicate", "predicateType", "subject"]);
            object(statement, "", &mut none).insert(name.to_owned(), value);
        }
        _ => {
            // Nested so deep that the last that may be stands beside the first that may not.
            let depth = 27 + dice.below(4);
            let deep = (0..depth).fold(json!(1), |inner, _| json!([inner]));
            object(statement, "/predicate/facts", &mut none).insert("deep".to_owned(), deep);
        }
    }
}

/// Puts in the place of a value what says the same in another shape, as some readers take it.
fn reshape(dice: &mut Dice, statement: &mut Value) {
    let path = dice.one_of(&[
        "/predicate",
        "/predicate/decision",
        "/predicate/log",
        "/predicate/log/size",
        "/predicate/person",
        "/predicate/event",
        "/predicate/host",
        "/predicate/host/peers",
        "/predicate/time",
        "/predicate/facts/kind",
        "/predicate/facts/because",
        "/subject",
        "/subject/0",
        "/subject/0/name",
    ]);
    let Some(value) = statement.pointer_mut(path) else { return };
    *value = match value.take() {
        Value::String(text) => match dice.below(3) {
            0 => json!({ text: null }),
            1 => json!([text]),
            _ => json!({ "name": text }),
        },
        Value::Object(fields) if dice.below(4) == 0 => json!([fields]),
        Value::Object(fields) => fields.into_iter().map(|(_, value)| value).collect(),
        Value::Array(items) => {
            (0..).map(|at: u32| at.to_string()).zip(items).collect::<Map<_, _>>().into()
        }
        other => other.to_string().into(),
    };
}

fn change_subject(dice: &mut Dice, statement: &mut Value) {
    let Some(Value::Array(subjects)) = statement.get_mut("subject") else { return };
    let name = dice.one_of(&SUBJECTS);
    let sha256 = digest(dice.one_of(&["bundle", "other", "policy"])).to_string();
    let at = usize::try_from(dice.below(subjects.len().max(1) as u64)).unwrap();
    match dice.below(10) {
        0 => subjects.clear(),
        7 => subjects.reverse(),
        8 => {
            let other = dice.below(subjects.len().max(1) as u64);
            subjects.swap(at, usize::try_from(other).unwrap());
        }
        9 => {
            // One name that reads like two, joined either way.
            let names: Vec<String> = subjects.iter().map(|one| one["name"].to_string()).collect();
            let names: Vec<&str> = names.iter().map(|name| name.trim_matches('"')).collect();
            if let [first, second, ..] = *names {
                let joined = dice.one_of(&[[first, second], [second, first]]).join(" ");
                subjects[0]["name"] = joined.into();
                subjects.remove(1);
            }
        }
        1 | 2 => subjects.push(json!({"digest": {"sha256": sha256}, "name": name})),
        3 => {
            let twin = subjects.get(at).map(|one| one["name"].clone());
            subjects.push(json!({"digest": {"sha256": sha256}, "name": twin}));
        }
        4 => subjects.push(json!({"digest": {"sha256": sha256.to_uppercase()}, "name": name})),
        5 => subjects.push(json!({"digest": {"sha256": sha256, "md5": ""}, "name": name})),
        _ => {
            if at < subjects.len() {
                subjects.remove(at);
            }
        }
    }
}

/// Another spelling of a canonical text, which mostly means the same.
fn respelled(dice: &mut Dice, text: &str) -> String {
    let (from, to) = dice.one_of(&[
        ("{\"_type\"", " {\"_type\""),
        ("}]}", "}]}\n"),
        ("\"facts\":{", "\"facts\":{\"a\":1,\"a\":1,"),
        ("\"facts\":{", "\"facts\":{\"b\":1,\"a\":1,"),
        ("\"facts\":{", "\"facts\":{\"a\":-0,"),
        ("\"facts\":{", "\"facts\":{\"a\":1.0,"),
        ("\"facts\":{", "\"facts\":{\"a\":1e2,"),
        ("\"facts\":{", "\"facts\":{\"a\":9007199254740992,"),
        ("\"facts\":{", "\"facts\":{\"a\":NaN,"),
        ("\"facts\":{", "\"facts\":{\"a\":\"\\ud800\","),
        ("\"facts\":{", "\"facts\":{\"a\":\"\\u0061\","),
        ("\"facts\":{", "\"facts\":{\"a\":\"\\/\","),
        ("\"facts\":{", "\"facts\":{\"a\":\"\\b\\u001f\u{7f}\","),
        ("\"facts\":{", "\"facts\":{\"a\":\"\u{1f}\","),
        ("\"import\":1", "\"import\":1 "),
        ("\"seq\"", "\"\\u0073eq\""),
    ]);
    text.replacen(from, to, 1)
}

/// The records of a log, each to be changed.
pub(crate) fn pieces(texts: &[Vec<u8>]) -> Vec<Piece> {
    let piece = |text: &Vec<u8>| {
        let envelope = Envelope::parse(text).unwrap();
        let by = |seed: &u8| key(*seed).public().key_id() == envelope.signatures[0].keyid;
        let seed = [9, 10].into_iter().find(by).unwrap();
        let was = Digest::of(text).to_string();
        Piece { was, payload: envelope.payload, seed, wrapped: Wrapped::Rightly }
    };
    texts.iter().map(piece).collect()
}

/// The envelope's text.
fn wrap(piece: &Piece, payload: Vec<u8>) -> Vec<u8> {
    let mut envelope = Envelope::unsigned(PAYLOAD_TYPE, payload);
    if piece.wrapped == Wrapped::OfAnotherType {
        envelope.payload_type = "text/plain".to_owned();
    }
    let mut envelope = envelope.sign_with(&key(piece.seed));
    match piece.wrapped {
        Wrapped::Unnamed => envelope.signatures[0].keyid = String::new(),
        Wrapped::Misnamed => envelope.signatures[0].keyid = key(11).public().key_id(),
        Wrapped::Twice => envelope = envelope.sign_with(&key(piece.seed)),
        Wrapped::ByAnother => envelope = envelope.sign_with(&key(11)),
        Wrapped::CutShort => drop(envelope.signatures[0].sig.pop()),
        _ => {}
    }
    let text = String::from_utf8(envelope.to_json()).unwrap();
    let text = match piece.wrapped {
        Wrapped::WithAField => text.replacen("{\"payload\"", "{\"more\":1,\"payload\"", 1),
        Wrapped::WithASpace => text.replacen("{\"payload\"", "{ \"payload\"", 1),
        Wrapped::ForTheWeb => {
            text.replace('+', "-").replace("application/vnd.in-toto-json", PAYLOAD_TYPE)
        }
        Wrapped::Unpadded => text.replace("==\"", "\""),
        _ => text,
    };
    text.into_bytes()
}

/// The texts of a log whose records follow each other again: wherever a record was named by its SHA-256, it
/// still is.
pub(crate) fn chained(pieces: &[Piece]) -> Vec<Vec<u8>> {
    let mut renamed: Vec<(&str, String)> = Vec::new();
    let mut texts = Vec::new();
    for piece in pieces {
        let mut payload = piece.payload.clone();
        if let Ok(text) = std::str::from_utf8(&payload) {
            let text =
                renamed.iter().fold(text.to_owned(), |text, (was, is)| text.replace(was, is));
            payload = text.into_bytes();
        }
        let text = wrap(piece, payload);
        renamed.push((&piece.was, Digest::of(&text).to_string()));
        texts.push(text);
    }
    texts
}

/// The log of this seed, with some of its records changed.
fn changed(seed: u64) -> Vec<Vec<u8>> {
    // Mostly a good one, of which one change can make a bad one, or not.
    let mut logs = (seed * 4..seed * 4 + 4).map(Log::made_up);
    let is_good = |texts: &Vec<Vec<u8>>| verify(&export(texts), &trust()).faults.is_empty();
    let mut pieces = pieces(&logs.find(is_good).unwrap_or_else(|| Log::made_up(seed)));
    let mut dice = Dice(seed ^ 0x5eed);
    for _change in 0..dice.below(4) {
        let count = pieces.len() as u64;
        let at = usize::try_from(dice.below(count)).unwrap();
        match dice.below(20) {
            0 => pieces[at].wrapped = dice.one_of(&WRAPPED),
            1 => pieces[at].seed = dice.one_of(&[9, 10, 11]),
            2 => drop(pieces.remove(at)),
            3 => pieces.swap(at, usize::try_from(dice.below(count)).unwrap()),
            4 | 5 => {
                let text = std::str::from_utf8(&pieces[at].payload).unwrap().to_owned();
                pieces[at].payload = respelled(&mut dice, &text).into_bytes();
            }
            _ => {
                let payload = &mut pieces[at].payload;
                let Ok(mut statement) = json::parse_strict(payload, json::DEPTH_MAX) else {
                    continue;
                };
                change(&mut dice, &mut statement);
                *payload = json::canonical(&statement).unwrap();
            }
        }
        if pieces.is_empty() {
            break;
        }
    }
    chained(&pieces)
}

/// A number that the environment gives.
pub(crate) fn told(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn two_verifiers_agree_on_logs_that_were_changed() {
    let first = told("CLOISTER_VERIFIERS_SEED", 0);
    let logs = told("CLOISTER_VERIFIERS_LOGS", LOGS);
    let said = both((first..first + logs).map(|seed| export(&changed(seed))), &trust());
    for (seed, said) in (first..).zip(&said) {
        let [ours, theirs] = said.first();
        assert_eq!(ours, theirs, "log {seed}: {:?} {:?}", said.ours, said.theirs);
        assert_ne!(ours, Some(WHOLE), "log {seed}: {:?}", said.ours);
    }
    let codes = codes(&said);
    for code in ["entry", "person", "chain", "anchor", "activation", "summary"] {
        let code = format!("record.export.{code}");
        assert!(codes.contains_key(code.as_str()), "no log breaks {code}: {codes:?}");
    }
    assert!((logs / 4..logs * 3 / 4).contains(&codes["good"]), "{codes:?}");
    writeln!(std::io::stdout(), "good logs: {}", codes["good"]).unwrap();
}
