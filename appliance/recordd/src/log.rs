//! The log in memory: opened, read and exported. `round` says how it grows.
//!
//! What was ever answered lies in the journal or in the log's files. Entries of the journal are brought
//! under the checkpoint again at the next start, byte for byte, so that no size is ever signed with two
//! roots.

use cloister_attest::SigningKey;
use cloister_config::Config;
use cloister_daemon::{credentials, files::read_limited};
use cloister_domain::{Coded as _, RecordIndex};
use cloister_record::{
    Checkpoint, Host, Keys, Note, Place, Promotions, Record, Signer, VerifierKey, succession,
    tiles::{self, Kind, Tile, WIDTH},
    tree::Tree,
};
use cloister_wire::record::{Answer, Successor};

use crate::{
    RecorddError as Error,
    cosigned::Cosigned,
    files::{Files, bundle_of, full_and_changing},
    index::Index,
    journal::{Journal, Round},
};

/// Most entries of one answer to `Read`.
const READ_MAX: u32 = 1024;

/// Most bytes of entries in one answer to `Read`, well below a frame.
const READ_BYTES_MAX: usize = 8 << 20;

/// The default of `record.origin`, which any number of appliances may have.
const FOR_TRYING_OUT: &str = "enclave/appliance";

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) files: Files,
    pub(crate) key: SigningKey,
    /// What the host key's signatures are checked with.
    pub(crate) own: VerifierKey,
    /// The keys of the log. The last one is the host key's, or a successor waits.
    pub(crate) keys: Keys,
    pub(crate) host: Host,
    pub(crate) boot_id: Option<String>,
    pub(crate) journal: Journal,
    /// Over every entry that is durable.
    pub(crate) tree: Tree,
    /// The entries of the bundles that the log's files do not hold in full.
    pub(crate) tail: Vec<Vec<u8>>,
    pub(crate) index: Index,
    /// What the entries that are durable say of imports and activations.
    pub(crate) promotions: Promotions,
    /// The last checkpoint that was signed, with its note.
    pub(crate) signed: Checkpoint,
    pub(crate) note: String,
    /// Number of entries that the log's files hold, under the checkpoint that is among them.
    pub(crate) settled: u64,
    /// Number of entries at which the files are to take up what the journal has.
    pub(crate) settle_at: u64,
    /// What witnesses said.
    pub(crate) cosigned: Cosigned,
}

/// What an export is made of: files that grow, as they are now, and the names of those that are full.
pub(crate) struct Snapshot {
    pub(crate) changing: Vec<(String, Vec<u8>)>,
    pub(crate) full: Vec<Tile>,
}

impl Log {
    /// Opens the log of `config`, or begins it; completes entries that a crash cut short.
    pub(crate) fn open(config: &Config, peers_are_separate: bool) -> Result<Self, Error> {
        let files = Files::open(config.paths.record(), config.record.full_disk_bytes.0)?;
        let origin = config.record.origin.clone();
        let stored = files.checkpoint()?;
        if stored.is_none() && peers_are_separate && origin == FOR_TRYING_OUT {
            return Err(Error::Unnamed);
        }
        let seed = credentials::host_key_seed(config).map_err(Error::Key)?;
        let key = SigningKey::from_seed(&seed).expect("a host key's seed has 32 bytes");
        let own = VerifierKey::new(&origin, key.public()).map_err(Error::Entry)?;
        if stored.is_none() && files.has_tiles() {
            // The checkpoint of the empty log is stored before any tile.
            return Err(Error::Damaged { what: "no checkpoint" });
        }
        // A log has a journal before it has a checkpoint, so whatever is missing is missed.
        let (journal, journalled) = Journal::open(files.beside("journal"), stored.is_none())?;
        let (note, signed, signer) = match stored {
            Some(note) => {
                let (signed, signer) = opened(&note, &own, &files)?;
                (note, signed, signer)
            }
            None => {
                let root = Tree::new().root();
                let first = Checkpoint { origin: origin.clone(), size: 0, root };
                let note = first.sign(&key).map_err(Error::Entry)?;
                files.write_checkpoint(&note)?;
                (note, first, own.clone())
            }
        };
        let cosigned = Cosigned::open(&files, &config.record.witnesses)?;
        let settled = signed.size;
        let promotions = Promotions::new(&origin);
        let mut log = Self {
            files,
            journal,
            key,
            own,
            keys: Keys::new(signer.clone()),
            host: Host { origin, peers_are_separate },
            boot_id: boot_id(),
            tree: Tree::new(),
            tail: Vec::new(),
            index: Index::default(),
            promotions,
            signed,
            note,
            settled,
            settle_at: settled - settled % WIDTH + WIDTH,
            cosigned,
        };
        log.load()?;
        if *log.keys.now() != signer {
            return Err(Error::OtherLog);
        }
        let rounds = log.journal.replay(&journalled, settled)?;
        log.complete(&rounds, &journalled)?;
        log.compare_with_kept()?;
        log.look_at_keys()?;
        let (full, changing) = full_and_changing(log.settled);
        full.iter().chain(&changing).for_each(|tile| log.files.sweep(tile));
        tracing::info!(size = log.tree.size(), "the log is open");
        Ok(log)
    }

