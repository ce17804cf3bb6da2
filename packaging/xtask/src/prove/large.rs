//! Files beyond 2 and 4 GiB, where others' counters overflowed: they come in with the memory that
//! small ones take, and a flipped bit anywhere is found.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use cloister_domain::ByteCount;
use cloister_stage::{
    Options, Unit,
    facility::Facility,
    release::{Recipe, read_file},
    tamper,
};

use super::Progress;

/// Just beyond 2^31, and just beyond 2^32 bytes.
const SIZES: [u64; 2] = [(22 << 30) / 10, (41 << 30) / 10];
/// How much more memory a file of twice the size may take: what an allocator rounds to.
const MORE_BYTES_MAX: u64 = 8 << 20;
/// What an import may take, whatever its files.
const PEAK_BYTES_MAX: u64 = 64 << 20;

/// One round for each size.
pub(super) fn run(progress: &mut Progress, out: &mut dyn Write) -> Result<()> {
    let mut before: Option<u64> = None;
    for size in SIZES {
        let scratch = tempfile::Builder::new().prefix("cl-").tempdir_in("/tmp")?;
        let mut facility = Facility::found(scratch.path(), &Options::default())?;
        facility.stage.start()?;
        facility.enrol()?;
        let tree = Recipe::demo("v1", None).lay_out(&facility, "large")?;
        let folder = tree.join("provenance");
        fs::create_dir_all(&folder)?;
        // Zeros take no room on this disk, and little on a stick.
        File::create(folder.join("zeros.bin"))?.set_len(size)?;
        let volume = facility.publish(&tree, "1.0.0", 1)?;
        damage(&facility, &volume)?;
        facility.import(&volume)?.done()?;
        let peak = peak_bytes(&facility)?;
        let (shown, of_volume) = (ByteCount(size), ByteCount(fs::metadata(&volume)?.len()));
        writeln!(out, "{shown} in a volume of {of_volume}: intaked took {}", ByteCount(peak))?;
        ensure!(peak <= PEAK_BYTES_MAX, "intaked took {}", ByteCount(peak));
        if let Some(before) = before {
            let more = peak.saturating_sub(before);
            ensure!(more <= MORE_BYTES_MAX, "the larger file took {} more", ByteCount(more));
        }
        before = Some(peak);
        facility.stage.stop()?;
        progress.held(&["imported", "damage found"])?;
    }
    Ok(())
}

/// A flipped bit near the start, in the middle and near the end of the chunks is found.
fn damage(facility: &Facility, volume: &Path) -> Result<()> {
    let bytes = fs::metadata(volume)?.len();
    let bad = facility.home().join("damaged.clb");
    for back in [bytes / 4 * 3, bytes / 2, 3000] {
        tamper::flip_a_bit(volume, &bad, back)?;
        let outcome = facility.import(&bad)?;
        let found = outcome.exit != 0 && outcome.code().starts_with("bundle.");
        ensure!(found, "a bit {back} bytes before the end of {bytes}: {}", outcome.code());
    }
    Ok(())
}

/// The most memory that intaked had resident (VmHWM).
fn peak_bytes(facility: &Facility) -> Result<u64> {
    let status = Path::new("/proc").join(facility.stage.pid(Unit::Intaked)?.to_string());
    let status = String::from_utf8(read_file(&status.join("status"))?)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}
