//! Records that hold together, and every way in which one does not.

use cloister_attest::{
    SigningKey,
    approval::{Approval, Decision},
    consent::{Consent, Matter},
    mldsa::{MlDsaSigningKey, ParameterSet},
};
use cloister_domain::{Coded, GenerationId, LogHead, Secret};
use cloister_wire::record::{Entry, Subject};
use serde_json::{Value, json};

use super::*;
use crate::{Host, Note, Numbers, Place, Verified, WitnessKey, sign, with_signatures};

mod promotions;
mod succession;

const ORIGIN: &str = "enclave/one";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
}

fn trust() -> Trust {
    Trust {
        log: VerifierKey::new(ORIGIN, key(1).public()).expect("a name"),
        root: Digest::of(b"root"),
        approvers: vec![(Digest::of(b"root"), ada(&[&[key(9).public().into()]]))],
        policy: None,
    }
}

/// What a root says of `ada`, and of `bob` with his key.
fn ada(sets: &[&[AnyKey]]) -> BTreeMap<Principal, Speaker> {
    let sets = Speaker::with(sets.iter().map(|keys| keys.to_vec()).collect());
    let bob = Speaker::with(vec![vec![key(10).public().into()]]);
    BTreeMap::from([("ada".parse().expect("a name"), sets), ("bob".parse().expect("a name"), bob)])
}

/// A log under construction, without any rule but the format.
#[derive(Default)]
struct Log(Vec<Vec<u8>>);

const TIME_S: u64 = 1_795_262_400;

impl Log {
    /// An entry with what it must say to stand in any good log that promoted `g`.
    fn add(&mut self, event: Event, act: &str) -> &mut Self {
        let bundle = [("bundle", Digest::of(b"g"))];
        match event {
            Event::AnchorEnrolment => {
                let root = [("trust-root", Digest::of(b"root"))];
                self.add_about(event, act, &root, &json!({}))
            }
            Event::ActivationIntent => {
                self.add_about(event, act, &bundle, &json!({"kind": "rollback"}))
            }
            Event::ActivationOutcome => {
                self.add_about(event, act, &bundle, &json!({"outcome": "promoted"}))
            }
            _ => self.add_about(event, act, &[], &json!({})),
        }
    }

    /// The log takes up another trust root.
    fn update(&mut self, root: Digest) -> &mut Self {
        self.add_about(Event::TrustUpdate, "trust/2", &[("trust-root", root)], &json!({}))
    }

    fn add_about(
        &mut self,
        event: Event,
        act: &str,
        subject: &[(&str, Digest)],
        facts: &Value,
    ) -> &mut Self {
        let named =
            |(name, sha256): &(&str, Digest)| Subject { name: (*name).to_owned(), sha256: *sha256 };
        let entry = Entry {
            event,
            act: act.to_owned(),
            subject: subject.iter().map(named).collect(),
            predicate: facts.as_object().expect("an object").clone(),
        };
        let place =
            Place { seq: self.0.len() as u64, prev: self.0.last().map(|text| Digest::of(text)) };
        let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
        self.0.push(sign(&entry, place, &host, &time(), &key(1)).expect("a good entry"));
        self
    }

    fn approve(&mut self, person: &str, seed: u8) -> &mut Self {
        self.decide(person, seed, |_approval| {})
    }

    /// The decision of a person about what [`Log::judged`] judged, changed before it is signed.
    fn decide(&mut self, person: &str, seed: u8, change: impl FnOnce(&mut Approval)) -> &mut Self {
        let mut approval = Approval {
            package: package(),
            bundle: GenerationId(Digest::of(b"g")),
            policy: Digest::of(b"policy"),
            evidence: Digest::of(b"evidence"),
            log: LogHead { origin: ORIGIN.to_owned(), size: 1 },
            decision: Decision::Approve,
            person: person.parse().expect("a name"),
            comment: String::new(),
        };
        change(&mut approval);
        self.0.push(approval.sign(&key(seed)).expect("short").to_json());
        self
    }

