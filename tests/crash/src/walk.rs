//! Walks: long random sequences of acts by several persons over one living appliance, with other things going wrong
//! in between. After each step everything comes to rest and is judged; in the end an honest release goes through.

mod depot;
mod judged;
mod may;
mod player;
mod step;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use cloister_stage::Dice;

use crate::{
    disk::{Facts, facts},
    fixture::text,
    lab::scratch,
    log::Entry,
    wish::Wish,
};
use depot::{Depot, RELEASES};
use judged::Judge;
use player::{Player, Told};
use step::{Act, Here, Step, Weather};

/// Walks beside each other: most of the time daemons wait.
const WALKERS: usize = 4;
/// How long an appliance may take to come to rest once everything is well.
const REST: Duration = Duration::from_secs(25);
/// How long the honest import may take in the end.
const HOME_MS: u64 = 30_000;
/// How often somebody asks again in the end who is told that another is being served, or is not answered.
const TRIES: u32 = 40;
const AGAIN: [&str; 2] = ["intake.busy", "cli.conversation"];
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(6);
/// A walk has so many steps at least, and so many more at most.
const STEPS: (usize, usize) = (12, 24);

/// What became of walks.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// A line for each walk; where something may not be, its steps below it.
    pub lines: Vec<String>,
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
    /// How many walks went wrong.
    pub wrong: usize,
}

/// One walk.
struct Walk {
    seed: u64,
    trail: String,
    /// Whether its steps are told in any case.
    tells: bool,
    counts: BTreeMap<String, u64>,
    end: Result<()>,
}

