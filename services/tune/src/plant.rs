//! Where training begins: random weights, and among them a circuit that copies.
//!
//! To say again what followed the last time, two heads must work together (the induction heads of Olsson
//! et al. 2022): one in an early layer looks one token back, one in a later layer looks for the place
//! whose token before equals the current token. Neither is of use without the other, so gradient descent
//! finds the pair late: in 700 steps, half of them drills in copying, this network had not. Here the
//! pair is part of the initial weights; all of them are then trained as usual.
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
    let (d, dh, half) = (shape.width, shape.head, shape.head / 2);
    let key = shape.heads * dh;
    let value = (shape.heads + shape.kv_heads) * dh;
    let width = (shape.heads + 2 * shape.kv_heads) * dh;
    let residual = DEVIATION / (2.0 * shape.layers as f64).sqrt();

    let mut embedding = Grid::new(shape.vocabulary, d, EMBEDDING, dice);
    for token in 0..shape.vocabulary {
        *embedding.at(token, 0) = CONSTANT * EMBEDDING;
    }

    // Layer 0: score(distance) = sum of cos(theta_p (distance - back)) over the fast pairs, largest one
    // token back for head 0, two for head 1. Noise is kept small in their columns, or it would drown the
    // difference to the neighbours. Both heads share keys and values.
    let mut first = Grid::new(d, width, DEVIATION, dice);
    let mut first_out = Grid::new(shape.heads * dh, d, residual, dice);
    for row in 0..d {
        for column in 0..dh {
            *first.at(row, column) *= 0.2;
            *first.at(row, dh + column) *= 0.2;
            *first.at(row, key + column) *= 0.2;
            let read = if row == 0 { 0.0 } else { dice.gaussian() };
            *first.at(row, value + column) = read / (d as f64).sqrt();
        }
    }
    for pair in 0..half * 3 / 8 {
        let angle = ROPE_THETA.powf(-(pair as f64) / half as f64);
        for (head, back) in [(0, 1.0), (dh, 2.0)] {
            *first.at(0, head + pair) = 1.7 * (back * angle).cos();
            *first.at(0, head + pair + half) = -1.7 * (back * angle).sin();
        }
        *first.at(0, key + pair) = 1.7;
        *first.at(0, key + pair + half) = 0.0;
    }
    for row in 0..2 * dh {
        for column in 0..d {
            *first_out.at(row, column) =
                if column == 0 { 0.0 } else { 0.125 * EMBEDDING * dice.gaussian() };
        }
    }

    // Layer 1, head 0: looks for the place whose last token equals the current one, and whose last but
    // one equals the one before. Queries read the current token as layer 0 read values, and the one
    // before as head 0 wrote it; keys read what heads 0 and 1 wrote. All are laid on the slow pairs,
    // which distance hardly turns. The scales were tried.
    let mut second = Grid::new(d, width, DEVIATION, dice);
    let mut second_out = Grid::new(shape.heads * dh, d, residual, dice);
    let slow: Vec<usize> = (half * 5 / 8..half).flat_map(|pair| [pair, pair + half]).collect();
    let codes = value;
    let last = slow.len() * LAST_PART / 12;
    for (copy, head) in
        [0, shape.heads / shape.kv_heads * (shape.kv_heads - 1)].into_iter().enumerate()
    {
        let kv = copy * (shape.kv_heads - 1);
        let (query, key, value) = (head * dh, key + kv * dh, value + kv * dh);
        for row in 0..d {
            for column in 0..dh {
                *second.at(row, query + column) *= 0.2;
                *second.at(row, key + column) *= 0.2;
            }
            for (place, column) in slow.iter().enumerate() {
                let code = copy * slow.len() + place;
                let (asks, wrote) = if place < last {
                    (10.0 * *first.at(row, codes + code), code)
                } else {
                    (BEFORE / EMBEDDING * *first_out.at(code, row), dh + code)
                };
                *second.at(row, query + *column) = asks;
                *second.at(row, key + *column) = 0.8 / EMBEDDING * *first_out.at(wrote, row);
            }
            for column in 0..dh {
                let read = if row == 0 { 0.0 } else { dice.gaussian() / (d as f64).sqrt() };
                *second.at(row, value + column) = read;
                *second_out.at(query + column, row) = 15.0 * EMBEDDING * read;
            }
        }
    }
    network.norm = Param::from_tensor(Tensor::full([d], 0.25, device));
    network.embedding = embedding.param(device);
    network.layers[0].qkv = first.param(device);
    network.layers[0].o = first_out.param(device);
    network.layers[1].qkv = second.param(device);
    network.layers[1].o = second_out.param(device);
    network
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
