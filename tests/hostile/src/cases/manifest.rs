//! Manifests that the publisher signed and the importer lists, with fields that they must not have;
//! and envelopes that are no envelopes.

use anyhow::{Context as _, Result};
use cloister_attest::dsse::{Envelope, PAYLOAD_TYPE};
use cloister_stage::sample::PUBLISHER;
use serde_json::{Value, json};

use super::Sink;
use crate::base::{Base, key, pack, path_of, persons, sealed};

/// A manifest that is wrong may also be one that nobody lists or may make.
const CODES: &[&str] = &[
    "bundle.manifest.",
    "bundle.trust.scope",
    "bundle.trust.not-listed",
    "bundle.digest",
    "bundle.container.header",
    "bundle.index.",
    "quarantine.member",
    "bundle.head",
    "bundle.head.range",
];

pub(super) fn cases(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    kinds(base, sink)?;
    paths(base, sink)?;
    numbers(base, sink)?;
    words(base, sink)?;
    forms(base, sink)?;
    envelopes(base, sink)?;
    signers(base, sink)
}

fn give(base: &Base, sink: &mut Sink<'_>, name: &str, statement: &Value) -> Result<()> {
    let volume = pack(&base.with_statement(statement)?);
    sink.give(&format!("manifest/{name}"), &volume, CODES);
    Ok(())
}

/// Every place in the statement holds a value of another kind, is absent, or has an unknown neighbour.
fn kinds(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let mut places = Vec::new();
    pointers(&base.statement, String::new(), &mut places);
    for place in places {
        let was = base.statement.pointer(&place).context("a place of its own")?;
        let label = place.replace('/', ".");
        for (name, value) in [
            ("null", Value::Null),
            ("true", json!(true)),
            ("minus-one", json!(-1)),
            ("fraction", json!(0.5)),
            ("2^53", json!(1u64 << 53)),
            ("text", json!("\u{0}")),
            ("list", json!([[]])),
            ("object", json!({"x": {}})),
        ] {
            let mut statement = base.statement.clone();
            if let Some(at) = statement.pointer_mut(&place) {
                *at = value;
            }
            give(base, sink, &format!("kind{label}/{name}"), &statement)?;
        }
        let Some((parent, field)) = place.rsplit_once('/') else { continue };
        let mut absent = base.statement.clone();
        if let Some(fields) = absent.pointer_mut(parent).and_then(Value::as_object_mut) {
            fields.remove(field);
            give(base, sink, &format!("absent{label}"), &absent)?;
        }
        // TUF-like openness is wrong here: what nobody reads, nobody may sign.
        if was.is_object() && place.starts_with("/predicate") {
            let mut more = base.statement.clone();
            if let Some(at) = more.pointer_mut(&place) {
                at["more"] = json!(1);
            }
            give(base, sink, &format!("more{label}"), &more)?;
        }
    }
    Ok(())
}

/// The JSON pointers of everything below the statement; of lists the first and the last item.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    if let Some(fields) = value.as_object() {
        for (field, inner) in fields {
            pointers(inner, format!("{at}/{field}"), found);
        }
    } else if let Some(items) = value.as_array() {
        for number in [0, items.len().saturating_sub(1)] {
            if let Some(item) = items.get(number).filter(|_| number == 0 || items.len() > 1) {
                pointers(item, format!("{at}/{number}"), found);
            }
        }
    }
    if !at.is_empty() {
        found.push(at);
    }
}

