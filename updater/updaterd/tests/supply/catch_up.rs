//! A database that is behind the log: by the one act that was cut off, which is made good, or by more,
//! because somebody put an older copy back.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cloister_attest::{approval::Decision, consent::Matter};
use cloister_daemon::files::read_limited;
use cloister_domain::ImportId;
use cloister_state::{Series, State};
use cloister_wire::{
    record::Event,
    supply::{Import, ImportState, Reason, Request},
    trial::{Counted, End, FILE_BYTES_MAX, Kind, Report, Scope, Tally},
};

use crate::{
    refused, status,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO},
        wait_until,
    },
};

fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The database as it is now, with what SQLite keeps beside it.
pub(crate) struct Copied(Vec<(&'static str, Vec<u8>)>);

impl Copied {
    pub(crate) fn of(world: &mut World) -> Self {
        world.stop_updaterd();
        let database = world.config.paths.supply_database();
        let files = ["", "-wal"].into_iter().filter_map(|ending| {
            let bytes = read_limited(&beside(&database, ending), 1 << 24).ok()?;
            Some((ending, bytes))
        });
        let copied = Self(files.collect());
        world.start_updaterd();
        copied
    }

    pub(crate) fn put_back(&self, world: &mut World, drawn: Option<Series>) {
        world.stop_updaterd();
        let database = world.config.paths.supply_database();
        for ending in ["", "-wal", "-shm"] {
            fs::remove_file(beside(&database, ending)).unwrap_or_default();
        }
        for (ending, bytes) in &self.0 {
            fs::write(beside(&database, ending), bytes).unwrap();
        }
        if let Some(series) = drawn {
            State::open(&database).unwrap().next(series).unwrap();
        }
        world.start_updaterd();
    }
}

/// Does `act` and puts the database of before back, but for the number that was drawn first: as a crash
/// between its two writes leaves it.
fn cut_off(world: &mut World, drawn: Option<Series>, act: impl FnOnce(&World)) {
    let copied = Copied::of(world);
    act(world);
    copied.put_back(world, drawn);
}

/// Gives out a number, as an act does that dies behind it.
fn draw(world: &mut World, series: Series) -> u64 {
    world.stop_updaterd();
    let drawn = State::open(&world.config.paths.supply_database()).unwrap().next(series).unwrap();
    world.start_updaterd();
    drawn
}

/// What approvers see, but for what grows with the log.
fn seen(world: &World, import: ImportId) -> Import {
    let mut shown = world.review(import);
    if let Some(package) = &mut shown.package {
        package.log.size = 0;
    }
    shown
}

fn count(world: &World, report: Report) {
    let trial = status(world).trial.unwrap().trial;
    let path = world.config.paths.trial_counts();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, serde_json::to_vec(&Counted { trial, run: 1, lasted_s: 0, report }).unwrap())
        .unwrap();
}

fn answered(count: u64) -> Report {
    Report { candidate: Tally { answered: count, ..Tally::default() }, ..Report::default() }
}

fn begin(world: &World, kind: Kind, import: ImportId) {
    let scope = Scope::Share { permille: 100 };
    world.ask(&Request::StartTrial { kind, import, scope, seconds: 3600 }).unwrap();
}

#[test]
fn a_shadow_whose_end_is_recorded_has_ended_as_it_was_recorded() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let import = world.import(&Bundle::new(2, "0.4"), 2).unwrap();
    world.until(import, ImportState::AwaitingApproval);
    begin(&world, Kind::Shadow, import);
    count(&world, answered(5));
    let mut recorded = None;
    cut_off(&mut world, None, |world| {
        world.ask(&Request::EndTrial).unwrap();
        recorded = Some(seen(world, import));
        // One more was on its way.
        let path = world.config.paths.trial_counts();
        let mut counted: Counted =
            serde_json::from_slice(&read_limited(&path, FILE_BYTES_MAX).unwrap()).unwrap();
        counted.report = answered(6);
        fs::write(path, serde_json::to_vec(&counted).unwrap()).unwrap();
    });
    let recorded = recorded.unwrap();
    wait_until(|| status(&world).trial.is_none()).expect("it has ended");
    assert_eq!(seen(&world, import), recorded);
    assert_eq!(recorded.trials[0].report.candidate.answered, 5);
    assert_eq!(world.count("trial-ended", "ended", "asked"), 1);
    world.promoted_again(import);
}

