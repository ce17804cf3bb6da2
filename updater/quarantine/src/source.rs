//! A volume on its medium, read strictly in order and once.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    thread,
};

use cloister_bundle::{
    BundleError, Carried, Foreign, START_BYTES, VolumeHead,
    container::{BLOCK_BYTES, Block, END_BYTES, Member, header, is_zero, padding, read_header},
    handover::Expected,
};
use cloister_domain::{ByteCount, Digest, Hasher};

use crate::QuarantineError;

/// Bytes read or hashed at a time; after each the processor is offered to whoever wants it. A
/// thread that answers questions and yields for a moment, as pools of threads do, would else come back
/// after a tick of the clock, idle weight or not.
const PIECE_BYTES: usize = 64 << 10;

/// What must follow the two zero blocks that end a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing: the volume is a file.
    File,
    /// Anything, and it is not read: the volume was written to the start of a device.
    Device,
}

/// What a volume turns out to be by its first member.
#[derive(Clone, Debug)]
pub enum Opening {
    /// Part of a release.
    Place(Place),
    /// Trust metadata and nothing else: `clb/10-meta`, to be judged.
    Trust(Vec<u8>),
}

/// A volume's first member, as it lies on the medium. A hint that nothing trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the volume says of itself.
    pub volume: VolumeHead,
    head: Vec<u8>,
}

/// The members that come before the first signature is checked, as they lie on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the volume says of itself.
    pub volume: VolumeHead,
    /// `clb/00-head`.
    pub head: Vec<u8>,
    /// `clb/10-meta`.
    pub meta: Vec<u8>,
    /// `clb/20-manifest`.
    pub manifest: Vec<u8>,
}

impl Head {
    /// A digest of what is signed: metadata and manifest. Volumes of one release have the same.
    #[must_use]
    pub fn signed(&self) -> Digest {
        let mut digest = Hasher::default();
        for part in [&self.meta, &self.manifest] {
            digest.update(Digest::of(part).as_bytes());
        }
        digest.finish()
    }
}

/// Reads a volume member by member and keeps the digest of what it read: of every byte, but for the
/// content of chunks, which the names in their headers stand for.
#[derive(Debug)]
pub struct Source<R> {
    reader: R,
    ending: Ending,
    /// Members begun so far.
    member: u64,
    hasher: Hasher,
    read_bytes: u64,
    /// A block that was read to see what comes, and belongs to what comes.
    peeked: Option<Block>,
}

impl<R: Read + Seek> Source<R> {
    /// A volume that begins where `reader` stands.
    pub fn new(reader: R, ending: Ending) -> Self {
        Self { reader, ending, member: 0, hasher: Hasher::new(), read_bytes: 0, peeked: None }
    }

    /// Reads the first member alone, which says what part of which release the volume claims to be;
    /// a volume of trust metadata is read to its end.
    ///
    /// # Errors
    /// As [`Source::place`]; [`BundleError::Foreign`] for a file that begins as one of another kind.
    pub fn opening(&mut self) -> Result<Opening, QuarantineError> {
        let begin = self.reader.stream_position().map_err(QuarantineError::of_medium)?;
        self.first().map_err(|error| {
            let form = BundleError::Header { member: 0 };
            let unread = |found: &BundleError| *found == form || *found == BundleError::Truncated;
            if !matches!(&error, QuarantineError::Form(found) if unread(found)) {
                return error;
            }
            // What cannot be read again keeps its first refusal.
            let foreign = self.foreign(begin).ok().flatten();
            foreign.map_or(error, |kind| BundleError::Foreign(kind).into())
        })
    }

    /// What lies there instead of a volume, from its start, once that could not be read as one.
    fn foreign(&mut self, begin: u64) -> io::Result<Option<Foreign>> {
        let mut start = Vec::new();
        self.reader.seek(SeekFrom::Start(begin))?;
        let most = u64::try_from(START_BYTES).expect("a length fits 64 bits");
        self.reader.by_ref().take(most).read_to_end(&mut start)?;
        Ok(Foreign::of(&start))
    }

    fn first(&mut self) -> Result<Opening, QuarantineError> {
        let block = self.block()?;
        let meta = read_header(&block, &Member::Meta.name(), Member::Meta.bytes_max(), self.member);
        let Ok(bytes) = meta else {
            self.peeked = Some(block);
            return self.place().map(Opening::Place);
        };
        self.begun();
        let mut meta = Vec::new();
        self.content(bytes, &mut meta)?;
        self.end()?;
        Ok(Opening::Trust(meta))
    }

