//! The unfinished files in quarantine: what they hold already, and writing the rest.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    iter::Peekable,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use cloister_bundle::{
    Carried, Chunk, Chunks, Table, TableError, VolumeHead,
    handover::{Missing, Plan, PlannedFile},
};
use cloister_domain::{ByteCount, Digest};
use nix::{fcntl::OFlag, sys::statvfs::statvfs};

use crate::{
    QuarantineError,
    missing::{Needs, Volumes},
};

/// Verification, which is of the same group, writes into it what it finds on the shelf.
const PART_MODE: u32 = 0o660;

/// The folder of one import, and which of the release's chunks are in it or on the shelf.
#[derive(Debug)]
pub struct Parts {
    plan: Plan,
    folder: PathBuf,
    volumes: Volumes,
    needs: Needs,
    /// How each file looked when this was last known to be true.
    looked: Vec<Option<Look>>,
    /// For each chunk of the index, whether its bytes are in quarantine or on the shelf.
    held: Vec<bool>,
    /// Chunks that an earlier session left whole.
    resumed_chunks: u64,
}

/// What is not there yet of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes on the medium.
    pub stored_bytes: ByteCount,
    /// Their bytes in quarantine.
    pub plain_bytes: ByteCount,
}

/// A file's inode, length and time of its last change: another of them means other bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Parts {
    /// Makes what is missing of the folder, hashes what an earlier session left in its files, and
    /// creates those that are not there.
    ///
    /// # Errors
    /// [`QuarantineError::Plan`] and [`QuarantineError::Write`].
    pub fn open(
        quarantine: &Path,
        plan: &Plan,
        index: &Table<File>,
    ) -> Result<Self, QuarantineError> {
        let parts = Self::in_folder(quarantine, plan)?;
        make_folder(&parts.folder.join("files"))?;
        parts.take_all(index, true)
    }

    /// As [`Parts::open`], and makes and changes nothing: for a look ahead.
    ///
    /// # Errors
    /// As [`Parts::open`].
    pub fn look(
        quarantine: &Path,
        plan: &Plan,
        index: &Table<File>,
    ) -> Result<Self, QuarantineError> {
        Self::in_folder(quarantine, plan)?.take_all(index, false)
    }

    fn in_folder(quarantine: &Path, plan: &Plan) -> Result<Self, QuarantineError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if plan.folder.is_empty() || !plan.folder.bytes().all(plain) {
            return Err(QuarantineError::Plan);
        }
        let folder = quarantine.join(&plan.folder);
        Ok(Self {
            plan: plan.clone(),
            volumes: Volumes::load(&folder),
            needs: Needs::load(&folder),
            folder,
            looked: Vec::new(),
            held: Vec::new(),
            resumed_chunks: 0,
        })
    }

    fn take_all(mut self, index: &Table<File>, making: bool) -> Result<Self, QuarantineError> {
        let files = std::mem::take(&mut self.plan.files);
        let mut chunks = index.chunks().peekable();
        for (number, file) in files.iter().enumerate() {
            self.take_stock(number, file, &mut chunks, making)?;
        }
        self.plan.files = files;
        self.note_looks();
        if chunks.next().is_none() { Ok(self) } else { Err(QuarantineError::Plan) }
    }

    /// Whether this is still what lies in quarantine for `plan`: no file was changed, taken away or
    /// put in its place since. So the next volume of a release needs no hashing of the last.
    #[must_use]
    pub fn is_of(&self, plan: &Plan) -> bool {
        *plan == self.plan
            && (0..plan.files.len()).zip(&self.looked).all(|(n, look)| self.look_at(n) == *look)
    }

    /// Remembers how the files look now.
    pub(crate) fn note_looks(&mut self) {
        self.looked = (0..self.plan.files.len()).map(|number| self.look_at(number)).collect();
    }

    fn look_at(&self, number: usize) -> Option<Look> {
        let found = fs::symlink_metadata(self.folder.join(Plan::part_name(number))).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some(Look { inode: found.ino(), bytes: found.len(), changed })
    }

    /// Remembers that a volume is being read.
    pub(crate) fn remember(&mut self, volume: &VolumeHead) -> Result<(), QuarantineError> {
        self.volumes.remember(&self.folder, volume).map_err(QuarantineError::Write)
    }

    /// What is not there, and on which volumes of a set like that of `volume` it must be.
    ///
    /// # Errors
    /// [`QuarantineError::Aside`].
    pub fn missing(
        &self,
        index: &Table<File>,
        volume: &VolumeHead,
    ) -> Result<Missing, QuarantineError> {
        Ok(self.volumes.missing(index, &self.held, volume.volumes, &self.needs)?)
    }

    /// What of `volume`, which carries `carried` or all, is not there.
    ///
    /// # Errors
    /// [`QuarantineError::Form`] if the volume is none of this release; [`QuarantineError::Aside`].
    pub fn wanted(
        &self,
        index: &Table<File>,
        volume: &VolumeHead,
        carried: Option<&Carried>,
    ) -> Result<Wanted, QuarantineError> {
        let first = usize::try_from(volume.first_chunk).unwrap_or(usize::MAX);
        let mut wanted = Wanted::default();
        // All sums are below those of the index, which it has checked.
        for (number, chunk) in (first..).zip(index.of_volume(volume)?) {
            let chunk = chunk?;
            let brought = carried.is_none_or(|carried| carried.has(number.saturating_sub(first)));
            if brought && !self.is_held(number) {
                wanted.chunks = wanted.chunks.saturating_add(1);
                wanted.stored_bytes.0 = wanted.stored_bytes.0.saturating_add(chunk.stored_bytes);
                wanted.plain_bytes.0 = wanted.plain_bytes.0.saturating_add(chunk.plain_bytes);
            }
        }
        Ok(wanted)
    }

    /// Counts `volume` as read and its chunks as there, for a look ahead.
    pub fn suppose(&mut self, volume: &VolumeHead, carried: Option<&Carried>) {
        self.volumes.suppose(volume);
        let first = usize::try_from(volume.first_chunk).unwrap_or(usize::MAX);
        let count = usize::try_from(volume.chunks).unwrap_or(usize::MAX);
        for (number, held) in self.held.iter_mut().skip(first).take(count).enumerate() {
            *held |= carried.is_none_or(|carried| carried.has(number));
        }
    }

    /// Chunks of a thin `volume`, by position in the index, that it leaves out and that are not
    /// there: the shelf must have them.
    #[must_use]
    pub fn left_out(&self, volume: &VolumeHead, carried: &Carried) -> Vec<u64> {
        let numbers = (0u64..volume.chunks).zip(0usize..);
        let absent = numbers.filter_map(|(far, near)| {
            let number = volume.first_chunk.checked_add(far)?;
            let held = self.is_held(usize::try_from(number).ok()?);
            (!held && !carried.has(near)).then_some(number)
        });
        absent.collect()
    }

    /// Hashes chunks that somebody else wrote to their places, and counts the right ones as there.
    ///
    /// # Errors
    /// [`QuarantineError::Write`] and [`QuarantineError::Aside`]; [`QuarantineError::Plan`] for a number
    /// outside of the index.
    pub fn take_filled(
        &mut self,
        index: &Table<File>,
        numbers: &[u64],
    ) -> Result<(), QuarantineError> {
        let mut buffer = Vec::new();
        for number in numbers {
            let chunk = index.chunk(*number)?.ok_or(QuarantineError::Plan)?;
            let number = usize::try_from(*number).map_err(|_large| QuarantineError::Plan)?;
            let file = usize::try_from(chunk.file).map_err(|_large| QuarantineError::Plan)?;
            let part = self.file(file).map_err(QuarantineError::Write)?;
            let length = part.metadata().map_err(QuarantineError::Write)?.len();
            if holds(&part, length, &chunk, &mut buffer)? {
                self.hold(number);
            }
        }
        self.note_looks();
        Ok(())
    }

    /// Remembers which chunks thin volumes left out and nobody has, by content.
    ///
    /// # Errors
    /// [`QuarantineError::Write`] and [`QuarantineError::Aside`].
    pub fn note_needs(
        &mut self,
        index: &Table<File>,
        numbers: &[u64],
    ) -> Result<(), QuarantineError> {
        let more = contents(index, numbers)?;
        self.needs.note(&self.folder, more).map_err(QuarantineError::Write)
    }

    /// Counts those `filled` of the chunks that a thin volume leaves out as there, and the others as what
    /// nobody has, for a look ahead.
    ///
    /// # Errors
    /// [`QuarantineError::Aside`].
    pub fn suppose_filled(
        &mut self,
        index: &Table<File>,
        left_out: &[u64],
        filled: &[u64],
    ) -> Result<(), QuarantineError> {
        let filled: BTreeSet<u64> = filled.iter().copied().collect();
        for number in filled.iter().filter_map(|number| usize::try_from(*number).ok()) {
            if let Some(held) = self.held.get_mut(number) {
                *held = true;
            }
        }
        let absent: Vec<u64> =
            left_out.iter().copied().filter(|number| !filled.contains(number)).collect();
        self.needs.suppose(contents(index, &absent)?);
        Ok(())
    }

    /// Hashes what file `number` holds already of its chunks, which come next in the index.
    fn take_stock(
        &mut self,
        number: usize,
        file: &PlannedFile,
        chunks: &mut Peekable<Chunks<'_, File>>,
        making: bool,
    ) -> Result<(), QuarantineError> {
        let part = if file.present {
            None
        } else {
            match self.open_file(number, making) {
                Err(error) if !making && error.kind() == io::ErrorKind::NotFound => None,
                part => Some(part.map_err(QuarantineError::Write)?),
            }
        };
        let length = match &part {
            Some(part) => part.metadata().map_err(QuarantineError::Write)?.len(),
            None => 0,
        };
        let ByteCount(planned) = file.bytes;
        if let (Some(part), true) = (&part, making && length > planned) {
            part.set_len(planned).map_err(QuarantineError::Write)?;
        }
        let mut buffer = Vec::new();
        let ends = |chunk: &Result<Chunk, TableError>| {
            chunk.as_ref().is_ok_and(|chunk| usize::try_from(chunk.file) != Ok(number))
        };
        while let Some(chunk) = chunks.next_if(|chunk| !ends(chunk)) {
            let chunk = chunk?;
            let held = match &part {
                Some(part) => holds(part, length, &chunk, &mut buffer)?,
                None => file.present,
            };
            let resumed = held && part.is_some();
            self.resumed_chunks = self.resumed_chunks.saturating_add(u64::from(resumed));
            self.held.push(held);
        }
        Ok(())
    }

    /// The file that becomes file `number` of the release, open for reading and writing.
    pub(crate) fn file(&self, number: usize) -> io::Result<File> {
        self.open_file(number, true)
    }

    fn open_file(&self, number: usize, making: bool) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(making)
            .create(making)
            .truncate(false)
            .mode(PART_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(self.folder.join(Plan::part_name(number)))
    }

    /// Keeps an attestation under its digest.
    pub(crate) fn keep_attestation(&self, bytes: &[u8]) -> Result<(), QuarantineError> {
        let folder = self.folder.join("attest");
        make_folder(&folder)?;
        let keep = || {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o640)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(folder.join(Digest::of(bytes).to_string()))?;
            file.write_all_at(bytes, 0)?;
            file.sync_all()?;
            File::open(&folder)?.sync_all()
        };
        keep().map_err(QuarantineError::Write)
    }

    /// Makes all files and their names last, also those that an earlier session wrote and was killed over.
    pub(crate) fn sync_all(&self) -> Result<(), QuarantineError> {
        for (number, _) in self.plan.files.iter().enumerate().filter(|(_, file)| !file.present) {
            sync_or_empty(&self.file(number).map_err(QuarantineError::Write)?)?;
        }
        let sync = |folder: &Path| File::open(folder)?.sync_all();
        sync(&self.folder.join("files"))
            .and_then(|()| sync(&self.folder))
            .map_err(QuarantineError::Write)
    }

    /// Whether chunk `number` is there.
    pub(crate) fn is_held(&self, number: usize) -> bool {
        self.held.get(number).copied().unwrap_or(false)
    }

    /// Notes that chunk `number` is there.
    pub(crate) fn hold(&mut self, number: usize) {
        if let Some(held) = self.held.get_mut(number) {
            *held = true;
        }
    }

    /// Whether every chunk is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.held.iter().all(|held| *held)
    }

    /// Plain bytes of the chunks that are there.
    ///
    /// # Errors
    /// [`QuarantineError::Aside`].
    pub fn held_bytes(&self, index: &Table<File>) -> Result<u64, QuarantineError> {
        let there = index.chunks().zip(&self.held).filter(|(_, held)| **held);
        // Their sum is below that of all chunks, which the index has checked.
        let sum = |sum: u64, (chunk, _): (Result<Chunk, TableError>, _)| {
            Ok(sum.saturating_add(chunk?.plain_bytes))
        };
        { there }.try_fold(0u64, sum)
    }

    /// Chunks that an earlier session left whole in quarantine.
    #[must_use]
    pub const fn resumed_chunks(&self) -> u64 {
        self.resumed_chunks
    }

    /// Refuses if `needed` and `reserve` do not fit on the file system.
    pub(crate) fn check_space(
        &self,
        needed: u64,
        reserve: ByteCount,
    ) -> Result<(), QuarantineError> {
        let figures =
            statvfs(&self.folder).map_err(|errno| QuarantineError::Write(errno.into()))?;
        let free = figures.blocks_available().saturating_mul(figures.fragment_size());
        let needed = needed.saturating_add(reserve.0);
        if needed <= free {
            return Ok(());
        }
        Err(QuarantineError::Space { needed: ByteCount(needed), free: ByteCount(free) })
    }
}

