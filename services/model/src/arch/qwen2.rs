//! Qwen2 and Qwen2.5 (Yang et al. 2024): Llama's layers with a bias on queries, keys and values.

use cloister_weights::File;

use super::{Plan, dense::Names, vocabulary};
use crate::{
    ModelError,
    config::{DecoderConfig, Defaults, Keys},
    ops::Pairs,
};

const NAME: &str = "qwen2";

/// transformers, `Qwen2Config`.
const DEFAULTS: Defaults = Defaults {
    vocabulary: 151_936,
    width: 4096,
    inner: 22_016,
    layers: 32,
    heads: 32,
    key_heads: Some(32),
    context: 32_768,
    begin: None,
    end: None,
};

/// Reads `config.json`. Sliding windows are refused; what only describes them is not looked at without.
pub(super) fn from_keys(mut keys: Keys) -> Result<Plan, ModelError> {
    let mut config = DecoderConfig::shared(&mut keys, &DEFAULTS)?;
    config.biased.qkv = true;
    keys.expect_bool("use_sliding_window", false)?;
    keys.count("sliding_window")?;
    keys.count("max_window_layers")?;
    keys.expect_all("layer_types", &["full_attention"])?;
    keys.expect_all("architectures", &["Qwen2ForCausalLM"])?;
    keys.finish()?;
    Ok(Plan { architecture: NAME, config, names: Names::TRANSFORMERS })
}

/// Reads the metadata of a GGUF file.
pub(super) fn from_metadata(file: &File) -> Result<Plan, ModelError> {
    let vocabulary = vocabulary(file)?;
    let metadata = file.metadata();
    let mut config = DecoderConfig::from_metadata(metadata, NAME, Pairs::Halves, vocabulary, None)?;
    config.biased.qkv = true;
    config.tied = file.tensor(&Names::GGUF.head()).is_none();
    Ok(Plan { architecture: NAME, config, names: Names::GGUF })
}
