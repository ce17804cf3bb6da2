//! Who has the quarantine of an import: a connection that receives into it, or whoever hashes it on
//! its way to the shelf, or whoever clears it; one at a time.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    sync::{Condvar, Mutex},
    time::Duration,
};

use cloister_domain::{GenerationId, ImportId, RecordIndex};
use cloister_wire::{Problem, supply::ImportState};

use crate::{
    core::{Core, UNPOISONED},
    error::ActError,
};

/// A connection that has ended is noticed within milliseconds; the next volume of a release or an
/// import that goes on comes over another one. An adoption takes longer, and is not waited for.
const LET_GO: Duration = Duration::from_secs(5);

/// The imports whose quarantine somebody has.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    held: Mutex<BTreeSet<ImportId>>,
    /// Told whenever somebody lets go of one.
    let_go: Condvar,
}

/// The quarantine of one import, which nobody else receives into, hashes or clears meanwhile. It is
/// had before the right to adopt and the right to act; who has one of these does not wait for it.
///
/// Letting go of it clears it, unless it is still to be received or adopted.
#[derive(Debug)]
pub(crate) struct Quarantine<'a> {
    core: &'a Core,
    pub(crate) import: ImportId,
    /// Whether the worker passed over the import meanwhile, and is to look again.
    of_connection: bool,
}

impl Core {
    /// The quarantine of an import, for a connection; `None` if another one, or an adoption, does not
    /// let go of it.
    pub(crate) fn begin_receiving(&self, import: ImportId) -> Option<Quarantine<'_>> {
        let held = self.holders.held.lock().expect(UNPOISONED);
        let (mut held, _timed_out) = self
            .holders
            .let_go
            .wait_timeout_while(held, LET_GO, |held| held.contains(&import))
            .expect(UNPOISONED);
        // Made only if it is had: dropping one lets go.
        held.insert(import).then(|| Quarantine { core: self, import, of_connection: true })
    }

    /// The quarantine of an import, if nobody else has it.
    pub(crate) fn try_quarantine(&self, import: ImportId) -> Option<Quarantine<'_>> {
        let mut held = self.holders.held.lock().expect(UNPOISONED);
        held.insert(import).then(|| Quarantine { core: self, import, of_connection: false })
    }

    /// Removes what a crash left of imports that are over.
    pub(crate) fn clear_leftovers(&self) {
        let Ok(listing) = fs::read_dir(self.config.paths.quarantine()) else { return };
        for entry in listing.flatten() {
            if let Some(import) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                // Had, it is let go of.
                drop(self.try_quarantine(ImportId(import)));
            }
        }
    }

    /// Whether nothing of an import is needed in quarantine any more.
    fn is_over(&self, import: ImportId) -> bool {
        use ImportState::{Received, Receiving};
        let held = self.state().import(import);
        held.is_ok_and(|held| !matches!(held.state, Receiving | Received))
    }
}

impl Quarantine<'_> {
    /// Refuses the import that lies there: a record, the state, and nothing of it left here or on the
    /// shelf.
    pub(crate) fn refuse(
        &self,
        generation: GenerationId,
        problem: &Problem,
    ) -> Result<RecordIndex, ActError> {
        let record = self.core.record_and_refuse(self.import, generation, problem)?;
        // Names in quarantine would keep objects on the shelf.
        self.clear();
        self.core.sweep();
        Ok(record)
    }

    /// Removes what lies there now; what cannot be removed is removed next time.
    pub(crate) fn clear(&self) {
        let folder = self.core.config.paths.quarantine().join(self.import.to_string());
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(import = self.import.0, kind = ?error.kind(), "quarantine not cleared");
            }
            _ => {}
        }
    }
}

impl Drop for Quarantine<'_> {
    fn drop(&mut self) {
        let mut held = self.core.holders.held.lock().expect(UNPOISONED);
        // Asked under the lock: whoever ends the import later finds the quarantine free to clear.
        if self.core.is_over(self.import) {
            drop(held);
            self.clear();
            held = self.core.holders.held.lock().expect(UNPOISONED);
        }
        held.remove(&self.import);
        drop(held);
        self.core.holders.let_go.notify_all();
        if self.of_connection {
            self.core.wake();
        }
    }
}
