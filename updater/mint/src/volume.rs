//! Volumes as files: reading their head members, and putting new trust metadata into them.

use std::{
    io::{self, BufRead as _, BufReader, Chain, Cursor, Read, Write},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use cloister_attest::dsse::Envelope;
use cloister_bundle::{
    BundleError, Carried, Foreign, Index, Manifest, START_BYTES, VolumeHead,
    container::{self, Member},
};
use cloister_domain::Digest;
use cloister_sealed::is_sealed;

use crate::{
    error::MintError,
    files::{self, Named},
};

/// What follows the members before the first chunk: what was read of it already, and the file.
type Rest = Chain<Cursor<Vec<u8>>, BufReader<Named>>;

/// Everything in a volume before its first chunk, and the rest of the file.
#[derive(Debug)]
pub struct Volume {
    /// `clb/00-head`.
    pub head: VolumeHead,
    /// `clb/10-meta`.
    pub meta: Vec<u8>,
    /// `clb/20-manifest`, verbatim.
    pub envelope: Vec<u8>,
    /// The release that it holds.
    pub manifest: Manifest,
    /// The attestations, in order.
    pub attestations: Vec<Vec<u8>>,
    /// The chunk table.
    pub index: Index,
    /// Which chunks of its range a thin volume carries; `None` for a volume that has all.
    pub carried: Option<Carried>,
    rest: Rest,
    members: u64,
}

/// The release in an envelope's text, whoever signed it.
///
/// # Errors
/// When it is not a release's envelope.
pub fn manifest(envelope: &[u8]) -> Result<Manifest> {
    let envelope = Envelope::parse(envelope).context("the manifest is no envelope")?;
    Ok(Manifest::of(&envelope)?)
}

impl Volume {
    /// Reads a volume up to its first chunk and checks its form, not its signatures.
    ///
    /// # Errors
    /// When it cannot be read or is not of the accepted form.
    pub fn open(path: &Path) -> Result<Self> {
        let mut rest = BufReader::with_capacity(1 << 20, files::open(path)?);
        ensure!(!is_sealed(rest.fill_buf()?), MintError::Sealed { path: path.to_owned() });
        let start = files::read_start(path, START_BYTES as u64)?;
        Self::read(rest)
            .map_err(|error| match Foreign::of(&start) {
                Some(kind) => anyhow::Error::new(BundleError::Foreign(kind)),
                None if begins_as_trust_alone(&start) => {
                    MintError::TrustAlone { path: path.to_owned() }.into()
                }
                None => error,
            })
            .with_context(|| path.display().to_string())
    }

    fn read(mut rest: BufReader<Named>) -> Result<Self> {
        let mut members = 0;
        let mut next = |member: Member| -> Result<Vec<u8>> {
            let bytes = read_member(&mut rest, member, members)?;
            members += 1;
            Ok(bytes)
        };
        let head = VolumeHead::parse(&next(Member::Head)?)?;
        let meta = next(Member::Meta)?;
        let envelope = next(Member::Manifest)?;
        let manifest = manifest(&envelope)?;
        let release = manifest.release();
        let mut attestations = Vec::with_capacity(release.attestations.len());
        for attached in &release.attestations {
            let bytes = next(Member::Attestation(attached.sha256))?;
            ensure!(Digest::of(&bytes) == attached.sha256, MintError::Attestation);
            attestations.push(bytes);
        }
        let table = next(Member::Index)?;
        let wrong = BundleError::Digest { chunk: release.index.chunks };
        ensure!(Digest::of(&table) == release.index.sha256, wrong);
        let index = Index::parse(&table, &release.files)?;
        index.of_volume(&head)?;
        let (carried, begun) = read_carried(&mut rest, head.chunks)?;
        members += u64::from(carried.is_some());
        let rest = Cursor::new(begun).chain(rest);
        Ok(Self { head, meta, envelope, manifest, attestations, index, carried, rest, members })
    }

    /// Reads every chunk of the volume to its end and compares the digests of the stored bytes.
    ///
    /// # Errors
    /// When a chunk differs or the end is not where it must be.
    pub fn check_chunks(mut self) -> Result<()> {
        let chunks = (0usize..).zip(self.index.of_volume(&self.head)?);
        for (number, (near, chunk)) in (self.head.first_chunk..).zip(chunks) {
            if self.carried.as_ref().is_some_and(|carried| !carried.has(near)) {
                continue;
            }
            let member = Member::Chunk(chunk.stored);
            let bytes = read_member(&mut self.rest, member, self.members)?;
            self.members += 1;
            let same = Digest::of(&bytes) == chunk.stored;
            ensure!(
                same && bytes.len() as u64 == chunk.stored_bytes,
                BundleError::Digest { chunk: number }
            );
        }
        read_end(self.rest)
    }
}

/// Nothing may follow the last member but the end.
fn read_end(rest: impl Read) -> Result<()> {
    let mut end = Vec::new();
    rest.take(container::END_BYTES as u64 + 1).read_to_end(&mut end)?;
    ensure!(end.len() == container::END_BYTES && container::is_zero(&end), BundleError::End);
    Ok(())
}

/// Whether a volume says that it brings trust metadata and no release.
pub(crate) fn is_trust_alone(path: &Path) -> Result<bool> {
    Ok(begins_as_trust_alone(&files::read_start(path, START_BYTES as u64)?))
}

/// The trust metadata of a volume that brings nothing else, with the signatures unchecked.
///
/// # Errors
/// When it cannot be read or is not of the accepted form.
pub(crate) fn trust_alone(path: &Path) -> Result<Vec<u8>> {
    let mut rest = BufReader::new(files::open(path)?);
    let meta = read_member(&mut rest, Member::Meta, 0);
    let meta = meta.and_then(|meta| read_end(rest).map(|()| meta));
    let start = files::read_start(path, START_BYTES as u64)?;
    meta.map_err(|error| {
        Foreign::of(&start).map_or(error, |kind| BundleError::Foreign(kind).into())
    })
}

fn begins_as_trust_alone(start: &[u8]) -> bool {
    start.starts_with(Member::Meta.name().as_bytes())
}

/// A volume that ends where more must follow; another error of reading stays what it is.
fn ended(cause: io::Error) -> anyhow::Error {
    if cause.kind() == io::ErrorKind::UnexpectedEof {
        BundleError::Truncated.into()
    } else {
        cause.into()
    }
}

/// A volume that brings `meta`, trust metadata, and no release.
///
/// # Errors
/// When the metadata is larger than a volume may bring.
pub fn trust_volume(meta: &[u8]) -> Result<Vec<u8>> {
    Ok(container::archive([(Member::Meta.name().as_str(), meta)])?)
}

/// Puts `meta` in the place of a volume's trust metadata; the rest keeps its bytes.
///
/// # Errors
/// When the volume cannot be read or written again.
pub fn replace_meta(path: &Path, meta: &[u8]) -> Result<()> {
    let mut volume = Volume::open(path)?;
    if volume.meta == meta {
        return Ok(());
    }
    files::write_whole(path, |out| {
        write_head(out, &volume.head, meta, &volume.envelope, &volume.attestations, &volume.index)?;
        write_carried(out, volume.carried.as_ref())?;
        io::copy(&mut volume.rest, out)?;
        Ok(())
    })
}

/// Writes the members before the first chunk.
pub(crate) fn write_head(
    out: &mut dyn Write,
    head: &VolumeHead,
    meta: &[u8],
    envelope: &[u8],
    attestations: &[Vec<u8>],
    index: &Index,
) -> Result<()> {
    write_member(out, Member::Head, &head.encode())?;
    write_member(out, Member::Meta, meta)?;
    write_member(out, Member::Manifest, envelope)?;
    for attestation in attestations {
        write_member(out, Member::Attestation(Digest::of(attestation)), attestation)?;
    }
    write_member(out, Member::Index, &index.encode())
}

/// Writes which chunks a thin volume carries.
pub(crate) fn write_carried(out: &mut dyn Write, carried: Option<&Carried>) -> Result<()> {
    carried.map_or(Ok(()), |carried| write_member(out, Member::Carried, carried.encode()))
}

/// Reads what may follow the index; with the bytes of what follows instead.
fn read_carried(rest: &mut impl Read, chunks: u64) -> Result<(Option<Carried>, Vec<u8>)> {
    let mut block = [0; container::BLOCK_BYTES];
    rest.read_exact(&mut block).map_err(ended)?;
    let bytes = Carried::bytes(chunks);
    if bytes > Member::Carried.bytes_max()
        || block != container::header(&Member::Carried.name(), bytes)?
    {
        return Ok((None, block.to_vec()));
    }
    let mut bits = vec![0; usize::try_from(bytes)? + container::padding(bytes)];
    rest.read_exact(&mut bits).map_err(ended)?;
    bits.truncate(usize::try_from(bytes)?);
    Ok((Some(Carried::parse(bits, chunks)?), Vec::new()))
}

/// Writes one member: header, bytes, padding.
pub(crate) fn write_member(out: &mut dyn Write, member: Member, bytes: &[u8]) -> Result<()> {
    let length = bytes.len() as u64;
    let fits = length <= member.bytes_max();
    ensure!(fits, MintError::Member { member: member.name() });
    out.write_all(&container::header(&member.name(), length)?)?;
    out.write_all(bytes)?;
    out.write_all(&[0; container::BLOCK_BYTES][..container::padding(length)])?;
    Ok(())
}

fn read_member(input: &mut impl Read, member: Member, position: u64) -> Result<Vec<u8>> {
    let mut block = [0; container::BLOCK_BYTES];
    input.read_exact(&mut block).map_err(ended)?;
    let bytes = container::read_header(&block, &member.name(), member.bytes_max(), position)?;
    let mut content = Vec::new();
    input.take(bytes).read_to_end(&mut content)?;
    ensure!(content.len() as u64 == bytes, BundleError::Truncated);
    let padding = &mut block[..container::padding(bytes)];
    input.read_exact(padding).map_err(ended)?;
    ensure!(container::is_zero(padding), BundleError::Padding { member: position });
    Ok(content)
}
