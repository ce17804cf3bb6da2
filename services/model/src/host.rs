//! Activations and caches in host memory, shared by the implementations scalar and simd.

use cloister_weights::{DType, Tensor};

use crate::{ModelError, ops::CacheShape, pages::PAGE_TOKENS};

/// Activations `[R, width]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HostRows {
    /// Row after row.
    pub(crate) values: Vec<f32>,
    /// Elements of a row, at least 1.
    pub(crate) width: usize,
}

impl HostRows {
    /// Number of rows.
    pub(crate) const fn count(&self) -> usize {
        self.values.len() / self.width
    }

    /// One row.
    pub(crate) fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.width..(index + 1) * self.width]
    }

    /// Rows of the same shape, filled by `f(row, result)`.
    pub(crate) fn map(&self, f: impl Fn(&[f32], &mut [f32])) -> Self {
        let mut values = vec![0.0; self.values.len()];
        for (x, y) in self.values.chunks_exact(self.width).zip(values.chunks_exact_mut(self.width))
        {
            f(x, y);
        }
        Self { values, width: self.width }
    }

    /// The rows with these indices.
    pub(crate) fn select(&self, rows: &[usize]) -> Self {
        let values = rows.iter().flat_map(|&row| self.row(row)).copied().collect();
        Self { values, width: self.width }
    }

    /// `self + other`.
    pub(crate) fn add(mut self, other: &Self) -> Self {
        assert_eq!(self.values.len(), other.values.len(), "add: equal shapes");
        for (x, y) in self.values.iter_mut().zip(&other.values) {
            *x += y;
        }
        self
    }

    /// Adds `bias` to each row.
    pub(crate) fn add_bias(mut self, bias: Option<&Vec<f32>>) -> Self {
        for row in self.values.chunks_exact_mut(self.width) {
            for (x, bias) in row.iter_mut().zip(bias.into_iter().flatten()) {
                *x += bias;
            }
        }
        self
    }
}

/// Rows of a table of embeddings.
pub(crate) fn embed(table: &Tensor, ids: &[u32]) -> HostRows {
    let width = table.shape()[1];
    let mut values = Vec::with_capacity(ids.len() * width);
    for &id in ids {
        table.row_to_f32(usize::try_from(id).expect("an id fits memory"), &mut values);
    }
    HostRows { values, width }
}

/// Takes a matrix as it is mapped.
pub(crate) fn matrix(weights: &Tensor) -> Result<Tensor, ModelError> {
    let known = matches!(weights.dtype(), DType::F32 | DType::F16 | DType::Bf16 | DType::Q8_0);
    if known && weights.shape().len() == 2 {
        Ok(weights.clone())
    } else {
        Err(ModelError::TensorType { name: weights.name().clone() })
    }
}

/// Keys and values: `[layer, page, head, place, Dh]` each.
#[derive(Debug)]
pub(crate) struct HostCache {
    shape: CacheShape,
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl HostCache {
    /// An empty cache; memory is taken from the system when a page is first written.
    pub(crate) fn new(shape: CacheShape) -> Self {
        let size = shape.layers * shape.pages * shape.heads * PAGE_TOKENS * shape.width;
        Self { shape, keys: vec![0.0; size], values: vec![0.0; size] }
    }

    /// Keys and values of one head in one page: `[64, Dh]` each.
    pub(crate) fn page(&self, layer: usize, page: u32, head: usize) -> (&[f32], &[f32]) {
        let page = usize::try_from(page).expect("a page fits memory");
        let start = self.offset(layer, page, head);
        let range = start..start + PAGE_TOKENS * self.shape.width;
        (&self.keys[range.clone()], &self.values[range])
    }

    /// Stores keys and values `[R, K·Dh]` at `slots`.
    pub(crate) fn store(
        &mut self,
        layer: usize,
        slots: &[usize],
        keys: &HostRows,
        values: &HostRows,
    ) {
        let width = self.shape.width;
        for (row, &slot) in slots.iter().enumerate() {
            for head in 0..self.shape.heads {
                let page = self.offset(layer, slot / PAGE_TOKENS, head);
                let at = page + slot % PAGE_TOKENS * width;
                let from = head * width..(head + 1) * width;
                self.keys[at..at + width].copy_from_slice(&keys.row(row)[from.clone()]);
                self.values[at..at + width].copy_from_slice(&values.row(row)[from]);
            }
        }
    }

    /// Overwrites pages with zeros.
    pub(crate) fn wipe(&mut self, pages: &[u32]) {
        let size = self.shape.heads * PAGE_TOKENS * self.shape.width;
        for layer in 0..self.shape.layers {
            for &page in pages {
                let page = usize::try_from(page).expect("a page fits memory");
                let start = self.offset(layer, page, 0);
                self.keys[start..start + size].fill(0.0);
                self.values[start..start + size].fill(0.0);
            }
        }
    }

    const fn offset(&self, layer: usize, page: usize, head: usize) -> usize {
        let shape = self.shape;
        ((layer * shape.pages + page) * shape.heads + head) * PAGE_TOKENS * shape.width
    }
}
