//! Lays models out in a release tree: `model/`, `embed/` and `provenance/`.
//!
//! Every file of a model's folder is either taken, or known to be of no use here, or refused by name:
//! nothing enters a release because nobody looked at it. Pickles have no way in. A chat template is
//! turned into data here, so that no appliance ever runs one.

mod embedding;
mod quantise;
mod template;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use cloister_attest::json;
use cloister_domain::Digest;
use cloister_tokenize::Tokenizer;
use cloister_weights::File;
use serde_json::{Value, json};

use crate::{
    error::{FileError, MintError},
    files,
};

/// The largest text file of a model, in bytes; tokenizers have up to 35 MB.
const TEXT_BYTES_MAX: u64 = 128 << 20;

/// Files that say nothing that a forward pass or a tokenizer needs.
const PASSED_OVER: [&str; 13] = [
    ".gitattributes",
    "USE_POLICY.md",
    "added_tokens.json",
    "config_sentence_transformers.json",
    "data_config.json",
    "generation_config.json",
    "merges.txt",
    "recipe.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "training.json",
    "vocab.json",
    "vocab.txt",
];

/// How the names of papers about a model begin.
const PAPERS: [&str; 4] = ["LICENCE", "LICENSE", "NOTICE", "README"];

/// What to lay out.
#[derive(Clone, Debug)]
pub struct Order {
    /// A language model: a Hugging Face folder, or a GGUF file.
    pub model: PathBuf,
    /// Write the model's matrices as Q8_0 in a GGUF file.
    pub quantise: bool,
    /// The message format, where the model brings none: `template.json`, or a Jinja file.
    pub template: Option<PathBuf>,
    /// A sentence embedding model: a Hugging Face folder.
    pub embedding: Option<PathBuf>,
}

/// What a person should know about what was laid out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Files and tensors that were left out.
    pub passed_over: Vec<String>,
    /// The message format that was chosen because the model brings none.
    pub chosen_format: Option<&'static str>,
}

/// Writes `model/`, `embed/` and `provenance/models.json` under `tree`.
///
/// # Errors
/// When a file is missing, unknown, malformed or not supported; its name is said.
pub fn prepare(tree: &Path, order: &Order) -> Result<Prepared> {
    let _folder = files::Folder::at(tree)?;
    // All files stand complete before the first is put in its place.
    let staged = tempfile::Builder::new().prefix(files::STAGED).tempdir_in(tree);
    let staged = staged.map_err(|cause| FileError::writing(tree, cause))?;
    let prepared = lay_out(staged.path(), order)?;
    for name in files::walk(staged.path())? {
        let (from, to) = (staged.path().join(&name), tree.join(&name));
        let _folder = to.parent().map(files::Folder::at).transpose()?;
        ensure!(!to.is_dir(), FileError::Folder { path: to });
        fs::rename(from, &to).map_err(|cause| FileError::writing(&to, cause))?;
    }
    Ok(prepared)
}

fn lay_out(tree: &Path, order: &Order) -> Result<Prepared> {
    let mut inputs = Inputs { part: "model", ..Inputs::default() };
    let target = folder(tree, "model")?;
    if order.model.is_dir() {
        from_folder(order, &target, &mut inputs)?;
    } else {
        from_gguf(order, &target, &mut inputs)?;
    }
    if let Some(source) = &order.embedding {
        inputs.part = "embed";
        embedding::lay_out(source, &folder(tree, "embed")?, &mut inputs)?;
    }
    let provenance = json!({
        "inputs": inputs.taken.iter().map(|(name, digest)| {
            json!({"name": name, "sha256": digest.to_string()})
        }).collect::<Vec<_>>(),
        "message_format": inputs.chosen_format.unwrap_or("the model's own"),
        "quantised": if order.quantise { "q8_0" } else { "no" },
        "schema": 1,
        "tool": concat!("cloister-mint ", env!("CARGO_PKG_VERSION")),
    });
    let text = json::canonical(&provenance)?;
    write(&folder(tree, "provenance")?.join("models.json"), &text)?;
    Ok(Prepared { passed_over: inputs.passed_over, chosen_format: inputs.chosen_format })
}

/// What was read, by name and digest, and what was left.
#[derive(Debug, Default)]
struct Inputs {
    /// Which part of the release is being laid out.
    part: &'static str,
    taken: BTreeMap<String, Digest>,
    passed_over: Vec<String>,
    chosen_format: Option<&'static str>,
}

impl Inputs {
    fn text(&mut self, source: &Path, name: &str) -> Result<Vec<u8>> {
        let bytes = files::read_limited(&source.join(name), TEXT_BYTES_MAX)?;
        self.take(name, Digest::of(&bytes));
        Ok(bytes)
    }

