//! Work beside conversations, done in small steps between their batches: embedding and scoring.

use cloister_domain::{ByteCount, SequenceId, TokenCount, TokenId};
use cloister_model::{Decoder, Encoder};
use cloister_sample::SampleError;
use cloister_schedule::{Chunk, Forward as _, Wanted};
use cloister_wire::engine::Event;

use crate::{EngineError, answer::Asker};

/// Tokens that one step embeds, about; a step is a pause for the conversations.
const EMBED_STEP_TOKENS: usize = 2048;
/// Logits that one scoring step computes at most: 64 MiB of them.
const SCORE_STEP_LOGITS: usize = 16 << 20;

/// A stretch of a text that fits the embedding model.
pub(crate) struct Window {
    /// Which text.
    pub(crate) text: usize,
    /// Its tokens in their frame.
    pub(crate) tokens: Vec<TokenId>,
    /// How many of them are the text's own.
    pub(crate) own: u32,
}

/// Texts to embed. A text longer than the model's context is the mean of its windows' vectors,
/// weighted by their tokens, at unit length.
pub(crate) struct EmbedJob {
    pub(crate) asker: Asker,
    windows: std::vec::IntoIter<Window>,
    sums: Vec<Vec<f32>>,
    tokens: u32,
}

impl EmbedJob {
    pub(crate) fn new(asker: Asker, windows: Vec<Window>, texts: usize) -> Self {
        Self { asker, windows: windows.into_iter(), sums: vec![Vec::new(); texts], tokens: 0 }
    }

    /// Embeds the next windows; whether the job is done.
    fn step(&mut self, encoder: Option<&Encoder>) -> Result<bool, EngineError> {
        let encoder = encoder.ok_or(EngineError::NoEmbedding)?;
        let mut batch: Vec<Window> = Vec::new();
        let mut room = EMBED_STEP_TOKENS;
        while let Some(next) = self.windows.as_slice().first() {
            if !batch.is_empty() && next.tokens.len() > room {
                break;
            }
            room = room.saturating_sub(next.tokens.len());
            batch.extend(self.windows.next());
        }
        let tokens: Vec<&[TokenId]> = batch.iter().map(|window| window.tokens.as_slice()).collect();
        let vectors = encoder.embed(&tokens).map_err(EngineError::Model)?;
        for (window, vector) in batch.iter().zip(vectors) {
            if vector.iter().any(|value| !value.is_finite()) {
                return Err(EngineError::Sample(SampleError::NotFinite { token: TokenId(0) }));
            }
            self.tokens = self.tokens.saturating_add(window.own);
            self.add(window, &vector);
        }
        if !self.windows.as_slice().is_empty() {
            return Ok(false);
        }
        let vectors = std::mem::take(&mut self.sums).into_iter().map(unit).collect();
        self.asker.say(Event::Embeddings { vectors, tokens: TokenCount(self.tokens) });
        Ok(true)
    }

    fn add(&mut self, window: &Window, vector: &[f32]) {
        let sum = &mut self.sums[window.text];
        if sum.is_empty() {
            sum.resize(vector.len(), 0.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "a window has far fewer than 2^24 tokens")]
        let weight = window.own.max(1) as f32;
        for (total, value) in sum.iter_mut().zip(vector) {
            *total += weight * value;
        }
    }
}

/// `vector` at unit length; a vector of zeros stays.
fn unit(vector: Vec<f32>) -> Vec<f32> {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    if square <= 0.0 {
        return vector;
    }
    let length = square.sqrt();
    #[expect(clippy::cast_possible_truncation, reason = "rounded to the width of the vector")]
    let scaled = |value: f32| (f64::from(value) / length) as f32;
    vector.into_iter().map(scaled).collect()
}

/// A text to score, window by window of the model's context.
///
/// Each window begins with the model's beginning-of-text token or, for a model without one, with the
/// token before it; the very first token of a text is then not predicted.
pub(crate) struct ScoreJob {
    pub(crate) asker: Asker,
    /// A sequence that no conversation uses.
    pub(crate) sequence: SequenceId,
    pub(crate) start: Option<TokenId>,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) bytes: ByteCount,
    /// First token of the window that is not predicted yet.
    at: usize,
    window: Option<OpenWindow>,
    nats: f64,
    predicted: u32,
}

struct OpenWindow {
    /// What runs; the token at `i` predicts the target at `i`.
    inputs: Vec<TokenId>,
    targets: Vec<TokenId>,
    done: usize,
}

