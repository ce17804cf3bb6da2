//! A log as an appliance writes it, step by step, from keys and times that are always the same.

use cloister_attest::{
    SigningKey,
    approval::{Approval, Decision},
    consent::{Consent, Matter},
    json,
};
use cloister_domain::{Digest, GenerationId, LogHead};
use cloister_record::{
    Checkpoint, Export, Host, Place, SUMMARY, Time, Verified, VerifierKey, sign, succession,
    tiles::{self, Kind, WIDTH},
    tree::{Tree, leaf_hash},
};
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::{Value, json};

use crate::support::key;

const ORIGIN: &str = "hospital-north/appliance-1";
/// 2026-11-21 12:00 UTC; each record is a minute later.
pub(crate) const TIME_S: u64 = 1_795_262_400;

/// Seeds: the host's keys, the witness's, and who signs roots.
pub(crate) const HOST: u8 = 31;
pub(crate) const NEXT_HOST: u8 = 32;
pub(crate) const WITNESS: u8 = 33;
const OFFICERS: [(&str, u8); 2] = [("olga", 41), ("omar", 42)];
/// Who approves.
const APPROVERS: [(&str, u8); 3] = [("ada", 51), ("bob", 52), ("cyd", 53)];

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn of_json(value: &Value) -> Digest {
    Digest::of(&json::canonical(value).unwrap())
}

pub(crate) fn log_key(seed: u8) -> VerifierKey {
    VerifierKey::new(ORIGIN, key(seed).public()).unwrap()
}

fn approver(person: &str) -> SigningKey {
    key(APPROVERS.iter().find(|(name, _)| *name == person).unwrap().1)
}

/// The trust root of this version: ada and bob approve, and from 2 on ada and cyd. Ada's key stands under an id
/// of the officers' own.
pub(crate) fn root(version: u64) -> Vec<u8> {
    let approvers = [APPROVERS[0], APPROVERS[if version == 1 { 1 } else { 2 }]];
    let id = |(name, seed): (&str, u8)| match name {
        "ada" => "approver/ada".to_owned(),
        _ => key(seed).public().key_id(),
    };
    let ids = |of: [(&str, u8); 2]| of.map(id);
    let all = [OFFICERS, approvers].concat();
    let keys = all.iter().map(|one| (id(*one), key(one.1).public().to_object()));
    let persons = all.iter().map(|one| (id(*one), Value::from(one.0)));
    let role = json!({"keyids": ids(OFFICERS), "threshold": 2});
    let signed = json!({
        "_type": "root", "spec_version": "1.0.34", "version": version,
        "expires": "2046-01-01T00:00:00Z", "consistent_snapshot": false,
        "keys": keys.collect::<Value>(),
        "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
        "x-cloister": {
            "approvers": {"keyids": ids(approvers), "threshold": 2},
            "persons": persons.collect::<Value>(),
        },
    });
    let message = json::canonical_tuf(&signed).unwrap();
    let signature = |(name, seed): (&str, u8)| {
        let sig: String =
            key(seed).sign(&message).iter().map(|byte| format!("{byte:02x}")).collect();
        json!({"keyid": id((name, seed)), "sig": sig})
    };
    let signatures = OFFICERS.map(signature);
    json!({"signatures": signatures, "signed": signed}).to_string().into_bytes()
}

/// A release on its way.
#[derive(Clone)]
pub(crate) struct Release {
    import: u64,
    version: &'static str,
    bundle: Digest,
    policy: Digest,
    /// What was found, and its digest.
    found: Value,
    evidence: Digest,
    package: Digest,
    /// Where it was judged, and what a shadow added.
    judged: Vec<usize>,
    approvals: Vec<usize>,
}

impl Release {
    /// Import number `import`, which brings this version.
    pub(crate) fn new(import: u64, version: &'static str) -> Self {
        let none = digest("");
        Self {
            import,
            version,
            bundle: digest(version),
            policy: none,
            found: Value::Null,
            evidence: none,
            package: none,
            judged: Vec::new(),
            approvals: Vec::new(),
        }
    }

    /// Binds what was found to the release.
    fn bind(&mut self) {
        self.evidence = of_json(&self.found);
        let Self { bundle, policy, evidence, .. } = *self;
        self.package =
            of_json(&json!({"evidence": evidence, "manifest": bundle, "policy": policy}));
        self.approvals.clear();
    }
}

/// What the facility demands.
fn facility() -> Value {
    json!({
        "approval_records_max": 1000, "approvals_needed": 2,
        "minimums": {
            "decode_millitokens_per_s_min": 0, "decode_slower_permille_max": 1000,
            "evaluation_required": true, "golden_fewer_permille_max": 200,
            "golden_passed_permille_min": 0, "heldout_worse_permille_max": 100,
            "peak_memory_more_permille_max": 1_000_000,
        },
    })
}

/// What the publisher demands.
fn publisher() -> Value {
    json!({
        "decode_tokens_per_s_permille_of_active_min": null, "golden_fewer_max": null,
        "golden_passed_min": 10, "heldout_millibits_per_byte_max": null,
        "heldout_worse_permille_max": null, "peak_memory_bytes_max": null,
        "peak_memory_permille_of_active_max": null, "retrieval_hit3_permille_min": null,
    })
}

