//! What somebody does next, and what goes wrong meanwhile: drawn by dice from what is there.

use std::fmt;

use cloister_stage::{Dice, Unit};

use super::depot::{Depot, KEYS, OPERATORS, PORTER, RELEASES, ROOTS, Stick, approvers};
use crate::{disk::Facts, log::Entry};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Puts a stick in; as this user, who perhaps leaves after so many milliseconds.
    Import { stick: Stick, user: Option<u32>, leaves_ms: Option<u64> },
    /// Decides about an import with this key.
    Decide { import: i64, key: &'static str, rejects: bool },
    /// Gives leave to return to a release.
    Authorise { release: String, key: &'static str },
    /// Hands in again what a person signed before: a decision or a leave of the log.
    Again { record: usize },
    /// Words of the command that name nothing but an import, a release, or nothing.
    Words(Vec<String>),
    /// Writes the log out.
    Export,
}

/// What goes wrong while somebody acts, and is well again afterwards.
#[derive(Clone, Debug)]
pub(super) enum Weather {
    /// Nothing does.
    Fair,
    /// At the call behind so many, its daemon or all of them are killed.
    Kill { after: u64, all: bool },
    /// Engines break every connection for so many milliseconds.
    EnginesGone(u64),
    /// Engines say nothing.
    EnginesHang(u64),
    /// The disk is full.
    DiskFull(u64),
    /// A daemon stands still.
    Silent(Unit, u64),
    /// A daemon is killed and stays away.
    Away(Unit, u64),
}

/// One step of a walk.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Somebody acts, or two persons do, the second so many microseconds later.
    Acts { acts: Vec<Act>, later_us: u64, weather: Weather },
    /// A daemon ends as it is asked to, and comes again; or they all are killed.
    Restart(Option<Unit>),
    /// One byte of a release's own file is another one; then somebody has the shelf read again.
    Flip { object: String, weather: Weather },
    /// From now on so many must approve.
    Policy(u64),
}

/// How long somebody waits for an import beside a trial, and else: a trial may begin meanwhile.
const TRIED_MS: u64 = 600;
const WAITS_MS: u64 = 8000;

/// So many records at the end of the log are what happened lately.
const RECENT: usize = 12;

const UNITS: [Unit; 3] = [Unit::Recordd, Unit::Updaterd, Unit::Intaked];

/// What is drawn, with how often; what nothing there invites is drawn seldom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Draw {
    Import,
    Approve,
    Reject,
    Activate,
    Rollback,
    RollbackTo,
    Authorise,
    Again,
    Evaluate,
    Canary,
    Shadow,
    EndTrial,
    Pin,
    Unpin,
    Sweep,
    Scrub,
    Discard,
    Export,
    Status,
}

/// What is there, as far as steps depend on it.
#[derive(Debug)]
pub(super) struct Here<'a> {
    depot: &'a Depot,
    facts: &'a Facts,
}

impl<'a> Here<'a> {
    pub(super) const fn new(depot: &'a Depot, facts: &'a Facts) -> Self {
        Self { depot, facts }
    }

    /// The next step.
    pub(super) fn draw(&self, dice: &mut Dice, flipped: bool) -> Step {
        match dice.below(100) {
            0..3 => Step::Restart(Some(UNITS[dice.below(UNITS.len())])),
            3..5 => Step::Restart(None),
            // Mostly as few as may be.
            5..8 => Step::Policy(2 + u64::from(dice.below(3) == 0)),
            8..10 if !flipped => self.flip(dice),
            _ => {
                let mut acts = vec![self.act(dice)];
                if dice.below(6) == 0 {
                    acts.push(self.act(dice));
                }
                let later_us = dice.below(20_000) as u64;
                Step::Acts { acts, later_us, weather: weather(dice) }
            }
        }
    }

    fn flip(&self, dice: &mut Dice) -> Step {
        let weather = weather(dice);
        let own = |object: &&String| self.depot.own(object).is_some();
        let mut own: Vec<&String> =
            self.facts.shelf.releases.values().flatten().filter(own).collect();
        own.sort_unstable();
        match own.get(dice.below(own.len().max(1))) {
            Some(object) => Step::Flip { object: (*object).clone(), weather },
            None => Step::Restart(None),
        }
    }

