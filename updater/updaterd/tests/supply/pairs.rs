//! Every pair of operations that are started together comes to one of the two outcomes that it would
//! come to one after the other. `CLOISTER_PAIRS_SEED` and `CLOISTER_PAIRS_ROUNDS` say where the rounds
//! begin and how many there are; each begins the two operations at another distance.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    process::Command,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use cloister_attest::approval::Decision;
use cloister_config::{Config, Role};
use cloister_daemon::Connection;
use cloister_domain::{Class, ImportId};
use cloister_record::{Trust, verify};
use cloister_wire::{
    Problem, Reply, record,
    supply::{Answer, ImportState, Reason, Request},
};

use crate::{
    status,
    support::{
        World,
        bundle::{self, Bundle, EVE, FLO},
        export, wait_until,
    },
};

/// Rounds of a run that is not told how many.
const ROUNDS: u64 = 1;
/// Worlds that are played at a time; most of the time they wait for the disk.
const AT_A_TIME: usize = 4;
/// The longest distance between the two beginnings.
const APART_MICROSECONDS: u64 = 40_000;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Import,
    Approve,
    Promote,
    RollBack,
    Sweep,
    Scrub,
    Export,
}

use Operation as O;

const ALL: [Operation; 7] =
    [O::Import, O::Approve, O::Promote, O::RollBack, O::Sweep, O::Scrub, O::Export];

/// What an appliance came to, as far as a serial order would decide it.
#[derive(PartialEq, Eq)]
struct Outcome {
    /// How each of the two ended.
    replies: [String; 2],
    active: Option<u64>,
    /// The shelf: counters, with what speaks for each.
    shelf: Vec<String>,
    /// Imports: where they stand, who approved, what was measured beside what.
    imports: Vec<String>,
    /// How often each thing was recorded.
    records: BTreeMap<String, usize>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { replies, active, shelf, imports, records } = self;
        write!(f, "{replies:?} active {active:?}\n{shelf:#?}\n{imports:#?}\n{records:?}")
    }
}

/// A state that every round begins with: three releases were active, the first is pinned and has
/// nothing else, a fourth is approved, and a fifth has one approval.
struct Beginning(tempfile::TempDir);

const MORE: &str = "retained_max = 1\nprobation_s = 0";

impl Beginning {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let kept = tempfile::tempdir().unwrap();
        let mut world = World::at(place, MORE);
        world.enrol();
        for counter in 1..=3 {
            let bundle = Bundle::new(counter, "0.5");
            world.promoted(&bundle, counter);
            if counter == 1 {
                let generation = bundle.generation();
                world.ask(&Request::Pin { generation, pinned: true }).unwrap();
            }
        }
        assert_eq!(world.approved(&Bundle::new(4, "0.5"), 4), ImportId(4));
        let fifth = world.import(&Bundle::new(5, "0.5"), 5).unwrap();
        world.until(fifth, ImportState::AwaitingApproval);
        world.decide(fifth, EVE, Decision::Approve).unwrap();
        settle(&world);
        world.stop_updaterd();
        world.stop_recordd();
        copy(&world.config.paths.state, &kept.path().join("state"));
        Self(kept)
    }

    fn world(&self) -> World {
        let place = tempfile::tempdir().unwrap();
        copy(&self.0.path().join("state"), &place.path().join("state"));
        let world = World::at(place, MORE);
        settle(&world);
        world
    }
}

/// With hard links and symbolic links as they are.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

/// Waits until nothing goes on by itself any more.
fn settle(world: &World) {
    let over = |world: &World| {
        use ImportState::{Evaluating, Received, Receiving};
        let status = status(world);
        let at_rest = |state: ImportState| !matches!(state, Receiving | Received | Evaluating);
        let Answer::Swept { generations, .. } =
            world.ask(&Request::Sweep { pretend: true }).unwrap()
        else {
            panic!("no sweep")
        };
        generations.is_empty() && status.imports.iter().all(|import| at_rest(import.state))
    };
    wait_until(|| over(world)).expect("it comes to rest");
}

