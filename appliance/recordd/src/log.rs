//! The log in memory: opened, read and exported. `round` says how it grows.
//!
//! What was ever answered lies in the journal or in the log's files. Entries of the journal are brought
//! under the checkpoint again at the next start, byte for byte, so that no size is ever signed with two
//! roots.

use cloister_attest::SigningKey;
use cloister_config::Config;
use cloister_daemon::{credentials, files::read_limited};
use cloister_domain::RecordIndex;
use cloister_record::{
    Checkpoint, Host, Place, Promotions, Record, Signer, VerifierKey,
    tiles::{self, Kind, Tile, WIDTH},
    tree::Tree,
};
use cloister_wire::record::Answer;

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

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) files: Files,
    pub(crate) key: SigningKey,
    pub(crate) verifier: VerifierKey,
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
        let cosigned = Cosigned::open(&files, &config.record.witnesses)?;
        let (journal, journalled) = Journal::open(files.beside("journal"))?;
        let settled = signed.size;
        let promotions = Promotions::new(&origin);
        let mut log = Self {
            files,
            journal,
            key,
            verifier,
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
        let rounds = log.journal.replay(&journalled, settled)?;
        log.complete(&rounds)?;
        log.compare_with_kept()?;
        let (full, changing) = full_and_changing(log.settled);
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

    /// Takes in the entries that only the journal holds, and has the log's files hold them too.
    fn complete(&mut self, rounds: &[Round<'_>]) -> Result<(), Error> {
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
                let by_host = || record.check_signed_by(self.verifier.key()).is_ok();
                if !placed || (record.is_by_the_host() && !by_host()) {
                    return Err(damaged());
                }
                self.adopt(text)?;
            }
        }
        let count = self.tree.size() - self.settled;
        if count > 0 {
            tracing::info!(from = self.settled, count, "entries of the journal are taken in");
            self.advance()?;
            self.settle_or_warn();
        }
        Ok(())
    }

    /// Takes an entry that is durable into memory.
    fn adopt(&mut self, text: &[u8]) -> Result<(), Error> {
        let damaged = |_kind| Error::Damaged { what: "an entry" };
        let record = Record::parse(text).map_err(damaged)?;
        self.index.add(self.tree.size(), text, &record);
        self.hold(text, &record);
        Ok(())
    }

    pub(crate) fn appended(&self, seq: u64) -> Answer {
        let leaf = self.tree.subtree(0, seq).expect("the entry is in the tree");
        Answer::Appended { index: RecordIndex(seq), leaf }
    }

    /// Size, root and checkpoint as last signed.
    pub(crate) fn head(&self) -> Answer {
        Answer::Head {
            origin: self.signed.origin.clone(),
            size: self.signed.size,
            root: self.signed.root,
            checkpoint: self.checkpoint().to_owned(),
            log_key: self.verifier.to_string(),
            rolled_back: self.cosigned.rolled_back.clone(),
        }
    }

    /// The last checkpoint, with the cosignatures that it has.
    fn checkpoint(&self) -> &str {
        self.cosigned.at(self.signed.size).unwrap_or(&self.note)
    }

    /// Entries under the checkpoint from `from`, at most `count` and no more than an answer holds.
    pub(crate) fn read(&self, from: RecordIndex, count: u32) -> Result<Answer, Error> {
        let size = self.signed.size;
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
