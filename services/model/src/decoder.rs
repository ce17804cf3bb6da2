//! A language model that continues sequences.

use std::{path::Path, sync::Arc};

use cloister_domain::{ByteCount, Digest, SequenceId, TokenCount, TokenId};
use cloister_schedule::{Chunk, Forward, Logits, Shape, Wanted};
use cloister_weights::{File, Metadata};

use crate::{
    Device, ModelError, Options, arch,
    batch::{Batch, Span},
    folder,
    pages::{PAGE_TOKENS, Pages},
};

/// Most rows of one pass through the layers; longer batches are cut, which changes no bit.
const ROWS_MAX: usize = 256;

/// Fixed properties of a loaded language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `llama` or `qwen2`.
    pub architecture: &'static str,
    /// Longest prompt and answer together: the model's limit or the configured one.
    pub context: TokenCount,
    /// `V`, the number of tokens.
    pub vocabulary: u32,
    /// The token that begins a text, if the configuration names one.
    pub begin: Option<TokenId>,
    /// Tokens that end an answer, as the configuration names them.
    pub ends: Vec<TokenId>,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the weights file.
    pub weights: ByteCount,
    /// Keys and values of one position over all layers.
    pub kv_bytes_per_token: ByteCount,
    /// Tokens that the KV cache holds, in whole pages.
    pub cache: TokenCount,
    /// Where products run.
    pub device: Device,
    /// Which implementation computes: `scalar`, `simd avx512-vnni`, `burn flex` and so on.
    pub backend: String,
}

/// One architecture over one implementation of the operations, with its cache.
pub(crate) trait Runner: Send {
    /// Runs the batch and gives the logits `[wanted, V]`.
    fn run(&mut self, batch: &Batch) -> Vec<f32>;
    /// Overwrites pages.
    fn wipe(&mut self, pages: &[u32]);
}

/// A loaded language model with its KV cache.
///
/// Sequences reserve their whole room when they are opened ([`Forward::open`]); what they had is overwritten
/// when they are closed. The logits of a row are the same bits in any batch and for any cut of the prompt
/// with the implementations scalar and simd.
pub struct Decoder {
    runner: Box<dyn Runner>,
    pages: Pages,
    facts: Facts,
    file: Arc<File>,
}

impl Decoder {
    /// Loads the language model in `folder` (`model/` of a release): `model.gguf`, or `model.safetensors`
    /// with `config.json`.
    ///
    /// # Errors
    ///
    /// What weights, configuration or device are refused for; see [`ModelError`].
    pub fn load(folder: &Path, options: &Options) -> Result<Self, ModelError> {
        let device = Device::resolve(options)?;
        let model = folder::open(folder)?;
        arch::decoder(model, device, options)
    }

    pub(crate) fn new(runner: Box<dyn Runner>, facts: Facts, file: Arc<File>) -> Self {
        let pages = facts.cache.0.div_ceil(u32::try_from(PAGE_TOKENS).expect("a page is small"));
        Self { runner, pages: Pages::new(pages), facts, file }
    }

    /// The model's fixed properties.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Metadata of a GGUF file, with the tokenizer that it carries; empty for safetensors.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.file.metadata()
    }

    /// SHA-256 of the weights file, computed now: the full check.
    #[must_use]
    pub fn weights_digest(&self) -> Digest {
        self.file.digest()
    }

    /// Checks that no weight is NaN or infinite; reads all of them.
    ///
    /// # Errors
    ///
    /// [`ModelError::Weights`] with the first tensor that holds such a value.
    pub fn check_finite(&self) -> Result<(), ModelError> {
        self.file.check_finite().map_err(ModelError::Weights)
    }

    /// Pages of the KV cache that are free, and the tokens of a page.
    #[must_use]
    pub fn free_pages(&self) -> (u32, usize) {
        (self.pages.free(), PAGE_TOKENS)
    }

    /// Open sequences.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.pages.sequences()
    }

    /// Checks a whole batch before any of it runs.
    fn check(&self, chunks: &[Chunk<'_>]) -> Result<(), ModelError> {
        for (index, chunk) in chunks.iter().enumerate() {
            if chunk.tokens.is_empty() {
                return Err(ModelError::Empty);
            }
            if chunks[..index].iter().any(|earlier| earlier.sequence == chunk.sequence) {
                return Err(ModelError::Sequence);
            }
            self.pages.check(chunk.sequence, chunk.tokens.len())?;
            if chunk.tokens.iter().any(|token| token.0 >= self.facts.vocabulary) {
                return Err(ModelError::TokenRange { vocabulary: self.facts.vocabulary });
            }
        }
        Ok(())
    }

    /// Adds up to `room` tokens of a chunk to `batch`; the rest follows in the next.
    fn add(
        &mut self,
        batch: &mut Batch,
        sequence: SequenceId,
        tokens: &[TokenId],
        wanted: Wanted,
        is_last: bool,
    ) -> Result<(), ModelError> {
        let first = batch.tokens.len();
        let (start, pages) = self.pages.extend(sequence, tokens.len())?;
        batch.tokens.extend(tokens.iter().map(|token| token.0));
        let rows = first..batch.tokens.len();
        match wanted {
            Wanted::All => batch.wanted.extend(rows.clone()),
            Wanted::Last if is_last => batch.wanted.push(rows.end - 1),
            Wanted::Last | Wanted::Nothing => {}
        }
        batch.spans.push(Span { rows, start, pages: pages.to_vec() });
        Ok(())
    }
}

impl Forward for Decoder {
    type Error = ModelError;

    fn shape(&self) -> Shape {
        Shape {
            context: self.facts.context,
            vocabulary: self.facts.vocabulary,
            kv_bytes_per_token: self.facts.kv_bytes_per_token,
        }
    }

    fn open(&mut self, sequence: SequenceId, capacity: TokenCount) -> Result<(), ModelError> {
        if capacity > self.facts.context {
            return Err(ModelError::ContextExceeded {
                asked: capacity,
                context: self.facts.context,
            });
        }
        self.pages.reserve(sequence, capacity)
    }

    fn close(&mut self, sequence: SequenceId) {
        let pages = self.pages.release(sequence);
        self.runner.wipe(&pages);
    }

    fn forward(&mut self, chunks: &[Chunk<'_>]) -> Result<Logits, ModelError> {
        self.check(chunks)?;
        let vocabulary = usize::try_from(self.facts.vocabulary).expect("a vocabulary fits memory");
        let mut values = Vec::new();
        let mut batch = Batch::default();
        for chunk in chunks {
            let mut rest = chunk.tokens;
            while !rest.is_empty() {
                let room = ROWS_MAX - batch.tokens.len();
                let (now, later) = rest.split_at(room.min(rest.len()));
                self.add(&mut batch, chunk.sequence, now, chunk.wanted, later.is_empty())?;
                rest = later;
                if batch.tokens.len() == ROWS_MAX {
                    values.extend(self.runner.run(&std::mem::take(&mut batch)));
                }
            }
        }
        if !batch.tokens.is_empty() {
            values.extend(self.runner.run(&batch));
        }
        Ok(Logits::new(vocabulary, values))
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("facts", &self.facts).finish_non_exhaustive()
    }
}
