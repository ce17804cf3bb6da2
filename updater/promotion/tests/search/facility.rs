//! The small facility: its books, all acts that can be asked for, and what else happens.

use std::collections::{BTreeMap, BTreeSet};

use cloister_domain::{Digest, GenerationId, ImportId, Principal};
use cloister_promotion::{
    Act, Candidate, Decision, Facility, Generation, Leave, Package, Scope, Verdict, World,
};
use cloister_wire::supply::ImportState;

/// The person who operated the import, and an approver.
pub(crate) const IMPORTER: &str = ADA;
pub(crate) const ADA: &str = "ada";
pub(crate) const BOB: &str = "bob";
const CYD: &str = "cyd";

pub(crate) const IMPORT: ImportId = ImportId(1);

/// Active at first.
pub(crate) const FIRST: &str = "first";
/// What the import brought.
pub(crate) const NEW: &str = "new";
/// Once active, and may be returned to.
pub(crate) const OLD: &str = "old";
/// Once active, and below the floor.
const ANCIENT: &str = "ancient";

/// Records that an approval outlives.
const RECORDS_MAX: u64 = 3;
/// The size that every log is counted from, so that books differ by ages alone.
const NOW: u64 = 10;

pub(crate) fn generation(name: &str) -> GenerationId {
    GenerationId(Digest::of(name.as_bytes()))
}

fn person(name: &str) -> Principal {
    name.parse().expect("a name")
}

fn policy(number: u8) -> Digest {
    Digest::of(&[b'p', number])
}

/// The package of the first judgement, or of the second.
fn package(number: u8) -> Package {
    Package {
        digest: Digest::of(&[b'd', number]),
        policy: policy(number),
        evidence: Digest::of(&[b'e', number]),
    }
}

/// The books that every search begins with: judged, and nobody decided.
pub(crate) fn first() -> World {
    let promoted =
        Generation { retained: true, promoted: true, revoked: false, below_floor: false };
    let candidate = Candidate {
        generation: generation(NEW),
        state: ImportState::AwaitingApproval,
        importers: BTreeSet::from([person(IMPORTER)]),
        package: Some(package(1)),
        policy: policy(1),
        judged_at: NOW,
        decisions: Vec::new(),
    };
    World {
        facility: Facility { approvals_needed: 2, approval_records_max: RECORDS_MAX },
        log_size: NOW,
        last_switch: 0,
        active: Some(generation(FIRST)),
        canary: None,
        candidates: BTreeMap::from([(IMPORT, candidate)]),
        generations: BTreeMap::from([
            (generation(FIRST), promoted),
            (generation(OLD), promoted),
            (generation(ANCIENT), Generation { below_floor: true, ..promoted }),
            (generation(NEW), Generation { promoted: false, ..promoted }),
        ]),
    }
}

/// The same books with the log at [`NOW`], decisions in one order, and what has expired all of one
/// age: what is left differs where an act could tell. When the release was judged last is forgotten unless the
/// search is about `judgements`.
pub(crate) fn normal(mut world: World, judgements: bool) -> World {
    let past = world.log_size - NOW;
    world.log_size = NOW;
    // No leave that could still count is older.
    let since_switch = (NOW + past).saturating_sub(world.last_switch).min(2);
    world.last_switch = NOW - since_switch;
    for candidate in world.candidates.values_mut() {
        // Longer ago than any approval that still counts.
        let age = (NOW + past).saturating_sub(candidate.judged_at).min(RECORDS_MAX);
        candidate.judged_at = if judgements { NOW - age } else { 0 };
        for decision in &mut candidate.decisions {
            let age = (NOW + past).saturating_sub(decision.log_size).min(RECORDS_MAX + 1);
            decision.log_size = if decision.log_size > NOW + past { NOW + 1 } else { NOW - age };
        }
        candidate.decisions.sort();
        candidate.decisions.dedup();
    }
    world
}

/// Everything that anybody could ask for.
pub(crate) fn acts(world: &World) -> Vec<Act> {
    let mut acts = vec![
        Act::Evaluate { import: IMPORT },
        Act::StartCanary { import: IMPORT, scope: Scope::Share { permille: 10 } },
        Act::EndCanary,
        Act::Activate { import: IMPORT },
    ];
    acts.extend(decisions().map(|decision| Act::Decide { import: IMPORT, decision }));
    for to in [FIRST, NEW, OLD, ANCIENT] {
        let leaves = leaves(world).chain([Vec::new()]);
        acts.extend(leaves.map(|leaves| Act::Rollback { to: generation(to), leaves }));
    }
    acts
}

