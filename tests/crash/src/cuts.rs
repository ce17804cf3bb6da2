//! Power cuts: one act is played on a disk that remembers, and the disk is made again as it may have
//! been at any moment of it. What was flushed is there; of what was not, all, nothing, the first writes, or
//! some, torn at their sectors, as the dice say. The kernel mounts that disk, the daemons recover on it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::{Dice, facility};

use crate::{
    appliance::{Appliance, Run},
    bytes::BLOCK,
    device::{Device, Logged, Mounted, image_of},
    fixture::Fixture,
    play::{Held, Known, Told, ask, come_back, died, durable, settle, told},
    scene::{Outcome, Scene},
};

/// Bytes of a sector, which a disk writes whole.
const SECTOR: usize = 512;

/// An act that was played on a disk that remembers.
#[derive(Debug)]
pub(crate) struct Recording {
    known: Known,
    image: Vec<u8>,
    log: Vec<Logged>,
    key: String,
    /// What the operator's command said.
    said: facility::Outcome,
    /// The log's entries, by their digests, that were durable by then.
    held: Vec<String>,
}

/// What the power spares of writes that no flush covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spares {
    /// Everything.
    All,
    /// Nothing.
    Nothing,
    /// What came first.
    First,
    /// Each by itself, whole: later ones without earlier ones.
    Any,
    /// Each by itself: all of it, none of it, or some of its sectors.
    Sectors,
    /// Each by itself: all of it, none of it, or some of its blocks, on a disk that writes these whole.
    Blocks,
}

impl Spares {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::All, Self::Nothing, Self::First, Self::Any, Self::Sectors, Self::Blocks];

    /// One of them.
    pub(crate) fn roll(dice: &mut Dice) -> Self {
        Self::ALL[dice.below(Self::ALL.len())]
    }

    /// In one word or two.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Nothing => "nothing",
            Self::First => "the first",
            Self::Any => "any",
            Self::Sectors => "some sectors",
            Self::Blocks => "some blocks",
        }
    }

    /// Bytes that are there or not as one.
    pub(crate) const fn unit(self) -> usize {
        match self {
            Self::Blocks => BLOCK,
            Self::All | Self::Nothing | Self::First | Self::Any | Self::Sectors => SECTOR,
        }
    }
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
    /// What was spared of them.
    pub(crate) spares: Spares,
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
    pub(crate) fn make(place: &Path, fixture: &Fixture, known: &Known) -> Result<Self> {
        let scene = &known.scene;
        let place = place.join(format!("recording-{}", scene.name));
        fs::create_dir_all(&place)?;
        let image = image_of(&fixture.base(scene.base), &place)?;
        let device = Device::mount(&place, image)?;
        let mut appliance = Appliance::lay_out(&place, &device.folder().join("state"))?;
        appliance.start(&[], Run::default())?;
        let key = appliance.log_key()?;
        let image = device.begin()?;
        let said = ask(&appliance, fixture, scene)?;
        let told = told(scene, &said)?;
        ensure!(told == Told::Done, "{} is refused: {told:?}", scene.name);
        let held = durable(&appliance, &key, true)?;
        device.mark();
        settle(&appliance, fixture, known, &key, Held { said: Some(&said), log: &held })?;
        appliance.end()?;
        let log = device.log();
        drop(appliance);
        drop(device);
        Ok(Self { known: known.clone(), image, log, key, said, held })
    }

    /// Writes, flushes and marks of the act.
    pub(crate) const fn len(&self) -> usize {
        self.log.len()
    }

    /// A moment that the dice choose: a third of them after the operator was told, three in four of the others
    /// while something is not flushed.
    pub(crate) fn moment(&self, dice: &mut Dice) -> usize {
        let mark = self.log.iter().position(|one| matches!(one, Logged::Mark));
        if let Some(mark) = mark.filter(|_mark| dice.below(3) == 0) {
            return mark + 1 + dice.below(self.log.len() - mark);
        }
        let open = |at: &usize| matches!(self.log.get(at - 1), Some(Logged::Write(..)));
        let moments: Vec<usize> = (1..=self.log.len()).filter(open).collect();
        if moments.is_empty() || dice.below(4) == 0 {
            return dice.below(self.log.len() + 1);
        }
        moments[dice.below(moments.len())]
    }

    /// The act.
    pub(crate) const fn scene(&self) -> &Scene {
        &self.known.scene
    }

    /// The disk after `cut`, written to `file`.
    fn replay(&self, cut: Cut, file: &Path) -> Result<Replayed> {
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
        let spares = Spares::roll(&mut dice);
        let first = dice.below(open.len().max(1));
        let mut lost = 0;
        for (place, (at, bytes)) in open.iter().enumerate() {
            let sectors = bytes.len().div_ceil(SECTOR);
            let kept = match spares {
                Spares::All => vec![true; sectors],
                Spares::Nothing => vec![false; sectors],
                Spares::First => vec![place < first; sectors],
                Spares::Any => vec![dice.below(2) == 0; sectors],
                Spares::Sectors => fate(&mut dice, sectors),
                Spares::Blocks => blocks(*at, &fate(&mut dice, bytes.len() / BLOCK + 2), sectors),
            };
            lost += usize::from(!kept.iter().all(|kept| *kept));
            for (number, sector) in bytes.chunks(SECTOR).enumerate().filter(|(at, _)| kept[*at]) {
                disk.write_all_at(sector, (at + number * SECTOR) as u64)?;
            }
        }
        let open = open.len();
        let told = reached.iter().any(|one| matches!(one, Logged::Mark));
        Ok(Replayed { open, lost, spares, told })
    }
}

/// What became of the writes of a recording.
struct Replayed {
    open: usize,
    lost: usize,
    spares: Spares,
    /// Whether the operator had been told.
    told: bool,
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

/// Which of the `sectors` from a place of the disk on are there where whole blocks are there or not.
fn blocks(at: usize, kept: &[bool], sectors: usize) -> Vec<bool> {
    let block = |number: usize| (at % BLOCK + number * SECTOR) / BLOCK;
    (0..sectors).map(|number| kept[block(number)]).collect()
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
        let Replayed { open, lost, spares, told } = recording.replay(cut, &disk)?;
        let mounted = Mounted::at(&disk, &self.place.join("fs"))?;
        let judged = self.recover(fixture, recording, told);
        let ended = self.appliance.end();
        drop(mounted);
        fs::remove_file(&disk)?;
        let outcome = judged?;
        died(&ended?, &[])?;
        Ok(Spared { open, lost, spares, told, outcome })
    }

    fn recover(&mut self, fixture: &Fixture, of: &Recording, told: bool) -> Result<Outcome> {
        come_back(&mut self.appliance, fixture, of.scene())?;
        let held = Held { said: Some(&of.said), log: &of.held };
        let held = if told { held } else { Held::default() };
        Ok(settle(&self.appliance, fixture, &of.known, &of.key, held)?.first)
    }
}
