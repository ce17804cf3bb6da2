//! Every sequence of acts of a small facility, driven through the function that updaterd runs.
//!
//! The facility has an active release, two former ones and one import. Three approvers, one of whom
//! operated the import, sign whatever can be signed: for this package and
//! for another, at each age, in each order. Meanwhile the release is judged anew, the policy changes, the
//! importer takes releases back, the floor rises and the shelf loses one. What the search demands of each switch is
//! said a second time, in `demands.rs`, without the rules' help.

mod demands;
mod facility;

use std::collections::{BTreeSet, VecDeque};

use cloister_domain::GenerationId;
use cloister_promotion::{Act, Rule, World, step, step_enforcing};

use facility::{ADA, BOB, FIRST, Happening, NEW, OLD};

/// States that a search may reach before it is called lost; a whole one reaches far fewer.
const STATES_MAX: usize = 2_000_000;

/// What the search found.
struct Found {
    /// What was active at some time, or a canary.
    served: BTreeSet<GenerationId>,
    /// The first forbidden switch: the books before it, and the act.
    forbidden: Option<(World, Act)>,
}

/// All books that can be reached by acts that `may` lets through, under `enforced`.
fn search(enforced: &[Rule], may: impl Fn(&Act) -> bool) -> Found {
    let acts = |world: &World| {
        facility::acts(world).into_iter().filter(|act| may(act)).collect::<Vec<_>>()
    };
    search_by(enforced, acts, false)
}

/// The same where a release is judged again and again.
fn search_judgements(enforced: &[Rule]) -> Found {
    search_by(enforced, |_world| facility::acts_of_judgements(), true)
}

fn search_by(enforced: &[Rule], acts: impl Fn(&World) -> Vec<Act>, judgements: bool) -> Found {
    let first = facility::first();
    let mut seen = BTreeSet::from([first.clone()]);
    let mut open = VecDeque::from([first]);
    let mut served = BTreeSet::new();
    while let Some(world) = open.pop_front() {
        served.extend(world.active);
        served.extend(world.canary.iter().map(|canary| canary.generation));
        let mut reach = |next: World| {
            let next = facility::normal(next, judgements);
            if seen.insert(next.clone()) {
                open.push_back(next);
            }
        };
        for happening in Happening::ALL {
            happening.to(&world).into_iter().for_each(&mut reach);
        }
        for act in acts(&world) {
            let Ok(change) = step_enforcing(enforced, &world, &act) else { continue };
            if !demands::allow(&world, &act, &change) {
                return Found { served, forbidden: Some((world, act)) };
            }
            let mut next = world.clone();
            next.apply(&change);
            reach(next);
        }
        assert!(seen.len() < STATES_MAX, "the facility is too large to be searched");
    }
    Found { served, forbidden: None }
}

#[test]
fn no_sequence_of_acts_serves_what_may_not_be_served() {
    let found = search(&Rule::ALL, |_act| true);
    assert!(found.forbidden.is_none(), "{:#?}", found.forbidden);
    assert!(found.served.contains(&facility::generation(NEW)), "nothing new is ever served");
    let found = search_judgements(&Rule::ALL);
    assert!(found.forbidden.is_none(), "{:#?}", found.forbidden);
    assert!(found.served.contains(&facility::generation(NEW)), "nothing judged again is served");
}

#[test]
fn each_rule_that_is_left_out_lets_something_through() {
    for rule in Rule::ALL {
        let others: Vec<Rule> = Rule::ALL.into_iter().filter(|other| *other != rule).collect();
        let found = match rule {
            Rule::Judged => search_judgements(&others),
            _ => search(&others, |_act| true),
        };
        let (world, act) = found.forbidden.unwrap_or_else(|| panic!("{rule:?} is not needed"));
        assert!(step(&world, &act).is_err(), "{rule:?} is what stops this act");
    }
}

#[test]
fn one_person_alone_returns_to_former_releases_and_no_more() {
    for person in [ADA, BOB] {
        let found = search(&Rule::ALL, |act| match act {
            Act::Decide { decision, .. } => decision.person.as_str() == person,
            Act::Rollback { leaves, .. } => {
                leaves.iter().all(|leave| leave.person.as_str() == person)
            }
            _ => true,
        });
        let former = [FIRST, OLD].map(facility::generation);
        assert_eq!(found.served, BTreeSet::from(former), "{person} alone");
    }
}
