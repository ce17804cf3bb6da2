//! Many crashes, one line each: which they are follows from a seed, and several run beside each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use anyhow::{Context as _, Result, ensure};
use cloister_stage::Dice;
use nix::{errno::Errno, sys::statvfs::statvfs, unistd::geteuid};

use crate::{
    appliance::{Appliance, copy},
    calls::{Kind, OPENS, errors, number_of, site},
    cuts::{Bench, Cut, Recording, Spared, Spares},
    fixture::Fixture,
    harm::{HARMS, forget_record},
    model::{Model, Rule},
    play::{Known, Manner, Played, Told, play, survey},
    scene::{SCENES, Scene},
    simulate::{Crash, Script, is_unsynced, without_flush},
    tracer::{Act, Call, Session, Strike},
    wish::{Kinds, Wish},
};

/// Crashes that run beside each other: the daemons wait for each other most of the time.
const WORKERS: usize = 3;
/// Room that a memory file system must have to be preferred to a disk.
const ROOM_BYTES: u64 = 1 << 30;
/// A second strike falls within so many calls of the first.
const SECOND_WITHIN: usize = 80;

/// One crash.
#[derive(Clone, Debug)]
pub struct Job(Task);

#[derive(Clone, Debug)]
enum Task {
    /// An act with strikes.
    Struck(usize, Vec<Strike>, Manner),
    /// A power cut in a recording.
    Cut(usize, Cut),
    /// A crash in a script.
    Crash(usize, Crash),
}

/// What became of a crash.
#[derive(Clone, Debug)]
pub struct Line {
    /// In words.
    pub text: String,
    /// What happened, to be counted; none where it must not have happened.
    pub counts: Option<Vec<String>>,
    /// The first call that was struck, as `Lab::seen` names it.
    pub struck: Option<String>,
}

/// A facility, its acts' calls, recordings and scripts, and room to crash in.
#[derive(Debug)]
pub struct Lab {
    pub(crate) fixture: Fixture,
    /// Each act with its calls.
    surveyed: Vec<Known>,
    recordings: Vec<Recording>,
    pub(crate) scripts: Vec<Script>,
    pub(crate) home: PathBuf,
    /// Workers so far; each has a place of its own.
    workers: AtomicUsize,
    /// Where what went wrong is kept.
    pub(crate) keep: Option<PathBuf>,
    _scratch: tempfile::TempDir,
}

impl Lab {
    /// Makes what `kinds` need, of every act.
    ///
    /// # Errors
    /// Without root, or when an undisturbed act does not end well.
    pub fn open(kinds: Kinds) -> Result<Self> {
        Self::of(kinds, None)
    }

    /// The same, of one act alone where it is named.
    ///
    /// # Errors
    /// As [`Lab::open`], and when no act has that name.
    pub fn of(kinds: Kinds, act: Option<&str>) -> Result<Self> {
        let scenes: Vec<Scene> =
            SCENES.into_iter().filter(|scene| act.is_none_or(|act| act == scene.name)).collect();
        ensure!(!scenes.is_empty(), "no act is called {act:?}");
        ensure!(geteuid().is_root(), "daemons are traced and disks mounted; this needs root");
        let scratch = scratch()?;
        let home = scratch.path().to_owned();
        let fixture = Fixture::make(&home)?;
        let place = home.join("survey");
        let mut appliance = Appliance::lay_out(&place, &place.join("state"))?;
        let mut lab = Self {
            fixture,
            surveyed: Vec::new(),
            recordings: Vec::new(),
            scripts: Vec::new(),
            home,
            workers: AtomicUsize::new(0),
            keep: None,
            _scratch: scratch,
        };
        lab.surveyed = survey(&mut appliance, &lab.fixture, &scenes)?;
        for known in &lab.surveyed {
            let what = || format!("{}, undisturbed", known.scene.name);
            if kinds.cuts {
                let recording = Recording::make(&lab.home, &lab.fixture, known);
                lab.recordings.push(recording.with_context(what)?);
            }
            if kinds.model || kinds.states {
                let script = Script::make(&mut appliance, &lab.fixture, known);
                lab.scripts.push(script.with_context(what)?);
            }
        }
        Ok(lab)
    }

