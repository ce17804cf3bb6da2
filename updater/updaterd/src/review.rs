//! What an approver is shown of an import: the import itself, the difference to what is active, and
//! who vouches for it. Reads only; no act waits for it.

use cloister_domain::ImportId;
use cloister_wire::{
    review::{Review, Step},
    supply::Import,
};

use crate::{
    core::Core,
    difference::{Side, difference},
    error::ActError,
    evaluate::read_exam,
    exam::Policy,
    intake::manifest,
    provenance::provenance,
    status,
};

/// An import with everything that is to be seen before signing.
pub(crate) fn review(core: &Core, import: ImportId) -> Result<Import, ActError> {
    let mut shown = status::import(core, import)?;
    shown.review = beside(core, import)?.map(Box::new);
    Ok(shown)
}

/// What stands beside an import whose release is known.
fn beside(core: &Core, import: ImportId) -> Result<Option<Review>, ActError> {
    let held = core.state().import(import)?;
    let (Some(envelope), Some(generation)) = (held.manifest, held.generation) else {
        return Ok(None);
    };
    let Some(trust) = core.enrolled() else { return Ok(None) };
    let candidate = manifest(&envelope)?;
    let active = core.shelf.active()?.filter(|active| active.id() != generation);
    let active = match active {
        None => None,
        Some(active) => Some((manifest(&active.shelved().manifest()?)?, active)),
    };
    // A set of questions that cannot be read has no bounds to compare; the evaluation says what is wrong.
    let policy_of = |shelved| read_exam(shelved).ok().map(|exam| exam.policy);
    let shelved = core.shelf.shelved(generation)?;
    let new: Option<Policy> = shelved.as_ref().and_then(policy_of);
    let old: Option<Policy> = active.as_ref().and_then(|(_, active)| policy_of(active.shelved()));
    let before = active.as_ref().map(|(manifest, _)| Side { manifest, policy: old.as_ref() });
    let after = Side { manifest: &candidate, policy: new.as_ref() };
    let steps = core.state().steps(import)?;
    let steps = steps.into_iter().map(|(state, record)| Step { state, record }).collect();
    Ok(Some(Review {
        difference: difference(before, after),
        provenance: provenance(&trust, &envelope, &candidate, steps),
    }))
}
