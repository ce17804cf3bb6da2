//! Trust metadata: fields of every kind set to what they must not be, signed by the right keys; right
//! fields signed by the wrong ones; and text that is no strict JSON.

use anyhow::{Context as _, Result};
use cloister_stage::sample::{IMPORTER, OFFICERS};
use serde_json::{Map, Value, json};

use super::Sink;
use crate::base::{Base, Chain, Members, STRANGER, hex, key, persons, signed};

const CODES: &[&str] = &["bundle.trust.", "bundle.signature.", "bundle.meta", "bundle.container."];
const SIGNATURE: &[&str] = &["bundle.signature.", "bundle.trust.field"];

type Change = Box<dyn Fn(&mut Value)>;

pub(super) fn cases(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let targets = base.signed("targets.json")?;
    for (name, change) in common() {
        let mut changed = targets.clone();
        change(&mut changed);
        give(base, sink, &format!("targets/{name}"), &Chain::of(changed), CODES)?;
        let mut chain = Chain::of(targets.clone());
        chain.change_snapshot = Box::new(&change);
        give(base, sink, &format!("snapshot/{name}"), &chain, CODES)?;
        let mut chain = Chain::of(targets.clone());
        chain.change_timestamp = Box::new(&change);
        give(base, sink, &format!("timestamp/{name}"), &chain, CODES)?;
    }
    for (name, change) in listings("targets.json") {
        let mut chain = Chain::of(targets.clone());
        chain.change_snapshot = change;
        give(base, sink, &format!("snapshot/meta-{name}"), &chain, CODES)?;
    }
    for (name, change) in listings("snapshot.json") {
        let mut chain = Chain::of(targets.clone());
        chain.change_timestamp = change;
        give(base, sink, &format!("timestamp/meta-{name}"), &chain, CODES)?;
    }
    for (name, change) in of_targets() {
        let mut changed = targets.clone();
        change(&mut changed);
        give(base, sink, &format!("targets/{name}"), &Chain::of(changed), &["bundle."])?;
    }
    signers(base, sink, &targets)?;
    signatures(base, sink)?;
    texts(base, sink)?;
    wide(base, sink);
    roots(base, sink)
}

fn give(
    base: &Base,
    sink: &mut Sink<'_>,
    name: &str,
    chain: &Chain<'_>,
    codes: &[&str],
) -> Result<()> {
    let volume = base.with_meta(&base.chain(chain)?);
    sink.give(&format!("metadata/{name}"), &volume, codes);
    Ok(())
}

/// A field set to a value, or taken away.
fn set(field: &'static str, value: Value) -> Change {
    Box::new(move |part| part[field] = value.clone())
}

fn without(field: &'static str) -> Change {
    Box::new(move |part| {
        part.as_object_mut().map(|fields| fields.remove(field));
    })
}

/// What no field of a file may be, by kind.
fn values() -> Vec<(&'static str, Value)> {
    vec![
        ("null", Value::Null),
        ("true", json!(true)),
        ("zero", json!(0)),
        ("minus-one", json!(-1)),
        ("fraction", json!(1.5)),
        ("2^53", json!(1u64 << 53)),
        ("most", json!(u64::MAX)),
        ("empty-text", json!("")),
        ("text", json!("1")),
        ("path", json!("../../etc/passwd")),
        ("list", json!([])),
        ("object", json!({})),
    ]
}

fn common() -> Vec<(String, Change)> {
    let mut changes: Vec<(String, Change)> = Vec::new();
    for field in ["_type", "expires", "spec_version", "version"] {
        changes.push((format!("{field}-absent"), without(field)));
        for (name, value) in values() {
            changes.push((format!("{field}-{name}"), set(field, value)));
        }
    }
    for other in ["root", "Targets", "targets ", "mirrors"] {
        changes.push((format!("_type-{other}"), set("_type", json!(other))));
    }
    for other in ["0.9", "2.0.0", "10.0", "v1.0", " 1.0"] {
        changes.push((format!("spec_version-{other}"), set("spec_version", json!(other))));
    }
    for other in [
        "2099-01-01",
        "2099-01-01T00:00:00",
        "2099-01-01T00:00:00+00:00",
        "2099-01-01T00:00:00.5Z",
        "2099-13-01T00:00:00Z",
        "2099-01-32T00:00:00Z",
        "2099-01-01T24:00:00Z",
        "99999-01-01T00:00:00Z",
        "-2099-01-01T00:00:00Z",
        " 2099-01-01T00:00:00Z",
    ] {
        changes.push((format!("expires-{other}"), set("expires", json!(other))));
    }
    changes
}

