//! What is wished of crashes, whether it can show anything, and how it is run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
};

use anyhow::{Result, bail, ensure};
use clap::builder::PossibleValuesParser;
use cloister_stage::Dice;

use crate::{lab::Lab, scene::SCENES, walk::walks};

/// So many strikes may miss in any case; of more, one in ten of those that hit.
const MISSED_MIN: u64 = 10;

/// Most points and shares.
const MOST: usize = 1_000_000;

/// What is done, and how often.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wish {
    /// Everything that is left to chance follows from it.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many of each kind: kills, failing calls, power cuts, crashes of a model file system, walks; a fifth as
    /// many are killed again in recovery. For each of them 2500 different states are judged in memory. A walk's
    /// seed is SEED and its number, from 0 on.
    #[arg(long, default_value_t = 40, value_parser = number)]
    pub points: usize,
    /// Instead of chance: every call of every act, each killed at, and each failing in every way.
    #[arg(long)]
    pub every: bool,
    /// Of every call only those whose number leaves this over, divided by SHARES.
    #[arg(long, default_value_t = 0, requires = "every")]
    pub share: usize,
    /// See `--share`.
    #[arg(long, default_value_t = 1, value_parser = number, requires = "every")]
    pub shares: usize,
    /// Only this act.
    #[arg(long, value_parser = PossibleValuesParser::new(SCENES.map(|scene| scene.name)))]
    pub act: Option<String>,
    /// Of every call only the one with this number, and nothing that is left to chance.
    #[arg(long)]
    pub call: Option<u64>,
    /// Of each walk only so many steps, and then the way home.
    #[arg(long, value_parser = number)]
    pub steps: Option<usize>,
    /// Keep the state of what went wrong in this folder, and the daemons' journals.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// A count that shows something, and that a machine can do.
fn number(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
    number.ok_or_else(|| format!("a number from 1 to {MOST} is expected"))
}

/// The kinds of crashes that are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each kind is wanted or not")]
pub struct Kinds {
    /// Kills at a call.
    pub kills: bool,
    /// Kills at a call, and again in recovery.
    pub pairs: bool,
    /// Calls that come back with errors.
    pub faults: bool,
    /// Power cuts.
    pub cuts: bool,
    /// Crashes of the model file systems.
    pub model: bool,
    /// States of the model file systems, judged before anybody recovers.
    pub states: bool,
    /// Walks.
    pub walks: bool,
}

impl Kinds {
    /// All of them.
    pub const ALL: Self = Self {
        kills: true,
        pairs: true,
        faults: true,
        cuts: true,
        model: true,
        states: true,
        walks: true,
    };
    /// None of them.
    pub const NONE: Self = Self {
        kills: false,
        pairs: false,
        faults: false,
        cuts: false,
        model: false,
        states: false,
        walks: false,
    };
}

impl Wish {
    /// What is done of `kinds`: of one call nothing that is left to chance.
    ///
    /// # Errors
    /// When the wish contradicts itself, or nothing would be done.
    pub fn check(&self, kinds: Kinds) -> Result<Kinds> {
        let Self { share, shares, every, .. } = *self;
        ensure!(share < shares, "there is no share {share} of {shares}; the first is 0");
        let walks = kinds.walks && !every && self.act.is_none();
        let kinds = Kinds { walks, ..kinds };
        ensure!(kinds != Kinds::NONE, "walks are of every act, and of no call");
        let Some(call) = self.call else { return Ok(kinds) };
        let of_one = Kinds {
            kills: kinds.kills && every,
            faults: kinds.faults && every,
            states: kinds.states,
            ..Kinds::NONE
        };
        if of_one == Kinds::NONE || !(every || self.is_states(kinds)) {
            bail!("--call {call} takes --every with kills or faults, or --only states");
        }
        Ok(of_one)
    }

    fn is_states(&self, kinds: Kinds) -> bool {
        kinds == Kinds { states: true, ..Kinds::NONE }
    }
}

