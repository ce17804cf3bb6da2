//! From a Hugging Face folder to a GGUF file whose matrices are Q8_0.
//!
//! Names, permutation and keys are llama.cpp's (`convert_hf_to_gguf.py`, `LlamaModel` and
//! `Qwen2Model`; gguf-py, `tensor_mapping.py`). What this cannot say in GGUF is refused by name; such a
//! model is minted as it is.

use std::io::Write;

use anyhow::{Result, bail, ensure};
use cloister_scalar::quantise_q8_0;
use cloister_weights::{
    DType, File, Q8_0_BLOCK, Tensor,
    gguf_write::{Source, Writer},
};
use serde_json::Value;

use crate::error::MintError;

/// `LLAMA_FTYPE_MOSTLY_Q8_0` (llama.h).
const FILE_TYPE_Q8_0: u32 = 7;

/// Writes the GGUF file of the model that `config` and `file` describe.
pub(super) fn write(config: &Value, file: &File, out: &mut dyn Write) -> Result<()> {
    let model = Model::read(config)?;
    let mut writer = Writer::new();
    model.write_keys(&mut writer)?;
    if let Some(factors) = model.rope_factors()? {
        let bytes = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        let length = factors.len() as u64;
        writer.tensor("rope_freqs.weight", DType::F32, &[length], Source::Bytes(bytes));
    }
    for (name, tensor) in file.tensors() {
        let Some(renamed) = model.renamed(name)? else { continue };
        let shape: Vec<u64> = tensor.shape().iter().map(|size| *size as u64).collect();
        let blocks = matches!(tensor.shape(), [_, inputs] if inputs.is_multiple_of(Q8_0_BLOCK));
        let dtype = if blocks { DType::Q8_0 } else { DType::F32 };
        let heads = model.permuted_heads(name);
        let make = move || encoded(tensor, heads, dtype);
        writer.tensor(&renamed, dtype, &shape, Source::Made(Box::new(make)));
    }
    Ok(writer.write_to(out)?)
}

/// The tensor's rows in the order of GGUF, in `dtype`.
fn encoded(tensor: &Tensor, heads: Option<usize>, dtype: DType) -> Vec<u8> {
    let mut values = tensor.to_f32();
    if let Some(heads) = heads {
        values = permuted(&values, heads, tensor.shape());
    }
    if dtype == DType::Q8_0 {
        quantise_q8_0(&values)
    } else {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }
}

/// Hugging Face turns `(i, i + Dh/2)`, GGUF's llama `(2i, 2i + 1)`: row `2i + half` of a head is the
/// former's row `half · Dh/2 + i`.
fn permuted(values: &[f32], heads: usize, shape: &[usize]) -> Vec<f32> {
    let rows = shape[0];
    let (width, head_rows) = (values.len() / rows, rows / heads);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, within) = (row / head_rows, row % head_rows);
        let source = head * head_rows + (within % 2) * (head_rows / 2) + within / 2;
        out.extend_from_slice(&values[source * width..(source + 1) * width]);
    }
    out
}

/// What `config.json` says, as far as GGUF can repeat it.
struct Model<'a> {
    config: &'a Value,
    architecture: &'static str,
    heads: usize,
    key_heads: usize,
    head_width: usize,
    tied: bool,
}

