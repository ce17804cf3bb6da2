//! The operations as plain loops with f64 sums: what the other implementations are compared with.

use std::ops::Range;

use cloister_scalar as scalar;
use cloister_weights::{DType, Tensor};

use crate::{
    Heads, ModelError, Ops,
    batch::{Angles, Span},
    host::{self, HostCache, HostRows},
    ops::{CacheShape, Pairs},
    pages::PAGE_TOKENS,
};

/// The oracle. Q8_0 weights meet activations quantised in the same way as in the fast kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScalarOps;

impl Ops for ScalarOps {
    type Rows = HostRows;
    type Matrix = Tensor;
    type Vector = Vec<f32>;
    type Cache = HostCache;

    fn matrix(&self, weights: &Tensor) -> Result<Tensor, ModelError> {
        host::matrix(weights)
    }

    fn vector(&self, weights: &Tensor) -> Vec<f32> {
        weights.to_f32()
    }

    fn embed(&self, table: &Tensor, ids: &[u32]) -> HostRows {
        host::embed(table, ids)
    }

    fn product(&self, x: &HostRows, weights: &Tensor, bias: Option<&Vec<f32>>) -> HostRows {
        let (outputs, rows) = (weights.shape()[0], x.count());
        let mut transposed = vec![0.0; outputs * rows];
        if weights.dtype() == DType::Q8_0 {
            let x_blocks = scalar::quantise_activations(&x.values);
            scalar::product_q8_0(weights.bytes(), &x_blocks, x.width, &mut transposed);
        } else {
            scalar::product(&weights.to_f32(), &x.values, x.width, &mut transposed);
        }
        let value = |i: usize| transposed[i % outputs * rows + i / outputs];
        let values = (0..outputs * rows).map(value).collect();
        HostRows { values, width: outputs }.add_bias(bias)
    }

    fn add(&self, x: HostRows, y: &HostRows) -> HostRows {
        x.add(y)
    }

    fn rms_norm(&self, x: &HostRows, gain: &Vec<f32>, epsilon: f32) -> HostRows {
        x.map(|x, y| scalar::rms_norm(x, gain, epsilon, y))
    }

    fn layer_norm(&self, x: &HostRows, gain: &Vec<f32>, bias: &Vec<f32>, epsilon: f32) -> HostRows {
        x.map(|x, y| scalar::layer_norm(x, gain, bias, epsilon, y))
    }

    fn rope(&self, mut x: HostRows, angles: &Angles, pairs: Pairs) -> HostRows {
        rope(&mut x, angles, pairs);
        x
    }

    fn gated_silu(&self, mut gate: HostRows, up: &HostRows) -> HostRows {
        for (x, up) in gate.values.iter_mut().zip(&up.values) {
            *x = scalar::silu(*x) * up;
        }
        gate
    }

    fn gelu(&self, mut x: HostRows) -> HostRows {
        for x in &mut x.values {
            *x = scalar::gelu(*x);
        }
        x
    }

    fn select(&self, x: &HostRows, rows: &[usize]) -> HostRows {
        x.select(rows)
    }

    fn cache(&self, shape: CacheShape) -> HostCache {
        HostCache::new(shape)
    }

    fn store(
        &self,
        cache: &mut HostCache,
        layer: usize,
        slots: &[usize],
        keys: &HostRows,
        values: &HostRows,
    ) {
        cache.store(layer, slots, keys, values);
    }

    fn attend_cached(
        &self,
        cache: &HostCache,
        layer: usize,
        query: &HostRows,
        spans: &[Span],
        heads: Heads,
    ) -> HostRows {
        let mut values = Vec::with_capacity(query.values.len());
        for span in spans {
            for row in span.rows.clone() {
                let seen = span.start + row - span.rows.start + 1;
                for (head, query) in query.row(row).chunks_exact(heads.width).enumerate() {
                    let head = head / (heads.query / heads.key);
                    let (mut keys, mut stored) = (Vec::new(), Vec::new());
                    for &page in &span.pages {
                        let (page_keys, page_values) = cache.page(layer, page, head);
                        keys.extend(page_keys);
                        stored.extend(page_values);
                    }
                    assert!(
                        seen <= span.pages.len() * PAGE_TOKENS,
                        "a span's pages hold its tokens"
                    );
                    let seen = seen * heads.width;
                    let row =
                        scalar::attention_row(query, &keys[..seen], &stored[..seen], heads.scale);
                    values.extend(row);
                }
            }
        }
        HostRows { values, width: query.width }
    }

    fn wipe(&self, cache: &mut HostCache, pages: &[u32]) {
        cache.wipe(pages);
    }

    fn attend(
        &self,
        query: &HostRows,
        keys: &HostRows,
        values: &HostRows,
        spans: &[Range<usize>],
        heads: Heads,
    ) -> HostRows {
        let mut result = Vec::with_capacity(query.values.len());
        for span in spans {
            for row in span.clone() {
                for (head, query) in query.row(row).chunks_exact(heads.width).enumerate() {
                    let keys = gather(keys, span, head, heads.width);
                    let values = gather(values, span, head, heads.width);
                    result.extend(scalar::attention_row(query, &keys, &values, heads.scale));
                }
            }
        }
        HostRows { values: result, width: query.width }
    }

    fn read(&self, x: HostRows) -> Vec<f32> {
        x.values
    }
}

/// One head of some rows, `[T, Dh]`.
pub(crate) fn gather(x: &HostRows, rows: &Range<usize>, head: usize, width: usize) -> Vec<f32> {
    rows.clone().flat_map(|row| &x.row(row)[head * width..(head + 1) * width]).copied().collect()
}

/// Rotates all heads of all rows.
pub(crate) fn rope(x: &mut HostRows, angles: &Angles, pairs: Pairs) {
    let half = angles.pairs;
    for (row, x) in x.values.chunks_exact_mut(x.width).enumerate() {
        let of_row = row * half..(row + 1) * half;
        let (cos, sin) = (&angles.cos[of_row.clone()], &angles.sin[of_row]);
        for head in x.chunks_exact_mut(2 * half) {
            match pairs {
                Pairs::Halves => scalar::rope_halves(head, cos, sin),
                Pairs::Neighbours => scalar::rope_neighbours(head, cos, sin),
            }
        }
    }
}
