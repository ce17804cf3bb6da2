//! Whole volumes, hostile ones, and copies that are cut off.

use std::{
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    ops::ControlFlow,
    path::Path,
};

use cloister_bundle::{
    Carried, Chunk, Codec, FileEntry, Index, Table, VolumeHead,
    container::{END_BYTES, Member, header, padding},
    handover::{Complete, Expected, Plan, PlannedFile},
};
use cloister_domain::{ByteCount, Coded as _, Digest, GenerationId, ImportId};
use proptest::prelude::*;

use super::*;

mod flush;
mod guards;
mod large;
mod resume;

/// A release of a few files, and volumes that hold it.
struct Release {
    files: Vec<Vec<u8>>,
    entries: Vec<FileEntry>,
    index: Index,
    stored: Vec<Vec<u8>>,
    plan: Plan,
    attestation: Vec<u8>,
}

/// Bytes that do not compress.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    (0..)
        .flat_map(|n: u64| *Digest::of(&(seed << 32 | n).to_le_bytes()).as_bytes())
        .take(count)
        .collect()
}

/// What is to be copied of files that none has yet, and where their chunks are.
fn planned(chunks: Vec<Chunk>, entries: &[FileEntry]) -> (Plan, Index) {
    let planned = |file: &FileEntry| PlannedFile {
        bytes: ByteCount(file.size),
        sha256: file.sha256,
        present: false,
    };
    let plan = Plan {
        import: ImportId(7),
        generation: GenerationId(Digest::of(b"release")),
        folder: "7".to_owned(),
        files: entries.iter().map(planned).collect(),
    };
    (plan, Index::new(chunks, entries).expect("covered"))
}

/// The signed description of a member.
fn signed(content: &[u8]) -> Expected {
    Expected { sha256: Digest::of(content), bytes: ByteCount(content.len() as u64) }
}

/// An index as it lies in its file.
fn aside(index: &Index, entries: &[FileEntry]) -> Table<File> {
    let (bytes, mut file) = (index.encode(), tempfile::tempfile().expect("a file"));
    io::Write::write_all(&mut file, &bytes).expect("written");
    Table::open(file, bytes.len() as u64, entries).expect("covered")
}

/// Takes the next member off `source`, which must be this index.
fn read_index<R: Read + Seek>(
    source: &mut Source<R>,
    index: &Index,
    entries: &[FileEntry],
) -> Result<Table<File>, QuarantineError> {
    let (bytes, mut file) = (index.encode(), tempfile::tempfile().expect("a file"));
    source.index(signed(&bytes), &mut file)?;
    Ok(Table::open(file, bytes.len() as u64, entries)?)
}

impl Release {
    fn new() -> Self {
        let text = b"the same words again and again. ".repeat(300);
        let files = vec![noise(1, 10_000), Vec::new(), text, noise(2, 3_000)];
        let (mut chunks, mut stored) = (Vec::new(), Vec::new());
        for (file, content) in (0..).zip(&files) {
            for (at, plain) in (0..).zip(content.chunks(4_096)) {
                let packed = zstd::bulk::compress(plain, 3).expect("packs");
                let (codec, bytes) = if packed.len() < plain.len() {
                    (Codec::Zstd, packed)
                } else {
                    (Codec::Raw, plain.to_vec())
                };
                chunks.push(Chunk {
                    stored: Digest::of(&bytes),
                    stored_bytes: bytes.len() as u64,
                    plain_bytes: plain.len() as u64,
                    content: Digest::of(plain),
                    codec,
                    file,
                    offset: at * 4_096,
                });
                stored.push(bytes);
            }
        }
        let entries: Vec<FileEntry> = (0..)
            .zip(&files)
            .map(|(number, content): (u32, _)| FileEntry {
                path: format!("f{number}").parse().expect("a good path"),
                size: content.len() as u64,
                sha256: Digest::of(content),
            })
            .collect();
        let (plan, index) = planned(chunks, &entries);
        Self { files, entries, index, stored, plan, attestation: b"evidence".to_vec() }
    }

    /// The index, set aside.
    fn table(&self) -> Table<File> {
        aside(&self.index, &self.entries)
    }

