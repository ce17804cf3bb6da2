//! The auditor's program, which shares no code with the appliance, agrees with it.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use cloister_record::{Export, Note, Policy, Trust, VerifierKey, WitnessKey, verify};
use cloister_wire::record::{Entry, Event, Request, Subject};
use serde_json::json;

use crate::support::{Root, Running, appended, approval, entry, key, lay, root, root_of};

/// A log with every kind of rule in it, over more than one bundle.
fn story(root: &Root) -> Running {
    let running = root.start();
    running.append(Event::AnchorEnrolment, "anchor");
    running.approve();
    running.append(Event::ActivationIntent, "activation/1/intent");
    // After the summary of what was verified.
    assert_eq!(running.append(Event::ActivationOutcome, "activation/1/outcome"), 7);
    for number in 0..254 {
        running.append(Event::MediaSeen, &format!("media/{number}"));
    }
    running
}

pub(crate) struct Audit {
    folder: tempfile::TempDir,
    pub(crate) log_key: String,
}

impl Audit {
    pub(crate) fn new(running: &Running, root_text: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("root.json"), root_text).unwrap();
        let this = Self { folder, log_key: running.head().2 };
        this.write(&running.export());
        this
    }

    /// Puts another export in the place of what is there.
    pub(crate) fn replace(&self, export: &Export) {
        fs::remove_dir_all(self.folder.path().join("export")).unwrap();
        self.write(export);
    }

    fn write(&self, export: &Export) {
        lay(&self.folder.path().join("export"), export);
    }

    /// Exit status and output of the auditor's program.
    fn run(&self, log_key: &str, root: &str, python: &[&str]) -> (Option<i32>, String) {
        self.run_words(log_key, root, python, &[])
    }

    pub(crate) fn run_words(
        &self,
        log_key: &str,
        root: &str,
        python: &[&str],
        more: &[&str],
    ) -> (Option<i32>, String) {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../record/audit.py");
        let output = Command::new("python3")
            .args(python)
            .arg(program)
            .arg(self.folder.path().join("export"))
            .args(["--list", "--log-key", log_key, "--root", root])
            .args(more)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    /// The same, with a newer trust root beside the enrolled one.
    fn run_with(&self, newer: &[u8]) -> (Option<i32>, String) {
        let path = self.folder.path().join("newer.json");
        fs::write(&path, newer).unwrap();
        let root = format!("--root={}", path.display());
        self.run_words(&self.log_key, &self.root(), &[], &[&root])
    }

    pub(crate) fn root(&self) -> String {
        self.folder.path().join("root.json").display().to_string()
    }
}

#[test]
fn the_auditor_accepts_a_good_export_with_and_without_a_library() {
    let root_folder = Root::new();
    let audit = Audit::new(&story(&root_folder), &root());
    // With -S no package outside the standard library can be imported.
    for python in [&[][..], &["-S", "-E", "-s"]] {
        let (status, said) = audit.run(&audit.log_key, &audit.root(), python);
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("GOOD   262 records"), "{said}");
        assert!(said.contains("approve by ada"), "{said}");
    }
}

#[test]
fn a_link_is_no_file_of_a_log() {
    let root_folder = Root::new();
    let running = story(&root_folder);
    let audit = Audit::new(&running, &root());
    let (whole, outside) = (running.export(), tempfile::tempdir().unwrap());
    let (folder, outside) = (audit.folder.path().join("export"), outside.path());
    let found = |what: &str| {
        let (status, said) = audit.run(&audit.log_key, &audit.root(), &[]);
        assert_eq!((status, said.contains("a link is no file")), (Some(1), true), "{what}: {said}");
        audit.replace(&whole);
    };
    lay(outside, &whole);
    for path in ["checkpoint", "tile", "tile/0", "tile/0/000", "tile/entries/000"] {
        let there = folder.join(path);
        fs::rename(&there, folder.join("aside")).unwrap();
        symlink(outside.join(path), there).unwrap();
        found(path);
    }
    for (path, target) in [("tile/more", "tile"), ("tile/0/more", "nowhere")] {
        symlink(outside.join(target), folder.join(path)).unwrap();
        found(path);
    }
}

