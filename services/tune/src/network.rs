//! The decoder: Llama's architecture (Touvron et al. 2023) with grouped queries and tied embeddings.
//!
//! Shapes: `B` batch, `T` tokens, `D` width, `H` heads, `K` KV heads, `G = H / K`, `Dh` head size,
//! `F` feed-forward width, `V` vocabulary. Weights lie `[in, out]`, as burn's product wants them;
//! [`crate::folder`] turns them round for files.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::prelude::{Backend, Int, Tensor};
use burn::tensor::Distribution;
use serde::{Deserialize, Serialize};

use crate::fused::{self, Fused, Heads, Op};

/// The sizes that define a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// `V`.
    pub vocabulary: usize,
    /// `D`.
    pub width: usize,
    /// How many layers.
    pub layers: usize,
    /// `H`.
    pub heads: usize,
    /// `K`, a divisor of `H`.
    pub kv_heads: usize,
    /// `Dh`.
    pub head: usize,
    /// `F`.
    pub inner: usize,
    /// The longest sequence, in tokens.
    pub context: usize,
}

/// Base of the rotary wave lengths (Su et al. 2021, section 3.2.2).
pub const ROPE_THETA: f64 = 10_000.0;

/// Added to the mean square before its root, as in Llama's files.
pub const NORM_EPSILON: f64 = 1e-5;

/// One decoder layer.
#[derive(Module, Debug)]
pub struct Layer<B: Backend> {
    /// `[D]`
    pub attention_norm: Param<Tensor<B, 1>>,
    /// Queries, keys and values side by side: `[D, (H + 2K) Dh]`
    pub qkv: Param<Tensor<B, 2>>,
    /// `[H Dh, D]`
    pub o: Param<Tensor<B, 2>>,
    /// `[D]`
    pub mlp_norm: Param<Tensor<B, 1>>,
    /// Gate and up side by side: `[D, 2F]`
    pub gate_up: Param<Tensor<B, 2>>,
    /// `[F, D]`
    pub down: Param<Tensor<B, 2>>,
}

/// The whole decoder; the embedding is also the output matrix.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    /// `[V, D]`
    pub embedding: Param<Tensor<B, 2>>,
    /// From the first to the last.
    pub layers: Vec<Layer<B>>,
    /// `[D]`
    pub norm: Param<Tensor<B, 1>>,
}

/// What depends on the length of the sequences only.
#[derive(Debug, Clone)]
pub struct Frame {
    tokens: usize,
    rotation: Arc<(Vec<f32>, Vec<f32>)>,
}

impl Frame {
    /// For sequences of `tokens`.
    #[must_use]
    pub fn new(shape: &Shape, tokens: usize) -> Self {
        let half = shape.head / 2;
        let angle = |at: usize| {
            let (position, pair) = (at / half, at % half);
            position as f64 * ROPE_THETA.powf(-(pair as f64) / half as f64)
        };
        let cos = (0..tokens * half).map(|at| narrow(angle(at).cos())).collect();
        let sin = (0..tokens * half).map(|at| narrow(angle(at).sin())).collect();
        Self { tokens, rotation: Arc::new((cos, sin)) }
    }

    /// The length of the sequences.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// An `f64` as the nearest `f32`.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the purpose")]
#[must_use]
pub fn narrow(x: f64) -> f32 {
    x as f32
}

impl<B: Fused> Network<B> {
    /// Weights from burn's seeded normal distribution: 0.02, and for the matrices that write into the
    /// residual stream `0.02 / sqrt(2 L)` (GPT-2's scheme); norms are one.
    #[must_use]
    pub fn new(shape: &Shape, device: &B::Device) -> Self {
        let normal = |rows, columns, deviation| {
            Param::from_tensor(Tensor::random(
                [rows, columns],
                Distribution::Normal(0.0, deviation),
                device,
            ))
        };
        let ones = || Param::from_tensor(Tensor::ones([shape.width], device));
        let residual = 0.02 / (2.0 * shape.layers as f64).sqrt();
        let layer = |_| Layer {
            attention_norm: ones(),
            qkv: normal(shape.width, (shape.heads + 2 * shape.kv_heads) * shape.head, 0.02),
            o: normal(shape.heads * shape.head, shape.width, residual),
            mlp_norm: ones(),
            gate_up: normal(shape.width, 2 * shape.inner, 0.02),
            down: normal(shape.inner, shape.width, residual),
        };
        Self {
            embedding: normal(shape.vocabulary, shape.width, 0.02),
            layers: (0..shape.layers).map(layer).collect(),
            norm: ones(),
        }
    }

