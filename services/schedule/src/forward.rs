//! The waist of the engine: what a language model does for those who schedule it.

use cloister_domain::{ByteCount, Coded, SequenceId, TokenCount, TokenId};

/// Fixed properties of a loaded language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Longest prompt and answer together.
    pub context: TokenCount,
    /// `V`: how many rows the logits have.
    pub vocabulary: u32,
    /// Keys and values of one position over all layers.
    pub kv_bytes_per_token: ByteCount,
}

/// Which rows of logits a chunk gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None: a part of a prompt that is not its last.
    Nothing,
    /// The row of the chunk's last token, from which the next token is drawn.
    Last,
    /// A row for each token of the chunk, to score a text.
    All,
}

/// The next tokens of one sequence; they follow what the sequence already holds.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// The sequence, opened before.
    pub sequence: SequenceId,
    /// `[T]`, at least one token.
    pub tokens: &'a [TokenId],
    /// Which logits come back.
    pub wanted: Wanted,
}

/// Rows of logits, in the order of the chunks that asked for them.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    vocabulary: usize,
    values: Vec<f32>,
}

impl Logits {
    /// Takes `values: [rows, V]`.
    ///
    /// # Panics
    /// When `vocabulary` is 0 or does not divide the number of values.
    #[must_use]
    pub fn new(vocabulary: usize, values: Vec<f32>) -> Self {
        assert!(vocabulary > 0 && values.len().is_multiple_of(vocabulary), "logits are [rows, V]");
        Self { vocabulary, values }
    }

    /// The rows, each `[V]`.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.vocabulary)
    }
}

/// A language model with its key-value cache.
///
/// The same tokens of a sequence give the same logits however they are cut into chunks and
/// whichever sequences share a batch, within the noise of one backend's products.
pub trait Forward {
    /// What can go wrong: a device, memory, or a breach of this contract.
    type Error: Coded + Send + Sync + 'static;

    /// The model's fixed properties.
    fn shape(&self) -> Shape;

    /// Reserves the cache of a new sequence of at most `capacity` tokens.
    ///
    /// # Errors
    /// When memory for it cannot be had, or the sequence is open already.
    fn open(&mut self, sequence: SequenceId, capacity: TokenCount) -> Result<(), Self::Error>;

    /// Lets go of a sequence's cache; one that is not open is left alone.
    fn close(&mut self, sequence: SequenceId);

    /// Runs one batch and gives the rows that its chunks want.
    ///
    /// # Errors
    /// When a sequence is not open or would outgrow its capacity, a token is outside the
    /// vocabulary, or the backend fails. The sequences of a failed batch must be closed.
    fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<Logits, Self::Error>;
}
