//! BERT (Devlin et al. 2019): post-norm encoder layers with learned positions.

use std::ops::Range;

use cloister_weights::File;
use rayon::ThreadPool;

use super::parts::Parts;
use crate::{
    Heads, ModelError, Ops, Text,
    config::{Keys, index},
    encoder::EncoderRunner,
};

/// The numbers of a BERT.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Config {
    layers: usize,
    width: usize,
    inner: usize,
    heads: usize,
    vocabulary: usize,
    context: u32,
    segments: usize,
    epsilon: f32,
}

impl Config {
    /// Reads `config.json`; the defaults are those of transformers' `BertConfig`.
    pub(super) fn from_keys(mut keys: Keys) -> Result<Self, ModelError> {
        const SIZE_MAX: usize = 1 << 24;
        let config = Self {
            layers: keys.size("num_hidden_layers", 12)?,
            width: keys.size("hidden_size", 768)?,
            inner: keys.size("intermediate_size", 3072)?,
            heads: keys.size("num_attention_heads", 12)?,
            vocabulary: keys.size("vocab_size", 30_522)?,
            context: keys.count("max_position_embeddings")?.unwrap_or(512),
            segments: keys.size("type_vocab_size", 2)?,
            epsilon: keys.epsilon("layer_norm_eps", 1e-12)?,
        };
        keys.expect_text("hidden_act", "gelu")?;
        keys.expect_text("position_embedding_type", "absolute")?;
        keys.expect_bool("is_decoder", false)?;
        keys.expect_bool("add_cross_attention", false)?;
        // Ties the head of language modelling, which is not used.
        keys.bool("tie_word_embeddings")?;
        keys.expect_all("architectures", &["BertModel", "BertForMaskedLM"])?;
        keys.finish()?;
        for (key, size) in [
            ("num_hidden_layers", config.layers),
            ("hidden_size", config.width),
            ("intermediate_size", config.inner),
            ("num_attention_heads", config.heads),
            ("vocab_size", config.vocabulary),
            ("max_position_embeddings", index(config.context)),
            ("type_vocab_size", config.segments),
        ] {
            if size == 0 || size > SIZE_MAX {
                return Err(crate::config::refused_value(key));
            }
        }
        if !config.width.is_multiple_of(config.heads) || config.layers > 4096 {
            return Err(crate::config::refused_value("num_attention_heads"));
        }
        Ok(config)
    }

    pub(super) const fn context(&self) -> u32 {
        self.context
    }

    pub(super) const fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    pub(super) const fn width(&self) -> usize {
        self.width
    }
}

struct Linear<O: Ops> {
    weights: O::Matrix,
    bias: O::Vector,
}

impl<O: Ops> Linear<O> {
    fn load(
        parts: &mut Parts<'_, O>,
        name: &str,
        outputs: usize,
        inputs: usize,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            weights: parts.matrix(&format!("{name}.weight"), outputs, inputs)?,
            bias: parts.vector(&format!("{name}.bias"), outputs)?,
        })
    }

    fn run(&self, ops: &O, x: &O::Rows) -> O::Rows {
        ops.product(x, &self.weights, Some(&self.bias))
    }
}

struct Norm<O: Ops> {
    gain: O::Vector,
    bias: O::Vector,
}

impl<O: Ops> Norm<O> {
    fn load(parts: &mut Parts<'_, O>, name: &str, width: usize) -> Result<Self, ModelError> {
        Ok(Self {
            gain: parts.vector(&format!("{name}.weight"), width)?,
            bias: parts.vector(&format!("{name}.bias"), width)?,
        })
    }

    fn run(&self, ops: &O, x: &O::Rows, epsilon: f32) -> O::Rows {
        ops.layer_norm(x, &self.gain, &self.bias, epsilon)
    }
}

struct Layer<O: Ops> {
    query: Linear<O>,
    key: Linear<O>,
    value: Linear<O>,
    out: Linear<O>,
    out_norm: Norm<O>,
    up: Linear<O>,
    down: Linear<O>,
    down_norm: Norm<O>,
}

/// A BERT with its threads.
pub(super) struct Bert<O: Ops> {
    ops: O,
    pool: ThreadPool,
    config: Config,
    words: O::Matrix,
    positions: O::Matrix,
    segments: O::Matrix,
    norm: Norm<O>,
    layers: Vec<Layer<O>>,
}

