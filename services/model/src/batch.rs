//! What the rows of one forward pass are.

use std::ops::Range;

use crate::pages::PAGE_TOKENS;

/// Consecutive rows that continue one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row in its sequence.
    pub start: usize,
    /// The sequence's pages, as many as hold tokens.
    pub pages: Vec<u32>,
}

impl Span {
    /// The slot in the cache of the token at `position`.
    #[must_use]
    pub fn slot(&self, position: usize) -> usize {
        let page = usize::try_from(self.pages[position / PAGE_TOKENS]).expect("a page fits memory");
        page * PAGE_TOKENS + position % PAGE_TOKENS
    }

    /// Tokens of the sequence, the rows of this span included.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.start + self.rows.end - self.rows.start
    }
}

/// Rows of several sequences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    /// One token a row.
    pub(crate) tokens: Vec<u32>,
    /// The spans, in the order of the rows.
    pub(crate) spans: Vec<Span>,
    /// Rows whose logits are wanted.
    pub(crate) wanted: Vec<usize>,
}

impl Batch {
    /// Position of each row in its sequence.
    pub(crate) fn positions(&self) -> Vec<usize> {
        self.spans.iter().flat_map(|span| span.start..span.length()).collect()
    }

    /// Slot of each row in the cache.
    pub(crate) fn slots(&self) -> Vec<usize> {
        let of =
            |span: &Span| (span.start..span.length()).map(|p| span.slot(p)).collect::<Vec<_>>();
        self.spans.iter().flat_map(of).collect()
    }
}

/// Cosine and sine of every rotation of a batch: `[R, Dh/2]` each.
#[derive(Clone, Debug)]
pub struct Angles {
    /// Rotated pairs in a head, `Dh/2`.
    pub pairs: usize,
    /// Cosines, times the attention factor of YaRN.
    pub cos: Vec<f32>,
    /// Sines, likewise.
    pub sin: Vec<f32>,
}
