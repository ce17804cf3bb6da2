//! What one entry of the log says: an in-toto statement in a DSSE envelope, signed by the host or,
//! for an approval and what else persons allow, by a person.

use std::collections::BTreeSet;

use cloister_attest::{
    AttestError, Checker, PublicKey, SigningKey,
    approval::Approval,
    consent::Consent,
    dsse::Envelope,
    statement::{Statement, Subject, predicate_type},
};
use cloister_domain::{Digest, Principal};
use cloister_wire::record::{Entry, Event};
use serde_json::{Map, Value, json};

use crate::{RecordError, summary::SUMMARY_TYPE};

/// The largest envelope text that becomes an entry, in bytes. A tlog-tiles bundle could carry
/// 65535; what needs more belongs into a file of its own, named in the record by its digest.
pub const ENVELOPE_BYTES_MAX: usize = 48 << 10;

/// The longest name of an act, in bytes; two digests and some words fit.
const ACT_BYTES_MAX: usize = 200;

/// How the act of an intent ends, and that of its outcome.
const INTENT: &str = "/intent";
const OUTCOME: &str = "/outcome";

/// Whether the daemons run as users of their own, in the words of a record.
const SEPARATE: &str = "separate";
const SHARED: &str = "shared";

/// The event's name in records, and in the predicate type of its statement.
#[must_use]
pub const fn event_name(event: Event) -> &'static str {
    match event {
        Event::AnchorEnrolment => "anchor-enrolment",
        Event::MediaSeen => "media-seen",
        Event::ImportAccepted => "import-accepted",
        Event::ImportRefused => "import-refused",
        Event::Inspection => "inspection",
        Event::Evaluation => "evaluation",
        Event::EvaluationAsked => "evaluation-asked",
        Event::PolicyChange => "policy-change",
        Event::Approval => "approval",
        Event::Downgrade => "downgrade",
        Event::Acknowledgement => "acknowledgement",
        Event::Succession => "succession",
        Event::KeySuccession => "key-succession",
        Event::ActivationIntent => "activation-intent",
        Event::ActivationOutcome => "activation-outcome",
        Event::ShadowStarted => "shadow-started",
        Event::TrialEnded => "trial-ended",
        Event::Rollback => "rollback",
        Event::Pin => "pin",
        Event::Sweep => "sweep",
        Event::Scrub => "scrub",
        Event::Damage => "damage",
        Event::ActRefused => "act-refused",
        Event::TrustUpdate => "trust-update",
        Event::KeyChange => "key-change",
        Event::DocumentDeleted => "document-deleted",
        Event::StateRebuilt => "state-rebuilt",
        Event::Inventory => "inventory",
        Event::VerificationSummary => "verification-summary",
        Event::Configuration => "configuration",
    }
}

/// All events, in the order of their declaration.
const EVENTS: [Event; 30] = [
    Event::AnchorEnrolment,
    Event::MediaSeen,
    Event::ImportAccepted,
    Event::ImportRefused,
    Event::Inspection,
    Event::Evaluation,
    Event::EvaluationAsked,
    Event::PolicyChange,
    Event::Approval,
    Event::Downgrade,
    Event::Acknowledgement,
    Event::Succession,
    Event::KeySuccession,
    Event::ActivationIntent,
    Event::ActivationOutcome,
    Event::ShadowStarted,
    Event::TrialEnded,
    Event::Rollback,
    Event::Pin,
    Event::Sweep,
    Event::Scrub,
    Event::Damage,
    Event::ActRefused,
    Event::TrustUpdate,
    Event::KeyChange,
    Event::DocumentDeleted,
    Event::StateRebuilt,
    Event::Inventory,
    Event::VerificationSummary,
    Event::Configuration,
];

/// The event whose statements have this predicate type.
fn event_of(kind: &str) -> Option<Event> {
    if kind == SUMMARY_TYPE {
        return Some(Event::VerificationSummary);
    }
    let (head, name) = kind.strip_suffix("/v1")?.rsplit_once('/')?;
    let event = EVENTS.into_iter().find(|event| event_name(*event) == name)?;
    let ours =
        event != Event::VerificationSummary && predicate_type(name) == format!("{head}/{name}/v1");
    ours.then_some(event)
}

/// Whether entries of this event are a person's own envelope; all others are the host's.
#[must_use]
pub fn is_signed_by_a_person(event: Event) -> bool {
    matches!(event, Event::Approval | Event::Downgrade | Event::Acknowledgement | Event::Succession)
}

