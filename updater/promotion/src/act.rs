//! What may be asked for, and what follows.

use std::collections::BTreeSet;

use cloister_domain::{GenerationId, ImportId, Principal};
use cloister_wire::supply::ImportState;

use crate::{Canary, Decision, Leave, Scope, World};

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// To count a person's decision about an import.
    Decide {
        /// The import that has the package which the decision names.
        import: ImportId,
        /// The decision.
        decision: Decision,
    },
    /// To judge a release again, because the policy changed or its approvals expired.
    Evaluate {
        /// The import.
        import: ImportId,
    },
    /// To answer some people by an approved release.
    StartCanary {
        /// The import that brought it.
        import: ImportId,
        /// Whom.
        scope: Scope,
    },
    /// To answer everybody by the active release again.
    EndCanary,
    /// To make an approved release active.
    Activate {
        /// The import that brought it.
        import: ImportId,
    },
    /// To return to a release that was active.
    Rollback {
        /// The release.
        to: GenerationId,
        /// The leaves to go below the floor that were signed.
        leaves: Vec<Leave>,
    },
}

/// Why what is active changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A new release, by its approvals.
    Activate,
    /// A former one.
    Rollback,
    /// A former one below the floor, by a signed leave.
    Downgrade,
}

/// What an allowed act changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A decision counts.
    Decided {
        /// The import.
        import: ImportId,
        /// The decision.
        decision: Decision,
        /// Where the import goes, if it moves.
        to: Option<ImportState>,
    },
    /// A release is to be judged anew; what was decided about it is void.
    Evaluating {
        /// The import.
        import: ImportId,
    },
    /// A canary begins.
    CanaryStarted {
        /// The canary.
        canary: Canary,
        /// Whose approvals carry it.
        persons: BTreeSet<Principal>,
    },
    /// The canary ends.
    CanaryEnded,
    /// Another release is active.
    Switched {
        /// Why.
        kind: Kind,
        /// The import that brought it; absent for a return.
        import: Option<ImportId>,
        /// The release.
        to: GenerationId,
        /// Whose approvals, or whose leave, carry it.
        persons: BTreeSet<Principal>,
    },
}

impl World {
    /// The books after `change`. Every change leaves at least one record.
    pub fn apply(&mut self, change: &Change) {
        self.log_size = self.log_size.saturating_add(1);
        match change {
            Change::Decided { import, decision, to } => {
                if let Some(candidate) = self.candidates.get_mut(import) {
                    candidate.decisions.push(decision.clone());
                    candidate.state = to.unwrap_or(candidate.state);
                }
            }
            Change::Evaluating { import } => {
                if let Some(candidate) = self.candidates.get_mut(import) {
                    candidate.state = ImportState::Evaluating;
                    candidate.decisions.clear();
                }
            }
            Change::CanaryStarted { canary, .. } => self.canary = Some(canary.clone()),
            Change::CanaryEnded => self.canary = None,
            Change::Switched { import, to, .. } => {
                self.last_switch = self.log_size;
                self.active = Some(*to);
                self.canary = None;
                if let Some(generation) = self.generations.get_mut(to) {
                    generation.promoted = true;
                }
                let candidate = import.and_then(|import| self.candidates.get_mut(&import));
                if let Some(candidate) = candidate {
                    candidate.state = ImportState::Activated;
                }
            }
        }
    }
}
