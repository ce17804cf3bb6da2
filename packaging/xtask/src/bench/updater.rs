//! The updater's figures: minting and importing 1 GiB, refusing, what an import takes from the persons
//! who work meanwhile, switching, and the log.
//!
//! The payload is one file of weights: random ones in Q8_0, which nothing packs, and normally
//! distributed ones in BF16. Peers get the same file, at the settings that their line in the log
//! shows; their bundles are made before, every destination is new, and both ends sync what they
//! wrote.

mod hostile;
mod interactive;
mod mint;
mod peers;
mod promote;
mod record;
mod refuse;
mod usage;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cloister_stage::{Options, Stage, facility::Facility};

use self::{
    peers::{PEERS, Peer},
    usage::Meter,
};
use super::{Figure, NoPeer, RUNS, Usage, material, tell};

/// 1 GiB, as the figures are defined.
const BYTES: u64 = 1 << 30;

/// What is imported, and what that may take.
struct Payload {
    name: &'static str,
    write: fn(&Path, u64, u64) -> Result<()>,
    cpu: &'static str,
    memory: &'static str,
    wall: &'static str,
    cpu_must: f64,
    cpu_aim: f64,
}

const PAYLOADS: [Payload; 2] = [
    Payload {
        name: "q8",
        write: material::random_weights,
        cpu: "import.q8.cpu",
        memory: "import.q8.memory",
        wall: "import.q8.wall",
        cpu_must: 3.0,
        cpu_aim: 2.6,
    },
    Payload {
        name: "bf16",
        write: material::normal_weights,
        cpu: "import.bf16.cpu",
        memory: "import.bf16.memory",
        wall: "import.bf16.wall",
        cpu_must: 3.5,
        cpu_aim: 3.0,
    },
];

/// A facility with the two release trees.
struct Room<'a> {
    scratch: &'a Path,
    facility: Facility,
}

impl<'a> Room<'a> {
    /// A facility with a new appliance, and the volume of a small release.
    fn new(scratch: &'a Path) -> Result<(Self, PathBuf)> {
        let facility = Facility::found(&scratch.join("facility"), &Options::no_evaluation_asked())?;
        let mut room = Self { scratch, facility };
        let small = interactive::release(&room)?;
        room.fresh()?;
        Ok((room, small))
    }

    /// A release tree whose weights are those of `payload`, and the file of them.
    fn tree(&self, payload: &Payload) -> Result<(PathBuf, PathBuf)> {
        let tree = material::small_tree(&self.facility, payload.name)?;
        // No figure here is about the judging by questions.
        fs::remove_dir_all(tree.join("evaluation"))?;
        let weights = tree.join("provenance/weights.gguf");
        (payload.write)(&weights, BYTES, 1)?;
        fs::File::open(&weights)?.sync_all()?;
        Ok((tree, weights))
    }

    /// Puts a new appliance in the place of the last, so that nothing is on the shelf.
    fn fresh(&mut self) -> Result<()> {
        let root = self.scratch.join("appliance");
        self.facility.stage.stop()?;
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        self.facility.stage = Stage::create(&root, &Options::no_evaluation_asked())?;
        self.facility.stage.start()?;
        self.facility.enrol()?;
        Ok(())
    }
}

pub(super) fn measure(scratch: &Path, log: &mut dyn Write) -> Result<Vec<Figure>> {
    let (mut room, small) = Room::new(scratch)?;
    let mut figures = record::measure(scratch, &room.facility, log)?;
    for (payload, counter) in PAYLOADS.iter().zip(2..) {
        writeln!(log, "{}: making a release of 1 GiB", payload.name)?;
        let (tree, weights) = room.tree(payload)?;
        let version = format!("{counter}.0.0");
        if payload.name == "bf16" {
            figures.extend(mint::measure(&room, &tree, &weights, log)?);
        }
        let volume = room.facility.publish(&tree, &version, counter)?;
        figures.extend(import(&mut room, payload, &weights, &volume, log)?);
        if payload.name == "q8" {
            figures.extend(refuse::measure(&mut room, &tree, &volume, log)?);
            fs::remove_dir_all(&tree)?;
            figures.extend(interactive::measure(&mut room, &small, &volume, log)?);
        }
        room.facility.stage.stop()?;
        fs::remove_file(&volume)?;
        fs::remove_dir_all(room.facility.home().join("trees"))?;
    }
    figures.extend(promote::measure(&mut room, &small, log)?);
    figures.extend(hostile::measure(scratch, log)?);
    Ok(figures)
}

