//! Messages of `cloister-engined`, one process per slot.
//!
//! Every request that uses weights names the generation it wants; an engine that holds another
//! refuses (`engine.generation.mismatch`), so no answer mixes two generations.

use std::path::PathBuf;

use cloister_domain::{ByteCount, GenerationId, Principal, Sensitive, TokenCount};
use serde::{Deserialize, Serialize};

use crate::Problem;

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Rules for the answer.
    System,
    /// The person or program that asks.
    User,
    /// The model's earlier answer.
    Assistant,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What was said.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub content: Sensitive<String>,
}

/// How tokens are drawn from logits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy; at most 2.
    pub temperature: f32,
    /// Nucleus: smallest set of tokens with at least this probability, in (0, 1].
    pub top_p: f32,
    /// Only the `top_k` likeliest tokens; 0 is all.
    pub top_k: u32,
    /// The same prompt, seed and generation give the same tokens.
    pub seed: u64,
}

/// A conversation to continue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// The generation that must answer.
    pub generation: GenerationId,
    /// For whom; fairness and cache isolation go by it.
    pub principal: Principal,
    /// The turns so far, oldest first.
    pub messages: Vec<Message>,
    /// Most tokens to write; reserved at admission.
    pub max_tokens: TokenCount,
    /// How to draw.
    pub sampling: Sampling,
    /// Texts that end the answer and are not part of it.
    #[serde(serialize_with = "Sensitive::onto_socket")]
    pub stop: Sensitive<Vec<String>>,
}

/// A request to an engine. A `Chat` is cancelled by closing the connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What is loaded? Answered with [`Event::Status`].
    Status,
    /// Load a generation in place of what is there; answered with [`Event::Loaded`].
    Load {
        /// The generation.
        generation: GenerationId,
        /// Its folder on the shelf, with `tree/` inside.
        directory: PathBuf,
        /// Whether every byte is hashed again before it is used.
        full_check: bool,
    },
    /// Let go of what is loaded; answered with [`Event::Status`].
    Unload,
    /// Continue a conversation; answered with `Started`, many `Delta`, and `Finished`.
    Chat(Chat),
    /// Embed texts; answered with [`Event::Embeddings`].
    Embed {
        /// The generation whose embedding model is meant.
        generation: GenerationId,
        /// At most 256 texts.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        texts: Sensitive<Vec<String>>,
    },
    /// How surprising is this text to the language model? Answered with [`Event::Scored`].
    Score {
        /// The generation.
        generation: GenerationId,
        /// The text; long ones are scored in windows of the model's context.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        text: Sensitive<String>,
    },
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its turn, or a stop text was met.
    Stop,
    /// `max_tokens` were written.
    Length,
}

/// What an engine holds and uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The loaded generation, if any.
    pub generation: Option<GenerationId>,
    /// Name of the language model as the bundle gives it.
    pub model: Option<String>,
    /// Width of the embedding, if the generation has an embedding model.
    pub embedding_width: Option<u32>,
    /// SHA-256 of the embedding model's weights file, which names its vector space.
    pub embedding_model: Option<cloister_domain::Digest>,
    /// Longest prompt and answer together.
    pub context: TokenCount,
    /// Where the products run: `cpu` or `cuda:0`.
    pub device: String,
    /// Largest resident size of the process since its start.
    pub peak_memory: ByteCount,
    /// Conversations being answered now.
    pub running: u32,
}

/// Something an engine says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Answer to `Status` and `Unload`.
    Status(Status),
    /// Answer to `Load`: what is there now and how long it took.
    Loaded {
        /// The state after loading.
        status: Status,
        /// From request to ready.
        microseconds: u64,
    },
    /// A conversation was admitted.
    Started {
        /// Size of the rendered prompt.
        prompt_tokens: TokenCount,
    },
    /// The next piece of the answer; whole characters only.
    Delta {
        /// The piece.
        #[serde(serialize_with = "Sensitive::onto_socket")]
        text: Sensitive<String>,
    },
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// Tokens written.
        completion_tokens: TokenCount,
        /// Time for the prompt.
        prefill_microseconds: u64,
        /// Time for the answer.
        decode_microseconds: u64,
    },
    /// Unit vectors, one a text, in order.
    Embeddings {
        /// `[texts, width]`.
        vectors: Vec<Vec<f32>>,
        /// Tokens of all texts.
        tokens: TokenCount,
    },
    /// Negative log-likelihood of a text.
    Scored {
        /// Sum over the tokens, in nats.
        nats: f64,
        /// Tokens that were predicted.
        tokens: TokenCount,
        /// Bytes of the text.
        bytes: ByteCount,
    },
    /// The request was refused or failed; nothing follows.
    Problem(Problem),
}
