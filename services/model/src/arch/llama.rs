//! Llama (Touvron et al. 2023; Llama 3: Dubey et al. 2024), tied or not, with its rotation scalings.

use cloister_weights::{DType, File, Name};

use super::{Plan, dense::Names, vocabulary};
use crate::{
    ModelError,
    config::{DecoderConfig, Defaults, Keys},
    ops::Pairs,
};

const NAME: &str = "llama";

/// transformers, `LlamaConfig`.
const DEFAULTS: Defaults = Defaults {
    vocabulary: 32_000,
    width: 4096,
    inner: 11_008,
    layers: 32,
    heads: 32,
    key_heads: None,
    context: 2048,
    begin: Some(1),
    end: Some(2),
};

/// Reads `config.json`.
pub(super) fn from_keys(mut keys: Keys) -> Result<Plan, ModelError> {
    let mut config = DecoderConfig::shared(&mut keys, &DEFAULTS)?;
    config.biased.qkv = keys.bool("attention_bias")?.unwrap_or(false);
    config.biased.out = config.biased.qkv;
    config.biased.mlp = keys.bool("mlp_bias")?.unwrap_or(false);
    keys.expect_one("pretraining_tp")?;
    keys.expect_all("architectures", &["LlamaForCausalLM"])?;
    keys.finish()?;
    Ok(Plan { architecture: NAME, config, names: Names::TRANSFORMERS })
}

/// Reads the metadata of a GGUF file. Its query and key rows are permuted, so that neighbours rotate
/// together; Llama 3's scaling comes as the tensor `rope_freqs.weight`.
pub(super) fn from_metadata(file: &File) -> Result<Plan, ModelError> {
    const FACTORS: &str = "rope_freqs.weight";
    let factors = match file.tensor(FACTORS) {
        None => None,
        Some(tensor) if tensor.dtype() == DType::F32 && tensor.shape().len() == 1 => {
            Some(tensor.to_f32())
        }
        Some(_) => return Err(ModelError::TensorType { name: Name::of(FACTORS) }),
    };
    let count = factors.as_ref().map(Vec::len);
    if factors.iter().flatten().any(|factor| !factor.is_finite() || *factor <= 0.0) {
        return Err(ModelError::TensorType { name: Name::of(FACTORS) });
    }
    let vocabulary = vocabulary(file)?;
    let metadata = file.metadata();
    let mut config =
        DecoderConfig::from_metadata(metadata, NAME, Pairs::Neighbours, vocabulary, factors)?;
    if count.is_some_and(|count| 2 * count != config.head_width) {
        return Err(ModelError::TensorShape { name: Name::of(FACTORS) });
    }
    config.tied = file.tensor(&Names::GGUF.head()).is_none();
    Ok(Plan { architecture: NAME, config, names: Names::GGUF })
}
