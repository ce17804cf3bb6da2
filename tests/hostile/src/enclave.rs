//! What intaked and updaterd do with a volume together, in one process: the same calls in the same
//! order, without sockets, records and people.

use std::{fs, io::Cursor, ops::ControlFlow, path::PathBuf};

use anyhow::Result;
use cloister_bundle::{
    BundleError, Manifest, Table,
    handover::{Expected, Plan, PlannedFile},
};
use cloister_domain::{ByteCount, Coded, Digest, GenerationId, ImportId};
use cloister_quarantine::{Ending, Outcome, Parts, QuarantineError, Source, Task};
use cloister_shelf::Shelf;
use cloister_verify::{TrustState, enrol};

use crate::base::digest_of;

/// An appliance that has enrolled a root and seen nothing else.
#[derive(Debug)]
pub struct Enclave {
    trust: TrustState,
    folder: tempfile::TempDir,
    /// The manifest of a head that was judged good: the same bytes get the same judgement.
    known: Option<(Digest, Manifest)>,
}

/// Why a volume was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code of the error.
    pub code: &'static str,
}

impl<E: Coded> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { code: error.code() }
    }
}

/// updaterd's own refusal: the head names another release than the manifest.
const OTHER_RELEASE: Refusal = Refusal { code: "bundle.head.other" };
/// intaked's own refusal: a part of the release is on other volumes.
const MORE: Refusal = Refusal { code: "intake.volume.more" };

impl Enclave {
    /// Enrols `root`. Quarantine lies in memory where there is such a folder.
    pub fn new(root: &[u8]) -> Result<Self> {
        let memory = PathBuf::from("/dev/shm");
        let place = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("cloister-hostile-").tempdir_in(place)?;
        Ok(Self { trust: enrol(root, Digest::of(root))?, folder, known: None })
    }

    /// The trust state after the enrolment.
    #[must_use]
    pub const fn trust(&self) -> &TrustState {
        &self.trust
    }

    /// Remembers the judgement of this volume's head, so that other damage to it is seen sooner.
    ///
    /// # Panics
    /// If the head is refused.
    pub fn learn(&mut self, volume: &[u8]) {
        let mut source = Source::new(Cursor::new(volume), Ending::File);
        let place = source.place().expect("a good head");
        let head = source.head(place).expect("a good head");
        let manifest = self.judge(&head.meta, &head.manifest).expect("a good release");
        self.known = Some((digest_of(&[&head.meta, &head.manifest]), manifest));
    }

    /// Offers a volume; the release once all of it is on the shelf.
    ///
    /// # Panics
    /// If the quarantine of this process cannot be written.
    pub fn offer(&self, volume: &[u8]) -> Result<GenerationId, Refusal> {
        let mut source = Source::new(Cursor::new(volume), Ending::File);
        let place = source.place()?;
        let head = source.head(place)?;
        let pair = digest_of(&[&head.meta, &head.manifest]);
        let manifest = match &self.known {
            Some((known, manifest)) if *known == pair => manifest.clone(),
            _ => self.judge(&head.meta, &head.manifest)?,
        };
        let generation = manifest.generation();
        if head.volume.bundle != generation {
            return Err(OTHER_RELEASE);
        }
        let release = manifest.release();
        let mut attestations = Vec::new();
        for attached in &release.attestations {
            let bytes = ByteCount(attached.length);
            attestations.push(source.attestation(Expected { sha256: attached.sha256, bytes })?);
        }
        let expected =
            Expected { sha256: release.index.sha256, bytes: ByteCount(release.index.length) };
        let mut aside = tempfile::tempfile_in(self.folder.path()).expect("quarantine is ours");
        source.index(expected, &mut aside)?;
        let opened = Table::open(aside, release.index.length, &release.files);
        let index = opened.map_err(QuarantineError::from)?;
        let sums = (index.plain_bytes(), index.stored_bytes());
        if sums != (release.index.plain_bytes, release.index.stored_bytes) {
            return Err(BundleError::Index { chunk: release.index.chunks }.into());
        }
        let planned = release.files.iter().map(|file| PlannedFile {
            bytes: ByteCount(file.size),
            sha256: file.sha256,
            present: false,
        });
        let plan = Plan {
            import: ImportId(1),
            generation,
            folder: "1".to_owned(),
            files: planned.collect(),
        };
        let carried = source.carried(head.volume.chunks)?;
        let task = Task {
            plan: &plan,
            index: &index,
            volume: &head.volume,
            carried: carried.as_ref(),
            attestations: &attestations,
            reserve: ByteCount(0),
        };
        let outcome = Parts::open(self.folder.path(), &plan, &index).and_then(|mut parts| {
            // As intaked asks before it copies, of a head that nobody has judged yet.
            let wanted = parts.wanted(&index, &head.volume, carried.as_ref())?;
            assert!(wanted.chunks <= release.index.chunks, "more is wanted than there is");
            task.copy(&mut parts, &mut source, |_done| ControlFlow::Continue(()))
        });
        let kept = match outcome {
            Ok(Outcome::Whole(_)) => self.shelve(&manifest),
            Ok(Outcome::Parted(_)) => Err(MORE),
            Err(error) => Err(error.into()),
        };
        fs::remove_dir_all(self.folder.path().join("1")).expect("quarantine is ours");
        kept.map(|()| generation)
    }

    fn judge(&self, meta: &[u8], manifest: &[u8]) -> Result<Manifest, Refusal> {
        let newer = self.trust.refresh(meta)?;
        Ok(newer.judge(manifest)?.get().clone())
    }

    /// Hashes the finished files again.
    fn shelve(&self, manifest: &Manifest) -> Result<(), Refusal> {
        let shelf = self.folder.path().join("shelf");
        let kept = Shelf::open(&shelf)?;
        let files = manifest.release().files.iter().enumerate();
        let adopted = files.map(|(number, file)| {
            let part = self.folder.path().join("1").join(Plan::part_name(number));
            Ok(kept.adopt(&part, file.sha256, ByteCount(file.size)).map(drop)?)
        });
        let adopted = adopted.collect();
        fs::remove_dir_all(&shelf).expect("the shelf is ours");
        adopted
    }
}
