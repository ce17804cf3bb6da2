//! Volumes in any order, pulled or killed at any byte.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
};

use nix::sys::signal::{Signal, raise};

use super::*;

/// Numbers without structure, from a seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("64 bits") % bound
    }
}

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The release in three volumes: the bytes, and where the chunks begin.
fn three(release: &Release) -> Vec<(Vec<u8>, usize)> {
    let chunks = release.stored.len();
    let cuts = [0, chunks / 3, chunks / 2, chunks];
    (1u32..)
        .zip(cuts.windows(2))
        .map(|(number, range)| {
            let bytes = release.volume(&release.head(number, 3, range[0], range[1] - range[0]));
            let empty = release.volume(&release.head(number, 3, range[0], 0));
            (bytes, empty.len() - END_BYTES)
        })
        .collect()
}

/// A chunk of the release with header and padding, at most.
const CHUNK: u64 = 512 + 4_096;

#[test]
fn three_volumes_in_any_order_pulled_at_twenty_points_read_no_chunk_twice() {
    let release = Release::new();
    let volumes = three(&release);
    let mut dice = Dice(0x5eed);
    for order in ORDERS {
        let folder = tempfile::tempdir().expect("a folder");
        let mut last = None;
        for (nth, number) in order.into_iter().enumerate() {
            let (bytes, head) = &volumes[number];
            let mut reads = vec![0u64; bytes.len()];
            let mut note = |stick: &Stick| {
                reads
                    .iter_mut()
                    .zip(&stick.reads)
                    .for_each(|(sum, reads)| *sum += u64::from(*reads));
            };
            let points = 20;
            for _pull in 0..points {
                let left = dice.below(bytes.len() - 1);
                let mut stick = Stick { left, ..Stick::new(bytes.clone()) };
                // What is held is passed over, so a late point may not be reached any more.
                if let Err(error) = release.import(&mut stick, folder.path(), go_on) {
                    assert!(error.is_resumable(), "{error}");
                }
                note(&stick);
            }
            let mut stick = Stick::new(bytes.clone());
            let outcome = release.import(&mut stick, folder.path(), go_on).expect("goes on");
            note(&stick);
            let end = bytes.len() - END_BYTES;
            let again: u64 = reads[*head..end].iter().map(|reads| reads.saturating_sub(1)).sum();
            assert!(again <= points * CHUNK, "{order:?}: {again} bytes were read again");
            match outcome {
                Outcome::Parted(parted) => {
                    let mut missing: Vec<u32> =
                        order[nth + 1..].iter().map(|n| u32::try_from(n + 1).expect("3")).collect();
                    missing.sort_unstable();
                    assert_eq!(parted.missing.volumes, missing);
                    let bytes = |chunks: &[Vec<u8>]| chunks.iter().map(|c| c.len() as u64).sum();
                    let all: u64 = bytes(&release.stored);
                    assert!((1..all).contains(&parted.missing.stored_bytes.0));
                }
                Outcome::Whole(quarantined) => last = Some((nth, quarantined)),
            }
        }
        let (nth, quarantined) = last.expect("whole after the last");
        assert_eq!((nth, quarantined.generation()), (2, release.plan.generation));
        release.assert_in(folder.path());
    }
}

#[test]
fn one_pull_costs_at_most_the_chunk_that_was_being_read() {
    let release = Release::new();
    let volume = release.whole();
    let head = release.volume(&release.head(1, 1, 0, 0)).len() - END_BYTES;
    let mut dice = Dice(0xca1);
    for _point in 0..20 {
        let left = head + dice.below(volume.len() - head - 1);
        let folder = tempfile::tempdir().expect("a folder");
        let mut pulled = Stick { left, ..Stick::new(volume.clone()) };
        release.import(&mut pulled, folder.path(), go_on).expect_err("pulled");
        let mut stick = Stick::new(volume.clone());
        whole(release.import(&mut stick, folder.path(), go_on).expect("goes on"));
        let twice =
            (head..volume.len()).filter(|at| pulled.reads[*at] > 0 && stick.reads[*at] > 0).count();
        assert!(twice as u64 <= CHUNK, "pulled after {left}: {twice} bytes were read again");
    }
}