/// The log so far.
pub(crate) struct Story {
    texts: Vec<Vec<u8>>,
    host: u8,
    activations: u64,
}

impl Story {
    /// One that enrolled this root.
    pub(crate) fn enrolled(root: &[u8]) -> Self {
        let mut this = Self { texts: Vec::new(), host: HOST, activations: 0 };
        let about = [("trust-root", Digest::of(root))];
        let facts = json!({"approvals_needed": 2, "root_version": 1});
        this.add(Event::AnchorEnrolment, "anchor/1", &about, &facts);
        let about = [("policy", of_json(&facility()))];
        this.add(Event::PolicyChange, "policy/1", &about, &facility());
        this
    }

    fn time(&self) -> Time {
        let boot_id = Some("b5c1a1a3-54a5-4c5e-9d0a-3f6d8f6f2b11".to_owned());
        Time { rtc_s: TIME_S + 60 * self.size(), boot_id }
    }

    fn size(&self) -> u64 {
        self.texts.len() as u64
    }

    fn add(&mut self, event: Event, act: &str, about: &[(&str, Digest)], facts: &Value) -> u64 {
        let named =
            |(name, sha256): &(&str, Digest)| Subject { name: (*name).to_owned(), sha256: *sha256 };
        let entry = Entry {
            event,
            act: act.to_owned(),
            subject: about.iter().map(named).collect(),
            predicate: facts.as_object().unwrap().clone(),
        };
        self.write(&entry)
    }

    fn write(&mut self, entry: &Entry) -> u64 {
        let place =
            Place { seq: self.size(), prev: self.texts.last().map(|text| Digest::of(text)) };
        let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
        self.texts.push(sign(entry, place, &host, &self.time(), &key(self.host)).unwrap());
        place.seq
    }

    fn head(&self) -> LogHead {
        LogHead { origin: ORIGIN.to_owned(), size: self.size() }
    }

    /// The release comes in by the hands of `persons` and is judged good.
    pub(crate) fn imports(&mut self, mut release: Release, persons: &Value) -> Release {
        let Release { import, version, bundle, .. } = release;
        let about = [("bundle", bundle)];
        let seen = json!({
            "counter": import, "import": import, "name": "demo", "operator": "oskar",
            "persons": persons, "read_only": true, "version": version,
        });
        self.add(Event::MediaSeen, &format!("import/{import}/seen"), &about, &seen);
        let file = json!({
            "code": null, "file": 0, "kind": "weights", "scan": "off", "sha256": digest("weights"),
        });
        let inspection = json!({
            "accepted": 1, "files": [file], "not_scanned": 0, "refused": 0, "tool": "inspectd 0.1.0",
        });
        let mut facts = inspection.clone();
        facts["import"] = import.into();
        self.add(Event::Inspection, &format!("import/{import}/inspected"), &about, &facts);
        let figures = json!([{
            "active": null, "bound": 10, "candidate": 13, "name": "golden-passed", "passed": true,
        }]);
        let bounds = json!({"facility": facility(), "publisher": publisher()});
        release.policy = of_json(&bounds);
        release.found = json!({"figures": figures, "inspection": inspection});
        release.bind();
        let facts = json!({
            "bounds": bounds, "evidence": release.evidence, "figures": figures, "import": import,
            "policy": release.policy, "verdict": "passed",
        });
        let about = [("bundle", bundle), ("package", release.package)];
        release.judged = vec![self.texts.len()];
        self.add(Event::Evaluation, &format!("import/{import}/evaluation/1"), &about, &facts);
        release
    }

    /// A person approves it as it is now.
    pub(crate) fn approves(&mut self, release: &mut Release, person: &str, comment: &str) {
        let approval = Approval {
            package: release.package,
            bundle: GenerationId(release.bundle),
            policy: release.policy,
            evidence: release.evidence,
            log: self.head(),
            decision: Decision::Approve,
            person: person.parse().unwrap(),
            comment: comment.to_owned(),
        };
        release.approvals.push(self.texts.len());
        self.texts.push(approval.sign(&approver(person)).unwrap().to_json());
    }

    /// Ada and bob approve it.
    pub(crate) fn approved(&mut self, release: &mut Release) {
        self.approves(release, "ada", "ran well on the test bench \u{2713}");
        self.approves(release, "bob", "");
    }

    /// It runs beside the active one, and the report is part of what is approved from then on.
    pub(crate) fn shadows(&mut self, release: &mut Release) {
        let Release { import, bundle, .. } = *release;
        let facts = json!({"import": import, "seconds": 600, "trial": 7});
        self.add(Event::ShadowStarted, "trial/7", &[("bundle", bundle)], &facts);
        let report = json!({"active": {"answered": 6}, "candidate": {"answered": 6}, "same": 5});
        release.found["shadows"] = json!([{"report": report, "trial": 7}]);
        release.bind();
        let facts = json!({
            "ended": "asked", "import": import, "kind": "shadow", "lasted_s": 600,
            "report": report, "trial": 7,
        });
        let about = [("bundle", bundle), ("package", release.package)];
        release.judged.push(self.texts.len());
        self.add(Event::TrialEnded, "trial/7/end", &about, &facts);
    }