    fn take(&mut self, name: &str, digest: Digest) {
        self.taken.insert(format!("{}/{name}", self.part), digest);
    }

    fn optional(&mut self, source: &Path, name: &str) -> Result<Option<Vec<u8>>> {
        if files::exists(&source.join(name))? {
            self.text(source, name).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Opens and checks a weights file: header, and no number that is not finite.
    fn weights(&mut self, path: &Path) -> Result<File> {
        let shown = || format!("{} cannot be used", path.display());
        // One that cannot be opened at all says so better than a map of it.
        files::open(path)?;
        let file = File::open(path).with_context(shown)?;
        file.check_finite().with_context(shown)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("weights");
        self.take(name, file.digest());
        self.passed_over
            .extend(file.skipped().iter().map(|name| format!("tensor {}", name.as_str())));
        Ok(file)
    }

    /// Refuses every file of `source` that is neither in `used` nor known to be of no use.
    fn check_listing(&mut self, source: &Path, used: &[&str]) -> Result<()> {
        for name in files::walk(source)? {
            if used.contains(&name.as_str()) {
                continue;
            }
            let paper = PAPERS.iter().any(|start| name.starts_with(start));
            if !paper && !PASSED_OVER.contains(&name.as_str()) {
                bail!(MintError::ModelFile { path: source.join(name) });
            }
            self.passed_over.push(name);
        }
        Ok(())
    }
}

fn from_folder(order: &Order, target: &Path, inputs: &mut Inputs) -> Result<()> {
    const USED: [&str; 6] = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "template.json",
    ];
    let source = &order.model;
    inputs.check_listing(source, &USED)?;
    let config = inputs.text(source, "config.json")?;
    let tokenizer = inputs.text(source, "tokenizer.json")?;
    let loaded = tokenizer_of(source, &tokenizer)?;
    let template = template::of_folder(order, inputs)?;
    let template = template::fitted(template, &loaded, inputs);
    let template = template.with_context(|| source.display().to_string())?;
    let weights = source.join("model.safetensors");
    let file = inputs.weights(&weights)?;
    if order.quantise {
        let config = parsed(&config, &source.join("config.json"))?;
        files::write_whole(&target.join("model.gguf"), |out| {
            quantise::write(&config, &file, out).with_context(|| source.display().to_string())
        })?;
    } else {
        write(&target.join("config.json"), &config)?;
        copy(&weights, &target.join("model.safetensors"))?;
    }
    write(&target.join("tokenizer.json"), &tokenizer)?;
    write(&target.join("template.json"), template.to_json().as_bytes())
}

fn from_gguf(order: &Order, target: &Path, inputs: &mut Inputs) -> Result<()> {
    let shown = || order.model.display().to_string();
    let file = inputs.weights(&order.model)?;
    ensure!(!order.quantise, anyhow::Error::new(MintError::ModelGguf).context(shown()));
    let carried = file.metadata().tokenizer().with_context(shown)?;
    let carried = carried.ok_or(MintError::ModelTokenizer).with_context(shown)?;
    let names = template::GgufNames::of(&carried);
    let template = template::of_gguf(order, carried.chat_template.as_deref(), &names, inputs)?;
    let tokenizer = Tokenizer::from_gguf(carried).with_context(shown)?;
    let template = template::fitted(template, &tokenizer, inputs).with_context(shown)?;
    copy(&order.model, &target.join("model.gguf"))?;
    write(&target.join("template.json"), template.to_json().as_bytes())
}

fn folder(tree: &Path, name: &str) -> Result<PathBuf> {
    let path = tree.join(name);
    fs::create_dir_all(&path).map_err(|cause| FileError::writing(&path, cause))?;
    Ok(path)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write_whole(path, |out| Ok(out.write_all(bytes)?))
}

/// A copy of its own, so that what is signed cannot change with the source.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = files::open(from)?;
    files::write_whole(to, |out| {
        io::copy(&mut source, out)?;
        Ok(())
    })
}

fn utf8<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a str> {
    Ok(std::str::from_utf8(bytes).map_err(|_at| FileError::Text { path: path.to_owned() })?)
}

/// The tokenizer of a model's folder, from the text of its `tokenizer.json`.
fn tokenizer_of(source: &Path, text: &[u8]) -> Result<Tokenizer> {
    let path = source.join("tokenizer.json");
    let tokenizer = Tokenizer::from_json(utf8(text, &path)?);
    tokenizer.with_context(|| path.display().to_string())
}

/// Reads a model's JSON, which has fractions.
fn parsed(bytes: &[u8], path: &Path) -> Result<Value> {
    let wrong = |error: serde_json::Error| FileError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
    };
    Ok(serde_json::from_slice(bytes).map_err(wrong)?)
}
