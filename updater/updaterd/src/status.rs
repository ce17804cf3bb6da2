//! What people are shown. Reads only; no act waits for it.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use cloister_attest::{approval::Approval, dsse::Envelope};
use cloister_domain::{Digest, GenerationId, ImportId, LogHead, Slot};
use cloister_state as state;
use cloister_wire::supply::{Generation, Import, Package, Status, Trust};

use crate::{consent, core::Core, error::ActError, succession, sweep};

/// The imports that a status lists beside those that are not over.
const IMPORTS_MAX: u32 = 50;

/// The state of everything.
pub(crate) fn status(core: &Core) -> Result<Status, ActError> {
    let imports = core.state().imports(IMPORTS_MAX)?;
    let log = log_head(core);
    let imports = imports
        .into_iter()
        .map(|mut held| {
            // Fifty releases of thousands of files would not fit one answer.
            held.summary.iter_mut().for_each(|summary| summary.files.clear());
            shown(core, held, log.as_ref())
        })
        .collect::<Result<_, _>>()?;
    let trial = core.state().trial()?;
    let restored_log = consent::restored(core)?;
    let lost_key = succession::lost_key(core);
    Ok(Status {
        lost: core.is_lost().unwrap_or(false),
        older: core.older.load(Ordering::SeqCst),
        configuration: Some(core.config.digest()),
        trust_root: core.enrolled().map(|trust| trust.root_digest()),
        trust: core.enrolled().map(|trust| {
            let vector = &trust.stored().vector;
            Trust {
                root_version: vector.root,
                targets_version: vector.targets,
                stick: vector.sequence,
                time_floor: vector.time_floor.clone().map(String::from),
            }
        }),
        trial,
        restored_log,
        lost_key,
        generations: generations(core)?,
        imports,
    })
}

/// One import.
pub(crate) fn import(core: &Core, import: ImportId) -> Result<Import, ActError> {
    let held = core.state().import(import)?;
    shown(core, held, log_head(core).as_ref())
}

/// Where the log stands, if it answers: what waits for nobody is shown without it.
fn log_head(core: &Core) -> Option<LogHead> {
    let size = core.recordd.size().ok()?;
    Some(LogHead { origin: core.config.record.origin.clone(), size })
}

fn shown(core: &Core, held: state::Import, log: Option<&LogHead>) -> Result<Import, ActError> {
    let state = core.state();
    let evaluation = state.evaluation(held.import)?;
    let inspection = state.inspection(held.import)?;
    let decisions = state.decisions(held.import)?;
    let trials = state.trials_of(held.import)?;
    drop(state);
    // Who approved what it was before has not approved what it is.
    let package = evaluation.as_ref().map(|evaluation| evaluation.package);
    let approving = decisions.iter().filter(|held| {
        held.decision == state::Decision::Approve && package_of(&held.envelope) == package
    });
    Ok(Import {
        import: held.import,
        state: held.state,
        summary: held.summary,
        approved_by: approving.map(|decision| decision.person.to_string()).collect(),
        approvals_needed: u32::try_from(core.approvals_needed()).unwrap_or(u32::MAX),
        imported_by: core.state().operators(held.import)?,
        package: evaluation.as_ref().zip(log).map(|(evaluation, log)| Package {
            digest: evaluation.package,
            policy: evaluation.policy,
            evidence: evaluation.evidence,
            log: log.clone(),
        }),
        trials,
        inspection,
        figures: evaluation.map(|evaluation| evaluation.figures).unwrap_or_default(),
        problem: held.problem,
        review: None,
    })
}

/// The package that a stored approval names.
fn package_of(envelope: &[u8]) -> Option<Digest> {
    let envelope = Envelope::parse(envelope).ok()?;
    Approval::of(&envelope).ok().map(|approval| approval.package)
}

fn generations(core: &Core) -> Result<Vec<Generation>, ActError> {
    let active = core.shelf.active()?.map(|active| active.id());
    let mut slots: BTreeMap<GenerationId, Slot> = BTreeMap::new();
    // The serving slot is asked first, so it is the one that is shown.
    for slot in Slot::ALL {
        if let Some(held) = core.shelf.slot(slot)? {
            slots.entry(held.id()).or_insert(slot);
        }
    }
    let promoted = core.state().promoted()?;
    let kept = sweep::kept(core)?;
    let trust = core.enrolled();
    let mut generations = Vec::new();
    for shelved in core.shelf.list()? {
        let id = shelved.id();
        let manifest = match shelved.manifest() {
            Ok(manifest) => manifest,
            // It was swept since it was listed.
            Err(_gone) if core.shelf.shelved(id)?.is_none() => continue,
            Err(error) => return Err(error.into()),
        };
        let import = core.state().import_of(id)?;
        let Some(summary) = import.and_then(|import| import.summary) else { continue };
        generations.push(Generation {
            generation: id,
            name: summary.name,
            version: summary.version,
            counter: summary.counter,
            slot: slots.get(&id).copied(),
            active: active == Some(id),
            promoted: promoted.iter().any(|promoted| promoted.generation == id),
            kept: kept.get(&id).into_iter().flatten().copied().collect(),
            revoked: match &trust {
                None => false,
                Some(trust) => trust.is_revoked(&manifest),
            },
        });
    }
    generations.sort_by(|one, other| {
        (other.counter, &other.name, other.generation).cmp(&(
            one.counter,
            &one.name,
            one.generation,
        ))
    });
    Ok(generations)
}
