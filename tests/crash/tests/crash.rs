//! A share of all crashes in every run: as `./x crash`, with seeds of its own.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::sync::OnceLock;

use cloister_crash::{Job, Kinds, Lab, missing};
use cloister_stage::Dice;

const SEED: u64 = 20_261_122;

/// Everything once, for all tests; none on a machine that cannot do it, which then says so.
fn lab() -> Option<&'static Lab> {
    static LAB: OnceLock<Option<Lab>> = OnceLock::new();
    let open = || match missing() {
        None => Some(Lab::open(Kinds::ALL).unwrap()),
        Some(what) => {
            use std::io::Write as _;
            let mut out = std::io::stderr();
            writeln!(out, "skipped: crashes cannot be tried here, {what} is missing").unwrap();
            None
        }
    };
    LAB.get_or_init(open).as_ref()
}

/// What went wrong in `jobs`.
fn wrong(lab: &Lab, jobs: &[Job]) -> Vec<String> {
    let mut wrong = Vec::new();
    lab.run(jobs, |_at, line| {
        if line.counts.is_none() {
            wrong.push(line.text);
        }
        Ok(())
    })
    .unwrap();
    wrong
}

fn none_is_wrong(lab: &Lab, jobs: &[Job]) {
    assert_eq!(wrong(lab, jobs), Vec::<String>::new(), "seed {SEED}");
}

#[test]
fn killed_at_any_call_an_act_is_done_or_not() {
    let Some(lab) = lab() else { return };
    none_is_wrong(lab, &lab.kills(&mut Dice::new(SEED), 40));
}

#[test]
fn killed_again_in_recovery_an_act_is_done_or_not() {
    let Some(lab) = lab() else { return };
    none_is_wrong(lab, &lab.pairs(&mut Dice::new(SEED), 15));
}

#[test]
fn a_call_that_fails_leaves_nothing_half_done() {
    let Some(lab) = lab() else { return };
    none_is_wrong(lab, &lab.faults(&mut Dice::new(SEED), 40));
}

#[test]
fn a_power_cut_leaves_an_act_done_or_not_and_loses_nothing_that_was_told() {
    let Some(lab) = lab() else { return };
    none_is_wrong(lab, &lab.cuts(&mut Dice::new(SEED), 200));
}

#[test]
fn a_disk_that_lies_about_flushes_is_noticed() {
    let Some(lab) = lab() else { return };
    let jobs = lab.lies(&mut Dice::new(SEED), 6);
    let wrong = wrong(lab, &jobs);
    let lost = wrong.iter().filter(|line| line.contains("lost")).count();
    assert!(lost >= 4, "{lost} of {} were noticed: {wrong:?}", jobs.len());
}

#[test]
fn a_crash_of_a_file_system_that_keeps_no_more_than_it_promised_leaves_an_act_done_or_not() {
    let Some(lab) = lab() else { return };
    none_is_wrong(lab, &lab.crashes(&mut Dice::new(SEED), 60, false));
}

#[test]
fn a_file_system_that_never_syncs_is_noticed() {
    let Some(lab) = lab() else { return };
    let jobs = lab.crashes(&mut Dice::new(SEED), 3, true);
    let wrong = wrong(lab, &jobs);
    assert!(wrong.len() >= 2, "{} of {} were noticed: {wrong:?}", wrong.len(), jobs.len());
}