/// Whether entries of this event have an act, and are appended by whoever did it.
#[must_use]
pub fn is_act_of_the_host(event: Event) -> bool {
    !is_signed_by_a_person(event) && event != Event::VerificationSummary
}

/// Whether `act` can name an act: 1 to 200 characters of `a-z 0-9 . _ - /`.
#[must_use]
pub fn is_act(act: &str) -> bool {
    let plain = |c: u8| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'_' | b'-' | b'/')
    };
    (1..=ACT_BYTES_MAX).contains(&act.len()) && act.bytes().all(plain)
}

/// The act of the intent that the outcome `act` ends, if `act` is an outcome's.
#[must_use]
pub fn intent_of(act: &str) -> Option<String> {
    act.strip_suffix(OUTCOME).map(|stem| format!("{stem}{INTENT}"))
}

/// Which machine an entry is about, beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The log's name.
    pub origin: String,
    /// Whether the daemons run as different users, so that one cannot speak for another.
    pub peers_are_separate: bool,
}

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its position, from 0.
    pub seq: u64,
    /// SHA-256 of the envelope text before it; absent for the first.
    pub prev: Option<Digest>,
}

/// What the machine believed the time to be; nobody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970 (UTC).
    pub rtc_s: u64,
    /// The kernel's name for this boot (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: Option<String>,
}

/// The envelope text of an entry that the host vouches for, signed by `key`.
///
/// The statement's subject is the entry's; an entry about nothing that has a digest is about the
/// host, and names the host key.
///
/// # Errors
/// [`RecordError::Act`], also for an intent whose outcome's act would be too long,
/// [`RecordError::ActPair`], [`RecordError::Signer`] for an event that persons sign, [`RecordError::Number`], and [`RecordError::TooLong`] beyond [`ENVELOPE_BYTES_MAX`].
pub fn sign(
    entry: &Entry,
    place: Place,
    host: &Host,
    time: &Time,
    key: &SigningKey,
) -> Result<Vec<u8>, RecordError> {
    // An intent that no outcome could be named after would stay open for ever.
    let ends = entry.event != Event::ActivationIntent || entry.act.len() < ACT_BYTES_MAX;
    if !is_act(&entry.act) || !ends {
        return Err(RecordError::Act);
    }
    if !is_paired(entry.event, &entry.act) {
        return Err(RecordError::ActPair);
    }
    if !is_act_of_the_host(entry.event) {
        return Err(RecordError::Signer);
    }
    let key_id = key.public().key_id();
    let mut subject: Vec<Subject> = entry
        .subject
        .iter()
        .map(|subject| Subject { name: subject.name.clone(), sha256: subject.sha256 })
        .collect();
    if subject.is_empty() {
        let sha256 = key_id.parse().expect("a key id is a SHA-256");
        subject.push(Subject { name: "host-key".to_owned(), sha256 });
    }
    let mut when = Map::from_iter([
        ("rtc_s".to_owned(), Value::from(time.rtc_s)),
        ("trusted".to_owned(), Value::Bool(false)),
    ]);
    if let Some(boot_id) = &time.boot_id {
        when.insert("boot_id".to_owned(), Value::String(boot_id.clone()));
    }
    let peers = if host.peers_are_separate { SEPARATE } else { SHARED };
    let statement = Statement {
        subject,
        predicate_type: predicate_type(event_name(entry.event)),
        predicate: json!({
            "act": entry.act,
            "event": event_name(entry.event),
            "facts": entry.predicate,
            "host": {"key": key_id, "origin": host.origin, "peers": peers},
            "prev": place.prev.map(|digest| digest.to_string()),
            "seq": place.seq,
            "time": when,
        }),
    };
    let envelope = statement.envelope().map_err(|_number| RecordError::Number)?;
    let text = envelope.sign_with(key).to_json();
    if text.len() > ENVELOPE_BYTES_MAX {
        return Err(RecordError::TooLong { bytes: text.len(), max: ENVELOPE_BYTES_MAX });
    }
    Ok(text)
}

fn is_paired(event: Event, act: &str) -> bool {
    match event {
        Event::ActivationIntent => act.ends_with(INTENT),
        Event::ActivationOutcome => act.ends_with(OUTCOME),
        _ => true,
    }
}