#[test]
fn what_was_to_be_judged_again_is_and_nobody_approved_it() {
    let mut world = World::enrolled();
    let import = world.approved(&Bundle::new(1, "0.5"), 1);
    cut_off(&mut world, Some(Series::Refusal), |world| {
        world.ask(&Request::Evaluate { import }).unwrap();
    });
    assert!(world.activate(import).is_err(), "whether it is judged by then or not");
    let shown = world.until(import, ImportState::AwaitingApproval);
    assert_eq!(shown.approved_by.len(), 0);
    refused(world.activate(import), "approval.threshold");
    world.promoted_again(import);
}

#[test]
fn what_is_judged_again_is_approved_again_though_the_same_was_found() {
    let world = World::enrolled();
    let import = world.approved(&Bundle::new(1, "0.5"), 1);
    let before = world.review(import).package.unwrap().digest;
    world.ask(&Request::Evaluate { import }).unwrap();
    let after = world.until(import, ImportState::AwaitingApproval).package.unwrap().digest;
    assert_eq!(before, after, "the same figures");
    refused(world.activate(import), "approval.threshold");
    let verdicts = world.records().iter().filter(|(event, _)| event == "evaluation").count();
    assert_eq!(verdicts, 2, "each judgement has its record");
    world.promoted_again(import);
    assert_eq!(world.review(import).state, ImportState::Activated);
}

#[test]
fn a_veto_of_which_only_the_log_knows_stops_what_is_asked_first() {
    for ask in [
        (|import| Request::Activate { import }) as fn(ImportId) -> Request,
        |import| Request::StartTrial {
            kind: Kind::Canary,
            import,
            scope: Scope::Share { permille: 100 },
            seconds: 60,
        },
        |import| Request::Evaluate { import },
    ] {
        let mut world = World::enrolled();
        let one = Bundle::new(1, "0.5");
        world.promoted(&one, 1);
        let import = world.approved(&Bundle::new(2, "0.4"), 2);
        cut_off(&mut world, None, |world| {
            world.decide(import, FLO, Decision::Reject).unwrap();
        });
        // Whatever the worker has come to.
        assert!(world.ask(&ask(import)).is_err());
        let shown = world.until(import, ImportState::Refused);
        assert_eq!(shown.problem.unwrap().code, "approval.rejected");
        assert_eq!(world.active(), Some(one.generation()));
    }
}

#[test]
fn trust_that_was_recorded_is_in_force() {
    let mut world = World::enrolled();
    let one = Bundle::new(1, "0.5");
    let import = world.approved(&one, 1);
    cut_off(&mut world, Some(Series::Import), |world| {
        drop(world.begin(&Bundle::new(2, "0.4").taking_back(one.generation()), 2));
    });
    refused(world.activate(import), "bundle.revoked");
}