/// Does it, again as long as it is told that something else is busy, and says how it ended. The second
/// of two equal ones is told apart where that must be.
fn play(world: &World, operation: Operation, second: bool) -> String {
    let told =
        |reply: Result<(), Problem>| reply.map_or_else(|problem| problem.code, |()| "ok".into());
    let patiently = |once: &dyn Fn() -> Result<(), Problem>| {
        let mut last = Ok(());
        wait_until(|| {
            last = once();
            !last.as_ref().is_err_and(|problem| problem.class == Class::Busy)
        })
        .expect("not busy for ever");
        told(last)
    };
    let ask = |request: Request| patiently(&|| world.ask(&request).map(drop));
    match operation {
        O::Import => {
            let counter = if second { 7 } else { 6 };
            let bundle = Bundle::new(counter, "0.5");
            patiently(&|| {
                let import = world.import(&bundle, counter)?;
                world.until(import, ImportState::AwaitingApproval);
                Ok(())
            })
        }
        O::Approve => patiently(&|| world.decide(ImportId(5), FLO, Decision::Approve).map(drop)),
        O::Promote => ask(Request::Activate { import: ImportId(4) }),
        O::RollBack => ask(Request::Rollback { to: None }),
        O::Sweep => {
            let generation = Bundle::new(1, "0.5").generation();
            ask(Request::Pin { generation, pinned: false })
        }
        O::Scrub => ask(Request::Scrub),
        O::Export => {
            check_export(&world.config);
            "ok".to_owned()
        }
    }
}

/// What an auditor gets, whenever it is asked for, is a whole log.
fn check_export(config: &Config) {
    let connection = Connection::connect(&config.paths.socket(Role::Recordd)).unwrap();
    let head: Reply<record::Answer> = connection.ask(&record::Request::Head).unwrap();
    let Ok(record::Answer::Head { log_key, .. }) = head else { panic!("{head:?}") };
    let export = export(config);
    let (root, approvers) = cloister_verify::auditors_view(&[bundle::root().as_bytes()]).unwrap();
    let trust = Trust { log: log_key.parse().unwrap(), root, approvers, policy: None };
    let report = verify(&export, &trust);
    assert!(report.faults.is_empty(), "{:?}", report.faults);
}

fn outcome(world: &World, replies: [String; 2]) -> Outcome {
    settle(world);
    let status = status(world);
    let shelf = status.generations.iter().map(|one| {
        // Numbers of imports are given out in the order of their beginnings.
        let why = one.kept.iter().map(|why| match why {
            Reason::Import(_) => "import".to_owned(),
            other => other.to_string(),
        });
        let why: Vec<String> = why.collect();
        format!("{} promoted {} {why:?}", one.counter, one.promoted)
    });
    let imports = status.imports.iter().map(|import| {
        // One that is refused may have been seen before, or not.
        let refused = import.state == ImportState::Refused;
        let summary = import.summary.as_ref().filter(|_summary| !refused);
        let counter = summary.map(|summary| summary.counter);
        let code = import.problem.as_ref().map(|problem| problem.code.as_str());
        let measured: Vec<_> = import
            .figures
            .iter()
            .map(|figure| (figure.name.as_str(), figure.active.is_some(), figure.passed))
            .collect();
        let by = &import.approved_by;
        format!("{counter:?} {} {code:?} {by:?} {measured:?}", import.state)
    });
    let mut imports: Vec<String> = imports.collect();
    imports.sort();
    let mut records = BTreeMap::new();
    for (event, facts) in world.records() {
        let fact = |name: &str| facts.get(name).and_then(|fact| fact.as_str()).unwrap_or("-");
        let (code, outcome) = (fact("code"), fact("outcome"));
        // How many releases one record of a sweep names is nobody's promise, nor how far a release came
        // in that is refused in the end, nor how often newer metadata came. Each world has its own paths.
        let passed_over = ["sweep", "media-seen", "inspection", "trust-update", "configuration"];
        if !passed_over.contains(&event.as_str()) {
            *records.entry(format!("{event} {code} {outcome}")).or_default() += 1;
        }
    }
    check_export(&world.config);
    let active = status.generations.iter().find(|one| one.active).map(|one| one.counter);
    Outcome { replies, active, shelf: shelf.collect(), imports, records }
}