#[test]
fn a_volume_that_was_read_is_passed_over_in_one_step_and_names_what_is_missing() {
    let release = Release::new();
    let volumes = three(&release);
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..2 {
        let (bytes, head) = &volumes[1];
        let mut stick = Stick::new(bytes.clone());
        match release.import(&mut stick, folder.path(), go_on).expect("copied") {
            Outcome::Parted(parted) => {
                assert_eq!(parted.missing.volumes, [1, 3]);
                assert_eq!(parted.copied_chunks > 0, round == 0);
            }
            Outcome::Whole(_) => panic!("two volumes are missing"),
        }
        let read = stick.reads[*head..].iter().filter(|reads| **reads > 0).count();
        // The block in which a thin volume would say what it carries is looked at, and the end.
        let wanted = if round == 0 {
            bytes.len() - head
        } else {
            cloister_bundle::container::BLOCK_BYTES + END_BYTES
        };
        assert_eq!(read, wanted, "round {round}");
    }
}

#[test]
fn parts_that_were_touched_are_hashed_again() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Parts::open(folder.path(), &release.plan, &release.table()).expect("opened");
    let before = open();
    assert!(before.is_of(&release.plan));
    std::fs::write(folder.path().join("7/files/0.part"), b"other").expect("written");
    assert!(!before.is_of(&release.plan), "another length");
    let before = open();
    std::fs::remove_file(folder.path().join("7/files/0.part")).expect("removed");
    assert!(!before.is_of(&release.plan), "no file");
    let mut other = release.plan.clone();
    other.import = ImportId(8);
    assert!(!open().is_of(&other), "another import");
}

#[test]
fn a_look_ahead_changes_nothing() {
    let release = Release::new();
    let folder = tempfile::tempdir().expect("a folder");
    let index = release.table();
    let mut parts = Parts::look(folder.path(), &release.plan, &index).expect("a look");
    assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 0);
    let chunks = release.stored.len();
    let head = release.head(2, 2, 2, chunks - 2);
    let wanted = parts.wanted(&index, &head, None).expect("readable");
    assert_eq!(wanted.chunks, chunks as u64 - 2);
    let other = release.head(2, 2, 2, chunks - 3);
    assert_eq!(
        parts.wanted(&index, &other, None).expect_err("refused").code(),
        "bundle.head.range"
    );
    parts.suppose(&head, None);
    let missing = parts.missing(&index, &head).expect("readable");
    assert_eq!((missing.volumes, missing.chunks), (vec![1], 2));
}