    fn act(&self, dice: &mut Dice) -> Act {
        let there = |state: &str| self.facts.books.imports.values().any(|one| one.state == state);
        let is = |yes: bool, often: usize, seldom: usize| if yes { often } else { seldom };
        let awaits = there("awaiting-approval");
        let tries = self.tries();
        let former = !self.former().is_empty();
        let signed = self.signed().next().is_some();
        let draws = [
            (Draw::Import, is(awaits, 14, 34)),
            (Draw::Approve, is(awaits, 44, 3)),
            (Draw::Reject, is(awaits, 4, 1)),
            (Draw::Activate, is(there("approved"), 44, 3)),
            (Draw::Rollback, is(former, 5, 1)),
            (Draw::RollbackTo, is(former, 7, 1)),
            (Draw::Authorise, is(former, 12, 1)),
            (Draw::Again, is(signed, if self.is_void() { 20 } else { 4 }, 0)),
            (Draw::Evaluate, is(awaits, 4, 1)),
            (Draw::Canary, is(there("approved"), 5, 1)),
            (Draw::Shadow, is(awaits, 5, 1)),
            (Draw::EndTrial, is(tries, 20, 1)),
            (Draw::Pin, 4),
            (Draw::Unpin, is(self.facts.books.pins.is_empty(), 1, 5)),
            (Draw::Sweep, 3),
            (Draw::Scrub, 2),
            (Draw::Discard, is(there("receiving"), 5, 1)),
            (Draw::Export, 2),
            (Draw::Status, 1),
        ];
        let mut place = dice.below(draws.iter().map(|(_, often)| often).sum());
        for (draw, often) in draws {
            if place < often {
                return self.drawn(draw, dice);
            }
            place -= often;
        }
        words(&["status"])
    }

    fn drawn(&self, draw: Draw, dice: &mut Dice) -> Act {
        let numbered = |word: &str, import: i64| words(&[word, &import.to_string()]);
        match draw {
            Draw::Import => self.import(dice),
            Draw::Approve | Draw::Reject => {
                let rejects = draw == Draw::Reject;
                let states: &[&str] = if rejects {
                    &["awaiting-approval", "approved"]
                } else {
                    &["awaiting-approval"]
                };
                let import = self.import_in(dice, states);
                Act::Decide { import, key: self.decider(dice, import), rejects }
            }
            Draw::Activate => {
                numbered("activate", self.import_in(dice, &["approved", "awaiting-approval"]))
            }
            Draw::Rollback => words(&["rollback"]),
            Draw::RollbackTo => words(&["rollback", "--to", &self.allowed(dice)]),
            Draw::Authorise => {
                let release = self.allowed(dice);
                Act::Authorise { release, key: KEYS[dice.below(KEYS.len())] }
            }
            Draw::Again => {
                let signed: Vec<usize> = self.signed().collect();
                // Mostly one of the last.
                let of = if dice.below(4) > 0 { signed.len().min(3) } else { signed.len() };
                Act::Again { record: signed[signed.len() - 1 - dice.below(of)] }
            }
            Draw::Evaluate => {
                numbered("evaluate", self.import_in(dice, &["awaiting-approval", "approved"]))
            }
            Draw::Canary => {
                let import = self.import_in(dice, &["approved"]).to_string();
                words(&["trial", "canary", &import, "--principal", "pilot", "--for", "10m"])
            }
            Draw::Shadow => {
                let import = self.import_in(dice, &["awaiting-approval"]).to_string();
                words(&["trial", "shadow", &import, "--share", "100", "--for", "10m"])
            }
            Draw::EndTrial => words(&["trial", "end"]),
            Draw::Pin => words(&["pin", &self.release(dice)]),
            Draw::Unpin => {
                let pins = self.in_order(self.facts.books.pins.iter());
                let pinned = pins.get(dice.below(pins.len().max(1))).cloned();
                words(&["unpin", &pinned.unwrap_or_else(|| self.release(dice))])
            }
            Draw::Sweep => words(&["sweep"]),
            Draw::Scrub => words(&["scrub"]),
            Draw::Discard => numbered("discard", self.import_in(dice, &["receiving"])),
            Draw::Export => Act::Export,
            Draw::Status => words(&["status"]),
        }
    }

    fn import(&self, dice: &mut Dice) -> Act {
        let next = self.next();
        let stick = match dice.below(40) {
            0..22 => self.depot.stick(next),
            22..26 => self.depot.part(next, dice),
            26 => self.depot.stick((next + 1).min(RELEASES - 1)),
            27..31 => self.depot.stick(1 + dice.below(next)),
            31 => self.depot.word(dice),
            32 => self.depot.other(dice),
            _ => self.depot.spoilt(next, dice),
        };
        let user = (dice.below(3) == 0 && self.depot.has_porter).then_some(PORTER);
        let leaves_ms = (dice.below(12) == 0).then(|| 5 + dice.below(120) as u64);
        // Nothing is evaluated while something is tried, and nobody waits for that.
        let leaves_ms = leaves_ms.or(Some(if self.tries() { TRIED_MS } else { WAITS_MS }));
        Act::Import { stick, user, leaves_ms }
    }