/// One after the other; the replies stand in the order of the pair.
fn serial(beginning: &Beginning, pair: [Operation; 2], turned: bool) -> Outcome {
    let world = beginning.world();
    let mut replies = [String::new(), String::new()];
    for place in if turned { [1, 0] } else { [0, 1] } {
        replies[place] = play(&world, pair[place], is_again(pair, place));
        settle(&world);
    }
    outcome(&world, replies)
}

/// Both at once, the other one a moment after `first`.
fn together(beginning: &Beginning, pair: [Operation; 2], first: usize, apart: Duration) -> Outcome {
    let world = beginning.world();
    let (barrier, now) = (Barrier::new(2), &world);
    let begin = |place: usize| {
        barrier.wait();
        if place != first {
            thread::park_timeout(apart);
        }
        play(now, pair[place], is_again(pair, place))
    };
    let replies = thread::scope(|scope| {
        let one = scope.spawn(|| begin(0));
        let other = begin(1);
        [one.join().unwrap(), other]
    });
    outcome(&world, replies)
}

/// Whether an operation is the second of two equal ones.
fn is_again(pair: [Operation; 2], place: usize) -> bool {
    pair[0] == pair[1] && place == 1
}

/// A number that follows from the seed and two places (SplitMix64).
fn drawn(seed: u64, round: u64, number: usize) -> u64 {
    let mixed = |x: u64| {
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let golden = 0x9e37_79b9_7f4a_7c15_u64;
    mixed(mixed(seed.wrapping_add(golden)) ^ mixed(round.wrapping_mul(golden)) ^ number as u64)
}

fn told(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn two_operations_at_once_come_to_what_one_after_the_other_comes_to() {
    let (seed, rounds) = (told("CLOISTER_PAIRS_SEED", 1), told("CLOISTER_PAIRS_ROUNDS", ROUNDS));
    let mut pairs = Vec::new();
    for (number, first) in ALL.into_iter().enumerate() {
        pairs.extend(ALL.into_iter().skip(number).map(|second| [first, second]));
    }
    let beginning = Beginning::new();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _worker in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let Some(pair) = pairs.get(number) else { return };
                    check(&beginning, *pair, number, seed, rounds);
                }
            });
        }
    });
}

fn check(beginning: &Beginning, pair: [Operation; 2], number: usize, seed: u64, rounds: u64) {
    let mut orders = [None, None];
    for round in 0..rounds {
        let draw = drawn(seed, round, number);
        let first = usize::from(!draw.is_multiple_of(2));
        let apart = Duration::from_micros((draw >> 8) % APART_MICROSECONDS);
        let found = together(beginning, pair, first, apart);
        // The likelier order first; the other one is played only where it is needed.
        let is_one = [first, 1 - first].into_iter().any(|begins| {
            let kept = orders[begins].get_or_insert_with(|| serial(beginning, pair, begins == 1));
            *kept == found
        });
        assert!(
            is_one,
            "seed {seed}, round {round}, {pair:?}, {first} first by {apart:?}, came to\n{found:?}\n\n\
             one after the other they come to\n{orders:#?}"
        );
    }
}

#[test]
fn a_state_that_no_order_leads_to_is_told_from_those_that_one_does() {
    let beginning = Beginning::new();
    let pair = [O::Promote, O::RollBack];
    let one = serial(&beginning, pair, false);
    let other = serial(&beginning, pair, true);
    assert_eq!((one.active, other.active), (Some(3), Some(4)));
    assert_ne!(one, other);
    assert_eq!(one, serial(&beginning, pair, false), "the same order comes to the same");
}
