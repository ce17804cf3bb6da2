//! Power cuts: one act is played on a disk that remembers, and the disk is made again as it may have
//! been at any moment of it. What was flushed is there; of what was not, each write is there, lost, or
//! torn at its sectors, as the dice say. The kernel mounts that disk, the daemons recover on it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::Dice;

use crate::{
    appliance::Appliance,
    device::{Device, Logged, Mounted, image_of},
    fixture::Fixture,
    play::{Told, ask, rest, told},
    scene::{Outcome, Scene},
};

/// Bytes of a sector, which a disk writes whole.
const SECTOR: usize = 512;

/// An act that was played on a disk that remembers.
#[derive(Debug)]
pub(crate) struct Recording {
    scene: Scene,
    image: Vec<u8>,
    log: Vec<Logged>,
    key: String,
}

/// A moment at which the power goes, and what it spares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// So many entries of the log reached the disk.
    pub(crate) at: usize,
    /// What becomes of those that no flush covers follows from it.
    pub(crate) seed: u64,
    /// Whether the disk lies about flushes, which the judge must notice.
    pub(crate) flushes_lie: bool,
}

/// What became of a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spared {
    /// Writes that no flush covered.
    pub(crate) open: usize,
    /// Those of them that were lost or torn.
    pub(crate) lost: usize,
    /// What the act had come to.
    pub(crate) outcome: Outcome,
    /// Whether the operator had been told that it was done.
    pub(crate) told: bool,
}

impl Recording {
    /// Plays `scene` once, undisturbed.
    ///
    /// # Errors
    /// When no such disk can be had, or the act does not end well.
    pub(crate) fn make(place: &Path, fixture: &Fixture, scene: &Scene) -> Result<Self> {
        let place = place.join(format!("recording-{}", scene.name));
        fs::create_dir_all(&place)?;
        let image = image_of(&fixture.base(scene.base), &place)?;
        let device = Device::mount(&place, image)?;
        let mut appliance = Appliance::lay_out(&place, &device.folder().join("state"))?;
        appliance.start(&[], false)?;
        let key = appliance.log_key()?;
        let image = device.begin()?;
        let said = ask(&appliance, fixture, scene)?;
        let told = told(scene, &said)?;
        ensure!(told == Told::Done, "{} is refused: {told:?}", scene.name);
        device.mark();
        rest(&appliance, fixture, scene, &key, &told)?;
        appliance.end()?;
        let log = device.log();
        drop(appliance);
        drop(device);
        Ok(Self { scene: *scene, image, log, key })
    }

    /// Writes, flushes and marks of the act.
    pub(crate) const fn len(&self) -> usize {
        self.log.len()
    }

    /// A moment that the dice choose: three in four of them while something is not flushed.
    pub(crate) fn moment(&self, dice: &mut Dice) -> usize {
        let open = |at: &usize| matches!(self.log.get(at - 1), Some(Logged::Write(..)));
        let moments: Vec<usize> = (1..=self.log.len()).filter(open).collect();
        if moments.is_empty() || dice.below(4) == 0 {
            return dice.below(self.log.len() + 1);
        }
        moments[dice.below(moments.len())]
    }

    /// The act.
    pub(crate) const fn scene(&self) -> &Scene {
        &self.scene
    }

    /// The disk after `cut`, written to `file`; writes that no flush covered, those that were lost, and
    /// whether the operator had been told.
    fn replay(&self, cut: Cut, file: &Path) -> Result<(usize, usize, bool)> {
        let reached = self.log.get(..cut.at).context("a cut behind the end")?;
        let disk = File::create(file)?;
        disk.write_all_at(&self.image, 0)?;
        let mut dice = Dice::new(cut.seed);
        let flushed = flushed(reached);
        let (safe, open) =
            reached.split_at(if cut.flushes_lie { dice.below(flushed / 4 + 1) } else { flushed });
        let writes = |log: &'_ [Logged]| -> Vec<(usize, Vec<u8>)> {
            let write = |one: &Logged| match one {
                Logged::Write(at, bytes) => Some((*at, bytes.clone())),
                Logged::Flush | Logged::Mark => None,
            };
            log.iter().filter_map(write).collect()
        };
        for (at, bytes) in writes(safe) {
            disk.write_all_at(&bytes, at as u64)?;
        }
        // A disk that lies loses everything behind one moment of the first quarter, so that what is left is whole.
        let open = if cut.flushes_lie { Vec::new() } else { writes(open) };
        let mut lost = 0;
        for (at, bytes) in &open {
            let kept = fate(&mut dice, bytes.len().div_ceil(SECTOR));
            lost += usize::from(!kept.iter().all(|kept| *kept));
            for (number, sector) in bytes.chunks(SECTOR).enumerate().filter(|(at, _)| kept[*at]) {
                disk.write_all_at(sector, (at + number * SECTOR) as u64)?;
            }
        }
        let open = open.len();
        let told = reached.iter().any(|one| matches!(one, Logged::Mark));
        Ok((open, lost, told))
    }
}

/// How many of the entries the last flush covers.
fn flushed(log: &[Logged]) -> usize {
    log.iter().rposition(|one| matches!(one, Logged::Flush)).map_or(0, |place| place + 1)
}

/// Which sectors of a write that no flush covered are there: all, none, the first, or any.
fn fate(dice: &mut Dice, sectors: usize) -> Vec<bool> {
    let first = dice.below(sectors.max(1));
    let kind = dice.below(4);
    let kept = |number| match kind {
        0 => true,
        1 => false,
        2 => number < first,
        _ => dice.below(2) == 0,
    };
    (0..sectors).map(kept).collect()
}

/// A place where cut disks are mounted and their daemons recover.
#[derive(Debug)]
pub(crate) struct Bench {
    place: PathBuf,
    appliance: Appliance,
    cuts: u64,
}

impl Bench {
    /// Lays one out below `place`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn lay_out(place: &Path) -> Result<Self> {
        let folder = place.join("fs");
        fs::create_dir_all(&folder)?;
        let appliance = Appliance::lay_out(place, &folder.join("state"))?;
        Ok(Self { place: place.to_owned(), appliance, cuts: 0 })
    }

    /// Cuts the power, has the daemons recover, and judges what they come to.
    ///
    /// # Errors
    /// When it is neither old nor new, or something that was acknowledged is lost.
    pub(crate) fn judge(
        &mut self,
        fixture: &Fixture,
        recording: &Recording,
        cut: Cut,
    ) -> Result<Spared> {
        self.appliance.end()?;
        // A loop device may still be letting go of the one before.
        self.cuts += 1;
        let disk = self.place.join(format!("cut-{}", self.cuts));
        let (open, lost, told) = recording.replay(cut, &disk)?;
        let mounted = Mounted::at(&disk, &self.place.join("fs"))?;
        let judged = self.recover(fixture, recording, told);
        self.appliance.end()?;
        drop(mounted);
        fs::remove_file(&disk)?;
        Ok(Spared { open, lost, told, outcome: judged? })
    }

    fn recover(&mut self, fixture: &Fixture, of: &Recording, told: bool) -> Result<Outcome> {
        self.appliance.begin_unwatched()?;
        self.appliance.wait_for_sockets()?;
        let told = if told { Told::Done } else { Told::Refused(String::new()) };
        let (_facts, outcome) = rest(&self.appliance, fixture, &of.scene, &of.key, &told)?;
        ensure!(told != Told::Done || outcome == Outcome::New, "what was acknowledged is lost");
        Ok(outcome)
    }
}
