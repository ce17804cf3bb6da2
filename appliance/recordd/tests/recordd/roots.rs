//! Two verifiers that share no code agree on what persons signed under every trust root that an appliance
//! enrols: with keys of more than one kind, with ids of the officers' own, and without what may be missing.

use cloister_attest::{
    AnyKey, SigningKey,
    approval::{Approval, Decision},
    dsse::Envelope,
    json::canonical_tuf,
    mldsa::{MlDsaSigningKey, ParameterSet},
};
use cloister_domain::{Digest, GenerationId, LogHead, Secret};
use cloister_record::{Host, Place, Time, Trust, VerifierKey, sign};
use cloister_verify::auditors_view;
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::{Map, Value, json};

use crate::{
    both::{both_under, codes, second},
    promotions::{Dice, digest, trust as usual},
    rounds::export,
    support::{ORIGIN, approval, key, lay, package, root_of},
};

/// Logs that are made up.
const LOGS: u64 = 300;

/// The keys of an officer who signs and of one who does not, and those of ada and bob.
const OFFICERS: [u8; 2] = [8, 12];
const PERSONS: [(&str, u8); 2] = [("ada", 9), ("bob", 10)];

fn quantum(seed: u8) -> MlDsaSigningKey {
    MlDsaSigningKey::from_seed(ParameterSet::MlDsa65, &Secret::new(vec![seed; 32])).unwrap()
}

/// What roots say of keys and persons, each leaving out something else.
struct Maker {
    dice: Dice,
    keys: Map<String, Value>,
    persons: Map<String, Value>,
    approvers: Vec<String>,
    officers: Vec<String>,
}

impl Maker {
    /// Files a key under its id, or under one of the officers' own; the id.
    fn file(&mut self, object: &Value, own: &str, person: &str) -> String {
        let computed = Digest::of(&canonical_tuf(object).unwrap()).to_string();
        let opaque = self.dice.below(4) == 0;
        let id = if opaque { format!("of/{own}\n") } else { computed.clone() };
        self.keys.insert(id.clone(), object.clone());
        match self.dice.below(8) {
            // A key without a name is a person of its own.
            0 => {}
            1 => drop(self.persons.insert(computed, person.into())),
            _ => drop(self.persons.insert(id.clone(), person.into())),
        }
        id
    }

    fn new(seed: u64) -> Self {
        let mut this = Self {
            dice: Dice(seed),
            keys: Map::new(),
            persons: Map::new(),
            approvers: Vec::new(),
            officers: Vec::new(),
        };
        for (name, seed) in ["olga", "omar"].into_iter().zip(OFFICERS) {
            let id = this.file(&key(seed).public().to_object(), name, name);
            this.officers.push(id);
        }
        for (name, seed) in PERSONS {
            let mut object = key(seed).public().to_object();
            if this.dice.below(6) == 0 {
                // Other tools keep more of a key, and compute its id over that.
                object["keyid_hash_algorithms"] = json!(["sha256"]);
            }
            let id = this.file(&object, name, name);
            this.approvers.push(id);
            if this.dice.mostly() {
                let other = AnyKey::from(quantum(seed).public().clone()).to_object();
                let id = this.file(&other, &format!("{name}/2"), name);
                if this.dice.mostly() {
                    this.approvers.push(id);
                }
            }
        }
        if this.dice.below(4) == 0 {
            // Of a kind that TUF passes over.
            let object =
                json!({"keytype": "rsa", "scheme": "rsassa", "keyval": {"public": "x\ty"}});
            let id = this.file(&object, "rsa", "ada");
            this.approvers.push(id);
        }
        this
    }

