//! The way of a received release from quarantine to the shelf.
//!
//! Its bytes are hashed and inspected at idle weight and without the right to act, so that nobody
//! waits with an approval or a rollback for what may take hours; only the end is an act.

use cloister_bundle::{Release, handover::Plan};
use cloister_daemon::at_idle_weight;
use cloister_domain::{ByteCount, Digest, ImportId};
use cloister_shelf::{Object, ShelfError};
use cloister_state::StateError;
use cloister_wire::{record::Event, supply::ImportState};
use serde_json::json;

use crate::{
    core::{Core, is_refusal},
    error::ActError,
    inspect, inventory,
    quarantine::Quarantine,
};

/// Moves a received import to the shelf. Doing it again after a crash goes on where it stopped.
///
/// The caller does not hold the right to act.
pub(crate) fn adopt(core: &Core, quarantine: &Quarantine<'_>) -> Result<(), ActError> {
    let one_at_a_time = core.adopting();
    let adopted = adopt_alone(core, quarantine.import);
    drop(one_at_a_time);
    conclude(core, quarantine, adopted)
}

/// As [`adopt`], unless a connection has the import's quarantine or another adoption is under way;
/// whoever does that wakes the worker.
pub(crate) fn adopt_if_free(core: &Core, import: ImportId) -> Result<(), ActError> {
    let Some(quarantine) = core.try_quarantine(import) else { return Ok(()) };
    let Some(one_at_a_time) = core.try_adopting() else { return Ok(()) };
    let adopted = adopt_alone(core, import);
    drop(one_at_a_time);
    conclude(core, &quarantine, adopted)
}

/// What remains to be done when nobody adopts any more, so that the shelf can be swept.
fn conclude(
    core: &Core,
    quarantine: &Quarantine<'_>,
    adopted: Result<(), ActError>,
) -> Result<(), ActError> {
    if let Err(error) = &adopted {
        if !is_refusal(error) {
            return adopted;
        }
        let _act = core.act();
        let held = core.state().import(quarantine.import)?;
        if let (ImportState::Received, Some(generation)) = (held.state, held.generation) {
            quarantine.refuse(generation, &error.problem())?;
        }
    }
    quarantine.clear();
    adopted
}

fn adopt_alone(core: &Core, import: ImportId) -> Result<(), ActError> {
    let held = core.state().import(import)?;
    match held.state {
        ImportState::Received => {}
        // Refused while the same volume was read again.
        ImportState::Refused => {
            let problem = held.problem.ok_or(StateError::Row { table: "imports" })?;
            return Err(ActError::Told(problem));
        }
        // On the shelf already; what the same volume brought again is not needed.
        _ => return Ok(()),
    }
    shelve(core, import, &held.manifest.ok_or(StateError::Row { table: "imports" })?)
}

fn shelve(core: &Core, import: ImportId, envelope: &[u8]) -> Result<(), ActError> {
    let verified = core.trust()?.judge(envelope)?;
    let manifest = verified.get();
    let (release, generation) = (manifest.release(), manifest.generation());
    let Objects { files, evidence } =
        at_idle_weight(|| Objects::adopt(core, import, release)).map_err(ActError::from)?;
    let files: Vec<(&str, Object)> =
        release.files.iter().map(|file| file.path.as_str()).zip(files).collect();
    // What lies on the shelf cannot change any more, and nothing uses it yet.
    let findings = inspect::look(core, import, &files, &evidence)?;
    let place = core.config.paths.quarantine().join(import.to_string());
    let index = inventory::received_index(&place, release);

    let _act = core.act();
    // Once more, so that what was revoked meanwhile does not become a candidate.
    core.trust()?.judge(envelope)?;
    inspect::record(core, import, generation, findings)?;
    inventory::keep_index(core, generation, release, index)?;
    core.shelf.shelve(generation, envelope, &files, &evidence)?;
    let record = core.recordd.append(&Core::entry(
        Event::ImportAccepted,
        format!("import/{import}/accepted"),
        &[("bundle", generation.0), ("tree", manifest.tree()), ("envelope", Digest::of(envelope))],
        json!({
            "import": import,
            "name": release.name,
            "version": release.version,
            "counter": release.release_counter,
            "floor": release.min_release_counter,
            "files": release.files.len(),
            "plain_bytes": release.index.plain_bytes,
        }),
    ))?;
    core.state().advance(import, ImportState::Evaluating, record)?;
    Ok(())
}

/// What a release consists of, on the shelf.
struct Objects {
    /// In the order of the release's files.
    files: Vec<Object>,
    evidence: Vec<Object>,
}

impl Objects {
    fn adopt(core: &Core, import: ImportId, release: &Release) -> Result<Self, ShelfError> {
        let place = core.config.paths.quarantine().join(import.to_string());
        let files = release.files.iter().enumerate().map(|(number, file)| {
            core.shelf.adopt(
                &place.join(Plan::part_name(number)),
                file.sha256,
                ByteCount(file.size),
            )
        });
        let evidence = release.attestations.iter().map(|attached| {
            let part = place.join("attest").join(attached.sha256.to_string());
            core.shelf.adopt(&part, attached.sha256, ByteCount(attached.length))
        });
        Ok(Self {
            files: files.collect::<Result<_, _>>()?,
            evidence: evidence.collect::<Result<_, _>>()?,
        })
    }
}