impl<'a> Model<'a> {
    fn read(config: &'a Value) -> Result<Self> {
        let architecture = match config["model_type"].as_str() {
            Some("llama") => "llama",
            Some("qwen2") => "qwen2",
            other => {
                bail!(unsaid(other.unwrap_or("a model without a type")))
            }
        };
        for key in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            ensure!(config[key] != Value::Bool(true), unsaid(key));
        }
        let activation = config.get("hidden_act").and_then(Value::as_str);
        let silu = activation.is_none_or(|name| name == "silu");
        ensure!(silu, unsaid("a hidden_act other than silu"));
        let heads = index(config, "num_attention_heads")?;
        let key_heads = match config.get("num_key_value_heads") {
            None => heads,
            Some(_) => index(config, "num_key_value_heads")?,
        };
        let head_width = match config.get("head_dim") {
            None | Some(Value::Null) => index(config, "hidden_size")? / heads,
            Some(_) => index(config, "head_dim")?,
        };
        let tied = config["tie_word_embeddings"] == Value::Bool(true);
        ensure!(head_width > 0 && head_width.is_multiple_of(2), lacks("head_dim"));
        Ok(Self { config, architecture, heads, key_heads, head_width, tied })
    }

    fn write_keys(&self, writer: &mut Writer<'_>) -> Result<()> {
        let key = |name: &str| format!("{}.{name}", self.architecture);
        writer.text("general.architecture", self.architecture);
        writer.count("general.file_type", FILE_TYPE_Q8_0);
        writer.count("general.quantization_version", 2);
        for (name, from) in [
            ("context_length", "max_position_embeddings"),
            ("embedding_length", "hidden_size"),
            ("block_count", "num_hidden_layers"),
            ("feed_forward_length", "intermediate_size"),
            ("vocab_size", "vocab_size"),
        ] {
            writer.count(&key(name), count(self.config, from)?);
        }
        for (name, value) in [
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.key_heads),
            ("attention.key_length", self.head_width),
            ("attention.value_length", self.head_width),
            ("rope.dimension_count", self.head_width),
        ] {
            writer.count(&key(name), u32::try_from(value).map_err(|_large| lacks(name))?);
        }
        let epsilon = number(self.config, "rms_norm_eps").unwrap_or(1e-6);
        writer.float(&key("attention.layer_norm_rms_epsilon"), narrow(epsilon));
        let theta = self.rope("rope_theta").or_else(|| number(self.config, "rope_theta"));
        writer.float(&key("rope.freq_base"), narrow(theta.unwrap_or(10_000.0)));
        match self.rope_kind() {
            "default" | "llama3" => {}
            kind @ ("linear" | "yarn") => {
                writer.text(&key("rope.scaling.type"), kind);
                let factor = self.rope("factor").ok_or_else(|| lacks("factor of rope scaling"))?;
                writer.float(&key("rope.scaling.factor"), narrow(factor));
                if kind == "yarn" {
                    self.check_yarn()?;
                    let original = count(self.rope_object(), "original_max_position_embeddings")?;
                    writer.count(&key("rope.scaling.original_context_length"), original);
                }
            }
            other => bail!(unsaid(&format!("rope scaling {other}"))),
        }
        self.write_special_tokens(writer)
    }

    /// Of several ends of text the first is the text's and the last the turn's.
    fn write_special_tokens(&self, writer: &mut Writer<'_>) -> Result<()> {
        let ids = |key: &str| -> Result<Vec<u32>> {
            match &self.config[key] {
                Value::Null => Ok(Vec::new()),
                Value::Array(ids) => ids.iter().map(|id| id_of(id, key)).collect(),
                id => Ok(vec![id_of(id, key)?]),
            }
        };
        if let [bos] = ids("bos_token_id")?.as_slice() {
            writer.count("tokenizer.ggml.bos_token_id", *bos);
        }
        let ends = ids("eos_token_id")?;
        if let Some(eos) = ends.first() {
            writer.count("tokenizer.ggml.eos_token_id", *eos);
        }
        if let [_, .., eot] = ends.as_slice() {
            writer.count("tokenizer.ggml.eot_token_id", *eot);
        }
        Ok(())
    }

    /// `rope_scaling` of transformers 4, `rope_parameters` of 5.
    fn rope_object(&self) -> &'a Value {
        let new = &self.config["rope_parameters"];
        if new.is_object() { new } else { &self.config["rope_scaling"] }
    }

    fn rope(&self, key: &str) -> Option<f64> {
        number(self.rope_object(), key)
    }

    fn rope_kind(&self) -> &'a str {
        let object = self.rope_object();
        let kind = object.get("rope_type").or_else(|| object.get("type"));
        kind.and_then(Value::as_str).unwrap_or("default")
    }

    /// GGUF's yarn has its usual constants only.
    fn check_yarn(&self) -> Result<()> {
        for (key, usual) in [("beta_fast", 32.0), ("beta_slow", 1.0)] {
            let same = self.rope(key).is_none_or(|value| value.total_cmp(&usual).is_eq());
            ensure!(same, unsaid(&format!("{key} of rope scaling")));
        }
        for key in ["attention_factor", "mscale", "mscale_all_dim", "truncate"] {
            let absent = self.rope_object()[key].is_null();
            ensure!(absent, unsaid(&format!("{key} of rope scaling")));
        }
        Ok(())
    }

    /// Llama 3's scaling as one divisor a frequency (`convert_hf_to_gguf.py`,
    /// `generate_extra_tensors`).
    fn rope_factors(&self) -> Result<Option<Vec<f32>>> {
        if self.rope_kind() != "llama3" {
            return Ok(None);
        }
        let need =
            |key: &str| self.rope(key).ok_or_else(|| lacks(&format!("{key} of rope scaling")));
        let (factor, low, high) =
            (need("factor")?, need("low_freq_factor")?, need("high_freq_factor")?);
        let original = need("original_max_position_embeddings")?;
        let theta = self.rope("rope_theta").or_else(|| number(self.config, "rope_theta"));
        let theta = theta.unwrap_or(10_000.0);
        let wide = |_large| lacks("head_dim");
        let width = f64::from(u32::try_from(self.head_width).map_err(wide)?);
        let divisor = |pair: u32| {
            let wavelength = std::f64::consts::TAU * theta.powf(2.0 * f64::from(pair) / width);
            let kept = ((original / wavelength - low) / (high - low)).clamp(0.0, 1.0);
            narrow(1.0 / ((1.0 - kept) / factor + kept))
        };
        Ok(Some((0..u32::try_from(self.head_width / 2).map_err(wide)?).map(divisor).collect()))
    }

    /// Heads by whose rows the tensor is permuted, if it is.
    fn permuted_heads(&self, name: &str) -> Option<usize> {
        if self.architecture != "llama" {
            return None;
        }
        if name.ends_with("self_attn.q_proj.weight") {
            Some(self.heads)
        } else {
            name.ends_with("self_attn.k_proj.weight").then_some(self.key_heads)
        }
    }

    /// The tensor's name in GGUF; `None` for one that changes nothing.
    fn renamed(&self, name: &str) -> Result<Option<String>> {
        if name.ends_with("rotary_emb.inv_freq") || (self.tied && name == "lm_head.weight") {
            return Ok(None);
        }
        let unknown = || MintError::ModelTensor { name: name.to_owned() };
        let (stem, kind) = name.rsplit_once('.').ok_or_else(unknown)?;
        ensure!(matches!(kind, "weight" | "bias"), unknown());
        let whole = match stem {
            "model.embed_tokens" => Some("token_embd"),
            "model.norm" => Some("output_norm"),
            "lm_head" => Some("output"),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(Some(format!("{whole}.{kind}")));
        }
        let layer = stem.strip_prefix("model.layers.").ok_or_else(unknown)?;
        let (number, part) = layer.split_once('.').ok_or_else(unknown)?;
        let number: u32 = number.parse().map_err(|_no_number| unknown())?;
        let part = match part {
            "input_layernorm" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "post_attention_layernorm" => "ffn_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => bail!(unknown()),
        };
        Ok(Some(format!("blk.{number}.{part}.{kind}")))
    }
}

