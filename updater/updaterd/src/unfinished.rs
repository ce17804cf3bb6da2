//! Acts that were cut off between two of their writes, because the daemon died or the log did not answer:
//! what stands in the log, or was taken off the shelf, has its consequences. Switches have their own
//! ([`crate::switch::settle`]).

use std::sync::atomic::Ordering;

use crate::{core::Core, error::ActError, parked, scrub, slots};

/// Finishes what may be unfinished; later, while somebody brings a release to the shelf.
pub(crate) fn finish(core: &Core) -> Result<(), ActError> {
    if !core.unfinished.load(Ordering::SeqCst) {
        return Ok(());
    }
    // Whoever has it wakes the worker.
    let Some(_nobody_adopts) = core.try_adopting() else { return Ok(()) };
    // Reading may take long, and nobody waits for it.
    let damaged = scrub::recorded(core)?;
    let _act = core.act();
    core.unfinished.store(false, Ordering::SeqCst);
    let finished = parked::finish_discards(core)
        .and_then(|()| damaged.map_or(Ok(()), |digest| scrub::isolate(core, digest)))
        .and_then(|()| scrub::finish(core))
        .and_then(|()| slots::give_up_refused(core));
    if finished.is_err() {
        core.unfinished.store(true, Ordering::SeqCst);
    }
    finished
}
