//! What the entries so far say that the next one depends on.

use std::collections::BTreeMap;

use cloister_domain::Digest;
use cloister_record::{Record, SUMMARY, Signer};
use cloister_wire::record::{Entry, Event};

/// What entries say that the next one depends on.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// SHA-256 of the last envelope text.
    pub(crate) last: Option<Digest>,
    /// The host's entries by act.
    pub(crate) acts: BTreeMap<String, Act>,
    /// Persons' entries by the SHA-256 of their text.
    pub(crate) deposits: BTreeMap<Digest, u64>,
    /// Act of the intent that has no outcome yet.
    pub(crate) open_intent: Option<String>,
}

/// What makes two requests the same act.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) seq: u64,
    event: Event,
    subject: Vec<(String, Digest)>,
}

impl Act {
    /// Whether `entry` asks for this act again. What was measured meanwhile may differ.
    pub(crate) fn is_asked_again_by(&self, entry: &Entry) -> bool {
        let named = |(name, sha256): &(String, Digest)| {
            entry.subject.iter().any(|one| one.name == *name && one.sha256 == *sha256)
        };
        let about = entry.subject.is_empty() || self.subject.iter().all(named);
        self.event == entry.event && about
    }
}

/// Where an index stood, so that it can return there.
#[derive(Debug)]
pub(crate) struct Mark {
    size: u64,
    last: Option<Digest>,
    open_intent: Option<String>,
}

impl Mark {
    /// Number of entries at that time.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }
}

impl Index {
    pub(crate) fn add(&mut self, seq: u64, text: &[u8], record: &Record) {
        let digest = Digest::of(text);
        self.last = Some(digest);
        match &record.signer {
            Signer::Person(_) => {
                self.deposits.insert(digest, seq);
            }
            Signer::Summary(_) => {}
            Signer::Host { act, .. } => {
                let event = record.event;
                // Whoever asks again does not know of the summary.
                let asked = |one: &&(String, Digest)| one.0 != SUMMARY;
                let subject = record.subject.iter().filter(asked).cloned().collect();
                self.acts.insert(act.clone(), Act { seq, event, subject });
                match record.event {
                    Event::ActivationIntent => self.open_intent = Some(act.clone()),
                    Event::ActivationOutcome => self.open_intent = None,
                    _ => {}
                }
            }
        }
    }

    /// Where it stands with `size` entries.
    pub(crate) fn mark(&self, size: u64) -> Mark {
        Mark { size, last: self.last, open_intent: self.open_intent.clone() }
    }

    /// Forgets every entry that was added after `mark`.
    pub(crate) fn return_to(&mut self, mark: Mark) {
        self.acts.retain(|_, act| act.seq < mark.size);
        self.deposits.retain(|_, seq| *seq < mark.size);
        self.last = mark.last;
        self.open_intent = mark.open_intent;
    }
}
