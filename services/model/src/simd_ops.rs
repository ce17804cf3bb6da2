//! The operations with our kernels, spread over the threads of the current rayon pool.
//!
//! Each output is computed by one thread in one order, so results are the same bits for any number of
//! threads and any batch.

use std::ops::Range;

use cloister_simd::{Activations, Dense, Kernels, Word, gelu, silu, softmax};
use cloister_weights::{DType, Tensor};
use rayon::prelude::*;

use crate::{
    Heads, ModelError, Ops,
    batch::{Angles, Span},
    host::{self, HostCache, HostRows},
    ops::{CacheShape, Pairs},
    pages::PAGE_TOKENS,
    scalar_ops::{gather, rope},
};

/// Rows of weights in a task, at least: 64 rows of 1024 bf16 are 128 KiB.
const TASK_ROWS_MIN: usize = 64;

/// Our kernels on the CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimdOps {
    kernels: Kernels,
}

impl SimdOps {
    /// With the fastest kernels that this CPU can run.
    pub(crate) fn new() -> Self {
        Self { kernels: Kernels::best() }
    }

    /// Name of the kernels.
    pub(crate) const fn name(self) -> &'static str {
        self.kernels.name()
    }

    /// `[N, T]`, each task some rows of the weights.
    fn transposed_product(self, x: &HostRows, weights: &Tensor) -> Vec<f32> {
        let (outputs, tokens) = (weights.shape()[0], x.count());
        let row_bytes = weights.bytes().len() / outputs;
        // Four tasks a thread, so that a late one does not hold the others up; whole tiles of four rows.
        let tasks = 4 * rayon::current_num_threads();
        let rows = outputs.div_ceil(tasks).next_multiple_of(4).max(TASK_ROWS_MIN);
        let mut y = vec![0.0; outputs * tokens];
        let parts =
            y.par_chunks_mut(rows * tokens).zip(weights.bytes().par_chunks(rows * row_bytes));
        match word(weights.dtype()) {
            Some(word) => parts.for_each(|(y, bytes)| {
                self.kernels.product(Dense { word, bytes }, &x.values, x.width, y);
            }),
            None => {
                let x = Activations::quantise(&x.values, x.width);
                parts.for_each(|(y, bytes)| self.kernels.product_q8_0(bytes, &x, y));
            }
        }
        y
    }

    /// One query head over the first `seen` cached tokens.
    fn attend_pages(
        &self,
        query: &[f32],
        pages: &[(&[f32], &[f32])],
        seen: usize,
        out: &mut [f32],
        scale: f32,
    ) {
        let mut scores = vec![0.0; seen];
        for (scores, (keys, _)) in scores.chunks_mut(PAGE_TOKENS).zip(pages) {
            self.kernels.dots(query, &keys[..scores.len() * query.len()], scores);
        }
        scores.iter_mut().for_each(|score| *score *= scale);
        softmax(&mut scores);
        for (scores, (_, values)) in scores.chunks(PAGE_TOKENS).zip(pages) {
            self.kernels.accumulate(scores, &values[..scores.len() * query.len()], out);
        }
    }
}

/// The kernels' word for a dense type; `None` for Q8_0.
const fn word(dtype: DType) -> Option<Word> {
    match dtype {
        DType::F32 => Some(Word::F32),
        DType::F16 => Some(Word::F16),
        DType::Bf16 => Some(Word::Bf16),
        DType::Q8_0 => None,
    }
}

/// `[N, T]` to `[T, N]`.
fn transpose(y: Vec<f32>, outputs: usize, tokens: usize) -> Vec<f32> {
    if tokens == 1 {
        return y;
    }
    let mut rows = vec![0.0; y.len()];
    rows.par_chunks_exact_mut(outputs).enumerate().for_each(|(t, row)| {
        for (out, column) in row.iter_mut().zip(y.chunks_exact(tokens)) {
            *out = column[t];
        }
    });
    rows
}