    /// `points` kills at calls.
    #[must_use]
    pub fn kills(&self, dice: &mut Dice, points: usize) -> Vec<Job> {
        let kill = |dice: &mut Dice| {
            let (scene, after, _call) = self.call(dice);
            Task::Struck(scene, vec![Strike::after(after, deadly(dice))], Manner::default())
        };
        (0..points).map(|_| Job(kill(dice))).collect()
    }

    /// One kill for each harm, of acts during which something is served, and a record that is lost behind an act
    /// that is done, and a disk that never takes writes again: each must be noticed.
    #[must_use]
    pub fn harms(&self, dice: &mut Dice) -> Vec<Job> {
        let serving: Vec<usize> = self
            .surveyed
            .iter()
            .enumerate()
            .filter(|(_, known)| known.scene.serves())
            .map(|(scene, _)| scene)
            .collect();
        let harmed = |harm| {
            let scene = serving[dice.below(serving.len())];
            let after = dice.below(self.surveyed[scene].calls.len() / 2) as u64;
            let strikes = vec![Strike::after(after, Act::KillAll)];
            Job(Task::Struck(scene, strikes, Manner { harm: Some(harm), ..Manner::default() }))
        };
        let mut jobs: Vec<Job> = HARMS.into_iter().map(harmed).collect();
        // No row names what a scrub recorded last.
        let scrub = self.surveyed.iter().position(|known| known.scene.name == "scrub");
        let manner = Manner { restart: true, harm: Some(forget_record), ..Manner::default() };
        jobs.extend(scrub.map(|scene| Job(Task::Struck(scene, Vec::new(), manner))));
        // Daemons whose disk refuses every write do not come to rest by themselves.
        let pin = self.surveyed.iter().position(|known| known.scene.name == "pin");
        let strikes = vec![Strike::after(0, Act::FailFrom(Errno::EIO))];
        let manner = Manner { lives: true, restart: true, ..Manner::default() };
        jobs.extend(pin.map(|scene| Job(Task::Struck(scene, strikes, manner))));
        jobs
    }

    /// `points` pairs of kills, the second in what follows the first.
    #[must_use]
    pub fn pairs(&self, dice: &mut Dice, points: usize) -> Vec<Job> {
        let pair = |dice: &mut Dice| {
            let (scene, after, _call) = self.call(dice);
            let first = Strike::after(after, deadly(dice));
            let after = dice.below(SECOND_WITHIN) as u64;
            let strikes = vec![first, Strike::after(after, deadly(dice))];
            Task::Struck(scene, strikes, Manner::default())
        };
        (0..points).map(|_| Job(pair(dice))).collect()
    }

    /// `points` calls that come back with an error or are cut short.
    #[must_use]
    pub fn faults(&self, dice: &mut Dice, points: usize) -> Vec<Job> {
        let fault = |dice: &mut Dice| {
            let (scene, after, call, ways) = loop {
                let (scene, after, call) = self.call(dice);
                let ways = ways(call);
                if !ways.is_empty() {
                    break (scene, after, call, ways);
                }
            };
            failing(scene, call.kind, Strike::after(after, ways[dice.below(ways.len())]))
        };
        (0..points).map(|_| Job(fault(dice))).collect()
    }

