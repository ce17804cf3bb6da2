//! Two verifiers that share no code agree on which key signs a log, over logs that are made up at random
//! of successions with every slip.

use cloister_attest::{
    consent::{Consent, Matter},
    dsse::Envelope,
    json,
};
use cloister_domain::{Digest, LogHead};
use cloister_record::{
    Checkpoint, Host, Place, Time, Trust, VerifierKey, sign, succession,
    tree::{Tree, leaf_hash},
};
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::json;

use crate::{
    both::{Said, WHOLE, both, codes, numbers},
    promotions::{self, Dice},
    rounds::export_by,
    support::{ORIGIN, key, root},
};

/// Logs that are made up.
const LOGS: u64 = 400;

/// Seeds of host keys, the first one first.
const KEYS: [u8; 4] = [70, 71, 72, 73];

struct Log {
    dice: Dice,
    texts: Vec<Vec<u8>>,
    /// The seed of the key that signs what comes next.
    key: u8,
}

fn verifier(seed: u8) -> VerifierKey {
    VerifierKey::new(ORIGIN, key(seed).public()).unwrap()
}

impl Log {
    fn add(&mut self, entry: &Entry, seed: u8) {
        let prev = self.texts.last().map(|text| Digest::of(text));
        let place = Place { seq: self.texts.len() as u64, prev };
        let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
        let time = Time { rtc_s: 1_800_000_000, boot_id: None };
        self.texts.push(sign(entry, place, &host, &time, &key(seed)).unwrap());
    }

    /// An entry about nothing that matters, mostly by the log's key.
    fn go_on(&mut self) {
        let event = self.dice.one_of(&[Event::MediaSeen, Event::KeyChange]);
        let seed = if self.rarely() { self.dice.one_of(&KEYS) } else { self.key };
        let act = format!("act/{}", self.texts.len());
        self.add(&entry(event, &act, "bundle", &json!({})), seed);
    }

    fn ask_for(&mut self, needed: u64) {
        let act = format!("policy/{}", self.texts.len());
        let facts = json!({ "approvals_needed": needed });
        self.add(&entry(Event::PolicyChange, &act, "policy", &facts), self.key);
    }

    /// Now and then.
    fn rarely(&mut self) -> bool {
        self.dice.below(24) == 0
    }

    fn head(&self, size: usize) -> Checkpoint {
        let mut tree = Tree::new();
        self.texts[..size].iter().for_each(|text| tree.push(leaf_hash(text)));
        Checkpoint { origin: ORIGIN.to_owned(), size: tree.size(), root: tree.root() }
    }

    /// One person's word for a key, mostly over the log as it is at `size`.
    fn word(&mut self, person: (&str, u8), seed: u8, size: usize) {
        let before = usize::from(self.rarely());
        let head = self.head(size - before);
        let next = if self.rarely() { self.dice.one_of(&KEYS) } else { seed };
        let Matter::Succession { mut checkpoint, key: id } =
            succession::matter(&head, &verifier(next))
        else {
            panic!("a succession")
        };
        if self.rarely() {
            checkpoint = Digest::of(b"other");
        }
        let late = u64::from(self.rarely());
        let origin = if self.rarely() { "enclave/other" } else { ORIGIN };
        let consent = Consent {
            matter: Matter::Succession { checkpoint, key: id },
            log: LogHead { origin: origin.to_owned(), size: head.size + late },
            person: person.0.parse().unwrap(),
        };
        let signer = if self.rarely() { 8 } else { person.1 };
        let mut envelope = consent.unsigned().unwrap();
        if self.rarely() {
            self.respell(&mut envelope);
        }
        self.texts.push(envelope.sign_with(&key(signer)).to_json());
    }

    /// The word in another form, or with its subjects in another order or under other names.
    fn respell(&mut self, envelope: &mut Envelope) {
        let mut statement = json::parse_strict(&envelope.payload, json::DEPTH_MAX).unwrap();
        match self.dice.below(4) {
            0 => statement["subject"].as_array_mut().unwrap().reverse(),
            1 => {
                statement["subject"][0]["name"] = "checkpoint host-key".into();
                statement["subject"].as_array_mut().unwrap().truncate(1);
            }
            2 => statement["predicate"]["decision"] = json!({"consent": null}),
            _ => {
                let log = statement["predicate"]["log"].clone();
                statement["predicate"]["log"] = json!([log["origin"], log["size"]]);
            }
        }
        envelope.payload = json::canonical(&statement).unwrap();
    }

