//! Where training begins: random weights, and among them a circuit that copies.
//!
//! To say again what followed the last time, heads of two layers must work together (the induction heads
//! of Olsson et al. 2022): some in an early layer look back by one token and by two, one in a later layer
//! looks for the place whose last two tokens equal the present ones. None is of use without the others, so
//! gradient descent finds them late: in 700 steps, half of them drills in copying, this network had not.
//! Here they are part of the initial weights; all of them are then trained as usual.
//!
//! The scales follow from unit-variance activations after each norm; `D`, `Dh` as in [`crate::network`].

use burn::module::Param;
use burn::prelude::{Backend, Tensor};
use burn::tensor::TensorData;

use crate::dice::Dice;
use crate::network::{Network, ROPE_THETA, Shape, narrow};

/// Standard deviation of most matrices (GPT-2).
const DEVIATION: f64 = 0.02;

/// Standard deviation of the embedding: some way above what a hundred steps of AdamW move it, or the
/// circuit would be lost before it is of use.
const EMBEDDING: f64 = 0.125;

/// Embedding dimension 0 is this many deviations for each token: the constant that heads which look at
/// positions only are made of.
const CONSTANT: f64 = 3.0;

/// Of twelve dimensions that are compared, how many are for the last token; the others for the one before.
const LAST_PART: usize = 7;

/// How strongly the token before the current one is asked for.
const BEFORE: f64 = 4.0;

/// A matrix under construction, row by row.
struct Grid {
    columns: usize,
    values: Vec<f64>,
}

impl Grid {
    fn new(rows: usize, columns: usize, deviation: f64, dice: &mut Dice) -> Self {
        Self { columns, values: (0..rows * columns).map(|_| deviation * dice.gaussian()).collect() }
    }

    fn at(&mut self, row: usize, column: usize) -> &mut f64 {
        &mut self.values[row * self.columns + column]
    }

    fn param<B: Backend>(&self, device: &B::Device) -> Param<Tensor<B, 2>> {
        let values: Vec<f32> = self.values.iter().map(|v| narrow(*v)).collect();
        let rows = values.len() / self.columns;
        Param::from_tensor(Tensor::from_data(TensorData::new(values, [rows, self.columns]), device))
    }
}

/// Columns of the joint matrix of queries, keys and values.
struct Columns {
    /// Where the keys begin.
    key: usize,
    /// Where the values begin.
    value: usize,
    /// How many there are.
    all: usize,
}

impl Columns {
    const fn of(shape: &Shape) -> Self {
        let (dh, heads, kv_heads) = (shape.head, shape.heads, shape.kv_heads);
        Self { key: heads * dh, value: (heads + kv_heads) * dh, all: (heads + 2 * kv_heads) * dh }
    }
}

/// Attention of one layer under construction.
struct Attention {
    /// `[D, (H + 2K) Dh]`
    qkv: Grid,
    /// `[H Dh, D]`
    o: Grid,
}

impl Attention {
    fn random(shape: &Shape, dice: &mut Dice) -> Self {
        let residual = DEVIATION / (2.0 * shape.layers as f64).sqrt();
        Self {
            qkv: Grid::new(shape.width, Columns::of(shape).all, DEVIATION, dice),
            o: Grid::new(shape.heads * shape.head, shape.width, residual, dice),
        }
    }
}

/// Embedding and attention of the first two layers of `network`, made anew with the circuit in them.
///
/// # Panics
/// When the network has fewer than two layers.
#[must_use]
pub fn plant<B: Backend>(
    mut network: Network<B>,
    shape: &Shape,
    dice: &mut Dice,
    device: &B::Device,
) -> Network<B> {
    assert!(shape.layers >= 2, "the circuit takes two layers");
    let mut embedding = Grid::new(shape.vocabulary, shape.width, EMBEDDING, dice);
    for token in 0..shape.vocabulary {
        *embedding.at(token, 0) = CONSTANT * EMBEDDING;
    }
    let mut back = looks_back(shape, dice);
    let second = looks_alike(shape, &mut back, dice);
    network.norm = Param::from_tensor(Tensor::full([shape.width], 0.25, device));
    network.embedding = embedding.param(device);
    for (layer, attention) in network.layers.iter_mut().zip([back, second]) {
        layer.qkv = attention.qkv.param(device);
        layer.o = attention.o.param(device);
    }
    network
}

