//! What may come in at all: nothing is admitted that cannot finish.

use cloister_domain::{Class, Coded, Principal, SequenceId, TokenCount};

/// Bounds of one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest prompt and answer together.
    pub context: TokenCount,
    /// Tokens that the key-value cache holds over all sequences.
    pub cache: TokenCount,
    /// The cache is given out in pages of this many tokens, at least 1.
    pub page: TokenCount,
    /// Sequences that run at a time, at least 1.
    pub running_max: u32,
    /// Sequences that wait for their turn, at most.
    pub waiting_max: u32,
    /// Prompt tokens in one batch, at least 1; longer prompts are cut.
    pub prefill_max: TokenCount,
}

/// A sequence that wants to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name in this engine; never used again.
    pub id: SequenceId,
    /// For whom; turns are shared between principals.
    pub principal: Principal,
    /// Length of the prompt.
    pub prompt: TokenCount,
    /// Most tokens to write.
    pub max_tokens: TokenCount,
}

/// Why a sequence is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmissionError {
    /// Prompt and answer are longer than the context or the whole cache.
    #[error(
        "prompt ({prompt}) and answer (at most {max_tokens}) need {}; this model takes {limit}: \
         shorten the conversation or lower max_tokens",
        TokenCount(prompt.0.saturating_add(max_tokens.0))
    )]
    Context {
        /// Length of the prompt.
        prompt: TokenCount,
        /// Most tokens to write.
        max_tokens: TokenCount,
        /// What there is.
        limit: TokenCount,
    },
    /// Nothing to continue, or nothing to write.
    #[error("a prompt and an answer have at least one token each")]
    Nothing,
    /// As many wait as may wait.
    #[error("{waiting} conversations wait already, the most that may; try again in a moment")]
    Busy {
        /// How many wait.
        waiting: u32,
    },
}

impl Coded for AdmissionError {
    fn class(&self) -> Class {
        match self {
            Self::Context { .. } | Self::Nothing => Class::Refused,
            Self::Busy { .. } => Class::Busy,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Context { .. } => "engine.context.exceeded",
            Self::Nothing => "engine.request.empty",
            Self::Busy { .. } => "engine.busy",
        }
    }
}

impl Limits {
    /// Tokens of cache that `request` reserves: whole pages for prompt and answer.
    ///
    /// # Errors
    /// [`AdmissionError::Context`], [`AdmissionError::Nothing`].
    pub(crate) fn room(&self, request: &Request) -> Result<TokenCount, AdmissionError> {
        let (prompt, max_tokens) = (request.prompt, request.max_tokens);
        if prompt.0 == 0 || max_tokens.0 == 0 {
            return Err(AdmissionError::Nothing);
        }
        let whole = self.cache.0 / self.page.0 * self.page.0;
        let limit = TokenCount(self.context.0.min(whole));
        let fits = prompt.0.checked_add(max_tokens.0).filter(|needed| *needed <= limit.0);
        let needed = fits.ok_or(AdmissionError::Context { prompt, max_tokens, limit })?;
        // At most `whole`, a multiple of the page.
        Ok(TokenCount(needed.div_ceil(self.page.0) * self.page.0))
    }
}
