//! The copy itself: one thread reads and checks, another unpacks and writes.

use std::{
    fs::File,
    io::{Read, Seek},
    ops::ControlFlow,
    os::unix::fs::FileExt as _,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
};

use cloister_bundle::{
    BundleError, Carried, Chunk, Table, VolumeHead,
    container::member_bytes,
    handover::{Complete, Missing, Plan},
    limits::CHUNK_STORED_BYTES_MAX,
};
use cloister_domain::{ByteCount, Digest, GenerationId, ImportId};

use crate::{
    QuarantineError, Source,
    decode::Decoder,
    parts::{Parts, sync_or_empty},
};

/// Stored chunks in memory at a time: one being read, two waiting, one being written.
const BUFFERS: usize = 4;

/// Bytes after which the file being written is synced: a power cut costs seconds of copying, and the
/// disk still gets long runs.
const SYNC_BYTES: u64 = 256 << 20;

/// Bytes written at a time. File systems take more of the processor for smaller writes, and whoever answers
/// questions meanwhile waits for the end of one.
const WRITE_BYTES: usize = 256 << 10;

/// What to copy and where to.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// What verification allows.
    pub plan: &'a Plan,
    /// The verified index.
    pub index: &'a Table<File>,
    /// Which chunks this volume holds.
    pub volume: &'a VolumeHead,
    /// Which of these a thin volume carries; `None` where it is all.
    pub carried: Option<&'a Carried>,
    /// The verified attestations.
    pub attestations: &'a [Vec<u8>],
    /// Space that must be left free.
    pub reserve: ByteCount,
}

/// How a copy ended well.
#[derive(Debug)]
pub enum Outcome {
    /// The whole release is there.
    Whole(Quarantined),
    /// This volume is copied, and other volumes hold what is missing.
    Parted(Parted),
}

/// A volume of which nothing is missing any more, while other volumes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parted {
    /// [`Source::digest`] of this session.
    pub volume: Digest,
    /// Bytes read from the medium in this session.
    pub read_bytes: ByteCount,
    /// Chunks that it brought.
    pub copied_chunks: u64,
    /// What is still to come.
    pub missing: Missing,
}

/// A release of which every byte lies in quarantine, hashed before it was unpacked, and fsynced.
///
/// Only [`Task::copy`] makes one.
#[derive(Debug)]
pub struct Quarantined {
    import: ImportId,
    generation: GenerationId,
    complete: Complete,
}

impl Quarantined {
    /// The import.
    #[must_use]
    pub const fn import(&self) -> ImportId {
        self.import
    }

    /// The release.
    #[must_use]
    pub const fn generation(&self) -> GenerationId {
        self.generation
    }

    /// What to tell verification.
    #[must_use]
    pub const fn complete(&self) -> &Complete {
        &self.complete
    }
}