#[test]
fn the_auditor_takes_neither_key_nor_root_from_the_export() {
    let root_folder = Root::new();
    let running = story(&root_folder);
    let audit = Audit::new(&running, &root());
    let origin = crate::support::ORIGIN;
    let other = VerifierKey::new(origin, key(7).public()).unwrap().to_string();
    let (status, said) = audit.run(&other, &audit.root(), &[]);
    assert_eq!((status, said.contains("no signature by the log")), (Some(1), true), "{said}");
    let (status, said) = audit.run(&audit.log_key, &"0".repeat(64), &[]);
    assert_eq!((status, said.contains("record 0: the trust root")), (Some(1), true), "{said}");
    // Only a digest: persons cannot be checked, and that is said.
    let digest = cloister_domain::Digest::of(&root()).to_string();
    let (status, said) = audit.run(&audit.log_key, &digest, &[]);
    assert_eq!((status, said.contains("record 3: a person signed it")), (Some(1), true), "{said}");
    assert_eq!(audit.run("nonsense", &audit.root(), &[]).0, Some(2));
    let changed = Audit::new(&running, &[root(), b" ".to_vec()].concat());
    assert_eq!(changed.run(&audit.log_key, &changed.root(), &[]).0, Some(1));
}

#[test]
fn the_auditor_finds_a_flipped_byte_anywhere() {
    let root_folder = Root::new();
    let running = story(&root_folder);
    let audit = Audit::new(&running, &root());
    let export = running.export();
    for (path, bytes) in &export {
        // First, last, and some between; steps are odd so that they drift over the fields.
        let step = (bytes.len() / 5).max(1) | 1;
        for place in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let target = audit.folder.path().join("export").join(path);
            fs::write(&target, changed).unwrap();
            let (status, said) = audit.run(&audit.log_key, &audit.root(), &[]);
            assert_eq!(status, Some(1), "{path}, byte {place}: {said}");
            fs::write(&target, bytes).unwrap();
        }
    }
    let missing = audit.folder.path().join("export/tile/0/001.p/6");
    fs::remove_file(missing).unwrap();
    assert_eq!(audit.run(&audit.log_key, &audit.root(), &[]).0, Some(1));
    audit.write(&export);
    fs::write(audit.folder.path().join("export/read-me.txt"), b"x").unwrap();
    assert_eq!(audit.run(&audit.log_key, &audit.root(), &[]).0, Some(0));
    fs::write(audit.folder.path().join("export/tile/1/000.p/2"), b"x").unwrap();
    assert_eq!(audit.run(&audit.log_key, &audit.root(), &[]).0, Some(1));
}

#[test]
fn the_auditor_finds_an_approval_by_nobody() {
    let root_folder = Root::new();
    let running = root_folder.start();
    running.append(Event::AnchorEnrolment, "anchor");
    // Signed by ada's key in another's name, and by a root key that approves nothing.
    for (person, seed) in [("bob", 9), ("ada", 8)] {
        appended(running.deposit(&approval(person, seed).to_json()));
    }
    let audit = Audit::new(&running, &root());
    let (status, said) = audit.run(&audit.log_key, &audit.root(), &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("record 1: it has no good signature"), "{said}");
    assert!(said.contains("record 2: it has no good signature"), "{said}");
}