/// What a file says of the one below it.
fn listings(file: &'static str) -> Vec<(String, Change)> {
    let mut changes: Vec<(String, Change)> = vec![
        ("absent".to_owned(), without("meta")),
        ("of-another-name".to_owned(), set("meta", json!({"other.json": {"version": 1}}))),
    ];
    for (name, value) in values() {
        changes.push((name.to_owned(), set("meta", value.clone())));
        let entry = value.clone();
        changes.push((
            format!("entry-{name}"),
            Box::new(move |part| part["meta"][file] = entry.clone()),
        ));
        for field in ["version", "length", "hashes"] {
            let value = value.clone();
            changes.push((
                format!("{field}-{name}"),
                Box::new(move |part| part["meta"][file][field] = value.clone()),
            ));
        }
        let digest = value.clone();
        changes.push((
            format!("sha256-{name}"),
            Box::new(move |part| part["meta"][file]["hashes"]["sha256"] = digest.clone()),
        ));
    }
    let sha512 = json!({"sha512": "00".repeat(64)});
    changes.push((
        "hashes-unknown".to_owned(),
        Box::new(move |part| part["meta"][file]["hashes"] = sha512.clone()),
    ));
    for (name, by) in [("one-less", -1), ("one-more", 1)] {
        for field in ["version", "length"] {
            changes.push((
                format!("{field}-{name}"),
                Box::new(move |part| {
                    let now = part["meta"][file][field].as_i64().unwrap_or_default();
                    part["meta"][file][field] = json!(now + by);
                }),
            ));
        }
    }
    changes
}

/// The list of releases and the publishers.
fn of_targets() -> Vec<(String, Change)> {
    let mut changes: Vec<(String, Change)> = vec![
        ("targets-absent".to_owned(), without("targets")),
        ("delegations-absent".to_owned(), without("delegations")),
        ("nothing-listed".to_owned(), set("targets", json!({}))),
    ];
    for (name, value) in values() {
        let at = |pointer: &'static str, value: &Value| -> Change {
            let value = value.clone();
            Box::new(move |part| {
                if let Some(place) = part.pointer_mut(pointer) {
                    *place = value.clone();
                }
            })
        };
        for (label, pointer) in [
            ("delegation-keys", "/delegations/keys"),
            ("delegation-roles", "/delegations/roles"),
            ("role", "/delegations/roles/0"),
            ("role-keyids", "/delegations/roles/0/keyids"),
            ("role-keyid", "/delegations/roles/0/keyids/0"),
            ("role-paths", "/delegations/roles/0/paths"),
            ("role-path", "/delegations/roles/0/paths/0"),
            ("role-threshold", "/delegations/roles/0/threshold"),
            ("list", "/targets"),
            ("entry", "/targets/sample~11.0.0.json"),
            ("entry-length", "/targets/sample~11.0.0.json/length"),
            ("entry-hashes", "/targets/sample~11.0.0.json/hashes"),
            ("entry-sha256", "/targets/sample~11.0.0.json/hashes/sha256"),
        ] {
            changes.push((format!("{label}-{name}"), at(pointer, &value)));
        }
    }
    for (name, threshold) in [("two", 2), ("many", 1u64 << 32)] {
        changes.push((
            format!("role-threshold-{name}"),
            Box::new(move |part| part["delegations"]["roles"][0]["threshold"] = json!(threshold)),
        ));
    }
    changes.push((
        "role-keyid-twice".to_owned(),
        Box::new(|part| {
            let role = &mut part["delegations"]["roles"][0];
            role["threshold"] = json!(2);
            let id = role["keyids"][0].clone();
            role["keyids"] = json!([id, id]);
        }),
    ));
    for (name, person) in [("importers", IMPORTER), ("approvers", "ada"), ("nobodys", STRANGER)] {
        changes.push((
            format!("role-of-the-{name}-key"),
            Box::new(move |part| {
                let public = key(person).public();
                let id = public.key_id();
                part["delegations"]["keys"] =
                    Map::from_iter([(id.clone(), public.to_object())]).into();
                part["delegations"]["roles"][0]["keyids"] = json!([id]);
            }),
        ));
    }
    for (name, scheme, public) in [
        ("identity", "ed25519", format!("01{}", "00".repeat(31))),
        (
            "small-order",
            "ed25519",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f".to_owned(),
        ),
        (
            "not-canonical",
            "ed25519",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f".to_owned(),
        ),
        ("zeros", "ed25519", "00".repeat(32)),
        ("short", "ed25519", "00".repeat(31)),
        ("no-scheme", "", "00".repeat(32)),
    ] {
        changes.push((
            format!("role-key-{name}"),
            Box::new(move |part| {
                let object =
                    json!({"keytype": "ed25519", "keyval": {"public": public}, "scheme": scheme});
                let text = cloister_attest::json::canonical_tuf(&object).unwrap_or_default();
                let id = cloister_domain::Digest::of(&text).to_string();
                part["delegations"]["keys"] = Map::from_iter([(id.clone(), object)]).into();
                part["delegations"]["roles"][0]["keyids"] = json!([id]);
            }),
        ));
    }
    changes
}

