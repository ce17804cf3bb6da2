//! Canaries and shadows: who may begin one, what it changes, how it ends, and what is left of it.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use cloister_attest::{approval::Decision, json};
use cloister_domain::{Digest, GenerationId, ImportId, RecordIndex};
use cloister_state::{NewTrial, Series, State};
use cloister_wire::{
    Reply,
    supply::{Answer, ImportState, Request},
    trial::{Counted, End, FILE_BYTES_MAX, Kind, Report, Scope, Shown, Tally, Trial},
};
use serde_json::{Value, json};

use crate::{
    kill::{Killer, Updaterd},
    refused, status,
    support::{
        World,
        bundle::{Bundle, EVE, FLO},
        wait_until,
    },
};

fn share() -> Scope {
    Scope::Share { permille: 100 }
}

fn start(world: &World, kind: Kind, import: ImportId) -> Reply<Answer> {
    lasting(world, kind, import, 3600)
}

fn lasting(world: &World, kind: Kind, import: ImportId, seconds: u32) -> Reply<Answer> {
    world.ask(&Request::StartTrial { kind, import, scope: share(), seconds })
}

/// What the shelf tells gatewayd.
fn told(world: &World) -> Option<Trial> {
    let path = world.config.paths.shelf().join("trial");
    let text = cloister_daemon::files::read_limited(&path, FILE_BYTES_MAX).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// Plays gatewayd, which counts.
fn count(world: &World, run: u64, report: Report) {
    count_for(world, run, 0, report);
}

/// The same, after so many seconds by its clock.
fn count_for(world: &World, run: u64, lasted_s: u32, report: Report) {
    let trial = status(world).trial.unwrap().trial;
    let path = world.config.paths.trial_counts();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let aside = path.with_extension(NUMBER.fetch_add(1, Ordering::SeqCst).to_string());
    fs::write(&aside, serde_json::to_vec(&Counted { trial, run, lasted_s, report }).unwrap())
        .unwrap();
    fs::rename(aside, path).unwrap();
}

fn answered(count: u64) -> Report {
    Report { candidate: Tally { answered: count, ..Tally::default() }, ..Report::default() }
}

fn failing(count: u64) -> Report {
    Report { candidate: Tally { failed: count, ..Tally::default() }, ..Report::default() }
}

fn last(world: &World, import: ImportId) -> Shown {
    world.review(import).trials.pop().unwrap()
}

fn until_ended(world: &World, import: ImportId) -> End {
    wait_until(|| last(world, import).ended.is_some()).unwrap();
    last(world, import).ended.unwrap()
}

/// One release is active and another approved.
fn approved(more: &str) -> (World, GenerationId, GenerationId, ImportId) {
    let world = World::with(more);
    world.enrol();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    let import = world.approved(&two, 2);
    (world, one.generation(), two.generation(), import)
}

fn kinds_and_outcomes(world: &World) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let records = world.records();
    let outcomes = records.iter().filter(|(event, _)| event == "activation-outcome");
    outcomes.map(|(_, facts)| (text(&facts["kind"]), text(&facts["outcome"]))).collect()
}

#[test]
fn a_canary_is_an_activation_for_some_and_needs_the_same_approvals() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    let import = world.import(&two, 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    refused(start(&world, Kind::Canary, import), "approval.threshold");
    world.decide(import, EVE, Decision::Approve).unwrap();
    refused(start(&world, Kind::Canary, import), "approval.threshold");
    world.decide(import, FLO, Decision::Approve).unwrap();
    assert_eq!(told(&world), None);

    let Answer::Trial(trial) = start(&world, Kind::Canary, import).unwrap() else { panic!("none") };
    assert_eq!(world.active(), Some(one.generation()), "for all others");
    let said = told(&world).unwrap();
    assert_eq!((said.trial, said.generation), (trial.trial, two.generation()));
    assert_eq!((said.kind, said.scope), (Kind::Canary, share()));
    assert!(world.slot_of(two.generation()).is_some());
    let outcomes = kinds_and_outcomes(&world);
    assert_eq!(outcomes.last().unwrap(), &("canary".to_owned(), "begun".to_owned()));
    let shown = status(&world);
    assert_eq!(shown.trial.unwrap().generation, two.generation());
    let listed = shown.generations.iter().find(|one| one.generation == two.generation()).unwrap();
    assert!(!listed.promoted, "a canary promotes nothing");
    refused(start(&world, Kind::Canary, import), "trial.under-way");

    // Everybody gets it: the canary ends with that, and its report stays.
    count(&world, 1, answered(7));
    world.activate(import).unwrap();
    assert_eq!(world.active(), Some(two.generation()));
    let ended = last(&world, import);
    assert_eq!((ended.ended, ended.report.candidate.answered), (Some(End::Promoted), 7));
    assert_eq!((told(&world), status(&world).trial), (None, None));
    assert_eq!(world.count("trial-ended", "ended", "promoted"), 1);
    // What was active before the canary is what a return leads to.
    world.ask(&Request::Rollback { to: None }).unwrap();
    assert_eq!(world.active(), Some(one.generation()));
}

