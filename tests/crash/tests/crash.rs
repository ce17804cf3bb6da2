//! A share of all crashes in every run: as `./x crash`, with seeds of its own.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{collections::BTreeMap, io::Write as _, sync::OnceLock};

use cloister_crash::{Job, Kinds, Lab, Wish, missing};
use cloister_stage::Dice;

const SEED: u64 = 20_261_122;

/// Everything without a disk of its own.
const DAEMONS: Kinds =
    Kinds { kills: true, pairs: true, faults: true, model: true, states: true, ..Kinds::NONE };

/// Everything once, for all tests, as far as this machine can do it; what it cannot do it says.
fn lab(wanted: Kinds) -> Option<&'static Lab> {
    static LAB: OnceLock<Lab> = OnceLock::new();
    if let Some(what) = missing(wanted) {
        let line = format!("skipped: crashes cannot be tried here, {what} is missing\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    }
    let kinds = if missing(Kinds::ALL).is_none() { Kinds::ALL } else { DAEMONS };
    Some(LAB.get_or_init(|| Lab::open(kinds).unwrap()))
}

/// What went wrong in `jobs`, and how often each thing happened.
fn judged(lab: &Lab, jobs: &[Job]) -> (Vec<String>, BTreeMap<String, usize>) {
    let (mut wrong, mut counts) = (Vec::new(), BTreeMap::new());
    lab.run(jobs, |_at, line| {
        match line.counts {
            None => wrong.push(line.text),
            Some(happened) => {
                for what in happened {
                    *counts.entry(what).or_default() += 1;
                }
            }
        }
        Ok(())
    })
    .unwrap();
    (wrong, counts)
}

/// How often each thing happened in `jobs`, of which none may go wrong.
fn none_is_wrong(lab: &Lab, jobs: &[Job]) -> impl Fn(&str) -> usize + use<> {
    let (wrong, counts) = judged(lab, jobs);
    assert_eq!(wrong, Vec::<String>::new(), "seed {SEED}");
    move |what| counts.get(what).copied().unwrap_or(0)
}

#[test]
fn killed_at_any_call_an_act_is_done_or_not() {
    let Some(lab) = lab(DAEMONS) else { return };
    let often = none_is_wrong(lab, &lab.kills(&mut Dice::new(SEED), 40));
    assert!(often("kill depth 1") >= 36, "{} of 40 hit", often("kill depth 1"));
}

#[test]
fn killed_again_in_recovery_an_act_is_done_or_not() {
    let Some(lab) = lab(DAEMONS) else { return };
    let often = none_is_wrong(lab, &lab.pairs(&mut Dice::new(SEED), 15));
    assert!(often("pair depth 2") >= 10, "{} of 15 hit twice", often("pair depth 2"));
}

#[test]
fn a_call_that_fails_leaves_nothing_half_done() {
    let Some(lab) = lab(DAEMONS) else { return };
    let often = none_is_wrong(lab, &lab.faults(&mut Dice::new(SEED), 40));
    assert!(often("fault depth 1") >= 36, "{} of 40 hit", often("fault depth 1"));
}

#[test]
fn harm_that_is_done_while_daemons_are_dead_is_noticed() {
    let Some(lab) = lab(DAEMONS) else { return };
    let jobs = lab.harms(&mut Dice::new(SEED));
    let (wrong, _counts) = judged(lab, &jobs);
    assert_eq!(wrong.len(), jobs.len(), "{wrong:?}");
    for sign in ["torn", "was durable and is lost", "without a restart"] {
        assert!(wrong.iter().any(|line| line.contains(sign)), "{sign}: {wrong:?}");
    }
}

#[test]
fn a_power_cut_leaves_an_act_done_or_not_and_loses_nothing_that_was_told() {
    let Some(lab) = lab(Kinds::ALL) else { return };
    let often = none_is_wrong(lab, &lab.cuts(&mut Dice::new(SEED), 200));
    assert!(often("cut told") > 0, "none came after the operator was told");
    for spared in ["all", "nothing", "the first", "any", "some sectors", "some blocks"] {
        assert!(often(&format!("cut {spared} of what was open")) > 0, "{spared}");
    }
}

#[test]
fn a_disk_that_lies_about_flushes_is_noticed() {
    let Some(lab) = lab(Kinds::ALL) else { return };
    let jobs = lab.lies(&mut Dice::new(SEED), 6);
    let (wrong, _counts) = judged(lab, &jobs);
    let lost = wrong.iter().filter(|line| line.contains("lost")).count();
    assert!(lost >= 4, "{lost} of {} were noticed: {wrong:?}", jobs.len());
}

#[test]
fn a_crash_of_a_file_system_that_keeps_no_more_than_it_promised_leaves_an_act_done_or_not() {
    let Some(lab) = lab(DAEMONS) else { return };
    let often = none_is_wrong(lab, &lab.crashes(&mut Dice::new(SEED), 60));
    assert!(often("model told") > 0, "none came after the operator was told");
}

#[test]
fn a_hundred_thousand_states_after_a_crash_are_each_such_as_may_be() {
    let Some(lab) = lab(DAEMONS) else { return };
    let found = lab.states(&Wish { seed: SEED, points: 40, ..Wish::default() }).unwrap();
    assert!(found.good, "seed {SEED}: {:#?}", found.lines);
    let often = |what: &str| found.counts.get(what).copied().unwrap_or(0);
    assert!(often("states different") >= 100_000, "{:?}", found.counts);
    assert!(often("states told") > 0, "none came after the operator was told");
    for rule in ["Ordered", "Loose"] {
        for spared in ["all", "nothing", "the first", "any", "some sectors", "some blocks"] {
            assert!(often(&format!("states {rule}, {spared} spared")) > 1000, "{rule} {spared}");
        }
    }
}

#[test]
fn a_state_that_may_not_be_is_noticed() {
    let Some(lab) = lab(DAEMONS) else { return };
    let spoilt = lab.spoilt_states().unwrap();
    let missed: Vec<_> = spoilt
        .iter()
        .filter(|one| one.said.as_deref().is_none_or(|said| !said.contains(one.sign)))
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
    let pages = spoilt.iter().filter(|one| one.what.contains("went back")).count();
    assert!(pages >= 3, "{pages} pages went back");
}

#[test]
fn a_file_system_that_never_syncs_is_noticed() {
    let Some(lab) = lab(DAEMONS) else { return };
    for (torn, sign) in [(false, "lost"), (true, "torn")] {
        let jobs = lab.deaf(&mut Dice::new(SEED), 4, torn);
        let (wrong, _counts) = judged(lab, &jobs);
        assert!(wrong.len() >= 3, "{} of {} were noticed: {wrong:?}", wrong.len(), jobs.len());
        assert!(wrong.iter().any(|line| line.contains(sign)), "{sign}: {wrong:?}");
    }
}
