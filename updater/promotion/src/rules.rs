//! The conditions, each with a name, and what is said to whom one of them stops.

use cloister_domain::{Class, Coded, GenerationId, ImportId};
use cloister_wire::supply::ImportState;

/// One condition that the search takes away to see that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Only what was judged good is decided on, and only what is approved is activated.
    State,
    /// A decision is about the release, policy and evidence of the package that it names.
    Bound,
    /// A decision counts for the package as it is now; what was judged anew is decided on anew.
    Package,
    /// An approval is of after the last judgement, whatever was found.
    Judged,
    /// The policy that judged is the one in force.
    Policy,
    /// A decision or a leave counts for so many records, and none is from the future.
    Fresh,
    /// Who operated the import does not count as an approver.
    Importer,
    /// A person counts once.
    Once,
    /// One rejection outweighs all approvals.
    Veto,
    /// So many persons as root and configuration ask for.
    Threshold,
    /// What the importer took back is not served.
    Revoked,
    /// Below the floor only with a leave.
    Floor,
    /// Only what was once active is returned to.
    Promoted,
    /// Only what is on the shelf is served.
    Retained,
    /// A leave is for these two releases.
    LeaveBound,
    /// A leave is of after the last switch, so it serves once.
    LeaveOnce,
}

impl Rule {
    /// All of them: what an appliance enforces.
    pub const ALL: [Self; 16] = [
        Self::State,
        Self::Bound,
        Self::Package,
        Self::Judged,
        Self::Policy,
        Self::Fresh,
        Self::Importer,
        Self::Once,
        Self::Veto,
        Self::Threshold,
        Self::Revoked,
        Self::Floor,
        Self::Promoted,
        Self::Retained,
        Self::LeaveBound,
        Self::LeaveOnce,
    ];
}

/// Why an act does not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A decision about something that is not open to decisions.
    #[error("import {import} is {state}; only what awaits approval or is approved can be decided")]
    NotOpen {
        /// The import.
        import: ImportId,
        /// Where it stands.
        state: ImportState,
    },
    /// An act on an import that cannot have it because of where it stands.
    #[error("import {import} is {state} and cannot be activated")]
    NotApproved {
        /// The import.
        import: ImportId,
        /// Where it stands.
        state: ImportState,
    },
    /// An import that is not there to be judged again.
    #[error("import {import} is {state}; only what awaits approval or is approved is judged again")]
    NotJudged {
        /// The import.
        import: ImportId,
        /// Where it stands.
        state: ImportState,
    },
    /// A decision about another package, or none that stands.
    #[error("no import has this package; run `cloister review` again and sign what it shows")]
    Package,
    /// An approval of before the last judgement.
    #[error(
        "it was signed before the release was judged last, which made it void; run `cloister review` \
         again and sign what it shows"
    )]
    Superseded,
    /// The policy was changed after the evaluation.
    #[error(
        "the policy was changed after import {import} was judged; run `cloister evaluate {import}`, \
         then ask the approvers again"
    )]
    Policy {
        /// The import.
        import: ImportId,
    },
    /// A decision or a leave that is too old.
    #[error(
        "it was signed for a log of {signed} records, which now has {now}; it expired after {max} \
         more: look again at what this appliance shows, and sign that"
    )]
    Expired {
        /// The size that was signed.
        signed: u64,
        /// The size of now.
        now: u64,
        /// How many may come between.
        max: u64,
    },
    /// A decision or a leave for a log that this one is not yet.
    #[error(
        "it was signed for a log of {signed} records, and this one has {now}; sign what this \
         appliance shows"
    )]
    Future {
        /// The size that was signed.
        signed: u64,
        /// The size of now.
        now: u64,
    },
    /// The importing operator decides.
    #[error("who operated the import does not approve it; ask another approver")]
    Importer,
    /// A person decides again.
    #[error("this person decided already; one person counts once")]
    Once,
    /// A person rejected it.
    #[error("a person rejected the release; its record says why")]
    Rejected,
    /// Too few persons.
    #[error("{have} of {needed} approvals count; ask the other approvers")]
    Threshold {
        /// Persons whose approval counts.
        have: u64,
        /// Persons who must.
        needed: u64,
    },
    /// The importer took it back.
    #[error("the importer took this release back; choose another")]
    Revoked,
    /// Below the floor, and without a leave.
    #[error(
        "the release is older than what its successors allow; only one at or above their floor is served"
    )]
    Floor,
    /// It was never active.
    #[error("generation {generation} was never promoted, so it cannot be returned to")]
    NeverPromoted {
        /// The generation.
        generation: GenerationId,
    },
    /// It is not on the shelf.
    #[error(
        "generation {generation} is not on the shelf; the newest release of its name comes back from its \
         own bundle, an older one only as a new release"
    )]
    NotRetained {
        /// The generation.
        generation: GenerationId,
    },
    /// It is active already.
    #[error("generation {generation} is active already")]
    AlreadyActive {
        /// The generation.
        generation: GenerationId,
    },
    /// A leave for other releases.
    #[error("the downgrade was signed for other releases; have the approvers authorise this one")]
    LeaveBound,
    /// A leave that was used.
    #[error(
        "the downgrade was signed before the last switch, which used it up; have the approvers \
         authorise it anew"
    )]
    LeaveOnce,
    /// A canary is there already.
    #[error("a canary is under way; end it first")]
    CanaryUnderWay,
    /// No canary is there.
    #[error("no canary is under way")]
    NoCanary,
}

impl Coded for Refusal {
    fn class(&self) -> Class {
        Class::Refused
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotOpen { .. } => "approval.not-open",
            Self::NotApproved { .. } => "activation.not-approved",
            Self::NotJudged { .. } => "evaluation.not-judged",
            Self::Package => "approval.package",
            Self::Superseded => "approval.superseded",
            Self::Policy { .. } => "approval.policy",
            Self::Expired { .. } => "approval.expired",
            Self::Future { .. } => "approval.future",
            Self::Importer => "approval.importer",
            Self::Once => "approval.decided",
            Self::Rejected => "approval.rejected",
            Self::Threshold { .. } => "approval.threshold",
            Self::Revoked => "bundle.revoked",
            Self::Floor => "bundle.rollback",
            Self::NeverPromoted { .. } => "rollback.never-promoted",
            Self::NotRetained { .. } => "shelf.absent",
            Self::AlreadyActive { .. } => "activation.already-active",
            Self::LeaveBound => "downgrade.other",
            Self::LeaveOnce => "downgrade.used",
            Self::CanaryUnderWay => "canary.under-way",
            Self::NoCanary => "canary.none",
        }
    }
}