/// The record's share of [`measure`].
///
/// # Errors
/// When something of ours fails.
pub(super) fn measure_record(scratch: &Path, log: &mut dyn Write) -> Result<Vec<Figure>> {
    let (room, _small) = Room::new(scratch)?;
    record::measure(scratch, &room.facility, log)
}

/// The share of [`measure`] that is about switching.
///
/// # Errors
/// When something of ours fails.
pub(super) fn measure_switch(scratch: &Path, log: &mut dyn Write) -> Result<Vec<Figure>> {
    let (mut room, small) = Room::new(scratch)?;
    promote::measure(&mut room, &small, log)
}

/// Imports `volume` into new appliances, and lets each peer install the same weights.
fn import(
    room: &mut Room<'_>,
    payload: &Payload,
    weights: &Path,
    volume: &Path,
    log: &mut dyn Write,
) -> Result<Vec<Figure>> {
    let mut ours = Vec::new();
    for _run in 0..RUNS {
        room.fresh()?;
        let meter = Meter::of(&room.facility.stage)?;
        let (used, outcome) = meter.measure(|| room.facility.import(volume))?;
        crate::serve::said(&outcome)?;
        writeln!(log, "{} ours: {}", payload.cpu, used.parts())?;
        ours.push(used.usage);
    }
    room.facility.stage.stop()?;
    for (name, of) in [(payload.cpu, CPU), (payload.memory, PEAK), (payload.wall, WALL)] {
        tell(log, &format!("{name} ours"), &each(&ours, of))?;
    }
    let cpu = || Figure::new(payload.cpu, "s", &each(&ours, CPU));
    let memory = || Figure::new(payload.memory, "MiB", &each(&ours, PEAK));
    let mut figures = vec![
        cpu().must(payload.cpu_must).aim(payload.cpu_aim),
        memory().must(64.0).aim(48.0),
        Figure::new(payload.wall, "s", &each(&ours, WALL)),
    ];
    for peer in &PEERS {
        match peers_runs(room.scratch, payload, peer, weights, log)? {
            Some(runs) => {
                figures.push(cpu().beside(peer.name, &each(&runs, CPU)));
                figures.push(memory().beside(peer.name, &each(&runs, PEAK)));
            }
            None => figures.push(cpu().without(peer.name)),
        }
    }
    Ok(figures)
}

/// What each run of a peer used; nothing where it is not on this machine.
fn peers_runs(
    scratch: &Path,
    payload: &Payload,
    peer: &Peer,
    weights: &Path,
    log: &mut dyn Write,
) -> Result<Option<Vec<Usage>>> {
    let room = scratch.join("peer");
    let ready = match peer.prepare(&room, weights, payload.name == "bf16") {
        Err(error) if error.is::<NoPeer>() => {
            writeln!(log, "{}: {error}", peer.name)?;
            return Ok(None);
        }
        ready => ready.with_context(|| format!("preparing {}", peer.name))?,
    };
    writeln!(log, "{} prepares:\n{}\n{} runs:\n{}", peer.name, peer.prepare, peer.name, peer.run)?;
    let runs = (0..RUNS).map(|_run| ready.run()).collect::<Result<Vec<Usage>>>()?;
    fs::remove_dir_all(&room)?;
    for (what, of) in [("cpu", CPU), ("memory", PEAK), ("wall", WALL)] {
        let name = format!("import.{}.{what} {}", payload.name, peer.name);
        tell(log, &name, &each(&runs, of))?;
    }
    Ok(Some(runs))
}

const CPU: fn(&Usage) -> f64 = |usage| usage.cpu_s;
const PEAK: fn(&Usage) -> f64 = |usage| usage.peak_mib;
const WALL: fn(&Usage) -> f64 = |usage| usage.wall_s;

fn each(runs: &[Usage], of: fn(&Usage) -> f64) -> Vec<f64> {
    runs.iter().map(of).collect()
}