#[test]
fn a_canary_ends_by_itself_and_keeps_its_report() {
    let (world, one, two, import) = approved("engine_away_s = 1");
    lasting(&world, Kind::Canary, import, 1).unwrap();
    assert_eq!(until_ended(&world, import), End::Time);
    assert_eq!(told(&world), None);

    // Its clock went on while the updater was not there.
    start(&world, Kind::Canary, import).unwrap();
    assert_eq!(told(&world).unwrap().seconds, 3600);
    count_for(&world, 1, 3600, answered(1));
    assert_eq!(until_ended(&world, import), End::Time);

    start(&world, Kind::Canary, import).unwrap();
    count(&world, 1, Report { active: Tally { answered: 9, ..Tally::default() }, ..failing(2) });
    wait_until(|| last(&world, import).report.candidate.failed == 2).unwrap();
    assert_eq!(last(&world, import).ended, None, "two may fail");
    // gatewayd was started again and counts anew.
    count(&world, 2, failing(1));
    assert_eq!(until_ended(&world, import), End::Failures);
    let report = last(&world, import).report;
    assert_eq!((report.candidate.failed, report.active.answered), (3, 9));

    start(&world, Kind::Canary, import).unwrap();
    // The engine lost it, behind the updater's back.
    world.script(world.slot_of(two).unwrap()).forget();
    assert_eq!(until_ended(&world, import), End::Engine);
    assert_eq!(world.active(), Some(one));
    let four: Vec<End> =
        world.review(import).trials.iter().filter_map(|trial| trial.ended).collect();
    assert_eq!(four, [End::Time, End::Time, End::Failures, End::Engine]);
}

#[test]
fn a_canary_ends_when_its_approvals_do_or_its_slot_is_needed() {
    let (world, one, _, import) = approved("");
    start(&world, Kind::Canary, import).unwrap();
    world.ask(&Request::EndTrial).unwrap();
    assert_eq!(until_ended(&world, import), End::Asked);
    refused(world.ask(&Request::EndTrial), "trial.none");

    start(&world, Kind::Canary, import).unwrap();
    // Another evaluation waits for the slot.
    let other = world.import(&Bundle::new(3, "0.3"), 3).unwrap();
    wait_until(|| world.review(other).problem.is_some()).unwrap();
    assert_eq!(world.review(other).problem.unwrap().code, "trial.under-way");
    world.ask(&Request::Evaluate { import }).unwrap();
    assert_eq!(until_ended(&world, import), End::Void);
    world.until(other, ImportState::AwaitingApproval);
    world.until(import, ImportState::AwaitingApproval);
    assert_eq!((world.active(), told(&world)), (Some(one), None));
}

#[test]
fn a_canary_that_cannot_begin_leaves_nothing() {
    let (world, one, two, import) = approved("");
    let slot = world.slot_of(two).unwrap();
    world.script(slot).faulty.store(true, Ordering::SeqCst);
    refused(start(&world, Kind::Canary, import), "engine.scripted");
    assert_eq!((told(&world), status(&world).trial), (None, None));
    assert_eq!(last(&world, import).ended, Some(End::NotBegun));
    assert_eq!(world.active(), Some(one));
    let (intents, outcomes) = world.activations();
    assert_eq!(intents, outcomes);
    world.script(slot).faulty.store(false, Ordering::SeqCst);
    start(&world, Kind::Canary, import).unwrap();
}

