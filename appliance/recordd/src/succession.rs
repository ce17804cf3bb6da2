//! A log whose key is lost, on a machine that has another: it is read and shown, refuses to grow, and
//! signs nothing, until persons let the machine's key succeed.
//!
//! Their entries and the first entry of the new key become durable in one round of the journal. Before
//! that round the log waits; from then on the new key signs, and a start brings the round under a
//! checkpoint as any other.

use cloister_daemon::clock;
use cloister_domain::Digest;
use cloister_record::{Fault, Place, Record, RecordError, Time, sign, succession};
use cloister_wire::{
    Problem, Reply,
    record::{Answer, Event},
};

use crate::{
    RecorddError as Error,
    log::Log,
    round::{Staged, Wish},
};

/// The most persons of one succession: with 48 KiB each, the journal has room for them beyond the bound
/// at which the log's files must come first.
const PERSONS_MAX: usize = 32;

impl Log {
    /// Answers a wish to a log whose key is lost.
    pub(crate) fn fulfil_waiting(&mut self, wish: &Wish) -> Reply<Answer> {
        let place = match wish {
            Wish::Succeed(envelopes) => self.succeed(envelopes),
            Wish::Append(_) | Wish::Deposit { .. } => Err(Error::KeyChanged),
        };
        place.map(|seq| self.appended(seq)).map_err(|error| Problem::of(&error))
    }

    /// Lets the machine's key succeed; the place of its first entry.
    fn succeed(&mut self, envelopes: &[Vec<u8>]) -> Result<u64, Error> {
        if envelopes.len() > PERSONS_MAX {
            return Err(Error::Persons { max: PERSONS_MAX });
        }
        let mark = self.index.mark(self.tree.size());
        let (mut staged, before) = (Vec::new(), self.keys.clone());
        let done = self.stage_succession(envelopes, &mut staged).and_then(|seq| {
            let texts: Vec<&[u8]> = staged.iter().map(|one| one.text.as_slice()).collect();
            // The files cannot take up what the journal has before the new key signs for it.
            self.journal.write_again();
            self.journal.append(self.tree.size(), &texts)?;
            Ok(seq)
        });
        let seq = match done {
            Ok(seq) => seq,
            Err(error) => {
                self.keys = before;
                self.index.return_to(mark);
                return Err(error);
            }
        };
        staged.iter().for_each(|one| self.hold(&one.text, &one.record));
        tracing::warn!(size = self.tree.size(), "the log goes on under another key");
        self.advance()?;
        self.settle_or_warn();
        Ok(seq)
    }

    /// Stages the persons' entries and the first of the new key, and takes them in as a verifier would;
    /// the place of the last.
    fn stage_succession(
        &mut self,
        envelopes: &[Vec<u8>],
        staged: &mut Vec<Staged>,
    ) -> Result<u64, Error> {
        let size = self.tree.size();
        for text in envelopes {
            let seq = self.stage(text.clone(), staged)?;
            let one = staged.last().expect("it was staged").record.clone();
            if one.event != Event::Succession || one.envelope.signatures.is_empty() {
                return Err(Error::Entry(RecordError::Signer));
            }
            self.take_in(seq, &one)?;
        }
        let entry = succession::entry(self.keys.now(), &self.own, size);
        let place = Place { seq: size + staged.len() as u64, prev: self.index.last };
        let time = Time { rtc_s: clock::unix_seconds(), boot_id: self.boot_id.clone() };
        let text = sign(&entry, place, &self.host, &time, &self.key).map_err(Error::Entry)?;
        let seq = self.stage(text, staged)?;
        let last = staged.last().expect("it was staged").record.clone();
        self.take_in(seq, &last)?;
        Ok(seq)
    }

    /// Takes a staged record into the keys as a verifier would, whose say the signatures are.
    fn take_in(&mut self, seq: u64, record: &Record) -> Result<(), Error> {
        let needed = self.promotions.needed();
        let read = self.keys.read(seq, record, true, needed, &self.tree);
        let first =
            |faults: Vec<Fault>| faults.into_iter().next().unwrap_or(Fault::Successor { seq });
        read.map_err(|faults| Error::Succession(first(faults)))
    }

    /// The place of the first entry of the log's key, if these envelopes let it succeed: whoever asks
    /// again was not told.
    pub(crate) fn succeeded(&self, envelopes: &[Vec<u8>]) -> Result<u64, Error> {
        let held = |text: &Vec<u8>| self.index.deposits.contains_key(&Digest::of(text));
        let (began, _) = self.keys.all().last().expect("a log has a key");
        let last = envelopes.iter().filter_map(|text| self.index.deposits.get(&Digest::of(text)));
        let same = !envelopes.is_empty()
            && envelopes.iter().all(held)
            && last.max().is_some_and(|last| last + 1 == began);
        if same { Ok(began) } else { Err(Error::KeyStands) }
    }
}