/// Every file signed by everybody but the importer.
fn signers(base: &Base, sink: &mut Sink<'_>, targets: &Value) -> Result<()> {
    for person in persons().into_iter().filter(|person| *person != IMPORTER) {
        let mut chain = Chain::of(targets.clone());
        chain.targets_by = vec![person];
        give(base, sink, &format!("signed-by/targets/{person}"), &chain, SIGNATURE)?;
        let mut chain = Chain::of(targets.clone());
        chain.snapshot_by = vec![person];
        give(base, sink, &format!("signed-by/snapshot/{person}"), &chain, SIGNATURE)?;
        let mut chain = Chain::of(targets.clone());
        chain.timestamp_by = vec![person];
        give(base, sink, &format!("signed-by/timestamp/{person}"), &chain, SIGNATURE)?;
    }
    let nobody = Chain { timestamp_by: Vec::new(), ..Chain::of(targets.clone()) };
    give(base, sink, "signed-by/timestamp/nobody", &nobody, SIGNATURE)?;
    let strangers = Chain { timestamp_by: vec![STRANGER; 64], ..Chain::of(targets.clone()) };
    give(base, sink, "signed-by/timestamp/a-stranger-often", &strangers, SIGNATURE)?;
    let crowd = Chain { timestamp_by: vec![IMPORTER; 65], ..Chain::of(targets.clone()) };
    give(base, sink, "signed-by/timestamp/65-signatures", &crowd, SIGNATURE)
}

/// The importer's signature on `timestamp.json` written in ways that it must not be.
fn signatures(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let part = base.signed("timestamp.json")?;
    let good: Value = serde_json::from_slice(&signed(&part, &[IMPORTER])?)?;
    let sig = good["signatures"][0]["sig"].as_str().context("a signature")?.to_owned();
    let id = good["signatures"][0]["keyid"].clone();
    let of_other = signed(&base.signed("snapshot.json")?, &[IMPORTER])?;
    let of_other: Value = serde_json::from_slice(&of_other)?;
    let entries = [
        ("upper-case", json!({"keyid": id, "sig": sig.to_uppercase()})),
        ("empty", json!({"keyid": id, "sig": ""})),
        ("half", json!({"keyid": id, "sig": sig.get(..64)})),
        ("longer", json!({"keyid": id, "sig": format!("{sig}00")})),
        ("odd", json!({"keyid": id, "sig": format!("{sig}0")})),
        ("zeros", json!({"keyid": id, "sig": "00".repeat(64)})),
        ("spaced", json!({"keyid": id, "sig": format!(" {sig}")})),
        ("prefixed", json!({"keyid": id, "sig": format!("0x{sig}")})),
        ("order-added", json!({"keyid": id, "sig": order_added(&sig)})),
        ("of-the-snapshot", of_other["signatures"][0].clone()),
        ("no-key", json!({"sig": sig})),
        ("empty-key", json!({"keyid": "", "sig": sig})),
        ("other-key", json!({"keyid": "00".repeat(32), "sig": sig})),
        (
            "key-in-upper-case",
            json!({"keyid": id.as_str().unwrap_or_default().to_uppercase(), "sig": sig}),
        ),
        ("number", json!({"keyid": id, "sig": 1})),
        ("list", json!([id, sig])),
        ("null", Value::Null),
    ];
    for (name, entry) in entries {
        let file = json!({"signatures": [entry], "signed": part}).to_string();
        give_text(base, sink, "timestamp.json", &format!("signature/{name}"), file.as_bytes());
    }
    for (name, list) in values() {
        let file = json!({"signatures": list, "signed": part}).to_string();
        give_text(base, sink, "timestamp.json", &format!("signatures/{name}"), file.as_bytes());
        let file = json!({"signatures": good["signatures"], "signed": list}).to_string();
        give_text(base, sink, "timestamp.json", &format!("signed/{name}"), file.as_bytes());
    }
    Ok(())
}

