//! Reading the shelf again: a bit that changed at rest is found before it is served.
//!
//! A pass reads every object at idle weight and at a bounded pace. What holds a damaged one is taken off
//! the shelf, recorded first; if that is what is active, the generation before takes over.

use std::{collections::BTreeSet, io, sync::TryLockError, thread, time::Duration};

use cloister_daemon::{at_idle_weight, clock::Stopwatch};
use cloister_domain::{ByteCount, Class, Digest, GenerationId};
use cloister_shelf::Found;
use cloister_wire::{Problem, record::Event, supply::Answer};
use serde_json::json;

use crate::{
    core::{Core, UNPOISONED, is_refusal},
    error::ActError,
    slots, sweep, switch,
};

/// How long the reading rests at a time.
const REST: Duration = Duration::from_millis(20);
/// How often the thread that waits for the next pass looks whether the daemon is to stop.
const TICK: Duration = Duration::from_secs(1);
/// Uptime is kept in steps of so many seconds, so that a machine that is switched off each night comes to
/// its passes too.
const STEP_S: u64 = 600;

/// What a pass came to.
#[derive(Debug, Default)]
struct Pass {
    objects: u64,
    bytes: ByteCount,
    damaged: Vec<Digest>,
}

/// Reads the shelf again whenever the machine was up for so long since the last pass.
pub(crate) fn keep_reading(core: &Core) {
    let period_s = u64::from(core.config.update.scrub_hours) * 3600;
    if period_s == 0 {
        return;
    }
    let mut since = Stopwatch::start();
    while !core.stop.is_set() {
        thread::park_timeout(TICK);
        if since.elapsed() < Duration::from_secs(STEP_S) {
            continue;
        }
        since = Stopwatch::start();
        let due = core.state().add_uptime(STEP_S).map(|uptime_s| uptime_s >= period_s);
        let passed = match due {
            Ok(false) => Ok(()),
            Ok(true) => at_pace(core).and_then(|pass| conclude(core, &pass)),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = passed {
            tracing::warn!(
                code = error.problem().code,
                "the shelf was not read again; tried later"
            );
        }
    }
}

/// One pass by an operator's word.
pub(crate) fn by_word(core: &Core) -> Result<Answer, ActError> {
    core.trust()?;
    let pass = at_pace(core)?;
    conclude(core, &pass)?;
    let Pass { objects, bytes, damaged } = pass;
    Ok(Answer::Scrubbed { objects, bytes, damaged })
}

/// Reads every object once, and deals with each that is damaged as it is found.
fn at_pace(core: &Core) -> Result<Pass, ActError> {
    let _one_at_a_time = match core.reading.try_lock() {
        Ok(right) => right,
        Err(TryLockError::WouldBlock) => return Err(ActError::Scrubbing),
        Err(TryLockError::Poisoned(_)) => panic!("{UNPOISONED}"),
    };
    go_on(core)?;
    let mut pass = Pass::default();
    for digest in core.shelf.objects()? {
        match at_idle_weight(|| read(core, digest))? {
            Found::Whole(bytes) => {
                pass.objects += 1;
                pass.bytes.0 += bytes.0;
            }
            Found::Damaged => {
                pass.objects += 1;
                found(core, digest)?;
                pass.damaged.push(digest);
            }
            Found::Gone => {}
        }
    }
    Ok(pass)
}

/// Reads one object; rests so that the pace is kept, and ends when the daemon is to stop.
fn read(core: &Core, digest: Digest) -> Result<Found, ActError> {
    let bytes_per_s = core.config.update.scrub_bytes_per_s.0.max(1);
    let since = Stopwatch::start();
    let mut read = 0u64;
    let found = core.shelf.read_again(digest, |bytes| {
        read += bytes as u64;
        while since.elapsed() < Duration::from_micros(read * 1_000_000 / bytes_per_s) {
            if core.stop.is_set() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            thread::park_timeout(REST);
        }
        Ok(())
    });
    if core.stop.is_set() { Err(ActError::Stopping) } else { Ok(found?) }
}

fn conclude(core: &Core, pass: &Pass) -> Result<(), ActError> {
    let _act = core.act();
    let size = core.recordd.size()?;
    core.recordd.append(&Core::entry(
        Event::Scrub,
        format!("scrub/{size}"),
        &[],
        json!({ "objects": pass.objects, "bytes": pass.bytes, "damaged": pass.damaged.len() }),
    ))?;
    core.state().forget_uptime()?;
    tracing::info!(objects = pass.objects, damaged = pass.damaged.len(), "shelf read again");
    Ok(())
}

/// Takes what is damaged off the shelf with all that holds it: the record first.
fn found(core: &Core, digest: Digest) -> Result<(), ActError> {
    // What an adoption has just brought, no tree names yet.
    let nobody_adopts = core.adopting();
    let act = core.act();
    switch::settle(core)?;
    let holders = core.shelf.holders(digest)?;
    let active = core.shelf.active()?.map(|active| active.id());
    let serving = active.filter(|active| holders.contains(active));
    let size = core.recordd.size()?;
    let entry = Core::entry(
        Event::Damage,
        format!("damage/{size}/{digest}"),
        &[("object", digest)],
        json!({ "releases": holders, "active": serving.is_some() }),
    );
    // A log that falls silent may have the record.
    core.in_two_writes(|| core.recordd.append(&entry))?;
    tracing::error!(releases = holders.len(), "an object of the shelf was damaged at rest");
    // Whatever fails from here on is gone on with: no pass finds again what is not among the objects.
    let isolated = core.shelf.isolate(digest).map_err(ActError::from);
    let taken_off = isolated.and_then(|()| take_off(core, digest, &holders));
    if taken_off.is_err() {
        core.leave_unfinished();
    }
    // What nothing names any more is swept when nobody holds the shelf.
    drop((act, nobody_adopts));
    core.wake();
    taken_off
}

/// What holds an object that was found damaged before leaves the shelf, or no pass ends well: what is
/// isolated is read no more.
fn go_on(core: &Core) -> Result<(), ActError> {
    let is_held = |(_, holders): &(Digest, BTreeSet<GenerationId>)| !holders.is_empty();
    let act = core.act();
    let held = core.shelf.isolated()?.iter().any(is_held);
    drop(act);
    if !held {
        return Ok(());
    }
    let _nobody_adopts = core.adopting();
    let _act = core.act();
    switch::settle(core)?;
    finish(core)
}

/// The object that the log calls damaged, where it lies on the shelf as it was: who found it was cut off behind
/// the record. The caller holds the right to adopt and not the one to act.
pub(crate) fn recorded(core: &Core) -> Result<Option<Digest>, ActError> {
    let recorded = *core.damaged.lock().expect(UNPOISONED);
    let Some(digest) = recorded else { return Ok(None) };
    match at_idle_weight(|| read(core, digest))? {
        Found::Damaged => Ok(Some(digest)),
        // What came again since, or is isolated already.
        Found::Whole(_) | Found::Gone => {
            *core.damaged.lock().expect(UNPOISONED) = None;
            Ok(None)
        }
    }
}

/// Takes from the objects what [`recorded`] named. The caller holds the rights to adopt and to act.
pub(crate) fn isolate(core: &Core, digest: Digest) -> Result<(), ActError> {
    core.shelf.isolate(digest)?;
    *core.damaged.lock().expect(UNPOISONED) = None;
    give_up_imports(core, digest)
}

/// Goes on with what was cut off: whatever holds an object that was found damaged leaves the shelf. The
/// caller holds the rights to adopt and to act.
pub(crate) fn finish(core: &Core) -> Result<(), ActError> {
    for (digest, holders) in core.shelf.isolated()? {
        let active = core.shelf.active()?.map(|active| active.id());
        let stays = active.is_some_and(|active| holders == BTreeSet::from([active]))
            && slots::previous(core)?.is_none();
        if !holders.is_empty() && !stays {
            take_off(core, digest, &holders)?;
        }
    }
    Ok(())
}

/// Takes what holds a damaged object off the shelf; what is served, once another serves.
fn take_off(core: &Core, digest: Digest, holders: &BTreeSet<GenerationId>) -> Result<(), ActError> {
    give_up_imports(core, digest)?;
    let active = core.shelf.active()?.map(|active| active.id());
    for generation in holders.iter().filter(|id| Some(**id) != active) {
        take_down(core, *generation)?;
    }
    let Some(serving) = active.filter(|active| holders.contains(active)) else { return Ok(()) };
    match switch::roll_back(core, None, "damage", Stopwatch::start()) {
        Ok(_switched) => take_down(core, serving),
        Err(error) if !is_refusal(&error) => Err(error),
        Err(error) => {
            tracing::error!(
                code = error.problem().code,
                "the active release is damaged, and there is none to return to; import another release"
            );
            Ok(())
        }
    }
}

/// Refuses the imports under way that count on the object.
fn give_up_imports(core: &Core, digest: Digest) -> Result<(), ActError> {
    let problem = Problem::new(
        Class::Corrupt,
        "shelf.damaged",
        "a file of the release was damaged on the disk of this machine; import its bundle again",
    );
    for import in sweep::under_way(core)? {
        let (Some(generation), Some(envelope)) = (import.generation, import.manifest) else {
            continue;
        };
        let manifest = crate::intake::manifest(&envelope)?;
        let release = manifest.release();
        let files = release.files.iter().map(|file| file.sha256);
        let evidence = release.attestations.iter().map(|file| file.sha256);
        if files.chain(evidence).any(|named| named == digest) {
            core.refuse_import(import.import, generation, &problem)?;
        }
    }
    Ok(())
}

fn take_down(core: &Core, generation: GenerationId) -> Result<(), ActError> {
    slots::empty(core, generation)?;
    if let Some(shelved) = core.shelf.shelved(generation)? {
        core.shelf.take_down(&shelved)?;
    }
    Ok(())
}
