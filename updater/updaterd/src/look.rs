//! A look ahead at a volume: which of the chunks that it leaves out the shelf would fill in. It keeps
//! nothing and writes nothing.

use cloister_bundle::{
    Index, Manifest,
    handover::{Answer, Request},
};

use crate::{core::Core, error::ActError, intake, inventory::Found};

/// A volume that was offered to be checked, between the messages of its connection.
#[derive(Debug)]
pub(crate) struct Look {
    manifest: Manifest,
    index: Vec<u8>,
    found: Option<Found>,
}

impl Look {
    /// At a volume of the verified `manifest`.
    pub(crate) const fn new(manifest: Manifest) -> Self {
        Self { manifest, index: Vec::new(), found: None }
    }

    /// Takes the parts of the index, each answered by `More`; then says which of the chunks of a `Fill`
    /// the shelf has, in a `Filled`.
    pub(crate) fn answer(&mut self, core: &Core, request: &Request) -> Result<Answer, ActError> {
        match (request, &self.found) {
            (Request::Index { part }, None) => {
                self.take(core, &part.0)?;
                Ok(Answer::More)
            }
            (Request::Fill { chunks }, Some(found)) => {
                Ok(Answer::Filled { chunks: found.there(core, chunks)? })
            }
            _ => Err(ActError::Order),
        }
    }

    fn take(&mut self, core: &Core, part: &[u8]) -> Result<(), ActError> {
        let release = self.manifest.release();
        let whole = usize::try_from(release.index.length).map_err(|_cause| ActError::Order)?;
        if self.index.len().saturating_add(part.len()) > whole {
            return Err(ActError::Order);
        }
        self.index.extend_from_slice(part);
        if self.index.len() == whole {
            let bytes = std::mem::take(&mut self.index);
            intake::check_index(&bytes, release)?;
            self.found = Some(Found::of(core, Index::parse(&bytes, &release.files)?)?);
        }
        Ok(())
    }
}