    /// The release that would come next: the first behind those that came that is not taken back. The last one is
    /// for the end.
    fn next(&self) -> usize {
        let books = &self.facts.books;
        let counters = books.counters.values();
        let came = counters.filter_map(|(counter, _)| counter.parse::<usize>().ok()).max();
        let vector: serde_json::Value = serde_json::from_str(&books.vector).unwrap_or_default();
        let targets = vector["targets"].as_u64().unwrap_or(0);
        let is_good = |release: &usize| !self.depot.is_taken_back(targets, *release as u64);
        let rejected = |release: usize| {
            let of = |entry: &&Entry| entry.facts["counter"].as_u64() == Some(release as u64);
            let bundle =
                self.facts.log.iter().find(of).and_then(|seen| seen.subjects.get("bundle"));
            let import = books
                .imports
                .values()
                .find(|one| one.generation.as_ref() == bundle && one.state != "receiving");
            import.is_some_and(|_| bundle.is_some())
        };
        let first = came.unwrap_or(1);
        let mut releases = (first..RELEASES - 1).filter(is_good);
        releases.find(|release| !rejected(*release)).unwrap_or(RELEASES - 1)
    }

    fn tries(&self) -> bool {
        self.facts.books.trials.values().any(|trial| trial.ended.is_none())
    }

    /// An import that stands so, or any other.
    fn import_in(&self, dice: &mut Dice, states: &[&str]) -> i64 {
        let imports = &self.facts.books.imports;
        let fits = imports.iter().filter(|(_, one)| states.contains(&one.state.as_str()));
        let fits: Vec<i64> = fits.map(|(number, _)| *number).collect();
        let chance = dice.below(10);
        let place = dice.roll();
        if fits.is_empty() || chance == 0 {
            return 1 + i64::try_from(place % (imports.len() as u64 + 2)).unwrap_or(0);
        }
        let place = usize::try_from(place % fits.len() as u64).unwrap_or(0);
        fits[place]
    }

    /// Mostly somebody whose approval would count, who has not decided yet.
    fn decider(&self, dice: &mut Dice, import: i64) -> &'static str {
        let books = &self.facts.books;
        let decided = |key: &&str| {
            books.approvals.iter().any(|(of, person, _)| *of == import && person == *key)
        };
        let brought = |key: &&str| {
            let of = books.importers.iter().filter(|(of, _)| *of == import);
            let is = |user: &String| OPERATORS.contains(&(user.as_str(), *key));
            of.clone().any(|(_, user)| is(user))
        };
        let fit = approvers(ROOTS).iter().filter(|key| !decided(key) && !brought(key));
        let fit: Vec<&'static str> = fit.copied().collect();
        let importers = approvers(ROOTS).iter().filter(|key| brought(key));
        let importers: Vec<&'static str> = importers.copied().collect();
        let (chance, place) = (dice.below(10), dice.below(60));
        match chance {
            0..6 if !fit.is_empty() => fit[place % fit.len()],
            6..8 if !importers.is_empty() => importers[place % importers.len()],
            _ => KEYS[place % KEYS.len()],
        }
    }

    /// A release on the shelf.
    fn release(&self, dice: &mut Dice) -> String {
        let releases = self.in_order(self.facts.shelf.releases.keys());
        releases.get(dice.below(releases.len().max(1))).cloned().unwrap_or_default()
    }

    /// Releases by their counters: what they are called is another name in every run.
    fn in_order<'b>(&self, releases: impl Iterator<Item = &'b String>) -> Vec<String> {
        let counter = |release: &String| {
            let of = |entry: &&Entry| {
                entry.event == "import-accepted" && entry.subjects.get("bundle") == Some(release)
            };
            self.facts.log.iter().find(of).and_then(|entry| entry.facts["counter"].as_u64())
        };
        let mut releases: Vec<String> = releases.cloned().collect();
        releases.sort_by_cached_key(counter);
        releases
    }

    /// A release that somebody gave leave to return to, one that was active, or any.
    fn allowed(&self, dice: &mut Dice) -> String {
        let (chance, place) = (dice.below(8), dice.below(60));
        let any = self.release(dice);
        let former = self.former();
        let given = self.facts.log.iter().rev().find(|entry| entry.event == "downgrade");
        let given = given.and_then(|entry| entry.subjects.get("bundle"));
        match given.filter(|release| former.contains(release)) {
            Some(release) if chance > 2 => release.clone(),
            _ if chance > 0 && !former.is_empty() => former[place % former.len()].clone(),
            _ => any,
        }
    }

    /// Releases that were active, and that one may return to.
    fn former(&self) -> Vec<String> {
        let Facts { shelf, books, .. } = self.facts;
        let is =
            |one: &&String| books.promoted.contains(*one) && shelf.active.as_ref() != Some(*one);
        self.in_order(shelf.releases.keys().filter(is))
    }

    /// Whether something was judged anew, so that what persons decided about it is void.
    fn is_void(&self) -> bool {
        let last = self.facts.log.iter().rev();
        let recent = last.take(RECENT).any(|entry| entry.event == "evaluation-asked");
        recent && self.signed().next().is_some()
    }

    /// Where in the log persons' decisions and leaves stand.
    fn signed(&self) -> impl Iterator<Item = usize> {
        let log = self.facts.log.iter().enumerate();
        let is = |event: &str| matches!(event, "approval" | "downgrade");
        log.filter(move |(_, entry)| is(&entry.event)).map(|(at, _)| at)
    }
}

