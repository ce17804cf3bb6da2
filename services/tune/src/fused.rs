//! Element-wise stretches of the network as single passes with their own derivatives.
//!
//! burn composes them of many operations, each with a pass over memory and on the CPU with scalar `exp`;
//! in this network that was half of a training step. Each operation here reads one tensor and writes
//! one; the tests compare values and derivatives with burn's compositions.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::{Autodiff, Flex};
use burn::prelude::{Backend, Tensor};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Bytes, DType, Shape, TensorMetadata, TensorPrimitive};
use burn_flex::{FlexTensor, Layout};
use rayon::prelude::*;

use crate::network::{NORM_EPSILON, narrow};

/// How heads are cut out of the rows of a product, and back.
#[derive(Debug, Clone)]
pub struct Heads {
    /// `B`
    pub batch: usize,
    /// `T`
    pub tokens: usize,
    /// Heads in a row.
    pub all: usize,
    /// The first head that is taken.
    pub from: usize,
    /// `K`
    pub kv: usize,
    /// `G`: heads for each of the `K`
    pub group: usize,
    /// `Dh`
    pub head: usize,
    /// Cosines and sines, `[T, Dh / 2]` each, where positions rotate the heads.
    pub rotation: Option<Arc<(Vec<f32>, Vec<f32>)>>,
}

/// One pass.
#[derive(Debug, Clone)]
pub enum Op {
    /// Each row of `[N, D]` divided by its root mean square (Zhang, Sennrich 2019).
    Norm,
    /// `[N, 2F]` to `[N, F]`: `silu(left half) * right half` (Shazeer 2020).
    SwiGlu,
    /// `[B T, all Dh]` to `[B K, G T, Dh]`, rotated (Su et al. 2021, eq. 34; pairs `(i, i + Dh/2)`).
    Split(Heads),
    /// `[B K, G T, Dh]` to `[B T, K G Dh]`.
    Merge(Heads),
    /// Softmax of `scale` times each row of `[B K, G T, T]`, over the tokens not later than the row's own.
    CausalSoftmax(f32),
    /// `[N, V]` to `[1]`: the weighted mean of `-ln softmax(row)[target]`.
    Loss(Arc<(Vec<u32>, Vec<f32>)>),
}

