//! The forward pass of dense decoders: pre-norm layers of grouped-query attention (Ainslie et al. 2023)
//! with rotary positions and a gated MLP (Touvron et al. 2023, section 2.2).

use cloister_weights::File;
use rayon::ThreadPool;

use super::parts::Parts;
use crate::{
    Heads, ModelError, Ops, batch::Batch, config::DecoderConfig, decoder::Runner, ops::CacheShape,
};

/// How a format names the tensors; `{}` is the layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    table: &'static str,
    norm: &'static str,
    head: &'static str,
    layer: &'static str,
    attention_norm: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    out: &'static str,
    mlp_norm: &'static str,
    gate: &'static str,
    up: &'static str,
    down: &'static str,
    /// Endings of tensors that change nothing.
    inert: &'static [&'static str],
}

impl Names {
    /// Hugging Face's (transformers, `modeling_llama.py`). Old files carry the frequencies of the rotation.
    pub(super) const TRANSFORMERS: Self = Self {
        table: "model.embed_tokens",
        norm: "model.norm",
        head: "lm_head",
        layer: "model.layers.",
        attention_norm: "input_layernorm",
        query: "self_attn.q_proj",
        key: "self_attn.k_proj",
        value: "self_attn.v_proj",
        out: "self_attn.o_proj",
        mlp_norm: "post_attention_layernorm",
        gate: "mlp.gate_proj",
        up: "mlp.up_proj",
        down: "mlp.down_proj",
        inert: &["rotary_emb.inv_freq"],
    };

    /// GGUF's (gguf-py, `tensor_mapping.py`). The rotation's factors were read with the configuration.
    pub(super) const GGUF: Self = Self {
        table: "token_embd",
        norm: "output_norm",
        head: "output",
        layer: "blk.",
        attention_norm: "attn_norm",
        query: "attn_q",
        key: "attn_k",
        value: "attn_v",
        out: "attn_output",
        mlp_norm: "ffn_norm",
        gate: "ffn_gate",
        up: "ffn_up",
        down: "ffn_down",
        inert: &["rope_freqs.weight"],
    };

    /// Name of the head's matrix.
    pub(super) fn head(&self) -> String {
        format!("{}.weight", self.head)
    }
}

/// A product's weights, with or without bias.
struct Linear<O: Ops> {
    weights: O::Matrix,
    bias: Option<O::Vector>,
}

impl<O: Ops> Linear<O> {
    fn load(
        parts: &mut Parts<'_, O>,
        name: &str,
        (outputs, inputs): (usize, usize),
        biased: bool,
    ) -> Result<Self, ModelError> {
        let weights = parts.matrix(&format!("{name}.weight"), outputs, inputs)?;
        let bias = parts.vector_if(biased, &format!("{name}.bias"), outputs)?;
        Ok(Self { weights, bias })
    }

    fn run(&self, ops: &O, x: &O::Rows) -> O::Rows {
        ops.product(x, &self.weights, self.bias.as_ref())
    }
}

struct Layer<O: Ops> {
    attention_norm: O::Vector,
    query: Linear<O>,
    key: Linear<O>,
    value: Linear<O>,
    out: Linear<O>,
    mlp_norm: O::Vector,
    gate: Linear<O>,
    up: Linear<O>,
    down: Linear<O>,
}

/// A dense decoder with its threads.
pub(super) struct Dense<O: Ops> {
    pool: ThreadPool,
    pass: Pass<O>,
}

/// All that a forward pass needs.
struct Pass<O: Ops> {
    ops: O,
    config: DecoderConfig,
    heads: Heads,
    table: O::Matrix,
    layers: Vec<Layer<O>>,
    norm: O::Vector,
    /// `None` when the table of embeddings is the head.
    head: Option<O::Matrix>,
    cache: O::Cache,
}

