//! An embedding model that turns texts into unit vectors.

use std::{path::Path, sync::Arc};

use cloister_domain::{ByteCount, Digest, TokenCount, TokenId};
use cloister_weights::File;

use crate::{Device, ModelError, Options, arch, folder, pooling::Pooling};

/// Fixed properties of a loaded embedding model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderFacts {
    /// `bert`.
    pub architecture: &'static str,
    /// Longest text.
    pub context: TokenCount,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u32,
    /// Width of a vector.
    pub width: u32,
    /// Size of the weights file.
    pub weights: ByteCount,
    /// Where products run.
    pub device: Device,
    /// Which implementation computes.
    pub backend: String,
}

/// One text to encode, with the control tokens of its model.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    /// `[T]`.
    pub tokens: &'a [TokenId],
    /// Segment of each token `[T]`; empty is all 0.
    pub segments: &'a [u8],
}

impl std::fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Text({} tokens)", self.tokens.len())
    }
}

/// One encoder architecture over one implementation of the operations.
pub(crate) trait EncoderRunner: Send + Sync {
    /// Number of segments that are told apart.
    fn segments(&self) -> usize;
    /// Last hidden states of all tokens of all texts, `[ΣT, D]`; the texts follow each other.
    fn run(&self, texts: &[Text<'_>]) -> Vec<f32>;
}

/// A loaded embedding model.
///
/// Texts of a batch are run without padding, so a vector does not depend on its neighbours.
pub struct Encoder {
    runner: Box<dyn EncoderRunner>,
    facts: EncoderFacts,
    pooling: Pooling,
    file: Arc<File>,
}

impl Encoder {
    /// Loads the embedding model in `folder` (`embed/` of a release): `model.safetensors`, `config.json`
    /// and, if there, `pooling.json` (mean and normalised otherwise).
    ///
    /// # Errors
    ///
    /// What weights, configuration or device are refused for; see [`ModelError`].
    pub fn load(folder: &Path, options: &Options) -> Result<Self, ModelError> {
        let device = Device::resolve(options)?;
        let pooling = Pooling::load(folder)?;
        let model = folder::open(folder)?;
        arch::encoder(model, pooling, device, options)
    }

    pub(crate) fn new(
        runner: Box<dyn EncoderRunner>,
        facts: EncoderFacts,
        pooling: Pooling,
        file: Arc<File>,
    ) -> Self {
        Self { runner, facts, pooling, file }
    }

    /// The model's fixed properties.
    #[must_use]
    pub const fn facts(&self) -> &EncoderFacts {
        &self.facts
    }

    /// SHA-256 of the weights file, computed now: the full check, and the name of the vector space.
    #[must_use]
    pub fn weights_digest(&self) -> Digest {
        self.file.digest()
    }

    /// One unit vector `[D]` a text.
    ///
    /// # Errors
    ///
    /// [`ModelError::Empty`], [`ModelError::ContextExceeded`], [`ModelError::TokenRange`]; see [`Self::hidden`].
    pub fn embed(&self, texts: &[&[TokenId]]) -> Result<Vec<Vec<f32>>, ModelError> {
        let texts: Vec<Text<'_>> =
            texts.iter().map(|tokens| Text { tokens, segments: &[] }).collect();
        let hidden = self.hidden(&texts)?;
        Ok(hidden.iter().map(|states| self.pooling.pool(states, self.width())).collect())
    }

    /// The last hidden states of each text, `[T, D]` each.
    ///
    /// # Errors
    ///
    /// [`ModelError::Empty`] for a text without tokens, [`ModelError::ContextExceeded`] for one that is too long,
    /// [`ModelError::TokenRange`] for an id outside the vocabulary.
    pub fn hidden(&self, texts: &[Text<'_>]) -> Result<Vec<Vec<f32>>, ModelError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.runner.run(texts);
        let mut rest = all.as_slice();
        let mut hidden = Vec::with_capacity(texts.len());
        for text in texts {
            let (states, later) = rest.split_at(text.tokens.len() * self.width());
            hidden.push(states.to_vec());
            rest = later;
        }
        Ok(hidden)
    }

    fn width(&self) -> usize {
        usize::try_from(self.facts.width).expect("a width fits memory")
    }

    fn check(&self, text: &Text<'_>) -> Result<(), ModelError> {
        let asked = u32::try_from(text.tokens.len()).unwrap_or(u32::MAX);
        if asked == 0 || !(text.segments.is_empty() || text.segments.len() == text.tokens.len()) {
            return Err(ModelError::Empty);
        }
        if asked > self.facts.context.0 {
            let asked = TokenCount(asked);
            return Err(ModelError::ContextExceeded { asked, context: self.facts.context });
        }
        if text.tokens.iter().any(|token| token.0 >= self.facts.vocabulary) {
            return Err(ModelError::TokenRange { vocabulary: self.facts.vocabulary });
        }
        if text.segments.iter().any(|segment| usize::from(*segment) >= self.runner.segments()) {
            return Err(ModelError::TokenRange { vocabulary: self.facts.vocabulary });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("facts", &self.facts).finish_non_exhaustive()
    }
}
