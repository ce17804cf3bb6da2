//! Files beyond 2 and 4 GiB, where others' counters overflowed: they come in with the memory that
//! small ones take, and a flipped bit is found near the start, in the middle and at the end.
//!
//! A file is weights of one tensor of zeros, with noise in each sixteenth of it: the zeros are a hole,
//! which the kernel fills in while mint reads, so that neither source nor volume takes its size on
//! the disk. What the appliance writes does.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use cloister_domain::{ByteCount, Digest};
use cloister_stage::{Options, Unit, facility::Facility, newcomers, release::Recipe};

use super::Progress;

/// A release that every other is compared with; just beyond 2^31, and just beyond 2^32 bytes.
const LARGE: [&[u64]; 3] = [&[SMALL], &[(22 << 30) / 10], &[(41 << 30) / 10]];
/// Beyond what anybody ships on a stick today: 12 GiB, of which 9 are one file.
const HUGE: [&[u64]; 2] = [&[SMALL], &[9 << 30, 3 << 30]];
const SMALL: u64 = 64 << 20;
/// How much more memory the daemons may take than for the small release: what an allocator rounds
/// to, and the table of chunks.
const MORE_BYTES_MAX: u64 = 8 << 20;
/// What an import may take, whatever its files.
const PEAK_BYTES_MAX: u64 = 64 << 20;
/// What mint may take, whatever its files.
const MINT_BYTES_MAX: u64 = 160 << 20;
/// Every so many bytes of a file begin with so many that do not compress.
const STRIDE_BYTES: u64 = 64 << 10;
const NOISE_BYTES: usize = 4 << 10;
const ROW_BYTES: u64 = 8 << 10;

/// Releases with one file, beyond both edges.
pub(super) fn large(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    run(&LARGE, progress, out)
}

/// A release of 12 GiB; takes 14 GiB of disk and more memory than its weights have bytes, which
/// preflight asks for.
pub(super) fn huge(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    run(&HUGE, progress, out)
}

/// One round for each release.
fn run(releases: &[&[u64]], progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let done = usize::try_from(progress.done)?;
    for sizes in releases.iter().skip(done) {
        let total = ByteCount(sizes.iter().sum());
        let peaks = round(sizes, progress.seed, out).with_context(|| format!("{total}"))?;
        let mut counts = BTreeMap::new();
        for (program, peak) in peaks {
            let small = format!("{program}, MiB for {}", ByteCount(SMALL));
            if let Some(before) = progress.counts.get(&small) {
                let more = peak.0.saturating_sub(before << 20);
                ensure!(more <= MORE_BYTES_MAX, "{program} took {} more", ByteCount(more));
            }
            counts.insert(format!("{program}, MiB for {total}"), peak.0.div_ceil(1 << 20));
        }
        counts.insert("imported".to_owned(), 1);
        counts.insert("damage found".to_owned(), 3);
        progress.held_often(&counts)?;
    }
    Ok(())
}

/// Mints and imports a release with files of `sizes`; the most memory that each program took.
fn round(sizes: &[u64], seed: u64, out: &mut dyn Write) -> Result<[(&'static str, ByteCount); 2]> {
    let scratch = tempfile::Builder::new().prefix("cl-").tempdir_in("/tmp")?;
    let mut facility = Facility::found(scratch.path(), &Options::default())?;
    facility.stage.start()?;
    facility.enrol()?;
    let tree = Recipe::demo("v1", None).lay_out(&facility, "large")?;
    for (number, size) in sizes.iter().enumerate() {
        weights(&tree.join(format!("provenance/{number}.safetensors")), *size, seed)?;
    }
    let publish = || facility.publish(&tree, "1.0.0", 1);
    let (mint_bytes, volume) = newcomers::measure(std::process::id(), newcomers::CLOSELY, publish);
    let (mint, volume) = (ByteCount(mint_bytes), volume?);
    let total = ByteCount(sizes.iter().sum());
    let of_volume = fs::metadata(&volume)?.len();
    writeln!(out, "{total} in a volume of {}: mint took {mint}", ByteCount(of_volume))?;
    ensure!(mint.0 <= MINT_BYTES_MAX, "mint took {mint}");
    for back in [of_volume / 4 * 3, of_volume / 2, 3000] {
        flip_a_bit(&volume, of_volume - back)?;
        let outcome = facility.import(&volume)?;
        let found = outcome.exit != 0 && outcome.code().starts_with("bundle.");
        ensure!(found, "a bit {back} bytes before the end of {of_volume}: {}", outcome.code());
        flip_a_bit(&volume, of_volume - back)?;
    }
    facility.import(&volume)?.done()?;
    let peaks = [
        ("intaked", peak_bytes(&facility, Unit::Intaked)?),
        ("updaterd", peak_bytes(&facility, Unit::Updaterd)?),
    ];
    for (program, peak) in peaks {
        writeln!(out, "{total}: {program} took {peak}")?;
        ensure!(peak.0 <= PEAK_BYTES_MAX, "{program} took {peak}");
    }
    facility.stage.stop()?;
    Ok(peaks)
}

/// Writes weights of `bytes` bytes, nearly all of them a hole.
fn weights(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    // A matrix: no single dimension is that long.
    let (rows, columns) = (bytes / ROW_BYTES, ROW_BYTES / 2);
    let bytes = rows * ROW_BYTES;
    let header = format!(
        r#"{{"zeros":{{"dtype":"BF16","shape":[{rows},{columns}],"data_offsets":[0,{bytes}]}}}}"#
    );
    let header = format!("{header:<96}");
    let file = File::create(path)?;
    file.write_all_at(&(header.len() as u64).to_le_bytes(), 0)?;
    file.write_all_at(header.as_bytes(), 8)?;
    let begin = 8 + header.len() as u64;
    file.set_len(begin + bytes)?;
    let mut noise = Vec::with_capacity(NOISE_BYTES);
    for at in (0..bytes.saturating_sub(STRIDE_BYTES)).step_by(usize::try_from(STRIDE_BYTES)?) {
        noise.clear();
        let mut digest = Digest::of(&(seed ^ at.rotate_left(20)).to_le_bytes());
        while noise.len() < NOISE_BYTES {
            noise.extend_from_slice(digest.as_bytes());
            digest = Digest::of(digest.as_bytes());
        }
        // A number whose exponent has a zero bit is finite.
        noise.iter_mut().skip(1).step_by(2).for_each(|high| *high &= 0xbf);
        file.write_all_at(&noise, begin + at)?;
    }
    Ok(())
}

/// Flips a bit of the volume where it lies, so that twice is never.
fn flip_a_bit(volume: &Path, place: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(volume)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    Ok(file.write_all_at(&[byte[0] ^ 1], place)?)
}

/// The most memory that a daemon had resident (VmHWM).
fn peak_bytes(facility: &Facility, unit: Unit) -> Result<ByteCount> {
    Ok(ByteCount(newcomers::peak_bytes(facility.stage.pid(unit)?)?))
}
