//! The log in memory and its one way to grow.
//!
//! Order of an append: the bundle with the new entry, the tiles of hashes, the checkpoint; each
//! durable before the next is written, all before the answer. After a crash the checkpoint therefore
//! covers everything that was ever answered, and at most one entry lies beyond it; that entry is
//! completed at the next start, byte for byte, so that no size is ever signed with two roots.

use std::collections::BTreeMap;

use cloister_attest::SigningKey;
use cloister_config::Config;
use cloister_daemon::{clock, credentials, files::read_limited};
use cloister_domain::{Digest, RecordIndex};
use cloister_record::{
    Checkpoint, Host, Place, Record, RecordError, Signer, Time, VerifierKey, intent_of,
    is_signed_by_a_person, sign,
    tiles::{self, Kind, Tile, WIDTH},
    tree::{Tree, check_consistency, leaf_hash},
};
use cloister_wire::record::{Answer, Entry, Event};

use crate::{
    RecorddError as Error,
    files::{Files, bundle_of, full_and_changing},
};

/// Most entries of one answer to `Read`.
const READ_MAX: u32 = 1024;

/// Most bytes of entries in one answer to `Read`, well below a frame.
const READ_BYTES_MAX: usize = 8 << 20;

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    files: Files,
    key: SigningKey,
    verifier: VerifierKey,
    host: Host,
    boot_id: Option<String>,
    /// Over every entry whose bundle is durable, so at most one beyond `signed`.
    tree: Tree,
    /// The entries of the bundle that is not full yet.
    tail: Vec<Vec<u8>>,
    index: Index,
    /// The last checkpoint that was signed and stored, with its note.
    signed: Checkpoint,
    note: String,
}

/// What entries say that the next one depends on.
#[derive(Debug, Default)]
struct Index {
    /// SHA-256 of the last envelope text.
    last: Option<Digest>,
    /// The host's entries by act.
    acts: BTreeMap<String, Act>,
    /// Persons' entries by the SHA-256 of their text.
    deposits: BTreeMap<Digest, u64>,
    /// Act of the intent that has no outcome yet.
    open_intent: Option<String>,
}

/// What makes two requests the same act.
#[derive(Debug)]
struct Act {
    seq: u64,
    event: Event,
    subject: Vec<(String, Digest)>,
}

impl Act {
    /// Whether `entry` asks for this act again. What was measured meanwhile may differ.
    fn is_asked_again_by(&self, entry: &Entry) -> bool {
        let named = |(name, sha256): &(String, Digest)| {
            entry.subject.iter().any(|one| one.name == *name && one.sha256 == *sha256)
        };
        let about = entry.subject.is_empty() || self.subject.iter().all(named);
        self.event == entry.event && about
    }
}

impl Index {
    fn add(&mut self, seq: u64, text: &[u8], record: &Record) {
        let digest = Digest::of(text);
        self.last = Some(digest);
        match &record.signer {
            Signer::Person { .. } => {
                self.deposits.insert(digest, seq);
            }
            Signer::Host { act, .. } => {
                let (event, subject) = (record.event, record.subject.clone());
                self.acts.insert(act.clone(), Act { seq, event, subject });
                match record.event {
                    Event::ActivationIntent => self.open_intent = Some(act.clone()),
                    Event::ActivationOutcome => self.open_intent = None,
                    _ => {}
                }
            }
        }
    }
}

/// What an export is made of: files that grow, as they are now, and the names of those that are full.
pub(crate) struct Snapshot {
    pub(crate) changing: Vec<(String, Vec<u8>)>,
    pub(crate) full: Vec<Tile>,
}

impl Log {
    /// Opens the log of `config`, or begins it; completes an entry that a crash cut short.
    pub(crate) fn open(config: &Config, peers_are_separate: bool) -> Result<Self, Error> {
        let files = Files::open(config.paths.record())?;
        let seed = credentials::host_key_seed(config).map_err(Error::Key)?;
        let key = SigningKey::from_seed(&seed).expect("a host key's seed has 32 bytes");
        let origin = config.record.origin.clone();
        let verifier = VerifierKey::new(&origin, key.public()).map_err(Error::Entry)?;
        let (note, signed) = match files.checkpoint()? {
            Some(note) => {
                let signed = Checkpoint::open(&note, &verifier).map_err(|_kind| Error::OtherLog)?;
                (note, signed)
            }
            // The checkpoint of the empty log is stored before any tile.
            None if files.has_tiles() => return Err(Error::Damaged { what: "no checkpoint" }),
            None => {
                let root = Tree::new().root();
                let first = Checkpoint { origin: origin.clone(), size: 0, root };
                let note = first.sign(&key).map_err(Error::Entry)?;
                files.write_checkpoint(&note)?;
                (note, first)
            }
        };
        let mut log = Self {
            files,
            key,
            verifier,
            host: Host { origin, peers_are_separate },
            boot_id: boot_id(),
            tree: Tree::new(),
            tail: Vec::new(),
            index: Index::default(),
            signed,
            note,
        };
        log.load()?;
        log.complete()?;
        let (full, changing) = full_and_changing(log.tree.size());
        full.iter().chain(&changing).for_each(|tile| log.files.sweep(tile));
        tracing::info!(size = log.tree.size(), "the log is open");
        Ok(log)
    }