/// Paths that leave the tree, look like another, or mean something to a system.
fn paths(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let long = "a".repeat(256);
    let longer = "a/".repeat(600) + "a";
    let deep = "a/".repeat(64) + "a";
    let mut paths: Vec<String> = [
        "",
        "/",
        ".",
        "..",
        "../x",
        "../../../../etc/passwd",
        "/etc/passwd",
        "a/../b",
        "a/..",
        "a/.",
        "./a",
        "a//b",
        "a/",
        "//a",
        "\\",
        "a\\b",
        "..\\..\\x",
        "C:",
        "C:\\x",
        "c:x",
        "a:b",
        "a\u{0}",
        "a\u{0}/../../x",
        "a\nb",
        "a\rb",
        "a\tb",
        "a\u{1b}[2J",
        "a\u{7f}",
        "a\u{80}",
        "a.",
        "a. ",
        "a ",
        " a",
        "a/b.",
        "a/ b",
        "NUL",
        "nul",
        "con",
        "aux.txt",
        "com1",
        "COM1.md",
        "lpt9",
        "prn",
        "a/nul/b",
        "\u{202e}txt.exe",
        "a\u{200b}",
        "a\u{feff}",
        "a\u{2028}b",
        "e\u{301}",
        "A\u{30a}",
        "\u{1100}\u{1161}",
        "a\u{ad}b",
        "\u{2066}a",
        "a/\u{0}",
        "\u{fdd0}",
        "conin$",
        "conout$",
        "~",
        "~/x",
        "%2e%2e/x",
        "file:///etc/passwd",
        "\\\\host\\share",
        "a|b",
        "a*",
        "a?b",
        "<a>",
        "\"a\"",
        "desktop.ini:x",
        "com\u{b9}",
        "..\u{2f}x",
        "\u{2025}/x",
        "a/b/../../../c",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    paths.extend([long, longer, deep]);
    for (number, path) in paths.into_iter().enumerate() {
        // These are unusual and lead nowhere: nothing is refused for its taste.
        if cloister_bundle::ReleasePath::try_from(path.clone()).is_ok() {
            continue;
        }
        for (place, file) in [("first", 0), ("last", 4)] {
            let mut statement = base.statement.clone();
            statement["predicate"]["files"][file]["path"] = json!(path);
            let label: String = path
                .chars()
                .take(24)
                .flat_map(char::escape_unicode)
                .filter(char::is_ascii_alphanumeric)
                .collect();
            give(base, sink, &format!("path/{number}-{place}-{label}"), &statement)?;
        }
    }
    Ok(())
}

/// Numbers that lie: of files, of the index, of the release, of attestations.
fn numbers(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let interesting = |now: u64| {
        [
            ("zero", 0),
            ("one", 1),
            ("one-less", now.saturating_sub(1)),
            ("one-more", now + 1),
            ("2^31", 1 << 31),
            ("2^32", 1 << 32),
            ("2^32-and-now", (1 << 32) + now),
            ("2^53-less-one", (1 << 53) - 1),
        ]
    };
    for place in [
        "/predicate/files/0/size",
        "/predicate/files/1/size",
        "/predicate/files/4/size",
        "/predicate/index/length",
        "/predicate/index/chunks",
        "/predicate/index/plain_bytes",
        "/predicate/index/stored_bytes",
        "/predicate/attestations/0/length",
    ] {
        let now = base.statement.pointer(place).and_then(Value::as_u64).context("a number")?;
        for (name, value) in interesting(now) {
            let mut statement = base.statement.clone();
            if let Some(at) = statement.pointer_mut(place) {
                *at = json!(value);
            }
            give(base, sink, &format!("number{}/{name}", place.replace('/', ".")), &statement)?;
        }
    }
    for (name, cut) in [
        ("zero", [0, 0, 0]),
        ("least-above-average", [2, 1, 4]),
        ("average-above-most", [1, 4, 2]),
        ("most-too-large", [1, 2, (4 << 20) + 1]),
        ("huge", [1, 1, (1 << 53) - 1]),
    ] {
        let mut statement = base.statement.clone();
        let at = &mut statement["predicate"]["index"]["cut"];
        [at["min_bytes"], at["avg_bytes"], at["max_bytes"]] = cut.map(|bytes: u64| json!(bytes));
        give(base, sink, &format!("cut/{name}"), &statement)?;
    }
    for (name, counter, least) in
        [("zero", 0, 0), ("least-above", 1, 2), ("least-far-above", 1, 1u64 << 52)]
    {
        let mut statement = base.statement.clone();
        statement["predicate"]["release_counter"] = json!(counter);
        statement["predicate"]["min_release_counter"] = json!(least);
        give(base, sink, &format!("counter/{name}"), &statement)?;
    }
    Ok(())
}

/// Licences that are no expressions, and versions that are none.
fn forms(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let expressions = [
        "mit",
        "MIT OR",
        "OR MIT",
        "MIT MIT",
        "(MIT",
        "MIT)",
        "()",
        "MIT WITH",
        "MIT WITH MIT",
        "MIT +",
        "MIT or Apache-2.0",
        "LicenseRef-",
        "LicenseRef-a_b",
        "DocumentRef-x",
        "NOASSERTION",
        " ",
    ];
    for (number, expression) in expressions.into_iter().enumerate() {
        let mut statement = base.statement.clone();
        statement["predicate"]["licences"] = json!(["MIT", expression]);
        give(base, sink, &format!("licences/expression-{number}"), &statement)?;
    }
    for (number, version) in
        ["", "0", "0.0", "00.0.0", "0.0.01", "v0.0.1", "0.0.1-", "0.0.1-rc.1", "0.0.1+b", "0.0.x"]
            .into_iter()
            .enumerate()
    {
        for runtime in [json!({"min": version}), json!({"min": "0.0.0", "max": version})] {
            let which = if runtime["max"].is_null() { "min" } else { "max" };
            let mut statement = base.statement.clone();
            statement["predicate"]["requires"]["runtime"] = runtime;
            give(base, sink, &format!("runtime/{which}-{number}"), &statement)?;
        }
    }
    Ok(())
}

/// Words, digests, and lists that are out of order, doubled or endless.
fn words(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let texts = [
        "",
        " ",
        ".",
        "..",
        "../x",
        "a/b",
        "a\\b",
        "a b",
        "a\nb",
        "a\u{0}",
        "A*",
        "é",
        "-",
        ".a",
        "a:b",
        "{}",
        "%s",
        "$(x)",
        "a\u{202e}",
    ];
    for field in ["name", "version"] {
        for (number, text) in texts.into_iter().enumerate() {
            let mut statement = base.statement.clone();
            statement["predicate"][field] = json!(text);
            give(base, sink, &format!("word/{field}-{number}"), &statement)?;
        }
        let mut statement = base.statement.clone();
        statement["predicate"][field] = json!("a".repeat(65));
        give(base, sink, &format!("word/{field}-long"), &statement)?;
    }
    for (name, licences) in [
        ("control", json!(["a\u{1b}[2J"])),
        ("empty", json!([""])),
        ("long", json!(["a".repeat(129)])),
        ("many", json!(vec!["MIT"; 257])),
        ("wide", json!(["é"])),
    ] {
        let mut statement = base.statement.clone();
        statement["predicate"]["licences"] = licences.clone();
        give(base, sink, &format!("licences/{name}"), &statement)?;
        let mut statement = base.statement.clone();
        statement["predicate"]["requires"]["features"] = licences;
        give(base, sink, &format!("features/{name}"), &statement)?;
    }
    for place in [
        "/predicate/files/0/sha256",
        "/predicate/index/sha256",
        "/predicate/attestations/0/sha256",
        "/subject/0/digest/sha256",
    ] {
        for (name, text) in [
            ("zeros", "0".repeat(64)),
            ("short", "0".repeat(63)),
            ("long", "0".repeat(65)),
            ("upper-case", "A".repeat(64)),
            (
                "climbing",
                "../../../../../../../../../../../../../../../../../etc/cron.d/pw".to_owned() + "n",
            ),
            ("prefixed", format!("sha256:{}", "0".repeat(57))),
        ] {
            let mut statement = base.statement.clone();
            if let Some(at) = statement.pointer_mut(place) {
                *at = json!(text);
            }
            give(base, sink, &format!("digest{}/{name}", place.replace('/', ".")), &statement)?;
        }
    }
    let files = base.statement["predicate"]["files"].as_array().context("a list")?.clone();
    let mut backwards = files.clone();
    backwards.reverse();
    let doubled: Vec<Value> = files.iter().flat_map(|file| [file.clone(), file.clone()]).collect();
    for (name, list) in [
        ("none", Vec::new()),
        ("backwards", backwards),
        ("doubled", doubled),
        ("one-less", files.iter().skip(1).cloned().collect()),
        ("one-twice-at-the-end", files.iter().chain(files.last()).cloned().collect()),
    ] {
        let mut statement = base.statement.clone();
        statement["predicate"]["files"] = json!(list);
        give(base, sink, &format!("files/{name}"), &statement)?;
    }
    for (name, twin) in [
        ("upper-case", "DOCUMENTS/COLLECTIONS.JSON"),
        ("through-a-file", "documents/collections.json/x"),
    ] {
        let mut statement = base.statement.clone();
        statement["predicate"]["files"][1]["path"] = json!(twin);
        give(base, sink, &format!("files/clash-{name}"), &statement)?;
    }
    Ok(())
}

/// Envelopes and statements of other kinds, all listed by the importer.
fn envelopes(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let payload = base.statement.to_string().into_bytes();
    let path = path_of(&base.statement);
    let mut give = |name: &str, envelope: &[u8]| -> Result<()> {
        let volume = pack(&base.with_envelope(&path, envelope)?);
        let codes = [CODES, &["bundle.signature."]].concat();
        sink.give(&format!("envelope/{name}"), &volume, &codes);
        Ok(())
    };
    let good: Value = serde_json::from_slice(&sealed(payload.clone()))?;
    for field in ["payload", "payloadType", "signatures"] {
        for (name, value) in [
            ("null", Value::Null),
            ("number", json!(1)),
            ("empty", json!("")),
            ("list", json!([])),
            ("object", json!({})),
            ("no-base64", json!("%%%")),
        ] {
            let mut envelope = good.clone();
            envelope[field] = value;
            give(&format!("{field}-{name}"), envelope.to_string().as_bytes())?;
        }
        let mut envelope = good.clone();
        envelope.as_object_mut().map(|fields| fields.remove(field));
        give(&format!("{field}-absent"), envelope.to_string().as_bytes())?;
    }
    for kind in [
        "application/json",
        "text/plain",
        "application/vnd.in-toto+json ",
        "APPLICATION/VND.IN-TOTO+JSON",
    ] {
        let other = Envelope::unsigned(kind, payload.clone()).sign_with(&key(PUBLISHER));
        give(&format!("type-{kind}"), &other.to_json())?;
    }
    let mut retyped = good.clone();
    retyped["payloadType"] = json!("application/json");
    give("type-changed-afterwards", retyped.to_string().as_bytes())?;
    for (name, text) in [
        ("empty", String::new()),
        ("brackets", "[".repeat(1 << 16)),
        ("list", format!("[{good}]")),
        ("key-twice", good.to_string().replacen('{', "{\"payload\":\"e30=\",", 1)),
        ("behind", format!("{good}{good}")),
        ("marked", format!("\u{feff}{good}")),
    ] {
        give(&format!("text-{name}"), text.as_bytes())?;
    }
    for (name, text) in [
        ("empty", String::new()),
        ("object", "{}".to_owned()),
        ("list", "[]".to_owned()),
        ("text", "\"x\"".to_owned()),
        ("deep", "{\"a\":".repeat(4000) + "1" + &"}".repeat(4000)),
        (
            "key-twice",
            base.statement.to_string().replacen(
                "\"version\":",
                "\"version\":\"9\",\"version\":",
                1,
            ),
        ),
        (
            "fraction",
            base.statement.to_string().replacen(
                "\"release_counter\":1",
                "\"release_counter\":1.0",
                1,
            ),
        ),
        (
            "exponent",
            base.statement.to_string().replacen(
                "\"release_counter\":1",
                "\"release_counter\":1e0",
                1,
            ),
        ),
        ("behind", base.statement.to_string() + "x"),
    ] {
        give(&format!("statement-{name}"), &sealed(text.into_bytes()))?;
    }
    for (name, field, value) in [
        ("approval", "predicateType", "https://cloister.invalid/approval/v1"),
        ("release-v2", "predicateType", "https://cloister.invalid/release/v2"),
        ("statement-v0", "_type", "https://in-toto.io/Statement/v0.1"),
    ] {
        let mut statement = base.statement.clone();
        statement[field] = json!(value);
        give(&format!("kind-{name}"), &sealed(statement.to_string().into_bytes()))?;
    }
    Ok(())
}

/// The right manifest, listed, signed by everybody but its publisher.
fn signers(base: &Base, sink: &mut Sink<'_>) -> Result<()> {
    let payload = base.statement.to_string().into_bytes();
    let path = path_of(&base.statement);
    let codes = &["bundle.signature.", "bundle.manifest.envelope"];
    let mut give = |name: &str, envelope: &Envelope| -> Result<()> {
        let volume = pack(&base.with_envelope(&path, &envelope.to_json())?);
        sink.give(&format!("signed-by/manifest/{name}"), &volume, codes);
        Ok(())
    };
    let unsigned = Envelope::unsigned(PAYLOAD_TYPE, payload);
    give("nobody", &unsigned)?;
    for person in persons().into_iter().filter(|person| *person != PUBLISHER) {
        let signed = unsigned.clone().sign_with(&key(person));
        give(person, &signed)?;
        // A stranger's signature under the publisher's key id.
        let mut posing = signed;
        for signature in &mut posing.signatures {
            signature.keyid = key(PUBLISHER).public().key_id();
        }
        give(&format!("{person}-posing"), &posing)?;
    }
    let signed = unsigned.sign_with(&key(PUBLISHER));
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("zeros", vec![0; 64]),
        ("short", vec![0; 63]),
        ("long", vec![0; 65]),
    ] {
        let mut broken = signed.clone();
        for signature in &mut broken.signatures {
            signature.sig.clone_from(&bytes);
        }
        give(&format!("signature-{name}"), &broken)?;
    }
    let mut crowd = signed.clone();
    crowd.signatures = vec![signed.signatures[0].clone(); 33];
    give("33-signatures", &crowd)
}