/// Everything that an approver can sign.
fn decisions() -> impl Iterator<Item = Decision> {
    let packages =
        [package(1), package(2), Package { evidence: package(2).evidence, ..package(1) }];
    let about = packages.into_iter().flat_map(|package| {
        let ages = [NOW + 1, NOW, NOW - RECORDS_MAX, NOW - RECORDS_MAX - 1];
        ages.map(|log_size| (NEW, package, log_size))
    });
    let about = about.chain([(FIRST, package(1), NOW)]);
    about.flat_map(|(of, package, log_size)| {
        [ADA, BOB, CYD].into_iter().flat_map(move |name| {
            [Verdict::Approve, Verdict::Reject].map(|verdict| Decision {
                person: person(name),
                verdict,
                generation: generation(of),
                package,
                log_size,
            })
        })
    })
}

/// What matters where a release is judged again: approvals of now and of before, the acts of that.
pub(crate) fn acts_of_judgements() -> Vec<Act> {
    let of = |name, age| Decision {
        person: person(name),
        verdict: Verdict::Approve,
        generation: generation(NEW),
        package: package(1),
        log_size: NOW - age,
    };
    // None has expired once both have decided.
    let decisions = [of(BOB, 0), of(BOB, 1), of(CYD, 0), of(CYD, 2)];
    let acts = decisions.map(|decision| Act::Decide { import: IMPORT, decision });
    let others = [Act::Evaluate { import: IMPORT }, Act::Activate { import: IMPORT }];
    acts.into_iter().chain(others).collect()
}

/// Everything that approvers can sign about the ancient release: one of them, both, or one twice.
fn leaves(world: &World) -> impl Iterator<Item = Vec<Leave>> {
    let active = world.active.unwrap_or(generation(FIRST));
    let both = [(ANCIENT, active), (OLD, active), (ANCIENT, generation(NEW))];
    both.into_iter().flat_map(|(to, from)| {
        let ages = [NOW + 1, NOW, NOW - 1, NOW - RECORDS_MAX - 1];
        ages.into_iter().flat_map(move |log_size| {
            let persons: [&[&str]; 3] = [&[BOB], &[BOB, CYD], &[BOB, BOB]];
            persons.map(|persons| {
                let leave = |name: &&str| Leave {
                    person: person(name),
                    to: generation(to),
                    from,
                    log_size,
                };
                persons.iter().map(leave).collect()
            })
        })
    })
}

/// What happens without anybody of the facility asking for it on this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    /// An evaluation that was asked for ends well, with other figures.
    Judged,
    /// The facility's configuration changes.
    PolicyChanged,
    /// A stick takes the new release back.
    Revoked,
    /// Another release of the name is promoted elsewhere in the books, and the floor rises.
    FloorRaised,
    /// The shelf loses a former release.
    Swept,
    /// Other records are written.
    Recorded,
}

impl Happening {
    pub(crate) const ALL: [Self; 6] = [
        Self::Judged,
        Self::PolicyChanged,
        Self::Revoked,
        Self::FloorRaised,
        Self::Swept,
        Self::Recorded,
    ];

    /// The books after it; `None` where it cannot happen, or has.
    pub(crate) fn to(self, world: &World) -> Option<World> {
        let mut next = world.clone();
        next.log_size += 1;
        let candidate = next.candidates.get_mut(&IMPORT).expect("there from the beginning");
        let generations = &mut next.generations;
        let mut mark = |name: &str, mark: fn(&mut Generation)| {
            mark(generations.get_mut(&generation(name)).expect("there from the beginning"));
        };
        match self {
            Self::Judged if candidate.state == ImportState::Evaluating => {
                let number = if candidate.policy == policy(1) { 1 } else { 2 };
                candidate.state = ImportState::AwaitingApproval;
                candidate.package = Some(package(number));
                candidate.judged_at = next.log_size;
            }
            Self::Judged => return None,
            Self::PolicyChanged => candidate.policy = policy(2),
            Self::Revoked => mark(NEW, |found| found.revoked = true),
            Self::FloorRaised => mark(NEW, |found| found.below_floor = true),
            Self::Swept => mark(OLD, |found| found.retained = false),
            Self::Recorded => {}
        }
        (next != *world).then_some(next)
    }
}