    /// The root of this version, signed by one of its officers.
    fn root(&mut self, version: u64) -> Vec<u8> {
        let role = json!({"keyids": self.officers, "threshold": 1});
        let mut approvers = json!({"keyids": self.approvers, "threshold": 1});
        match self.dice.below(4) {
            0 => approvers["x-algorithms"] = json!(["ed25519"]),
            1 => approvers["x-algorithms"] = json!(["ed25519", "ml-dsa-65"]),
            _ => {}
        }
        let mut signed = json!({
            "_type": "root", "spec_version": "1.0.34", "version": version,
            "expires": "2046-01-01T00:00:00Z", "consistent_snapshot": false, "keys": self.keys,
            "roles": {"root": role, "timestamp": role, "snapshot": role, "targets": role},
            "x-cloister": {"persons": self.persons, "approvers": approvers},
            "x-note": "\u{1}\t\r\n\"\\u0041 \u{7f}\u{e9}\u{1f600}",
        });
        let own = signed["x-cloister"].as_object_mut().unwrap();
        match self.dice.below(16) {
            0 => drop(own.remove("persons")),
            1 => drop(own.remove("approvers")),
            2 => drop(signed.as_object_mut().unwrap().remove("x-cloister")),
            _ => {}
        }
        let message = canonical_tuf(&signed).unwrap();
        let sig: String =
            key(OFFICERS[0]).sign(&message).iter().map(|byte| format!("{byte:02x}")).collect();
        let signatures = json!([
            {"keyid": self.officers[1], "sig": "not yet!"},
            {"keyid": self.officers[0], "sig": sig},
        ]);
        json!({"signatures": signatures, "signed": signed}).to_string().into_bytes()
    }

    /// A person's decision, with signatures of one kind or both, or of other keys.
    fn decide(&mut self, size: u64) -> Vec<u8> {
        let (name, seed) = self.dice.one_of(&PERSONS);
        let nameless = key(seed).public().key_id();
        let name = if self.dice.below(4) == 0 { nameless } else { name.to_owned() };
        let approval = Approval {
            package: package(),
            bundle: GenerationId(digest("bundle")),
            policy: digest("policy"),
            evidence: digest("evidence"),
            log: LogHead { origin: ORIGIN.to_owned(), size },
            decision: Decision::Approve,
            person: name.parse().unwrap(),
            comment: String::new(),
        };
        let classical: fn(Envelope, &SigningKey) -> Envelope =
            |envelope, key| envelope.sign_with(key);
        let mut envelope = approval.unsigned().unwrap();
        match self.dice.below(6) {
            0 => envelope = envelope.sign_by(&quantum(seed)).unwrap(),
            1 | 2 => envelope = classical(envelope, &key(seed)),
            3 | 4 => envelope = classical(envelope, &key(seed)).sign_by(&quantum(seed)).unwrap(),
            _ => {
                envelope = classical(envelope, &key(seed)).sign_by(&quantum(11)).unwrap();
            }
        }
        match self.dice.below(8) {
            0 => envelope.signatures.reverse(),
            1 => {
                let id = self.dice.one_of(&self.approvers);
                envelope.signatures[0].keyid = id;
            }
            2 => {
                let last = envelope.signatures.len() - 1;
                envelope.signatures[last].sig[7] ^= 1;
            }
            3 => {
                // One more, by a key that may be of a kind that nobody here knows.
                let mut more = envelope.signatures[0].clone();
                more.keyid = self.approvers.last().unwrap().clone();
                envelope.signatures.push(more);
            }
            _ => {}
        }
        envelope.to_json()
    }
}

fn add(texts: &mut Vec<Vec<u8>>, event: Event, root: Digest) {
    let seq = texts.len() as u64;
    let entry = Entry {
        event,
        act: format!("act/{seq}"),
        subject: vec![Subject { name: "trust-root".to_owned(), sha256: root }],
        predicate: Map::new(),
    };
    let place = Place { seq, prev: texts.last().map(|text| Digest::of(text)) };
    let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
    let time = Time { rtc_s: 1_800_000_000, boot_id: None };
    texts.push(sign(&entry, place, &host, &time, &key(9)).unwrap());
}

/// A log and the roots that an auditor brings along for it.
fn made_up(seed: u64) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut maker = Maker::new(seed);
    let count = 1 + maker.dice.below(3);
    let roots: Vec<Vec<u8>> = (1..=count).map(|version| maker.root(version)).collect();
    let mut texts = Vec::new();
    add(&mut texts, Event::AnchorEnrolment, Digest::of(&roots[0]));
    for _step in 0..maker.dice.below(6) {
        if maker.dice.below(3) == 0 {
            let known = Digest::of(&maker.dice.one_of(&roots));
            let root = if maker.dice.mostly() { known } else { digest("not brought along") };
            add(&mut texts, Event::TrustUpdate, root);
        } else {
            let text = maker.decide(texts.len() as u64);
            texts.push(text);
        }
    }
    (texts, roots)
}

