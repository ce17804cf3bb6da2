//! Two verifiers that share no code agree on what was served rightly, over logs that are made up at
//! random of every step that leads there.

use cloister_attest::{
    Speaker,
    approval::{Approval, Decision},
    consent::{Consent, Matter},
};
use cloister_domain::{Digest, GenerationId, LogHead};
use cloister_record::{Host, Place, SUMMARY, Time, Trust, Verified, VerifierKey, sign};
use cloister_wire::record::{Entry, Event, Subject};
use serde_json::{Value, json};

use crate::{
    both::{both, codes, numbers},
    rounds::export,
    support::{ORIGIN, key, package, root},
};

/// Logs that are made up.
const LOGS: u64 = 300;

/// Numbers that are the same on every run (SplitMix64; Steele et al. 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn one_of<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }

    /// Mostly so, and now and then not.
    pub(crate) fn mostly(&mut self) -> bool {
        self.below(8) > 0
    }
}

/// A log that is made up.
pub(crate) struct Log {
    dice: Dice,
    texts: Vec<Vec<u8>>,
    /// Where the last verdict stands, and the approvals after it.
    inputs: Vec<usize>,
}

const TIME_S: u64 = 1_800_000_000;

pub(crate) fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

impl Log {
    fn add(&mut self, event: Event, subject: &[(&str, Digest)], facts: &Value, act: &str) {
        let named =
            |(name, sha256): &(&str, Digest)| Subject { name: (*name).to_owned(), sha256: *sha256 };
        let entry = Entry {
            event,
            act: act.to_owned(),
            subject: subject.iter().map(named).collect(),
            predicate: facts.as_object().unwrap().clone(),
        };
        let prev = self.texts.last().map(|text| Digest::of(text));
        let place = Place { seq: self.texts.len() as u64, prev };
        let host = Host { origin: ORIGIN.to_owned(), peers_are_separate: true };
        let time = Time { rtc_s: TIME_S, boot_id: None };
        self.texts.push(sign(&entry, place, &host, &time, &key(9)).unwrap());
    }

    /// A bundle, mostly the one that everything is about.
    fn bundle(&mut self) -> Digest {
        if self.dice.mostly() { digest("bundle") } else { digest("other") }
    }

    fn judged(&mut self) {
        let about = [("bundle", self.bundle()), ("package", package())];
        let verdict = if self.dice.mostly() { "passed" } else { "refused" };
        let policy = digest(if self.dice.mostly() { "policy" } else { "other" });
        let facts = json!({
            "import": 1, "verdict": verdict, "policy": policy, "evidence": digest("evidence"),
        });
        let at = self.texts.len();
        self.inputs = vec![at];
        self.add(Event::Evaluation, &about, &facts, &format!("import/1/evaluation/{at}"));
    }

    fn decide(&mut self) {
        let (person, seed) = self.dice.one_of(&[("ada", 9), ("bob", 10), ("ada", 9), ("bob", 10)]);
        let rejects = self.dice.below(20) == 0;
        let approval = Approval {
            package: if self.dice.mostly() { package() } else { digest("other") },
            bundle: GenerationId(self.bundle()),
            policy: digest("policy"),
            evidence: digest("evidence"),
            log: LogHead { origin: self.origin(), size: self.size() },
            decision: if rejects { Decision::Reject } else { Decision::Approve },
            person: person.parse().unwrap(),
            comment: String::new(),
        };
        let whole = (approval.package, approval.bundle.0) == (package(), digest("bundle"));
        if whole && !rejects {
            self.inputs.push(self.texts.len());
        }
        self.texts.push(approval.sign(&key(seed)).unwrap().to_json());
    }

    /// A person's leave to return below the floor; mostly two ask for the same.
    fn allow(&mut self) {
        for (person, seed) in [("ada", 9), ("bob", 10)] {
            let matter = Matter::Downgrade {
                to: GenerationId(self.bundle()),
                from: GenerationId(digest("bundle")),
            };
            let log = LogHead { origin: self.origin(), size: self.size() };
            let consent = Consent { matter, log, person: person.parse().unwrap() };
            self.texts.push(consent.unsigned().unwrap().sign_with(&key(seed)).to_json());
        }
    }

    /// The log's name, mostly.
    fn origin(&mut self) -> String {
        let name = if self.dice.mostly() || self.dice.mostly() { ORIGIN } else { "another" };
        name.to_owned()
    }

    /// The log's size, mostly.
    fn size(&mut self) -> u64 {
        let late = u64::from(!self.dice.mostly() && !self.dice.mostly());
        self.texts.len() as u64 + late
    }