fn words(words: &[&str]) -> Act {
    Act::Words(words.iter().map(|word| (*word).to_owned()).collect())
}

fn weather(dice: &mut Dice) -> Weather {
    let ms = 20 + dice.below(300) as u64;
    match dice.below(20) {
        // What is refused makes few calls.
        kill @ 0..5 => {
            let within = [12, 40, 160][dice.below(3)];
            Weather::Kill { after: dice.below(within) as u64, all: kill > 2 }
        }
        5 => Weather::EnginesGone(ms),
        6 => Weather::EnginesHang(if ms.is_multiple_of(8) { ms + 1200 } else { ms }),
        7 => Weather::DiskFull(ms),
        8 => Weather::Silent(UNITS[dice.below(UNITS.len())], ms),
        9 => Weather::Away(UNITS[dice.below(UNITS.len())], ms),
        _ => Weather::Fair,
    }
}

impl Act {
    /// What kind it is, to be counted.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Import { .. } => "import".to_owned(),
            Self::Decide { rejects: false, .. } => "approve".to_owned(),
            Self::Decide { rejects: true, .. } => "reject".to_owned(),
            Self::Authorise { .. } => "authorise".to_owned(),
            Self::Again { .. } => "again".to_owned(),
            Self::Words(words) if words[0] == "trial" => words[..2].join(" "),
            Self::Words(words) => words[0].clone(),
            Self::Export => "export".to_owned(),
        }
    }
}

impl Weather {
    /// What kind it is, to be counted.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Fair => "fair",
            Self::Kill { all: false, .. } => "kill",
            Self::Kill { all: true, .. } => "kill all",
            Self::EnginesGone(_) => "engines gone",
            Self::EnginesHang(_) => "engines hang",
            Self::DiskFull(_) => "disk full",
            Self::Silent(..) => "silent",
            Self::Away(..) => "away",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Import { stick, user, leaves_ms } => {
                write!(f, "import {}", stick.name)?;
                user.map_or(Ok(()), |user| write!(f, " as user {user}"))?;
                let leaves_ms = leaves_ms.filter(|ms| *ms < WAITS_MS);
                leaves_ms.map_or(Ok(()), |ms| write!(f, ", gone after {ms} ms"))
            }
            Self::Decide { import, key, .. } => write!(f, "{} {import} by {key}", self.kind()),
            Self::Authorise { release, key } => write!(f, "authorise {release:.8} by {key}"),
            Self::Again { record } => write!(f, "record {record} again"),
            Self::Words(words) => {
                let short: Vec<&str> =
                    words.iter().map(|word| word.get(..12).unwrap_or(word)).collect();
                f.write_str(&short.join(" "))
            }
            Self::Export => f.write_str("export"),
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fair => Ok(()),
            Self::Kill { after, all } => {
                write!(f, ", {} killed behind {after} calls", if *all { "all" } else { "one" })
            }
            Self::EnginesGone(ms) => write!(f, ", engines gone for {ms} ms"),
            Self::EnginesHang(ms) => write!(f, ", engines hang for {ms} ms"),
            Self::DiskFull(ms) => write!(f, ", the disk full for {ms} ms"),
            Self::Silent(unit, ms) => write!(f, ", {} silent for {ms} ms", unit.name()),
            Self::Away(unit, ms) => write!(f, ", {} away for {ms} ms", unit.name()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acts { acts, later_us, weather } => {
                write!(f, "{}", acts[0])?;
                if let Some(second) = acts.get(1) {
                    write!(f, ", and {later_us} us later {second}")?;
                }
                write!(f, "{weather}")
            }
            Self::Restart(None) => f.write_str("all are killed"),
            Self::Restart(Some(unit)) => write!(f, "{} ends", unit.name()),
            Self::Flip { object, weather } => write!(f, "flip {object:.8} and scrub{weather}"),
            Self::Policy(approvals) => write!(f, "{approvals} must approve"),
        }
    }
}
