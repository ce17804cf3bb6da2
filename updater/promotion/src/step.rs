//! The one function.

use std::collections::BTreeSet;

use cloister_domain::{GenerationId, ImportId, Principal};
use cloister_wire::supply::ImportState;

use crate::{
    Act, Canary, Candidate, Change, Decision, Kind, Leave, Package, Refusal, Rule, Scope, Verdict,
    World,
};

/// What `act` changes in `world`, or why it does not happen.
///
/// # Errors
/// [`Refusal`], one variant for each condition that is not met.
pub fn step(world: &World, act: &Act) -> Result<Change, Refusal> {
    step_enforcing(&Rule::ALL, world, act)
}

/// As [`step()`], with only the rules of `enforced`. An appliance enforces [`Rule::ALL`]; the search
/// leaves one out at a time.
///
/// # Errors
/// As [`step()`].
pub fn step_enforcing(enforced: &[Rule], world: &World, act: &Act) -> Result<Change, Refusal> {
    let judge = Judge { enforced, world };
    match act {
        Act::Decide { import, decision } => judge.decide(*import, decision),
        Act::Evaluate { import } => judge.evaluate(*import),
        Act::StartCanary { import, scope } => judge.start_canary(*import, scope),
        Act::EndCanary if world.canary.is_none() => Err(Refusal::NoCanary),
        Act::EndCanary => Ok(Change::CanaryEnded),
        Act::Activate { import } => judge.activate(*import),
        Act::Rollback { to, leaves } => judge.roll_back(*to, leaves),
    }
}

struct Judge<'a> {
    enforced: &'a [Rule],
    world: &'a World,
}