/// The same signature with the group's order added to its second half: the same point, another text
/// (RFC 8032, 5.1.7 forbids it).
fn order_added(sig: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut sum: Vec<u8> = (0..sig.len() / 2)
        .filter_map(|at| u8::from_str_radix(sig.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    let mut carry = 0u16;
    for (byte, added) in sum.iter_mut().skip(32).zip(ORDER) {
        let total = u16::from(*byte) + u16::from(added) + carry;
        *byte = (total & 0xff) as u8;
        carry = total >> 8;
    }
    hex(&sum)
}

fn give_text(base: &Base, sink: &mut Sink<'_>, file: &str, name: &str, text: &[u8]) {
    let mut meta: Members = base.meta.clone();
    for (_, content) in meta.iter_mut().filter(|(name, _)| name == file) {
        *content = text.to_vec();
    }
    let codes = &["bundle.trust.", "bundle.signature.", "bundle.container.size"];
    sink.give(&format!("metadata/{file}/{name}"), &base.with_meta(&meta), codes);
}

/// Every file as text that only a lenient reader takes.
fn texts(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    for (file, text) in &base.meta {
        let good = String::from_utf8(text.clone())?;
        let open = good.replacen('{', "{\"signatures\":[],", 1);
        let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let deep = format!("{}{good}{}", "[".repeat(5000), "]".repeat(5000));
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("key-twice", open.into_bytes()),
            (
                "key-twice-inside",
                good.replacen("\"version\":", "\"version\":9,\"version\":", 1).into_bytes(),
            ),
            ("comma-at-the-end", good.replacen("}}", "},}", 1).into_bytes()),
            ("mark-in-front", [b"\xef\xbb\xbf", text.as_slice()].concat()),
            ("wide", wide),
            ("deep", deep.into_bytes()),
            (
                "deep-inside",
                good.replacen(
                    "\"signed\":",
                    &format!("\"x\":{}{},\"signed\":", "[".repeat(4000), "]".repeat(4000)),
                    1,
                )
                .into_bytes(),
            ),
            ("nul-behind", [text.as_slice(), b"\0"].concat()),
            ("text-behind", [text.as_slice(), b"{}"].concat()),
            ("comment", [b"/**/", text.as_slice()].concat()),
            ("single-quotes", good.replace('"', "'").into_bytes()),
            (
                "no-utf-8",
                good.replacen("signed", "s\u{e9}gned", 1)
                    .into_bytes()
                    .into_iter()
                    .filter(|byte| *byte != 0xc3)
                    .collect(),
            ),
            ("leading-zero", good.replacen("\"version\":", "\"version\":0", 1).into_bytes()),
            (
                "exponent",
                good.replacen("\"version\":1", "\"version\":1e0", 1)
                    .replacen("\"version\":2", "\"version\":2e0", 1)
                    .into_bytes(),
            ),
            (
                "fraction",
                good.replacen("\"version\":1", "\"version\":1.0", 1)
                    .replacen("\"version\":2", "\"version\":2.0", 1)
                    .into_bytes(),
            ),
            ("4-mib-of-blanks", vec![b' '; (4 << 20) - 4096]),
            ("1-mib-of-brackets", vec![b'['; 1 << 20]),
            ("half", text.iter().take(text.len() / 2).copied().collect()),
            ("list", format!("[{good}]").into_bytes()),
        ] {
            give_text(base, sink, file, &format!("text/{name}"), &bytes);
        }
    }
    Ok(())
}

/// Metadata of nobody, as large as it may be, of which a tree takes many times the text.
fn wide(base: &Base, sink: &mut Sink<'_>) {
    const CODES: &[&str] = &["attest.json.", "bundle.trust."];
    for (name, item) in [("texts", r#""a""#), ("nulls", "null"), ("numbers", "0"), ("lists", "[]")]
    {
        let file = |bytes: usize| {
            let items = vec![item; bytes / (item.len() + 1)].join(",");
            format!(r#"{{"signed":[{items}],"signatures":[]}}"#).into_bytes()
        };
        for (size, root) in [("small", 100_000), ("half", 520_000), ("large", 1_040_000)] {
            let meta = [
                ("2.root.json", file(root)),
                ("snapshot.json", b"{}".to_vec()),
                ("targets.json", file(4_100_000 - root)),
                ("timestamp.json", b"{}".to_vec()),
            ];
            let meta: Members = meta.map(|(name, text)| (name.to_owned(), text)).into();
            sink.give(&format!("metadata/wide/{name}-{size}"), &base.with_meta(&meta), CODES);
        }
    }
}

/// Roots that claim to follow the enrolled one.
fn roots(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let [one, two, three] = OFFICERS;
    let held = base.signed("1.root.json")?;
    let mut next = held.clone();
    next["version"] = json!(2);
    let mut give = |name: &str, part: &Value, by: &[&str]| -> Result<()> {
        let mut meta = base.meta.clone();
        meta.insert(1, ("2.root.json".to_owned(), signed(part, by)?));
        sink.give(&format!("metadata/root/{name}"), &base.with_meta(&meta), CODES);
        Ok(())
    };
    for (name, by) in [
        ("by-nobody", &[][..]),
        ("by-one", &[one]),
        ("by-one-twice", &[one, one]),
        ("by-one-and-a-stranger", &[one, STRANGER]),
        ("by-one-and-the-importer", &[two, IMPORTER]),
        ("by-the-approvers", &["ada", "bob"]),
    ] {
        give(name, &next, by)?;
    }
    let all = [one, two, three];
    for (name, version) in
        [("version-again", 1), ("version-skipped", 3), ("version-far", (1u64 << 53) - 1)]
    {
        let mut part = held.clone();
        part["version"] = json!(version);
        give(name, &part, &all)?;
    }
    for role in ["root", "targets", "snapshot", "timestamp"] {
        for (name, value) in values() {
            let mut part = next.clone();
            part["roles"][role]["threshold"] = value.clone();
            give(&format!("{role}-threshold-{name}"), &part, &all)?;
            let mut part = next.clone();
            part["roles"][role]["keyids"] = value.clone();
            give(&format!("{role}-keyids-{name}"), &part, &all)?;
            let mut part = next.clone();
            part["roles"][role] = value;
            give(&format!("{role}-{name}"), &part, &all)?;
        }
        let mut part = next.clone();
        part["roles"][role]["threshold"] = json!(4);
        give(&format!("{role}-threshold-beyond-keys"), &part, &all)?;
        let mut part = next.clone();
        let id = part["roles"][role]["keyids"][0].clone();
        part["roles"][role] = json!({"keyids": [id, id, id], "threshold": 2});
        give(&format!("{role}-one-key-thrice"), &part, &all)?;
    }
    for (name, change) in common().into_iter().filter(|(name, _)| name != "_type-root") {
        let mut part = next.clone();
        change(&mut part);
        give(&name, &part, &all)?;
    }
    let mut one_person = next.clone();
    for officer in all {
        one_person["x-cloister"]["persons"][key(officer).public().key_id()] = json!("ada");
    }
    give("one-person-with-three-keys", &one_person, &all)?;
    let mut shared = next.clone();
    shared["x-cloister"]["approvers"]["keyids"] = next["roles"]["targets"]["keyids"].clone();
    shared["x-cloister"]["approvers"]["threshold"] = json!(1);
    give("the-importer-approves", &shared, &all)?;
    for field in ["keys", "roles", "x-cloister"] {
        // What a facility adds may be absent or empty.
        let empty = |name: &str| field == "x-cloister" && name == "object";
        for (name, value) in values().into_iter().filter(|(name, _)| !empty(name)) {
            let mut part = next.clone();
            part[field] = value;
            give(&format!("{field}-{name}"), &part, &all)?;
        }
    }
    Ok(())
}