#[test]
fn an_older_copy_of_the_database_decides_nothing() {
    let mut world = World::enrolled();
    let (one, two) = (Bundle::new(1, "0.5"), Bundle::new(2, "0.4"));
    world.promoted(&one, 1);
    let import = world.approved(&two, 2);
    let copied = Copied::of(&mut world);
    world.activate(import).unwrap();
    world.ask(&Request::Rollback { to: None }).unwrap();
    copied.put_back(&mut world, None);
    let records = world.records().len();
    for _round in 0..2 {
        // Each of these draws a number in a database that is not behind.
        for _again in 0..4 {
            refused(world.activate(import), "state.older");
            refused(world.ask(&Request::Rollback { to: None }), "state.older");
            refused(world.ask(&Request::Evaluate { import }), "state.older");
            refused(world.decide(import, EVE, Decision::Reject), "state.older");
            refused(world.ask(&Request::Sweep { pretend: false }), "state.older");
            assert_eq!(world.import(&Bundle::new(3, "0.3"), 3).unwrap_err().code, "state.older");
        }
        assert!(status(&world).older);
        world.start_updaterd();
    }
    assert_eq!(world.records().len(), records, "nothing is done as if it were new");
    assert_eq!(world.active(), Some(one.generation()), "what is served goes on");
    world.stop_updaterd();
    let database = world.config.paths.supply_database();
    for ending in ["", "-wal", "-shm"] {
        fs::remove_file(beside(&database, ending)).unwrap_or_default();
    }
    world.start_updaterd();
    world.ask(&Request::Rebuild).unwrap();
    wait_until(|| !status(&world).older).unwrap();
    world.ask(&Request::Rollback { to: Some(two.generation()) }).unwrap();
}

#[test]
fn a_canary_of_what_nobody_approves_any_more_ends() {
    let mut world = World::enrolled();
    world.promoted(&Bundle::new(1, "0.5"), 1);
    let import = world.approved(&Bundle::new(2, "0.4"), 2);
    begin(&world, Kind::Canary, import);
    world.stop_updaterd();
    let mut state = State::open(&world.config.paths.supply_database()).unwrap();
    let problem = cloister_wire::Problem::new(
        cloister_domain::Class::Refused,
        "approval.rejected",
        "as a crash leaves it that comes before the canary's end",
    );
    state.refuse(import, &problem, cloister_domain::RecordIndex(1)).unwrap();
    drop(state);
    world.start_updaterd();
    let ended = || world.review(import).trials[0].ended;
    wait_until(|| ended().is_some()).expect("it ends");
    assert_eq!(ended(), Some(End::Void));
}

#[test]
fn an_intent_that_was_cut_off_uses_a_leave_up() {
    let mut world = World::with("evaluation_required = false");
    world.enrol();
    let one = Bundle::new(1, "0.5");
    world.promoted(&one, 1);
    let two = Bundle::asking(2, |release| release.min_release_counter = 2);
    world.promoted(&two, 2);
    let (from, to) = (two.generation(), one.generation());
    for person in [EVE, FLO] {
        let log = world.review(ImportId(2)).package.unwrap().log;
        let envelope = bundle::consent(person, Matter::Downgrade { to, from }, log);
        world.ask(&Request::Consent { envelope }).unwrap();
    }
    let drawn = draw(&mut world, Series::Activation);
    let facts = serde_json::json!({ "activation": drawn, "kind": "downgrade" });
    let subject = [("bundle", to.0), ("from", from.0)];
    let act = format!("activation/{drawn}/intent");
    world.append(Event::ActivationIntent, &act, &subject, &facts);
    world.start_updaterd();
    wait_until(|| world.activations() == (3, 3)).expect("it has its outcome");
    refused(world.ask(&Request::Rollback { to: Some(to) }), "bundle.rollback");
    assert_eq!(world.active(), Some(from));
}

#[test]
fn a_pin_that_only_the_log_took_is_one_and_so_is_its_end() {
    let mut world = World::enrolled();
    let bundle = Bundle::new(1, "0.5");
    world.promoted(&bundle, 1);
    let about = [("bundle", bundle.generation().0)];
    let pinned = |world: &World| status(world).generations[0].kept.contains(&Reason::Pinned);
    for (number, wanted) in [(1, true), (2, false)] {
        let facts = serde_json::json!({ "pinned": wanted });
        world.append(Event::Pin, &format!("pin/of-the-log/{number}"), &about, &facts);
        world.start_updaterd();
        wait_until(|| pinned(&world) == wanted).expect("the log has it");
    }
}