    /// Every call that is wished: killed at, and failing in each way.
    pub(crate) fn every(&self, wish: &Wish, kinds: Kinds) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (scene, known) in self.surveyed.iter().enumerate() {
            let share = |at: &u64| (*at % wish.shares.max(1) as u64) == wish.share as u64;
            let calls = (0u64..).zip(places(known)).filter(|(at, _)| share(at));
            let wished = |at: &u64| wish.call.is_none_or(|call| call == *at);
            for (_at, (call, strike)) in calls.filter(|(at, _)| wished(at)) {
                for act in [Act::Kill, Act::KillAll] {
                    let strikes = vec![Strike { act, ..strike }];
                    jobs.extend(
                        kinds.kills.then(|| Task::Struck(scene, strikes, Manner::default())),
                    );
                }
                let ways = ways(call).into_iter().filter(|_way| kinds.faults);
                let strikes = ways.map(|act| Strike { act, ..strike });
                jobs.extend(strikes.map(|strike| failing(scene, call.kind, strike)));
            }
        }
        jobs.into_iter().map(Job).collect()
    }

    /// Every call of every act that a kill or an error may strike, by act, call and path.
    pub(crate) fn seen(&self, kinds: Kinds) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for known in &self.surveyed {
            for call in &known.calls {
                let site = |kind| format!("{kind} {}: {}", known.scene.name, site(&call.words));
                seen.extend(kinds.kills.then(|| site("kill")));
                seen.extend((kinds.faults && !ways(call).is_empty()).then(|| site("fault")));
            }
        }
        seen
    }

    /// `points` power cuts.
    #[must_use]
    pub fn cuts(&self, dice: &mut Dice, points: usize) -> Vec<Job> {
        let cut = |dice: &mut Dice| {
            let which = dice.below(self.recordings.len());
            let at = self.recordings[which].moment(dice);
            Task::Cut(which, Cut { at, seed: dice.roll(), flushes_lie: false })
        };
        (0..points).map(|_| Job(cut(dice))).collect()
    }

    /// `points` power cuts behind everything, of a disk that lies about flushes.
    #[must_use]
    pub fn lies(&self, dice: &mut Dice, points: usize) -> Vec<Job> {
        let cut = |dice: &mut Dice| {
            let which = dice.below(self.recordings.len());
            let at = self.recordings[which].len();
            Task::Cut(which, Cut { at, seed: dice.roll(), flushes_lie: true })
        };
        (0..points).map(|_| Job(cut(dice))).collect()
    }

    /// `points` crashes of the model file systems.
    #[must_use]
    pub fn crashes(&self, dice: &mut Dice, points: usize) -> Vec<Job> {
        let crash = |dice: &mut Dice| {
            let which = dice.below(self.scripts.len());
            let rule = if dice.below(2) == 0 { Rule::Ordered } else { Rule::Loose };
            let at = self.scripts[which].moment(dice);
            Task::Crash(which, Crash { at, rule, spares: None, torn: false, seed: dice.roll() })
        };
        (0..points).map(|_| Job(crash(dice))).collect()
    }

    /// `points` crashes at the end of an act, of a file system that never syncs; it loses everything, or half
    /// of one file of a release.
    #[must_use]
    pub fn deaf(&self, dice: &mut Dice, points: usize, torn: bool) -> Vec<Job> {
        let spares = Some(if torn { Spares::All } else { Spares::Nothing });
        let first = |script: &Script| script.scene().name == "import-first";
        let crash = |dice: &mut Dice| {
            let any = dice.below(self.scripts.len());
            let which = if torn { self.scripts.iter().position(first).unwrap_or(any) } else { any };
            let at = self.scripts[which].len();
            Task::Crash(which, Crash { at, rule: Rule::Deaf, spares, torn, seed: dice.roll() })
        };
        (0..points).map(|_| Job(crash(dice))).collect()
    }

    /// A call that the dice choose.
    fn call(&self, dice: &mut Dice) -> (usize, u64, &Call) {
        let scene = dice.below(self.surveyed.len());
        let calls = &self.surveyed[scene].calls;
        let after = dice.below(calls.len());
        (scene, after as u64, &calls[after])
    }

    /// Runs `jobs` beside each other and hands each line to `each` as it comes.
    ///
    /// # Errors
    /// When there is no room to crash in, and what `each` returns.
    pub fn run(&self, jobs: &[Job], mut each: impl FnMut(usize, Line) -> Result<()>) -> Result<()> {
        let next = AtomicUsize::new(0);
        let (tell, told) = mpsc::channel();
        let broken = Mutex::new(None);
        std::thread::scope(|scope| {
            for _worker in 0..WORKERS.min(jobs.len()) {
                let number = self.workers.fetch_add(1, Ordering::SeqCst);
                let (tell, next, broken) = (tell.clone(), &next, &broken);
                scope.spawn(move || {
                    let place = self.home.join(format!("worker-{number}"));
                    let worked = Worker::lay_out(&place).map(|mut worker| {
                        while let Some(at) = Some(next.fetch_add(1, Ordering::SeqCst))
                            && let Some(job) = jobs.get(at)
                        {
                            let line = worker.line(self, job);
                            if line.counts.is_none() {
                                worker.keep(self.keep.as_deref(), at);
                            }
                            if tell.send((at, line)).is_err() {
                                return;
                            }
                        }
                    });
                    if let Err(error) = worked {
                        *broken.lock().expect("nobody panics while assigning") = Some(error);
                    }
                });
            }
            drop(tell);
            for (at, line) in told {
                each(at, line)?;
            }
            Ok::<(), anyhow::Error>(())
        })?;
        broken.into_inner().expect("nobody panicked while assigning").map_or(Ok(()), Err)
    }
}

