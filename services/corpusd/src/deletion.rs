//! Deleting with a record of it: the intent before, the receipt after.

use std::time::Duration;

use cloister_corpus_store::Tombstone;
use cloister_daemon::Connection;
use cloister_domain::{Coded as _, DocumentId};
use cloister_wire::{
    Reply,
    corpus::{Answer, Receipt},
    record::{self, Entry, Event, Subject},
};
use serde_json::{Map, Value};

use crate::{
    core::Core,
    error::{CorpusError, RecordError},
};

/// How long recordd may take to make an entry last.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// Which of the two entries of a deletion.
#[derive(Clone, Copy)]
enum Stage {
    Intent,
    Receipt,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Receipt => "receipt",
        }
    }
}

/// Deletes a facility document, if the record takes the intent.
pub(crate) fn delete(core: &Core, document: DocumentId) -> Result<Answer, CorpusError> {
    let _one_at_a_time = core.deleting.lock().expect("no holder of this lock panics");
    let planned = core.store.would_delete(document).map_err(CorpusError::Store)?;
    append(core, planned, Stage::Intent).map_err(CorpusError::NotRecorded)?;
    let done = core.store.delete(document).map_err(CorpusError::Store)?;
    let receipt = done.receipt;
    tracing::info!(%document, chunks = receipt.chunks, vectors = receipt.vectors, "deleted");
    record_receipt(core, done);
    Ok(Answer::Deleted(Receipt {
        document,
        chunks: receipt.chunks,
        vectors: receipt.vectors,
        removed: receipt.removed,
    }))
}

/// Records the receipts of deletions that are done, those of an earlier process too.
pub(crate) fn confirm(core: &Core) {
    let _one_at_a_time = core.deleting.lock().expect("no holder of this lock panics");
    core.set_unconfirmed(false);
    match core.store.unrecorded() {
        Ok(left) => left.into_iter().for_each(|tombstone| record_receipt(core, tombstone)),
        Err(error) => tracing::warn!(code = error.code(), "receipts cannot be looked up"),
    }
}

/// A receipt that cannot be recorded now is kept and tried again.
fn record_receipt(core: &Core, tombstone: Tombstone) {
    let noted = append(core, tombstone, Stage::Receipt).is_ok()
        && core.store.recorded(tombstone.serial).is_ok();
    if !noted {
        core.set_unconfirmed(true);
        tracing::warn!(serial = tombstone.serial, "a deletion's receipt is not recorded yet");
    }
}

fn append(core: &Core, tombstone: Tombstone, stage: Stage) -> Result<(), RecordError> {
    let Tombstone { serial, receipt } = tombstone;
    let facts = [
        ("stage", Value::from(stage.name())),
        ("serial", Value::from(serial)),
        ("chunks", Value::from(receipt.chunks)),
        ("vectors", Value::from(receipt.vectors)),
        ("removed", Value::from(receipt.removed.to_string())),
    ];
    let entry = Entry {
        event: Event::DocumentDeleted,
        act: format!("corpus/delete/{serial}/{}/{}", receipt.document, stage.name()),
        subject: vec![Subject { name: "document".to_owned(), sha256: receipt.document.0 }],
        predicate: facts
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect::<Map<_, _>>(),
    };
    let connection = Connection::connect(&core.recordd).map_err(RecordError::Frame)?;
    connection.set_timeout(Some(RECORD_TIMEOUT));
    let reply: Reply<record::Answer> =
        connection.ask(&record::Request::Append(entry)).map_err(RecordError::Frame)?;
    match reply {
        Ok(record::Answer::Appended { .. }) => Ok(()),
        Ok(_) => Err(RecordError::Answer),
        Err(problem) => Err(RecordError::Told(problem)),
    }
}