    /// Whether the machine has another key than the log: nothing is signed then.
    pub(crate) fn waits(&self) -> bool {
        *self.keys.now() != self.own
    }

    /// Gives the machine's key to a log that holds nothing: it was made before the machine's parts were
    /// changed, and no person is known yet who could be asked.
    fn begin_anew(&mut self) -> Result<(), Error> {
        // What witnesses keep of it says that it was more than this.
        if self.cosigned.says_more_than_nothing() {
            return Err(Error::OtherLog);
        }
        self.keys = Keys::new(self.own.clone());
        self.note = self.signed.sign(&self.key).map_err(Error::Entry)?;
        self.files.write_checkpoint(&self.note)?;
        self.files.keep_keys(&self.keys)
    }

    /// What a start makes of the keys: kept for the day when the last is lost, or on that day told.
    fn look_at_keys(&mut self) -> Result<(), Error> {
        if !self.waits() {
            if let Err(error) = self.files.keep_keys(&self.keys) {
                tracing::warn!(code = error.code(), "the log's keys cannot be kept beside it");
            }
            return Ok(());
        }
        if self.tree.size() == 0 {
            return self.begin_anew();
        }
        if self.keys.contain(&self.own) {
            return Err(Error::FormerKey);
        }
        let code = Error::KeyChanged.code();
        tracing::error!(code, "the host key is another than the log's; nothing is recorded");
        self.take_up_kept()
    }