/// Whose signature an entry carries, with what only such entries say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The host.
    Host {
        /// The act's own name.
        act: String,
        /// Where the entry says that it stands.
        place: Place,
        /// The machine, as the entry gives it.
        host: Host,
        /// The time, as the machine believed it.
        time: Time,
        /// The facts.
        facts: Map<String, Value>,
    },
    /// A person.
    Person(Box<Said>),
    /// The host, for a summary of what it verified.
    Summary(Box<Statement>),
}

/// What a person said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// That a release may be served, or must not.
    Decision(Approval),
    /// That something else may happen.
    Consent(Consent),
}

impl Said {
    /// The person, by the name that the statement gives.
    #[must_use]
    pub const fn person(&self) -> &Principal {
        match self {
            Self::Decision(approval) => &approval.person,
            Self::Consent(consent) => &consent.person,
        }
    }
}

/// An entry as read from the log. Whether its signature holds is [`Record::envelope`]'s to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub event: Event,
    /// The digest-named things that it is about.
    pub subject: Vec<(String, Digest)>,
    /// Who signed it, with what such entries say.
    pub signer: Signer,
    /// The envelope.
    pub envelope: Envelope,
}

impl Record {
    /// Reads an entry's bytes.
    ///
    /// # Errors
    /// [`RecordError::TooLong`], [`RecordError::Envelope`] and [`RecordError::Statement`].
    pub fn parse(text: &[u8]) -> Result<Self, RecordError> {
        if text.len() > ENVELOPE_BYTES_MAX {
            return Err(RecordError::TooLong { bytes: text.len(), max: ENVELOPE_BYTES_MAX });
        }
        let envelope = Envelope::parse_exact(text).map_err(RecordError::Envelope)?;
        let statement = Statement::exactly_of(&envelope).map_err(RecordError::Envelope)?;
        let event = event_of(&statement.predicate_type).ok_or(RecordError::Statement)?;
        let names: BTreeSet<&str> =
            statement.subject.iter().map(|subject| subject.name.as_str()).collect();
        // Of two things of one name each reader could take another.
        if names.len() != statement.subject.len() || !statement.predicate.is_object() {
            return Err(RecordError::Statement);
        }
        let signer = if is_signed_by_a_person(event) {
            Signer::Person(Box::new(said(event, &envelope).map_err(RecordError::Envelope)?))
        } else if event == Event::VerificationSummary {
            Signer::Summary(Box::new(statement.clone()))
        } else {
            let signer = host_signer(event, &statement.predicate, &envelope);
            signer.ok_or(RecordError::Statement)?
        };
        let subject = statement.subject.into_iter().map(|one| (one.name, one.sha256)).collect();
        Ok(Self { event, subject, signer, envelope })
    }

    /// What it is about by this name.
    #[must_use]
    pub fn about(&self, name: &str) -> Option<Digest> {
        self.subject.iter().find(|(one, _)| one == name).map(|(_, sha256)| *sha256)
    }

    /// Whether the host is to have signed it.
    #[must_use]
    pub fn is_by_the_host(&self) -> bool {
        !is_signed_by_a_person(self.event)
    }

    /// Checks that `key` signed the entry, and nobody else.
    ///
    /// # Errors
    /// [`RecordError::Envelope`].
    pub fn check_signed_by(&self, key: &PublicKey) -> Result<(), RecordError> {
        let verdict = Self::check_all_by(&[self], &key.checker()).pop();
        verdict.expect("a verdict for each")
    }

    /// As [`Record::check_signed_by`] of each of `records`, with a key that is ready for many.
    pub(crate) fn check_all_by(records: &[&Self], key: &Checker) -> Vec<Result<(), RecordError>> {
        let messages: Vec<Vec<u8>> = records.iter().map(|one| one.envelope.pae()).collect();
        let alone = |record: &'_ &Self| match record.envelope.signatures.as_slice() {
            [signature] => (signature.keyid == key.key_id(), signature.sig.clone()),
            _ => (false, Vec::new()),
        };
        let alone: Vec<(bool, Vec<u8>)> = records.iter().map(alone).collect();
        let signed: Vec<(&[u8], &[u8])> = messages
            .iter()
            .zip(&alone)
            .map(|(message, (_, sig))| (message.as_slice(), sig.as_slice()))
            .collect();
        let verdicts = key.verify_all(&signed).into_iter().zip(&alone);
        let judged = verdicts.map(|(verdict, (named, _))| match verdict {
            Ok(()) if *named => Ok(()),
            Ok(()) => Err(RecordError::Envelope(AttestError::SignatureWrong)),
            Err(kind) => Err(RecordError::Envelope(kind)),
        });
        judged.collect()
    }
}

