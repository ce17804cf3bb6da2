//! The keys of a log: the one that its first entries are signed with, and those that succeeded it.
//!
//! A key goes with the part of the machine that kept it. The log goes on under another where as many
//! approvers as a release needs say so, each over the head of then: their entries, and right after them
//! `key-succession`, the first entry of the new key. One function reads this for verifiers and for the
//! keeper of the log, so that nothing is written that no auditor accepts.

use std::collections::BTreeSet;

use cloister_attest::consent::{Consent, Matter};
use cloister_domain::{Digest, LogHead, Principal};
use cloister_wire::record::{self, Entry, Event};
use serde_json::{Map, Value, json};

use crate::{
    Checkpoint, Record, RecordError, Said, Signer, VerifierKey,
    fault::{Fault, Numbers},
    tree::Tree,
};

/// Subjects of a `key-succession`: the new key's id, and that of the key before it.
const HOST_KEY: &str = "host-key";
const FORMER_HOST_KEY: &str = "former-host-key";

/// The keys of a log, and what persons say at its end about the next one.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Position of the first entry that it signs, and the key; oldest first and never empty.
    held: Vec<(u64, VerifierKey)>,
    words: Vec<Word>,
}

/// What a person said about the next key.
#[derive(Clone, Debug)]
struct Word {
    seq: u64,
    consent: Consent,
}

impl Word {
    fn is_about(&self, matter: &Matter, log: &LogHead) -> bool {
        self.consent.matter == *matter && self.consent.log == *log
    }
}

impl Keys {
    /// Those of a log whose first entry is signed with `first`.
    #[must_use]
    pub fn new(first: VerifierKey) -> Self {
        Self { held: vec![(0, first)], words: Vec::new() }
    }

    /// The key that signs what comes next.
    #[must_use]
    pub fn now(&self) -> &VerifierKey {
        self.at(u64::MAX)
    }

    /// The key that signs the checkpoint of so many entries.
    #[must_use]
    pub fn at(&self, size: u64) -> &VerifierKey {
        let begun = self.held.iter().rev().find(|(first, _)| *first < size);
        &begun.or(self.held.first()).expect("a log has a key").1
    }

    /// Every key, oldest first, with the position of the first entry that it signs.
    pub fn all(&self) -> impl Iterator<Item = (u64, &VerifierKey)> {
        self.held.iter().map(|(first, key)| (*first, key))
    }

    /// Whether the log has or had this key.
    #[must_use]
    pub fn contain(&self, key: &VerifierKey) -> bool {
        self.held.iter().any(|(_, held)| held == key)
    }

    /// A checkpoint that any of the keys signed, at whatever time.
    ///
    /// # Errors
    /// Those of [`Checkpoint::open`].
    pub fn open(&self, note: &str) -> Result<Checkpoint, RecordError> {
        let mut failed = RecordError::NoteSignature;
        for (_, key) in self.held.iter().rev() {
            match Checkpoint::open(note, key) {
                Err(RecordError::NoteSignature) => {}
                Err(other) => failed = other,
                opened => return opened,
            }
        }
        Err(failed)
    }

    /// Takes in the entry at position `seq` of the log that `tree` covers at least up to there.
    /// `is_believed` says whether the person that it names, if one does, is known to have signed it;
    /// `needed`, how many persons must allow a key.
    ///
    /// # Errors
    /// What of it breaks the rule; the key is then the same as before.
    pub fn read(
        &mut self,
        seq: u64,
        record: &Record,
        is_believed: bool,
        needed: u64,
        tree: &Tree,
    ) -> Result<(), Vec<Fault>> {
        if let Signer::Person(said) = &record.signer
            && let Said::Consent(consent) = said.as_ref()
            && matches!(consent.matter, Matter::Succession { .. })
            && is_believed
        {
            self.words.push(Word { seq, consent: consent.clone() });
            return Ok(());
        }
        if record.event != Event::KeySuccession {
            return self.finish();
        }
        let words = std::mem::take(&mut self.words);
        let from = words.first().map_or(seq, |word| word.seq);
        let successor = self.successor(record, from).filter(|_key| from <= tree.size());
        let key = successor.ok_or_else(|| vec![Fault::Successor { seq }])?;
        let head =
            Checkpoint { origin: key.name().to_owned(), size: from, root: tree.root_of(from) };
        judge(seq, &words, &matter(&head, &key), &head, needed)?;
        record.check_signed_by(key.key()).map_err(|_kind| vec![Fault::Successor { seq }])?;
        self.held.push((seq, key));
        Ok(())
    }

