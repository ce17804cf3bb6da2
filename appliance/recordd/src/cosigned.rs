//! What witnesses said of this log: their cosignatures, kept by the size of the checkpoint, and the
//! evidence that the log is not the one that was shown before.
//!
//! A checkpoint that this log's key signed and that the log does not contain has one innocent reason:
//! the state was restored from an old copy. Each such checkpoint is kept by the SHA-256 of its text and
//! shown with every head, for as long as the log does not contain it. One that is kept already is not
//! written anew, whatever stands below its text this time: nobody can put one in the place of another,
//! nor make two of one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use cloister_daemon::files::{FileError, read_limited, sync_folder, write_atomic};
use cloister_domain::Digest;
use cloister_record::{AddCheckpoint, Checkpoint, Note, RecordError, WitnessKey, with_signatures};
use cloister_wire::record::{Answer, EVIDENCE_MAX, Evidence};

use crate::{
    RecorddError as Error,
    files::{Files, remove_durably},
    log::Log,
};

/// Checkpoints that are kept with their cosignatures: the newest ones.
const KEPT_MAX: usize = 64;

/// The largest checkpoint, in bytes.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// Pieces of evidence that are kept on the word of keys alone that the log gave up: whoever found one can make
/// any number, and must not fill the place of what the log's own key says.
const UNVOUCHED_MAX: usize = 64;

/// Mode of every file; the folder above them admits the daemon alone.
const MODE: u32 = 0o644;

/// What witnesses said.
#[derive(Debug)]
pub(crate) struct Cosigned {
    witnesses: Vec<WitnessKey>,
    folder: PathBuf,
    evidence: PathBuf,
    /// Checkpoints with their cosignatures, by size.
    notes: BTreeMap<u64, String>,
    /// Checkpoints of this log that it does not contain, by the SHA-256 of their texts.
    rolled_back: BTreeMap<Digest, Evidence>,
}

impl Cosigned {
    /// What is stored; [`Log::compare_with_kept`] compares it with the log.
    pub(crate) fn open(files: &Files, witnesses: &[String]) -> Result<Self, Error> {
        let key = |text: &String| text.parse().map_err(Error::Entry);
        let mut this = Self {
            witnesses: witnesses.iter().map(key).collect::<Result<_, _>>()?,
            folder: files.beside("cosigned"),
            evidence: files.beside("rolled-back"),
            notes: BTreeMap::new(),
            rolled_back: BTreeMap::new(),
        };
        this.notes = stored(&this.folder)?.into_iter().collect();
        Ok(this)
    }

    /// The checkpoints that this log does not contain, as far as anybody showed them.
    pub(crate) fn evidence(&self) -> Vec<Evidence> {
        self.rolled_back.values().cloned().collect()
    }

    /// Whether a witness is known to have seen an entry, by whatever lies here.
    pub(crate) fn says_more_than_nothing(&self) -> bool {
        let kept = fs::read_dir(&self.evidence).is_ok_and(|mut kept| kept.next().is_some());
        self.newest().is_some() || kept || self.evidence.is_file()
    }

    /// The checkpoint of this size with its cosignatures, if it has any.
    pub(crate) fn at(&self, size: u64) -> Option<&str> {
        self.notes.get(&size).map(String::as_str)
    }

    /// The largest checkpoint with a cosignature.
    pub(crate) fn newest(&self) -> Option<(u64, &str)> {
        self.notes.last_key_value().map(|(size, note)| (*size, note.as_str()))
    }

    /// The size that `witness` cosigned last, as far as it came here; 0 for none.
    fn seen_by(&self, witness: &WitnessKey) -> u64 {
        let signed = |note: &str| {
            Note::parse(note).and_then(|note| witness.cosigned(&note)).is_ok_and(|at| at.is_some())
        };
        let newest = self.notes.iter().rev().find(|(_, note)| signed(note));
        newest.map_or(0, |(size, _)| *size)
    }

    /// The witness that is named, or the only one.
    fn witness(&self, name: Option<&str>) -> Result<&WitnessKey, Error> {
        match (name, self.witnesses.as_slice()) {
            (Some(name), all) => {
                all.iter().find(|one| one.name() == name).ok_or(Error::UnknownWitness)
            }
            (None, [only]) => Ok(only),
            (None, []) => Err(Error::UnknownWitness),
            (None, _several) => Err(Error::WhichWitness),
        }
    }

    /// `own` with the latest cosignature of each witness that stands in one of `notes`, and the names of
    /// those witnesses.
    fn gather(&self, own: &str, notes: &[&str]) -> Result<(String, Vec<String>), RecordError> {
        let (mut lines, mut names) = (String::new(), Vec::new());
        for witness in &self.witnesses {
            let mut latest = None;
            for note in notes {
                latest = latest.max(witness.latest(&Note::parse(note)?)?);
            }
            if let Some((_time_s, line)) = latest {
                lines += &line;
                names.push(witness.name().to_owned());
            }
        }
        let note = if names.is_empty() { own.to_owned() } else { with_signatures(own, &lines)? };
        Ok((note, names))
    }

