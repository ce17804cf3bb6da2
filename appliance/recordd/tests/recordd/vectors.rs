//! The vectors of `docs/formats/vectors`: whole exports with what an auditor brings along and the verdict, for
//! whoever writes a verifier. They are what is made here, and both verifiers say of them what is noted
//! beside them. `UPDATE_VECTORS=1` writes them anew.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cloister_domain::Coded as _;
use cloister_record::{
    Export, Fault, Note, Policy, Receipt, Record, SUMMARY, Signer, Trust, VerifierKey, WitnessKey,
    prove, verify, with_signatures,
};
use cloister_wire::record::Event;
use serde_json::{Value, json};

use crate::{
    both::numbers,
    story::{HOST, NEXT_HOST, Release, Story, TIME_S, WITNESS, log_key, root},
    support::{key, lay},
};

/// What all of them may weigh, in bytes: they are read by people too.
const BYTES_MAX: usize = 300 << 10;

/// One vector.
struct Vector {
    name: &'static str,
    /// The log, and below `receipts/` what lies beside it.
    export: Export,
    roots: Vec<Vec<u8>>,
    policy: Option<String>,
    /// The faults, each with its record.
    faults: Vec<(u64, &'static str)>,
}

/// A release goes all the way, and a witness saw it.
fn plain() -> Vector {
    let mut story = Story::enrolled(&root(1));
    let mut release = story.imports(Release::new(1, "1.0.0"), &json!(["oskar"]));
    story.approved(&mut release);
    story.activates("activate", &release, None, "promoted");
    let mut export = story.export();
    let note = String::from_utf8(export["checkpoint"].clone()).unwrap();
    let witness = WitnessKey::new("auditor.example/board", key(WITNESS).public()).unwrap();
    let text = Note::parse(&note).unwrap().text().to_owned();
    let cosignature = key(WITNESS).sign(WitnessKey::message(&text, TIME_S).as_bytes());
    let note = with_signatures(&note, &witness.line(TIME_S, &cosignature)).unwrap();
    export.insert("checkpoint".to_owned(), note.into_bytes());
    let log = log_key(HOST);
    let policy = format!("log {log}\nwitness board {witness}\nquorum board\n");
    Vector { policy: Some(policy), ..Vector::of("plain", export) }
}

/// The key goes with the board; the log goes on under the next one.
fn succeeded() -> Vector {
    let mut story = Story::enrolled(&root(1));
    let mut old = story.imports(Release::new(1, "1.0.0"), &json!(["oskar"]));
    story.approved(&mut old);
    story.activates("activate", &old, None, "promoted");
    let mut new = story.imports(Release::new(2, "2.0.0"), &json!(["oskar"]));
    // Approvals stand at the end of the log that the first key signed.
    story.approved(&mut new);
    story.succeeds(NEXT_HOST);
    story.activates("activate", &new, Some(&old), "promoted");
    Vector::of("succession", story.export())
}

/// Another root with another approver, and a return below the floor by the leave of the persons of then.
fn downgraded() -> Vector {
    let mut story = Story::enrolled(&root(1));
    let mut old = story.imports(Release::new(1, "1.0.0"), &json!(["oskar"]));
    story.approved(&mut old);
    story.activates("activate", &old, None, "promoted");
    story.updates(&root(2));
    let mut new = story.imports(Release::new(2, "2.0.0"), &json!(["oskar"]));
    story.approves(&mut new, "ada", "");
    story.approves(&mut new, "cyd", "");
    story.activates("activate", &new, Some(&old), "promoted");
    story.allows("ada", &old, &new);
    story.allows("cyd", &old, &new);
    story.activates("downgrade", &old, Some(&new), "promoted");
    Vector { roots: vec![root(1), root(2)], ..Vector::of("downgrade", story.export()) }
}

/// A shadow, a canary, a switch for all, the way back, one that comes to nothing, and one under way.
fn tried() -> Vector {
    let mut story = Story::enrolled(&root(1));
    let mut old = story.imports(Release::new(1, "1.0.0"), &json!(["oskar"]));
    story.approved(&mut old);
    story.activates("activate", &old, None, "promoted");
    let mut new = story.imports(Release::new(2, "2.0.0"), &json!(["oskar"]));
    // Of what was judged before the shadow ran: it counts no more.
    story.approves(&mut new, "bob", "");
    story.shadows(&mut new);
    story.approved(&mut new);
    // More than must, and twice: all of them are named by the summary.
    story.approves(&mut new, "ada", "again");
    story.activates("canary", &new, Some(&old), "begun");
    story.activates("activate", &new, Some(&old), "promoted");
    story.activates("rollback", &old, Some(&new), "promoted");
    story.activates("rollback", &new, Some(&old), "returned");
    story.intends("activate", &new, Some(&old));
    Vector::of("canary", story.export())
}

/// Persons who operated the import do not count, whatever else stands in the list that names them; and it
/// is judged where the intent stands, although nothing came of it.
fn imported_by_an_approver() -> Vector {
    let mut story = Story::enrolled(&root(1));
    let mut release = story.imports(Release::new(1, "1.0.0"), &json!([7, "bob"]));
    story.approved(&mut release);
    let intent = story.activates("activate", &release, None, "aborted");
    let faults = vec![(intent, "record.export.unapproved")];
    Vector { faults, ..Vector::of("broken-importer", story.export()) }
}

/// Somebody had the release judged again, and the intent did not wait for the verdict; it has no outcome.
fn asked_again() -> Vector {
    let mut story = Story::enrolled(&root(1));
    let mut release = story.imports(Release::new(1, "1.0.0"), &json!(["oskar"]));
    story.approved(&mut release);
    story.asks(&release);
    let intent = story.intends("activate", &release, None);
    let faults = vec![(intent, "record.export.unjudged")];
    Vector { faults, ..Vector::of("broken-asked", story.export()) }
}

fn vectors() -> [Vector; 6] {
    [plain(), succeeded(), downgraded(), tried(), imported_by_an_approver(), asked_again()]
}

impl Vector {
    fn of(name: &'static str, export: Export) -> Self {
        Self { name, export, roots: vec![root(1)], policy: None, faults: Vec::new() }
    }

