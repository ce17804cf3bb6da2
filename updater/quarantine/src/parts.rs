//! The unfinished files in quarantine: what they hold already, and writing the rest.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use cloister_bundle::{
    Chunk, Index,
    handover::{Plan, PlannedFile},
};
use cloister_domain::{ByteCount, Digest};
use nix::{fcntl::OFlag, sys::statvfs::statvfs};

use crate::QuarantineError;

/// The folder of one import.
#[derive(Debug)]
pub(crate) struct Parts {
    folder: PathBuf,
    /// For each chunk of the index, whether its bytes are in quarantine or on the shelf.
    held: Vec<bool>,
    /// Chunks that an earlier session left whole.
    resumed_chunks: u64,
}

impl Parts {
    /// Makes what is missing of the folder, hashes what an earlier session left in its files, and
    /// creates those that are not there.
    pub(crate) fn open(
        quarantine: &Path,
        plan: &Plan,
        index: &Index,
    ) -> Result<Self, QuarantineError> {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if plan.folder.is_empty() || !plan.folder.bytes().all(plain) {
            return Err(QuarantineError::Plan);
        }
        let folder = quarantine.join(&plan.folder);
        make_folder(&folder.join("files"))?;
        let mut parts = Self { folder, held: Vec::new(), resumed_chunks: 0 };
        let mut chunks = index.chunks();
        for (number, file) in plan.files.iter().enumerate() {
            // The index lists files in their order, each file's chunks together.
            let of_file = |chunk: &Chunk| usize::try_from(chunk.file) == Ok(number);
            let count = chunks.iter().take_while(|chunk| of_file(chunk)).count();
            let (of_this_file, rest) = chunks.split_at(count);
            chunks = rest;
            parts.take_stock(number, file, of_this_file)?;
        }
        if chunks.is_empty() { Ok(parts) } else { Err(QuarantineError::Plan) }
    }

    fn take_stock(
        &mut self,
        number: usize,
        file: &PlannedFile,
        chunks: &[Chunk],
    ) -> Result<(), QuarantineError> {
        if file.present {
            self.held.extend(chunks.iter().map(|_on_the_shelf| true));
            return Ok(());
        }
        let part = self.file(number).map_err(QuarantineError::Write)?;
        let ByteCount(planned) = file.bytes;
        let length = part.metadata().map_err(QuarantineError::Write)?.len();
        if length > planned {
            part.set_len(planned).map_err(QuarantineError::Write)?;
        }
        let mut buffer = Vec::new();
        for chunk in chunks {
            let held = holds(&part, length, chunk, &mut buffer)?;
            self.resumed_chunks = self.resumed_chunks.saturating_add(u64::from(held));
            self.held.push(held);
        }
        Ok(())
    }

    /// The file that becomes file `number` of the release, open for reading and writing.
    pub(crate) fn file(&self, number: usize) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
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

    /// Makes the names of all files last.
    pub(crate) fn sync_names(&self) -> Result<(), QuarantineError> {
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

    /// Chunks that are not there.
    pub(crate) fn missing(&self) -> u64 {
        let missing = self.held.iter().filter(|held| !**held).count();
        u64::try_from(missing).expect("a count fits 64 bits")
    }

    /// Plain bytes of the chunks that are there.
    pub(crate) fn held_bytes(&self, index: &Index) -> u64 {
        let there = index.chunks().iter().zip(&self.held).filter(|(_, held)| **held);
        // Their sum is below that of all chunks, which the index has checked.
        there.fold(0u64, |sum, (chunk, _)| sum.saturating_add(chunk.plain_bytes))
    }

    pub(crate) const fn resumed_chunks(&self) -> u64 {
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