    /// Somebody has it judged again.
    pub(crate) fn asks(&mut self, release: &Release) {
        let Release { import, bundle, .. } = *release;
        let facts = json!({ "import": import });
        let act = format!("import/{import}/evaluate/1");
        self.add(Event::EvaluationAsked, &act, &[("bundle", bundle)], &facts);
    }

    /// A person allows to return to `to`.
    pub(crate) fn allows(&mut self, person: &str, to: &Release, from: &Release) {
        let (to, from) = (GenerationId(to.bundle), GenerationId(from.bundle));
        let matter = Matter::Downgrade { to, from };
        let consent = Consent { matter, log: self.head(), person: person.parse().unwrap() };
        self.texts.push(consent.unsigned().unwrap().sign_with(&approver(person)).to_json());
    }

    /// The intent alone; its position.
    pub(crate) fn intends(&mut self, kind: &str, release: &Release, from: Option<&Release>) -> u64 {
        self.activations += 1;
        let because = match kind {
            "activate" | "canary" => json!({"import": release.import, "package": release.package}),
            _ => json!({"reason": "operator"}),
        };
        let mut about = vec![("bundle", release.bundle)];
        about.extend(from.map(|from| ("from", from.bundle)));
        let facts = json!({"activation": self.activations, "because": because, "kind": kind});
        let act = format!("activation/{}/intent", self.activations);
        self.add(Event::ActivationIntent, &act, &about, &facts)
    }

    /// The intent, and what came of it; the intent's position. `from` is what was active.
    pub(crate) fn activates(
        &mut self,
        kind: &str,
        release: &Release,
        from: Option<&Release>,
        outcome: &str,
    ) -> u64 {
        let intent = self.intends(kind, release, from);
        let mut about = vec![("bundle", release.bundle)];
        if outcome == "promoted" {
            about.push(("active", release.bundle));
        } else {
            about.extend(from.map(|from| ("active", from.bundle)));
        }
        if kind == "activate" && outcome == "promoted" {
            about.push((SUMMARY, self.summarises(release)));
        }
        let facts = json!({
            "activation": self.activations, "code": null, "intent": intent, "kind": kind,
            "outcome": outcome,
        });
        let act = format!("activation/{}/outcome", self.activations);
        self.add(Event::ActivationOutcome, &act, &about, &facts);
        intent
    }

    fn summarises(&mut self, release: &Release) -> Digest {
        let input = |at: &usize| (*at as u64, Digest::of(&self.texts[*at]));
        let verified = Verified {
            bundle: release.bundle,
            name: "demo".to_owned(),
            version: release.version.to_owned(),
            policy: release.policy,
            inputs: release.judged.iter().chain(&release.approvals).map(input).collect(),
        };
        // Its time is that of the outcome, which is the record after it.
        let time = Time { rtc_s: self.time().rtc_s + 60, ..self.time() };
        let text = verified.sign(ORIGIN, &time, &key(self.host)).unwrap();
        self.texts.push(text.clone());
        Digest::of(&text)
    }

    /// The officers' next root comes into force.
    pub(crate) fn updates(&mut self, root: &[u8]) {
        let facts = json!({"root_version": 2});
        let about = [("trust-root", Digest::of(root))];
        self.add(Event::TrustUpdate, "trust/2", &about, &facts);
    }

    /// Ada and bob let the key of this seed take over.
    pub(crate) fn succeeds(&mut self, seed: u8) {
        let mut tree = Tree::new();
        self.texts.iter().for_each(|text| tree.push(leaf_hash(text)));
        let (origin, size, root) = (ORIGIN.to_owned(), tree.size(), tree.root());
        let (head, log) = (Checkpoint { origin, size, root }, self.head());
        for person in ["ada", "bob"] {
            let matter = succession::matter(&head, &log_key(seed));
            let consent = Consent { matter, log: log.clone(), person: person.parse().unwrap() };
            self.texts.push(consent.unsigned().unwrap().sign_with(&approver(person)).to_json());
        }
        let entry = succession::entry(&log_key(self.host), &log_key(seed), size);
        self.host = seed;
        self.write(&entry);
    }

    /// Under a checkpoint by the key of now.
    pub(crate) fn export(&self) -> Export {
        let mut tree = Tree::new();
        self.texts.iter().for_each(|text| tree.push(leaf_hash(text)));
        let (size, root) = (tree.size(), tree.root());
        assert!(size < WIDTH, "one bundle");
        let head = Checkpoint { origin: ORIGIN.to_owned(), size, root };
        let note = head.sign(&key(self.host)).unwrap();
        let mut export = Export::from([("checkpoint".to_owned(), note.into_bytes())]);
        for tile in tiles::all(size) {
            let bytes = match tile.kind {
                Kind::Entries => tiles::bundle(&self.texts).unwrap(),
                Kind::Hashes { .. } => tile.hashes(&tree),
            };
            export.insert(tile.path(), bytes);
        }
        export
    }
}
