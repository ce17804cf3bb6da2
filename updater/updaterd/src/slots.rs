//! Which generation lies in which engine slot. The caller holds the right to act.

use cloister_domain::{GenerationId, Slot};
use cloister_shelf::Shelved;
use cloister_wire::trial::End;

use crate::{core::Core, error::ActError, trial};

/// The slot that holds the active generation, if any does.
fn serving(core: &Core) -> Result<Option<Slot>, ActError> {
    let Some(active) = core.shelf.active()? else { return Ok(None) };
    for slot in Slot::ALL {
        if core.shelf.slot(slot)?.is_some_and(|held| held.id() == active.id()) {
            return Ok(Some(slot));
        }
    }
    Ok(None)
}

/// The slot that is free to hold something else than the active generation.
fn idle(core: &Core) -> Result<Slot, ActError> {
    Ok(serving(core)?.map_or(Slot::A, Slot::other))
}

/// Loads `generation` in the idle slot, anew even if it is there; the time it took, in microseconds.
pub(crate) fn load_idle(core: &Core, generation: &Shelved) -> Result<(Slot, u64), ActError> {
    let slot = idle(core)?;
    // Named first: an engine that starts again meanwhile loads the same.
    core.shelf.set_slot(slot, Some(generation))?;
    let microseconds = core.engine(slot).load(generation)?;
    Ok((slot, microseconds))
}

/// A slot whose engine holds `generation`: the one that does already, else the idle one after
/// loading.
pub(crate) fn ensure(core: &Core, generation: &Shelved) -> Result<Slot, ActError> {
    for slot in Slot::ALL {
        let named = core.shelf.slot(slot)?.is_some_and(|held| held.id() == generation.id());
        // An engine that does not answer may be loading what its slot names: that is not asked twice.
        if named && core.engine(slot).status()?.generation == Some(generation.id()) {
            return Ok(slot);
        }
    }
    let active = core.shelf.active()?.is_some_and(|active| active.id() == generation.id());
    if let (true, Some(slot)) = (active, serving(core)?) {
        // The active generation stays where it is.
        core.engine(slot).load(generation)?;
        return Ok(slot);
    }
    Ok(load_idle(core, generation)?.0)
}

/// Whether the engine in `slot` answers and holds `generation`.
pub(crate) fn holds(core: &Core, slot: Slot, generation: GenerationId) -> bool {
    core.engine(slot).status().is_ok_and(|status| status.generation == Some(generation))
}

/// Whether any engine answers and holds `generation`.
pub(crate) fn is_held(core: &Core, generation: GenerationId) -> bool {
    holder(core, generation).is_some()
}

/// The slot whose engine answers and holds `generation`.
pub(crate) fn holder(core: &Core, generation: GenerationId) -> Option<Slot> {
    Slot::ALL.into_iter().find(|slot| holds(core, *slot, generation))
}

/// Takes a candidate out of its slot and its documents out of the corpus. The slot goes back to the
/// generation that a rollback would want, so that a rollback stays instant.
///
/// What an engine or corpusd does not hear now is put right by the worker or by its next start; only
/// the shelf's own pointers decide.
pub(crate) fn give_up(core: &Core, candidate: GenerationId) -> Result<(), ActError> {
    // One that was promoted before it came again may have been returned to meanwhile.
    if core.shelf.active()?.is_some_and(|active| active.id() == candidate) {
        return Ok(());
    }
    for slot in Slot::ALL {
        if core.shelf.slot(slot)?.is_some_and(|held| held.id() == candidate) {
            let before = previous(core)?;
            core.shelf.set_slot(slot, before.as_ref())?;
            let engine = core.engine(slot);
            let told = match &before {
                Some(before) => engine.load(before).map(drop),
                None => engine.unload(),
            };
            if let Err(error) = told {
                tracing::warn!(code = error.problem().code, "a slot keeps a refused candidate");
            }
        }
    }
    if let Err(error) = core.corpusd.forget(candidate) {
        tracing::warn!(
            code = error.problem().code,
            "corpusd keeps a refused candidate's documents"
        );
    }
    Ok(())
}

/// Gives up the candidates in slots whose imports were refused, where whoever refused them was cut off.
pub(crate) fn give_up_refused(core: &Core) -> Result<(), ActError> {
    if core.enrolled().is_none() {
        return Ok(());
    }
    let active = core.shelf.active()?.map(|active| active.id());
    for slot in Slot::ALL {
        let Some(held) = core.shelf.slot(slot)?.map(|held| held.id()) else { continue };
        let import = core.state().import_of(held)?;
        let promoted = core.state().promoted()?;
        let served = promoted.iter().any(|promoted| promoted.generation == held);
        if import.is_none() && !served && active != Some(held) {
            give_up(core, held)?;
        }
    }
    Ok(())
}

/// Takes a generation out of every slot, because it leaves the shelf.
pub(crate) fn empty(core: &Core, generation: GenerationId) -> Result<(), ActError> {
    trial::end_of(core, generation, End::Gone)?;
    for slot in Slot::ALL {
        if core.shelf.slot(slot)?.is_some_and(|held| held.id() == generation) {
            core.shelf.set_slot(slot, None)?;
            if let Err(error) = core.engine(slot).unload() {
                tracing::warn!(code = error.problem().code, "an engine keeps what left the shelf");
            }
        }
    }
    if let Err(error) = core.corpusd.forget(generation) {
        tracing::warn!(code = error.problem().code, "corpusd keeps what left the shelf");
    }
    Ok(())
}

/// The generation that was active before the one that is, if it is still on the shelf.
pub(crate) fn previous(core: &Core) -> Result<Option<Shelved>, ActError> {
    let Some(active) = core.shelf.active()? else { return Ok(None) };
    let last = core.state().last_promotion(active.id())?;
    match last.and_then(|last| last.from) {
        Some(before) if before != active.id() => Ok(core.shelf.shelved(before)?),
        _ => Ok(None),
    }
}

/// Makes one slot name the active generation, and its engine hold it, after a restart.
pub(crate) fn restore(core: &Core) -> Result<(), ActError> {
    let Some(active) = core.shelf.active()? else { return Ok(()) };
    let slot = match serving(core)? {
        Some(slot) => slot,
        None => {
            core.shelf.set_slot(Slot::A, Some(active.shelved()))?;
            Slot::A
        }
    };
    // An engine that does not answer yet is loading it; one that does has loaded something else.
    if core.engine(slot).status()?.generation != Some(active.id()) {
        core.engine(slot).load(active.shelved())?;
    }
    core.corpusd.stage(active.shelved())
}
