//! From a release tree to a signed release: one reading of the files, then volumes.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::Result;
use cloister_attest::Signer;
use cloister_bundle::{
    Attached, BundleError, Carried, Chunk, Codec, FileEntry, Index, IndexEntry, Manifest, Release,
    Requires, Runtime, VolumeHead, container, limits, receipt::ContentIds, volume_file_name,
};
use cloister_domain::{Digest, Hasher};

use crate::{
    borders, cut,
    error::{FileError, MintError},
    files::{self, Named, Pending},
    volume,
};

/// The largest volume unless another is asked for: what FAT32 can hold, in bytes.
pub const VOLUME_BYTES: u64 = 3900 << 20;

/// The level of zstd: the next ones take more of the processor than they save on weights.
const ZSTD_LEVEL: i32 = 3;

/// What the publisher says about a release, beside its files.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its name.
    pub name: String,
    /// Its version, for people.
    pub version: String,
    /// Its number.
    pub counter: u64,
    /// The least number that may be activated once it was.
    pub min_counter: u64,
    /// Licences as SPDX expressions.
    pub licences: Vec<String>,
    /// Memory that it needs, in bytes; disk is counted from the files.
    pub ram_bytes: u64,
    /// Memory of an accelerator that it needs, in bytes.
    pub vram_bytes: u64,
    /// Abilities of the engine that it needs.
    pub features: Vec<String>,
    /// The least version of the appliance that it needs, if it matters.
    pub runtime_min: Option<String>,
    /// Evidence that travels with it: what it claims (a URI), and its bytes.
    pub attestations: Vec<(String, Vec<u8>)>,
}

impl Spec {
    /// Refuses what a manifest may not say, before the tree is read, which takes minutes: of a release
    /// without files all must be good but that it has none.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn check(&self) -> Result<()> {
        let none = Index::new(Vec::new(), &[])?;
        match Manifest::new(release(self, Vec::new(), &none, &self.sorted())) {
            Err(BundleError::Release { field: "files" }) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The evidence in the order of its digests.
    fn sorted(&self) -> Vec<(String, Vec<u8>)> {
        let mut attestations = self.attestations.clone();
        attestations.sort_by_key(|(_, bytes)| Digest::of(bytes));
        attestations
    }
}

/// Which chunks are written into volumes.
#[derive(Clone, Debug)]
pub enum Part {
    /// All.
    Whole,
    /// Those that an appliance does not hold, by its receipt.
    NotHeld(ContentIds),
    /// Those that an import asked for.
    Requested(ContentIds),
}

impl Part {
    /// Whether `chunk` is written.
    #[must_use]
    pub fn has(&self, chunk: &Chunk) -> bool {
        match self {
            Self::Whole => true,
            Self::NotHeld(held) => !held.contains(chunk.content),
            Self::Requested(wanted) => wanted.contains(chunk.content),
        }
    }

    const fn is_thin(&self) -> bool {
        !matches!(self, Self::Whole)
    }
}

/// What volumes of a tree would carry, before anything is signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Chunks of the release.
    pub chunks: u64,
    /// Stored bytes of all.
    pub bytes: u64,
    /// Chunks that would be carried.
    pub carried_chunks: u64,
    /// Stored bytes of these.
    pub carried_bytes: u64,
}

/// Cuts the files under `tree` as a build would and counts what `part` carries of them.
///
/// # Errors
/// When a file cannot be read or a path breaks a rule.
pub fn plan(tree: &Path, part: &Part) -> Result<Outlook> {
    let mut spool = spool(&std::env::temp_dir())?;
    let mut cutter = Cutter::new(&mut spool)?;
    let mut outlook = Outlook::default();
    for (number, path) in (0u64..).zip(files::walk(tree)?) {
        cutter.file(&tree.join(&path), &path, number)?;
        cutter.spool.set_len(0)?;
        cutter.spool.seek(SeekFrom::Start(0))?;
        for chunk in cutter.chunks.drain(..) {
            let carried = u64::from(part.has(&chunk));
            outlook.chunks += 1;
            outlook.bytes += chunk.stored_bytes;
            outlook.carried_chunks += carried;
            outlook.carried_bytes += carried * chunk.stored_bytes;
        }
    }
    Ok(outlook)
}