impl<O: Ops> Bert<O> {
    /// Takes all tensors over. Files of the model alone have no prefix, those of a model with a head have
    /// `bert.`; a pooler or a head of language modelling may be there and is not used.
    pub(super) fn load(
        ops: O,
        file: &File,
        config: &Config,
        pool: ThreadPool,
    ) -> Result<Self, ModelError> {
        let prefix = if file.tensor("bert.embeddings.word_embeddings.weight").is_some() {
            "bert."
        } else {
            ""
        };
        let mut parts = Parts::new(&ops, file);
        let width = config.width;
        let embeddings = |part: &str| format!("{prefix}embeddings.{part}");
        let table = |part: &str| embeddings(&format!("{part}_embeddings.weight"));
        let words = parts.matrix(&table("word"), config.vocabulary, width)?;
        let positions = parts.matrix(&table("position"), index(config.context), width)?;
        let segments = parts.matrix(&table("token_type"), config.segments, width)?;
        let norm = Norm::load(&mut parts, &embeddings("LayerNorm"), width)?;
        let layers = (0..config.layers)
            .map(|layer| {
                Layer::load(&mut parts, config, &format!("{prefix}encoder.layer.{layer}."))
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        parts.finish(|name| {
            name.starts_with(&format!("{prefix}pooler.")) || name.starts_with("cls.predictions.")
        })?;
        let config = config.clone();
        Ok(Self { ops, pool, config, words, positions, segments, norm, layers })
    }

    fn forward(&self, texts: &[Text<'_>]) -> Vec<f32> {
        let (ops, epsilon) = (&self.ops, self.config.epsilon);
        let mut spans: Vec<Range<usize>> = Vec::with_capacity(texts.len());
        let (mut tokens, mut places, mut segments) = (Vec::new(), Vec::new(), Vec::new());
        for text in texts {
            let start = tokens.len();
            tokens.extend(text.tokens.iter().map(|token| token.0));
            spans.push(start..tokens.len());
            places.extend((0u32..).take(text.tokens.len()));
            segments.extend(text.segments.iter().map(|segment| u32::from(*segment)));
            segments.resize(tokens.len(), 0);
        }
        let mut x = ops.embed(&self.words, &tokens);
        x = ops.add(x, &ops.embed(&self.segments, &segments));
        x = ops.add(x, &ops.embed(&self.positions, &places));
        x = self.norm.run(ops, &x, epsilon);
        let width = self.config.width / self.config.heads;
        let heads = Heads {
            query: self.config.heads,
            key: self.config.heads,
            width,
            scale: 1.0 / float(width).sqrt(),
        };
        for layer in &self.layers {
            let (query, keys) = (layer.query.run(ops, &x), layer.key.run(ops, &x));
            let mixed = ops.attend(&query, &keys, &layer.value.run(ops, &x), &spans, heads);
            x = layer.out_norm.run(ops, &ops.add(layer.out.run(ops, &mixed), &x), epsilon);
            let inner = ops.gelu(layer.up.run(ops, &x));
            x = layer.down_norm.run(ops, &ops.add(layer.down.run(ops, &inner), &x), epsilon);
        }
        ops.read(x)
    }
}

impl<O: Ops> Layer<O> {
    fn load(parts: &mut Parts<'_, O>, config: &Config, layer: &str) -> Result<Self, ModelError> {
        let (width, inner) = (config.width, config.inner);
        let name = |part: &str| format!("{layer}{part}");
        Ok(Self {
            query: Linear::load(parts, &name("attention.self.query"), width, width)?,
            key: Linear::load(parts, &name("attention.self.key"), width, width)?,
            value: Linear::load(parts, &name("attention.self.value"), width, width)?,
            out: Linear::load(parts, &name("attention.output.dense"), width, width)?,
            out_norm: Norm::load(parts, &name("attention.output.LayerNorm"), width)?,
            up: Linear::load(parts, &name("intermediate.dense"), inner, width)?,
            down: Linear::load(parts, &name("output.dense"), width, inner)?,
            down_norm: Norm::load(parts, &name("output.LayerNorm"), width)?,
        })
    }
}

impl<O: Ops> EncoderRunner for Bert<O> {
    fn segments(&self) -> usize {
        self.config.segments
    }

    fn run(&self, texts: &[Text<'_>]) -> Vec<f32> {
        self.pool.install(|| self.forward(texts))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a head's width is below 2^24")]
const fn float(n: usize) -> f32 {
    n as f32
}