    fn head(&self, volume: u32, volumes: u32, first: usize, count: usize) -> VolumeHead {
        VolumeHead {
            format: 1,
            bundle: self.plan.generation,
            volume,
            volumes,
            first_chunk: first as u64,
            chunks: count as u64,
        }
    }

    fn volume(&self, head: &VolumeHead) -> Vec<u8> {
        self.written(head, None)
    }

    /// A volume that leaves chunks out.
    fn thin(&self, head: &VolumeHead, carried: &Carried) -> Vec<u8> {
        self.written(head, Some(carried))
    }

    fn written(&self, head: &VolumeHead, carried: Option<&Carried>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |member: Member, content: &[u8]| {
            let block = header(&member.name(), content.len() as u64).expect("a good name");
            out.extend_from_slice(&block);
            out.extend_from_slice(content);
            out.extend(std::iter::repeat_n(0, padding(content.len() as u64)));
        };
        put(Member::Head, &head.encode());
        put(Member::Meta, b"metadata");
        put(Member::Manifest, b"manifest");
        put(Member::Attestation(Digest::of(&self.attestation)), &self.attestation);
        put(Member::Index, &self.index.encode());
        if let Some(carried) = carried {
            put(Member::Carried, carried.encode());
        }
        let fits = |number| usize::try_from(number).expect("small");
        let (first, count) = (fits(head.first_chunk), fits(head.chunks));
        for (near, bytes) in self.stored[first..first + count].iter().enumerate() {
            if carried.is_some_and(|carried| !carried.has(near)) {
                continue;
            }
            put(Member::Chunk(Digest::of(bytes)), bytes);
        }
        out.extend([0; END_BYTES]);
        out
    }

    fn whole(&self) -> Vec<u8> {
        self.volume(&self.head(1, 1, 0, self.stored.len()))
    }

    /// Reads everything up to the chunks, then copies.
    fn import(
        &self,
        medium: impl Read + Seek,
        folder: &Path,
        progress: impl FnMut(ByteCount) -> ControlFlow<()>,
    ) -> Result<Outcome, QuarantineError> {
        let mut source = Source::new(medium, Ending::File);
        let place = source.place()?;
        let head = source.head(place)?;
        let attestations = [source.attestation(signed(&self.attestation))?];
        let index = read_index(&mut source, &self.index, &self.entries)?;
        let carried = source.carried(head.volume.chunks)?;
        let task = Task {
            plan: &self.plan,
            index: &index,
            volume: &head.volume,
            carried: carried.as_ref(),
            attestations: &attestations,
            reserve: ByteCount(0),
        };
        let mut parts = Parts::open(folder, &self.plan, &index)?;
        if let Some(carried) = &carried {
            let left_out = parts.left_out(&head.volume, carried);
            parts.note_needs(&index, &left_out)?;
        }
        task.copy(&mut parts, &mut source, progress)
    }

    fn assert_in(&self, folder: &Path) {
        for (number, content) in self.files.iter().enumerate() {
            let part = folder.join("7").join(Plan::part_name(number));
            if self.plan.files[number].present {
                assert!(!part.exists(), "file {number} is on the shelf");
            } else {
                assert_eq!(&bytes_of(&part), content, "file {number}");
            }
        }
    }
}

fn bytes_of(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).expect("there").read_to_end(&mut bytes).expect("readable");
    bytes
}

fn go_on(_done: ByteCount) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn whole(outcome: Outcome) -> Quarantined {
    match outcome {
        Outcome::Whole(quarantined) => quarantined,
        Outcome::Parted(parted) => panic!("{}", parted.missing),
    }
}

/// A medium that counts how often each byte is read and breaks after some.
struct Stick {
    bytes: Vec<u8>,
    at: usize,
    reads: Vec<u8>,
    left: usize,
}

impl Stick {
    fn new(bytes: Vec<u8>) -> Self {
        let reads = vec![0; bytes.len()];
        Self { bytes, at: 0, reads, left: usize::MAX }
    }
}

impl Read for Stick {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::NotConnected.into());
        }
        // Odd lengths, as a slow medium gives them.
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len()).min(self.left).min(777);
        buffer[..count].copy_from_slice(&rest[..count]);
        self.reads[self.at..self.at + count].iter_mut().for_each(|reads| *reads += 1);
        self.at += count;
        self.left -= count;
        Ok(count)
    }
}

