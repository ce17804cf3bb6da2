//! The shapes of answers (OpenAI API, chat completions and embeddings), with what is ours beside
//! them under `cloister`.

use cloister_domain::{Digest, GenerationId, TokenCount};
use cloister_wire::engine::FinishReason;
use serde_json::{Value, json};

/// What is the same in every piece of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) request_id: String,
    pub(crate) model: String,
    pub(crate) created: u64,
    pub(crate) generation: GenerationId,
    pub(crate) configuration: Digest,
    /// Whether a stream ends with a piece of figures; the pieces before it then say that they have
    /// none, as the API defines it.
    pub(crate) figures_follow: bool,
}

/// What is known of an answer when it is complete.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    pub(crate) reason: FinishReason,
    pub(crate) prompt_tokens: TokenCount,
    pub(crate) completion_tokens: TokenCount,
    /// Whether evidence was looked for, and found.
    pub(crate) evidence: Option<bool>,
    pub(crate) citations: Value,
    pub(crate) ignored: Vec<&'static str>,
}

impl Closing {
    fn finish_reason(&self) -> &'static str {
        match self.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        }
    }

    fn usage(&self) -> Value {
        let (prompt, completion) = (self.prompt_tokens.0, self.completion_tokens.0);
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": u64::from(prompt) + u64::from(completion),
        })
    }
}

impl Frame {
    fn fingerprint(&self) -> String {
        format!("gen_{}", self.generation.0.short())
    }

    fn ours(&self, closing: &Closing) -> Value {
        json!({
            "request_id": self.request_id,
            "generation": self.generation,
            "configuration": self.configuration,
            "evidence": closing.evidence,
            "citations": closing.citations,
            "ignored": closing.ignored,
        })
    }

    /// A whole answer.
    pub(crate) fn completion(&self, text: &str, closing: &Closing) -> Value {
        json!({
            "id": format!("chatcmpl-{}", self.request_id),
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint(),
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": closing.finish_reason(),
            }],
            "usage": closing.usage(),
            "cloister": self.ours(closing),
        })
    }

    fn chunk(&self, choices: &Value) -> Value {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", self.request_id),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint(),
            "choices": choices,
        });
        if let (true, Value::Object(fields)) = (self.figures_follow, &mut chunk) {
            fields.insert("usage".to_owned(), Value::Null);
        }
        chunk
    }

    /// The first piece of a stream: who speaks.
    pub(crate) fn opening(&self) -> Value {
        let delta = json!({ "role": "assistant", "content": "", "refusal": null });
        self.chunk(
            &json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }]),
        )
    }

    /// A piece of the text.
    pub(crate) fn piece(&self, text: &str) -> Value {
        let delta = json!({ "content": text });
        self.chunk(
            &json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": null }]),
        )
    }

    /// The last piece: why it ended, and the citations.
    pub(crate) fn ending(&self, closing: &Closing) -> Value {
        let reason = closing.finish_reason();
        let choice = json!({ "index": 0, "delta": {}, "logprobs": null, "finish_reason": reason });
        let mut chunk = self.chunk(&json!([choice]));
        if let Value::Object(fields) = &mut chunk {
            fields.insert("cloister".to_owned(), self.ours(closing));
        }
        chunk
    }

    /// The piece after the last one, if the caller wants figures.
    pub(crate) fn usage(&self, closing: &Closing) -> Value {
        let mut chunk = self.chunk(&json!([]));
        if let Value::Object(fields) = &mut chunk {
            fields.insert("usage".to_owned(), closing.usage());
        }
        chunk
    }
}
