//! What can go wrong between a folder of weights and a row of logits.

use cloister_domain::{Class, Coded, TokenCount};
use cloister_weights::Name;

/// A model that cannot be loaded, or a batch that cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The weights file was refused or could not be read.
    #[error("the weights of the model were refused")]
    Weights(#[source] cloister_weights::WeightsError),
    /// The folder holds neither `model.gguf` nor `model.safetensors`.
    #[error("the folder holds neither model.gguf nor model.safetensors")]
    NoWeights,
    /// `config.json` or `pooling.json` is missing, unreadable or larger than its limit.
    #[error("{file} cannot be read or is too large")]
    ConfigUnreadable {
        /// Which of the two.
        file: &'static str,
    },
    /// `config.json` or `pooling.json` is not the JSON that was expected.
    #[error("{file} is not valid: line {line}, column {column}")]
    ConfigSyntax {
        /// Which of the two.
        file: &'static str,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// No forward pass exists for this architecture.
    #[error("the architecture {name} is not supported; supported are llama, qwen2 and bert")]
    Architecture {
        /// `model_type`, `architectures` or `general.architecture`.
        name: Name,
    },
    /// A configuration key is missing and has no default.
    #[error("the configuration lacks the key {key}")]
    KeyMissing {
        /// The key.
        key: Name,
    },
    /// A configuration key may change numbers and is not understood.
    #[error("the configuration key {key} is not understood and may change the model's numbers")]
    KeyUnknown {
        /// The key.
        key: Name,
    },
    /// A configuration key has a value that no supported model has.
    #[error("the configuration key {key} has a value that is not supported")]
    KeyValue {
        /// The key.
        key: Name,
    },
    /// A tensor that the architecture needs is not in the file.
    #[error("the tensor {name} is missing")]
    TensorMissing {
        /// The tensor.
        name: Name,
    },
    /// A tensor is in the file that the architecture does not use.
    #[error("the tensor {name} belongs to no part of this architecture")]
    TensorUnknown {
        /// The tensor.
        name: Name,
    },
    /// A tensor has another shape than the configuration says.
    #[error("the tensor {name} has another shape than the configuration says")]
    TensorShape {
        /// The tensor.
        name: Name,
    },
    /// A tensor has an element type that this place cannot use.
    #[error("the tensor {name} has an element type that cannot be used there")]
    TensorType {
        /// The tensor.
        name: Name,
    },
    /// The configured device is not on this machine.
    #[error(
        "no CUDA device answers on this machine; set engine.device = \"cpu\" or allow the fallback"
    )]
    DeviceAbsent,
    /// This build has no code for the configured device.
    #[error(
        "this build has no CUDA support; set engine.device = \"cpu\" or install the CUDA build"
    )]
    DeviceUnsupported,
    /// Worker threads cannot be started.
    #[error("worker threads cannot be started")]
    Threads,
    /// A prompt and its answer do not fit the context.
    #[error("{asked} were asked for, the context holds {context}")]
    ContextExceeded {
        /// Prompt and answer together.
        asked: TokenCount,
        /// The longest allowed.
        context: TokenCount,
    },
    /// The KV cache has no room now.
    #[error(
        "the KV cache needs {needed} pages and has {free}; try again when a running answer ends"
    )]
    CacheFull {
        /// Pages of 64 tokens that the request needs.
        needed: u32,
        /// Pages that are free.
        free: u32,
    },
    /// The KV cache that the configuration asks for is larger than any machine's memory.
    #[error("the KV cache would take {bytes}; allow fewer tokens")]
    CacheSize {
        /// Its size.
        bytes: cloister_domain::ByteCount,
    },
    /// The sequence has no reservation, or has one already.
    #[error("the sequence is not reserved, is reserved twice, or outgrows its reservation")]
    Sequence,
    /// A token id is not below the size of the vocabulary.
    #[error("a token id lies outside the vocabulary of {vocabulary}")]
    TokenRange {
        /// Number of tokens in the vocabulary.
        vocabulary: u32,
    },
    /// A step, a text or a batch without a token.
    #[error("there is no token to run")]
    Empty,
}

impl Coded for ModelError {
    fn class(&self) -> Class {
        match self {
            Self::Weights(error) => error.class(),
            Self::CacheFull { .. } => Class::Busy,
            Self::DeviceAbsent | Self::Threads | Self::ConfigUnreadable { .. } => Class::Fault,
            _ => Class::Refused,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Weights(error) => error.code(),
            Self::NoWeights => "model.weights.absent",
            Self::ConfigUnreadable { .. } => "model.config.unreadable",
            Self::ConfigSyntax { .. } => "model.config.syntax",
            Self::Architecture { .. } => "model.architecture.unsupported",
            Self::KeyMissing { .. } => "model.config.key-missing",
            Self::KeyUnknown { .. } => "model.config.key-unknown",
            Self::KeyValue { .. } => "model.config.key-value",
            Self::TensorMissing { .. } => "model.tensor.missing",
            Self::TensorUnknown { .. } => "model.tensor.unknown",
            Self::TensorShape { .. } => "model.tensor.shape",
            Self::TensorType { .. } => "model.tensor.type",
            Self::DeviceAbsent => "model.device.absent",
            Self::DeviceUnsupported => "model.device.unsupported",
            Self::Threads => "model.threads",
            Self::ContextExceeded { .. } => "model.context.exceeded",
            Self::CacheFull { .. } => "model.cache.full",
            Self::CacheSize { .. } => "model.cache.size",
            Self::Sequence => "model.sequence",
            Self::TokenRange { .. } => "model.token.range",
            Self::Empty => "model.empty",
        }
    }
}