impl ScoreJob {
    pub(crate) fn new(
        asker: Asker,
        sequence: SequenceId,
        start: Option<TokenId>,
        tokens: Vec<TokenId>,
        bytes: ByteCount,
    ) -> Self {
        let at = usize::from(start.is_none());
        let (window, nats, predicted) = (None, 0.0, 0);
        Self { asker, sequence, start, tokens, bytes, at, window, nats, predicted }
    }

    /// Scores the next tokens; whether the job is done.
    fn step(&mut self, decoder: &mut Decoder) -> Result<bool, EngineError> {
        if self.window.is_none() && !self.open(decoder)? {
            let (nats, tokens, bytes) = (self.nats, TokenCount(self.predicted), self.bytes);
            self.asker.say(Event::Scored { nats, tokens, bytes });
            return Ok(true);
        }
        let vocabulary = decoder.shape().vocabulary as usize;
        let rows = (SCORE_STEP_LOGITS / vocabulary).clamp(1, 256);
        let window = self.window.as_mut().expect("opened above");
        let to = window.inputs.len().min(window.done + rows);
        let range = window.done..to;
        let tokens = &window.inputs[range.clone()];
        let chunk = Chunk { sequence: self.sequence, tokens, wanted: Wanted::All };
        let logits = decoder.forward(&[chunk]).map_err(EngineError::Model)?;
        for (row, target) in logits.rows().zip(&window.targets[range]) {
            self.nats += surprise(row, *target)?;
            self.predicted = self.predicted.saturating_add(1);
        }
        window.done = to;
        if window.done == window.inputs.len() {
            self.close(decoder);
        }
        Ok(false)
    }

    /// Opens the next window, unless the text is done.
    fn open(&mut self, decoder: &mut Decoder) -> Result<bool, EngineError> {
        let context = decoder.shape().context;
        let end = self.tokens.len().min(self.at.saturating_add(context.0 as usize));
        let Some(targets) = self.tokens.get(self.at..end).filter(|targets| !targets.is_empty())
        else {
            return Ok(false);
        };
        let before = self.at.checked_sub(1).map(|before| self.tokens[before]);
        let head = self.start.or(before).expect("without a start the first window begins at 1");
        let inputs = std::iter::once(head).chain(targets.iter().copied()).take(targets.len());
        let (inputs, targets) = (inputs.collect(), targets.to_vec());
        decoder.open(self.sequence, context).map_err(EngineError::Model)?;
        self.window = Some(OpenWindow { inputs, targets, done: 0 });
        self.at = end;
        Ok(true)
    }

    fn close(&mut self, decoder: &mut Decoder) {
        if self.window.take().is_some() {
            decoder.close(self.sequence);
        }
    }
}

/// Negative log-probability of `target` under the softmax of `row: [V]`, in nats.
fn surprise(row: &[f32], target: TokenId) -> Result<f64, EngineError> {
    let mut most = f64::NEG_INFINITY;
    for (token, logit) in (0..).map(TokenId).zip(row) {
        if !logit.is_finite() {
            return Err(EngineError::Sample(SampleError::NotFinite { token }));
        }
        most = most.max(f64::from(*logit));
    }
    let sum: f64 = row.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
    Ok(most + sum.ln() - f64::from(row[target.0 as usize]))
}

/// Work beside conversations.
pub(crate) enum Job {
    Embed(EmbedJob),
    Score(ScoreJob),
}

impl Job {
    /// Does the next small part; whether the job is over, done or failed.
    pub(crate) fn step(&mut self, decoder: &mut Decoder, encoder: Option<&Encoder>) -> bool {
        let (stepped, asker) = match self {
            Self::Embed(job) => (job.step(encoder), &job.asker),
            Self::Score(job) => (job.step(decoder), &job.asker),
        };
        let is_over = match stepped {
            Ok(is_done) => is_done,
            Err(error) => {
                error.log("a text was not processed");
                asker.fail(&error);
                true
            }
        };
        let is_over = is_over || asker.is_gone();
        if let (true, Self::Score(job)) = (is_over, self) {
            job.close(decoder);
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_is_the_negative_log_of_the_softmax() {
        // Probabilities 1/4 and 3/4.
        let row = [0.0f32, 3.0f32.ln()];
        assert!((surprise(&row, TokenId(0)).expect("finite") - 4f64.ln()).abs() < 1e-6);
        assert!((surprise(&row, TokenId(1)).expect("finite") - (4f64 / 3.0).ln()).abs() < 1e-6);
        assert!(surprise(&[0.0, f32::NAN], TokenId(0)).is_err());
    }

    #[test]
    fn vectors_get_unit_length() {
        assert_eq!(unit(vec![3.0, 4.0]), [0.6, 0.8]);
        assert_eq!(unit(vec![0.0, 0.0]), [0.0, 0.0]);
    }
}
