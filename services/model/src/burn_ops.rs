//! The operations with burn, in f32: on a CUDA device, and on the CPU for encoders.
//!
//! On the CPU burn's products are good and its transcendental functions are not (softmax, SiLU, GELU take
//! half of an encoder's time), so these go to our kernels; handing a tensor over costs no copy there.
//! On CUDA products run in TF32, so equality with the CPU holds to about 1e-3 only.

use std::ops::Range;

use burn::tensor::{Bool, Int, Tensor as Burn, TensorData, activation, backend::Backend};
use cloister_weights::Tensor;

use crate::{
    Heads, ModelError, Ops,
    batch::{Angles, Span},
    host::{self, HostRows},
    ops::{CacheShape, Pairs},
    pages::PAGE_TOKENS,
    simd_ops::SimdOps,
};

/// burn on one device.
#[derive(Clone, Debug)]
pub(crate) struct BurnOps<B: Backend> {
    device: B::Device,
    /// Our kernels, when tensors lie in host memory.
    host: Option<SimdOps>,
}

/// Weights `[in, out]`, the side on which burn's CPU products are fast, and `[out, in]` for a table.
#[derive(Debug)]
pub(crate) struct BurnMatrix<B: Backend> {
    weights: Burn<B, 2>,
    source: Tensor,
}

/// Keys and values of a layer, `[slots, K·Dh]` each.
#[derive(Debug)]
pub(crate) struct BurnCache<B: Backend> {
    layers: Vec<[Option<Burn<B, 2>>; 2]>,
}

impl<B: Backend> BurnOps<B> {
    /// burn on `device`; `on_host` says that its tensors lie in host memory.
    pub(crate) fn new(device: B::Device, on_host: bool) -> Self {
        Self { device, host: on_host.then(SimdOps::new) }
    }

    fn upload<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Burn<B, D> {
        Burn::from_data(TensorData::new(values, shape), &self.device)
    }

    fn indices(&self, indices: impl Iterator<Item = usize>) -> Burn<B, 1, Int> {
        let indices: Vec<i32> =
            indices.map(|i| i32::try_from(i).expect("an index fits 31 bits")).collect();
        let count = indices.len();
        Burn::from_data(TensorData::new(indices, [count]), &self.device)
    }

    fn download(x: Burn<B, 2>) -> HostRows {
        let [_, width] = x.dims();
        let values = x.into_data().into_vec().expect("activations are f32");
        HostRows { values, width }
    }

    fn back(&self, x: HostRows) -> Burn<B, 2> {
        let shape = [x.count(), x.width];
        self.upload(x.values, shape)
    }

    /// `query: [T, H·Dh]` over `keys`, `values: [S, K·Dh]`; `hidden: [T, S]` is true where not to look.
    fn attention(
        query: Burn<B, 2>,
        keys: Burn<B, 2>,
        values: Burn<B, 2>,
        hidden: Option<Burn<B, 2, Bool>>,
        heads: Heads,
    ) -> Burn<B, 2> {
        let ([tokens, width], [seen, _]) = (query.dims(), keys.dims());
        let split = |x: Burn<B, 2>, rows, count| -> Burn<B, 3> {
            x.reshape([rows, count, heads.width]).swap_dims(0, 1)
        };
        let grouped = |x: Burn<B, 2>| -> Burn<B, 3> {
            let x: Burn<B, 4> =
                split(x, seen, heads.key).reshape([heads.key, 1, seen, heads.width]);
            x.repeat_dim(1, heads.query / heads.key).reshape([heads.query, seen, heads.width])
        };
        let query = split(query, tokens, heads.query);
        let mut scores = query.matmul(grouped(keys).swap_dims(1, 2)).mul_scalar(heads.scale);
        if let Some(hidden) = hidden {
            let hidden = hidden.reshape([1, tokens, seen]).repeat_dim(0, heads.query);
            scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
        }
        let mixed = activation::softmax(scores, 2).matmul(grouped(values));
        mixed.swap_dims(0, 1).reshape([tokens, width])
    }
}