/// Officers may file a key under the id of another: whose each is, is read off the key. A signature on a root
/// names a key by what the root calls it, or by the SHA-256 of all of its object.
#[test]
fn a_key_under_the_id_of_another_is_whose_it_is() {
    let object = |seed: u8| key(seed).public().to_object();
    let id = |seed: u8| key(seed).public().key_id();
    let mut olga = object(8);
    olga["keyid_hash_algorithms"] = json!(["sha256"]);
    let whole = Digest::of(&canonical_tuf(&olga).unwrap()).to_string();
    let twisted = root_of(1, |signed| {
        signed["spec_version"] = "1.0.34".into();
        signed["expires"] = "2046-01-01T00:00:00Z".into();
        // What stands first in the text is the one whose id the other has.
        signed["keys"] = json!({
            "!olga": olga, whole.clone(): object(12), "!ada": object(9), id(9): object(10),
        });
        let role = json!({"keyids": ["!olga", whole], "threshold": 1});
        signed["roles"] =
            json!({"root": role, "timestamp": role, "snapshot": role, "targets": role});
        signed["x-cloister"] = json!({
            "approvers": {"keyids": ["!ada", id(9)], "threshold": 2},
            "persons": {"!olga": "olga", whole.clone(): "omar", "!ada": "ada", id(9): "bob"},
        });
    });
    let in_part = twisted;
    let text = std::str::from_utf8(&in_part).unwrap();
    let named = |id: &str| format!("\"keyid\":\"{id}\"");
    let twisted = text.replace(&named(&id(8)), &named(&whole)).into_bytes();
    let approved = |person: &str, seed: u8| {
        let mut texts = Vec::new();
        add(&mut texts, Event::AnchorEnrolment, Digest::of(&twisted));
        texts.push(approval(person, seed).to_json());
        (export(&texts), vec![twisted.clone()])
    };
    let cases = [("ada", 9, None), ("bob", 10, None), ("ada", 10, Some(1)), ("bob", 9, Some(1))];
    let exports = cases.map(|(person, seed, _)| approved(person, seed));
    let trust = Trust { log: VerifierKey::new(ORIGIN, key(9).public()).unwrap(), ..usual() };
    for (case, said) in cases.iter().zip(both_under(exports, &trust)) {
        assert_eq!(said.first(), [case.2; 2], "{case:?}: {:?} {:?}", said.ours, said.theirs);
    }
    // By the SHA-256 of a part of its object no signature names it.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("root.json"), &in_part).unwrap();
    lay(&folder.path().join("exports/0"), &export(&[approval("ada", 9).to_json()]));
    let theirs = second(folder.path(), &trust.log.to_string());
    assert_eq!(theirs, [["a root is not signed by enough persons"]]);
    assert!(auditors_view(&[&in_part]).is_err());
}

#[test]
fn two_verifiers_agree_under_every_root_that_is_enrolled() {
    let log = VerifierKey::new(ORIGIN, key(9).public()).unwrap();
    let trust = Trust { log, ..usual() };
    let cases = (0..LOGS).map(made_up).map(|(texts, roots)| (export(&texts), roots));
    let said = both_under(cases, &trust);
    let mut halves = 0;
    for (seed, said) in said.iter().enumerate() {
        // Where both halves are asked for, only the first can tell, and the second says so.
        if said.theirs.iter().any(|why| why.contains("only cloister checks")) {
            halves += 1;
            continue;
        }
        let [ours, theirs] = said.first();
        assert_eq!(ours, theirs, "log {seed}: {:?} {:?}", said.ours, said.theirs);
    }
    let codes = codes(&said);
    assert!(halves > 10 && codes["good"] > LOGS / 8, "{halves} {codes:?}");
    assert!(codes["record.export.person"] > LOGS / 8, "{codes:?}");
    for code in ["record.export.older-root", "record.export.unknown-root"] {
        assert!(codes.get(code).is_some_and(|count| *count > 3), "{code}: {codes:?}");
    }
}
