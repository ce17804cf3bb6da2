//! Where a model's message format comes from, and how it becomes data.
//!
//! `None` stands for a model that brings none.

use std::path::Path;

use anyhow::{Context as _, Result};
use cloister_tokenize::{
    Tokenizer,
    template::{Names, Template},
};
use cloister_weights::TokenizerMetadata;
use serde_json::Value;

use super::{Inputs, Order, TEXT_BYTES_MAX, parsed, utf8};
use crate::files;

/// The texts of the special tokens that a GGUF file names by id.
pub(super) struct GgufNames {
    bos: Option<String>,
    eos: Option<String>,
}

impl GgufNames {
    pub(super) fn of(carried: &TokenizerMetadata) -> Self {
        let text = |id: Option<u32>| {
            id.and_then(|id| carried.tokens.get(usize::try_from(id).ok()?)).map(str::to_owned)
        };
        Self { bos: text(carried.bos), eos: text(carried.eos) }
    }
}

/// The order's own file, `template.json`, `chat_template.jinja`, or `tokenizer_config.json`.
pub(super) fn of_folder(order: &Order, inputs: &mut Inputs) -> Result<Option<Template>> {
    let source = &order.model;
    let config = match inputs.optional(source, "tokenizer_config.json")? {
        Some(bytes) => parsed(&bytes, &source.join("tokenizer_config.json"))?,
        None => Value::Null,
    };
    let names = Names { bos: token(&config["bos_token"]), eos: token(&config["eos_token"]) };
    if let Some(template) = ordered(order, names, inputs)? {
        return Ok(Some(template));
    }
    if let Some(bytes) = inputs.optional(source, "template.json")? {
        return of_file(&source.join("template.json"), &bytes, names).map(Some);
    }
    if let Some(bytes) = inputs.optional(source, "chat_template.jinja")? {
        return of_file(&source.join("chat_template.jinja"), &bytes, names).map(Some);
    }
    let text = default_template(&config["chat_template"]);
    let template = text.map(|text| Template::from_jinja(text, names)).transpose();
    template.with_context(|| source.join("tokenizer_config.json").display().to_string())
}

/// The order's own file, or `tokenizer.chat_template` of the GGUF file.
pub(super) fn of_gguf(
    order: &Order,
    carried: Option<&str>,
    names: &GgufNames,
    inputs: &mut Inputs,
) -> Result<Option<Template>> {
    let names = Names { bos: names.bos.as_deref(), eos: names.eos.as_deref() };
    if let Some(template) = ordered(order, names, inputs)? {
        return Ok(Some(template));
    }
    let template = carried.map(|text| Template::from_jinja(text, names)).transpose();
    template.with_context(|| order.model.display().to_string())
}

/// The format as it is laid out: it fits the tokenizer, and the model has one.
pub(super) fn fitted(
    brought: Option<Template>,
    tokenizer: &Tokenizer,
    inputs: &mut Inputs,
) -> Result<Template> {
    let template = brought.unwrap_or_else(|| {
        let usual = Template::usual(tokenizer);
        inputs.chosen_format = Some(usual.name);
        usual.template
    });
    template.ends(tokenizer).context("the message format does not fit the tokenizer")?;
    Ok(template)
}

fn ordered(order: &Order, names: Names<'_>, inputs: &mut Inputs) -> Result<Option<Template>> {
    let Some(path) = &order.template else { return Ok(None) };
    let bytes = files::read_limited(path, TEXT_BYTES_MAX)?;
    inputs.take("template", cloister_domain::Digest::of(&bytes));
    of_file(path, &bytes, names).map(Some)
}

/// The format in a file: data if it is called so, else Jinja.
fn of_file(path: &Path, bytes: &[u8], names: Names<'_>) -> Result<Template> {
    let text = utf8(bytes, path)?;
    let declared = path.extension().is_some_and(|extension| extension == "json");
    let template =
        if declared { Template::from_json(text) } else { Template::from_jinja(text, names) };
    template.with_context(|| path.display().to_string())
}

/// A special token, written as text or as an object with its `content`.
fn token(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// One template, or that called `default` among several.
fn default_template(value: &Value) -> Option<&str> {
    let named = || {
        let default = |entry: &&Value| entry["name"] == "default";
        value.as_array()?.iter().find(default)?.get("template")?.as_str()
    };
    value.as_str().or_else(named)
}