impl<B: Backend> Ops for BurnOps<B> {
    type Rows = Burn<B, 2>;
    type Matrix = BurnMatrix<B>;
    type Vector = Burn<B, 1>;
    type Cache = BurnCache<B>;

    fn matrix(&self, weights: &Tensor) -> Result<BurnMatrix<B>, ModelError> {
        let source = host::matrix(weights)?;
        let (outputs, inputs) = (source.shape()[0], source.shape()[1]);
        let values = source.to_f32();
        let mut turned = vec![0.0; values.len()];
        for (n, row) in values.chunks_exact(inputs).enumerate() {
            for (k, value) in row.iter().enumerate() {
                turned[k * outputs + n] = *value;
            }
        }
        Ok(BurnMatrix { weights: self.upload(turned, [inputs, outputs]), source })
    }

    fn vector(&self, weights: &Tensor) -> Burn<B, 1> {
        let values = weights.to_f32();
        let count = values.len();
        self.upload(values, [count])
    }

    fn embed(&self, table: &BurnMatrix<B>, ids: &[u32]) -> Burn<B, 2> {
        self.back(host::embed(&table.source, ids))
    }

    fn product(
        &self,
        x: &Burn<B, 2>,
        weights: &BurnMatrix<B>,
        bias: Option<&Burn<B, 1>>,
    ) -> Burn<B, 2> {
        let y = x.clone().matmul(weights.weights.clone());
        match bias {
            Some(bias) => y + bias.clone().unsqueeze::<2>(),
            None => y,
        }
    }

    fn add(&self, x: Burn<B, 2>, y: &Burn<B, 2>) -> Burn<B, 2> {
        x + y.clone()
    }

    fn rms_norm(&self, x: &Burn<B, 2>, gain: &Burn<B, 1>, epsilon: f32) -> Burn<B, 2> {
        let squares = x.clone().powi_scalar(2).mean_dim(1).add_scalar(epsilon);
        x.clone() / squares.sqrt() * gain.clone().unsqueeze::<2>()
    }

    fn layer_norm(
        &self,
        x: &Burn<B, 2>,
        gain: &Burn<B, 1>,
        bias: &Burn<B, 1>,
        epsilon: f32,
    ) -> Burn<B, 2> {
        let x = x.clone() - x.clone().mean_dim(1);
        let variance = x.clone().powi_scalar(2).mean_dim(1).add_scalar(epsilon);
        let x = x / variance.sqrt();
        x * gain.clone().unsqueeze::<2>() + bias.clone().unsqueeze::<2>()
    }

    fn rope(&self, x: Burn<B, 2>, angles: &Angles, pairs: Pairs) -> Burn<B, 2> {
        let ([rows, width], half) = (x.dims(), angles.pairs);
        let heads = width / (2 * half);
        // The pair is the axis of length two.
        let (shape, angle, axis) = match pairs {
            Pairs::Halves => ([rows, heads, 2, half], [rows, 1, 1, half], 2),
            Pairs::Neighbours => ([rows, heads, half, 2], [rows, 1, half, 1], 3),
        };
        let cos: Burn<B, 4> = self.upload(angles.cos.clone(), angle);
        let sin: Burn<B, 4> = self.upload(angles.sin.clone(), angle);
        let x: Burn<B, 4> = x.reshape(shape);
        let (a, b) = (x.clone().narrow(axis, 0, 1), x.narrow(axis, 1, 1));
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = a * sin + b * cos;
        Burn::cat(vec![first, second], axis).reshape([rows, width])
    }

    fn gated_silu(&self, gate: Burn<B, 2>, up: &Burn<B, 2>) -> Burn<B, 2> {
        match &self.host {
            Some(simd) => {
                let up = Self::download(up.clone());
                self.back(simd.gated_silu(Self::download(gate), &up))
            }
            None => activation::silu(gate) * up.clone(),
        }
    }

