//! A release with files of 2.2 and 4.1 GiB, where others' counters overflowed: its volume is a file
//! with holes, and so are the parts that lie in quarantine before it is read.

use std::os::unix::fs::FileExt as _;

use super::*;

/// Just beyond 2^31, and just beyond 2^32 bytes.
const SIZES: [u64; 2] = [(22 << 30) / 10, (41 << 30) / 10];
/// The first chunk of a file, so that no later one begins at a power of two.
const FIRST_BYTES: u64 = 1 << 20;
const CHUNK_BYTES: u64 = 4 << 20;

/// The large release, and its volume as a sparse file.
struct Large {
    entries: Vec<FileEntry>,
    index: Index,
    plan: Plan,
    head: VolumeHead,
    volume: File,
    /// Where each member lies in the volume.
    places: Vec<u64>,
    /// Chunks that are no zeros, by position in the index, and what they hold.
    marked: Vec<(usize, Vec<u8>)>,
}

/// Where the chunks of a file of `size` begin, and how long they are.
fn cuts(size: u64) -> Vec<(u64, u64)> {
    let mut cuts = Vec::new();
    let mut at = 0;
    while at < size {
        let most = if at == 0 { FIRST_BYTES } else { CHUNK_BYTES };
        let bytes = most.min(size - at);
        cuts.push((at, bytes));
        at += bytes;
    }
    cuts
}

/// Whether the chunk at `at` holds something else than zeros: the first of the smaller file, those
/// across 2^31 and 2^32 bytes, the last of the larger file.
fn is_marked(file: usize, at: u64, bytes: u64) -> bool {
    let across = |edge: u64| at < edge && edge < at + bytes;
    match file {
        0 => at == 0 || across(1 << 31),
        _ => across(1 << 32) || at + bytes == SIZES[1],
    }
}

impl Large {
    fn new() -> Self {
        let small = noise(3, 10_000);
        let zeros = vec![0; 4 << 20];
        let of_zeros = |bytes: u64| Digest::of(&zeros[..usize::try_from(bytes).expect("small")]);
        let full = of_zeros(CHUNK_BYTES);
        let (mut chunks, mut marked) = (Vec::new(), Vec::new());
        for (file, size) in SIZES.into_iter().chain([small.len() as u64]).enumerate() {
            for (offset, bytes) in cuts(size) {
                let content = match file {
                    2 => Some(small.clone()),
                    _ if is_marked(file, offset, bytes) => {
                        Some(noise(offset >> 20, usize::try_from(bytes).expect("small")))
                    }
                    _ => None,
                };
                let digest = match &content {
                    Some(content) => Digest::of(content),
                    None if bytes == CHUNK_BYTES => full,
                    None => of_zeros(bytes),
                };
                marked.extend(content.map(|content| (chunks.len(), content)));
                chunks.push(Chunk {
                    stored: digest,
                    stored_bytes: bytes,
                    plain_bytes: bytes,
                    content: digest,
                    codec: Codec::Raw,
                    file: file as u64,
                    offset,
                });
            }
        }
        Self::written(chunks, marked, small.len() as u64)
    }

    fn written(chunks: Vec<Chunk>, marked: Vec<(usize, Vec<u8>)>, small: u64) -> Self {
        // What a whole file hashes to is verification's to see, not the copy's.
        let entry = |(number, size): (usize, u64)| FileEntry {
            path: format!("f{number}").parse().expect("a good path"),
            size,
            sha256: Digest::of(b"a file"),
        };
        let entries: Vec<FileEntry> =
            SIZES.into_iter().chain([small]).enumerate().map(entry).collect();
        let (plan, index) = planned(chunks, &entries);
        let head = VolumeHead {
            format: 1,
            bundle: plan.generation,
            volume: 1,
            volumes: 1,
            first_chunk: 0,
            chunks: index.chunks().len() as u64,
        };
        let volume = tempfile::tempfile().expect("a file");
        let (mut at, mut places) = (0, Vec::new());
        let mut put = |member: Member, bytes: u64, content: &[u8]| {
            places.push(at);
            let block = header(&member.name(), bytes).expect("a good name");
            volume.write_all_at(&block, at).expect("written");
            volume.write_all_at(content, at + 512).expect("written");
            at += 512 + bytes + padding(bytes) as u64;
        };
        for (member, content) in [
            (Member::Head, head.encode()),
            (Member::Meta, b"metadata".to_vec()),
            (Member::Manifest, b"manifest".to_vec()),
            (Member::Index, index.encode()),
        ] {
            put(member, content.len() as u64, &content);
        }
        for (number, chunk) in index.chunks().iter().enumerate() {
            let content = marked.iter().find(|(marked, _)| *marked == number);
            let content = content.map_or(&[][..], |(_, content)| content);
            put(Member::Chunk(chunk.stored), chunk.stored_bytes, content);
        }
        volume.set_len(at + END_BYTES as u64).expect("an end");
        places.push(at);
        Self { entries, index, plan, head, volume, places: places.split_off(4), marked }
    }