#[test]
fn the_auditor_judges_an_approval_by_the_root_in_force() {
    // Another approver; and ada, of whom more is asked than the program can check.
    let other = root_of(2, |signed| {
        signed["x-cloister"]["approvers"]["keyids"] = json!([key(8).public().key_id()]);
        signed["x-cloister"]["persons"][key(8).public().key_id()] = "bob".into();
    });
    let both = root_of(2, |signed| {
        signed["x-cloister"]["approvers"]["x-algorithms"] = json!(["ed25519", "ml-dsa-65"]);
    });
    for (newer, why) in [(other, "no good signature"), (both, "only cloister checks")] {
        let root_folder = Root::new();
        let running = root_folder.start();
        running.append(Event::AnchorEnrolment, "anchor");
        appended(running.deposit(&approval("ada", 9).to_json()));
        running.update(&newer);
        let audit = Audit::new(&running, &root());
        let (status, said) = audit.run_with(&newer);
        assert_eq!(status, Some(0), "{said}");
        // One who could approve under the root before; signed twice, so that it is another entry.
        appended(running.deposit(&approval("ada", 9).sign_with(&key(9)).to_json()));
        let audit = Audit::new(&running, &root());
        let (status, said) = audit.run_with(&newer);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains("record 3: ") && said.contains(why), "{said}");
        // Without the newer root nobody can say.
        let (status, said) = audit.run(&audit.log_key, &audit.root(), &[]);
        assert_eq!((status, said.contains("a trust root that was not given")), (Some(1), true));
    }
}

/// A root with a second root key, which is this person's, signed by both.
fn root_of_two(person: &str) -> Vec<u8> {
    let second = key(12).public();
    let text = root_of(1, |signed| {
        signed["keys"][second.key_id()] = second.to_object();
        signed["roles"]["root"] =
            json!({"keyids": [key(8).public().key_id(), second.key_id()], "threshold": 2});
        signed["x-cloister"]["persons"][second.key_id()] = person.into();
    });
    let mut root: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let message = cloister_attest::json::canonical_tuf(&root["signed"]).unwrap();
    let sig: String = key(12).sign(&message).iter().map(|byte| format!("{byte:02x}")).collect();
    let signature = json!({"keyid": second.key_id(), "sig": sig});
    root["signatures"].as_array_mut().unwrap().push(signature);
    root.to_string().into_bytes()
}

#[test]
fn the_auditor_counts_persons_and_not_keys() {
    let root_folder = Root::new();
    let running = root_folder.start();
    running.append(Event::AnchorEnrolment, "anchor");
    // Key 8 is ada's. Of a root that can be used this is not the one that was enrolled.
    for (person, status) in [("ada", 2), ("cyd", 1)] {
        let audit = Audit::new(&running, &root_of_two(person));
        let (found, said) = audit.run(&audit.log_key, &audit.root(), &[]);
        assert_eq!(found, Some(status), "{said}");
    }
    // A key without a name is a person of its own.
    let nameless = root_of(1, |signed| {
        let persons = signed["x-cloister"]["persons"].as_object_mut().unwrap();
        persons.remove(&key(9).public().key_id());
        persons.remove(&key(8).public().key_id());
    });
    let audit = Audit::new(&running, &nameless);
    let (found, said) = audit.run(&audit.log_key, &audit.root(), &[]);
    assert!(found == Some(1) && said.contains("record 0: the trust root"), "{said}");
}

#[test]
fn the_auditor_finds_an_older_trust_root() {
    let root_folder = Root::new();
    let running = root_folder.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let [two, three] = [2, 3].map(|version| root_of(version, |_signed| {}));
    for (number, root) in [&three, &two].into_iter().enumerate() {
        let sha256 = cloister_domain::Digest::of(root);
        let subject = Subject { name: "trust-root".to_owned(), sha256 };
        let update = entry(Event::TrustUpdate, &format!("trust/{number}"));
        let update = Entry { subject: vec![subject], ..update };
        appended(running.ask(&Request::Append(update)));
    }
    let audit = Audit::new(&running, &root());
    let path = |name: &str, text: &[u8]| {
        let path = audit.folder.path().join(name);
        fs::write(&path, text).unwrap();
        format!("--root={}", path.display())
    };
    let more = [path("two.json", &two), path("three.json", &three)];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    let (status, said) = audit.run_words(&audit.log_key, &audit.root(), &[], &more);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("record 2: it goes back to an older trust root"), "{said}");
}

fn witness(seed: u8) -> WitnessKey {
    WitnessKey::new(&format!("w{seed}"), key(seed).public()).unwrap()
}

