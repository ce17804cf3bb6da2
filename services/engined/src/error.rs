//! What can go wrong in an engine: as a daemon, and for one request.

use cloister_domain::{Class, Coded, TokenCount};
use cloister_wire::Problem;

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Started without `--slot`.
    #[error("an engine needs its slot: --slot a or --slot b")]
    Slot,
    /// The configured device cannot be used and the CPU is not allowed.
    #[error(transparent)]
    Device(cloister_model::ModelError),
    /// No thread for the model.
    #[error("the model's thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The socket cannot be had.
    #[error("the engine's socket cannot be had")]
    Listen(#[source] cloister_daemon::ListenError),
    /// Serving failed.
    #[error("the engine's socket cannot be served")]
    Serve(#[source] cloister_daemon::ServeError),
}

impl Coded for RunError {
    fn class(&self) -> Class {
        match self {
            Self::Slot => Class::Refused,
            Self::Device(cause) => cause.class(),
            Self::Thread(_) => Class::Fault,
            Self::Listen(cause) => cause.class(),
            Self::Serve(cause) => cause.class(),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Slot => "engine.slot",
            Self::Device(cause) => cause.code(),
            Self::Thread(_) => "engine.thread",
            Self::Listen(cause) => cause.code(),
            Self::Serve(cause) => cause.code(),
        }
    }
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The engine holds another generation, or none.
    #[error("this engine does not hold the generation that was asked for; ask the other slot")]
    Generation,
    /// The daemon is stopping.
    #[error("the engine is stopping; try again in a moment")]
    Stopping,
    /// A replaced generation still answers; a third beside it would not fit.
    #[error("answers of the generation before this one still run; try again in a moment")]
    Draining,
    /// A file of the generation is missing or cannot be read.
    #[error("{file} of the generation cannot be read")]
    File {
        /// Its path in the release, one of a fixed set.
        file: &'static str,
        /// Why, if a system call failed.
        #[source]
        source: Option<cloister_daemon::files::FileError>,
    },
    /// The manifest is not the one that names the generation.
    #[error("the manifest on the shelf is not that of this generation")]
    Manifest(#[source] Option<cloister_bundle::BundleError>),
    /// A file does not have the length or the bytes that the manifest says.
    #[error("file {index} of the manifest has other bytes on the shelf than were signed")]
    Bytes {
        /// Its position in the manifest, from 0.
        index: usize,
    },
    /// A text file of the generation is not UTF-8.
    #[error("{file} of the generation is not text")]
    Encoding {
        /// Its path in the release, one of a fixed set.
        file: &'static str,
    },
    /// The release brings neither `model/tokenizer.json` nor a GGUF file with a tokenizer.
    #[error("the release has no tokenizer for its language model")]
    TokenizerAbsent,
    /// The tokenizer is refused.
    #[error("the release's tokenizer is refused: {0}")]
    Tokenizer(cloister_tokenize::LoadError),
    /// The message format is refused, or a conversation cannot be rendered in it.
    #[error(transparent)]
    Template(cloister_tokenize::template::TemplateError),
    /// The tokenizer has tokens that the model does not.
    #[error("the tokenizer has {tokens} tokens, the model {rows}")]
    Vocabulary {
        /// Ids of the tokenizer.
        tokens: usize,
        /// Rows of the model.
        rows: u32,
    },
    /// The model is refused or failed.
    #[error(transparent)]
    Model(cloister_model::ModelError),
    /// The wishes cannot be met, or the logits are no numbers.
    #[error(transparent)]
    Sample(#[from] cloister_sample::SampleError),
    /// Too many or too long stop texts.
    #[error("at most {STOPS_MAX} stop texts of at most {STOP_BYTES_MAX} bytes are taken")]
    Stops,
    /// It cannot be admitted.
    #[error(transparent)]
    Admission(#[from] cloister_schedule::AdmissionError),
    /// The generation has no embedding model.
    #[error("the release has no embedding model")]
    NoEmbedding,
    /// More texts than one request may bring.
    #[error("{texts} texts are too many; at most {TEXTS_MAX} at a time")]
    Texts {
        /// How many.
        texts: usize,
    },
    /// The model's context leaves no room for a text.
    #[error("the model's context of {0} leaves no room for a text")]
    Room(TokenCount),
}

/// Stop texts of one conversation.
pub(crate) const STOPS_MAX: usize = 16;
/// The longest stop text; what may be its beginning is held back while an answer streams.
pub(crate) const STOP_BYTES_MAX: usize = 1024;
/// Texts of one embedding request, as the message says.
pub(crate) const TEXTS_MAX: usize = 256;

impl Coded for EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Stopping | Self::Draining => Class::Busy,
            Self::File { .. } => Class::Fault,
            Self::Manifest(_) | Self::Bytes { .. } => Class::Corrupt,
            Self::Model(cause) => cause.class(),
            Self::Sample(cause) => cause.class(),
            Self::Admission(cause) => cause.class(),
            Self::Generation
            | Self::Encoding { .. }
            | Self::TokenizerAbsent
            | Self::Tokenizer(_)
            | Self::Template(_)
            | Self::Vocabulary { .. }
            | Self::Stops
            | Self::NoEmbedding
            | Self::Texts { .. }
            | Self::Room(_) => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Generation => "engine.generation.mismatch",
            Self::Stopping => "engine.stopping",
            Self::Draining => "engine.draining",
            Self::File { .. } => "engine.file",
            Self::Manifest(_) => "engine.manifest",
            Self::Bytes { .. } => "engine.bytes",
            Self::Encoding { .. } => "engine.encoding",
            Self::TokenizerAbsent => "engine.tokenizer.absent",
            Self::Tokenizer(cause) => cause.code(),
            Self::Template(cause) => cause.code(),
            Self::Vocabulary { .. } => "engine.vocabulary",
            Self::Model(cause) => cause.code(),
            Self::Sample(cause) => cause.code(),
            Self::Stops => "engine.stop-texts",
            Self::Admission(cause) => cause.code(),
            Self::NoEmbedding => "engine.embedding.absent",
            Self::Texts { .. } => "engine.embedding.texts",
            Self::Room(_) => "engine.context.room",
        }
    }
}

impl EngineError {
    /// What the asker is told.
    pub(crate) fn problem(&self) -> Problem {
        Problem::of(self)
    }

    /// Tells the operator, with the chain of causes, that somebody must act.
    pub(crate) fn log(&self, what: &'static str) {
        tracing::error!(code = self.code(), error = self as &dyn std::error::Error, "{what}");
    }
}