#[test]
fn a_canary_outlives_the_updater_and_its_time_goes_on() {
    let (mut world, _, two, import) = approved("");
    let Answer::Trial(trial) = start(&world, Kind::Canary, import).unwrap() else { panic!("none") };
    world.stop_updaterd();
    // Somebody tampered with what gatewayd is told meanwhile.
    fs::remove_file(world.config.paths.shelf().join("trial")).unwrap();
    world.start_updaterd();
    wait_until(|| told(&world).is_some()).unwrap();
    assert_eq!(told(&world).unwrap().trial, trial.trial);
    assert_eq!(status(&world).trial.unwrap().generation, two);
    let (intents, outcomes) = world.activations();
    assert_eq!(intents, outcomes);
    world.ask(&Request::EndTrial).unwrap();
    world.stop_updaterd();
    fs::write(world.config.paths.shelf().join("trial"), b"{}").unwrap();
    world.start_updaterd();
    wait_until(|| told_nothing(&world)).unwrap();
}

#[test]
fn a_trial_of_what_became_active_meanwhile_ends() {
    let (mut world, _, two, import) = approved("");
    world.activate(import).unwrap();
    world.stop_updaterd();
    // As a crash leaves it between a switch and the end of the trial of what was switched to.
    let mut state = State::open(&world.config.paths.supply_database()).unwrap();
    let trial = state.next(Series::Activation).unwrap();
    let new = NewTrial {
        trial,
        kind: Kind::Canary,
        import,
        generation: two,
        scope: &share(),
        seconds: 3600,
        record: RecordIndex(1),
    };
    state.begin_trial(&new, None).unwrap();
    drop(state);
    world.start_updaterd();
    assert_eq!(until_ended(&world, import), End::Promoted);
    assert_eq!((world.active(), told(&world)), (Some(two), None));
}

fn told_nothing(world: &World) -> bool {
    !world.config.paths.shelf().join("trial").exists()
}

#[test]
fn a_shadow_runs_before_approval_and_its_report_is_part_of_what_is_approved() {
    let world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    let first = world.import(&one, 1).unwrap();
    world.until(first, ImportState::AwaitingApproval);
    refused(start(&world, Kind::Shadow, first), "trial.nothing-active");
    for person in [EVE, FLO] {
        world.decide(first, person, Decision::Approve).unwrap();
    }
    refused(start(&world, Kind::Shadow, first), "trial.not-awaiting-approval");
    world.activate(first).unwrap();

    let import = world.import(&two, 2).unwrap();
    let before = world.until(import, ImportState::AwaitingApproval).package.unwrap();
    world.decide(import, EVE, Decision::Approve).unwrap();
    start(&world, Kind::Shadow, import).unwrap();
    assert_eq!(told(&world).unwrap().kind, Kind::Shadow);
    refused(world.decide(import, FLO, Decision::Approve), "approval.shadow-under-way");
    count(&world, 1, Report { same: 4, ..answered(5) });
    world.ask(&Request::EndTrial).unwrap();
    let shown = world.review(import);
    assert_eq!(shown.trials[0].report.same, 4);
    let after = shown.package.unwrap();
    assert_eq!(after.policy, before.policy);
    assert_ne!((after.digest, after.evidence), (before.digest, before.evidence));
    assert_eq!(shown.approved_by.len(), 0, "nobody approved this package");
    // What was approved before it ran is another package.
    world.decide(import, FLO, Decision::Approve).unwrap();
    refused(world.activate(import), "approval.threshold");
    world.decide(import, EVE, Decision::Approve).unwrap();
    world.activate(import).unwrap();
    let (intents, _) = world.activations();
    assert_eq!(intents, 2, "a shadow activates nothing");
}