/// Each call of an act, and a strike at it: at the call of that name and path that so many others of the same
/// came before, wherever the threads put it.
fn places(known: &Known) -> Vec<(&Call, Strike)> {
    let (mut before, mut places) = (BTreeMap::<u64, u64>::new(), Vec::new());
    for call in &known.calls {
        let number = number_of(&site(&call.words));
        let count = before.entry(number).or_default();
        places.push((call, Strike { after: *count, act: Act::Kill, site: Some(number) }));
        *count += 1;
    }
    places
}

/// How a call is made to fail.
fn ways(call: &Call) -> Vec<Act> {
    let kind = call.kind;
    if kind == Kind::Tell && !OPENS.contains(&call.name) {
        return Vec::new();
    }
    let mut ways: Vec<Act> = errors(kind).iter().map(|errno| Act::Fail(*errno)).collect();
    match kind {
        Kind::Write => ways.push(Act::Short),
        Kind::Tell => return ways,
        Kind::Open | Kind::Sync | Kind::Name | Kind::About => {}
    }
    ways.extend(errors(kind).iter().map(|errno| Act::FailFrom(*errno)));
    ways
}

fn failing(scene: usize, kind: Kind, strike: Strike) -> Task {
    // Where the disk takes writes again, daemons that met an error go on without a restart. What a failed flush
    // would have kept is looked for without it.
    let lives = matches!(strike.act, Act::Fail(_) | Act::Short);
    let manner = Manner { lives, restart: true, bytes: kind == Kind::Sync, ..Manner::default() };
    Task::Struck(scene, vec![strike], manner)
}

/// A kill of one daemon or of all.
fn deadly(dice: &mut Dice) -> Act {
    if dice.below(2) == 0 { Act::Kill } else { Act::KillAll }
}

/// A folder in memory where there is room, else on the disk.
///
/// # Errors
/// When there is none.
pub(crate) fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let room = statvfs(memory).map_or(0, |about| about.blocks_available() * about.fragment_size());
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("cloister-crash-");
    Ok(if room > ROOM_BYTES { builder.tempdir_in(memory)? } else { builder.tempdir()? })
}

/// One place to crash in, for daemons and for cut disks.
struct Worker {
    appliance: Appliance,
    bench: Bench,
    /// The first call that was struck in the last act.
    site: Option<String>,
}

impl Worker {
    fn lay_out(place: &Path) -> Result<Self> {
        let state = place.join("state");
        let appliance = Appliance::lay_out(place, &state)?;
        Ok(Self { appliance, bench: Bench::lay_out(&place.join("bench"))?, site: None })
    }

    /// Keeps what lies in this place for whoever wants to know what went wrong.
    fn keep(&self, folder: Option<&Path>, number: usize) {
        let Some(folder) = folder.map(|folder| folder.join(number.to_string())) else { return };
        let kept = [("state", self.appliance.state()), ("log", &self.appliance.logs())];
        for (name, from) in kept {
            let to = folder.join(name);
            // The line of what went wrong is there in any case.
            std::fs::create_dir_all(&to)
                .map_or_else(drop, |()| copy(from, &to).unwrap_or_default());
        }
    }