fn unsaid(what: &str) -> MintError {
    MintError::ModelUnsaid { what: what.to_owned() }
}

fn lacks(field: &str) -> MintError {
    MintError::ModelField { field: field.to_owned() }
}

fn count(object: &Value, key: &str) -> Result<u32> {
    let value = object[key].as_u64().and_then(|value| u32::try_from(value).ok());
    Ok(value.ok_or_else(|| lacks(key))?)
}

fn index(object: &Value, key: &str) -> Result<usize> {
    let value = usize::try_from(count(object, key)?).ok().filter(|value| *value > 0);
    Ok(value.ok_or_else(|| lacks(key))?)
}

fn id_of(value: &Value, key: &str) -> Result<u32> {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    Ok(id.ok_or_else(|| lacks(key))?)
}

fn number(object: &Value, key: &str) -> Option<f64> {
    object.get(key)?.as_f64()
}

#[expect(clippy::cast_possible_truncation, reason = "GGUF keeps these as f32")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(kind: &str) -> Value {
        json!({
            "model_type": kind, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
            "vocab_size": 10, "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "bos_token_id": 1,
            "eos_token_id": [2, 3],
        })
    }

    #[test]
    fn the_permutation_is_that_of_llama_cpp() {
        // w.reshape(heads, 2, Dh/2, in).swapaxes(1, 2).reshape(w.shape) with heads 2, Dh 4, in 1.
        let rows: Vec<f32> = (0..8u8).map(f32::from).collect();
        assert_eq!(permuted(&rows, 2, &[8, 1]), [0., 2., 1., 3., 4., 6., 5., 7.]);
    }

    #[test]
    fn names_are_mapped_or_refused() {
        let config = config("qwen2");
        let model = Model::read(&config).expect("a known type");
        for (name, expected) in [
            ("model.embed_tokens.weight", Some("token_embd.weight")),
            ("model.layers.7.self_attn.q_proj.bias", Some("blk.7.attn_q.bias")),
            ("model.layers.7.self_attn.rotary_emb.inv_freq", None),
            ("lm_head.weight", Some("output.weight")),
        ] {
            assert_eq!(model.renamed(name).expect("known").as_deref(), expected);
        }
        for name in ["model.layers.x.mlp.up_proj.weight", "model.layers.0.mlp.experts.weight", "x"]
        {
            assert!(model.renamed(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_gguf_cannot_say_is_refused_by_name() {
        for (key, value) in [
            ("model_type", json!("gemma2")),
            ("attention_bias", json!(true)),
            ("hidden_act", json!("gelu")),
            ("rope_parameters", json!({"rope_type": "longrope", "factor": 2.0})),
            ("rope_parameters", json!({"rope_type": "yarn", "factor": 2.0, "mscale": 1.0})),
        ] {
            let mut bad = config("llama");
            bad[key] = value;
            let written = Model::read(&bad).and_then(|model| model.write_keys(&mut Writer::new()));
            assert!(written.is_err(), "{key}");
        }
    }

    #[test]
    fn llama_3_keeps_high_frequencies_and_divides_low_ones() {
        let mut config = config("llama");
        config["rope_scaling"] = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let model = Model::read(&config).expect("a known type");
        let factors = model.rope_factors().expect("all given").expect("scaled");
        assert_eq!(factors.len(), 16);
        assert!((factors[0] - 1.0).abs() < 1e-6 && (factors[15] - 8.0).abs() < 1e-6);
        assert!(factors.is_sorted());
    }
}