/// Layer 0: score(distance) = sum of cos(theta_p (distance - back)) over the fast pairs, largest one
/// token back for head 0, two for head 1. Noise is kept small in their columns, or it would drown the
/// difference to the neighbours. Both heads share keys and values.
fn looks_back(shape: &Shape, dice: &mut Dice) -> Attention {
    let (d, dh, half) = (shape.width, shape.head, shape.head / 2);
    let Columns { key, value, .. } = Columns::of(shape);
    let mut layer = Attention::random(shape, dice);
    for row in 0..d {
        for column in 0..dh {
            for start in [0, dh, key] {
                *layer.qkv.at(row, start + column) *= 0.2;
            }
            let read = if row == 0 { 0.0 } else { dice.gaussian() };
            *layer.qkv.at(row, value + column) = read / (d as f64).sqrt();
        }
    }
    for pair in 0..half * 3 / 8 {
        let angle = ROPE_THETA.powf(-(pair as f64) / half as f64);
        for (head, back) in [(0, 1.0), (dh, 2.0)] {
            *layer.qkv.at(0, head + pair) = 1.7 * (back * angle).cos();
            *layer.qkv.at(0, head + pair + half) = -1.7 * (back * angle).sin();
        }
        *layer.qkv.at(0, key + pair) = 1.7;
        *layer.qkv.at(0, key + pair + half) = 0.0;
    }
    for row in 0..2 * dh {
        for column in 0..d {
            *layer.o.at(row, column) =
                if column == 0 { 0.0 } else { 0.125 * EMBEDDING * dice.gaussian() };
        }
    }
    layer
}

/// Layer 1, the first head of the first and of the last group: looks for the place whose last token
/// equals the current one, and whose last but one equals the one before.
///
/// Queries read the current token as layer 0 (`back`) read values, and the one before as its head 0
/// wrote it; keys read what its heads 0 and 1 wrote. All are laid on the slow pairs, which distance
/// hardly turns. The scales were tried.
fn looks_alike(shape: &Shape, back: &mut Attention, dice: &mut Dice) -> Attention {
    let (d, dh, half) = (shape.width, shape.head, shape.head / 2);
    let columns = Columns::of(shape);
    let mut layer = Attention::random(shape, dice);
    let slow: Vec<usize> = (half * 5 / 8..half).flat_map(|pair| [pair, pair + half]).collect();
    let last = slow.len() * LAST_PART / 12;
    for (copy, kv) in [0, shape.kv_heads - 1].into_iter().enumerate() {
        let query = shape.heads / shape.kv_heads * kv * dh;
        let (key, value) = (columns.key + kv * dh, columns.value + kv * dh);
        for row in 0..d {
            for column in 0..dh {
                *layer.qkv.at(row, query + column) *= 0.2;
                *layer.qkv.at(row, key + column) *= 0.2;
            }
            for (place, column) in slow.iter().enumerate() {
                let code = copy * slow.len() + place;
                let (asks, wrote) = if place < last {
                    (10.0 * *back.qkv.at(row, columns.value + code), code)
                } else {
                    (BEFORE / EMBEDDING * *back.o.at(code, row), dh + code)
                };
                *layer.qkv.at(row, query + *column) = asks;
                *layer.qkv.at(row, key + *column) = 0.8 / EMBEDDING * *back.o.at(wrote, row);
            }
            for column in 0..dh {
                let read = if row == 0 { 0.0 } else { dice.gaussian() / (d as f64).sqrt() };
                *layer.qkv.at(row, value + column) = read;
                *layer.o.at(query + column, row) = 15.0 * EMBEDDING * read;
            }
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::bpe::Bpe;
    use crate::folder::Model;
    use crate::recipe::Recipe;

    #[test]
    fn an_untrained_network_says_again_what_followed_before() {
        let shape = Recipe::demo().shape;
        let device = Default::default();
        let mut dice = Dice::new(5);
        let network = plant(Network::<Flex>::new(&shape, &device), &shape, &mut dice, &device);
        let model = Model { shape, bpe: Bpe::from_merges(Vec::new()), network };
        let mut right = 0;
        for _ in 0..10 {
            let piece: Vec<u32> =
                (0..40).map(|_| u32::try_from(dice.below(shape.vocabulary)).unwrap()).collect();
            let best = model.likeliest(&[piece.clone(), piece.clone()].concat()).unwrap();
            right += (40..79).filter(|at| best[*at] == piece[at - 39]).count();
        }
        assert!(right > 150, "{right} of 390");
    }
}
