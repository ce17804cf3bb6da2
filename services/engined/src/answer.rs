//! One conversation while it is answered.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
    mpsc::Sender,
};

use cloister_daemon::clock::Stopwatch;
use cloister_domain::{Coded as _, Sensitive, TokenCount, TokenId};
use cloister_sample::{Sampler, StopMatcher};
use cloister_tokenize::Decoder;
use cloister_wire::engine::{Event, FinishReason};

use crate::{EngineError, shared::Front};

/// The connection that waits for events. An answer sends at most `max_tokens` and three, so the
/// channel needs no bound of its own, and a slow reader does not hold up the others.
pub(crate) struct Asker {
    events: Sender<Event>,
    /// Set by the connection when the other end went away.
    is_gone: Arc<AtomicBool>,
}

impl Asker {
    pub(crate) fn new(events: Sender<Event>, is_gone: Arc<AtomicBool>) -> Self {
        Self { events, is_gone }
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    pub(crate) fn say(&self, event: Event) {
        if self.events.send(event).is_err() {
            self.is_gone.store(true, Ordering::Relaxed);
        }
    }

    /// Tells why nothing more comes.
    pub(crate) fn fail(&self, error: &EngineError) {
        self.say(Event::Problem(error.problem()));
    }
}

/// A conversation with its prompt, its dice and what was written so far.
pub(crate) struct Answer {
    pub(crate) asker: Asker,
    pub(crate) prompt: Vec<TokenId>,
    /// The token drawn last, which runs next.
    pub(crate) last: TokenId,
    max_tokens: TokenCount,
    drawn: u32,
    sampler: Sampler,
    decoder: Decoder,
    stop: StopMatcher,
    prefill: Stopwatch,
    prefill_microseconds: u64,
    decode: Option<Stopwatch>,
}

impl Answer {
    pub(crate) fn new(
        asker: Asker,
        prompt: Vec<TokenId>,
        max_tokens: TokenCount,
        sampler: Sampler,
        stop: StopMatcher,
    ) -> Self {
        let last = TokenId(0);
        let (decoder, prefill) = (Decoder::new(), Stopwatch::start());
        let (drawn, prefill_microseconds, decode) = (0, 0, None);
        Self {
            asker,
            prompt,
            last,
            max_tokens,
            drawn,
            sampler,
            decoder,
            stop,
            prefill,
            prefill_microseconds,
            decode,
        }
    }

    /// The conversation runs from now on.
    pub(crate) fn start(&mut self) {
        self.prefill = Stopwatch::start();
        let prompt_tokens = TokenCount(u32::try_from(self.prompt.len()).unwrap_or(u32::MAX));
        self.asker.say(Event::Started { prompt_tokens });
    }

    /// Draws the next token from `logits: [V]` and says what it completes; whether it was the last.
    pub(crate) fn draw(&mut self, front: &Front, logits: &[f32]) -> bool {
        let token = match self.sampler.draw(logits) {
            Ok(token) => token,
            Err(cause) => {
                let error = EngineError::Sample(cause);
                tracing::error!(code = error.code(), "an answer was ended");
                self.asker.fail(&error);
                return true;
            }
        };
        if self.decode.is_none() {
            self.prefill_microseconds = self.prefill.microseconds();
            self.decode = Some(Stopwatch::start());
        }
        if front.ends.contains(&token) {
            self.finish(FinishReason::Stop);
            return true;
        }
        self.drawn += 1;
        self.last = token;
        let piece = self.decoder.push(&front.tokenizer, token);
        let text = self.stop.push(&piece);
        self.write(text);
        if self.stop.is_stopped() {
            self.finish(FinishReason::Stop);
        } else if self.drawn >= self.max_tokens.0 {
            self.finish(FinishReason::Length);
        } else {
            return false;
        }
        true
    }

    fn write(&self, text: String) {
        if !text.is_empty() {
            self.asker.say(Event::Delta { text: Sensitive::new(text) });
        }
    }

    fn finish(&mut self, reason: FinishReason) {
        let rest = std::mem::take(&mut self.decoder).finish();
        let mut text = self.stop.push(&rest);
        text.push_str(&std::mem::replace(&mut self.stop, StopMatcher::new(&[])).finish());
        self.write(text);
        self.asker.say(Event::Finished {
            reason,
            completion_tokens: TokenCount(self.drawn),
            prefill_microseconds: self.prefill_microseconds,
            decode_microseconds: self.decode.map_or(0, |decode| decode.microseconds()),
        });
    }
}