#[test]
fn a_thin_volume_brings_what_it_carries_and_the_rest_is_needed() {
    let release = Release::new();
    let chunks = release.stored.len();
    let head = release.head(1, 1, 0, chunks);
    let bits: Vec<bool> = (0..chunks).map(|number| number % 3 == 0).collect();
    let thin = release.thin(&head, &Carried::of(&bits));
    let folder = tempfile::tempdir().expect("a folder");
    let mut stick = Stick::new(thin.clone());
    let left_out = bits.iter().filter(|carried| !**carried).count() as u64;
    match release.import(&mut stick, folder.path(), go_on).expect("copied") {
        Outcome::Parted(parted) => {
            let missing = parted.missing;
            assert_eq!((missing.chunks, missing.needs), (left_out, left_out));
            assert!(missing.volumes.is_empty());
        }
        Outcome::Whole(_) => panic!("most of it was left out"),
    }
    assert!(stick.reads.iter().all(|reads| *reads == 1));
    assert_eq!(needs(folder.path(), "7").len() as u64, left_out);
    // A bit behind the last, and a bitmap that does not fit what follows, are refused.
    let at = release.volume(&release.head(1, 1, 0, 0)).len() - END_BYTES + 512;
    let mut other = thin.clone();
    other[at + bits.len().div_ceil(8) - 1] |= 0x80;
    let code = |bytes: Vec<u8>| {
        let folder = tempfile::tempdir().expect("a folder");
        release.import(Cursor::new(bytes), folder.path(), go_on).expect_err("refused").code()
    };
    if !chunks.is_multiple_of(8) {
        assert_eq!(code(other), "bundle.carried");
    }
    let mut other = thin;
    other[at] ^= 1;
    assert_eq!(code(other), "bundle.container.header");
    // What somebody else wrote to its place counts if it is right.
    let mut parts = Parts::open(folder.path(), &release.plan, &release.table()).expect("opened");
    let numbers = parts.left_out(&head, &Carried::of(&bits));
    assert_eq!(numbers.len() as u64, left_out);
    let chunk = release.index.chunks()[1];
    let part = folder.path().join("7").join(Plan::part_name(0));
    let part = std::fs::OpenOptions::new().write(true).open(part).expect("there");
    let plain = &release.files[0][4_096..8_192];
    std::os::unix::fs::FileExt::write_all_at(&part, plain, chunk.offset).expect("written");
    parts.take_filled(&release.table(), &[1, 2]).expect("hashed");
    let missing = parts.missing(&release.table(), &head).expect("readable");
    assert_eq!(missing.chunks, left_out - 1);
    // A whole volume brings the rest.
    whole(release.import(Cursor::new(release.whole()), folder.path(), go_on).expect("copied"));
    release.assert_in(folder.path());
}

/// Where the killed child works; unset in an ordinary run.
const PLACE: &str = "CLOISTER_QUARANTINE_KILL_PLACE";
/// After how many bytes it is killed.
const POINT: &str = "CLOISTER_QUARANTINE_KILL_POINT";

/// A medium whose reader is killed after so many bytes, while the other thread may be writing.
struct Deadly {
    stick: Stick,
    left: usize,
}

impl Read for Deadly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stick.read(buffer)?;
        self.left = self.left.saturating_sub(count);
        if self.left == 0 {
            raise(Signal::SIGKILL).expect("killed");
        }
        Ok(count)
    }
}

impl Seek for Deadly {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.stick.seek(to)
    }
}

/// The child: does nothing unless a place is named.
#[test]
fn reader() {
    if let (Some(place), Ok(point)) = (std::env::var_os(PLACE), std::env::var(POINT)) {
        let release = Release::new();
        let stick = Stick::new(release.whole());
        let deadly = Deadly { stick, left: point.parse().expect("a number") };
        release.import(deadly, Path::new(&place), go_on).expect("killed before");
    }
}

#[test]
fn a_killed_reader_goes_on_and_reads_again_only_what_was_in_its_memory() {
    let release = Release::new();
    let volume = release.whole();
    let mut dice = Dice(0xdead);
    for _kill in 0..20 {
        let folder = tempfile::tempdir().expect("a folder");
        let point = 1 + dice.below(volume.len() - 1);
        let child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "tests::resume::reader"])
            .env(PLACE, folder.path())
            .env(POINT, point.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("started");
        assert_eq!(child.signal(), Some(Signal::SIGKILL as i32), "after {point} bytes");
        let mut stick = Stick::new(volume.clone());
        whole(release.import(&mut stick, folder.path(), go_on).expect("goes on"));
        release.assert_in(folder.path());
        let again = stick.reads[..point].iter().filter(|reads| **reads > 0).count() as u64;
        let head = release.volume(&release.head(1, 1, 0, 0)).len() as u64;
        // One chunk that is read, two that wait, one that is unpacked and written.
        assert!(again <= head + 4 * CHUNK, "after {point} bytes: {again} were read again");
    }
}