    /// Keeps a checkpoint with its cosignatures, and lets the oldest go.
    fn keep(&mut self, size: u64, note: String, files: &Files) -> Result<(), Error> {
        files.make_lasting(&self.folder).map_err(Error::Disk)?;
        write_atomic(&self.folder.join(size.to_string()), note.as_bytes(), MODE)
            .map_err(Error::Disk)?;
        self.notes.insert(size, note);
        while self.notes.len() > KEPT_MAX
            && let Some((oldest, _note)) = self.notes.pop_first()
        {
            remove_durably(&self.folder.join(oldest.to_string())).map_err(Error::Disk)?;
        }
        Ok(())
    }

    /// Keeps evidence that is not kept yet, if there is room; with none, nobody goes on anyway. It counts
    /// before it is durable, and whoever hands it in again after a refusal has it written again.
    fn accuse(&mut self, evidence: Evidence, held: u64, files: &Files) -> Result<(), Error> {
        tell(&evidence, held);
        let checkpoint = evidence.checkpoint;
        let full = self.rolled_back.len() >= EVIDENCE_MAX;
        if full && !self.rolled_back.contains_key(&checkpoint) {
            return Ok(());
        }
        let kept = self.rolled_back.entry(checkpoint).or_insert(evidence);
        let path = self.evidence.join(checkpoint.to_string());
        files.write_with_reserve(|| {
            files.make_lasting(&self.evidence)?;
            if path.exists() {
                // Whoever gave it its name may have been cut off behind that.
                let failed = |source| FileError::System { act: "flush the folder of", source };
                return sync_folder(&self.evidence).map_err(failed);
            }
            write_atomic(&path, kept.note.as_bytes(), MODE)
        })
    }
}

fn damaged_evidence(_kind: RecordError) -> Error {
    Error::Damaged { what: "the evidence of a restored copy" }
}

fn tell(evidence: &Evidence, held: u64) {
    let (code, size) = ("record.rolled-back", evidence.size);
    tracing::error!(code, size, held, "this log signed what it does not contain");
}

/// The notes of a folder by their names. What a crash left half written has a name of another kind.
fn stored<N: FromStr>(folder: &Path) -> Result<Vec<(N, String)>, Error> {
    let list = |source| Error::Read(FileError::System { act: "list", source });
    let names = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(list)?,
    };
    let mut notes = Vec::new();
    for name in names {
        let path = name.map_err(list)?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) {
            notes.push((name, read_note(&path)?.unwrap_or_default()));
        }
    }
    Ok(notes)
}

fn read_note(path: &Path) -> Result<Option<String>, Error> {
    let bytes = match read_limited(path, NOTE_BYTES_MAX) {
        Err(error) if error.is_not_found() => return Ok(None),
        bytes => bytes.map_err(Error::Read)?,
    };
    let damaged = |_bytes| Error::Damaged { what: "a checkpoint with cosignatures" };
    String::from_utf8(bytes).map(Some).map_err(damaged)
}

impl Log {
    /// Compares the log with the checkpoints that are kept of it: each must be one that it contains.
    pub(crate) fn compare_with_kept(&mut self) -> Result<(), Error> {
        self.take_over_former_evidence()?;
        for (name, note) in stored::<Digest>(&self.cosigned.evidence)? {
            let (evidence, shown) = self.evidence_of(&note).map_err(damaged_evidence)?;
            if evidence.checkpoint != name {
                return Err(damaged_evidence(RecordError::Note));
            }
            if self.contains(&shown) {
                // The right state is back.
                remove_durably(&self.cosigned.evidence.join(name.to_string()))
                    .map_err(Error::Disk)?;
            } else {
                self.cosigned.rolled_back.insert(name, evidence);
            }
        }
        let largest = self.cosigned.rolled_back.values().max_by_key(|one| one.size);
        largest.into_iter().for_each(|evidence| tell(evidence, self.signed.size));
        for (size, note) in self.cosigned.notes.clone() {
            let kept = self.own(&note).map_err(|_kind| Error::Damaged { what: "a cosignature" })?;
            if kept.size != size {
                return Err(Error::Damaged { what: "a cosignature" });
            }
            if !self.contains(&kept) {
                let (evidence, _) = self.evidence_of(&note).map_err(Error::Entry)?;
                self.cosigned.accuse(evidence, self.signed.size, &self.files)?;
                self.cosigned.notes.remove(&size);
            }
        }
        Ok(())
    }

    /// Takes over the one piece of evidence that logs kept in a file before there was a folder.
    fn take_over_former_evidence(&mut self) -> Result<(), Error> {
        let former = self.cosigned.evidence.with_extension("former");
        let system = |source| Error::Disk(FileError::System { act: "rename", source });
        if self.cosigned.evidence.is_file() {
            fs::rename(&self.cosigned.evidence, &former).map_err(system)?;
        }
        let Some(note) = read_note(&former)? else { return Ok(()) };
        let (evidence, shown) = self.evidence_of(&note).map_err(damaged_evidence)?;
        if !self.contains(&shown) {
            self.cosigned.accuse(evidence, self.signed.size, &self.files)?;
        }
        remove_durably(&former).map_err(Error::Disk)
    }

