//! How a model is loaded.

use cloister_domain::TokenCount;

use crate::Device;

/// Which implementation of the operations computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// On a CPU our kernels for decoders and burn for encoders; on CUDA burn.
    #[default]
    Auto,
    /// The obvious loops with f64 sums: the oracle, slow.
    Scalar,
    /// Our kernels, chosen by the CPU's features.
    Simd,
    /// burn, in f32.
    Burn,
}

/// How a model is loaded and what it may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where products run.
    pub device: Device,
    /// Whether the CPU is used when the device is absent.
    pub cpu_fallback: bool,
    /// Worker threads of this model, at least 1.
    pub threads: usize,
    /// Longest prompt and answer together; the model's own limit counts if it is smaller.
    pub context_tokens_max: TokenCount,
    /// Tokens that the KV cache holds, over all sequences.
    pub cache_tokens_max: TokenCount,
    /// Which implementation computes.
    pub backend: Backend,
}

impl Options {
    /// The CPU with `threads` workers, contexts up to 4096 tokens, and room for four of them.
    #[must_use]
    pub const fn cpu(threads: usize) -> Self {
        Self {
            device: Device::Cpu,
            cpu_fallback: false,
            threads,
            context_tokens_max: TokenCount(4096),
            cache_tokens_max: TokenCount(4 * 4096),
            backend: Backend::Auto,
        }
    }
}