    /// While a successor waits: what a witness brought back may be newer than the files, and no newer one can
    /// be signed.
    pub(crate) fn take_up_kept(&mut self) -> Result<(), Error> {
        if let Some((_, note)) = self.cosigned.newest() {
            let kept = self.keys.open(note).map_err(Error::Entry)?;
            if kept.size > self.signed.size {
                let signer = self.keys.at(kept.size);
                let alone = Note::parse(note).ok().and_then(|note| note.signed_by_alone(signer));
                self.note = alone.ok_or(Error::Damaged { what: "a cosignature" })?;
                self.signed = kept;
            }
        }
        Ok(())
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
                let record = Record::parse(text).map_err(damaged)?;
                self.keys.adopt(self.tree.size(), &record).map_err(damaged)?;
                self.adopt(text, &record);
            }
            if bundle.width == WIDTH {
                self.tail.clear();
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

    /// Takes in the entries that only the journal holds, of the bytes `journalled`, and has the log's files
    /// hold them too; or, where these cannot be written, the journal once more. Nothing is answered before.
    fn complete(&mut self, rounds: &[Round<'_>], journalled: &[u8]) -> Result<(), Error> {
        let damaged = || Error::Damaged { what: "an entry of the journal" };
        for round in rounds {
            for (seq, text) in (round.first..).zip(&round.entries) {
                if seq < self.tree.size() {
                    continue;
                }
                let record = Record::parse(text).map_err(|_kind| damaged())?;
                let here = Place { seq, prev: self.index.last };
                let placed = match &record.signer {
                    Signer::Host { place, .. } => *place == here,
                    Signer::Person(_) | Signer::Summary(_) => true,
                };
                let needed = self.promotions.needed();
                let read = self.keys.read(seq, &record, true, needed, &self.tree);
                // A succession's own key is that which it made the last.
                let by_host = || record.check_signed_by(self.keys.now().key()).is_ok();
                if read.is_err() || !placed || (record.is_by_the_host() && !by_host()) {
                    return Err(damaged());
                }
                self.adopt(text, &record);
            }
        }
        self.keys.finish().map_err(|_faults| damaged())?;
        let count = self.tree.size() - self.settled;
        if count > 0 && !self.waits() {
            tracing::info!(from = self.settled, count, "entries of the journal are taken in");
            self.advance()?;
            self.settle_or_warn();
        }
        if self.settled < self.tree.size() {
            self.journal.write_taken(journalled)?;
        }
        Ok(())
    }

    /// Takes an entry that is durable into memory.
    fn adopt(&mut self, text: &[u8], record: &Record) {
        self.index.add(self.tree.size(), text, record);
        self.hold(text, record);
    }

    /// Number of entries that are shown: those under the signed checkpoint. While a successor waits no
    /// checkpoint can be signed, and every entry that is durable is shown.
    pub(crate) fn size(&self) -> u64 {
        if self.waits() { self.tree.size() } else { self.signed.size }
    }

    pub(crate) fn appended(&self, seq: u64) -> Answer {
        let leaf = self.tree.subtree(0, seq).expect("the entry is in the tree");
        Answer::Appended { index: RecordIndex(seq), leaf }
    }

    /// Size and root, and the checkpoint as last signed.
    pub(crate) fn head(&self) -> Answer {
        let size = self.size();
        let mut keys: Vec<String> = self.keys.all().map(|(_, key)| key.to_string()).collect();
        let log_key = keys.pop().expect("a log has a key");
        Answer::Head {
            origin: self.signed.origin.clone(),
            size,
            root: self.tree.root_of(size),
            checkpoint: self.checkpoint().to_owned(),
            log_key,
            former_keys: keys,
            successor: self.waits().then(|| self.successor()),
            rolled_back: self.cosigned.evidence(),
        }
    }

    fn successor(&self) -> Successor {
        let (size, root) = (self.tree.size(), self.tree.root());
        let head = Checkpoint { origin: self.signed.origin.clone(), size, root };
        let (log_key, key) = (self.own.to_string(), succession::id(&self.own));
        Successor { log_key, key, checkpoint: head.digest() }
    }

    /// The last checkpoint, with the cosignatures that it has.
    fn checkpoint(&self) -> &str {
        self.cosigned.at(self.signed.size).unwrap_or(&self.note)
    }

    /// Entries that are shown from `from` on, at most `count` and no more than an answer holds.
    pub(crate) fn read(&self, from: RecordIndex, count: u32) -> Result<Answer, Error> {
        let size = self.size();
        let end = size.min(from.0.saturating_add(count.min(READ_MAX).into()));
        let (mut texts, mut bytes) = (Vec::new(), 0);
        let mut seq = from.0;
        while seq < end && bytes < READ_BYTES_MAX {
            let bundle = bundle_of(seq, size);
            let stored = self.bundle(&bundle)?;
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
        self.snapshot_at(self.signed.size, self.checkpoint())
    }

    /// The files of an export as it would have been when a witness cosigned the log last.
    pub(crate) fn witnessed_snapshot(&self) -> Result<Snapshot, Error> {
        let (size, note) = self.cosigned.newest().ok_or(Error::NeverWitnessed)?;
        self.snapshot_at(size, note)
    }

    fn snapshot_at(&self, size: u64, note: &str) -> Result<Snapshot, Error> {
        let mut changing = vec![("checkpoint".to_owned(), note.as_bytes().to_vec())];
        let mut full = Vec::new();
        for tile in tiles::all(size) {
            if self.files_hold(&tile) {
                full.push(tile);
            } else {
                let bytes = match tile.kind {
                    Kind::Entries => self.bundle(&tile)?,
                    Kind::Hashes { .. } => tile.hashes(&self.tree),
                };
                changing.push((tile.path(), bytes));
            }
        }
        Ok(Snapshot { changing, full })
    }

    /// Whether the log's files hold this tile, and for ever.
    fn files_hold(&self, tile: &Tile) -> bool {
        tile.width == WIDTH && tile.is_within(self.settled)
    }

    /// The bytes of a bundle, which may have more entries by now.
    pub(crate) fn bundle(&self, tile: &Tile) -> Result<Vec<u8>, Error> {
        let first = tile.index * WIDTH;
        let Some(at) = first.checked_sub(self.tail_first()) else {
            // Full, so it holds what any narrower one did.
            let stored = self.files.read(&Tile { width: WIDTH, ..*tile })?;
            let damaged = |_kind| Error::Damaged { what: "a bundle of entries" };
            let entries = tiles::entries(&stored, WIDTH).map_err(damaged)?;
            return tiles::bundle(entries.get(..in_memory(tile.width)).unwrap_or_default())
                .map_err(damaged);
        };
        let at = in_memory(at);
        let entries = self.tail.get(at..at + in_memory(tile.width));
        tiles::bundle(entries.expect("the tail holds what the files do not")).map_err(Error::Entry)
    }

    /// Position of the tail's first entry.
    pub(crate) const fn tail_first(&self) -> u64 {
        self.settled - self.settled % WIDTH
    }
}

/// The stored checkpoint, and which key signed it: the machine's, or one that the log is known to have.
fn opened(
    note: &str,
    own: &VerifierKey,
    files: &Files,
) -> Result<(Checkpoint, VerifierKey), Error> {
    if let Ok(signed) = Checkpoint::open(note, own) {
        return Ok((signed, own.clone()));
    }
    let named = |key: &VerifierKey| key.name() == own.name();
    let open = |key: VerifierKey| Some((Checkpoint::open(note, &key).ok()?, key));
    files.keys()?.into_iter().filter(named).find_map(open).ok_or(Error::OtherLog)
}

/// A number of entries that are in memory.
fn in_memory(count: u64) -> usize {
    usize::try_from(count).expect("entries in memory are fewer than its bytes")
}

/// The kernel's name for this boot; absent where the kernel has none.
fn boot_id() -> Option<String> {
    let path = std::path::Path::new("/proc/sys/kernel/random/boot_id");
    let bytes = read_limited(path, 64).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Some(text.trim_end().to_owned())
}