    fn trust(&self) -> Trust {
        let roots: Vec<&[u8]> = self.roots.iter().map(Vec::as_slice).collect();
        let (root, approvers) = cloister_verify::auditors_view(&roots).unwrap();
        let policy = self.policy.as_ref().map(|text| Policy::parse(text.as_bytes()).unwrap());
        Trust { log: log_key(HOST), root, approvers, policy }
    }

    /// The files of the folder.
    fn files(&self) -> Export {
        let report = verify(&self.export, &self.trust());
        let keys: Vec<String> = report.keys.all().map(|(_, key)| key.to_string()).collect();
        let faults: Vec<Value> = self
            .faults
            .iter()
            .map(|(record, code)| json!({ "code": code, "record": record }))
            .collect();
        let expected = json!({
            "faults": faults, "keys": keys, "open": report.open_intent, "root": report.root,
            "size": report.size,
        });
        let expected = serde_json::to_string_pretty(&expected).unwrap() + "\n";
        let mut files = Export::from([
            ("expected.json".to_owned(), expected.into_bytes()),
            ("log.key".to_owned(), format!("{}\n", log_key(HOST)).into_bytes()),
        ]);
        for (number, root) in (1..).zip(&self.roots) {
            files.insert(format!("root.{number}.json"), root.clone());
        }
        let policy = self.policy.iter().map(|text| ("policy".to_owned(), text.clone().into()));
        files.extend(policy);
        let beside = if self.faults.is_empty() {
            receipts(&self.export, report.keys.now())
        } else {
            Export::new()
        };
        let inside = self.export.clone().into_iter().chain(beside);
        files.extend(inside.map(|(path, bytes)| (format!("export/{path}"), bytes)));
        files
    }
}

/// What lies beside the log of an export.
fn receipts(export: &Export, log: &VerifierKey) -> Export {
    let (mut files, mut successions) = (Export::new(), Vec::new());
    // From the end, so that what took over later is known.
    let size = (0..).take_while(|index| prove(export, log, *index).is_ok()).count() as u64;
    for index in (0..size).rev() {
        let (proof, text) = prove(export, log, index).unwrap();
        let record = Record::parse(text).unwrap();
        let receipt = Receipt::new(proof, text).to_text();
        let outcome = match &record.signer {
            Signer::Host { facts, .. } => facts.get("outcome").cloned(),
            _ => None,
        };
        if record.event == Event::KeySuccession {
            successions.insert(0, receipt);
        } else if outcome == Some(json!("promoted")) {
            let later = successions.concat();
            files.insert(format!("receipts/{index}.receipt"), (receipt + &later).into_bytes());
            if record.about(SUMMARY).is_some() {
                let (_, summary) = prove(export, log, index - 1).unwrap();
                files.insert(format!("receipts/{index}.vsa.json"), summary.to_vec());
            }
        }
    }
    files
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/vectors")
}

/// The files below a folder, by their paths.
fn stored(folder: &Path) -> Export {
    let mut files = Export::new();
    for found in fs::read_dir(folder).unwrap() {
        let (path, name) = found.map(|one| (one.path(), one.file_name())).unwrap();
        let name = name.into_string().unwrap();
        if path.is_dir() {
            let inside = stored(&path).into_iter();
            files.extend(inside.map(|(path, bytes)| (format!("{name}/{path}"), bytes)));
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}

#[test]
fn the_vectors_are_these() {
    let mut made = Export::new();
    for vector in vectors() {
        let files = vector.files().into_iter();
        made.extend(files.map(|(path, bytes)| (format!("{}/{path}", vector.name), bytes)));
    }
    assert!(made.values().map(Vec::len).sum::<usize>() < BYTES_MAX);
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        for name in vectors().map(|vector| vector.name) {
            fs::remove_dir_all(home().join(name)).unwrap_or_default();
        }
        lay(&home(), &made);
    }
    let mut there = stored(&home());
    there.remove("README.md");
    assert_eq!(there.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    for (path, bytes) in made {
        assert!(there[&path] == bytes, "{path} is another");
    }
}

/// What the second verifier says of a folder.
fn second(folder: &Path, vector: &Vector) -> (Option<i32>, Vec<String>) {
    let log_key = fs::read_to_string(folder.join("log.key")).unwrap();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/audit.py");
    let roots = 1..=vector.roots.len();
    let roots = roots.map(|at| format!("--root={}/root.{at}.json", folder.display()));
    let mut command = Command::new("python3");
    command.arg(program).arg(folder.join("export")).args(["--log-key", log_key.trim_end()]);
    command.args(roots);
    if vector.policy.is_some() {
        command.arg("--policy").arg(folder.join("policy"));
    }
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let faults = said.lines().filter_map(|line| line.strip_prefix("FAULT  ").map(str::to_owned));
    (output.status.code(), faults.collect())
}

#[test]
fn both_verifiers_say_of_the_vectors_what_is_expected() {
    for vector in vectors() {
        let folder = home().join(vector.name);
        let mut export = stored(&folder.join("export"));
        export.retain(|path, _| !path.starts_with("receipts/"));
        let report = verify(&export, &vector.trust());
        let found: Vec<(u64, &str)> =
            report.faults.iter().map(|fault| (record_of(fault), fault.code())).collect();
        assert_eq!(found, vector.faults, "{}: {:?}", vector.name, report.faults);
        let (status, faults) = second(&folder, &vector);
        assert_eq!(status, Some(i32::from(!vector.faults.is_empty())), "{}", vector.name);
        let expected: Vec<u64> = vector.faults.iter().map(|(record, _)| *record).collect();
        assert_eq!(numbers(&faults).into_iter().collect::<Vec<_>>(), expected, "{faults:?}");
        assert_eq!(faults.len(), expected.len(), "{faults:?}");
    }
}

/// The record that a fault names.
fn record_of(fault: &Fault) -> u64 {
    numbers(&[fault.to_string()]).into_iter().next().unwrap()
}