    /// Reads the first member of a volume that must be a release's.
    ///
    /// # Errors
    /// [`QuarantineError::Form`] and [`QuarantineError::Medium`].
    pub fn place(&mut self) -> Result<Place, QuarantineError> {
        let head = self.bounded(Member::Head)?;
        Ok(Place { volume: VolumeHead::parse(&head)?, head })
    }

    /// Reads what follows `place`, the trust metadata and the manifest: with it at most about 5 MiB.
    ///
    /// # Errors
    /// As [`Source::place`].
    pub fn head(&mut self, place: Place) -> Result<Head, QuarantineError> {
        let Place { volume, head } = place;
        let meta = self.bounded(Member::Meta)?;
        let manifest = self.bounded(Member::Manifest)?;
        Ok(Head { volume, head, meta, manifest })
    }

    /// Reads the next member, which is the attestation that the manifest promised here.
    ///
    /// # Errors
    /// As [`Source::place`]; [`QuarantineError::Member`] if it is another one.
    pub fn attestation(&mut self, expected: Expected) -> Result<Vec<u8>, QuarantineError> {
        self.expected(Member::Attestation(expected.sha256), expected)
    }

    /// Reads the next member, which is the index that the manifest promised, and writes it to `aside`.
    /// Only if this succeeds does what stands there say anything.
    ///
    /// # Errors
    /// As [`Source::attestation`]; [`QuarantineError::Write`].
    pub fn index(
        &mut self,
        expected: Expected,
        aside: &mut impl Write,
    ) -> Result<(), QuarantineError> {
        self.expected_to(Member::Index, expected, aside)
    }

    /// Reads which chunks of its range of `chunks` a thin volume carries; `None` for a volume that
    /// carries them all.
    ///
    /// # Errors
    /// As [`Source::place`].
    pub fn carried(&mut self, chunks: u64) -> Result<Option<Carried>, QuarantineError> {
        let bytes = Carried::bytes(chunks);
        let block = self.block()?;
        if bytes > Member::Carried.bytes_max() || block != header(&Member::Carried.name(), bytes)? {
            self.peeked = Some(block);
            return Ok(None);
        }
        self.begun();
        let mut bits = Vec::new();
        self.content(bytes, &mut bits)?;
        Ok(Some(Carried::parse(bits, chunks)?))
    }

    /// Reads a chunk into `buffer`, hashes it, and lets it pass if it is the signed one.
    pub(crate) fn chunk(
        &mut self,
        number: u64,
        stored: Digest,
        bytes: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), QuarantineError> {
        self.known_header(Member::Chunk(stored), bytes)?;
        buffer.resize(length_of(bytes)?, 0);
        self.read(buffer)?;
        let mut hasher = Hasher::new();
        for piece in buffer.chunks(PIECE_BYTES) {
            hasher.update(piece);
            thread::yield_now();
        }
        if hasher.finish() != stored {
            return Err(BundleError::Digest { chunk: number }.into());
        }
        self.pad(bytes)
    }

    /// Passes over the members of chunks that are there already, `bytes` bytes with their headers.
    pub(crate) fn pass_over(&mut self, bytes: u64) -> Result<(), QuarantineError> {
        if bytes == 0 {
            return Ok(());
        }
        let peeked = self.peeked.take().map_or(0, |block| block.len());
        let rest = u64::try_from(peeked).ok().and_then(|peeked| bytes.checked_sub(peeked));
        let rest = rest.and_then(|rest| i64::try_from(rest).ok()).ok_or(BundleError::Truncated)?;
        // Beyond the end of a file a seek succeeds; the next read tells.
        self.reader.seek(SeekFrom::Current(rest)).map_err(QuarantineError::of_medium)?;
        Ok(())
    }

