//! The simulator: one act's calls are played into two model file systems, which crash at every call.

use anyhow::{Result, ensure};
use cloister_stage::Dice;

use crate::{
    appliance::{Appliance, empty},
    cuts::Spared,
    fixture::Fixture,
    model::{Model, Rule},
    play::{Told, ask, rest, told},
    scene::{Outcome, Scene},
    tracer::Happening,
};

/// An act with all its calls.
#[derive(Debug)]
pub(crate) struct Script {
    scene: Scene,
    /// The state folder before the daemons started.
    before: Model,
    happenings: Vec<Happening>,
    key: String,
}

/// A moment of a crash in a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// So many happenings came to pass.
    pub(crate) at: usize,
    /// What the file system promises.
    pub(crate) rule: Rule,
    /// What is spared follows from it.
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
        scene: &Scene,
    ) -> Result<Self> {
        appliance.put_back(&fixture.base(scene.base))?;
        let before = Model::read(appliance.state(), Rule::Loose)?;
        appliance.begin(&[], true, true)?;
        appliance.wait_for_sockets()?;
        let key = appliance.log_key()?;
        let said = ask(appliance, fixture, scene)?;
        let told = told(scene, &said)?;
        ensure!(told == Told::Done, "{} is refused: {told:?}", scene.name);
        appliance.session()?.mark();
        rest(appliance, fixture, scene, &key, &told)?;
        let happenings = appliance.end()?;
        let script = Self { scene: *scene, before, happenings, key };
        script.model(script.happenings.len(), Rule::Loose).0.compare()?;
        Ok(script)
    }

    /// The act.
    pub(crate) const fn scene(&self) -> &Scene {
        &self.scene
    }

    /// Moments at which it can crash.
    pub(crate) const fn len(&self) -> usize {
        self.happenings.len()
    }

    /// The file system after so many happenings, and whether the operator was told by then.
    fn model(&self, at: usize, rule: Rule) -> (Model, bool) {
        let mut model = self.before.clone().with(rule);
        let mut told = false;
        for happening in self.happenings.iter().take(at) {
            match happening {
                Happening::Call(call) => model.act(&call.deed),
                Happening::Mark => told = true,
                Happening::Struck(_) | Happening::Ended(..) => {}
            }
        }
        (model, told)
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
        let (after, open, lost) = model.crash(&mut Dice::new(crash.seed));
        appliance.end()?;
        empty(appliance.state())?;
        after.lay_out(appliance.state())?;
        appliance.begin_unwatched()?;
        appliance.wait_for_sockets()?;
        let demanded = if told { Told::Done } else { Told::Refused(String::new()) };
        // The log's key is made at the first start; until anything is recorded it may be lost.
        let key = if told { self.key.clone() } else { appliance.log_key()? };
        let (_facts, outcome) = rest(appliance, fixture, &self.scene, &key, &demanded)?;
        ensure!(!told || outcome == Outcome::New, "what was acknowledged is lost");
        appliance.end()?;
        Ok(Spared { open, lost, outcome, told })
    }
}