impl Task<'_> {
    /// Copies the chunks that `parts` lack off `source`, which stands behind the index, to the end
    /// of the volume. A volume of which nothing is missing is passed over in one step.
    ///
    /// `progress` hears how many plain bytes of the release are in quarantine or on the shelf, after
    /// every few chunks, and may break off. Killing the process loses none of them; a power cut loses
    /// at most the last 256 MiB, which the next copy notices. At the end all are synced.
    ///
    /// # Errors
    /// [`QuarantineError`]; what was written stays, and another call with parts that were opened
    /// anew goes on from there.
    pub fn copy<R: Read + Seek>(
        &self,
        parts: &mut Parts,
        source: &mut Source<R>,
        mut progress: impl FnMut(ByteCount) -> ControlFlow<()>,
    ) -> Result<Outcome, QuarantineError> {
        if !parts.is_of(self.plan) {
            return Err(QuarantineError::Plan);
        }
        for attestation in self.attestations {
            parts.keep_attestation(attestation)?;
        }
        parts.remember(self.volume)?;
        let held = parts.held_bytes(self.index)?;
        let written = AtomicU64::new(held);
        parts.check_space(self.index.plain_bytes().saturating_sub(held), self.reserve)?;
        let mut last = None;
        let mut tell = || {
            let now = written.load(Ordering::Relaxed);
            let changed = last.replace(now) != Some(now);
            if changed && progress(ByteCount(now)).is_break() {
                Err(QuarantineError::Interrupted)
            } else {
                Ok(())
            }
        };
        tell()?;
        let copied = thread::scope(|scope| {
            let (to_writer, from_reader) = sync_channel(BUFFERS.saturating_sub(2));
            let (to_reader, from_writer) = channel();
            let (parts, written) = (&*parts, &written);
            let writer = Writer { parts, written, unsynced: 0, open: None };
            let writer = scope.spawn(move || writer.run(&from_reader, &to_reader));
            let read = self.read_all(source, parts, &to_writer, &from_writer, &mut tell);
            drop(to_writer);
            let written = writer.join().expect("a panic ends the process");
            // If the writer failed, the reader failed for that reason only.
            written.and(read)
        })?;
        for number in &copied {
            parts.hold(*number);
        }
        tell()?;
        parts.sync_all()?;
        parts.note_looks();
        let (volume, read_bytes) = (source.digest(), source.read_bytes());
        if !parts.is_whole() {
            let copied_chunks = u64::try_from(copied.len()).expect("a count fits 64 bits");
            let missing = parts.missing(self.index, self.volume)?;
            return Ok(Outcome::Parted(Parted { volume, read_bytes, copied_chunks, missing }));
        }
        let resumed_chunks = parts.resumed_chunks();
        Ok(Outcome::Whole(Quarantined {
            import: self.plan.import,
            generation: self.plan.generation,
            complete: Complete { volume, read_bytes, resumed_chunks },
        }))
    }

    /// Reads the volume to its end; says which chunks went to the writer.
    fn read_all<R: Read + Seek>(
        &self,
        source: &mut Source<R>,
        parts: &Parts,
        to_writer: &SyncSender<Checked>,
        from_writer: &Receiver<Vec<u8>>,
        tell: &mut impl FnMut() -> Result<(), QuarantineError>,
    ) -> Result<Vec<usize>, QuarantineError> {
        let first =
            usize::try_from(self.volume.first_chunk).map_err(|_large| QuarantineError::Plan)?;
        let chunks = self.index.of_volume(self.volume)?;
        let mut spare: Vec<Vec<u8>> = (0..BUFFERS).map(|_| Vec::new()).collect();
        let mut copied = Vec::new();
        // Bytes of members that are not read, since the last that was.
        let (mut passed, beyond) = (0u64, BundleError::Truncated);
        for (number, chunk) in (first..).zip(chunks) {
            let chunk = chunk?;
            let in_range = number.saturating_sub(first);
            if self.carried.is_some_and(|carried| !carried.has(in_range)) {
                continue;
            }
            if parts.is_held(number) {
                let member = member_bytes(chunk.stored_bytes);
                passed = member.and_then(|bytes| passed.checked_add(bytes)).ok_or(beyond)?;
                continue;
            }
            source.pass_over(std::mem::take(&mut passed))?;
            spare.extend(from_writer.try_iter());
            let mut buffer = match spare.pop() {
                Some(buffer) => buffer,
                None => {
                    from_writer.recv().map_err(|_writer_failed| QuarantineError::Interrupted)?
                }
            };
            let position = u64::try_from(number).map_err(|_large| QuarantineError::Plan)?;
            source.chunk(position, chunk.stored, chunk.stored_bytes, &mut buffer)?;
            let checked = Checked { number: position, chunk, stored: buffer };
            to_writer.send(checked).map_err(|_writer_failed| QuarantineError::Interrupted)?;
            copied.push(number);
            tell()?;
        }
        source.pass_over(passed)?;
        source.end()?;
        Ok(copied)
    }
}

/// A chunk whose stored bytes have the signed digest.
struct Checked {
    number: u64,
    chunk: Chunk,
    stored: Vec<u8>,
}

/// Unpacks checked chunks and writes them to their places.
struct Writer<'a> {
    parts: &'a Parts,
    /// Plain bytes that are in quarantine or on the shelf.
    written: &'a AtomicU64,
    /// Bytes written since the last sync.
    unsynced: u64,
    open: Option<(u64, File)>,
}

impl Writer<'_> {
    fn run(
        mut self,
        chunks: &Receiver<Checked>,
        spare: &Sender<Vec<u8>>,
    ) -> Result<(), QuarantineError> {
        let mut decoder = Decoder::new().map_err(QuarantineError::Write)?;
        for Checked { number, chunk, stored } in chunks {
            debug_assert!(chunk.stored_bytes <= CHUNK_STORED_BYTES_MAX, "the index checked it");
            let plain = decoder.plain(number, &chunk, &stored)?;
            self.write(&chunk, plain)?;
            // A reader that has read everything takes no buffer back.
            let _reader_may_be_done: Result<(), _> = spare.send(stored);
        }
        self.sync()
    }

    fn write(&mut self, chunk: &Chunk, plain: &[u8]) -> Result<(), QuarantineError> {
        if self.open.as_ref().is_none_or(|(number, _)| *number != chunk.file) {
            self.sync()?;
            let number = usize::try_from(chunk.file).map_err(|_large| QuarantineError::Plan)?;
            self.open =
                Some((chunk.file, self.parts.file(number).map_err(QuarantineError::Write)?));
        }
        let (_number, file) = self.open.as_ref().expect("opened above");
        for (piece, at) in plain.chunks(WRITE_BYTES).zip((chunk.offset..).step_by(WRITE_BYTES)) {
            file.write_all_at(piece, at).map_err(QuarantineError::Write)?;
            thread::yield_now();
        }
        self.written.fetch_add(chunk.plain_bytes, Ordering::Relaxed);
        self.unsynced = self.unsynced.saturating_add(chunk.plain_bytes);
        if self.unsynced >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<(), QuarantineError> {
        if let Some((_number, file)) = &self.open {
            sync_or_empty(file)?;
        }
        self.unsynced = 0;
        Ok(())
    }
}