/// A signed release whose chunks wait in a file without a name.
#[derive(Debug)]
pub struct Package {
    manifest: Manifest,
    envelope: Vec<u8>,
    attestations: Vec<Vec<u8>>,
    index: Index,
    spool: Named,
}

impl Package {
    /// Reads the files under `tree` once, cuts, compresses and hashes them, and signs the manifest.
    /// The chunks wait under `spool_folder` until they are written into volumes.
    ///
    /// # Errors
    /// When a file cannot be read, a path breaks a rule, or the release is not of the accepted form.
    pub fn build<S: Signer>(
        tree: &Path,
        spec: &Spec,
        publishers: &[S],
        spool_folder: &Path,
    ) -> Result<Self> {
        spec.check()?;
        let attestations = spec.sorted();
        let mut spool = spool(spool_folder)?;
        let mut cutter = Cutter::new(&mut spool)?;
        let mut entries = Vec::new();
        for path in files::walk(tree)? {
            let entry = cutter.file(&tree.join(&path), &path, entries.len() as u64)?;
            entries.push(entry);
        }
        let index = Index::new(cutter.chunks, &entries)?;
        let manifest = Manifest::new(release(spec, entries, &index, &attestations))?;
        let unsigned = manifest.envelope();
        let envelope =
            publishers.iter().try_fold(unsigned, |envelope, key| envelope.sign_by(key))?;
        let attestations = attestations.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(Self { manifest, envelope: envelope.to_json(), attestations, index, spool })
    }

    /// The release.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signed manifest's text, which an importer lists.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Writes the volumes into `folder`, each of at most `volume_bytes` where chunks allow, with
    /// `meta` as their trust metadata (empty: an importer puts it in later). Returns their paths.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, folder: &Path, meta: &[u8], volume_bytes: u64) -> Result<Vec<PathBuf>> {
        self.write_part(folder, meta, volume_bytes, &Part::Whole)
    }

    /// As [`Package::write`], with only a part of the chunks. Release and index are the same, so that
    /// a thin volume and a whole one complete each other.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_part(
        &mut self,
        folder: &Path,
        meta: &[u8],
        volume_bytes: u64,
        part: &Part,
    ) -> Result<Vec<PathBuf>> {
        let release = self.manifest.release();
        let fixed = self.head_bytes(meta)?;
        let ranges = split(&self.index, volume_bytes.saturating_sub(fixed), part);
        let volumes = u32::try_from(ranges.len())?;
        self.spool.seek(SeekFrom::Start(0))?;
        let (mut written, mut member) = (Vec::new(), Vec::new());
        for (number, (first_chunk, chunks)) in (1u32..).zip(ranges) {
            let path = folder.join(volume_file_name(&release.name, &release.version, number));
            let bundle = self.manifest.generation();
            let head =
                VolumeHead { format: 1, bundle, volume: number, volumes, first_chunk, chunks };
            let range = self.index.of_volume(&head)?;
            let carried: Vec<bool> = range.iter().map(|chunk| part.has(chunk)).collect();
            let bits = part.is_thin().then(|| Carried::of(&carried));
            written.push(Pending::write(&path, |out| {
                let (envelope, attestations) = (&self.envelope, &self.attestations);
                volume::write_head(out, &head, meta, envelope, attestations, &self.index)?;
                volume::write_carried(out, bits.as_ref())?;
                for (chunk, carried) in range.iter().zip(carried) {
                    member.resize(usize::try_from(member_bytes(chunk.stored_bytes))?, 0);
                    self.spool.read_exact(&mut member)?;
                    if carried {
                        out.write_all(&member)?;
                    }
                }
                out.write_all(&[0; container::END_BYTES])?;
                Ok(())
            })?);
        }
        // All volumes stand complete before the first is put in its place.
        let placed = |volume: Pending| {
            let path = volume.path().to_owned();
            volume.place().map(|()| path)
        };
        written.into_iter().map(placed).collect()
    }

    /// Bytes of a volume that are not chunks.
    fn head_bytes(&self, meta: &[u8]) -> Result<u64> {
        let index = 32 + 104 * self.index.chunks().len() as u64;
        let attested = self.attestations.iter().map(|bytes| bytes.len() as u64);
        let carried = Carried::bytes(self.index.chunks().len() as u64);
        let (meta, envelope) = (meta.len() as u64, self.envelope.len() as u64);
        let parts = [limits::HEAD_BYTES_MAX, meta, envelope, index, carried];
        let total: u64 = parts.into_iter().chain(attested).map(member_bytes).sum();
        Ok(total + container::END_BYTES as u64)
    }
}

