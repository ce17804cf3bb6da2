//! A look ahead at a volume: which of the chunks that it leaves out the shelf would fill in. It keeps
//! nothing and writes nothing.

use cloister_bundle::{
    Manifest,
    handover::{Answer, Request},
};

use crate::{arriving::Arriving, core::Core, error::ActError, filler::Found};

/// A volume that was offered to be checked, between the messages of its connection.
#[derive(Debug)]
pub(crate) struct Look {
    manifest: Manifest,
    index: Arriving,
    found: Option<Found>,
}

impl Look {
    /// At a volume of the verified `manifest`.
    pub(crate) fn new(manifest: Manifest) -> Self {
        Self { manifest, index: Arriving::default(), found: None }
    }

    /// Takes the parts of the index, each answered by `More`; then says which of the chunks of a `Fill`
    /// the shelf has, in a `Filled`.
    pub(crate) fn answer(&mut self, core: &Core, request: &Request) -> Result<Answer, ActError> {
        match (request, &mut self.found) {
            (Request::Index { part }, None) => {
                if let Some(index) = self.index.take(core, &part.0, self.manifest.release())? {
                    self.found = Some(Found::of(index));
                }
                Ok(Answer::More)
            }
            (Request::Fill { chunks }, Some(found)) => {
                Ok(Answer::Filled { chunks: found.there(core, chunks)? })
            }
            _ => Err(ActError::Order),
        }
    }
}