    fn activate(&mut self) {
        let act = format!("activation/{}", self.texts.len());
        let bundle = self.bundle();
        let kinds = ["activate", "activate", "activate", "rollback", "canary", "downgrade", "leap"];
        let kind = self.dice.one_of(&kinds);
        let because = json!({"import": 1, "package": package()});
        let facts = json!({"kind": kind, "because": because});
        let about = [("bundle", bundle), ("from", digest("bundle"))];
        self.add(Event::ActivationIntent, &about, &facts, &format!("{act}/intent"));
        let good = if kind == "canary" { "begun" } else { "promoted" };
        let said = self.dice.one_of(&[good, good, good, "returned", "aborted", "begun"]);
        let active = self.dice.one_of(&[Some(bundle), Some(bundle), Some(digest("other")), None]);
        let mut about = vec![("bundle", bundle)];
        about.extend(active.map(|active| ("active", active)));
        if (kind == "activate" && said == "promoted") == self.dice.mostly() {
            let digest = self.summarise();
            if self.dice.mostly() {
                about.push((SUMMARY, digest));
            }
        }
        let facts = json!({ "outcome": said });
        self.add(Event::ActivationOutcome, &about, &facts, &format!("{act}/outcome"));
    }

    fn summarise(&mut self) -> Digest {
        let input = |at: &usize| (*at as u64, Digest::of(&self.texts[*at]));
        let verified = Verified {
            bundle: digest("bundle"),
            name: "demo".to_owned(),
            version: "1.0.0".to_owned(),
            policy: digest("policy"),
            inputs: self.inputs.iter().map(input).collect(),
        };
        let late = u64::from(!self.dice.mostly());
        let time = Time { rtc_s: TIME_S + late, boot_id: None };
        let text = verified.sign(ORIGIN, &time, &key(9)).unwrap();
        self.texts.push(text.clone());
        Digest::of(&text)
    }

    /// The log of this seed.
    pub(crate) fn made_up(seed: u64) -> Vec<Vec<u8>> {
        let mut log = Self { dice: Dice(seed), texts: Vec::new(), inputs: Vec::new() };
        let root = [("trust-root", Digest::of(&root()))];
        log.add(Event::AnchorEnrolment, &root, &json!({}), "anchor");
        let operator = log.dice.one_of(&["oskar", "oskar", "oskar", "ada"]);
        let seen = json!({"import": 1, "name": "demo", "version": "1.0.0", "operator": operator});
        log.add(Event::MediaSeen, &[("bundle", digest("bundle"))], &seen, "import/1/seen");
        log.judged();
        // Half of the logs are on the way to be good ones.
        if seed.is_multiple_of(2) {
            log.decide();
            log.decide();
            log.activate();
        }
        for _step in 0..log.dice.below(8) {
            match log.dice.below(14) {
                0 => log.judged(),
                1..=6 => log.decide(),
                7 => {
                    let act = format!("import/1/evaluate/{}", log.texts.len());
                    log.add(Event::EvaluationAsked, &[], &json!({"import": 1}), &act);
                }
                8 => {
                    let act = format!("policy/{}", log.texts.len());
                    let needed = log.dice.one_of(&[1, 2, 3]);
                    let facts = json!({ "approvals_needed": needed });
                    log.add(Event::PolicyChange, &[], &facts, &act);
                }
                9 => {
                    let act = format!("trial/{}/end", log.texts.len());
                    let package = log.dice.one_of(&[package(), digest("other")]);
                    let about = [("bundle", digest("bundle")), ("package", package)];
                    log.inputs.truncate(1);
                    log.inputs.push(log.texts.len());
                    log.add(Event::TrialEnded, &about, &json!({"import": 1}), &act);
                }
                10 => log.allow(),
                _ => log.activate(),
            }
        }
        log.texts
    }
}

/// What an auditor of these logs brings along.
pub(crate) fn trust() -> Trust {
    let keys = |seed: u8| Speaker::with(vec![vec![key(seed).public().into()]]);
    let persons = [("ada", keys(9)), ("bob", keys(10))];
    let persons = persons.map(|(name, keys)| (name.parse().unwrap(), keys)).into();
    let root = Digest::of(&root());
    let log = VerifierKey::new(ORIGIN, key(9).public()).unwrap();
    Trust { log, root, approvers: vec![(root, persons)], policy: None }
}

#[test]
fn two_verifiers_agree_on_what_was_served_rightly() {
    let said = both((0..LOGS).map(|seed| export(&Log::made_up(seed))), &trust());
    for (seed, said) in said.iter().enumerate() {
        assert_eq!(numbers(&said.ours), numbers(&said.theirs), "log {seed}");
    }
    let codes = codes(&said);
    for rule in [
        "unjudged",
        "unapproved",
        "rejected",
        "never-served",
        "kind",
        "outcome",
        "summary",
        "leave",
    ] {
        let code = format!("record.export.{rule}");
        assert!(codes.contains_key(code.as_str()), "no log breaks {rule}: {codes:?}");
    }
    assert!(codes["good"] > LOGS / 10, "{codes:?}");
}