/// A policy that asks for two of three and one more, and what becomes of it by a slip.
fn policies(log: &str) -> Vec<String> {
    let keys: String =
        (20..24).map(|seed| format!("witness w{seed} {}\n", witness(seed))).collect();
    let groups = "group a 2 w20 w21 w22\ngroup both all a w23\nquorum both\n";
    let asks = format!("# ours\nlog {log} https://x\n{keys}{groups}");
    let other = VerifierKey::new("other", key(1).public()).unwrap().to_string();
    vec![
        asks.clone(),
        "quorum none\n".to_owned(),
        asks.replace(log, &other),
        asks.replace("2 w20", "4 w20"),
        asks.replace("quorum both", "quorum c"),
        asks.replace("all a w23", "all a w20"),
        asks.replace("\nquorum", "\r\nquorum"),
        asks.replace("quorum both\n", "quorum both"),
        asks.replace("quorum both\n", ""),
        format!("{asks}quorum both\n"),
        asks.replace("witness w21", "witness w20"),
        asks.replace(&witness(21).to_string(), &witness(20).to_string()),
        asks.replace("witness w21", "witness none"),
        asks.replace("group a 2", "group a any"),
        asks.replace("+BA", "+AQ"),
        "witness x x+00000001+Bg==\nquorum x\n".to_owned(),
        "witness x x+00000001+BgAA\nquorum x\n".to_owned(),
        "witness x x+00000001+BgAA\ngroup g any x\nquorum none\n".to_owned(),
    ]
}

/// The checkpoint `own` with cosignatures: none, enough, too few, and wrong ones.
fn notes(own: &str) -> Vec<String> {
    let text = Note::parse(own).unwrap().text();
    let line = |seed: u8, time_s: u64, text: &str| {
        let signature = key(seed).sign(WitnessKey::message(text, time_s).as_bytes());
        witness(seed).line(time_s, &signature)
    };
    let good = |seeds: &[u8]| {
        let lines: String = seeds.iter().map(|seed| line(*seed, 7, text)).collect();
        format!("{own}{lines}")
    };
    vec![
        own.to_owned(),
        good(&[20, 21, 23]),
        good(&[20, 20, 23]),
        good(&[20, 21, 22]),
        good(&[20, 21, 23, 99]),
        good(&[20, 21, 23]) + &line(22, 7, "x\n"),
        good(&[21, 23]) + &line(20, 0, text),
        good(&[20, 21, 23]) + &line(99, 7, "x\n"),
    ]
}

/// One policy, two verifiers: cosignatures count, are missed, and spoil what they do not fit.
#[test]
fn the_auditor_asks_a_policy_as_the_first_verifier_does() {
    let root_folder = Root::new();
    let running = root_folder.start();
    running.append(Event::AnchorEnrolment, "anchor");
    let audit = Audit::new(&running, &root());
    let export = running.export();
    let notes = notes(std::str::from_utf8(&export["checkpoint"]).unwrap());
    let path = audit.folder.path().join("policy").display().to_string();
    let mut verdicts = Vec::new();
    for policy in policies(&audit.log_key) {
        fs::write(&path, &policy).unwrap();
        let parsed = Policy::parse(policy.as_bytes());
        // What is no policy is none for every note.
        let asked = if parsed.is_ok() { notes.as_slice() } else { &notes[..1] };
        for note in asked {
            let mut changed = export.clone();
            changed.insert("checkpoint".to_owned(), note.clone().into_bytes());
            audit.write(&changed);
            let (status, said) =
                audit.run_words(&audit.log_key, &audit.root(), &[], &["--policy", path.as_str()]);
            let ours = match &parsed {
                Err(_refused) => 2,
                Ok(policy) => {
                    let trust = Trust { policy: Some(policy.clone()), ..running.trust() };
                    i32::from(!verify(&changed, &trust).faults.is_empty())
                }
            };
            assert_eq!(status, Some(ours), "{policy}{note}{said}");
            verdicts.push(ours);
        }
    }
    for verdict in 0..=2 {
        assert!(verdicts.iter().filter(|one| **one == verdict).count() > 3, "{verdicts:?}");
    }
}