    /// Takes in the end of the log, or an entry that cannot be read: a word for another key without that key is none.
    ///
    /// # Errors
    /// [`Fault::Word`] for each.
    pub fn finish(&mut self) -> Result<(), Vec<Fault>> {
        let words = std::mem::take(&mut self.words);
        let faults: Vec<Fault> = words.iter().map(|word| Fault::Word { seq: word.seq }).collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Takes in an entry that was judged before: it lies under a checkpoint of the log.
    ///
    /// # Errors
    /// [`RecordError::Statement`] if it is a succession and names no keys.
    pub fn adopt(&mut self, seq: u64, record: &Record) -> Result<(), RecordError> {
        let Some([former, key]) = keys_of(record)? else { return Ok(()) };
        if let [(_, first)] = self.held.as_mut_slice() {
            // Until the first succession is read, only the last key is known.
            *first = former;
        }
        self.held.push((seq, key));
        Ok(())
    }

    /// The key that `record` says to sign from now on, if it says so rightly; persons spoke from
    /// position `from` on.
    fn successor(&self, record: &Record, from: u64) -> Option<VerifierKey> {
        let [former, key] = keys_of(record).ok()??;
        let Signer::Host { facts, .. } = &record.signer else { return None };
        let exact = facts.len() == 3 && facts.get("size").and_then(Value::as_u64) == Some(from);
        let named = record.subject == about(&former, &key);
        // A key that was given up may be anybody's by now.
        let fits = former == *self.now() && key.name() == former.name() && !self.contain(&key);
        (exact && named && fits).then_some(key)
    }
}

/// The keys that a succession names: the one before, and the new one. Absent for other records.
///
/// # Errors
/// [`RecordError::Statement`].
pub fn keys_of(record: &Record) -> Result<Option<[VerifierKey; 2]>, RecordError> {
    let Signer::Host { facts, .. } = &record.signer else { return Ok(None) };
    if record.event != Event::KeySuccession {
        return Ok(None);
    }
    let key = |name: &str| facts.get(name).and_then(Value::as_str)?.parse().ok();
    let both = key("former_log_key").zip(key("log_key"));
    let (former, key) = both.ok_or(RecordError::Statement)?;
    Ok(Some([former, key]))
}

/// The id of a log's key: the host key's.
#[must_use]
pub fn id(key: &VerifierKey) -> Digest {
    key.key().key_id().parse().expect("a key id is a SHA-256")
}

/// What each person signs to let `key` succeed in a log with this head.
#[must_use]
pub fn matter(head: &Checkpoint, key: &VerifierKey) -> Matter {
    Matter::Succession { checkpoint: head.digest(), key: id(key) }
}

/// The entry with which `key` takes over from `former` in a log of `size` entries and persons' words.
#[must_use]
pub fn entry(former: &VerifierKey, key: &VerifierKey, size: u64) -> Entry {
    let facts = [
        ("former_log_key".to_owned(), json!(former.to_string())),
        ("log_key".to_owned(), json!(key.to_string())),
        ("size".to_owned(), json!(size)),
    ];
    let about = about(former, key).into_iter();
    let subject = about.map(|(name, sha256)| record::Subject { name, sha256 }).collect();
    let act = format!("succession/{}", id(key));
    Entry { event: Event::KeySuccession, act, subject, predicate: Map::from_iter(facts) }
}

/// What a succession is about, in this order.
fn about(former: &VerifierKey, key: &VerifierKey) -> Vec<(String, Digest)> {
    [(HOST_KEY, key), (FORMER_HOST_KEY, former)]
        .map(|(name, key)| (name.to_owned(), id(key)))
        .to_vec()
}

/// That each of `words` is about this, and that enough persons said so.
fn judge(
    seq: u64,
    words: &[Word],
    matter: &Matter,
    head: &Checkpoint,
    needed: u64,
) -> Result<(), Vec<Fault>> {
    let log = LogHead { origin: head.origin.clone(), size: head.size };
    let (right, other): (Vec<&Word>, Vec<&Word>) =
        words.iter().partition(|word| word.is_about(matter, &log));
    let persons: BTreeSet<&Principal> = right.iter().map(|word| &word.consent.person).collect();
    if other.is_empty() && persons.len() as u64 >= needed {
        return Ok(());
    }
    let mut faults: Vec<Fault> = other.iter().map(|word| Fault::Word { seq: word.seq }).collect();
    let words = Numbers(right.iter().map(|word| word.seq).collect());
    faults.push(Fault::Succession { seq, needed, words });
    Err(faults)
}