    /// The leave of a person to return to a release.
    fn allow(&mut self, person: &str, seed: u8, change: impl FnOnce(&mut Consent)) -> &mut Self {
        let [to, from] = [b"g", b"h"].map(|name| GenerationId(Digest::of(name)));
        let mut consent = Consent {
            matter: Matter::Downgrade { to, from },
            log: LogHead { origin: ORIGIN.to_owned(), size: 1 },
            person: person.parse().expect("a name"),
        };
        change(&mut consent);
        let envelope = consent.unsigned().expect("a small number").sign_with(&key(seed));
        self.0.push(envelope.to_json());
        self
    }

    /// Release `g` came in as import 1 and was judged good.
    fn judged(&mut self) -> &mut Self {
        let bundle = [("bundle", Digest::of(b"g"))];
        let seen = json!({"import": 1, "name": "demo", "version": "1.0.0", "operator": "oskar"});
        self.add_about(Event::MediaSeen, "import/1/seen", &bundle, &seen).evaluated("passed")
    }

    fn evaluated(&mut self, verdict: &str) -> &mut Self {
        let about = [("bundle", Digest::of(b"g")), ("package", package())];
        let (policy, evidence) = (Digest::of(b"policy"), Digest::of(b"evidence"));
        let facts =
            json!({"import": 1, "verdict": verdict, "policy": policy, "evidence": evidence});
        let act = format!("import/1/evaluation/{}", self.0.len());
        self.add_about(Event::Evaluation, &act, &about, &facts)
    }

    /// The intent to serve it.
    fn activate(&mut self) -> &mut Self {
        let because = json!({"import": 1, "package": package()});
        let facts = json!({"kind": "activate", "because": because});
        let act = format!("activation/{}/intent", self.0.len());
        self.add_about(Event::ActivationIntent, &act, &[("bundle", Digest::of(b"g"))], &facts)
    }

    /// The summary of what was verified, from these records.
    fn summarise(&mut self, inputs: &[usize]) -> Digest {
        let digest = |at: &usize| (*at as u64, Digest::of(&self.0[*at]));
        let verified = Verified {
            bundle: Digest::of(b"g"),
            name: "demo".to_owned(),
            version: "1.0.0".to_owned(),
            policy: Digest::of(b"policy"),
            inputs: inputs.iter().map(digest).collect(),
        };
        let text = verified.sign(ORIGIN, &time(), &key(1)).expect("integers");
        self.0.push(text.clone());
        Digest::of(&text)
    }

    /// The outcome of the last intent.
    fn promoted(&mut self, summary: Option<Digest>) -> &mut Self {
        let intent = self.0.iter().rev().find_map(|text| {
            match Record::parse(text).expect("our own").signer {
                Signer::Host { act, .. } => act.strip_suffix("/intent").map(str::to_owned),
                _ => None,
            }
        });
        let mut about = vec![("bundle", Digest::of(b"g")), ("active", Digest::of(b"g"))];
        about.extend(summary.map(|summary| (SUMMARY, summary)));
        let act = format!("{}/outcome", intent.expect("an intent"));
        let facts = json!({"outcome": "promoted"});
        self.add_about(Event::ActivationOutcome, &act, &about, &facts)
    }

    fn export(&self) -> Export {
        self.export_by(1)
    }

    /// Under a checkpoint by the key of this seed.
    fn export_by(&self, seed: u8) -> Export {
        let mut tree = Tree::new();
        for entry in &self.0 {
            tree.push(leaf_hash(entry));
        }
        let (size, root) = (tree.size(), tree.root());
        let note = Checkpoint { origin: ORIGIN.to_owned(), size, root }
            .sign(&key(seed))
            .expect("a good origin");
        let mut export = Export::from([("checkpoint".to_owned(), note.into_bytes())]);
        for tile in tiles::all(size) {
            let first = usize::try_from(tile.index * WIDTH).expect("small");
            let width = usize::try_from(tile.width).expect("small");
            let bytes = match tile.kind {
                Kind::Entries => tiles::bundle(&self.0[first..first + width]).expect("short"),
                Kind::Hashes { .. } => tile.hashes(&tree),
            };
            export.insert(tile.path(), bytes);
        }
        export
    }
}