    /// Scores of the next token: `tokens: [B, T]` to `[B T, V]`.
    ///
    /// # Panics
    /// When `frame` was made for another length.
    pub fn logits(&self, shape: &Shape, frame: &Frame, tokens: Tensor<B, 2, Int>) -> Tensor<B, 2> {
        let [batch, length] = tokens.dims();
        assert_eq!(length, frame.tokens, "the frame is of this length");
        let mut x = self.embedding.val().select(0, tokens.reshape([batch * length]));
        for layer in &self.layers {
            x = x.clone() + layer.attention(shape, frame, batch, norm(x, &layer.attention_norm));
            x = x.clone() + layer.mlp(norm(x, &layer.mlp_norm));
        }
        norm(x, &self.norm).matmul(self.embedding.val().transpose())
    }

    /// Weighted mean of `-ln p(target)`: `tokens: [B, T]`; a target and a weight for each, row by row.
    pub fn loss(
        &self,
        shape: &Shape,
        frame: &Frame,
        tokens: Tensor<B, 2, Int>,
        targets: Vec<u32>,
        weights: Vec<f32>,
    ) -> Tensor<B, 1> {
        let logits = self.logits(shape, frame, tokens);
        fused::apply(&Op::Loss(Arc::new((targets, weights))), logits)
    }
}

impl<B: Fused> Layer<B> {
    fn attention(
        &self,
        shape: &Shape,
        frame: &Frame,
        batch: usize,
        x: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let heads = |from: usize, group: usize, rotated: bool| Heads {
            batch,
            tokens: frame.tokens,
            all: shape.heads + 2 * shape.kv_heads,
            from,
            kv: shape.kv_heads,
            group,
            head: shape.head,
            rotation: rotated.then(|| frame.rotation.clone()),
        };
        let group = shape.heads / shape.kv_heads;
        let qkv = x.matmul(self.qkv.val());
        let queries: Tensor<B, 3> = fused::apply(&Op::Split(heads(0, group, true)), qkv.clone());
        let keys: Tensor<B, 3> = fused::apply(&Op::Split(heads(shape.heads, 1, true)), qkv.clone());
        let values: Tensor<B, 3> =
            fused::apply(&Op::Split(heads(shape.heads + shape.kv_heads, 1, false)), qkv);
        let scale = narrow(1.0 / (shape.head as f64).sqrt());
        let shares: Tensor<B, 3> =
            fused::apply(&Op::CausalSoftmax(scale), queries.matmul(keys.swap_dims(1, 2)));
        let back = Heads { all: shape.heads, ..heads(0, group, false) };
        fused::apply::<B, 3, 2>(&Op::Merge(back), shares.matmul(values)).matmul(self.o.val())
    }

    fn mlp(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        fused::apply::<B, 2, 2>(&Op::SwiGlu, x.matmul(self.gate_up.val())).matmul(self.down.val())
    }
}

/// Divides each row of `x: [N, D]` by its root mean square, times `gain`.
fn norm<B: Fused>(x: Tensor<B, 2>, gain: &Param<Tensor<B, 1>>) -> Tensor<B, 2> {
    fused::apply::<B, 2, 2>(&Op::Norm, x) * gain.val().unsqueeze()
}