impl Seek for Stick {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Current(forward) = to else { panic!("a volume is read forward only") };
        self.at += usize::try_from(forward).expect("forward");
        Ok(self.at as u64)
    }
}

/// A volume without the content of its chunks.
fn without_chunks(volume: &[u8]) -> Vec<u8> {
    let (mut rest, mut left) = (volume, Vec::new());
    while let Some((block, behind)) = rest.split_at_checked(512).filter(|(block, _)| block[0] != 0)
    {
        let size = std::str::from_utf8(&block[124..135]).expect("digits");
        let size = usize::from_str_radix(size, 8).expect("octal");
        let (content, behind) = behind.split_at(size);
        let (zeros, behind) = behind.split_at(padding(size as u64));
        left.extend_from_slice(block);
        left.extend_from_slice(if block.starts_with(b"c/") { b"" } else { content });
        left.extend_from_slice(zeros);
        rest = behind;
    }
    left.extend_from_slice(rest);
    left
}

#[test]
fn a_volume_is_copied_and_every_byte_is_read_once() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let mut stick = Stick::new(release.whole());
    let mut told = Vec::new();
    let outcome = release.import(&mut stick, folder.path(), |done| {
        told.push(done);
        ControlFlow::Continue(())
    });
    let quarantined = whole(outcome.expect("copied"));
    release.assert_in(folder.path());
    assert!(stick.reads.iter().all(|reads| *reads == 1));
    let complete = quarantined.complete();
    assert_eq!(complete.volume, Digest::of(&without_chunks(&stick.bytes)));
    assert_eq!(complete.read_bytes, ByteCount(stick.bytes.len() as u64));
    assert_eq!(complete.resumed_chunks, 0);
    assert_eq!(told.last(), Some(&ByteCount(release.index.plain_bytes())));
    let attestation = folder.path().join("7/attest").join(Digest::of(b"evidence").to_string());
    assert_eq!(bytes_of(&attestation), b"evidence");
}

#[test]
fn a_copy_that_breaks_at_any_member_goes_on_and_reads_no_held_chunk_again() {
    let release = Release::new();
    let volume = release.whole();
    for left in (0..volume.len()).step_by(509) {
        let folder = tempfile::tempdir().expect("a folder");
        let broken = Stick { left, ..Stick::new(volume.clone()) };
        let error = release.import(broken, folder.path(), go_on).expect_err("broken");
        assert!(error.is_resumable() && error.code() == "quarantine.medium", "{error}");
        let mut stick = Stick::new(volume.clone());
        let quarantined = whole(release.import(&mut stick, folder.path(), go_on).expect("goes on"));
        release.assert_in(folder.path());
        let Complete { read_bytes, resumed_chunks, .. } = *quarantined.complete();
        let skipped: u64 = volume.len() as u64 - read_bytes.0;
        assert_eq!(resumed_chunks > 0, skipped > 0, "after {left} bytes");
        assert!(stick.reads.iter().all(|reads| *reads <= 1));
    }
}

#[test]
fn what_was_torn_or_tampered_with_in_quarantine_is_copied_again() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    whole(release.import(Cursor::new(release.whole()), folder.path(), go_on).expect("copied"));
    let first = folder.path().join("7/files/0.part");
    let mut bytes = bytes_of(&first);
    bytes[5_000] ^= 1;
    bytes.extend_from_slice(b"and more");
    std::fs::write(&first, bytes).expect("written");
    std::fs::write(folder.path().join("7/files/2.part"), b"torn").expect("written");
    let again = release.import(Cursor::new(release.whole()), folder.path(), go_on);
    let quarantined = whole(again.expect("copied"));
    release.assert_in(folder.path());
    let torn = 1 + release.files[2].len().div_ceil(4_096) as u64;
    assert_eq!(quarantined.complete().resumed_chunks, release.stored.len() as u64 - torn);
}

#[test]
fn volumes_may_come_in_any_order() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let chunks = release.stored.len();
    let second = release.volume(&release.head(2, 2, 2, chunks - 2));
    match release.import(Cursor::new(second), folder.path(), go_on).expect("copied") {
        Outcome::Parted(parted) => {
            assert_eq!((parted.missing.chunks, parted.missing.volumes), (2, vec![1]));
        }
        Outcome::Whole(_) => panic!("two chunks are on the other volume"),
    }
    let first = release.volume(&release.head(1, 2, 0, 2));
    whole(release.import(Cursor::new(first), folder.path(), go_on).expect("copied"));
    release.assert_in(folder.path());
}