/// What approvals of release `g` name: SHA-256 over evidence, manifest and policy.
fn package() -> Digest {
    let [evidence, manifest, policy] =
        ["evidence", "g", "policy"].map(|name| Digest::of(name.as_bytes()));
    let text =
        format!(r#"{{"evidence":"{evidence}","manifest":"{manifest}","policy":"{policy}"}}"#);
    Digest::of(text.as_bytes())
}

fn time() -> Time {
    Time { rtc_s: TIME_S, boot_id: Some("b".to_owned()) }
}

/// Release `g` is imported, judged, approved and served.
fn good() -> Log {
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0").judged().approve("ada", 9).approve("bob", 10);
    log.activate().add(Event::KeyChange, "key/1/created");
    let summary = log.summarise(&[2, 3, 4]);
    log.promoted(Some(summary));
    log
}

fn codes(log: &Log) -> Vec<&'static str> {
    verify(&log.export(), &trust()).faults.iter().map(Coded::code).collect()
}

#[test]
fn a_good_export_has_no_faults() {
    let report = verify(&good().export(), &trust());
    assert_eq!(report.faults, []);
    assert_eq!((report.size, report.records.len(), report.open_intent), (9, 9, None));
    let mut log = good();
    for count in 0..600 {
        log.add(Event::MediaSeen, &format!("media/{count}"));
    }
    log.add(Event::ActivationIntent, "activation/2/intent");
    let report = verify(&log.export(), &trust());
    assert_eq!(report.faults, []);
    assert_eq!(report.open_intent.as_deref(), Some("activation/2/intent"));
}

#[test]
fn a_log_contains_its_own_past_and_no_other() {
    let mut log = good();
    let earlier = log.export();
    log.add(Event::MediaSeen, "media/9");
    let later = log.export();
    let past = |export: &Export, kept: &Export| {
        check_past(export, &Keys::new(trust().log), &kept["checkpoint"])
            .map_err(|fault| fault.code())
    };
    assert_eq!(past(&later, &earlier), Ok(()));
    assert_eq!(past(&earlier, &earlier), Ok(()));
    assert_eq!(past(&earlier, &later), Err("record.export.past"), "it lost an entry");
    let mut other = good();
    other.add(Event::MediaSeen, "media/8");
    other.add(Event::MediaSeen, "media/9");
    assert_eq!(past(&other.export(), &later), Err("record.export.past"), "another past");
}

#[test]
fn any_flipped_byte_is_found() {
    let export = good().export();
    for (path, bytes) in &export {
        for place in 0..bytes.len() {
            let mut changed = export.clone();
            changed.get_mut(path).expect("there")[place] ^= 0x20;
            let faults = verify(&changed, &trust()).faults;
            assert!(!faults.is_empty(), "{path}, byte {place}");
        }
    }
}

#[test]
fn missing_and_additional_files_are_found() {
    let export = good().export();
    for path in export.keys() {
        let mut changed = export.clone();
        changed.remove(path);
        assert!(!verify(&changed, &trust()).faults.is_empty(), "{path}");
    }
    let mut changed = export;
    changed.insert("tile/2/000.p/1".to_owned(), Vec::new());
    assert_eq!(verify(&changed, &trust()).faults, [Fault::Extra]);
}

#[test]
fn another_key_name_or_root_is_found() {
    let export = good().export();
    let other_key =
        Trust { log: VerifierKey::new(ORIGIN, key(2).public()).expect("a name"), ..trust() };
    let other_name =
        Trust { log: VerifierKey::new("b", key(1).public()).expect("a name"), ..trust() };
    for trust in [other_key, other_name] {
        let faults = verify(&export, &trust).faults;
        assert_eq!(faults, [Fault::Checkpoint(RecordError::NoteSignature)]);
    }
    let other_root = Trust { root: Digest::of(b"other"), ..trust() };
    let faults = verify(&export, &other_root).faults;
    let unapproved = Fault::Unapproved { seq: 5, needed: 2, approvals: Numbers(Vec::new()) };
    let summary = Fault::Summary { seq: 8 };
    let nobody_knows = [Fault::Person { seq: 3 }, Fault::Person { seq: 4 }, unapproved, summary];
    assert_eq!(faults, [&[Fault::Anchor { seq: 0 }][..], &nobody_knows].concat());
    let nobody = Trust { approvers: Vec::new(), ..trust() };
    assert_eq!(verify(&export, &nobody).faults, nobody_knows);
}