    /// What a checkpoint of this log shows that it does not contain, with no more below its text than the
    /// log's signature and those of known witnesses.
    fn evidence_of(&self, note: &str) -> Result<(Evidence, Checkpoint), RecordError> {
        let shown = self.own(note)?;
        let parsed = Note::parse(note)?;
        let by = |key| Checkpoint::open(note, key).ok().and(parsed.signed_by_alone(key));
        // The key of now convicts by itself, so its line is the one that is kept.
        let keys: Vec<_> = self.keys.all().map(|(_, key)| key).collect();
        let own = keys.into_iter().rev().find_map(by);
        let own = own.ok_or(RecordError::NoteSignature)?;
        // A witness's line that does not fit convicts nobody, and acquits nobody either.
        let gathered = self.cosigned.gather(&own, &[note]);
        let evidence = Evidence {
            checkpoint: Digest::of(parsed.text().as_bytes()),
            size: shown.size,
            note: gathered.map_or(own, |(note, _names)| note),
        };
        Ok((evidence, shown))
    }

    /// Whether a checkpoint that the log does not contain convicts it. A key that was given up may be
    /// anybody's: where there are witnesses, one of them must have seen what it signed.
    fn counts(&self, evidence: &Evidence) -> bool {
        let kept = &self.cosigned.rolled_back;
        if kept.contains_key(&evidence.checkpoint) || self.is_vouched_for(evidence) {
            return true;
        }
        let unvouched = kept.values().filter(|one| !self.is_vouched_for(one)).count();
        self.cosigned.witnesses.is_empty() && unvouched < UNVOUCHED_MAX
    }

    /// Whether the log's key of now signed it, or a known witness.
    fn is_vouched_for(&self, evidence: &Evidence) -> bool {
        let own = Checkpoint::open(&evidence.note, self.keys.now()).is_ok();
        let cosigned = |note: &Note<'_>| {
            let by = |witness: &WitnessKey| witness.cosigned(note).is_ok_and(|at| at.is_some());
            self.cosigned.witnesses.iter().any(by)
        };
        own || Note::parse(&evidence.note).is_ok_and(|note| cosigned(&note))
    }

    /// A checkpoint that a key of this log signed, the present one or one before it.
    fn own(&self, note: &str) -> Result<Checkpoint, RecordError> {
        self.keys.open(note)
    }

    /// Whether the log had this root at this size.
    fn contains(&self, checkpoint: &Checkpoint) -> bool {
        checkpoint.size <= self.tree.size() && self.tree.root_of(checkpoint.size) == checkpoint.root
    }

    /// A request for a cosignature of the last checkpoint.
    pub(crate) fn cosigning(&self, witness: Option<&str>) -> Result<Answer, Error> {
        let witness = self.cosigned.witness(witness)?;
        let old = self.cosigned.seen_by(witness);
        let proof = match old {
            0 => Vec::new(),
            old => self.tree.consistency(old, self.signed.size),
        };
        let request = AddCheckpoint { old, proof, checkpoint: self.note.clone() };
        Ok(Answer::Cosigning { text: request.to_text() })
    }

    /// Takes a checkpoint of this log with what witnesses signed below it.
    pub(crate) fn accept(&mut self, checkpoint: &str, signatures: &str) -> Result<Answer, Error> {
        self.advance()?;
        let note = match signatures {
            "" => checkpoint.to_owned(),
            lines => with_signatures(checkpoint, lines).map_err(Error::Entry)?,
        };
        if self.waits()
            && let Ok(Checkpoint { size, .. }) = Checkpoint::open(&note, &self.own)
        {
            // The machine's key signed for this log before, which knows nothing of it: it is an older copy.
            return Err(Error::RolledBack { size, held: self.tree.size() });
        }
        let shown = self.own(&note).map_err(Error::Entry)?;
        if !self.contains(&shown) {
            let (evidence, _) = self.evidence_of(&note).map_err(Error::Entry)?;
            if !self.counts(&evidence) {
                return Err(Error::Entry(RecordError::NoteSignature));
            }
            self.cosigned.accuse(evidence, self.signed.size, &self.files)?;
            return Err(Error::RolledBack { size: shown.size, held: self.signed.size });
        }
        // A key that another succeeded vouches for nothing that came after it, whoever has it.
        let signer = self.keys.at(shown.size);
        Checkpoint::open(&note, signer).map_err(Error::Entry)?;
        let own = Note::parse(&note).map_err(Error::Entry)?.signed_by_alone(signer);
        let own = own.ok_or(Error::Entry(RecordError::NoteSignature))?;
        let before = self.cosigned.at(shown.size).unwrap_or(&own);
        let (both, witnesses) =
            self.cosigned.gather(&own, &[&note, before]).map_err(Error::Entry)?;
        let (_, brought) = self.cosigned.gather(&own, &[&note]).map_err(Error::Entry)?;
        if brought.is_empty() {
            return Err(Error::UnknownWitness);
        }
        self.cosigned.keep(shown.size, both, &self.files)?;
        if self.waits() {
            self.take_up_kept()?;
        }
        Ok(Answer::Cosigned { size: shown.size, witnesses })
    }
}
