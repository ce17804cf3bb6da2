//! The simulator: one act's calls are played into two model file systems, which crash at every call.

use std::path::Path;

use anyhow::{Result, ensure};
use cloister_stage::{Dice, facility};

use crate::{
    appliance::{Appliance, Run, empty},
    calls::Deed,
    cuts::{Spared, Spares},
    fixture::Fixture,
    model::{Model, Rule},
    play::{Held, Known, Played, Told, ask, come_back, died, durable, settle, told},
    scene::Scene,
    tracer::Happening,
};

/// An act with all its calls.
#[derive(Debug)]
pub(crate) struct Script {
    known: Known,
    /// The state folder before the daemons started.
    pub(crate) before: Model,
    /// What happened, in order.
    pub(crate) happenings: Vec<Happening>,
    /// The log's key.
    pub(crate) key: String,
    /// What the operator's command said.
    pub(crate) said: facility::Outcome,
    /// The log's entries, by their digests, that were durable by then.
    held: Vec<String>,
}

/// A moment of a crash in a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// So many happenings came to pass.
    pub(crate) at: usize,
    /// What the file system promises.
    pub(crate) rule: Rule,
    /// What is spared of what was on its way; follows from the seed where nothing is said.
    pub(crate) spares: Option<Spares>,
    /// Whether half of the first release's manifest is gone, of which nobody knows that it was written.
    pub(crate) torn: bool,
    /// Everything else follows from it.
    pub(crate) seed: u64,
}

impl Script {
    /// Plays `scene` once from the start of the daemons, undisturbed, and keeps every byte.
    ///
    /// # Errors
    /// When the act does not end well, or its calls do not explain what lies on the disk.
    pub(crate) fn make(
        appliance: &mut Appliance,
        fixture: &Fixture,
        known: &Known,
    ) -> Result<Self> {
        let scene = &known.scene;
        appliance.put_back(&fixture.base(scene.base))?;
        let before = Model::read(appliance.state(), Rule::Loose)?;
        let run = Run { bytes: true, recorded: true, ..Run::default() };
        appliance.start(&[], run)?;
        let key = appliance.log_key()?;
        let said = ask(appliance, fixture, scene)?;
        let told = told(scene, &said)?;
        ensure!(told == Told::Done, "{} is refused: {told:?}", scene.name);
        let held = durable(appliance, &key, true)?;
        appliance.session()?.mark();
        settle(appliance, fixture, known, &key, Held { said: Some(&said), log: &held })?;
        let happenings = appliance.end()?;
        let script = Self { known: known.clone(), before, happenings, key, said, held };
        script.model(script.happenings.len(), Rule::Loose).0.compare()?;
        Ok(script)
    }

    /// The act.
    pub(crate) const fn scene(&self) -> &Scene {
        &self.known.scene
    }

    /// A moment that the dice choose: a third of them after the operator was told.
    pub(crate) fn moment(&self, dice: &mut Dice) -> usize {
        let mark = self.happenings.iter().position(|one| matches!(one, Happening::Mark));
        match mark.filter(|_mark| dice.below(3) == 0) {
            Some(mark) => mark + 1 + dice.below(self.len() - mark),
            None => dice.below(self.len() + 1),
        }
    }

    /// Moments at which it can crash.
    pub(crate) const fn len(&self) -> usize {
        self.happenings.len()
    }

    /// The file system after so many happenings, and whether the operator was told by then.
    pub(crate) fn model(&self, at: usize, rule: Rule) -> (Model, bool) {
        replayed(self.before.clone().with(rule), self.happenings.iter().take(at))
    }

    /// Crashes, has the daemons recover, and judges what they come to.
    ///
    /// # Errors
    /// When it is neither old nor new, or something that was acknowledged is lost.
    pub(crate) fn crash(
        &self,
        appliance: &mut Appliance,
        fixture: &Fixture,
        crash: Crash,
    ) -> Result<Spared> {
        let (model, told) = self.model(crash.at, crash.rule);
        let mut dice = Dice::new(crash.seed);
        let spares = crash.spares.unwrap_or_else(|| Spares::roll(&mut dice));
        let (mut after, open, lost) = model.crash(spares, &mut dice);
        if crash.torn {
            let release = Path::new("shelf/generations").join(fixture.generation(1));
            after.tear(&release.join("manifest.json"))?;
        }
        appliance.end()?;
        empty(appliance.state())?;
        after.lay_out(appliance.state())?;
        come_back(appliance, fixture, self.scene())?;
        let held = Held { said: Some(&self.said), log: &self.held };
        let held = if told { held } else { Held::default() };
        // The log's key is made at the first start; until anything is recorded it may be lost.
        let key = if told { self.key.clone() } else { appliance.log_key()? };
        let outcome = settle(appliance, fixture, &self.known, &key, held)?.first;
        died(&appliance.end()?, &[])?;
        Ok(Spared { open, lost, spares, outcome, told })
    }
}

fn replayed<'a>(
    mut model: Model,
    happenings: impl Iterator<Item = &'a Happening>,
) -> (Model, bool) {
    let mut told = false;
    for happening in happenings {
        match happening {
            Happening::Call(call) => model.act(&call.deed),
            Happening::Mark => told = true,
            Happening::Struck(_) | Happening::Ended(..) | Happening::Wrong(_) => {}
        }
    }
    (model, told)
}

/// Whether a flush failed before the operator was told, whoever made light of it.
pub(crate) fn is_unsynced(happenings: &[Happening]) -> bool {
    let before = happenings.iter().take_while(|one| !matches!(one, Happening::Mark));
    before.into_iter().any(|one| match one {
        Happening::Call(call) => matches!(call.deed, Deed::Unsynced(_)),
        _ => false,
    })
}

/// An act of which the operator was told that it is done although a flush had failed, on a file system that
/// keeps nothing but what was flushed: what is gone with that flush must not be missed.
///
/// # Errors
/// When it is neither old nor new, or something that was acknowledged is lost.
pub(crate) fn without_flush(
    appliance: &mut Appliance,
    fixture: &Fixture,
    known: &Known,
    before: &Model,
    played: &Played,
) -> Result<()> {
    let mark = played.happenings.iter().position(|one| matches!(one, Happening::Mark));
    for rule in [Rule::Ordered, Rule::Loose] {
        let happenings = played.happenings.iter().take(mark.map_or(0, |mark| mark + 1));
        let (model, _told) = replayed(before.clone().with(rule), happenings);
        let (after, ..) = model.crash(Spares::Nothing, &mut Dice::new(0));
        appliance.end()?;
        empty(appliance.state())?;
        after.lay_out(appliance.state())?;
        come_back(appliance, fixture, &known.scene)?;
        let held = Held { said: Some(&played.said), log: &played.log };
        settle(appliance, fixture, known, &played.key, held)?;
        died(&appliance.end()?, &[])?;
    }
    Ok(())
}
