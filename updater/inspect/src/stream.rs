//! An artefact as a stream, for the readers that need its front only once and never all of it.

use std::{
    cell::{Cell, RefCell},
    io::{ErrorKind, Read, Result},
};

use crate::{Refusal, Source};

/// Bytes of a stream that are in memory at a time.
pub(crate) const BUFFER_BYTES: usize = 64 << 10;

/// A source that may be read from its start as often as a reader asks. Why it could not be read is kept,
/// since readers know other errors only.
pub(crate) struct Artefact<'a> {
    source: RefCell<&'a mut dyn Source>,
    failed: Cell<Option<Refusal>>,
}

impl<'a> Artefact<'a> {
    pub(crate) const fn of(source: &'a mut dyn Source) -> Self {
        Self { source: RefCell::new(source), failed: Cell::new(None) }
    }

    /// Its bytes from the first one on.
    pub(crate) const fn open(&self) -> Stream<'_, 'a> {
        Stream { artefact: self, at: 0 }
    }

    /// What a reader made of it: why it could not be read, or else what the reader says.
    pub(crate) fn read<T, E>(
        &self,
        outcome: std::result::Result<T, E>,
        refused: impl FnOnce(E) -> Refusal,
    ) -> std::result::Result<T, Refusal> {
        outcome.map_err(|cause| self.failed.take().unwrap_or_else(|| refused(cause)))
    }
}

/// The bytes of an artefact in order.
pub(crate) struct Stream<'a, 'b> {
    artefact: &'a Artefact<'b>,
    at: u64,
}

impl Read for Stream<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut source = self.artefact.source.borrow_mut();
        let left = usize::try_from(source.bytes().saturating_sub(self.at));
        let count = left.unwrap_or(usize::MAX).min(buffer.len());
        let Some(piece) = buffer.get_mut(..count) else { return Ok(0) };
        if let Err(refusal) = source.read_at(self.at, piece) {
            self.artefact.failed.set(Some(refusal));
            return Err(ErrorKind::Other.into());
        }
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}