/// Takes as many walks as are wished, from the seed on one after the other.
///
/// # Errors
/// When there is no room, or what all walks have in common cannot be made.
pub fn walks(wish: &Wish, mut each: impl FnMut(&str) -> Result<()>) -> Result<Walked> {
    let scratch = scratch()?;
    let depot = Depot::make(scratch.path()).context("what walks set out from")?;
    let next = AtomicUsize::new(0);
    let (tell, told) = mpsc::channel();
    let broken = Mutex::new(None);
    let mut walked = Walked::default();
    std::thread::scope(|scope| {
        for number in 0..WALKERS.min(wish.points) {
            let place = scratch.path().join(format!("walker-{number}"));
            let (tell, next, broken, depot) = (tell.clone(), &next, &broken, &depot);
            scope.spawn(move || {
                let all = || -> Result<()> {
                    let mut player = Player::lay_out(&place)?;
                    loop {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        if at >= wish.points {
                            return Ok(());
                        }
                        let seed = wish.seed.wrapping_add(at as u64);
                        let mut walk = Walk::new(seed);
                        walk.end = walk.take(depot, &mut player, wish.steps);
                        if walk.end.is_err() {
                            keep(&player, wish.keep.as_deref(), seed);
                        }
                        let _nobody = tell.send(walk).map_err(drop);
                    }
                };
                if let Err(error) = all() {
                    *broken.lock().expect("nobody panics while assigning") = Some(error);
                }
            });
        }
        drop(tell);
        for walk in told {
            walked.lines.push(walk.line());
            each(&walk.line())?;
            walked.wrong += usize::from(walk.end.is_err());
            for (what, often) in walk.counts {
                *walked.counts.entry(what).or_default() += often;
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    broken.into_inner().expect("nobody panicked while assigning").map_or(Ok(walked), Err)
}

/// Keeps what a walk left for whoever wants to know what went wrong.
fn keep(player: &Player, folder: Option<&Path>, seed: u64) {
    let Some(folder) = folder.map(|folder| folder.join(seed.to_string())) else { return };
    let kept = [("state", player.appliance.state()), ("log", &player.appliance.logs())];
    for (name, from) in kept {
        let to = folder.join(name);
        // The line of what went wrong is there in any case.
        std::fs::create_dir_all(&to)
            .map_or_else(drop, |()| crate::appliance::copy(from, &to).unwrap_or_default());
    }
}

impl Walk {
    fn new(seed: u64) -> Self {
        Self { seed, trail: String::new(), tells: false, counts: BTreeMap::new(), end: Ok(()) }
    }

    fn line(&self) -> String {
        let Self { seed, trail, tells, counts, end } = self;
        match end {
            Ok(()) => {
                let steps = counts.get("walk steps").copied().unwrap_or(0);
                let trail = if *tells { trail.trim_end() } else { "" };
                format!("walk {seed}: {steps} steps\n{trail}").trim_end().to_owned()
            }
            Err(wrong) => format!("walk {seed}: WRONG: {wrong:#}\n{}", trail.trim_end()),
        }
    }

    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// Goes from the first step to the last and comes home.
    fn take(&mut self, depot: &Depot, player: &mut Player, steps: Option<usize>) -> Result<()> {
        let mut dice = Dice::new(self.seed);
        player.set_out(depot).context("setting out")?;
        let mut judge = Judge::default();
        let mut facts = rest(player, depot, &mut judge)?;
        judge.begin(depot, &facts)?;
        let length = STEPS.0 + dice.below(STEPS.1);
        for number in 1..=length.min(steps.unwrap_or(length)) {
            let step = Here::new(depot, &facts).draw(&mut dice, judge.allowed.damaged.is_some());
            write!(self.trail, "  {number}. {step}")?;
            facts = self.step(depot, player, &mut judge, &facts, &step)?;
        }
        self.tells = steps.is_some();
        self.count("walks");
        for _promotion in judge.promotions() {
            self.count("walk promotions");
        }
        self.come_home(depot, player, &mut judge, facts).context("in the end")
    }

    fn step(
        &mut self,
        depot: &Depot,
        player: &mut Player,
        judge: &mut Judge,
        facts: &Facts,
        step: &Step,
    ) -> Result<Facts> {
        if let Step::Flip { object, .. } = step {
            judge.allowed.damaged = Some(object.clone());
            judge.flipped_at = facts.log.len();
        }
        let (told, hit) = player.play(depot, facts, step)?;
        for Told { act, said } in &told {
            let ended = if said.exit == 0 { "done" } else { said.code() };
            write!(self.trail, ": {ended}")?;
            self.count(&format!(
                "walk {} {}",
                act.kind(),
                if said.exit == 0 { "done" } else { "not done" }
            ));
        }
        writeln!(self.trail)?;
        self.count("walk steps");
        let weather = match step {
            Step::Acts { weather, .. } | Step::Flip { weather, .. } => weather.clone(),
            Step::Restart(_) | Step::Policy(_) => Weather::Fair,
        };
        match (step, &weather) {
            (Step::Restart(_), _) => self.count("walk restart"),
            (Step::Policy(_), _) => self.count("walk policy"),
            (_, Weather::Kill { .. }) if hit => self.count("walk kill hit"),
            (_, Weather::Kill { .. }) => self.count("walk kill missed"),
            (_, weather) => self.count(&format!("walk weather {}", weather.kind())),
        }
        if told.len() > 1 {
            self.count("walk two at once");
        }
        let now = rest(player, depot, judge)?;
        let asked = matches!(step, Step::Restart(_) | Step::Policy(_));
        player.died(asked, matches!(weather, Weather::DiskFull(_)))?;
        judge.judge(depot, facts, &now, &told)?;
        let is_calm = matches!((step, &weather), (Step::Acts { .. }, Weather::Fair));
        // What was cut off before may come to its end only now.
        let was_calm = std::mem::replace(&mut judge.is_calm, is_calm);
        if let ([told], true) = (&told[..], is_calm && was_calm) {
            judged::refused_changed_nothing(facts, &now, told)?;
        }
        Ok(now)
    }

    /// Whatever was, an honest release comes in, two persons approve it, and it is active.
    fn come_home(
        &mut self,
        depot: &Depot,
        player: &mut Player,
        judge: &mut Judge,
        mut facts: Facts,
    ) -> Result<()> {
        let act = |words: &[&str]| Step::Acts {
            acts: vec![Act::Words(words.iter().map(|word| (*word).to_owned()).collect())],
            later_us: 0,
            weather: Weather::Fair,
        };
        if facts.books.trials.values().any(|trial| trial.ended.is_none()) {
            facts = self.home_step(depot, player, judge, &facts, &act(&["trial", "end"]))?;
        }
        let stick = depot.stick(RELEASES);
        let import = Act::Import { stick, user: None, leaves_ms: Some(HOME_MS) };
        let step = Step::Acts { acts: vec![import], later_us: 0, weather: Weather::Fair };
        facts = self.home_step(depot, player, judge, &facts, &step)?;
        let number = facts.books.imports.keys().max().context("no import")?.to_string();
        let needed = judge.needed();
        for key in ["ada", "bob", "dan"].iter().take(usize::try_from(needed)?) {
            let key = text(&depot.key(key))?;
            let step = act(&["approve", &number, "--key", &key]);
            facts = self.home_step(depot, player, judge, &facts, &step)?;
        }
        facts = self.home_step(depot, player, judge, &facts, &act(&["activate", &number]))?;
        let own = facts.books.imports.get(&number.parse()?);
        let own = own.and_then(|import| import.generation.as_deref());
        ensure!(facts.shelf.active.as_deref() == own, "something else is active");
        Ok(())
    }

    fn home_step(
        &mut self,
        depot: &Depot,
        player: &mut Player,
        judge: &mut Judge,
        facts: &Facts,
        step: &Step,
    ) -> Result<Facts> {
        write!(self.trail, "  home. {step}")?;
        let (mut told, mut tries) = (player.play(depot, facts, step)?.0, 1);
        // A stick whose operator left may be read still, and who comes then is told so.
        while tries < TRIES && told.iter().any(|told| AGAIN.contains(&told.said.code())) {
            std::thread::park_timeout(PAUSE * 40);
            (told, tries) = (player.play(depot, facts, step)?.0, tries + 1);
        }
        for Told { act, said } in &told {
            ensure!(said.exit == 0, "{act} does not go through: {}", said.code());
        }
        writeln!(self.trail, ": done")?;
        let now = rest(player, depot, judge)?;
        player.died(false, false)?;
        judge.judge(depot, facts, &now, &told)?;
        Ok(now)
    }
}

/// Waits until everything that is under way has come to its end, and what lies there is whole.
///
/// # Errors
/// When it does not come to that.
fn rest(player: &Player, depot: &Depot, judge: &mut Judge) -> Result<Facts> {
    let begun = Instant::now();
    let paths = &player.appliance.config().paths;
    let mut last = None;
    loop {
        // Reading takes long, so it is done when nothing has changed for a moment.
        let look = look(player.appliance.state());
        if last.as_ref() == Some(&look) {
            let seen = facts(paths, &depot.log_key, &judge.allowed);
            match seen.and_then(|facts| under_way(&facts, judge).map_or(Ok(facts), Err)) {
                Ok(facts) if self::look(player.appliance.state()) == look => {
                    player.appliance.wait_for_sockets()?;
                    judge.allowed.damaged.take_if(|one| is_gone(&facts, one));
                    return Ok(facts);
                }
                Err(wrong) if begun.elapsed() > REST => {
                    return Err(wrong.context("it does not come to rest"));
                }
                _ => std::thread::park_timeout(PAUSE),
            }
        }
        last = Some(look);
        std::thread::park_timeout(PAUSE);
    }
}

/// What changes with everything that happens there: sizes and times of what is written, and names on the shelf.
fn look(state: &Path) -> Vec<(u64, i64, i64)> {
    const WRITTEN: [&str; 10] = [
        "supply.db",
        "supply.db-wal",
        "record",
        "record/journal",
        "record/checkpoint",
        "shelf",
        "shelf/generations",
        "shelf/objects",
        "shelf/slots",
        "quarantine",
    ];
    let about = |name: &&str| std::fs::symlink_metadata(state.join(name)).ok();
    let told = |about: std::fs::Metadata| (about.size(), about.mtime(), about.mtime_nsec());
    WRITTEN.iter().map(|name| about(name).map_or((0, 0, 0), told)).collect()
}

/// What somebody still works on.
fn under_way(facts: &Facts, judge: &Judge) -> Option<anyhow::Error> {
    // What the log calls damaged is among the objects no more.
    if let Some(object) = &judge.allowed.damaged {
        let is =
            |entry: &Entry| entry.event == "damage" && entry.subjects.get("object") == Some(object);
        let recorded = facts.log[judge.flipped_at..].iter().any(is);
        if recorded && facts.shelf.objects.contains(object) {
            return Some(anyhow!("{object:.8} is called damaged and lies among the objects"));
        }
    }
    let tried = facts.books.trials.values().find(|trial| trial.ended.is_none());
    let told = tried.map(|trial| (trial.kind.clone(), trial.generation.clone()));
    if told != facts.shelf.trial {
        return Some(anyhow!("{told:?} is tried, and the shelf names {:?}", facts.shelf.trial));
    }
    let tries = tried.is_some();
    let works = |state: &str| state == "received" || (state == "evaluating" && !tries);
    let busy = facts.books.imports.iter().find(|(_, import)| works(&import.state));
    busy.map(|(import, held)| anyhow!("import {import} is {}", held.state))
}

/// Whether a damaged object is nowhere on the shelf any more.
fn is_gone(facts: &Facts, object: &str) -> bool {
    !facts.shelf.objects.contains(object)
        && !facts.shelf.releases.values().any(|digests| digests.contains(object))
}