/// A file without a name in `folder`, where chunks wait.
fn spool(folder: &Path) -> Result<Named> {
    let file = tempfile::tempfile_in(folder).map_err(|cause| FileError::writing(folder, cause))?;
    Ok(Named::new(file, folder))
}

fn member_bytes(bytes: u64) -> u64 {
    container::member_bytes(bytes).expect("a member is far below 2^64 bytes")
}

fn release(
    spec: &Spec,
    files: Vec<FileEntry>,
    index: &Index,
    attestations: &[(String, Vec<u8>)],
) -> Release {
    let table = index.encode();
    let attached = |(kind, bytes): &(String, Vec<u8>)| Attached {
        predicate_type: kind.clone(),
        sha256: Digest::of(bytes),
        length: bytes.len() as u64,
    };
    Release {
        name: spec.name.clone(),
        version: spec.version.clone(),
        release_counter: spec.counter,
        min_release_counter: spec.min_counter,
        files,
        index: IndexEntry {
            sha256: Digest::of(&table),
            length: table.len() as u64,
            chunks: index.chunks().len() as u64,
            plain_bytes: index.plain_bytes(),
            stored_bytes: index.stored_bytes(),
            cut: cut::parameters(),
        },
        requires: Requires {
            disk_bytes: index.plain_bytes(),
            ram_bytes: spec.ram_bytes,
            vram_bytes: spec.vram_bytes,
            features: spec.features.clone(),
            runtime: spec.runtime_min.clone().map(|min| Runtime { min, max: None }),
        },
        licences: spec.licences.clone(),
        attestations: attestations.iter().map(attached).collect(),
        base: None,
    }
}

/// Ranges of chunks, as many in each volume as fit; one at least.
fn split(index: &Index, bytes_max: u64, part: &Part) -> Vec<(u64, u64)> {
    let mut ranges = vec![(0, 0)];
    let mut filled = 0;
    for (number, chunk) in (0u64..).zip(index.chunks()) {
        let bytes = if part.has(chunk) { member_bytes(chunk.stored_bytes) } else { 0 };
        let last = ranges.last_mut().expect("there is always one");
        if last.1 > 0 && filled + bytes > bytes_max {
            ranges.push((number, 1));
            filled = bytes;
        } else {
            last.1 += 1;
            filled += bytes;
        }
    }
    ranges
}

/// Cuts files into chunks and writes these as members, one after the other.
struct Cutter<'a> {
    spool: &'a mut Named,
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
    chunks: Vec<Chunk>,
}

/// Bytes held of a file; several of the largest chunks, so that few are moved to the front.
const BUFFER_BYTES: usize = 4 * cut::MAX_BYTES;

impl<'a> Cutter<'a> {
    fn new(spool: &'a mut Named) -> Result<Self> {
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
        Ok(Self { spool, zstd, buffer: vec![0; BUFFER_BYTES], chunks: Vec::new() })
    }