#[test]
fn a_signed_log_that_breaks_a_rule_is_found() {
    for (log, code) in [
        (good().add(Event::AnchorEnrolment, "anchor/1"), "record.export.anchor"),
        (good().add(Event::KeyChange, "key/1/created"), "record.export.act"),
        (good().approve("bob", 9), "record.export.person"),
        (good().approve("eve", 9), "record.export.person"),
        (good().approve("ada", 8), "record.export.person"),
        (good().add(Event::ActivationOutcome, "activation/2/outcome"), "record.export.activation"),
        (
            good()
                .add(Event::ActivationIntent, "activation/2/intent")
                .add(Event::ActivationIntent, "activation/3/intent"),
            "record.export.activation",
        ),
    ] {
        assert_eq!(codes(log), [code]);
    }
    let mut without = good();
    without.0.remove(0);
    assert!(codes(&without).contains(&"record.export.anchor"));
    let mut swapped = good();
    swapped.0.swap(5, 6);
    assert!(codes(&swapped).contains(&"record.export.chain"));
    let mut stranger = good();
    stranger.0[1] = vec![b'{', b'}'];
    assert!(codes(&stranger).contains(&"record.export.entry"));
}

/// An approval by `ada` with these keys.
fn approved(keys: &[&dyn cloister_attest::Signer]) -> Vec<u8> {
    let approval = Approval {
        package: package(),
        bundle: GenerationId(Digest::of(b"g")),
        policy: Digest::of(b"policy"),
        evidence: Digest::of(b"evidence"),
        log: LogHead { origin: ORIGIN.to_owned(), size: 1 },
        decision: Decision::Approve,
        person: "ada".parse().expect("a name"),
        comment: String::new(),
    };
    let sign = |envelope: Envelope, key: &&dyn cloister_attest::Signer| {
        envelope.sign_by(*key).expect("signed")
    };
    keys.iter().fold(approval.unsigned().expect("short"), sign).to_json()
}

#[test]
fn an_approval_is_judged_by_the_root_in_force_and_neither_half_can_be_stripped() {
    let seed = Secret::new(vec![9; 32]);
    let quantum = MlDsaSigningKey::from_seed(ParameterSet::MlDsa65, &seed).expect("32 bytes");
    let (classical, next) = (key(9), Digest::of(b"root 2"));
    let (one, other) = (classical.public().into(), AnyKey::from(quantum.public().clone()));
    let mut trust = trust();
    trust.approvers.push((next, ada(&[&[one], &[other]])));
    let report = |keys: &[&dyn cloister_attest::Signer], updated: bool| {
        let mut log = Log::default();
        log.add(Event::AnchorEnrolment, "anchor/0");
        // What the root before allowed stays good.
        log.0.push(approved(&[&classical]));
        if updated {
            log.update(next);
        }
        log.0.push(approved(keys));
        verify(&log.export(), &trust).faults
    };
    assert_eq!(report(&[&classical], false), []);
    assert_eq!(report(&[&quantum], false), [Fault::Person { seq: 2 }]);
    assert_eq!(report(&[&classical, &quantum], true), []);
    for half in [&classical as &dyn cloister_attest::Signer, &quantum] {
        assert_eq!(report(&[half], true), [Fault::Person { seq: 3 }]);
        assert_eq!(report(&[half, half], true), [Fault::Person { seq: 3 }]);
    }
    trust.approvers[1] = (next, ada(&[]));
    let mut log = Log::default();
    log.add(Event::AnchorEnrolment, "anchor/0").update(next);
    log.0.push(approved(&[&classical, &quantum]));
    assert_eq!(verify(&log.export(), &trust).faults, [Fault::Person { seq: 2 }]);
    // A root that nobody brought along says nothing about anybody.
    trust.approvers.remove(1);
    let unknown = [Fault::UnknownRoot { seq: 1 }, Fault::Person { seq: 2 }];
    assert_eq!(verify(&log.export(), &trust).faults, unknown);
}

