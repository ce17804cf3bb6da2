//! What must be true of a switch, whatever led to it. Nothing here looks at a rule.

use std::collections::BTreeSet;

use cloister_promotion::{Act, Change, Decision, Leave, Verdict, World};
use cloister_wire::supply::ImportState;

use crate::facility::{IMPORT, IMPORTER};

/// Whether `change`, which `act` makes in `world`, may happen.
pub(crate) fn allow(world: &World, act: &Act, change: &Change) -> bool {
    let (import, to) = match change {
        Change::Switched { import, to, .. } => (*import, *to),
        Change::CanaryStarted { canary, .. } => (Some(canary.import), canary.generation),
        _ => return true,
    };
    let facts = world.generations[&to];
    if !facts.retained || facts.revoked {
        return false;
    }
    match import {
        Some(_) => !facts.below_floor && two_others_want_it(world),
        None => facts.promoted && (!facts.below_floor || has_leave(world, act)),
    }
}

/// Two persons other than the importing one signed for exactly this, lately, and nobody against it.
fn two_others_want_it(world: &World) -> bool {
    let candidate = &world.candidates[&IMPORT];
    let judged = matches!(
        candidate.state,
        ImportState::AwaitingApproval | ImportState::Approved | ImportState::Activated
    );
    let exactly = |decision: &&Decision| {
        decision.verdict == Verdict::Approve
            && decision.generation == candidate.generation
            && Some(decision.package) == candidate.package
            && decision.package.policy == candidate.policy
            && decision.person.as_str() != IMPORTER
            && decision.log_size >= candidate.judged_at
            && decision.log_size <= world.log_size
            && world.log_size - decision.log_size <= world.facility.approval_records_max
    };
    let persons: BTreeSet<_> =
        candidate.decisions.iter().filter(exactly).map(|decision| &decision.person).collect();
    let against = candidate.decisions.iter().any(|decision| decision.verdict == Verdict::Reject);
    judged && !against && persons.len() >= 2
}

/// Two persons signed for this return, of this release, lately and after the last switch.
fn has_leave(world: &World, act: &Act) -> bool {
    let Act::Rollback { to, leaves } = act else { return false };
    let counts = |leave: &&Leave| {
        leave.to == *to
            && Some(leave.from) == world.active
            && leave.log_size >= world.last_switch
            && leave.log_size <= world.log_size
            && world.log_size - leave.log_size <= world.facility.approval_records_max
    };
    let persons: BTreeSet<_> = leaves.iter().filter(counts).map(|leave| &leave.person).collect();
    persons.len() >= 2
}