/// A backend that has the passes.
pub trait Fused: Backend {
    /// The pass.
    fn forward(op: &Op, x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The derivative by the input; `saved` is what [`Fused::forward`] took, for the softmax what it gave.
    fn backward(
        op: &Op,
        saved: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// Applies `op` to `x`.
#[must_use]
pub fn apply<B: Fused, const D: usize, const E: usize>(op: &Op, x: Tensor<B, D>) -> Tensor<B, E> {
    Tensor::from_primitive(TensorPrimitive::Float(B::forward(op, x.into_primitive().tensor())))
}

impl Fused for Flex {
    fn forward(op: &Op, x: FlexTensor) -> FlexTensor {
        let x = x.to_contiguous();
        let dims = x.shape().to_vec();
        let values = x.as_slice::<f32>().expect("contiguous f32");
        let columns = dims[dims.len() - 1];
        match op {
            Op::Norm => give(norm(values, columns), &dims),
            Op::SwiGlu => give(swiglu(values, columns), &[dims[0], columns / 2]),
            Op::Split(heads) => give(heads.split(values), &heads.apart()),
            Op::Merge(heads) => give(heads.merge(values), &heads.together()),
            Op::CausalSoftmax(scale) => give(softmax(values, columns, *scale), &dims),
            Op::Loss(asked) => give(vec![loss(values, columns, asked)], &[1]),
        }
    }

    fn backward(op: &Op, saved: FlexTensor, gradient: FlexTensor) -> FlexTensor {
        let (saved, gradient) = (saved.to_contiguous(), gradient.to_contiguous());
        let dims = saved.shape().to_vec();
        let columns = dims[dims.len() - 1];
        let x = saved.as_slice::<f32>().expect("contiguous f32");
        let g = gradient.as_slice::<f32>().expect("contiguous f32");
        match op {
            Op::Norm => give(norm_backward(x, g, columns), &dims),
            Op::SwiGlu => give(swiglu_backward(x, g, columns), &dims),
            Op::Split(heads) => {
                give(heads.split_backward(g), &[heads.batch * heads.tokens, heads.all * heads.head])
            }
            Op::Merge(heads) => give(heads.split(g), &heads.apart()),
            Op::CausalSoftmax(scale) => give(softmax_backward(x, g, columns, *scale), &dims),
            Op::Loss(asked) => give(loss_backward(x, g[0], columns, asked), &dims),
        }
    }
}

impl<B: Fused, C: CheckpointStrategy> Fused for Autodiff<B, C> {
    fn forward(op: &Op, x: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Pass;
        impl<B: Fused> Backward<B, 1> for Pass {
            type State = (Op, FloatTensor<B>);

            fn backward(
                self,
                ops: Ops<Self::State, 1>,
                gradients: &mut Gradients,
                _: &mut Checkpointer,
            ) {
                let (op, saved) = ops.state;
                unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
                    B::backward(&op, saved, gradient)
                });
            }
        }
        match Backward::<B, 1>::prepare::<C>(Pass, [x.node.clone()]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let out = B::forward(op, x.primitive.clone());
                let saved =
                    if matches!(op, Op::CausalSoftmax(_)) { out.clone() } else { x.primitive };
                prepared.finish((op.clone(), saved), out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::forward(op, x.primitive)),
        }
    }

    fn backward(_: &Op, _: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        unreachable!("no second derivatives are taken")
    }
}

fn give(values: Vec<f32>, dims: &[usize]) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(Shape::from(dims.to_vec())),
        DType::F32,
    )
}

