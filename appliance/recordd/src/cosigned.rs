//! What witnesses said of this log: their cosignatures, kept by the size of the checkpoint, and the
//! evidence that the log is not the one that was shown before.
//!
//! A checkpoint that this log's key signed and that the log does not contain has one innocent reason:
//! the state was restored from an old copy. That checkpoint is kept as it came and shown with every
//! head, for as long as the log does not contain it.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use cloister_daemon::files::{FileError, read_limited, write_atomic};
use cloister_record::{AddCheckpoint, Checkpoint, Note, RecordError, WitnessKey, with_signatures};
use cloister_wire::record::Answer;

use crate::{
    RecorddError as Error,
    files::{Files, make_durable_folder, remove_durably},
    log::Log,
};

/// Checkpoints that are kept with their cosignatures: the newest ones.
const KEPT_MAX: usize = 64;

/// The largest checkpoint, in bytes.
const NOTE_BYTES_MAX: u64 = 64 << 10;

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
    /// A checkpoint of this log that it does not contain.
    pub(crate) rolled_back: Option<String>,
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
            rolled_back: None,
        };
        let list = |source| Error::Read(FileError::System { act: "list", source });
        match fs::read_dir(&this.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            names => {
                for name in names.map_err(list)? {
                    let path = name.map_err(list)?.path();
                    // What a crash left half written has another name.
                    let size = path.file_name().and_then(|name| name.to_str()?.parse().ok());
                    if let Some(size) = size {
                        this.notes.insert(size, read_note(&path)?.unwrap_or_default());
                    }
                }
            }
        }
        this.rolled_back = read_note(&this.evidence)?;
        Ok(this)
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
    fn keep(&mut self, size: u64, note: String) -> Result<(), Error> {
        make_durable_folder(&self.folder).map_err(|source| {
            Error::Disk(FileError::System { act: "make a folder for", source })
        })?;
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

    /// Keeps evidence.
    fn accuse(&mut self, note: &str, size: u64, held: u64) -> Result<(), Error> {
        tracing::error!(
            code = "record.rolled-back",
            size,
            held,
            "this log signed what it does not contain"
        );
        write_atomic(&self.evidence, note.as_bytes(), MODE).map_err(Error::Disk)?;
        self.rolled_back = Some(note.to_owned());
        Ok(())
    }
}

fn read_note(path: &std::path::Path) -> Result<Option<String>, Error> {
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
        if let Some(note) = self.cosigned.rolled_back.clone() {
            let evidence = self.own(&note).map_err(|_kind| Error::OtherLog)?;
            if self.contains(&evidence) {
                // The right state is back.
                remove_durably(&self.cosigned.evidence).map_err(Error::Disk)?;
                self.cosigned.rolled_back = None;
            } else {
                tracing::error!(
                    code = "record.rolled-back",
                    size = evidence.size,
                    held = self.signed.size,
                    "this log signed what it does not contain"
                );
            }
        }
        for (size, note) in self.cosigned.notes.clone() {
            let kept = self.own(&note).map_err(|_kind| Error::Damaged { what: "a cosignature" })?;
            if kept.size != size {
                return Err(Error::Damaged { what: "a cosignature" });
            }
            if !self.contains(&kept) {
                self.cosigned.accuse(&note, kept.size, self.signed.size)?;
                self.cosigned.notes.remove(&size);
            }
        }
        Ok(())
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
        let shown = self.own(&note).map_err(Error::Entry)?;
        if !self.contains(&shown) {
            self.cosigned.accuse(&note, shown.size, self.signed.size)?;
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
        self.cosigned.keep(shown.size, both)?;
        Ok(Answer::Cosigned { size: shown.size, witnesses })
    }
}
