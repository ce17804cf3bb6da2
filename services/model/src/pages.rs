//! Which pages of the KV cache belong to which sequence.
//!
//! A sequence reserves at admission what it can ever need, so nothing that was admitted runs out of room.

use std::collections::BTreeMap;

use cloister_domain::{SequenceId, TokenCount};

use crate::ModelError;

/// Tokens in a page of the KV cache.
pub const PAGE_TOKENS: usize = 64;

/// The pages of one sequence.
#[derive(Debug)]
struct Lease {
    pages: Vec<u32>,
    /// Tokens whose keys and values are stored.
    length: usize,
    /// Tokens that were reserved.
    limit: usize,
}

/// The account of all pages.
#[derive(Debug)]
pub(crate) struct Pages {
    free: Vec<u32>,
    leases: BTreeMap<SequenceId, Lease>,
}

impl Pages {
    /// `count` free pages.
    pub(crate) fn new(count: u32) -> Self {
        // Taken from the back, so that low pages are used first.
        Self { free: (0..count).rev().collect(), leases: BTreeMap::new() }
    }

    /// Free pages.
    pub(crate) fn free(&self) -> u32 {
        u32::try_from(self.free.len()).expect("pages were counted in 32 bits")
    }

    /// Sequences that hold pages.
    pub(crate) fn sequences(&self) -> usize {
        self.leases.len()
    }

    /// Reserves room for `tokens`.
    pub(crate) fn reserve(&mut self, id: SequenceId, tokens: TokenCount) -> Result<(), ModelError> {
        if tokens.0 == 0 {
            return Err(ModelError::Empty);
        }
        if self.leases.contains_key(&id) {
            return Err(ModelError::Sequence);
        }
        let limit = usize::try_from(tokens.0).expect("a context fits memory");
        let needed = limit.div_ceil(PAGE_TOKENS);
        let Some(rest) = self.free.len().checked_sub(needed) else {
            let needed = u32::try_from(needed).expect("fewer pages than tokens");
            return Err(ModelError::CacheFull { needed, free: self.free() });
        };
        let mut pages = self.free.split_off(rest);
        pages.reverse();
        self.leases.insert(id, Lease { pages, length: 0, limit });
        Ok(())
    }

    /// Takes the pages of a sequence back and says which of them were written; none for an unknown one.
    pub(crate) fn release(&mut self, id: SequenceId) -> Vec<u32> {
        let Some(mut lease) = self.leases.remove(&id) else { return Vec::new() };
        self.free.extend(lease.pages.iter().rev());
        lease.pages.truncate(lease.length.div_ceil(PAGE_TOKENS));
        lease.pages
    }

    /// Checks that `count` more tokens fit the sequence's reservation.
    pub(crate) fn check(&self, id: SequenceId, count: usize) -> Result<(), ModelError> {
        let lease = self.leases.get(&id).ok_or(ModelError::Sequence)?;
        if lease.limit - lease.length < count { Err(ModelError::Sequence) } else { Ok(()) }
    }

    /// Accounts for `count` more tokens and returns the first one's position and the sequence's pages.
    pub(crate) fn extend(
        &mut self,
        id: SequenceId,
        count: usize,
    ) -> Result<(usize, &[u32]), ModelError> {
        self.check(id, count)?;
        let lease = self.leases.get_mut(&id).ok_or(ModelError::Sequence)?;
        let start = lease.length;
        lease.length += count;
        Ok((start, &lease.pages[..lease.length.div_ceil(PAGE_TOKENS)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_domain::Coded;

    #[test]
    fn what_is_reserved_is_there_until_it_is_released() {
        let mut pages = Pages::new(4);
        pages.reserve(SequenceId(1), TokenCount(65)).unwrap();
        pages.reserve(SequenceId(2), TokenCount(128)).unwrap();
        let full = pages.reserve(SequenceId(3), TokenCount(1)).expect_err("full");
        assert_eq!(full.code(), "model.cache.full");
        assert_eq!(pages.extend(SequenceId(1), 60).unwrap(), (0, [0].as_slice()));
        assert_eq!(pages.extend(SequenceId(1), 5).unwrap(), (60, [0, 1].as_slice()));
        assert_eq!(pages.extend(SequenceId(1), 1).expect_err("outgrown").code(), "model.sequence");
        assert_eq!(
            pages.reserve(SequenceId(1), TokenCount(1)).expect_err("twice").code(),
            "model.sequence"
        );
        assert_eq!(pages.release(SequenceId(1)), [0, 1]);
        assert_eq!(pages.release(SequenceId(1)), [0u32; 0]);
        assert_eq!(pages.free(), 2);
        assert_eq!(pages.release(SequenceId(2)), [0u32; 0], "nothing was written");
        pages.reserve(SequenceId(2), TokenCount(128)).unwrap();
        pages.reserve(SequenceId(3), TokenCount(1)).unwrap();
        assert_eq!(pages.extend(SequenceId(3), 1).unwrap(), (0, [0].as_slice()));
        assert_eq!(pages.sequences(), 2);
    }
}