/// `e^x` with a relative error below 3e-7 for `-87 <= x <= 88`; no branch, so that loops of it vectorise.
///
/// `x = n ln 2 + r`, `|r| <= ln 2 / 2`, and a polynomial for `e^r` (Cephes, expf.c). Adding `1.5 * 2^23`
/// rounds to an integer, whose low bits then move the exponent.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The sum of `f(x)` over `values`, in sixteen lanes.
#[inline(always)]
fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let blocks = values.chunks_exact(16);
    let tail: f32 = blocks.remainder().iter().map(|x| f(*x)).sum();
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane += f(*x);
        }
    }
    lanes.iter().sum::<f32>() + tail
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (a_blocks, b_blocks) = (a.chunks_exact(16), b.chunks_exact(16));
    let tail: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        for lane in 0..16 {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

fn rows(count: usize, columns: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut out = vec![0.0f32; count * columns];
    out.par_chunks_mut(columns).with_min_len(32).enumerate().for_each(|(row, to)| fill(row, to));
    out
}

fn norm_scale(x: &[f32]) -> f32 {
    1.0 / (dot(x, x) / x.len() as f32 + narrow(NORM_EPSILON)).sqrt()
}

fn norm(x: &[f32], columns: usize) -> Vec<f32> {
    rows(x.len() / columns, columns, |row, to| {
        let x = &x[row * columns..][..columns];
        let scale = norm_scale(x);
        for (to, x) in to.iter_mut().zip(x) {
            *to = x * scale;
        }
    })
}

fn norm_backward(x: &[f32], g: &[f32], columns: usize) -> Vec<f32> {
    rows(x.len() / columns, columns, |row, to| {
        let (x, g) = (&x[row * columns..][..columns], &g[row * columns..][..columns]);
        let scale = norm_scale(x);
        let along = dot(x, g) * scale * scale / columns as f32;
        for ((to, x), g) in to.iter_mut().zip(x).zip(g) {
            *to = scale * (g - x * along);
        }
    })
}

fn swiglu(x: &[f32], columns: usize) -> Vec<f32> {
    let half = columns / 2;
    rows(x.len() / columns, half, |row, to| {
        let (gate, up) = x[row * columns..][..columns].split_at(half);
        for ((to, gate), up) in to.iter_mut().zip(gate).zip(up) {
            *to = gate / (1.0 + exp(-gate)) * up;
        }
    })
}

fn swiglu_backward(x: &[f32], g: &[f32], columns: usize) -> Vec<f32> {
    let half = columns / 2;
    rows(x.len() / columns, columns, |row, to| {
        let (gate, up) = x[row * columns..][..columns].split_at(half);
        let (to_gate, to_up) = to.split_at_mut(half);
        let g = &g[row * half..][..half];
        for i in 0..half {
            let s = 1.0 / (1.0 + exp(-gate[i]));
            to_up[i] = g[i] * gate[i] * s;
            to_gate[i] = g[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
        }
    })
}

fn softmax(x: &[f32], columns: usize, scale: f32) -> Vec<f32> {
    rows(x.len() / columns, columns, |row, to| {
        let seen = row % columns + 1;
        let x = &x[row * columns..][..seen];
        let to = &mut to[..seen];
        let top = x.iter().fold(f32::MIN, |a, b| a.max(*b)) * scale;
        for (to, x) in to.iter_mut().zip(x) {
            *to = exp(x * scale - top);
        }
        let share = 1.0 / sum(to, |x| x);
        for to in to {
            *to *= share;
        }
    })
}

fn softmax_backward(p: &[f32], g: &[f32], columns: usize, scale: f32) -> Vec<f32> {
    rows(p.len() / columns, columns, |row, to| {
        let seen = row % columns + 1;
        let (p, g) = (&p[row * columns..][..seen], &g[row * columns..][..seen]);
        let along = dot(p, g);
        for ((to, p), g) in to.iter_mut().zip(p).zip(g) {
            *to = p * (g - along) * scale;
        }
    })
}

/// Largest score of a row and the sum of `e^(score - largest)`.
fn spread(x: &[f32]) -> (f32, f32) {
    let top = x.iter().fold(f32::MIN, |a, b| a.max(*b));
    (top, sum(x, |x| exp(x - top)))
}

fn loss(x: &[f32], columns: usize, asked: &(Vec<u32>, Vec<f32>)) -> f32 {
    let (targets, weights) = asked;
    let each: Vec<f64> = (0..targets.len())
        .into_par_iter()
        .map(|row| {
            let x = &x[row * columns..][..columns];
            let (top, whole) = spread(x);
            f64::from(weights[row]) * f64::from(whole.ln() + top - x[targets[row] as usize])
        })
        .collect();
    let weight: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    narrow(each.iter().sum::<f64>() / weight)
}

fn loss_backward(x: &[f32], g: f32, columns: usize, asked: &(Vec<u32>, Vec<f32>)) -> Vec<f32> {
    let (targets, weights) = asked;
    let weight: f32 = weights.iter().sum();
    rows(targets.len(), columns, |row, to| {
        let x = &x[row * columns..][..columns];
        let (top, whole) = spread(x);
        let share = g * weights[row] / weight;
        for (to, x) in to.iter_mut().zip(x) {
            *to = exp(x - top) * (share / whole);
        }
        to[targets[row] as usize] -= share;
    })
}

impl Heads {
    fn apart(&self) -> [usize; 3] {
        [self.batch * self.kv, self.group * self.tokens, self.head]
    }

    fn together(&self) -> [usize; 2] {
        [self.batch * self.tokens, self.kv * self.group * self.head]
    }

    /// Copies one head, rotated by `direction` times its position's angles.
    fn turn(&self, token: usize, direction: f32, x: &[f32], to: &mut [f32]) {
        let Some(rotation) = &self.rotation else { return to.copy_from_slice(x) };
        let half = self.head / 2;
        let (cos, sin) = (&rotation.0[token * half..][..half], &rotation.1[token * half..][..half]);
        let (low, high) = x.split_at(half);
        let (to_low, to_high) = to.split_at_mut(half);
        for i in 0..half {
            let sin = sin[i] * direction;
            to_low[i] = low[i] * cos[i] - high[i] * sin;
            to_high[i] = high[i] * cos[i] + low[i] * sin;
        }
    }

    /// Where head `h`, counted from the first taken, of a token begins in the layout `[B K, G T, Dh]`.
    fn place(&self, row: usize, h: usize) -> usize {
        let (sequence, token) = (row / self.tokens, row % self.tokens);
        let (k, g) = (h / self.group, h % self.group);
        (((sequence * self.kv + k) * self.group + g) * self.tokens + token) * self.head
    }

    fn split(&self, x: &[f32]) -> Vec<f32> {
        rows(self.batch * self.kv * self.group * self.tokens, self.head, |row, to| {
            let (rest, token) = (row / self.tokens, row % self.tokens);
            let (sequence, h) = (rest / (self.kv * self.group), rest % (self.kv * self.group));
            let from = ((sequence * self.tokens + token) * self.all + self.from + h) * self.head;
            self.turn(token, 1.0, &x[from..][..self.head], to);
        })
    }

    fn split_backward(&self, g: &[f32]) -> Vec<f32> {
        rows(self.batch * self.tokens, self.all * self.head, |row, to| {
            for (h, to) in to
                .chunks_exact_mut(self.head)
                .skip(self.from)
                .take(self.kv * self.group)
                .enumerate()
            {
                self.turn(row % self.tokens, -1.0, &g[self.place(row, h)..][..self.head], to);
            }
        })
    }

    fn merge(&self, x: &[f32]) -> Vec<f32> {
        rows(self.batch * self.tokens, self.kv * self.group * self.head, |row, to| {
            for (h, to) in to.chunks_exact_mut(self.head).enumerate() {
                to.copy_from_slice(&x[self.place(row, h)..][..self.head]);
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::activation::{log_softmax, silu, softmax as burn_softmax};
    use burn::tensor::{Int, TensorData};

    use super::*;

    type Tape = Autodiff<Flex>;

    fn random<const D: usize>(dims: [usize; D]) -> Tensor<Tape, D> {
        let mut dice = crate::dice::Dice::new(11);
        let values: Vec<f32> =
            (0..dims.iter().product::<usize>()).map(|_| narrow(2.0 * dice.gaussian())).collect();
        Tensor::from_data(TensorData::new(values, dims), &Default::default())
    }

    /// Value and derivative of `ours` and `theirs` agree to `tolerance`, relative to the largest.
    fn agree<const D: usize, const E: usize>(
        dims: [usize; D],
        ours: impl Fn(Tensor<Tape, D>) -> Tensor<Tape, E>,
        theirs: impl Fn(Tensor<Tape, D>) -> Tensor<Tape, E>,
    ) {
        let run = |f: &dyn Fn(Tensor<Tape, D>) -> Tensor<Tape, E>| {
            let x = random(dims).require_grad();
            let y = f(x.clone());
            let pattern = y.clone().detach() * 0.3 + 1.0;
            let slope = x.grad(&(y.clone() * pattern).sum().backward()).unwrap();
            (y.into_data().to_vec::<f32>().unwrap(), slope.into_data().to_vec::<f32>().unwrap())
        };
        let (a, b) = (run(&ours), run(&theirs));
        for (a, b) in [(a.0, b.0), (a.1, b.1)] {
            assert_eq!(a.len(), b.len());
            let largest = b.iter().fold(1e-3f32, |m, v| m.max(v.abs()));
            // Both sides sum at most a few hundred f32 products, in another order: some 1e-5 of the largest.
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= 3e-5 * largest, "{a} {b}");
            }
        }
    }

    #[test]
    fn norm_and_swiglu_equal_burns() {
        agree(
            [5, 48],
            |x| apply::<Tape, 2, 2>(&Op::Norm, x),
            |x| {
                let mean = (x.clone() * x.clone()).mean_dim(1);
                x * (mean + NORM_EPSILON).sqrt().recip()
            },
        );
        agree(
            [5, 48],
            |x| apply::<Tape, 2, 2>(&Op::SwiGlu, x),
            |x| silu(x.clone().narrow(1, 0, 24)) * x.narrow(1, 24, 24),
        );
    }

    #[test]
    fn the_causal_softmax_equals_a_masked_one() {
        agree(
            [3, 14, 7],
            |x| apply::<Tape, 3, 3>(&Op::CausalSoftmax(0.5), x),
            |x| {
                let late: Vec<f32> =
                    (0..14 * 7).map(|at| if at % 7 > (at / 7) % 7 { -1e9 } else { 0.0 }).collect();
                let mask =
                    Tensor::from_data(TensorData::new(late, [1, 14, 7]), &Default::default());
                burn_softmax(x * 0.5 + mask, 2)
            },
        );
    }

    #[test]
    fn the_loss_equals_the_picked_log_softmax() {
        let (targets, weights) = (vec![3u32, 0, 8], vec![1.0f32, 0.5, 0.0]);
        let op = Op::Loss(Arc::new((targets, weights)));
        agree(
            [3, 9],
            |x| apply::<Tape, 2, 1>(&op, x),
            |x| {
                let device = Default::default();
                let targets = Tensor::<Tape, 2, Int>::from_data(
                    TensorData::new(vec![3, 0, 8], [3, 1]),
                    &device,
                );
                let weights = Tensor::<Tape, 1>::from_data([1.0, 0.5, 0.0], &device);
                (log_softmax(x, 1).gather(1, targets).reshape([3]) * weights).sum().neg() / 1.5
            },
        );
    }

    #[test]
    fn heads_are_cut_rotated_and_merged_as_burn_would() {
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            (0..5 * 2).map(|at| (at as f32 * 0.7).sin_cos()).map(|(s, c)| (c, s)).unzip();
        let rotation = Some(Arc::new((cos.clone(), sin.clone())));
        let heads =
            Heads { batch: 2, tokens: 5, all: 6, from: 1, kv: 2, group: 2, head: 4, rotation };
        let table = |values: &[f32]| {
            let half = Tensor::<Tape, 4>::from_data(
                TensorData::new(values.to_vec(), [1, 5, 1, 2]),
                &Default::default(),
            );
            Tensor::cat(vec![half.clone(), half], 3)
        };
        agree(
            [10, 24],
            |x| apply::<Tape, 2, 3>(&Op::Split(heads.clone()), x),
            |x| {
                let x = x.reshape([2, 5, 6, 4]).narrow(2, 1, 4);
                let turned = Tensor::cat(
                    vec![x.clone().narrow(3, 2, 2).neg(), x.clone().narrow(3, 0, 2)],
                    3,
                );
                let x = x * table(&cos) + turned * table(&sin);
                x.reshape([2, 5, 2, 2, 4]).permute([0, 2, 3, 1, 4]).reshape([4, 10, 4])
            },
        );
        let back = Heads { all: 4, from: 0, rotation: None, ..heads };
        agree(
            [4, 10, 4],
            |x| apply::<Tape, 3, 2>(&Op::Merge(back.clone()), x),
            |x| x.reshape([2, 2, 2, 5, 4]).permute([0, 3, 1, 2, 4]).reshape([10, 16]),
        );
    }

    #[test]
    fn the_exponential_is_close_everywhere() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01;
            let right = f64::from(x).exp();
            assert!((f64::from(exp(x)) / right - 1.0).abs() < 3e-7, "{x}");
        }
    }
}
