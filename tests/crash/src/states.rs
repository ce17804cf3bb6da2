//! Crash states by the hundred thousand: each act's calls are played into the model file systems again and
//! again, which crash at every moment in every way, and each state is judged in memory, before recovery.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use cloister_stage::Dice;

use crate::{
    cuts::Spares,
    fixture::Fixture,
    judge::{Judge, Measure},
    lab::Lab,
    memory::Memory,
    model::{Model, Rule},
    simulate::Script,
    spoil::{Spoilt, judge_spoilt},
    tracer::Happening,
    wish::Wish,
};

/// Rounds after which no further states are looked for.
const ROUNDS_MAX: usize = 1 << 12;
/// Rounds in a row without anything new that end the search.
const BARREN_MAX: usize = 3;
/// Most draws of one way of sparing at one moment in a round, and draws in a row without anything new that
/// end them sooner: moments at which much is on its way have most of the states.
const DRAWS_MAX: usize = 16;
const REPEATED_MAX: usize = 3;
/// Most wrong states of an act that are named.
const NAMED_MAX: u64 = 5;
/// States that differ, for each point that is wished.
const STATES: usize = 2500;

/// What is wished.
#[derive(Clone, Debug)]
pub(crate) struct Sought<'a> {
    /// Everything that is left to chance follows from it.
    pub(crate) seed: u64,
    /// States that differ, to be found at least if there are so many.
    pub(crate) different: usize,
    /// Only this act.
    pub(crate) act: Option<&'a str>,
    /// Only when so much has happened.
    pub(crate) at: Option<usize>,
    /// Where wrong states are laid out.
    pub(crate) keep: Option<&'a Path>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How often each thing happened.
    pub counts: BTreeMap<String, u64>,
    /// A line for each act, and for each state that is wrong.
    pub lines: Vec<String>,
    /// Whether no state is wrong.
    pub good: bool,
}

/// An act whose states are judged.
struct Course<'a> {
    /// Its number among the acts.
    number: usize,
    script: &'a Script,
    measure: &'a Measure,
    judge: Judge<'a>,
    seen: HashSet<u128>,
    /// Those of them that came in this round.
    fresh: Vec<u128>,
    tally: Tally,
}

/// What came of an act's states.
#[derive(Debug, Default)]
struct Tally {
    judged: u64,
    /// Judged after the operator was told.
    told: u64,
    /// By rule and by what was spared.
    ways: BTreeMap<(Rule, Spares), u64>,
    wrong: u64,
    lines: Vec<String>,
}

/// A crash.
#[derive(Clone, Copy, Debug)]
struct Moment {
    at: usize,
    rule: Rule,
    spares: Spares,
    /// What is left to chance follows from it.
    dice: u64,
}

impl Lab {
    /// Judges states of the model file systems before anybody recovers: `STATES` that differ for each point.
    ///
    /// # Errors
    /// When there is no room for that, or an act's undisturbed run cannot be read.
    pub fn states(&self, wish: &Wish) -> Result<Found> {
        let measures = self.measures()?;
        let scripts: Vec<_> = self.scripts.iter().zip(&measures).collect();
        let sought = Sought {
            seed: wish.seed,
            different: wish.points * STATES,
            act: wish.act.as_deref(),
            at: wish.call.and_then(|call| usize::try_from(call).ok()),
            keep: wish.keep.as_deref(),
        };
        judge_states(&scripts, &self.fixture, &self.home, &sought)
    }

    /// Judges states that may not be: what the judge of states must notice.
    ///
    /// # Errors
    /// As [`Lab::states`].
    pub fn spoilt_states(&self) -> Result<Vec<Spoilt>> {
        let measures = self.measures()?;
        let scripts: Vec<_> = self.scripts.iter().zip(&measures).collect();
        judge_spoilt(&scripts, &self.fixture, &self.home)
    }

    fn measures(&self) -> Result<Vec<Measure>> {
        let measure = |script: &Script| Measure::of(script, &self.fixture, &self.home);
        self.scripts.iter().map(measure).collect()
    }
}

/// Judges what is `sought` of the states of `scripts`, each held against its measure; databases are laid out
/// below `scratch` to be read.
///
/// # Errors
/// When that cannot be written to.
pub(crate) fn judge_states(
    scripts: &[(&Script, &Measure)],
    fixture: &Fixture,
    scratch: &Path,
    sought: &Sought<'_>,
) -> Result<Found> {
    let mut courses = Vec::new();
    for (number, (script, measure)) in scripts.iter().enumerate() {
        if sought.act.is_none_or(|act| act == script.scene().name) {
            let (judge, tally) = (Judge::new(script, measure, fixture, scratch)?, Tally::default());
            let (seen, fresh) = (HashSet::new(), Vec::new());
            courses.push(Mutex::new(Course { number, script, measure, judge, seen, fresh, tally }));
        }
    }
    let (mut seen, mut rounds, mut barren) = (HashSet::new(), 0, 0);
    while rounds < ROUNDS_MAX && barren < BARREN_MAX && seen.len() < sought.different {
        beside_each_other(&courses, |course| course.round(rounds, sought));
        let before = seen.len();
        for course in &mut courses {
            seen.extend(course.get_mut().expect(NO_PANIC).fresh.drain(..));
        }
        barren = if seen.len() == before { barren + 1 } else { 0 };
        rounds += 1;
    }
    let mut found = Found { good: true, ..Found::default() };
    for course in courses {
        course.into_inner().expect(NO_PANIC).end(&mut found);
    }
    found.counts.insert("states different".to_owned(), seen.len() as u64);
    found.counts.insert("states rounds".to_owned(), rounds as u64);
    Ok(found)
}

