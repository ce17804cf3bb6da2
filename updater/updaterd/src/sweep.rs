//! What leaves the shelf: releases for which nothing speaks, and objects that nothing names. A record says
//! which releases before the first of them goes.

use std::collections::{BTreeMap, BTreeSet};

use cloister_domain::{ByteCount, Digest, GenerationId, Slot};
use cloister_promotion::{Holdings, marks};
use cloister_shelf::{ShelfError, Swept};
use cloister_state::Import;
use cloister_wire::{
    record::Event,
    supply::{Answer, ImportState, Reason},
};
use serde_json::json;

use crate::{
    catch_up::catch_up,
    core::{Core, UNPOISONED},
    error::ActError,
    slots,
};

/// Releases that one record names; the rest goes with the next sweep.
const NAMED_MAX: usize = 256;

/// Imports that have not come to their end; what they brought stays.
const UNDER_WAY: [ImportState; 5] = [
    ImportState::Receiving,
    ImportState::Received,
    ImportState::Evaluating,
    ImportState::AwaitingApproval,
    ImportState::Approved,
];

/// Every release on the shelf with what speaks for it.
pub(crate) fn kept(core: &Core) -> Result<BTreeMap<GenerationId, BTreeSet<Reason>>, ActError> {
    let pinned = core.state().pinned()?;
    let promoted = core.state().latest_promoted()?;
    let trial = core.state().trial()?;
    let mut holdings = Holdings {
        active: core.shelf.active()?.map(|active| active.id()),
        previous: slots::previous(core)?.map(|before| before.id()),
        canary: trial.map(|trial| trial.generation),
        pinned,
        promoted,
        retained_max: core.config.update.retained_max,
        ..Holdings::default()
    };
    for slot in Slot::ALL {
        holdings.slots.extend(core.shelf.slot(slot)?.map(|held| (slot, held.id())));
    }
    let trust = core.enrolled();
    for shelved in core.shelf.list()? {
        holdings.on_shelf.insert(shelved.id());
        if trust.as_ref().is_some_and(|trust| {
            shelved.manifest().is_ok_and(|manifest| trust.is_revoked(&manifest))
        }) {
            holdings.revoked.insert(shelved.id());
        }
    }
    for import in under_way(core)? {
        holdings.imports.extend(import.generation.map(|id| (import.import, id)));
    }
    Ok(marks(&holdings))
}

/// The imports that have not come to their end.
pub(crate) fn under_way(core: &Core) -> Result<Vec<Import>, ActError> {
    let mut imports = Vec::new();
    for state in UNDER_WAY {
        imports.extend(core.state().imports_in(state)?);
    }
    Ok(imports)
}

/// The objects that imports under way count on.
fn counted_on(core: &Core) -> Result<BTreeSet<Digest>, ActError> {
    let mut objects = BTreeSet::new();
    for import in under_way(core)? {
        if let Some(text) = import.manifest {
            let release = crate::intake::manifest(&text)?;
            objects.extend(release.release().files.iter().map(|file| file.sha256));
            objects.extend(release.release().attestations.iter().map(|file| file.sha256));
        }
    }
    Ok(objects)
}

/// The releases that a sweep would remove.
pub(crate) fn would_go(core: &Core) -> Result<Vec<GenerationId>, ActError> {
    let kept = kept(core)?;
    Ok(kept.into_iter().filter(|(_, why)| why.is_empty()).map(|(id, _)| id).collect())
}

/// Removes what nothing speaks for; nothing while somebody brings a release to the shelf. The caller
/// holds the right to act.
fn remove(core: &Core) -> Result<Swept, ActError> {
    // A database that was lost speaks for nothing, and the shelf is what it is made from again.
    if core.enrolled().is_none() {
        return Ok(Swept::default());
    }
    // What an adoption has just brought there no tree names yet.
    let Some(_nobody_adopts) = core.try_adopting() else { return Ok(Swept::default()) };
    let mut kept = kept(core)?;
    let mut go: Vec<GenerationId> =
        kept.iter().filter(|(_, why)| why.is_empty()).map(|(id, _)| *id).take(NAMED_MAX).collect();
    let mut going = core.going.lock().expect(UNPOISONED);
    // A sweep that fails is done again and again, and approvals expire by the number of records.
    if !go.is_empty() && *going != go {
        let size = core.recordd.size()?;
        core.recordd.append(&Core::entry(
            Event::Sweep,
            format!("sweep/{size}"),
            &[],
            json!({ "releases": go, "retained_max": core.config.update.retained_max }),
        ))?;
    }
    going.clone_from(&go);
    // Its documents first: what stays on the shelf is tried again, what left it is not.
    go.retain(|id| match core.corpusd.forget(*id) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(code = error.problem().code, "corpusd keeps what is to go; tried later");
            false
        }
    });
    kept.retain(|id, _why| !go.contains(id));
    let keep: BTreeSet<GenerationId> = kept.into_keys().collect();
    crate::inventory::prune(core, &keep);
    let swept = core.shelf.sweep(&keep, &counted_on(core)?)?;
    going.retain(|id| keep.contains(id));
    Ok(swept)
}

impl Core {
    /// Removes what nothing speaks for. A failed sweep loses nothing; the worker does it again. The
    /// caller holds the right to act.
    pub(crate) fn sweep(&self) {
        if let Err(error) = self.sweep_once() {
            tracing::warn!(code = error.problem().code, "shelf not swept; done again later");
            self.wake();
        }
    }

    /// As [`Core::sweep`], for the worker itself.
    pub(crate) fn sweep_once(&self) -> Result<(), ActError> {
        remove(self).map(|swept| tell(&swept))
    }
}

fn tell(swept: &Swept) {
    if !swept.generations.is_empty() || swept.objects > 0 {
        tracing::info!(
            generations = swept.generations.len(),
            objects = swept.objects,
            bytes = swept.bytes.0,
            "shelf swept"
        );
    }
}

/// Sweeps by an operator's word, or says what would go.
pub(crate) fn by_word(core: &Core, pretend: bool) -> Result<Answer, ActError> {
    let _act = core.act();
    if pretend {
        let generations = would_go(core)?;
        return Ok(Answer::Swept { generations, objects: 0, bytes: ByteCount(0) });
    }
    core.trust()?;
    core.make_room();
    let swept = remove(core)?;
    tell(&swept);
    Ok(Answer::Swept { generations: swept.generations, objects: swept.objects, bytes: swept.bytes })
}

/// Keeps a release on the shelf whatever comes after it, or no longer.
pub(crate) fn pin(core: &Core, generation: GenerationId, pinned: bool) -> Result<(), ActError> {
    let _act = core.act();
    catch_up(core)?;
    core.trust()?;
    core.make_room();
    if core.shelf.shelved(generation)?.is_none() {
        let absent = ShelfError::Absent { generation };
        return Err(core.record_refusal("pin", &[("bundle", generation.0)], absent.into()));
    }
    if core.state().pinned()?.contains(&generation) == pinned {
        return Ok(());
    }
    let size = core.recordd.size()?;
    core.in_two_writes(|| {
        let record = core.recordd.append(&Core::entry(
            Event::Pin,
            format!("pin/{size}"),
            &[("bundle", generation.0)],
            json!({ "pinned": pinned }),
        ))?;
        Ok(core.state().pin(generation, pinned.then_some(record))?)
    })?;
    if !pinned {
        core.sweep();
    }
    Ok(())
}