    fn import(&self, folder: &Path) -> Result<Outcome, QuarantineError> {
        let mut medium = self.volume.try_clone().expect("a descriptor");
        medium.rewind().expect("rewound");
        let mut source = Source::new(medium, Ending::File);
        let place = source.place()?;
        let head = source.head(place)?;
        let index = read_index(&mut source, &self.index, &self.entries)?;
        assert_eq!(head.volume, self.head);
        let mut parts = Parts::open(folder, &self.plan, &index)?;
        let task = Task {
            plan: &self.plan,
            index: &index,
            volume: &head.volume,
            carried: None,
            attestations: &[],
            reserve: ByteCount(0),
        };
        task.copy(&mut parts, &mut source, go_on)
    }
}

#[test]
fn files_beyond_two_and_four_gib_are_resumed_and_written_beyond_both_edges() {
    let large = Large::new();
    let folder = tempfile::tempdir().expect("a folder");
    let part = |number: usize| folder.path().join("7").join(Plan::part_name(number));
    std::fs::create_dir_all(folder.path().join("7/files")).expect("made");
    for (number, size) in SIZES.into_iter().enumerate() {
        File::create(part(number)).and_then(|file| file.set_len(size)).expect("made");
    }
    let quarantined = whole(large.import(folder.path()).expect("copied"));
    let Complete { read_bytes, resumed_chunks, .. } = *quarantined.complete();
    let chunks = large.index.chunks();
    assert_eq!(resumed_chunks, (chunks.len() - large.marked.len()) as u64);
    assert!(read_bytes.0 < 32 << 20, "{read_bytes} of {}", large.places.last().expect("an end"));
    assert_eq!(large.marked.len(), 5, "two in each large file, and the small one");
    for (number, content) in &large.marked {
        let chunk = &chunks[*number];
        let file = File::open(part(usize::try_from(chunk.file).expect("small"))).expect("there");
        let mut found = vec![0; content.len()];
        file.read_exact_at(&mut found, chunk.offset).expect("read");
        assert!(found == *content, "at {}", chunk.offset);
    }
    for (number, size) in SIZES.into_iter().enumerate() {
        assert_eq!(std::fs::metadata(part(number)).expect("there").len(), size);
    }
}

#[test]
fn a_flipped_bit_behind_six_gib_of_a_volume_is_found() {
    let mut large = Large::new();
    for number in 0..2 {
        large.plan.files[number].present = true;
    }
    let small = large.places[large.index.chunks().len() - 1];
    let end = *large.places.last().expect("an end");
    assert!(small > 6 << 30);
    let padded = small + 512 + 10_000;
    for (place, code) in [
        (small + 3, "bundle.container.header"),
        (small + 130, "bundle.container.header"),
        (small + 512, "bundle.digest"),
        (padded - 1, "bundle.digest"),
        (padded, "bundle.container.padding"),
        (end, "bundle.container.end"),
        (end + 1023, "bundle.container.end"),
    ] {
        let mut byte = [0];
        large.volume.read_exact_at(&mut byte, place).expect("read");
        large.volume.write_all_at(&[byte[0] ^ 1], place).expect("written");
        let folder = tempfile::tempdir().expect("a folder");
        let error = large.import(folder.path()).expect_err("found");
        assert_eq!(error.code(), code, "at {place}");
        large.volume.write_all_at(&byte, place).expect("written");
    }
    let folder = tempfile::tempdir().expect("a folder");
    whole(large.import(folder.path()).expect("as it was"));
}