impl Ops for SimdOps {
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
        let outputs = weights.shape()[0];
        let y = transpose(self.transposed_product(x, weights), outputs, x.count());
        HostRows { values: y, width: outputs }.add_bias(bias)
    }

    fn add(&self, x: HostRows, y: &HostRows) -> HostRows {
        x.add(y)
    }

    fn rms_norm(&self, x: &HostRows, gain: &Vec<f32>, epsilon: f32) -> HostRows {
        x.map(|x, y| {
            let scale = 1.0 / (self.kernels.dot(x, x) / length(x) + epsilon).sqrt();
            for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
                *y = x * scale * gain;
            }
        })
    }

    fn layer_norm(&self, x: &HostRows, gain: &Vec<f32>, bias: &Vec<f32>, epsilon: f32) -> HostRows {
        let ones = vec![1.0; x.width];
        x.map(|x, y| {
            let mean = self.kernels.dot(x, &ones) / length(x);
            for (y, x) in y.iter_mut().zip(x) {
                *y = x - mean;
            }
            let scale = 1.0 / (self.kernels.dot(y, y) / length(x) + epsilon).sqrt();
            for ((y, gain), bias) in y.iter_mut().zip(gain).zip(bias) {
                *y = *y * scale * gain + bias;
            }
        })
    }

    fn rope(&self, mut x: HostRows, angles: &Angles, pairs: Pairs) -> HostRows {
        rope(&mut x, angles, pairs);
        x
    }

    fn gated_silu(&self, mut gate: HostRows, up: &HostRows) -> HostRows {
        let width = gate.width;
        gate.values.par_chunks_mut(width).zip(up.values.par_chunks(width)).for_each(
            |(gate, up)| {
                for (x, up) in gate.iter_mut().zip(up) {
                    *x = silu(*x) * up;
                }
            },
        );
        gate
    }

    fn gelu(&self, mut x: HostRows) -> HostRows {
        let width = x.width;
        x.values.par_chunks_mut(width).for_each(|row| row.iter_mut().for_each(|x| *x = gelu(*x)));
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
        let of_row: Vec<&Span> =
            spans.iter().flat_map(|span| span.rows.clone().map(move |_row| span)).collect();
        let group = heads.query / heads.key;
        let mut values = vec![0.0; query.values.len()];
        // One task is the query heads of one row that share a key head.
        values.par_chunks_exact_mut(group * heads.width).enumerate().for_each(|(task, out)| {
            let (row, head) = (task / heads.key, task % heads.key);
            let span = of_row[row];
            let seen = span.start + row - span.rows.start + 1;
            let used = &span.pages[..seen.div_ceil(PAGE_TOKENS)];
            let pages: Vec<_> = used.iter().map(|&page| cache.page(layer, page, head)).collect();
            let first = head * group * heads.width;
            let queries = &query.row(row)[first..first + out.len()];
            for (query, out) in
                queries.chunks_exact(heads.width).zip(out.chunks_exact_mut(heads.width))
            {
                self.attend_pages(query, &pages, seen, out, heads.scale);
            }
        });
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
        let tasks: Vec<(&Range<usize>, usize)> =
            spans.iter().flat_map(|span| (0..heads.query).map(move |head| (span, head))).collect();
        let group = heads.query / heads.key;
        let parts: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|&(span, head)| {
                let keys = gather(keys, span, head / group, heads.width);
                let values = gather(values, span, head / group, heads.width);
                let mut out = vec![0.0; span.len() * heads.width];
                let query = gather(query, span, head, heads.width);
                let mut scores = vec![0.0; span.len()];
                for (query, out) in
                    query.chunks_exact(heads.width).zip(out.chunks_exact_mut(heads.width))
                {
                    self.kernels.dots(query, &keys, &mut scores);
                    scores.iter_mut().for_each(|score| *score *= heads.scale);
                    softmax(&mut scores);
                    self.kernels.accumulate(&scores, &values, out);
                }
                out
            })
            .collect();
        let mut result = vec![0.0; query.values.len()];
        for ((span, head), part) in tasks.into_iter().zip(parts) {
            for (row, out) in span.clone().zip(part.chunks_exact(heads.width)) {
                let at = row * query.width + head * heads.width;
                result[at..at + heads.width].copy_from_slice(out);
            }
        }
        HostRows { values: result, width: query.width }
    }

    fn read(&self, x: HostRows) -> Vec<f32> {
        x.values
    }
}

#[expect(clippy::cast_precision_loss, reason = "a width is below 2^24")]
const fn length(x: &[f32]) -> f32 {
    x.len() as f32
}
