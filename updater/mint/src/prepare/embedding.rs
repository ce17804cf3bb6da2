//! Sentence embedding models in the form of the Python package `sentence-transformers`.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Inputs, copy, parsed, tokenizer_of, write};
use crate::error::MintError;

/// Writes `config.json`, `model.safetensors`, `tokenizer.json` and `pooling.json` to `target`.
pub(super) fn lay_out(source: &Path, target: &Path, inputs: &mut Inputs) -> Result<()> {
    const USED: [&str; 6] = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "modules.json",
        "1_Pooling/config.json",
    ];
    inputs.check_listing(source, &USED)?;
    let config = inputs.text(source, "config.json")?;
    let tokenizer = inputs.text(source, "tokenizer.json")?;
    tokenizer_of(source, &tokenizer)?;
    let pooling = pooling(source, inputs).with_context(|| source.display().to_string())?;
    let weights = source.join("model.safetensors");
    inputs.weights(&weights)?;
    write(&target.join("config.json"), &config)?;
    write(&target.join("tokenizer.json"), &tokenizer)?;
    write(&target.join("pooling.json"), pooling.as_bytes())?;
    copy(&weights, &target.join("model.safetensors"))
}

/// How vectors are made, from `1_Pooling/config.json` and `modules.json`; both must say it.
fn pooling(source: &Path, inputs: &mut Inputs) -> Result<String> {
    let text = inputs.text(source, "1_Pooling/config.json")?;
    let config = parsed(&text, &source.join("1_Pooling/config.json"))?;
    let chosen: Vec<&str> = config
        .as_object()
        .ok_or_else(|| unusable("1_Pooling/config.json is no object"))?
        .iter()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.as_str())
        .collect();
    let pooling = match chosen.as_slice() {
        ["pooling_mode_mean_tokens"] => "mean",
        ["pooling_mode_cls_token"] => "cls",
        other => {
            bail!(unusable(&format!("pooling by {} is not supported", other.join(" and "))))
        }
    };
    let modules = inputs.text(source, "modules.json")?;
    let modules = parsed(&modules, &source.join("modules.json"))?;
    let kinds = modules.as_array().ok_or_else(|| unusable("modules.json is no list"))?.iter();
    let kinds: Vec<&str> = kinds
        .map(|module| module["type"].as_str().unwrap_or_default())
        .map(|kind| kind.trim_start_matches("sentence_transformers.models."))
        .collect();
    let normalize = match kinds.as_slice() {
        ["Transformer", "Pooling"] => false,
        ["Transformer", "Pooling", "Normalize"] => true,
        other => {
            bail!(unusable(&format!("the modules {} are not supported", other.join(", "))))
        }
    };
    ensure!(
        config["include_prompt"] != Value::Bool(false),
        unusable("pooling without the prompt is not supported")
    );
    Ok(format!("{{\"normalize\":{normalize},\"pooling\":\"{pooling}\"}}\n"))
}

fn unusable(what: &str) -> MintError {
    MintError::Embedding { what: what.to_owned() }
}