/// What an entry says that a person signed.
fn said(event: Event, envelope: &Envelope) -> Result<Said, AttestError> {
    if event == Event::Approval {
        Approval::of(envelope).map(Said::Decision)
    } else {
        Consent::of(envelope).map(Said::Consent)
    }
}

/// An object that has these fields and no other.
fn only<'a>(value: &'a Value, names: &[&str]) -> Option<&'a Map<String, Value>> {
    let fields = value.as_object()?;
    let known = fields.keys().all(|key| names.contains(&key.as_str()));
    (known && fields.len() == names.len()).then_some(fields)
}

/// The predicate of a host's entry; absent if a field is missing, unknown or of another kind, or names
/// another key than the signature in the envelope.
fn host_signer(event: Event, predicate: &Value, envelope: &Envelope) -> Option<Signer> {
    let fields = only(predicate, &["act", "event", "facts", "host", "prev", "seq", "time"])?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let act = text(fields.get("act")?)?;
    let good = is_act(&act) && is_paired(event, &act);
    if !good || fields.get("event")?.as_str()? != event_name(event) {
        return None;
    }
    let prev = match fields.get("prev")? {
        Value::Null => None,
        digest => Some(digest.as_str()?.parse().ok()?),
    };
    let time = fields.get("time")?;
    let names = ["rtc_s", "trusted", "boot_id"];
    let named = if time.get("boot_id").is_some() { &names[..] } else { &names[..2] };
    let time = only(time, named)?;
    if time.get("trusted")?.as_bool()? {
        return None;
    }
    let boot_id = match time.get("boot_id") {
        None => None,
        Some(id) => Some(text(id)?),
    };
    let host = only(fields.get("host")?, &["key", "origin", "peers"])?;
    let by = envelope.signatures.first().map(|signature| signature.keyid.as_str());
    if host.get("key")?.as_str() != by {
        return None;
    }
    let peers_are_separate = match host.get("peers")?.as_str()? {
        SEPARATE => true,
        SHARED => false,
        _ => return None,
    };
    Some(Signer::Host {
        act,
        place: Place { seq: fields.get("seq")?.as_u64()?, prev },
        host: Host { origin: text(host.get("origin")?)?, peers_are_separate },
        time: Time { rtc_s: time.get("rtc_s")?.as_u64()?, boot_id },
        facts: fields.get("facts")?.as_object()?.clone(),
    })
}