    fn line(&mut self, lab: &Lab, job: &Job) -> Line {
        let (what, judged) = match &job.0 {
            Task::Struck(scene, strikes, manner) => {
                self.struck(lab, &lab.surveyed[*scene], strikes, *manner)
            }
            Task::Cut(which, cut) => {
                let recording = &lab.recordings[*which];
                let what =
                    format!("cut {} at {} of {}", recording.scene().name, cut.at, recording.len());
                (what, spared("cut", self.bench.judge(&lab.fixture, recording, *cut)))
            }
            Task::Crash(which, crash) => {
                let script = &lab.scripts[*which];
                let (name, length) = (script.scene().name, script.len());
                let what = format!("model {name} at {} of {length}, {:?}", crash.at, crash.rule);
                let judged = script.crash(&mut self.appliance, &lab.fixture, *crash);
                (what, spared("model", judged))
            }
        };
        let (text, counts) = match judged {
            Ok((told, counts)) => (format!("{what}: {told}"), Some(counts)),
            Err(wrong) => (format!("{what}: WRONG: {wrong:#}"), None),
        };
        Line { text, counts, struck: self.site.take() }
    }

    /// Plays an act; if it was done although a flush had failed, also what is left of it without that flush.
    fn play(
        &mut self,
        lab: &Lab,
        known: &Known,
        strikes: &[Strike],
        manner: Manner,
    ) -> Result<Played> {
        let base = lab.fixture.base(known.scene.base);
        let played = play(&mut self.appliance, &lab.fixture, known, strikes, manner)?;
        if manner.bytes && played.done && is_unsynced(&played.happenings) {
            let before = Model::read_as(&base, self.appliance.state(), Rule::Loose)?;
            without_flush(&mut self.appliance, &lab.fixture, known, &before, &played)
                .context("without the flush that failed")?;
        }
        Ok(played)
    }

    fn struck(
        &mut self,
        lab: &Lab,
        known: &Known,
        strikes: &[Strike],
        manner: Manner,
    ) -> (String, Result<(String, Vec<String>)>) {
        let scene = &known.scene;
        let played = self.play(lab, known, strikes, manner);
        let kind = match strikes {
            [strike] if !strike.is_failing() => "kill",
            [_] => "fault",
            _ => "pair",
        };
        let at: Vec<String> = strikes
            .iter()
            .map(|strike| {
                let which = if strike.site.is_some() { " of its like" } else { "" };
                format!("{:?} after {}{which}", strike.act, strike.after)
            })
            .collect();
        let what = format!("{kind} {}, {}", scene.name, at.join(", "));
        let judged = played.map(|played| {
            let first = played.struck.first();
            self.site = first.map(|words| format!("{kind} {}: {}", scene.name, site(words)));
            let state = self.appliance.state().display().to_string();
            let hit = played.struck.join(", ").replace(&state, "");
            let told = match &played.told {
                Told::Done => "done".to_owned(),
                Told::Refused(code) => code.clone(),
            };
            let outcome = played.outcome.word();
            // One that was not struck shows nothing.
            let mut counts = match played.struck.len() {
                0 => vec![format!("{kind} missed")],
                _ => vec![format!("{kind} {outcome}")],
            };
            counts.extend((1..=played.struck.len()).map(|depth| format!("{kind} depth {depth}")));
            if played.done && is_unsynced(&played.happenings) {
                counts.push(format!("{kind} done without a flush"));
            }
            (format!("[{hit}] {told}, {outcome}"), counts)
        });
        let judged = judged.map_err(|wrong| {
            let struck = self.appliance.session().map_or_else(|_| Vec::new(), Session::struck);
            wrong.context(format!("[{}]", struck.join(", ")))
        });
        // Whatever was left running is not the next one's.
        let ended = self.appliance.end().map(drop);
        (what, judged.and_then(|judged| ended.map(|()| judged)))
    }
}

/// A spared state in words.
fn spared(kind: &str, judged: Result<Spared>) -> Result<(String, Vec<String>)> {
    judged.map(|Spared { open, lost, spares, outcome, told }| {
        let outcome = outcome.word();
        let mut counts = vec![format!("{kind} {outcome}")];
        if told {
            counts.push(format!("{kind} told"));
        }
        if open > 0 {
            counts.push(format!("{kind} {} of what was open", spares.word()));
        }
        let (spares, told) = (spares.word(), if told { ", was told" } else { "" });
        (format!("{open} open, {spares} spared, {lost} lost or torn{told}, {outcome}"), counts)
    })
}
