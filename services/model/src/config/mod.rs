//! A model's configuration: read once, strictly.
//!
//! Every key is either used, or known to change no number, or refused by name.

mod keys;
mod rope;

pub(crate) use keys::{Keys, value as refused_value};
pub(crate) use rope::Rope;

use cloister_weights::Metadata;

use crate::{ModelError, ops::Pairs};

/// A dense decoder: pre-norm layers of grouped-query attention and a gated MLP.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DecoderConfig {
    pub(crate) layers: usize,
    /// Model width `D`.
    pub(crate) width: usize,
    /// Width of the MLP.
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) key_heads: usize,
    /// Head width `Dh`.
    pub(crate) head_width: usize,
    pub(crate) vocabulary: usize,
    pub(crate) context: u32,
    pub(crate) epsilon: f32,
    pub(crate) rope: Rope,
    pub(crate) pairs: Pairs,
    /// Whether the head is the table of embeddings.
    pub(crate) tied: bool,
    /// Which products have a bias.
    pub(crate) biased: Biased,
    pub(crate) begin: Option<u32>,
    pub(crate) ends: Vec<u32>,
}

/// Products with a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Biased {
    /// Queries, keys and values.
    pub(crate) qkv: bool,
    /// The attention's output.
    pub(crate) out: bool,
    /// The MLP.
    pub(crate) mlp: bool,
}

/// What differs between the families' defaults in transformers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Defaults {
    pub(crate) vocabulary: u32,
    pub(crate) width: u32,
    pub(crate) inner: u32,
    pub(crate) layers: u32,
    pub(crate) heads: u32,
    /// `None` is as many as query heads.
    pub(crate) key_heads: Option<u32>,
    pub(crate) context: u32,
    pub(crate) begin: Option<u32>,
    pub(crate) end: Option<u32>,
}

impl DecoderConfig {
    /// Reads what all dense decoders share in `config.json`; the family then reads its own keys and calls
    /// [`Keys::finish`].
    pub(crate) fn shared(keys: &mut Keys, defaults: &Defaults) -> Result<Self, ModelError> {
        let width = keys.size("hidden_size", defaults.width)?;
        let heads = keys.size("num_attention_heads", defaults.heads)?;
        let key_heads = match (keys.count("num_key_value_heads")?, defaults.key_heads) {
            (Some(count), _) | (None, Some(count)) => index(count),
            (None, None) => heads,
        };
        let head_width =
            keys.count("head_dim")?.map_or(width.checked_div(heads).unwrap_or(0), index);
        let context = keys.count("max_position_embeddings")?.unwrap_or(defaults.context);
        keys.expect_text("hidden_act", "silu")?;
        let config = Self {
            layers: keys.size("num_hidden_layers", defaults.layers)?,
            width,
            inner: keys.size("intermediate_size", defaults.inner)?,
            heads,
            key_heads,
            head_width,
            vocabulary: keys.size("vocab_size", defaults.vocabulary)?,
            context,
            epsilon: keys.epsilon("rms_norm_eps", 1e-6)?,
            rope: Rope::from_keys(keys, head_width, context)?,
            pairs: Pairs::Halves,
            tied: keys.bool("tie_word_embeddings")?.unwrap_or(false),
            biased: Biased::default(),
            begin: keys.id("bos_token_id")?.or(defaults.begin),
            ends: keys.ids("eos_token_id")?.unwrap_or_else(|| defaults.end.into_iter().collect()),
        };
        config.check()
    }

    /// Reads the configuration of a GGUF file of architecture `arch`.
    pub(crate) fn from_metadata(
        metadata: &Metadata,
        arch: &'static str,
        pairs: Pairs,
        vocabulary: usize,
        frequency_factors: Option<Vec<f32>>,
    ) -> Result<Self, ModelError> {
        let full = |key: &str| format!("{arch}.{key}");
        let count = |key: &str| metadata.count(&full(key)).map_err(ModelError::Weights);
        let need = |key: &str| count(key)?.map(index).ok_or_else(|| keys::missing(&full(key)));
        keys::check_metadata(metadata, arch)?;
        let (width, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let key_heads = count("attention.head_count_kv")?.map_or(heads, index);
        let head_width = width.checked_div(heads).unwrap_or(0);
        let head_width = count("attention.key_length")?.map_or(head_width, index);
        for key in ["attention.value_length", "rope.dimension_count"] {
            if count(key)?.is_some_and(|other| index(other) != head_width) {
                return Err(keys::value(&full(key)));
            }
        }
        if count("vocab_size")?.is_some_and(|other| index(other) != vocabulary) {
            return Err(keys::value(&full("vocab_size")));
        }
        let context =
            count("context_length")?.ok_or_else(|| keys::missing(&full("context_length")))?;
        let epsilon = metadata
            .float(&full("attention.layer_norm_rms_epsilon"))
            .map_err(ModelError::Weights)?
            .ok_or_else(|| keys::missing(&full("attention.layer_norm_rms_epsilon")))?;
        let special = |name: &str| metadata.count(&format!("tokenizer.ggml.{name}_token_id"));
        let ends = [special("eos"), special("eot")].into_iter().collect::<Result<Vec<_>, _>>();
        let mut ends: Vec<u32> = ends.map_err(ModelError::Weights)?.into_iter().flatten().collect();
        ends.dedup();
        let config = Self {
            layers: need("block_count")?,
            width,
            inner: need("feed_forward_length")?,
            heads,
            key_heads,
            head_width,
            vocabulary,
            context,
            epsilon: keys::epsilon_value(epsilon),
            rope: Rope::from_metadata(metadata, arch, head_width, frequency_factors)?,
            pairs,
            tied: false,
            biased: Biased::default(),
            begin: special("bos").map_err(ModelError::Weights)?,
            ends,
        };
        config.check()
    }

    /// Refuses sizes that no tensor can have, so that later arithmetic cannot fail.
    fn check(self) -> Result<Self, ModelError> {
        const SIZE_MAX: usize = 1 << 24;
        for (key, size) in [
            ("num_hidden_layers", self.layers),
            ("hidden_size", self.width),
            ("intermediate_size", self.inner),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.key_heads),
            ("head_dim", self.head_width),
            ("vocab_size", self.vocabulary),
            ("max_position_embeddings", index(self.context)),
        ] {
            if size == 0 || size > SIZE_MAX {
                return Err(keys::value(key));
            }
        }
        if !self.heads.is_multiple_of(self.key_heads) {
            return Err(keys::value("num_key_value_heads"));
        }
        if !self.head_width.is_multiple_of(2) || self.head_width > 4096 || self.heads > 4096 {
            return Err(keys::value("head_dim"));
        }
        if self.layers > 4096 {
            return Err(keys::value("num_hidden_layers"));
        }
        Ok(self)
    }
}

/// A count as an index; every address space here has at least 32 bits.
pub(crate) fn index(count: u32) -> usize {
    usize::try_from(count).expect("32 bits fit an address")
}
