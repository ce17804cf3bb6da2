//! The operations that a forward pass is written in.
//!
//! Coarse on purpose: an implementation owns its buffers and may keep them on another device. Shapes:
//! `R` rows of a batch, `D` model width, `H` heads, `K` key-value heads, `Dh` head width.

use std::ops::Range;

use cloister_weights::Tensor;

use crate::{
    ModelError,
    batch::{Angles, Span},
};

/// The heads of an attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads, `H`.
    pub query: usize,
    /// Key-value heads, `K`; divides `H`.
    pub key: usize,
    /// Width of a head, `Dh`.
    pub width: usize,
    /// What scores are multiplied with before the softmax.
    pub scale: f32,
}

/// Size of a KV cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheShape {
    /// Layers.
    pub layers: usize,
    /// Pages of [`crate::PAGE_TOKENS`] tokens.
    pub pages: usize,
    /// Key-value heads, `K`.
    pub heads: usize,
    /// Width of a head, `Dh`.
    pub width: usize,
}

/// Which two elements of a head rotate together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `(i, i + Dh/2)`: Hugging Face files and GGUF files of qwen2.
    Halves,
    /// `(2i, 2i + 1)`: GGUF files of llama, whose query and key rows are permuted for it.
    Neighbours,
}

/// An implementation of the operations of a forward pass.
///
/// Every result row depends on its own row only (and, in an attention, on its own sequence), in bits too,
/// wherever the implementation says so in its own documentation.
pub trait Ops: Send + Sync {
    /// Activations `[R, width]`.
    type Rows: Clone + Send;
    /// Weights `[out, in]` as a checkpoint stores them.
    type Matrix: Send + Sync;
    /// A bias or gain `[n]`.
    type Vector: Send + Sync;
    /// Keys and values of all layers.
    type Cache: Send;

    /// Takes a weight matrix over.
    ///
    /// # Errors
    ///
    /// [`ModelError::TensorType`] when its elements cannot be multiplied here.
    fn matrix(&self, weights: &Tensor) -> Result<Self::Matrix, ModelError>;
    /// Takes a vector over.
    fn vector(&self, weights: &Tensor) -> Self::Vector;

    /// Rows of `table` by index.
    fn embed(&self, table: &Self::Matrix, ids: &[u32]) -> Self::Rows;
    /// `x: [R, in]` times the transpose of `weights: [out, in]`, plus `bias: [out]`.
    fn product(
        &self,
        x: &Self::Rows,
        weights: &Self::Matrix,
        bias: Option<&Self::Vector>,
    ) -> Self::Rows;
    /// `x + y`.
    fn add(&self, x: Self::Rows, y: &Self::Rows) -> Self::Rows;
    /// Each row over its root mean square, times `gain` (Zhang and Sennrich 2019, eq. 4).
    fn rms_norm(&self, x: &Self::Rows, gain: &Self::Vector, epsilon: f32) -> Self::Rows;
    /// Each row to mean 0 and variance 1, times `gain`, plus `bias` (Ba et al. 2016, eq. 3).
    fn layer_norm(
        &self,
        x: &Self::Rows,
        gain: &Self::Vector,
        bias: &Self::Vector,
        epsilon: f32,
    ) -> Self::Rows;
    /// Rotates each head by its row's angles (Su et al. 2021, eq. 34).
    fn rope(&self, x: Self::Rows, angles: &Angles, pairs: Pairs) -> Self::Rows;
    /// `silu(gate) · up` (Shazeer 2020, eq. 6).
    fn gated_silu(&self, gate: Self::Rows, up: &Self::Rows) -> Self::Rows;
    /// `x · Φ(x)` with the error function (Hendrycks and Gimpel 2016).
    fn gelu(&self, x: Self::Rows) -> Self::Rows;
    /// The rows with these indices.
    fn select(&self, x: &Self::Rows, rows: &[usize]) -> Self::Rows;

    /// An empty cache.
    fn cache(&self, shape: CacheShape) -> Self::Cache;
    /// Stores keys and values `[R, K·Dh]` of one layer at `slots` (page · 64 + place in the page).
    fn store(
        &self,
        cache: &mut Self::Cache,
        layer: usize,
        slots: &[usize],
        keys: &Self::Rows,
        values: &Self::Rows,
    );
    /// Causal attention of `query: [R, H·Dh]` over the cached tokens of each row's sequence.
    fn attend_cached(
        &self,
        cache: &Self::Cache,
        layer: usize,
        query: &Self::Rows,
        spans: &[Span],
        heads: Heads,
    ) -> Self::Rows;
    /// Overwrites pages that a sequence gave back, so that nothing of it stays.
    fn wipe(&self, cache: &mut Self::Cache, pages: &[u32]);
    /// Attention in both directions inside each span of rows.
    fn attend(
        &self,
        query: &Self::Rows,
        keys: &Self::Rows,
        values: &Self::Rows,
        spans: &[Range<usize>],
        heads: Heads,
    ) -> Self::Rows;

    /// The values `[R · width]` in host memory.
    fn read(&self, x: Self::Rows) -> Vec<f32>;
}
