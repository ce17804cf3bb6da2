//! How the log grows: in rounds, each of which makes the entries of many connections durable at once.
//!
//! A round is durable once the journal holds it, which takes one fdatasync(2); then it is brought under a
//! signed checkpoint in memory, and answered. Whenever a bundle is full the log's files take up what the
//! journal has ([`Log::settle`]): bundles, then tiles of hashes, then the checkpoint, each durable before the
//! next is written. If the journal cannot be written, none of the round's entries has happened, and what
//! may lie on the disk of it is removed before the next round.

use std::sync::{
    Mutex,
    mpsc::{Receiver, SyncSender},
};

use cloister_daemon::clock;
use cloister_domain::{Coded as _, Digest};
use cloister_record::{
    Checkpoint, Place, Record, RecordError, SUMMARY, Time, intent_of, is_act,
    is_signed_by_a_person, sign,
    tiles::{self, Kind, Tile, WIDTH},
    tree::{check_consistency, leaf_hash},
};
use cloister_wire::{
    Problem, Reply,
    record::{Answer, Entry, Event, Subject},
};

use crate::{RecorddError as Error, log::Log};

/// One wish to grow the log.
#[derive(Debug)]
pub(crate) enum Wish {
    /// An entry that the host signs.
    Append(Entry),
    /// A person's own envelope.
    Deposit { event: Event, act: String, envelope: Vec<u8> },
    /// Persons' envelopes that let the machine's key succeed the log's.
    Succeed(Vec<Vec<u8>>),
}

impl Wish {
    /// Whether what it asks for depends on what the log held before the round.
    fn is_outcome(&self) -> bool {
        matches!(self, Self::Append(entry) if entry.event == Event::ActivationOutcome)
    }
}

/// An entry that a round is to make durable.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) text: Vec<u8>,
    pub(crate) record: Record,
}

/// A wish with the place that waits for its answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) wish: Wish,
    pub(crate) answer: SyncSender<Reply<Answer>>,
}

/// Does what comes, as much as fits a round at a time, until nobody can ask any more.
pub(crate) fn keep(log: &Mutex<Log>, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let mut waiting = vec![first];
        waiting.extend(jobs.try_iter());
        while !waiting.is_empty() {
            let replies = {
                let mut log = log.lock().expect("a panic ends the process");
                log.round(waiting.iter().map(|job| &job.wish))
            };
            let done = replies.len();
            for (job, reply) in waiting.drain(..done).zip(replies) {
                // One who went away is not told; the entry is there.
                job.answer.send(reply).unwrap_or_default();
            }
            log.lock().expect("a panic ends the process").settle_if_due();
        }
    }
}