    fn gelu(&self, x: Burn<B, 2>) -> Burn<B, 2> {
        match &self.host {
            Some(simd) => self.back(simd.gelu(Self::download(x))),
            None => activation::gelu(x),
        }
    }

    fn select(&self, x: &Burn<B, 2>, rows: &[usize]) -> Burn<B, 2> {
        x.clone().select(0, self.indices(rows.iter().copied()))
    }

    fn cache(&self, shape: CacheShape) -> BurnCache<B> {
        let size = [shape.pages * PAGE_TOKENS, shape.heads * shape.width];
        let empty = || Some(Burn::zeros(size, &self.device));
        BurnCache { layers: (0..shape.layers).map(|_| [empty(), empty()]).collect() }
    }

    fn store(
        &self,
        cache: &mut BurnCache<B>,
        layer: usize,
        slots: &[usize],
        keys: &Burn<B, 2>,
        values: &Burn<B, 2>,
    ) {
        for (kept, new) in cache.layers[layer].iter_mut().zip([keys, values]) {
            let mut first = 0;
            for run in slots.chunk_by(|one, next| one + 1 == *next) {
                let rows = first..first + run.len();
                let place = run[0]..run[0] + run.len();
                first = rows.end;
                // Taken out, so that the tensor has one owner and is changed in place.
                *kept = kept.take().map(|all| {
                    let width = all.dims()[1];
                    let new = new.clone().slice([rows, 0..width]);
                    all.slice_assign([place, 0..width], new)
                });
            }
        }
    }

    fn attend_cached(
        &self,
        cache: &BurnCache<B>,
        layer: usize,
        query: &Burn<B, 2>,
        spans: &[Span],
        heads: Heads,
    ) -> Burn<B, 2> {
        let mut parts = Vec::with_capacity(spans.len());
        for span in spans {
            let slots = self.indices((0..span.length()).map(|position| span.slot(position)));
            let [keys, values] = cache.layers[layer].each_ref().map(|kept| {
                let kept = kept.clone().expect("a cache is whole between stores");
                kept.select(0, slots.clone())
            });
            let tokens = span.rows.len();
            let query = query.clone().slice([span.rows.clone(), 0..query.dims()[1]]);
            let hidden = Burn::<B, 2, Bool>::tril_mask(
                [tokens, span.length()],
                i64::try_from(span.start).expect("a position fits"),
                &self.device,
            );
            parts.push(Self::attention(query, keys, values, Some(hidden), heads));
        }
        Burn::cat(parts, 0)
    }

    fn wipe(&self, cache: &mut BurnCache<B>, pages: &[u32]) {
        for kept in cache.layers.iter_mut().flatten() {
            for &page in pages {
                let first = usize::try_from(page).expect("a page fits memory") * PAGE_TOKENS;
                *kept = kept.take().map(|all| {
                    let width = all.dims()[1];
                    let zeros = Burn::zeros([PAGE_TOKENS, width], &self.device);
                    all.slice_assign([first..first + PAGE_TOKENS, 0..width], zeros)
                });
            }
        }
    }

    fn attend(
        &self,
        query: &Burn<B, 2>,
        keys: &Burn<B, 2>,
        values: &Burn<B, 2>,
        spans: &[Range<usize>],
        heads: Heads,
    ) -> Burn<B, 2> {
        if let Some(simd) = &self.host {
            let [query, keys, values] = [query, keys, values].map(|x| Self::download(x.clone()));
            return self.back(simd.attend(&query, &keys, &values, spans, heads));
        }
        let part = |span: &Range<usize>| {
            let rows = |x: &Burn<B, 2>| x.clone().slice([span.clone(), 0..x.dims()[1]]);
            Self::attention(rows(query), rows(keys), rows(values), None, heads)
        };
        Burn::cat(spans.iter().map(part).collect(), 0)
    }

    fn read(&self, x: Burn<B, 2>) -> Vec<f32> {
        Self::download(x).values
    }
}
