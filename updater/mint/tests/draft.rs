//! Drafts of a root that somebody made to deceive the officers: what is signed is what was shown.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the files are the test's own")]

use std::{fs, path::PathBuf};

use clap::Parser as _;
use cloister_domain::Digest;
use cloister_mint::{cli, keys::Holder};
use cloister_verify::{RoleName, VerifyError, enrol};
use serde_json::{Value, json};

fn mint(words: &[&str]) -> anyhow::Result<String> {
    let mut said = Vec::new();
    let words = ["cloister-mint"].iter().chain(words);
    cli::run(cli::Arguments::try_parse_from(words)?, &mut said)?;
    Ok(String::from_utf8(said)?)
}

/// Everybody's keys, both halves, and a draft.
struct Table(tempfile::TempDir);

const PERSONS: [&str; 6] = ["ann", "ben", "imp", "pub", "ada", "thief"];

impl Table {
    fn new() -> Self {
        let table = Self(tempfile::tempdir().unwrap());
        for person in PERSONS {
            let mut lines = String::new();
            for algorithm in ["ed25519", "ml-dsa-65"] {
                let key = table.path(&format!("{person}.{algorithm}"));
                let create = ["key", "create", "--person", person, "--algorithm", algorithm];
                lines.push_str(&mint(&[create.as_slice(), &["--out", &key]].concat()).unwrap());
            }
            fs::write(table.path(&format!("{person}.pub")), lines).unwrap();
        }
        table
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Drafts a root with these further words.
    fn draft(&self, more: &[&str]) -> anyhow::Result<String> {
        let out = self.path("draft.json");
        let [ann, ben, imp, publisher, ada] =
            ["ann", "ben", "imp", "pub", "ada"].map(|who| format!("@{}.pub", self.path(who)));
        let mut words = vec!["root", "draft", "--out", &out, "--approvals", "1"];
        words.extend(["--root", &ann, "--root", &ben, "--importer", &imp, "--approver", &ada]);
        words.extend(["--publisher", &publisher]);
        mint(&[&words, more].concat())
    }

    fn holders(&self, person: &str) -> Vec<Holder> {
        let lines = fs::read_to_string(self.path(&format!("{person}.pub"))).unwrap();
        lines.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn ids(&self, person: &str) -> [String; 2] {
        let ids: Vec<String> = self.holders(person).iter().map(|one| one.key.key_id()).collect();
        ids.try_into().unwrap()
    }

    fn drafted(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path("draft.json")).unwrap()).unwrap()
    }

    /// Signs a draft as `person` with these halves; the signed copy.
    fn sign(&self, person: &str, halves: &[&str]) -> anyhow::Result<PathBuf> {
        let (draft, out) = (self.path("draft.json"), self.path(&format!("{person}.signed.json")));
        let shown = mint(&["root", "show", &draft])?;
        let digest = shown.lines().find_map(|line| line.strip_prefix("digest")).unwrap().trim();
        let keys: Vec<String> =
            halves.iter().map(|half| self.path(&format!("{person}.{half}"))).collect();
        let mut words = vec!["root", "sign", &draft, "--confirm", digest, "--out", &out];
        keys.iter().for_each(|key| words.extend(["--key", key]));
        mint(&words)?;
        Ok(out.into())
    }

    fn finish(&self, copies: &[PathBuf]) -> anyhow::Result<String> {
        let (trust, transcript) = (self.path("trust"), self.path("transcript.txt"));
        let mut words = vec!["root", "finish", "--trust", &trust, "--transcript", &transcript];
        words.extend(copies.iter().map(|copy| copy.to_str().unwrap()));
        mint(&words)
    }

    /// How every command refuses the draft with its `signed` part changed by `forge`.
    fn refused(&self, forge: impl FnOnce(&mut Value)) -> String {
        self.draft(&[]).unwrap();
        let mut file = self.drafted();
        forge(&mut file["signed"]);
        let digest = Digest::of(&cloister_attest::json::canonical_tuf(&file["signed"]).unwrap());
        let (draft, out) = (self.path("draft.json"), self.path("out.json"));
        fs::write(&draft, file.to_string()).unwrap();
        let (trust, key, note) = (self.path("never"), self.path("ann.ed25519"), self.path("note"));
        let sign = ["root", "sign", &draft, "--key", &key, "--out", &out];
        let confirm = ["--confirm", &digest.to_string()];
        let commands: [&[&str]; 4] = [
            &["root", "show", &draft],
            &sign,
            &[sign.as_slice(), &confirm].concat(),
            &["root", "finish", "--trust", &trust, "--transcript", &note, &draft],
        ];
        let told = commands.map(|words| match mint(words) {
            Ok(said) => panic!("{words:?}: {said}"),
            Err(refusal) => format!("{refusal:#}"),
        });
        assert!(!fs::exists(&out).unwrap() && !fs::exists(&note).unwrap());
        assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
        assert!(told[0].chars().all(|c| !c.is_control()), "{told:?}");
        told[0].clone()
    }
}