    pub(crate) const fn files(&self) -> &Files {
        &self.files
    }

    /// Reads what the checkpoint covers and compares it with the signed root.
    fn load(&mut self) -> Result<(), Error> {
        let size = self.signed.size;
        for bundle in tiles::all(size).filter(|tile| tile.kind == Kind::Entries) {
            let bytes = self.files.read(&bundle)?;
            let damaged = |_kind| Error::Damaged { what: "a bundle of entries" };
            for text in tiles::entries(&bytes, bundle.width).map_err(damaged)? {
                self.adopt(text)?;
            }
        }
        if self.tree.root() != self.signed.root {
            return Err(Error::Damaged { what: "the entries do not fit the signed root" });
        }
        for tile in tiles::all(size).filter(|tile| tile.kind != Kind::Entries) {
            if self.files.read(&tile)? != tile.hashes(&self.tree) {
                return Err(Error::Damaged { what: "a tile of hashes" });
            }
        }
        Ok(())
    }

    /// Takes in the one entry that may lie beyond the checkpoint, and brings it under one.
    fn complete(&mut self) -> Result<(), Error> {
        let size = self.signed.size;
        let bundle = bundle_of(size, size + 1);
        let Some(bytes) = self.files.read_if_there(&bundle)? else { return Ok(()) };
        let damaged = || Error::Damaged { what: "the entry beyond the checkpoint" };
        let entries = tiles::entries(&bytes, bundle.width).map_err(|_kind| damaged())?;
        let (text, before) = entries.split_last().ok_or_else(damaged)?;
        if !before.iter().eq(self.tail.iter().map(Vec::as_slice).collect::<Vec<_>>().iter()) {
            return Err(damaged());
        }
        let record = Record::parse(text).map_err(|_kind| damaged())?;
        if let Signer::Host { place, .. } = &record.signer {
            let here = Place { seq: size, prev: self.index.last };
            if *place != here || record.check_signed_by(self.verifier.key()).is_err() {
                return Err(damaged());
            }
        }
        self.adopt(text)?;
        tracing::warn!(seq = size, "an entry that was cut short is completed");
        self.settle()
    }

    /// Takes an entry whose bundle is durable into memory.
    fn adopt(&mut self, text: &[u8]) -> Result<(), Error> {
        let damaged = |_kind| Error::Damaged { what: "an entry" };
        let record = Record::parse(text).map_err(damaged)?;
        self.index.add(self.tree.size(), text, &record);
        self.tree.push(leaf_hash(text));
        self.tail.push(text.to_vec());
        if self.tail.len() as u64 == WIDTH {
            self.tail.clear();
        }
        Ok(())
    }

    /// Signs and appends an entry; the same act again yields the first.
    pub(crate) fn append(&mut self, entry: &Entry) -> Result<Answer, Error> {
        self.settle()?;
        match self.index.acts.get(&entry.act) {
            Some(act) if act.is_asked_again_by(entry) => return Ok(self.appended(act.seq)),
            Some(_other) => return Err(Error::OtherAct),
            None => {}
        }
        self.allowed(entry)?;
        let place = Place { seq: self.tree.size(), prev: self.index.last };
        let time = Time { rtc_s: clock::unix_seconds(), boot_id: self.boot_id.clone() };
        let text = sign(entry, place, &self.host, &time, &self.key).map_err(Error::Entry)?;
        self.commit(&text)
    }