/// Runs what is wished; writes a line for each crash. Whether all of them ended old or new, and were enough of
/// their kind to show that.
///
/// # Errors
/// When nothing would be done, when there is no room to crash in, or `out` is gone.
pub fn run(
    wish: &Wish,
    kinds: Kinds,
    out: &mut dyn Write,
) -> Result<(bool, BTreeMap<String, u64>)> {
    let kinds = wish.check(kinds)?;
    let (mut good, mut counts) = (true, BTreeMap::new());
    if kinds.walks {
        let walked = walks(wish, |line| Ok(writeln!(out, "{line}")?))?;
        good = walked.wrong == 0;
        counts.extend(walked.counts);
    }
    let crashed = if kinds == (Kinds { walks: true, ..Kinds::NONE }) {
        0
    } else {
        crashes(wish, kinds, out, &mut good, &mut counts)?
    };
    let is_told = |what: &str| !what.starts_with("seen: ") && !what.starts_with("struck: ");
    for (what, often) in counts.iter().filter(|(what, _)| is_told(what)) {
        writeln!(out, "{what}: {often}")?;
    }
    for few in too_few(kinds, &counts) {
        writeln!(out, "WRONG: {few}")?;
        good = false;
    }
    let verdict = if good { "old or new" } else { "WRONG" };
    writeln!(out, "{crashed} crashes, seed {}: {verdict}", wish.seed)?;
    Ok((good, counts))
}

/// The crashes, each from a state of its own; how many.
fn crashes(
    wish: &Wish,
    kinds: Kinds,
    out: &mut dyn Write,
    good: &mut bool,
    counts: &mut BTreeMap<String, u64>,
) -> Result<usize> {
    let mut lab = Lab::of(kinds, wish.act.as_deref())?;
    lab.keep.clone_from(&wish.keep);
    let mut dice = Dice::new(wish.seed);
    let mut jobs = Vec::new();
    let mut add = |wanted: bool, make: &dyn Fn(&mut Dice) -> Vec<_>| -> Result<()> {
        if wanted {
            let more = make(&mut dice);
            ensure!(!more.is_empty(), "there is no such call, or none in this share");
            jobs.extend(more);
        }
        Ok(())
    };
    if wish.every {
        add(kinds.kills || kinds.faults, &|_dice| lab.every(wish, kinds))?;
    } else {
        add(kinds.kills, &|dice| lab.kills(dice, wish.points))?;
        add(kinds.faults, &|dice| lab.faults(dice, wish.points))?;
    }
    add(kinds.pairs, &|dice| lab.pairs(dice, wish.points.div_ceil(5)))?;
    add(kinds.cuts, &|dice| lab.cuts(dice, wish.points))?;
    add(kinds.model, &|dice| lab.crashes(dice, wish.points))?;
    let mut struck = BTreeSet::new();
    lab.run(&jobs, |at, line| {
        writeln!(out, "{at} {}", line.text)?;
        struck.extend(line.struck);
        for what in line.counts.iter().flatten() {
            *counts.entry(what.clone()).or_default() += 1;
        }
        *good &= line.counts.is_some();
        Ok(())
    })?;
    if kinds.states {
        let found = lab.states(wish)?;
        for line in &found.lines {
            writeln!(out, "{line}")?;
        }
        counts.extend(found.counts);
        *good &= found.good;
    }
    if wish.every {
        every_call(wish, &lab.seen(kinds), &struck, counts, out)?;
    }
    Ok(jobs.len())
}

/// Counts the calls that were seen and that were struck, each of which whoever runs all shares holds against
/// each other; where this is all of them, names those that were not struck.
fn every_call(
    wish: &Wish,
    seen: &BTreeSet<String>,
    struck: &BTreeSet<String>,
    counts: &mut BTreeMap<String, u64>,
    out: &mut dyn Write,
) -> Result<()> {
    counts.extend(seen.iter().map(|call| (format!("seen: {call}"), 1)));
    counts.extend(struck.iter().map(|call| (format!("struck: {call}"), 1)));
    if wish.shares <= 1 && wish.call.is_none() {
        let left: Vec<&String> = seen.difference(struck).collect();
        for call in &left {
            writeln!(out, "not struck: {call}")?;
        }
        writeln!(out, "different calls: {}, of which not struck: {}", seen.len(), left.len())?;
    }
    Ok(())
}