#[test]
fn officers_see_every_key_and_everything_that_they_sign() {
    let table = Table::new();
    let issued = "2030-01-31T00:00:00Z";
    let told = table.draft(&["--demand", "ed25519", "--demand", "ml-dsa-65", "--issued", issued]);
    let told = told.unwrap();
    assert!(mint(&["root", "show", &table.path("draft.json")]).unwrap().ends_with(&told));
    for person in &PERSONS[..5] {
        // What the person's own machine says of the `.pub` file stands in the draft, line for line.
        let own = mint(&["key", "id", &format!("@{}.pub", table.path(person))]).unwrap();
        assert_eq!(own.lines().count(), 4);
        assert!(own.lines().all(|line| told.contains(line)), "{own}\n{told}");
        for (holder, id) in table.holders(person).iter().zip(table.ids(person)) {
            assert!(told.contains(&id), "{person}");
            let line = holder.to_string();
            assert!(told.contains(&line.chars().take(45).collect::<String>()), "{line}\n{told}");
        }
        let line = table.holders(person)[0].to_string();
        assert!(told.lines().any(|shown| shown.trim() == line), "{line}\n{told}");
    }
    assert_eq!(told.matches(", each with ed25519 and ml-dsa-65\n").count(), 2, "{told}");
    for said in [issued, "2036-01-01T00:00:00Z", "TUF 1.0.34", "root        version 1,"] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn a_draft_that_calls_a_key_by_anothers_id_is_refused() {
    let table = Table::new();
    let ([imp, _], [thief, _]) = (table.ids("imp"), table.ids("thief"));
    let object = table.holders("thief")[0].key.to_object();
    let told = table.refused(|signed| signed["keys"][&imp] = object.clone());
    assert!(told.contains("under an id that is not its own"), "{told}");
    // Neither may an id steer the terminal, in a role or among the names.
    let told = table.refused(|signed| signed["keys"]["\u{1b}[2J\n"] = object.clone());
    assert!(told.contains("under an id that is not its own"), "{told}");
    table.refused(|signed| signed["roles"]["targets"]["keyids"] = json!([thief]));
    table.refused(|signed| signed["x-cloister"]["persons"][&imp] = "imp\u{1b}[1A".into());
    // A name for a key that is not there is shown, as what it is.
    table.draft(&[]).unwrap();
    let mut file = table.drafted();
    file["signed"]["x-cloister"]["persons"]["\u{1b}[2J"] = "imp".into();
    fs::write(table.path("draft.json"), file.to_string()).unwrap();
    let told = mint(&["root", "show", &table.path("draft.json")]).unwrap();
    assert!(told.contains("imp, whose key does not stand here\n              id \\u{1b}[2J\n"));
}

#[test]
fn what_is_not_shown_is_not_signed() {
    let table = Table::new();
    let unknown = "cannot show";
    let forgeries: [fn(&mut Value); 8] = [
        |signed| signed["x-more"] = 1.into(),
        |signed| signed["consistent_snapshot"] = "yes".into(),
        |signed| signed["x-cloister"]["more"] = json!({}),
        |signed| signed["x-cloister"]["approvers"]["x-more"] = 1.into(),
        |signed| signed["roles"]["mirrors"] = json!({"keyids": [], "threshold": 1}),
        |signed| signed["roles"]["targets"]["x-algorithms"] = json!([]),
        |signed| signed["roles"]["root"]["note"] = "".into(),
        |signed| {
            let keys = signed["keys"].as_object_mut().unwrap();
            keys.values_mut().next().unwrap()["note"] = 1.into();
        },
    ];
    for forge in forgeries {
        let told = table.refused(forge);
        assert!(told.contains(unknown) || told.contains("not its own"), "{told}");
    }
    let told = table.refused(|signed| signed["roles"]["targets"]["x-algorithms"] = json!(["rsa"]));
    assert!(told.contains("algorithm that is not known"), "{told}");
    // What TUF allows is shown.
    table.draft(&[]).unwrap();
    let mut file = table.drafted();
    file["signed"]["consistent_snapshot"] = true.into();
    fs::write(table.path("draft.json"), file.to_string()).unwrap();
    let told = mint(&["root", "show", &table.path("draft.json")]).unwrap();
    assert!(told.contains("consistent_snapshot"), "{told}");
}

#[test]
fn a_root_states_no_time_at_which_it_has_expired() {
    let table = Table::new();
    let late = "not before the time at which it expires";
    for issued in ["2036-01-01T00:00:00Z", "2040-01-01T00:00:00Z"] {
        let told = table.refused(|signed| signed["x-cloister"]["issued"] = issued.into());
        assert!(told.contains(late), "{told}");
        let refusal = table.draft(&["--issued", issued]).unwrap_err();
        assert!(format!("{refusal:#}").contains(late), "{refusal:#}");
    }
    // Nor is one made with all keys at hand.
    let persons = ["ann", "imp", "ada"].map(|who| format!("@{}.pub", table.path(who)));
    let (key, trust) = (table.path("ann.ed25519"), table.path("other"));
    let create = |issued: &str| {
        mint(&[
            "root",
            "create",
            "--trust",
            &trust,
            "--sign",
            &key,
            "--threshold",
            "1",
            "--approvals",
            "1",
            "--root",
            &persons[0],
            "--importer",
            &persons[1],
            "--approver",
            &persons[2],
            "--issued",
            issued,
        ])
    };
    assert!(format!("{:#}", create("2036-01-01T00:00:00Z").unwrap_err()).contains(late));
    create("2035-12-31T23:59:59Z").unwrap();
}

#[test]
fn where_both_halves_are_demanded_an_officer_signs_with_both() {
    let table = Table::new();
    table.draft(&["--demand", "ed25519", "--demand", "ml-dsa-65"]).unwrap();
    let both = ["ed25519", "ml-dsa-65"];
    let ann = table.sign("ann", &both).unwrap();
    for half in both {
        let ben = table.sign("ben", &[half]).unwrap();
        let refusal = table.finish(&[ann.clone(), ben]).unwrap_err();
        assert!(format!("{refusal:#}").contains("1 of 2 required root signatures"), "{refusal:#}");
    }
    let ben = table.sign("ben", &both).unwrap();
    let told = table.finish(&[ann, ben]).unwrap();
    assert_eq!(told.matches("signed by ").count(), 4, "{told}");
    let root = fs::read(table.path("trust/1.root.json")).unwrap();
    enrol(&root, Digest::of(&root)).unwrap();
    // An algorithm of which somebody has no key cannot be demanded.
    let refusal = table.draft(&["--demand", "ml-dsa-87"]).unwrap_err();
    assert!(format!("{refusal:#}").contains("could make this a root"), "{refusal:#}");
}

/// A root as another tool writes it: keys of kinds that no appliance counts, and nothing that TUF does
/// not know.
fn foreign(table: &Table) -> Value {
    let pem = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";
    let key = |kind: &str, scheme: &str| {
        let object = json!({"keytype": kind, "scheme": scheme, "keyval": {"public": pem}});
        let id = Digest::of(&cloister_attest::json::canonical_tuf(&object).unwrap());
        (id.to_string(), object)
    };
    let (ecdsa, ecdsa_object) = key("ecdsa", "ecdsa-sha2-nistp256");
    let (rsa, rsa_object) = key("rsa", "rsassa-pss-sha256");
    let ann = &table.holders("ann")[0].key;
    let role = |ids: &[&String]| json!({"keyids": ids, "threshold": 1});
    json!({"signatures": [{"keyid": rsa, "sig": "00"}], "signed": {
        "_type": "root", "consistent_snapshot": true, "expires": "2036-01-01T00:00:00Z",
        "keys": {&ecdsa: ecdsa_object, &rsa: rsa_object, ann.key_id(): ann.to_object()},
        "roles": {
            "root": role(&[&rsa, &ann.key_id()]), "targets": role(&[&rsa]),
            "snapshot": role(&[&ecdsa]), "timestamp": role(&[&ecdsa]),
        },
        "spec_version": "1.0.31", "version": 1,
    }})
}

#[test]
fn keys_of_kinds_that_do_not_count_are_shown_as_such() {
    let table = Table::new();
    let mut file = foreign(&table);
    let path = table.path("foreign.json");
    let shown = |file: &Value| {
        fs::write(&path, file.to_string()).unwrap();
        mint(&["root", "show", &path])
    };
    let told = shown(&file).unwrap();
    let not_counted = "nobody, whose key this product does not count";
    for (kind, times) in [("(ecdsa ecdsa-sha2-nistp256)", 2), ("(rsa rsassa-pss-sha256)", 2)] {
        assert_eq!(told.matches(&format!("{not_counted} {kind}")).count(), times, "{told}");
    }
    assert_eq!(told.matches("does not count").count(), 4, "{told}");
    assert!(told.contains(&format!("nobody={}", table.holders("ann")[0].key.to_hex())), "{told}");
    let keys = file["signed"]["keys"].as_object().unwrap().clone();
    for id in keys.keys() {
        assert!(told.contains(&format!("id {id}")), "{id}: {told}");
    }
    // What such a key says of itself steers no terminal and fills no screen, and its id is its own.
    let (rsa, mut object) = keys.into_iter().find(|(_, key)| key["keytype"] == "rsa").unwrap();
    object["scheme"] = format!("\u{1b}[2J\n{}", "x".repeat(1 << 16)).into();
    file["signed"]["keys"][&rsa] = object.clone();
    assert!(shown(&file).unwrap_err().to_string().contains("no root"));
    let id = Digest::of(&cloister_attest::json::canonical_tuf(&object).unwrap()).to_string();
    let mut other: Value = file.to_string().replace(&rsa, &id).parse().unwrap();
    let told = shown(&other).unwrap();
    assert!(told.len() < 4096 && told.contains("(rsa \\u{1b}[2J\\nxxx"), "{told}");
    assert!(told.chars().all(|c| c == '\n' || !c.is_control()), "{told}");
    // A key of a kind that counts is whole, or the root is not shown.
    other["signed"]["keys"][&id]["keytype"] = "ed25519".into();
    assert!(shown(&other).is_err());
}

#[test]
fn what_is_shown_of_a_foreign_key_makes_it_count_no_more() {
    let table = Table::new();
    fs::write(table.path("draft.json"), foreign(&table).to_string()).unwrap();
    let signed = table.sign("ann", &["ed25519"]).unwrap();
    let told = table.finish(std::slice::from_ref(&signed)).unwrap_err();
    assert!(format!("{told:#}").contains("this root would not be trusted"), "{told:#}");
    // The officer's own signature is good, and nobody is left who could sign for a list.
    let root = fs::read(signed).unwrap();
    let refusal = enrol(&root, Digest::of(&root)).unwrap_err();
    let nobody = VerifyError::Impossible { role: RoleName::Timestamp, threshold: 1, persons: 0 };
    assert_eq!(refusal, nobody);
}

#[test]
fn each_role_of_a_root_can_be_held_to_both_halves() {
    let table = Table::new();
    let both = ["ed25519", "ml-dsa-65"];
    let held = |demands: &[String]| -> Vec<&str> {
        let words: Vec<&str> = demands.iter().flat_map(|demand| ["--demand", demand]).collect();
        let told = table.draft(&words).unwrap();
        let signed = table.drafted()["signed"].take();
        let mut held = Vec::new();
        for role in ["root", "targets", "snapshot", "timestamp", "approvers"] {
            let one = match role {
                "approvers" => &signed["x-cloister"]["approvers"],
                _ => &signed["roles"][role],
            };
            let line = format!("{role:<11} {} of", one["threshold"]);
            let shown = format!("{line}, each with ed25519 and ml-dsa-65\n");
            if one["x-algorithms"].is_null() {
                assert!(told.contains(&format!("{line}\n")), "{role}: {told}");
            } else {
                assert_eq!(one["x-algorithms"], json!(both));
                assert!(told.contains(&shown), "{role}: {told}");
                held.push(role);
            }
        }
        held
    };
    let of = |role: &str| both.map(|word| format!("{role}{word}")).to_vec();
    assert!(held(&[]).is_empty());
    assert_eq!(held(&of("")), ["root", "targets"]);
    assert_eq!(held(&of("root=")), ["root"]);
    assert_eq!(held(&of("importer=")), ["targets"]);
    assert_eq!(held(&of("station=")), ["snapshot", "timestamp"]);
    assert_eq!(held(&of("approver=")), ["approvers"]);
    assert_eq!(held(&[of(""), of("approver=")].concat()), ["root", "targets", "approvers"]);
    for wrong in ["publisher=ed25519", "approver=rsa", "approver=", "=ed25519", "rsa"] {
        let refusal = table.draft(&["--demand", wrong]).unwrap_err().to_string();
        assert!(refusal.contains("the roles are") || refusal.contains("the algorithms are"));
    }
    // Somebody who has no such key could not approve at all.
    let refusal = table.draft(&["--demand", "approver=ml-dsa-87"]).unwrap_err();
    assert!(format!("{refusal:#}").contains("could make this a root"), "{refusal:#}");
}