    /// Persons' words and the entry of a new key, each with a slip now and then.
    fn succeed(&mut self) {
        let size = self.texts.len();
        let others: Vec<u8> = KEYS.into_iter().filter(|seed| *seed > self.key).collect();
        let fresh = !others.is_empty() && self.dice.mostly();
        let next = self.dice.one_of(if fresh { &others } else { &KEYS });
        let everybody = [("ada", 9), ("bob", 10), ("ada", 9)];
        let mut count = self.dice.one_of(&[2, 2, 2, 2, 3, 1, 0]);
        if self.rarely() {
            // Nobody takes over after all.
            count += 1;
        }
        for person in everybody.iter().cycle().take(count) {
            self.word(*person, next, size);
        }
        if self.rarely() {
            return self.go_on();
        }
        let former = if self.rarely() { self.dice.one_of(&KEYS) } else { self.key };
        let told = if self.rarely() { size + 1 } else { size };
        let mut taken = succession::entry(&verifier(former), &verifier(next), told as u64);
        taken.act = format!("succession/{}", self.texts.len());
        match self.dice.below(40) {
            0 => taken.subject.reverse(),
            1 => taken.subject.truncate(1),
            2 => drop(taken.predicate.insert("more".to_owned(), json!(1))),
            3 => drop(taken.predicate.insert("log_key".to_owned(), json!("nonsense"))),
            4 => drop(taken.predicate.insert("size".to_owned(), json!(true))),
            5 => {
                let other = VerifierKey::new("enclave/other", key(next).public()).unwrap();
                taken.predicate.insert("log_key".to_owned(), json!(other.to_string()));
            }
            _ => {}
        }
        let signer = if self.rarely() { self.key } else { next };
        self.add(&taken, signer);
        if self.dice.mostly() {
            self.key = next;
        }
    }

    fn made_up(seed: u64) -> (Vec<Vec<u8>>, u8) {
        let mut log = Self { dice: Dice(seed), texts: Vec::new(), key: KEYS[0] };
        let anchor = entry(Event::AnchorEnrolment, "anchor", "trust-root", &json!({}));
        log.add(&anchor, KEYS[0]);
        for _step in 0..log.dice.below(6) {
            match log.dice.below(10) {
                0 => {
                    let needed = log.dice.one_of(&[1, 2, 3]);
                    log.ask_for(needed);
                }
                1..=3 => log.go_on(),
                _ => log.succeed(),
            }
        }
        if log.rarely() {
            let size = log.texts.len();
            log.word(("ada", 9), KEYS[1], size);
        }
        let signer = if log.rarely() { log.dice.one_of(&KEYS) } else { log.key };
        (log.texts, signer)
    }
}

fn entry(event: Event, act: &str, about: &str, facts: &serde_json::Value) -> Entry {
    let sha256 = if about == "trust-root" { Digest::of(&root()) } else { Digest::of(b"x") };
    let subject = vec![Subject { name: about.to_owned(), sha256 }];
    let predicate = facts.as_object().unwrap().clone();
    Entry { event, act: act.to_owned(), subject, predicate }
}

#[test]
fn two_verifiers_agree_on_which_key_signs() {
    let trust = Trust { log: verifier(KEYS[0]), ..promotions::trust() };
    let logs = (0..LOGS).map(Log::made_up);
    let said = both(logs.map(|(texts, signer)| export_by(&texts, signer)), &trust);
    for (seed, Said { ours, theirs, .. }) in said.iter().enumerate() {
        assert_eq!(numbers(ours), numbers(theirs), "log {seed}: {ours:?} {theirs:?}");
    }
    let codes = codes(&said);
    for rule in ["succession", "successor", "word", "person", "entry", "checkpoint"] {
        let code = format!("record.export.{rule}");
        assert!(codes.get(code.as_str()).is_some_and(|count| *count > 5), "{rule}: {codes:?}");
    }
    let whole = said.iter().any(|said| numbers(&said.ours).contains(&WHOLE));
    assert!(whole, "a checkpoint by another key");
    let good = said.iter().map(|said| &said.report).filter(|report| report.faults.is_empty());
    let succeeded = good.filter(|report| report.keys.all().count() > 1).count();
    assert!(succeeded as u64 > LOGS / 20, "{succeeded} of {codes:?}");
}
