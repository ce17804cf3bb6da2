//! numpy's `Generator(PCG64([seed, n])).standard_normal(dtype=float32)`, bit for bit, so that the tensors of
//! `make_synthetic_gguf.py` can be made without Python.
//!
//! Sources: numpy 2.4, `random/bit_generator.pyx` (seed sequence), `src/pcg64` (O'Neill 2014, XSL RR 128/64),
//! `src/distributions/distributions.c` (ziggurat of 256 layers; Marsaglia and Tsang 2000).

/// Where the tail of the normal distribution begins.
const R: f64 = 3.654_152_885_361_009;
const PCG_MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;

/// A stream of normal deviates.
pub(crate) struct Normal {
    state: u128,
    increment: u128,
    /// The upper half of the last 64 bits, not yet used.
    kept: Option<u32>,
    layers: Vec<Layer>,
}

/// One layer of the ziggurat.
#[derive(Clone, Copy, Default)]
struct Layer {
    /// Below this many of 2²³ steps a point lies inside.
    inside: u32,
    /// Width of a step.
    step: f32,
    /// The density at the layer's right edge.
    density: f32,
}

impl Normal {
    /// The stream of the seed sequence `[seed, n]`.
    pub(crate) fn new(seed: u32, n: u32) -> Self {
        let words = seed_words([seed, n]);
        let long = |i: usize| u128::from(words[2 * i]) | u128::from(words[2 * i + 1]) << 32;
        let start = long(0) << 64 | long(1);
        let increment = (long(2) << 64 | long(3)) << 1 | 1;
        let mut normal = Self { state: 0, increment, kept: None, layers: layers() };
        normal.step();
        normal.state = normal.state.wrapping_add(start);
        normal.step();
        normal
    }

    fn step(&mut self) {
        self.state = self.state.wrapping_mul(PCG_MULTIPLIER).wrapping_add(self.increment);
    }

    fn bits(&mut self) -> u32 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        self.step();
        let [low, high] = [self.state, self.state >> 64].map(|half| half as u64);
        let bits = (high ^ low).rotate_right((self.state >> 122) as u32);
        self.kept = Some((bits >> 32) as u32);
        bits as u32
    }

    fn uniform(&mut self) -> f32 {
        (self.bits() >> 8) as f32 / 16_777_216.0
    }

    /// The next deviate.
    pub(crate) fn next(&mut self) -> f32 {
        loop {
            let bits = self.bits();
            let index = (bits & 0xFF) as usize;
            let steps = bits >> 9 & 0x7F_FFFF;
            let layer = self.layers[index];
            let x = steps as f32 * layer.step;
            let x = if bits >> 8 & 1 == 1 { -x } else { x };
            if steps < layer.inside {
                return x;
            }
            if index == 0 {
                return self.tail(steps);
            }
            let above = self.layers[index - 1].density;
            let height = (above - layer.density) * self.uniform() + layer.density;
            if f64::from(height) < (-0.5 * f64::from(x) * f64::from(x)).exp() {
                return x;
            }
        }
    }

    fn tail(&mut self, steps: u32) -> f32 {
        loop {
            let x = -((1.0 / R) as f32) * (-self.uniform()).ln_1p();
            let y = -(-self.uniform()).ln_1p();
            if y + y > x * x {
                let x = R as f32 + x;
                return if steps >> 8 & 1 == 1 { -x } else { x };
            }
        }
    }
}

/// The layers, from the top of the bell; the first is the base with the tail.
fn layers() -> Vec<Layer> {
    const STEPS: f64 = 8_388_608.0;
    let density = |x: f64| (-0.5 * x * x).exp();
    let tail = (std::f64::consts::PI / 2.0).sqrt()
        * (1.0 - cloister_scalar::erf(R * std::f64::consts::FRAC_1_SQRT_2));
    let area = R * density(R) + tail;
    let base = area / density(R);
    let mut layers = vec![Layer::default(); 256];
    layers[0] =
        Layer { inside: (R / base * STEPS) as u32, step: (base / STEPS) as f32, density: 1.0 };
    let mut edge = R;
    for index in (1..256).rev() {
        layers[index].step = (edge / STEPS) as f32;
        layers[index].density = density(edge) as f32;
        let next = (-2.0 * (area / edge + density(edge)).ln()).max(0.0).sqrt();
        layers[index].inside = if index == 1 { 0 } else { (next / edge * STEPS) as u32 };
        edge = next;
    }
    layers
}

/// Eight words of state from two of entropy.
fn seed_words(entropy: [u32; 2]) -> [u32; 8] {
    const SHIFT: u32 = 16;
    let mut constant: u32 = 0x43B0_D7E5;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931E_8875);
        let value = value.wrapping_mul(constant);
        value ^ value >> SHIFT
    };
    let mut pool = [entropy[0], entropy[1], 0, 0].map(&mut hash);
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            let mixed = pool[to]
                .wrapping_mul(0xCA01_F9DD)
                .wrapping_sub(hash(pool[from]).wrapping_mul(0x4973_F715));
            pool[to] = mixed ^ mixed >> SHIFT;
        }
    }
    let mut constant: u32 = 0x8B51_F9DD;
    std::array::from_fn(|i| {
        let value = pool[i % 4] ^ constant;
        constant = constant.wrapping_mul(0x58F3_8DED);
        let value = value.wrapping_mul(constant);
        value ^ value >> SHIFT
    })
}