    fn file(&mut self, path: &Path, name: &str, number: u64) -> Result<FileEntry> {
        let mut input = files::open(path)?;
        let mut whole = Hasher::new();
        let borders = borders::of(input.file()).map_err(|cause| FileError::reading(path, cause))?;
        let mut borders = borders.into_iter().peekable();
        let (mut start, mut end, mut offset, mut ended) = (0, 0, 0u64, false);
        loop {
            while !ended && end - start < cut::MAX_BYTES {
                if start > 0 && end == self.buffer.len() {
                    self.buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                let count = input.read(&mut self.buffer[end..])?;
                ended = count == 0;
                end += count;
            }
            if start == end {
                break;
            }
            while borders.next_if(|border| *border <= offset).is_some() {}
            let to_border = borders.peek().map_or(u64::MAX, |border| border - offset);
            let within = usize::try_from(to_border)
                .map_or(end, |bytes| end.min(start.saturating_add(bytes)));
            let length = cut::first(&self.buffer[start..within]);
            whole.update(&self.buffer[start..start + length]);
            self.chunk(start..start + length, number, offset)?;
            offset += length as u64;
            start += length;
        }
        let wrong = |rule| MintError::ReleasePath { path: path.to_owned(), rule };
        let path = name.parse().map_err(wrong)?;
        Ok(FileEntry { path, size: offset, sha256: whole.finish() })
    }

    fn chunk(&mut self, range: std::ops::Range<usize>, file: u64, offset: u64) -> Result<()> {
        let plain = &self.buffer[range];
        let content = Digest::of(plain);
        let packed = self.zstd.compress(plain)?;
        // Under 4 % it is not worth a decoder's work.
        let worth = packed.len() * 100 <= plain.len() * 96;
        let (codec, bytes, stored) = if worth {
            (Codec::Zstd, packed.as_slice(), Digest::of(&packed))
        } else {
            (Codec::Raw, plain, content)
        };
        volume::write_member(self.spool, container::Member::Chunk(stored), bytes)?;
        self.chunks.push(Chunk {
            stored,
            stored_bytes: bytes.len() as u64,
            plain_bytes: plain.len() as u64,
            content,
            codec,
            file,
            offset,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A safetensors file of `tensors`, with a comment in front of them.
    fn weights(comment: &str, tensors: &[(&str, &[u8])]) -> Vec<u8> {
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".to_owned(), serde_json::json!({ "comment": comment }));
        let (mut data, mut offset) = (Vec::new(), 0);
        for (name, bytes) in tensors {
            let end = offset + bytes.len();
            let entry = serde_json::json!({
                "dtype": "F32", "shape": [bytes.len() / 4], "data_offsets": [offset, end],
            });
            header.insert((*name).to_owned(), entry);
            data.extend_from_slice(bytes);
            offset = end;
        }
        let mut header = serde_json::to_vec(&header).expect("JSON");
        header.resize(header.len().next_multiple_of(8), b' ');
        [&(header.len() as u64).to_le_bytes(), header.as_slice(), &data].concat()
    }

    fn contents(bytes: &[u8]) -> Vec<(Digest, u64)> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, bytes).expect("written");
        let mut spool = spool(folder.path()).expect("a file");
        let mut cutter = Cutter::new(&mut spool).expect("a cutter");
        cutter.file(&path, "model.safetensors", 0).expect("cut");
        cutter.chunks.iter().map(|chunk| (chunk.content, chunk.plain_bytes)).collect()
    }

    #[test]
    fn a_tensor_has_the_same_chunks_wherever_it_stands() {
        // 3 MiB without structure, so that its cuts depend on nothing but where it begins.
        let words = (0..3u32 << 18).map(|i| i.wrapping_mul(i | 1).wrapping_mul(2_654_435_761));
        let large: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let alone: BTreeSet<(Digest, u64)> = contents(&large).into_iter().collect();
        assert!(alone.len() > 1, "it is cut");
        let small = vec![1; 4096];
        for file in [
            weights("", &[("a", &large), ("b", &small)]),
            weights("a longer header than before", &[("a", &small), ("b", &large), ("c", &small)]),
        ] {
            let found: BTreeSet<(Digest, u64)> = contents(&file).into_iter().collect();
            assert!(found.is_superset(&alone), "every chunk of the tensor is the same");
        }
        // The same bytes where nothing says that a tensor begins: the first chunk is another.
        let foreign = [&[7; 4100], large.as_slice()].concat();
        let found: BTreeSet<(Digest, u64)> = contents(&foreign).into_iter().collect();
        assert!(!found.is_superset(&alone));
    }

    #[test]
    fn a_file_that_only_looks_like_weights_is_cut_as_bytes() {
        for bytes in [b"GGUF".to_vec(), vec![0xff; 100], vec![0; 8], b"12".to_vec(), Vec::new()] {
            let total: u64 = contents(&bytes).iter().map(|(_, length)| length).sum();
            assert_eq!(total, bytes.len() as u64);
        }
    }
}
