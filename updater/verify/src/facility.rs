//! What a facility demands beyond TUF: roles that stay apart, thresholds that can be met, and time
//! without a clock.

use serde_json::Value;

use crate::{
    Instant, RoleName, Vector, VerifyError,
    revoked::Revoked,
    tuf::{Root, Strict, TrustedSet},
};

/// How far ahead of what was proven before a stick came its timestamps may be, in days. A stolen importer's
/// key cannot age everything at once; after a longer sleep the officers state the time in a new root.
const STEP_DAYS_MAX: u64 = 400;

/// Refuses a root under which nothing could go right.
pub(crate) fn check_root(root: &Root) -> Result<(), VerifyError> {
    root.possible()?;
    // Who lets a release in does not also approve it.
    root.approvers.iter().try_for_each(|approvers| approvers.apart_from(&root.targets))
}

/// Refuses an importer's list whose publishers could not sign, or sign for others; gives what the
/// list takes back.
pub(crate) fn check_targets(set: &TrustedSet) -> Result<Revoked, VerifyError> {
    let root = set.root();
    let missing = VerifyError::Missing { role: RoleName::Targets };
    let targets = set.targets().ok_or(missing)?;
    for publisher in targets.publishers() {
        publisher.possible(RoleName::Publisher)?;
        // Who makes a release neither lets it in nor approves it.
        publisher.apart_from(&root.targets)?;
        root.approvers.iter().try_for_each(|approvers| publisher.apart_from(approvers))?;
    }
    let wrong = VerifyError::Field { role: RoleName::Targets, field: "x-cloister" };
    let revoked = targets.extra("revoked").map(|list| Revoked::parse(list, &Strict).ok_or(wrong));
    Ok(revoked.transpose()?.unwrap_or_default())
}

/// What a timestamp states beside its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    /// The latest time that is proven to have passed, with this timestamp.
    pub(crate) time: Option<Instant>,
    /// The stick's number.
    pub(crate) sequence: u64,
}

/// Reads `x-cloister` of the timestamp just taken; `held` is what was there before it, and its step of
/// time begins at `step_from`.
pub(crate) fn stated(
    set: &TrustedSet,
    held: &Vector,
    step_from: Option<&Instant>,
) -> Result<Stated, VerifyError> {
    let role = RoleName::Timestamp;
    let timestamp = set.timestamp().ok_or(VerifyError::Missing { role })?;
    let wrong = VerifyError::Field { role, field: "x-cloister" };
    let issued = timestamp.extra("issued").map(|value| instant(value).ok_or(wrong)).transpose()?;
    let number = |field| match timestamp.extra(field) {
        None => Ok(None),
        Some(value) => value.as_u64().filter(|number| *number > 0).map(Some).ok_or(wrong),
    };
    // For whoever writes the next stick, and nothing to an appliance.
    number("sequence_last")?;
    let sequence = number("sequence")?;
    if let Some(offered) = sequence {
        check_number(offered, timestamp.metadata.version, held)?;
    }
    if let Some((issued, from)) = issued.as_ref().zip(step_from) {
        let ahead = issued.days().saturating_sub(from.days());
        let days = u64::try_from(ahead).unwrap_or(0);
        if days > STEP_DAYS_MAX {
            return Err(VerifyError::TimeStep { days, max: STEP_DAYS_MAX });
        }
    }
    let sequence = sequence.unwrap_or(held.sequence);
    Ok(Stated { time: issued.max(held.time_floor.clone()), sequence })
}

/// Each stick has its own number: a newer timestamp that states one states a greater one. Only while a
/// root has made the files void may the timestamp that was last come again, with its number.
fn check_number(offered: u64, version: u64, held: &Vector) -> Result<(), VerifyError> {
    let [last, ..] = held.void;
    let again = held.timestamp == 0 && version == last;
    if offered < held.sequence {
        return Err(VerifyError::Sequence { offered, held: held.sequence });
    }
    if offered == held.sequence && !again {
        return Err(VerifyError::SequenceUsed { number: offered });
    }
    Ok(())
}

/// The time that the officers vouch for: `x-cloister.issued` of the root.
pub(crate) fn officers_time(root: &Root) -> Result<Option<Instant>, VerifyError> {
    let wrong = root.wrong("x-cloister");
    root.extra("issued").map(|value| instant(value).ok_or(wrong)).transpose()
}

fn instant(value: &Value) -> Option<Instant> {
    value.as_str()?.parse().ok()
}