    /// Reads the end; nothing else may be there.
    pub(crate) fn end(&mut self) -> Result<(), QuarantineError> {
        for _block in 0..END_BYTES / BLOCK_BYTES {
            if !is_zero(&self.block()?) {
                return Err(BundleError::End.into());
            }
        }
        if self.ending == Ending::Device {
            return Ok(());
        }
        let mut more = [0];
        loop {
            match self.reader.read(&mut more) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(BundleError::End.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(QuarantineError::of_medium(error)),
            }
        }
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn read_bytes(&self) -> ByteCount {
        ByteCount(self.read_bytes)
    }

    /// SHA-256 of the bytes read so far, in their order, without the content of chunks: each has the
    /// digest that the header before it names.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    fn bounded(&mut self, member: Member) -> Result<Vec<u8>, QuarantineError> {
        let block = self.block()?;
        let bytes = read_header(&block, &member.name(), member.bytes_max(), self.member)?;
        self.begun();
        let mut content = Vec::new();
        self.content(bytes, &mut content)?;
        Ok(content)
    }

    fn expected(&mut self, member: Member, expected: Expected) -> Result<Vec<u8>, QuarantineError> {
        let mut content = Vec::new();
        self.expected_to(member, expected, &mut content)?;
        Ok(content)
    }

    fn expected_to(
        &mut self,
        member: Member,
        expected: Expected,
        into: &mut impl Write,
    ) -> Result<(), QuarantineError> {
        let number = self.member;
        let ByteCount(bytes) = expected.bytes;
        if bytes > member.bytes_max() {
            let max = member.bytes_max();
            return Err(BundleError::MemberSize { member: number, bytes, max }.into());
        }
        self.known_header(member, bytes)?;
        let (mut hasher, mut piece, mut rest) = (Hasher::new(), Vec::new(), bytes);
        while rest > 0 {
            let count = rest.min(PIECE_BYTES as u64);
            piece.resize(length_of(count)?, 0);
            self.fill(&mut piece)?;
            hasher.update(&piece);
            into.write_all(&piece).map_err(QuarantineError::Write)?;
            rest = rest.saturating_sub(count);
        }
        self.pad(bytes)?;
        if hasher.finish() == expected.sha256 {
            Ok(())
        } else {
            Err(QuarantineError::Member { member: number })
        }
    }

    /// Reads a header that must be this one to the last bit.
    fn known_header(&mut self, member: Member, bytes: u64) -> Result<(), QuarantineError> {
        let block = self.block()?;
        if block != header(&member.name(), bytes)? {
            return Err(BundleError::Header { member: self.member }.into());
        }
        self.begun();
        Ok(())
    }

    fn begun(&mut self) {
        self.member = self.member.saturating_add(1);
    }

    fn block(&mut self) -> Result<Block, QuarantineError> {
        if let Some(block) = self.peeked.take() {
            return Ok(block);
        }
        let mut block = [0; BLOCK_BYTES];
        self.fill(&mut block)?;
        Ok(block)
    }

    /// Reads a member's content, whose length the caller has checked against a limit, and its padding.
    fn content(&mut self, bytes: u64, content: &mut Vec<u8>) -> Result<(), QuarantineError> {
        content.resize(length_of(bytes)?, 0);
        self.fill(content)?;
        self.pad(bytes)
    }

    /// Checks that zeros pad a member of `bytes` bytes to the next block.
    fn pad(&mut self, bytes: u64) -> Result<(), QuarantineError> {
        let mut zeros = [0; BLOCK_BYTES];
        let zeros = zeros.get_mut(..padding(bytes)).expect("padding is below a block");
        self.fill(zeros)?;
        if is_zero(zeros) {
            return Ok(());
        }
        let member = self.member.saturating_sub(1);
        Err(BundleError::Padding { member }.into())
    }

    /// Fills `buffer` and takes what it holds into the digest.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), QuarantineError> {
        self.read(buffer)?;
        self.hasher.update(buffer);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<(), QuarantineError> {
        for piece in buffer.chunks_mut(PIECE_BYTES) {
            self.reader.read_exact(piece).map_err(|error| {
                if error.kind() == io::ErrorKind::UnexpectedEof {
                    BundleError::Truncated.into()
                } else {
                    QuarantineError::of_medium(error)
                }
            })?;
        }
        let count = u64::try_from(buffer.len()).expect("a length fits 64 bits");
        self.read_bytes = self.read_bytes.saturating_add(count);
        Ok(())
    }
}

fn length_of(bytes: u64) -> Result<usize, BundleError> {
    usize::try_from(bytes).map_err(|_too_large| BundleError::Truncated)
}