#[test]
fn what_the_shelf_has_is_passed_over() {
    let mut release = Release::new();
    release.plan.files[0].present = true;
    let folder = tempfile::tempdir().expect("a folder");
    let mut stick = Stick::new(release.whole());
    let quarantined = whole(release.import(&mut stick, folder.path(), go_on).expect("copied"));
    release.assert_in(folder.path());
    assert_eq!(quarantined.complete().resumed_chunks, 0);
    assert!(quarantined.complete().read_bytes.0 + 9_000 < stick.bytes.len() as u64);
}

#[test]
fn a_volume_ends_where_it_must() {
    let release = Release::new();
    let volume = release.whole();
    let folder = tempfile::tempdir().expect("a folder");
    let more = [&volume[..], &[0]].concat();
    let error = release.import(Cursor::new(more), folder.path(), go_on).expect_err("more follows");
    assert_eq!(error.code(), "bundle.container.end");
    for cut in [1, 512, 1_024, 1_025, 2_000] {
        let short = volume[..volume.len() - cut].to_vec();
        let error = release.import(Cursor::new(short), folder.path(), go_on).expect_err("cut");
        assert_eq!(error.code(), "bundle.container.truncated");
        assert!(!error.is_resumable());
    }
    let mut device =
        Source::new(Cursor::new([&[0; END_BYTES][..], &[9; 99]].concat()), Ending::Device);
    device.end().expect("what follows on a device is not the volume's");
}

#[test]
fn an_interrupted_copy_and_one_without_space_can_be_resumed() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let stop = |_done| ControlFlow::Break(());
    let error =
        release.import(Cursor::new(release.whole()), folder.path(), stop).expect_err("stop");
    assert!(error.is_resumable() && error.code() == "quarantine.interrupted");

    let parts = Parts::open(folder.path(), &release.plan, &release.table());
    let error = parts.expect("opened").check_space(1, ByteCount(u64::MAX)).expect_err("no space");
    assert!(error.is_resumable() && error.code() == "quarantine.space");
}

#[test]
fn a_plan_that_leaves_quarantine_or_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["", "..", "a/b", "/tmp", "A"] {
        let mut release = Release::new();
        name.clone_into(&mut release.plan.folder);
        let error = release.import(Cursor::new(release.whole()), folder.path(), go_on);
        assert_eq!(error.expect_err("refused").code(), "quarantine.plan");
    }
    let mut release = Release::new();
    release.plan.files.pop();
    let error = release.import(Cursor::new(release.whole()), folder.path(), go_on);
    assert_eq!(error.expect_err("refused").code(), "quarantine.plan");
}

#[test]
fn a_link_in_place_of_a_part_is_not_followed() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(folder.path().join("7/files")).expect("made");
    let outside = folder.path().join("outside");
    std::os::unix::fs::symlink(&outside, folder.path().join("7/files/0.part")).expect("made");
    let error = release.import(Cursor::new(release.whole()), folder.path(), go_on);
    assert_eq!(error.expect_err("refused").code(), "quarantine.write");
    assert!(!outside.exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every bit of a volume matters, but for those of metadata and manifest, which signatures cover.
    #[test]
    fn a_volume_with_a_flipped_bit_is_refused(at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let release = Release::new();
        let mut volume = release.whole();
        let signed_elsewhere = 512 + 512 + 512..6 * 512;
        let at = at.index(volume.len());
        prop_assume!(!signed_elsewhere.contains(&at) && at >= 512 + 512);
        volume[at] ^= 1 << bit;
        let folder = tempfile::tempdir().expect("a folder");
        let error = release.import(Cursor::new(volume), folder.path(), go_on).expect_err("refused");
        prop_assert!(!error.is_resumable(), "{error}");
        // What was written before that is of the signed release.
        for (number, content) in release.files.iter().enumerate() {
            let part = folder.path().join("7").join(Plan::part_name(number));
            if part.exists() {
                let bytes = bytes_of(&part);
                prop_assert!(content.starts_with(&bytes), "file {number}");
            }
        }
    }
}