/// Kinds of which so few came to pass that nothing is shown.
fn too_few(kinds: Kinds, counts: &BTreeMap<String, u64>) -> Vec<String> {
    let often = |what: &str| counts.get(what).copied().unwrap_or(0);
    let mut few = Vec::new();
    for kind in ["kill", "fault", "pair"] {
        let (hit, missed) = (often(&format!("{kind} depth 1")), often(&format!("{kind} missed")));
        let is_enough = if hit == 0 { missed == 0 } else { missed <= MISSED_MIN.max(hit / 10) };
        if !is_enough {
            few.push(format!("{kind}: {hit} hit and {missed} missed, which shows nothing"));
        }
    }
    let (first, second) = (often("pair depth 1"), often("pair depth 2"));
    if first > MISSED_MIN && second * 2 < first {
        few.push(format!("pair: of {first} only {second} were struck again"));
    }
    if kinds.walks && often("walk promotions") * 2 < often("walks") {
        few.push("walks: hardly a release was promoted in them".to_owned());
    }
    if kinds.states && often("states judged") == 0 {
        few.push("states: none was judged, so far the act does not go".to_owned());
    }
    few
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        wish: Wish,
    }

    fn wish(words: &str) -> Result<Kinds> {
        let words = Words::try_parse_from(std::iter::once("crash").chain(words.split(' ')))?;
        words.wish.check(Kinds::ALL)
    }

    #[test]
    fn a_wish_that_shows_nothing_is_refused() {
        for words in [
            "--points 0",
            "--points 18446744073709551615",
            "--every --shares 0",
            "--every --share 5 --shares 2",
            "--every --share 1",
            "--share 1 --shares 2",
            "--every --act nosuch",
            "--call 3",
        ] {
            wish(words).expect_err(words);
        }
        let wrong = wish("--every --act nosuch").unwrap_err().to_string();
        assert!(wrong.contains("import-first, import,"), "{wrong}");
        let every = Kinds { walks: false, ..Kinds::ALL };
        assert_eq!(wish("--every --share 1 --shares 2").unwrap(), every);
        assert_eq!(wish("--points 1000000").unwrap(), Kinds::ALL);
    }

    #[test]
    fn nothing_of_one_call_is_left_to_chance() {
        let one = wish("--every --act activate --call 57").unwrap();
        assert_eq!(one, Kinds { kills: true, faults: true, states: true, ..Kinds::NONE });
        let wish = Wish { call: Some(57), shares: 1, ..Wish::default() };
        let states = Kinds { states: true, ..Kinds::NONE };
        assert_eq!(wish.check(states).unwrap(), states);
        let wish = Wish { every: true, ..wish };
        wish.check(Kinds { cuts: true, ..Kinds::NONE }).expect_err("cuts of one call");
    }

    #[test]
    fn kinds_that_hardly_came_to_pass_show_nothing() {
        let few = |counts: &[(&str, u64)]| {
            let counts = counts.iter().map(|(what, often)| ((*what).to_owned(), *often));
            too_few(Kinds { states: false, ..Kinds::ALL }, &counts.collect()).len()
        };
        assert_eq!(few(&[]), 0, "nothing of a kind was wished");
        assert_eq!(few(&[("kill missed", 1)]), 1, "none hit");
        assert_eq!(few(&[("kill missed", 10), ("kill depth 1", 1)]), 0);
        assert_eq!(few(&[("fault missed", 11), ("fault depth 1", 109)]), 1);
        assert_eq!(few(&[("fault missed", 11), ("fault depth 1", 110)]), 0);
        assert_eq!(few(&[("pair depth 1", 20), ("pair depth 2", 9)]), 1);
        assert_eq!(few(&[("pair depth 1", 20), ("pair depth 2", 10)]), 0);
        assert_eq!(too_few(Kinds::ALL, &BTreeMap::new()).len(), 1, "no state was judged");
    }
}