#[cfg(test)]
mod tests {
    use cloister_domain::Secret;
    use cloister_wire::record;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
    }

    fn entry(event: Event, act: &str) -> Entry {
        let facts = Map::from_iter([("bytes".to_owned(), Value::from(7))]);
        let subject =
            vec![record::Subject { name: "bundle".to_owned(), sha256: Digest::of(b"bundle") }];
        Entry { event, act: act.to_owned(), subject, predicate: facts }
    }

    fn host() -> Host {
        Host { origin: "enclave/one".to_owned(), peers_are_separate: false }
    }

    const TIME: Time = Time { rtc_s: 1_700_000_000, boot_id: None };

    #[test]
    fn an_entry_returns_from_its_envelope_text() {
        let place = Place { seq: 3, prev: Some(Digest::of(b"before")) };
        let entry = entry(Event::ImportAccepted, "import/3/accepted");
        let text = sign(&entry, place, &host(), &TIME, &key(1)).expect("a good entry");
        let record = Record::parse(&text).expect("our own text");
        assert_eq!(record.event, Event::ImportAccepted);
        assert_eq!(record.subject, [("bundle".to_owned(), Digest::of(b"bundle"))]);
        assert_eq!(
            record.signer,
            Signer::Host {
                act: entry.act,
                place,
                host: host(),
                time: TIME,
                facts: entry.predicate,
            }
        );
        assert_eq!(record.check_signed_by(&key(1).public()), Ok(()));
        assert!(record.check_signed_by(&key(2).public()).is_err());
    }

    #[test]
    fn events_have_the_names_of_the_wire() {
        for event in EVENTS {
            assert_eq!(serde_json::to_value(event).expect("a name"), event_name(event));
        }
    }

    #[test]
    fn an_entry_that_the_log_cannot_take_is_refused() {
        let place = Place { seq: 0, prev: None };
        let refused =
            |entry: &Entry| sign(entry, place, &host(), &TIME, &key(1)).expect_err("refused");
        assert_eq!(refused(&entry(Event::MediaSeen, "")), RecordError::Act);
        assert_eq!(refused(&entry(Event::MediaSeen, "A b")), RecordError::Act);
        assert_eq!(refused(&entry(Event::MediaSeen, &"x".repeat(201))), RecordError::Act);
        assert_eq!(refused(&entry(Event::ActivationIntent, "a/1")), RecordError::ActPair);
        let long = |bytes: usize| entry(Event::ActivationIntent, &("x".repeat(bytes - 7) + INTENT));
        assert_eq!(refused(&long(200)), RecordError::Act);
        assert!(sign(&long(199), place, &host(), &TIME, &key(1)).is_ok());
        assert_eq!(refused(&entry(Event::ActivationOutcome, "a/1/intent")), RecordError::ActPair);
        assert_eq!(refused(&entry(Event::Approval, "a")), RecordError::Signer);
        assert_eq!(refused(&entry(Event::VerificationSummary, "a")), RecordError::Signer);
        let mut fraction = entry(Event::MediaSeen, "a");
        fraction.predicate.insert("x".to_owned(), json!(0.5));
        assert_eq!(refused(&fraction), RecordError::Number);
        let mut long = entry(Event::MediaSeen, "a");
        long.predicate.insert("x".to_owned(), Value::String("y".repeat(40_000)));
        assert!(matches!(refused(&long), RecordError::TooLong { max: 49_152, .. }));
    }

    #[test]
    fn an_entry_about_nothing_names_the_host() {
        let mut entry = entry(Event::ActRefused, "a");
        entry.subject.clear();
        let place = Place { seq: 1, prev: None };
        let text = sign(&entry, place, &host(), &TIME, &key(1)).expect("good");
        let record = Record::parse(&text).expect("our own text");
        assert_eq!(record.subject[0].0, "host-key");
        assert_eq!(record.subject[0].1.to_string(), key(1).public().key_id());
    }

    #[test]
    fn an_intent_and_its_outcome_share_a_stem() {
        assert_eq!(intent_of("activation/7/outcome").as_deref(), Some("activation/7/intent"));
        assert_eq!(intent_of("activation/7/intent"), None);
    }

    #[test]
    fn two_things_of_one_name_are_refused() {
        let mut entry = entry(Event::MediaSeen, "a");
        let other = Digest::of(b"other");
        entry.subject.push(record::Subject { name: "bundle".to_owned(), sha256: other });
        let place = Place { seq: 1, prev: None };
        let text = sign(&entry, place, &host(), &TIME, &key(1)).expect("good");
        assert_eq!(Record::parse(&text), Err(RecordError::Statement));
    }

    #[test]
    fn other_predicates_are_refused() {
        let place = Place { seq: 0, prev: None };
        let text =
            sign(&entry(Event::MediaSeen, "a"), place, &host(), &TIME, &key(1)).expect("good");
        let payload = Record::parse(&text).expect("good").envelope.payload;
        let good: Value = serde_json::from_slice(&payload).expect("JSON");
        for (field, value) in [
            ("act", json!("A")),
            ("event", json!("evaluation")),
            ("seq", json!(-1)),
            ("prev", json!("00")),
            ("time", json!({"rtc_s": 1, "trusted": true})),
            ("facts", json!([])),
            ("more", json!(1)),
            ("time", json!({"rtc_s": 1, "trusted": false, "zone": "UTC"})),
            ("time", json!({"boot_id": null, "rtc_s": 1, "trusted": false})),
            ("host", json!({"key": key(1).public().key_id(), "origin": "enclave/one"})),
            ("host", json!({"key": key(2).public().key_id(), "origin": "a", "peers": "shared"})),
        ] {
            let mut bad = good.clone();
            bad["predicate"][field] = value;
            let payload = cloister_attest::json::canonical(&bad).expect("integers");
            let envelope = Envelope::unsigned(cloister_attest::dsse::PAYLOAD_TYPE, payload);
            let text = envelope.sign_with(&key(1)).to_json();
            assert_eq!(Record::parse(&text), Err(RecordError::Statement), "{field}");
        }
    }
}
