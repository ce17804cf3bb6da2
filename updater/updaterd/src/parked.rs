//! Imports that wait for volumes: which there are, what an import would come to, and the end of one
//! that was overtaken or taken back.

use cloister_bundle::{
    Manifest,
    handover::{Request, Seen},
};
use cloister_domain::{GenerationId, ImportId, RecordIndex};
use cloister_state::Import;
use cloister_verify::VerifyError;
use cloister_wire::{
    intake::{Parked, Summary},
    supply::ImportState,
};
use serde_json::json;

use crate::{
    books,
    catch_up::catch_up,
    core::Core,
    error::ActError,
    evaluate,
    intake::{self, Session},
    preflight,
};

/// The imports that wait for volumes, oldest first.
pub(crate) fn parked(core: &Core) -> Result<Vec<Parked>, ActError> {
    let waiting = core.state().imports_in(ImportState::Receiving)?;
    let named = waiting.into_iter().filter(|import| !is_discarded(import)).filter_map(|import| {
        let generation = import.generation?;
        Some(Parked { import: import.import, generation })
    });
    Ok(named.collect())
}

/// Whether an operator gave the import up while the log could not be written.
pub(crate) fn is_discarded(import: &Import) -> bool {
    let discarded = ActError::Discarded.problem();
    import.state == ImportState::Receiving
        && import.problem.as_ref().is_some_and(|problem| problem.code == discarded.code)
}

/// What an import of a verified head would begin with; refuses what the import would refuse.
pub(crate) fn check(core: &Core, summary: Summary, manifest: &Manifest) -> Result<Seen, ActError> {
    let standing = core.state().import_of(summary.generation)?;
    let standing = standing.filter(|import| !is_discarded(import)).map(|import| import.import);
    if standing.is_none() {
        preflight::judge(&summary.fit)?;
    }
    let files = intake::planned_files(core, manifest)?;
    Ok(Seen { files, ..intake::seen(standing, summary, manifest) })
}

/// An import that waited for volumes until a later release was accepted cannot end well any more:
/// it is refused with its own record, and its quarantine is cleared.
///
/// Only for a release whose signatures were found good: bytes that merely call themselves like a
/// waiting release cannot end it.
pub(crate) fn refuse_overtaken(
    core: &Core,
    generation: Option<GenerationId>,
    error: &ActError,
) -> Option<Result<RecordIndex, ActError>> {
    let (Some(generation), ActError::Verify(VerifyError::Rollback { .. })) = (generation, error)
    else {
        return None;
    };
    let waiting = match parked(core) {
        Ok(waiting) => waiting,
        Err(error) => return Some(Err(error)),
    };
    let import = waiting.iter().find(|parked| parked.generation == generation)?.import;
    // Not under a connection that still receives it.
    let Some(quarantine) = core.try_quarantine(import) else {
        return Some(Err(ActError::Receiving { import }));
    };
    Some(quarantine.refuse(generation, &error.problem()))
}

/// Gives up an import that waits for volumes, or for a verdict, by an operator's word. Of one that
/// waits for volumes that word is kept first: a log that does not answer may have it all the same, and no later
/// volume may go on with what it says is over.
pub(crate) fn discard(core: &Core, import: ImportId) -> Result<(), ActError> {
    let _act = core.act();
    core.trust()?;
    core.make_room();
    let held = core.state().import(import)?;
    let generation = match (held.state, held.generation) {
        (ImportState::Receiving, Some(generation)) => generation,
        (ImportState::Evaluating, Some(generation)) => {
            catch_up(core)?;
            let now = core.state().import(import)?.state;
            if now != ImportState::Evaluating {
                return Err(ActError::NotWaiting { import, state: now });
            }
            return evaluate::give_up(core, import, generation, &ActError::Discarded.problem());
        }
        (state, _) => return Err(ActError::NotWaiting { import, state }),
    };
    // Not under a connection that receives it.
    let quarantine = core.try_quarantine(import).ok_or(ActError::Receiving { import })?;
    let discarded = ActError::Discarded.problem();
    core.state().note_trouble(import, Some(&discarded))?;
    let refused = quarantine.refuse(generation, &discarded);
    if refused.is_err() {
        core.leave_unfinished();
    }
    match refused {
        Err(ActError::Recordd(cause)) => Err(ActError::Unrecorded { import, cause }),
        other => other.map(drop),
    }
}

/// Ends every import that was given up and has no end yet. The caller holds the right to act.
pub(crate) fn finish_discards(core: &Core) -> Result<(), ActError> {
    let waiting = core.state().imports_in(ImportState::Receiving)?;
    let mut discarded = waiting.iter().filter(|import| is_discarded(import));
    discarded.try_for_each(|import| match finish_discard(core, import) {
        // Whoever receives it ends it.
        Err(ActError::Receiving { .. }) => Ok(()),
        finished => finished,
    })
}

/// Ends an import that was given up while the log could not be written. The caller holds the right to act.
pub(crate) fn finish_discard(core: &Core, import: &Import) -> Result<(), ActError> {
    let Some(generation) = import.generation else { return Ok(()) };
    let import = import.import;
    let quarantine = core.try_quarantine(import).ok_or(ActError::Receiving { import })?;
    quarantine.refuse(generation, &ActError::Discarded.problem()).map(drop)
}

/// Ends the imports that wait for volumes of a release that was taken back since, each with its own record.
/// One that hangs on a revoked key waits on: its publishers may sign it anew.
pub(crate) fn end_revoked(core: &Core) -> Result<(), ActError> {
    let trust = core.trust()?;
    for waiting in parked(core)? {
        let held = core.state().import(waiting.import)?;
        let verdict = held.manifest.map(|manifest| trust.may_activate(&manifest));
        let Some(Err(revoked @ VerifyError::Revoked)) = verdict else { continue };
        // What is being received now is judged again when it is complete.
        if let Some(quarantine) = core.try_quarantine(waiting.import) {
            quarantine.refuse(waiting.generation, &ActError::from(revoked).problem())?;
        }
    }
    Ok(())
}

/// Notes that a volume is copied and others hold the rest.
pub(crate) fn parted(
    core: &Core,
    session: &Session<'_>,
    request: &Request,
) -> Result<(), ActError> {
    let Request::Parted { volume, read_bytes, missing, problem } = request else {
        return Err(ActError::Order);
    };
    let facts = json!({
        "import": session.import(),
        "operator": session.operator(),
        "persons": books::persons(core, &[session.operator().to_owned()]),
        "read_bytes": read_bytes,
        "missing_chunks": missing.chunks,
        "missing_bytes": missing.stored_bytes,
    });
    session.parted(core, *volume, facts, problem)
}