impl<O: Ops> Dense<O> {
    /// Takes all tensors over; each must be there in its shape, and no other.
    pub(super) fn load(
        ops: O,
        file: &File,
        config: DecoderConfig,
        names: &Names,
        cache: CacheShape,
        pool: ThreadPool,
    ) -> Result<Self, ModelError> {
        let mut parts = Parts::new(&ops, file);
        let weight = |name: &str| format!("{name}.weight");
        let table = parts.matrix(&weight(names.table), config.vocabulary, config.width)?;
        let norm = parts.vector(&weight(names.norm), config.width)?;
        let head = if config.tied {
            None
        } else {
            Some(parts.matrix(&names.head(), config.vocabulary, config.width)?)
        };
        let layers = (0..config.layers)
            .map(|layer| Layer::load(&mut parts, &config, names, layer))
            .collect::<Result<Vec<_>, ModelError>>()?;
        // transformers ties a head over whatever the file holds for it.
        let tied_head = config.tied.then(|| names.head());
        parts.finish(|name| {
            names.inert.iter().any(|end| name.ends_with(end)) || tied_head.as_deref() == Some(name)
        })?;
        let heads = Heads {
            query: config.heads,
            key: config.key_heads,
            width: config.head_width,
            scale: 1.0 / float(config.head_width).sqrt(),
        };
        let cache = ops.cache(cache);
        let pass = Pass { ops, config, heads, table, layers, norm, head, cache };
        Ok(Self { pool, pass })
    }
}

impl<O: Ops> Pass<O> {
    /// Logits `[wanted, V]` of the batch's wanted rows.
    fn forward(&mut self, batch: &Batch) -> Vec<f32> {
        let ops = &self.ops;
        let angles = self.config.rope.angles(&batch.positions());
        let slots = batch.slots();
        let epsilon = self.config.epsilon;
        let mut x = ops.embed(&self.table, &batch.tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = ops.rms_norm(&x, &layer.attention_norm, epsilon);
            let query = ops.rope(layer.query.run(ops, &normed), &angles, self.config.pairs);
            let keys = ops.rope(layer.key.run(ops, &normed), &angles, self.config.pairs);
            let values = layer.value.run(ops, &normed);
            ops.store(&mut self.cache, index, &slots, &keys, &values);
            let mixed = ops.attend_cached(&self.cache, index, &query, &batch.spans, self.heads);
            x = ops.add(x, &layer.out.run(ops, &mixed));
            let normed = ops.rms_norm(&x, &layer.mlp_norm, epsilon);
            let gated = ops.gated_silu(layer.gate.run(ops, &normed), &layer.up.run(ops, &normed));
            x = ops.add(x, &layer.down.run(ops, &gated));
        }
        if batch.wanted.is_empty() {
            return Vec::new();
        }
        let wanted = ops.rms_norm(&ops.select(&x, &batch.wanted), &self.norm, epsilon);
        ops.read(ops.product(&wanted, self.head.as_ref().unwrap_or(&self.table), None))
    }
}

impl<O: Ops> Layer<O> {
    fn load(
        parts: &mut Parts<'_, O>,
        config: &DecoderConfig,
        names: &Names,
        layer: usize,
    ) -> Result<Self, ModelError> {
        let name = |part: &str| format!("{}{layer}.{part}", names.layer);
        let (width, inner) = (config.width, config.inner);
        let query = config.heads * config.head_width;
        let key = config.key_heads * config.head_width;
        Ok(Self {
            attention_norm: parts
                .vector(&name(&format!("{}.weight", names.attention_norm)), width)?,
            query: Linear::load(parts, &name(names.query), (query, width), config.biased.qkv)?,
            key: Linear::load(parts, &name(names.key), (key, width), config.biased.qkv)?,
            value: Linear::load(parts, &name(names.value), (key, width), config.biased.qkv)?,
            out: Linear::load(parts, &name(names.out), (width, query), config.biased.out)?,
            mlp_norm: parts.vector(&name(&format!("{}.weight", names.mlp_norm)), width)?,
            gate: Linear::load(parts, &name(names.gate), (inner, width), config.biased.mlp)?,
            up: Linear::load(parts, &name(names.up), (inner, width), config.biased.mlp)?,
            down: Linear::load(parts, &name(names.down), (width, inner), config.biased.mlp)?,
        })
    }
}

impl<O: Ops> Runner for Dense<O> {
    fn run(&mut self, batch: &Batch) -> Vec<f32> {
        // The pool's own thread runs the pass, so that each operation finds its workers awake.
        let Self { pool, pass } = self;
        pool.install(|| pass.forward(batch))
    }

    fn wipe(&mut self, pages: &[u32]) {
        self.pass.ops.wipe(&mut self.pass.cache, pages);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a head's width is below 2^24")]
const fn float(n: usize) -> f32 {
    n as f32
}