/// The digests that persons sign, as anybody makes them who has the log alone.
fn from_the_log(world: &World, import: ImportId) -> [Digest; 2] {
    let digest = |value: &Value| Digest::of(&json::canonical(value).unwrap());
    let (mut facility, mut inspection, mut shadows) = (Value::Null, Value::Null, Vec::new());
    let (mut bounds, mut found) = (Value::Null, Value::Null);
    for (event, mut facts) in world.records() {
        let of = facts.get("import").and_then(Value::as_u64) == Some(import.0);
        match event.as_str() {
            "policy-change" => facility = facts,
            "inspection" if of => {
                facts.as_object_mut().unwrap().remove("import");
                inspection = facts;
            }
            "evaluation" if of => {
                bounds = facts["bounds"].take();
                assert_eq!(digest(&bounds).to_string(), facts["policy"]);
                assert_eq!(bounds["facility"], facility);
                found = json!({"figures": facts["figures"], "inspection": inspection});
                assert_eq!(digest(&found).to_string(), facts["evidence"]);
            }
            "trial-ended" if of && facts["kind"] == "shadow" => {
                shadows.push(json!({"report": facts["report"], "trial": facts["trial"]}));
                found["shadows"] = shadows.clone().into();
            }
            _ => {}
        }
    }
    [digest(&bounds), digest(&found)]
}

#[test]
fn what_persons_sign_can_be_made_from_the_log_alone() {
    let world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    let same = || {
        let package = world.until(import, ImportState::AwaitingApproval).package.unwrap();
        assert_eq!(from_the_log(&world, import), [package.policy, package.evidence]);
    };
    same();
    for run in 1..3 {
        start(&world, Kind::Shadow, import).unwrap();
        count(&world, run, answered(run));
        world.ask(&Request::EndTrial).unwrap();
        same();
    }
    world.ask(&Request::Evaluate { import }).unwrap();
    same();
    // A shadow that ran before the release was judged anew is told of again.
    start(&world, Kind::Shadow, import).unwrap();
    world.ask(&Request::EndTrial).unwrap();
    same();
}

#[test]
fn a_rejection_ends_a_shadow() {
    let world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    start(&world, Kind::Shadow, import).unwrap();
    world.decide(import, EVE, Decision::Reject).unwrap();
    assert_eq!(last(&world, import).ended, Some(End::Void));
    assert_eq!(world.review(import).state, ImportState::Refused);
    assert_eq!(told(&world), None);
}

#[test]
fn a_trial_is_of_somebody_and_for_some_time() {
    let (world, _, _, import) = approved("trial_s_max = 60");
    let ask = |scope: Scope, seconds| {
        world.ask(&Request::StartTrial { kind: Kind::Canary, import, scope, seconds })
    };
    refused(ask(Scope::Share { permille: 0 }, 10), "trial.bounds");
    refused(ask(Scope::Share { permille: 1001 }, 10), "trial.bounds");
    refused(ask(Scope::Principals([].into()), 10), "trial.bounds");
    refused(ask(share(), 0), "trial.bounds");
    refused(ask(share(), 61), "trial.bounds");
    ask(Scope::Principals(["ada".parse().unwrap()].into()), 60).unwrap();
    assert_eq!(world.count("act-refused", "asked", "trial"), 5);
}

#[test]
fn a_trial_that_ended_answers_nobody_though_the_disk_failed_once() {
    let (mut world, _, _, import) = approved("");
    world.stop_updaterd();
    let updaterd = Updaterd::start(&world);
    start(&world, Kind::Canary, import).unwrap();
    let trial = world.config.paths.shelf().join("trial");
    let killer = Killer::failing(&updaterd, "unlink", &trial);
    refused(world.ask(&Request::EndTrial), "shelf.io");
    drop(killer);
    assert_eq!(last(&world, import).ended, Some(End::Asked));
    wait_until(|| told(&world).is_none()).expect("the worker takes the file away");
}

#[test]
fn a_shadow_that_began_is_told_of_though_the_disk_failed_once() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    world.stop_updaterd();
    let updaterd = Updaterd::start(&world);
    let trial = world.config.paths.shelf().join(".trial.new");
    let killer = Killer::failing(&updaterd, "rename", &trial);
    refused(start(&world, Kind::Shadow, import), "shelf.io");
    drop(killer);
    wait_until(|| told(&world).is_some()).expect("the worker names it");
}