#[test]
fn no_older_trust_root_returns() {
    let [two, three] = [b"root 2", b"root 3"].map(|name| Digest::of(name));
    let mut trust = trust();
    let persons = trust.approvers[0].1.clone();
    trust.approvers.extend([(two, persons.clone()), (three, persons)]);
    let stranger = Digest::of(b"not brought along");
    let first = Digest::of(b"root");
    let older = |seq| Fault::OlderRoot { seq };
    let unknown = |seq| Fault::UnknownRoot { seq };
    for (roots, expected) in [
        (&[two, two, three][..], vec![]),
        (&[first, two], vec![]),
        (&[two, first], vec![older(2)]),
        (&[three, two], vec![older(2)]),
        (&[three, first, two, three], vec![older(2), older(3)]),
        // Nobody can say what a root is that was not brought along, and no detour by it leads back.
        (&[stranger], vec![unknown(1)]),
        (&[stranger, three], vec![unknown(1)]),
        (&[two, stranger, first], vec![unknown(2), older(3)]),
        (&[three, stranger, two], vec![unknown(2), older(3)]),
    ] {
        let mut log = Log::default();
        log.add(Event::AnchorEnrolment, "anchor/0");
        for (number, root) in roots.iter().enumerate() {
            let about = [("trust-root", *root)];
            log.add_about(Event::TrustUpdate, &format!("trust/{number}"), &about, &json!({}));
        }
        let faults = verify(&log.export(), &trust).faults;
        assert_eq!(faults, expected, "{roots:?}");
    }
}

#[test]
fn a_log_of_nothing_is_no_good_log() {
    assert_eq!(verify(&Log::default().export(), &trust()).faults, [Fault::Anchor { seq: 0 }]);
}

#[test]
fn a_size_beyond_the_files_ends_the_work() {
    let root = Digest::of(b"");
    let note = Checkpoint { origin: ORIGIN.to_owned(), size: u64::MAX, root }
        .sign(&key(1))
        .expect("a good origin");
    let export = Export::from([("checkpoint".to_owned(), note.into_bytes())]);
    let faults = verify(&export, &trust()).faults;
    assert!(matches!(faults.as_slice(), [Fault::Missing { .. }]));
}

#[test]
fn a_policy_is_asked_about_the_checkpoint() {
    let witness = WitnessKey::new("w", key(3).public()).expect("a name");
    let policy = format!("witness w {witness}\nquorum w\n");
    let policy = Some(Policy::parse(policy.as_bytes()).expect("a policy"));
    let trust = Trust { policy, ..trust() };
    let mut export = good().export();
    assert_eq!(verify(&export, &trust).faults, [Fault::Policy(RecordError::Quorum)]);
    let note = String::from_utf8(export["checkpoint"].clone()).expect("text");
    let text = Note::parse(&note).expect("a note").text();
    let signature = key(3).sign(WitnessKey::message(text, 7).as_bytes());
    let note = with_signatures(&note, &witness.line(7, &signature)).expect("a line");
    export.insert("checkpoint".to_owned(), note.into_bytes());
    let report = verify(&export, &trust);
    assert_eq!((report.faults, report.witnesses), (vec![], vec![("w".to_owned(), 7)]));
    // Of another log size the same witness said nothing.
    let mut longer = good();
    longer.add(Event::MediaSeen, "media/9");
    assert_eq!(verify(&longer.export(), &trust).faults, [Fault::Policy(RecordError::Quorum)]);
}

#[test]
fn each_entry_of_an_export_is_proved_alone() {
    let (log, trust) = (good(), trust());
    let export = log.export();
    let none = Policy::parse(b"quorum none\n").expect("a policy");
    for (index, text) in (0..).zip(&log.0) {
        let (proof, entry) = prove(&export, &trust.log, index).expect("an entry");
        assert_eq!(entry, text);
        let proof = LogProof::parse(&proof.to_text()).expect("our own text");
        assert_eq!(proof.check(text, &trust.log, &none).map(|good| good.checkpoint.size), Ok(9));
    }
    assert_eq!(prove(&export, &trust.log, 9), Err(Fault::NoEntry { size: 9 }));
}