/// Makes what was written to `file` last, or empties it. After a failed fsync(2) the system takes what it
/// could not write for written: whoever read the file again would find it whole, in memory only.
pub(crate) fn sync_or_empty(file: &File) -> Result<(), QuarantineError> {
    file.sync_data().map_err(|source| {
        // A file that keeps its length has no other bytes than those that it lost.
        file.set_len(0).unwrap_or_default();
        QuarantineError::Write(source)
    })
}

/// The contents of the chunks of these numbers.
fn contents(index: &Table<File>, numbers: &[u64]) -> Result<Vec<Digest>, QuarantineError> {
    let mut contents = Vec::new();
    for number in numbers {
        contents.extend(index.chunk(*number)?.map(|chunk| chunk.content));
    }
    Ok(contents)
}

/// Whether `part`, `length` bytes long, holds `chunk` at its place.
fn holds(
    part: &File,
    length: u64,
    chunk: &Chunk,
    buffer: &mut Vec<u8>,
) -> Result<bool, QuarantineError> {
    let end = chunk.offset.checked_add(chunk.plain_bytes).ok_or(QuarantineError::Plan)?;
    if end > length {
        return Ok(false);
    }
    let bytes = usize::try_from(chunk.plain_bytes).map_err(|_large| QuarantineError::Plan)?;
    buffer.resize(bytes, 0);
    part.read_exact_at(buffer, chunk.offset).map_err(QuarantineError::Write)?;
    Ok(Digest::of(buffer) == chunk.content)
}

/// Makes `folder` and its parents, for this user and its group.
fn make_folder(folder: &Path) -> Result<(), QuarantineError> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(QuarantineError::Write(io::ErrorKind::NotADirectory.into())),
        Err(_) => DirBuilder::new()
            .recursive(true)
            .mode(0o770)
            .create(folder)
            .map_err(QuarantineError::Write),
    }
}