impl Log {
    /// Fulfils the first of `wishes`, as many as one round takes and at least one, and answers them in
    /// their order.
    pub(crate) fn round<'wish>(
        &mut self,
        mut wishes: impl Iterator<Item = &'wish Wish>,
    ) -> Vec<Reply<Answer>> {
        if self.waits() {
            // One at a time: the first that lets the key succeed makes it a log like any other.
            return wishes.next().map(|wish| self.fulfil_waiting(wish)).into_iter().collect();
        }
        if let Err(error) = self.make_ready() {
            return wishes.map(|_wish| Err(Problem::of(&error))).collect();
        }
        let mark = self.index.mark(self.tree.size());
        let (mut staged, mut places) = (Vec::new(), Vec::new());
        for wish in wishes {
            if staged.len() as u64 >= WIDTH || (wish.is_outcome() && !staged.is_empty()) {
                break;
            }
            places.push(match wish {
                Wish::Append(entry) => self.append(entry, &mut staged),
                Wish::Deposit { event, act, envelope } => {
                    self.deposit(*event, act, envelope, &mut staged)
                }
                Wish::Succeed(envelopes) => self.succeeded(envelopes),
            });
        }
        let durable = if staged.is_empty() { Ok(()) } else { self.make_durable(&staged) };
        if durable.is_err() && self.tree.size() == mark.size() {
            self.index.return_to(mark);
        }
        let covered = self.signed.size;
        let reply = |place: Result<u64, Error>| match (place, &durable) {
            (Ok(seq), Err(error)) if seq >= covered => Err(Problem::of(error)),
            (Ok(seq), _) => Ok(self.appended(seq)),
            (Err(error), _) => Err(Problem::of(&error)),
        };
        places.into_iter().map(reply).collect()
    }

    /// The place of an entry, which is signed and staged unless its act is in the log already.
    fn append(&mut self, entry: &Entry, staged: &mut Vec<Staged>) -> Result<u64, Error> {
        if entry.event == Event::KeySuccession {
            return Err(Error::KeyStands);
        }
        match self.index.acts.get(&entry.act) {
            Some(act) if act.is_asked_again_by(entry) => return Ok(act.seq),
            Some(_other) => return Err(Error::OtherAct),
            None => {}
        }
        let seq = self.tree.size() + staged.len() as u64;
        self.allowed(entry, seq)?;
        let time = Time { rtc_s: clock::unix_seconds(), boot_id: self.boot_id.clone() };
        let here = Place { seq, prev: self.index.last };
        let sign = |entry: &Entry, place| {
            sign(entry, place, &self.host, &time, &self.key).map_err(Error::Entry)
        };
        let texts = match self.summary(entry, &time)? {
            None => vec![sign(entry, here)?],
            Some((summary, sha256)) => {
                let mut entry = entry.clone();
                entry.subject.push(Subject { name: SUMMARY.to_owned(), sha256 });
                let outcome = sign(&entry, Place { seq: seq + 1, prev: Some(sha256) })?;
                vec![summary, outcome]
            }
        };
        self.stage_all(texts, staged)
    }

    /// The summary of what was verified, which stands before an outcome that promotes a new release and which
    /// that names by its SHA-256.
    fn summary(&self, entry: &Entry, time: &Time) -> Result<Option<(Vec<u8>, Digest)>, Error> {
        let promoted = entry.predicate.get("outcome").is_some_and(|outcome| outcome == "promoted");
        if entry.event != Event::ActivationOutcome || !promoted {
            return Ok(None);
        }
        // What broke the rule is an auditor's to find, and gets no summary.
        let Some(verified) = self.promotions.under_way() else { return Ok(None) };
        let text = verified.sign(&self.host.origin, time, &self.key).map_err(Error::Entry)?;
        let sha256 = Digest::of(&text);
        Ok(Some((text, sha256)))
    }

    /// Takes an entry into the round; its place.
    pub(crate) fn stage(&mut self, text: Vec<u8>, staged: &mut Vec<Staged>) -> Result<u64, Error> {
        self.stage_all(vec![text], staged)
    }

    /// Takes entries that stand together into the round, all of them or none; the place of the last.
    fn stage_all(&mut self, texts: Vec<Vec<u8>>, staged: &mut Vec<Staged>) -> Result<u64, Error> {
        let records = texts.iter().map(|text| Record::parse(text)).collect::<Result<Vec<_>, _>>();
        for (text, record) in texts.into_iter().zip(records.map_err(Error::Entry)?) {
            let seq = self.tree.size() + staged.len() as u64;
            self.index.add(seq, &text, &record);
            staged.push(Staged { text, record });
        }
        Ok(self.tree.size() + staged.len() as u64 - 1)
    }

    /// The rules between entries; `cloister_record::verify` checks the same ones.
    fn allowed(&self, entry: &Entry, seq: u64) -> Result<(), Error> {
        match (entry.event, seq) {
            (Event::AnchorEnrolment, 0) => {}
            (Event::AnchorEnrolment, _) => return Err(Error::Enrolled),
            (_, 0) => return Err(Error::Unenrolled),
            _ => {}
        }
        let open = &self.index.open_intent;
        match entry.event {
            Event::ActivationIntent if open.is_some() => Err(Error::Activation),
            Event::ActivationOutcome if open.is_none() || *open != intent_of(&entry.act) => {
                Err(Error::Activation)
            }
            _ => Ok(()),
        }
    }

    /// The place of a person's own envelope, which is staged verbatim unless it is in the log already.
    fn deposit(
        &mut self,
        event: Event,
        act: &str,
        text: &[u8],
        staged: &mut Vec<Staged>,
    ) -> Result<u64, Error> {
        if !is_act(act) {
            return Err(Error::Entry(RecordError::Act));
        }
        if !is_signed_by_a_person(event) {
            return Err(Error::Entry(RecordError::Signer));
        }
        if event == Event::Succession {
            return Err(Error::KeyStands);
        }
        let record = Record::parse(text).map_err(Error::Entry)?;
        if record.event != event || record.envelope.signatures.is_empty() {
            return Err(Error::Entry(RecordError::Signer));
        }
        if let Some(seq) = self.index.deposits.get(&Digest::of(text)) {
            return Ok(*seq);
        }
        let seq = self.tree.size() + staged.len() as u64;
        if seq == 0 {
            return Err(Error::Unenrolled);
        }
        self.stage(text.to_vec(), staged)
    }

    /// What must be so before a round: the last one is signed, and the journal can take the next.
    fn make_ready(&mut self) -> Result<(), Error> {
        self.advance()?;
        if self.journal.has_failed() {
            self.settle()?;
            self.journal.renew()?;
        }
        if self.journal.is_full() { self.settle() } else { Ok(()) }
    }

    /// Makes staged entries durable, and signs the log with them.
    fn make_durable(&mut self, staged: &[Staged]) -> Result<(), Error> {
        let texts: Vec<&[u8]> = staged.iter().map(|one| one.text.as_slice()).collect();
        self.journal.append(self.tree.size(), &texts)?;
        staged.iter().for_each(|one| self.hold(&one.text, &one.record));
        self.advance()
    }

    /// Takes in an entry that is durable.
    pub(crate) fn hold(&mut self, text: &[u8], record: &Record) {
        // What breaks the rule of promotions is an auditor's to find.
        drop(self.promotions.read(self.tree.size(), Digest::of(text), record));
        self.tree.push(leaf_hash(text));
        self.tail.push(text.to_vec());
    }

    /// Brings entries that are durable under a signed checkpoint. Called again, after a failure or a
    /// crash, it signs the same bytes.
    pub(crate) fn advance(&mut self) -> Result<(), Error> {
        let size = self.tree.size();
        if size == self.signed.size || self.waits() {
            return Ok(());
        }
        let next = Checkpoint { origin: self.signed.origin.clone(), size, root: self.tree.root() };
        self.check_grows(&next)?;
        self.note = next.sign(&self.key).map_err(Error::Entry)?;
        self.signed = next;
        Ok(())
    }

    /// Has the log's files hold what the journal has, once they lack a full bundle.
    fn settle_if_due(&mut self) {
        if self.signed.size >= self.settle_at {
            self.settle_or_warn();
        }
    }

    /// As [`Log::settle`]; what cannot be written now is safe in the journal, and tried again.
    pub(crate) fn settle_or_warn(&mut self) {
        if let Err(error) = self.settle() {
            // Not with each record: every one would wait for a disk that refuses.
            self.settle_at = self.signed.size + WIDTH;
            tracing::warn!(
                code = error.code(),
                entries = self.signed.size - self.settled,
                "the log's files cannot be written; the journal keeps what they lack"
            );
        }
    }

    /// Has the log's files hold every entry under the signed checkpoint. Called again after a failure it
    /// writes the same bytes.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let size = self.signed.size;
        if size == self.settled {
            return Ok(());
        }
        let grown: Vec<Tile> = tiles::grown(self.settled, size).collect();
        for tile in &grown {
            let bytes = match tile.kind {
                Kind::Entries => self.bundle(tile)?,
                Kind::Hashes { .. } => tile.hashes(&self.tree),
            };
            self.files.write(tile, &bytes)?;
        }
        if self.keys.at(self.settled) != self.keys.at(size) {
            self.files.keep_keys(&self.keys)?;
        }
        self.files.write_checkpoint(&self.note)?;
        let held = self.tail_first();
        self.settled = size;
        self.settle_at = self.tail_first() + WIDTH;
        let beyond = self.tail_first() - held;
        self.tail.drain(..usize::try_from(beyond).expect("they are in memory"));
        self.journal.begin_again();
        grown.iter().for_each(|tile| self.files.sweep(tile));
        Ok(())
    }

    /// Sign once: what is signed next contains what was signed last.
    fn check_grows(&self, next: &Checkpoint) -> Result<(), Error> {
        let proof = match self.signed.size {
            0 => Vec::new(),
            old => self.tree.consistency(old, next.size),
        };
        let (old, new) = (&self.signed, next);
        check_consistency((old.size, &old.root), (new.size, &new.root), &proof)
            .map_err(|_kind| Error::Damaged { what: "the tree in memory" })
    }
}

#[cfg(test)]
mod tests;