    /// The rules between entries; `cloister_record::verify` checks the same ones.
    fn allowed(&self, entry: &Entry) -> Result<(), Error> {
        match (entry.event, self.tree.size()) {
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

    /// Appends a person's own envelope verbatim; the same envelope again yields the first.
    pub(crate) fn deposit(
        &mut self,
        event: Event,
        act: &str,
        text: &[u8],
    ) -> Result<Answer, Error> {
        self.settle()?;
        if !cloister_record::is_act(act) {
            return Err(Error::Entry(RecordError::Act));
        }
        if !is_signed_by_a_person(event) {
            return Err(Error::Entry(RecordError::Signer));
        }
        let record = Record::parse(text).map_err(Error::Entry)?;
        if record.event != event || record.envelope.signatures.is_empty() {
            return Err(Error::Entry(RecordError::Signer));
        }
        if let Some(seq) = self.index.deposits.get(&Digest::of(text)) {
            return Ok(self.appended(*seq));
        }
        if self.tree.size() == 0 {
            return Err(Error::Unenrolled);
        }
        self.commit(text)
    }

    /// Makes an entry durable: first its bundle, then what follows from it.
    fn commit(&mut self, text: &[u8]) -> Result<Answer, Error> {
        let seq = self.tree.size();
        let bundle = bundle_of(seq, seq + 1);
        let mut entries: Vec<&[u8]> = self.tail.iter().map(Vec::as_slice).collect();
        entries.push(text);
        let bytes = tiles::bundle(&entries).map_err(Error::Entry)?;
        // If this fails nothing is changed: the next entry takes the same place.
        self.files.write(&bundle, &bytes)?;
        self.adopt(text)?;
        self.settle()?;
        Ok(self.appended(seq))
    }

    /// Brings an entry whose bundle is durable under a signed checkpoint. Called again after a
    /// failure it writes the same bytes.
    fn settle(&mut self) -> Result<(), Error> {
        let size = self.tree.size();
        if size == self.signed.size {
            return Ok(());
        }
        let grown: Vec<Tile> = tiles::grown(size).collect();
        for tile in grown.iter().filter(|tile| tile.kind != Kind::Entries) {
            self.files.write(tile, &tile.hashes(&self.tree))?;
        }
        let next = Checkpoint { origin: self.signed.origin.clone(), size, root: self.tree.root() };
        self.check_grows(&next)?;
        let note = next.sign(&self.key).map_err(Error::Entry)?;
        self.files.write_checkpoint(&note)?;
        self.signed = next;
        self.note = note;
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

    fn appended(&self, seq: u64) -> Answer {
        let leaf = self.tree.subtree(0, seq).expect("the entry is in the tree");
        Answer::Appended { index: RecordIndex(seq), leaf }
    }

    /// Size, root and checkpoint as last signed.
    pub(crate) fn head(&self) -> Answer {
        Answer::Head {
            origin: self.signed.origin.clone(),
            size: self.signed.size,
            root: self.signed.root,
            checkpoint: self.note.clone(),
            log_key: self.verifier.to_string(),
        }
    }

    /// Entries under the checkpoint from `from`, at most `count` and no more than an answer holds.
    pub(crate) fn read(&self, from: RecordIndex, count: u32) -> Result<Answer, Error> {
        let size = self.signed.size;
        let end = size.min(from.0.saturating_add(count.min(READ_MAX).into()));
        let (mut texts, mut bytes) = (Vec::new(), 0);
        let mut seq = from.0;
        while seq < end && bytes < READ_BYTES_MAX {
            let bundle = bundle_of(seq, size);
            let stored = self.files.read(&bundle)?;
            let damaged = || Error::Damaged { what: "a bundle of entries" };
            let entries = tiles::entries(&stored, bundle.width).map_err(|_kind| damaged())?;
            let first = bundle.index * WIDTH;
            let mut next = seq;
            let wanted = (first..).zip(entries).skip_while(|(at, _)| *at < seq);
            for (at, entry) in wanted.take_while(|(at, _)| *at < end) {
                if bytes + entry.len() > READ_BYTES_MAX {
                    return Ok(Answer::Entries(texts));
                }
                bytes += entry.len();
                let text = std::str::from_utf8(entry).map_err(|_quotes| damaged())?;
                texts.push(text.to_owned());
                next = at + 1;
            }
            seq = next;
        }
        Ok(Answer::Entries(texts))
    }

    /// The files of an export.
    pub(crate) fn snapshot(&self) -> Result<Snapshot, Error> {
        let (full, growing) = full_and_changing(self.signed.size);
        let mut changing = vec![("checkpoint".to_owned(), self.note.clone().into_bytes())];
        for tile in growing {
            changing.push((tile.path(), self.files.read(&tile)?));
        }
        Ok(Snapshot { changing, full })
    }
}

/// The kernel's name for this boot; absent where the kernel has none.
fn boot_id() -> Option<String> {
    let path = std::path::Path::new("/proc/sys/kernel/random/boot_id");
    let bytes = read_limited(path, 64).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end().to_owned())
}