/// Why a lock is never poisoned.
const NO_PANIC: &str = "no judge panics";

/// Does `work` with each of `all`, as many at a time as there are processors.
fn beside_each_other<T: Send>(all: &[Mutex<T>], work: impl Fn(&mut T) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _thread in 0..threads.min(all.len()) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::SeqCst)) {
                    work(&mut one.lock().expect(NO_PANIC));
                }
            });
        }
    });
}

impl Course<'_> {
    /// Plays the act under each rule, and crashes at each of its moments in every way.
    fn round(&mut self, round: usize, sought: &Sought<'_>) {
        for rule in [Rule::Ordered, Rule::Loose] {
            let mut model = self.script.before.clone().with(rule);
            let mut last = None;
            for at in 0..=self.script.len() {
                let happening = at.checked_sub(1).and_then(|at| self.script.happenings.get(at));
                if let Some(Happening::Call(call)) = happening {
                    model.act(&call.deed);
                }
                // Where nothing came to pass the states are those of the moment before.
                let now = Some((model.steps(), self.measure.due(at)));
                let is_new = last != now;
                last = now;
                if sought.at.map_or(is_new, |wanted| wanted == at) {
                    for spares in Spares::ALL {
                        self.moment(&model, (at, rule, spares), round, sought);
                    }
                }
            }
        }
    }

    /// Crashes at a moment, what is on its way being spared in one way, as often as that gives something new.
    fn moment(
        &mut self,
        model: &Model,
        (at, rule, spares): (usize, Rule, Spares),
        round: usize,
        sought: &Sought<'_>,
    ) {
        // What is left to no chance is judged once.
        let draws = match spares {
            Spares::All | Spares::Nothing => usize::from(round == 0),
            Spares::First | Spares::Any | Spares::Sectors | Spares::Blocks => DRAWS_MAX,
        };
        let draws = if model.on_their_way() > 0 || spares == Spares::All { draws } else { 0 };
        let mut repeated = 0;
        for draw in 0..draws {
            let place = [self.number, at, round, draw, rule as usize, spares as usize];
            let moment = Moment { at, rule, spares, dice: seed(sought.seed, &place) };
            repeated = if self.crash(model, moment, sought) { 0 } else { repeated + 1 };
            if repeated == REPEATED_MAX {
                break;
            }
        }
    }

    /// Crashes once, and judges what is left. Whether no such state was seen before.
    fn crash(&mut self, model: &Model, moment: Moment, sought: &Sought<'_>) -> bool {
        let (state, _open, _lost) = model.crash(moment.spares, &mut Dice::new(moment.dice));
        let due = self.measure.due(moment.at);
        let sum = state.sum(Path::new(""), |_name| false);
        let is_new = self.seen.insert(sum);
        if is_new {
            self.fresh.push(sum);
        }
        let judged = self.judge.judge(&state, due);
        let tally = &mut self.tally;
        tally.judged += 1;
        tally.told += u64::from(due.told);
        *tally.ways.entry((moment.rule, moment.spares)).or_default() += 1;
        if let Err(wrong) = judged {
            tally.wrong += 1;
            if tally.wrong <= NAMED_MAX {
                let kept = self.keep(&state, moment, sought.keep);
                let line = format!("{}: WRONG: {wrong:#}{kept}", self.words(moment));
                self.tally.lines.push(line);
            }
        }
        is_new
    }

    /// Lays a wrong state out where that is wished; in words, why it could not be.
    fn keep(&self, state: &Memory, moment: Moment, folder: Option<&Path>) -> String {
        let Some(folder) = folder else { return String::new() };
        let name = format!("state-{}-{}", self.script.scene().name, moment.dice);
        let folder = folder.join(name);
        let made = std::fs::create_dir_all(&folder).map_err(Into::into);
        match made.and_then(|()| state.lay_out(&folder)) {
            Ok(()) => String::new(),
            Err(error) => format!(" (not kept: {error:#})"),
        }
    }

    fn words(&self, moment: Moment) -> String {
        let Moment { at, rule, spares, dice } = moment;
        let (name, length) = (self.script.scene().name, self.script.len());
        format!("state {name} at {at} of {length}, {rule:?}, {} spared, dice {dice}", spares.word())
    }

    /// Adds what came of the act's states.
    fn end(self, found: &mut Found) {
        let Tally { judged, told, ways, wrong, lines } = self.tally;
        let [shelves, logs, books] = self.judge.parts();
        let (name, different) = (self.script.scene().name, self.seen.len());
        let good = if wrong == 0 { String::new() } else { format!(", {wrong} WRONG") };
        found.lines.extend(lines);
        found.lines.push(format!(
            "states {name}: {judged} judged, {different} different, of {shelves} shelves, \
             {logs} logs, {books} databases{good}"
        ));
        found.good &= wrong == 0;
        let ways = ways.into_iter().map(|((rule, spares), often)| {
            (format!("states {rule:?}, {} spared", spares.word()), often)
        });
        let parts = [("shelves", shelves), ("logs", logs), ("databases", books)];
        let parts = parts.map(|(what, count)| (format!("states: {what}"), count as u64));
        let counts = [("states judged", judged), ("states told", told), ("states WRONG", wrong)];
        let counts = counts.map(|(what, count)| (what.to_owned(), count));
        for (what, often) in ways.chain(parts).chain(counts) {
            *found.counts.entry(what).or_default() += often;
        }
    }
}

/// A seed for each place.
fn seed(first: u64, place: &[usize]) -> u64 {
    let mixed = |seed, part: &usize| Dice::new(seed).roll() ^ *part as u64;
    Dice::new(place.iter().fold(first, mixed)).roll()
}
