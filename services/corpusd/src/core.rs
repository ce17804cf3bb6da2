//! What all conversations share.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
};

use cloister_config::{Config, Role};
use cloister_corpus_store::CorpusStore;
use cloister_domain::GenerationId;

use crate::engines::Engines;

/// The store, the daemons that are asked, and what is still to be done.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) store: Box<dyn CorpusStore>,
    pub(crate) engines: Engines,
    pub(crate) recordd: PathBuf,
    pub(crate) shelf: PathBuf,
    pub(crate) document_bytes_max: u64,
    /// One thread at a time makes vectors, so that no passage is embedded twice.
    pub(crate) embedding: Mutex<()>,
    /// One deletion at a time, so that serial numbers in the record are those of the store.
    pub(crate) deleting: Mutex<()>,
    /// Whether passages may be without a vector that they should have.
    behind: AtomicBool,
    /// Whether a receipt waits for recordd.
    unconfirmed: AtomicBool,
    hint: SyncSender<GenerationId>,
}

impl Core {
    pub(crate) fn new(
        store: Box<dyn CorpusStore>,
        config: &Config,
        hint: SyncSender<GenerationId>,
    ) -> Self {
        Self {
            store,
            engines: Engines::new(&config.paths),
            recordd: config.paths.socket(Role::Recordd),
            shelf: config.paths.shelf(),
            document_bytes_max: config.corpus.document_bytes_max.0,
            embedding: Mutex::new(()),
            deleting: Mutex::new(()),
            // What an earlier process left undone is not known.
            behind: AtomicBool::new(true),
            unconfirmed: AtomicBool::new(true),
            hint,
        }
    }

    /// The generation that is served now: what `shelf/active` names, if it names one.
    pub(crate) fn active(&self) -> Option<GenerationId> {
        let target = std::fs::read_link(self.shelf.join("active")).ok()?;
        target.file_name()?.to_str()?.parse().ok()
    }

    pub(crate) fn set_behind(&self, behind: bool) {
        self.behind.store(behind, Ordering::SeqCst);
    }

    pub(crate) fn set_unconfirmed(&self, unconfirmed: bool) {
        self.unconfirmed.store(unconfirmed, Ordering::SeqCst);
    }

    pub(crate) fn is_unconfirmed(&self) -> bool {
        self.unconfirmed.load(Ordering::SeqCst)
    }

    /// Lets the other thread know that an engine answers for `generation`, if there is work.
    pub(crate) fn hint(&self, generation: GenerationId) {
        if self.behind.load(Ordering::SeqCst) && self.hint.try_send(generation).is_err() {
            tracing::debug!("vectors are being filled in already");
        }
    }
}