impl Judge<'_> {
    fn enforces(&self, rule: Rule) -> bool {
        self.enforced.contains(&rule)
    }

    /// Refuses unless `holds`, as far as `rule` is enforced.
    fn ask(&self, rule: Rule, holds: bool, refusal: Refusal) -> Result<(), Refusal> {
        if holds || !self.enforces(rule) { Ok(()) } else { Err(refusal) }
    }

    fn candidate(&self, import: ImportId) -> Result<(&Candidate, Package), Refusal> {
        let candidate = self.world.candidates.get(&import).ok_or(Refusal::Package)?;
        let package =
            candidate.package.ok_or(Refusal::NotApproved { import, state: candidate.state })?;
        Ok((candidate, package))
    }

    fn decide(&self, import: ImportId, decision: &Decision) -> Result<Change, Refusal> {
        let (candidate, package) = self.candidate(import)?;
        let state = candidate.state;
        let open = matches!(state, ImportState::AwaitingApproval | ImportState::Approved);
        self.ask(Rule::State, open, Refusal::NotOpen { import, state })?;
        self.ask(Rule::Package, decision.package.digest == package.digest, Refusal::Package)?;
        let same = decision.generation == candidate.generation
            && (decision.package.digest != package.digest || decision.package == package);
        self.ask(Rule::Bound, same, Refusal::Package)?;
        self.fresh(decision)?;
        let rejects = decision.verdict == Verdict::Reject;
        self.ask(Rule::Judged, rejects || is_since(decision, candidate), Refusal::Superseded)?;
        // Who brought it in may say that it must not be served.
        let stranger = !candidate.importers.contains(&decision.person);
        self.ask(Rule::Importer, stranger || rejects, Refusal::Importer)?;
        let before = || candidate.decisions.iter().filter(|held| self.counts(held, candidate));
        let first = !before().any(|held| held.person == decision.person);
        self.ask(Rule::Once, first || rejects, Refusal::Once)?;
        let to = if rejects && self.enforces(Rule::Veto) {
            Some(ImportState::Refused)
        } else if state == ImportState::AwaitingApproval {
            let all: Vec<&Decision> = before().chain([decision]).collect();
            self.enough(&all).is_ok().then_some(ImportState::Approved)
        } else {
            None
        };
        Ok(Change::Decided { import, decision: decision.clone(), to })
    }

    fn evaluate(&self, import: ImportId) -> Result<Change, Refusal> {
        let (candidate, _package) = self.candidate(import)?;
        match candidate.state {
            ImportState::AwaitingApproval | ImportState::Approved => {
                Ok(Change::Evaluating { import })
            }
            state => Err(Refusal::NotJudged { import, state }),
        }
    }

    fn start_canary(&self, import: ImportId, scope: &Scope) -> Result<Change, Refusal> {
        let (generation, persons) = self.approved(import)?;
        if self.world.canary.is_some() {
            return Err(Refusal::CanaryUnderWay);
        }
        let canary = Canary { import, generation, scope: scope.clone() };
        Ok(Change::CanaryStarted { canary, persons })
    }

    fn activate(&self, import: ImportId) -> Result<Change, Refusal> {
        let (to, persons) = self.approved(import)?;
        Ok(Change::Switched { kind: Kind::Activate, import: Some(import), to, persons })
    }

    /// The release of `import` and the persons whose approvals let it be served.
    fn approved(&self, import: ImportId) -> Result<(GenerationId, BTreeSet<Principal>), Refusal> {
        let (candidate, package) = self.candidate(import)?;
        let state = candidate.state;
        let counted: Vec<&Decision> =
            candidate.decisions.iter().filter(|held| self.counts(held, candidate)).collect();
        match state {
            ImportState::Approved | ImportState::Activated => {}
            // Who asks too early is told what is missing.
            ImportState::AwaitingApproval => self.enough(&counted)?,
            _ => self.ask(Rule::State, false, Refusal::NotApproved { import, state })?,
        }
        self.ask(Rule::Policy, package.policy == candidate.policy, Refusal::Policy { import })?;
        let rejected = candidate.decisions.iter().any(|held| held.verdict == Verdict::Reject);
        self.ask(Rule::Veto, !rejected, Refusal::Rejected)?;
        if let Err(few) = self.enough(&counted) {
            let stale = candidate.decisions.iter().find_map(|held| self.fresh(held).err());
            return Err(stale.unwrap_or(few));
        }
        let generation = candidate.generation;
        self.servable(generation)?;
        self.ask(Rule::Floor, !self.is(generation, |found| found.below_floor), Refusal::Floor)?;
        Ok((generation, counted.iter().map(|held| held.person.clone()).collect()))
    }

    fn roll_back(&self, to: GenerationId, leaves: &[Leave]) -> Result<Change, Refusal> {
        let promoted = self.is(to, |found| found.promoted);
        self.ask(Rule::Promoted, promoted, Refusal::NeverPromoted { generation: to })?;
        self.servable(to)?;
        let (kind, persons) = if !self.is(to, |found| found.below_floor) {
            (Kind::Rollback, BTreeSet::new())
        } else if leaves.is_empty() {
            self.ask(Rule::Floor, false, Refusal::Floor)?;
            (Kind::Rollback, BTreeSet::new())
        } else {
            (Kind::Downgrade, self.let_down(to, leaves)?)
        };
        Ok(Change::Switched { kind, import: None, to, persons })
    }

    /// The persons whose leaves let the facility go below the floor, if they are enough.
    fn let_down(&self, to: GenerationId, leaves: &[Leave]) -> Result<BTreeSet<Principal>, Refusal> {
        let counted: Vec<&Leave> =
            leaves.iter().filter(|leave| self.allows(leave, to).is_ok()).collect();
        let persons: BTreeSet<Principal> =
            counted.iter().map(|leave| leave.person.clone()).collect();
        let have = if self.enforces(Rule::Once) { persons.len() } else { counted.len() };
        self.threshold(have).map_err(|few| {
            // Who brings a leave that does not count is told why.
            leaves.iter().find_map(|leave| self.allows(leave, to).err()).unwrap_or(few)
        })?;
        Ok(persons)
    }

    fn allows(&self, leave: &Leave, to: GenerationId) -> Result<(), Refusal> {
        let these = leave.to == to && Some(leave.from) == self.world.active;
        self.ask(Rule::LeaveBound, these, Refusal::LeaveBound)?;
        let unused = leave.log_size >= self.world.last_switch;
        self.ask(Rule::LeaveOnce, unused, Refusal::LeaveOnce)?;
        self.in_time(leave.log_size)
    }

    /// What holds for everything that is to be served.
    fn servable(&self, generation: GenerationId) -> Result<(), Refusal> {
        if self.world.active == Some(generation) {
            return Err(Refusal::AlreadyActive { generation });
        }
        let retained = self.is(generation, |found| found.retained);
        self.ask(Rule::Retained, retained, Refusal::NotRetained { generation })?;
        self.ask(Rule::Revoked, !self.is(generation, |found| found.revoked), Refusal::Revoked)
    }

    fn is(&self, generation: GenerationId, fact: fn(&crate::Generation) -> bool) -> bool {
        self.world.generations.get(&generation).is_some_and(fact)
    }

    /// Whether a decision counts for the candidate as it stands.
    fn counts(&self, held: &Decision, candidate: &Candidate) -> bool {
        let bound = held.generation == candidate.generation || !self.enforces(Rule::Bound);
        let package = candidate.package == Some(held.package) || !self.enforces(Rule::Package);
        let stranger =
            !candidate.importers.contains(&held.person) || !self.enforces(Rule::Importer);
        let since = is_since(held, candidate) || !self.enforces(Rule::Judged);
        bound && package && stranger && since && self.fresh(held).is_ok()
    }

    fn fresh(&self, decision: &Decision) -> Result<(), Refusal> {
        self.in_time(decision.log_size)
    }

    /// Whether what was signed for a log of `signed` records still counts.
    fn in_time(&self, signed: u64) -> Result<(), Refusal> {
        let now = self.world.log_size;
        let max = self.world.facility.approval_records_max;
        let age = now.checked_sub(signed);
        self.ask(Rule::Fresh, age.is_some(), Refusal::Future { signed, now })?;
        let expired = age.is_some_and(|age| age > max);
        self.ask(Rule::Fresh, !expired, Refusal::Expired { signed, now, max })
    }

    /// Whether enough persons approved among decisions that count.
    fn enough(&self, counted: &[&Decision]) -> Result<(), Refusal> {
        let approving = counted.iter().filter(|held| held.verdict == Verdict::Approve);
        let persons = approving.clone().map(|held| &held.person).collect::<BTreeSet<_>>().len();
        self.threshold(if self.enforces(Rule::Once) { persons } else { approving.count() })
    }

    fn threshold(&self, have: usize) -> Result<(), Refusal> {
        let have = u64::try_from(have).unwrap_or(u64::MAX);
        let needed = self.world.facility.approvals_needed;
        self.ask(Rule::Threshold, have >= needed, Refusal::Threshold { have, needed })
    }
}

/// Whether the candidate was shown to the person as it was judged last.
const fn is_since(decision: &Decision, candidate: &Candidate) -> bool {
    decision.log_size >= candidate.judged_at
}
