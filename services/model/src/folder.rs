//! A model's folder: weights, and beside safetensors its `config.json`.

use std::{io::Read, path::Path, sync::Arc};

use cloister_weights::File;

use crate::ModelError;

/// Largest `config.json`; real ones have a few kilobytes, label tables some hundreds.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// What a folder holds.
pub(crate) struct Folder {
    /// The mapped weights.
    pub(crate) file: Arc<File>,
    /// `config.json` for safetensors; a GGUF file says everything itself.
    pub(crate) config: Option<Vec<u8>>,
}

/// Opens `model.gguf`, or `model.safetensors` and `config.json`.
pub(crate) fn open(folder: &Path) -> Result<Folder, ModelError> {
    let gguf = folder.join("model.gguf");
    if gguf.exists() {
        let file = File::open(&gguf).map_err(ModelError::Weights)?;
        return Ok(Folder { file: Arc::new(file), config: None });
    }
    let safetensors = folder.join("model.safetensors");
    if !safetensors.exists() {
        return Err(ModelError::NoWeights);
    }
    let config = read_limited(&folder.join("config.json"), "config.json", CONFIG_BYTES_MAX)?;
    let file = File::open(&safetensors).map_err(ModelError::Weights)?;
    Ok(Folder { file: Arc::new(file), config: Some(config) })
}

/// Reads a small file; one that is larger than `bytes_max` is refused.
pub(crate) fn read_limited(
    path: &Path,
    name: &'static str,
    bytes_max: u64,
) -> Result<Vec<u8>, ModelError> {
    let unreadable = |_cause| ModelError::ConfigUnreadable { file: name };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(ModelError::ConfigUnreadable { file: name });
    }
    Ok(bytes)
}

/// The place of a JSON error; its text may quote the file and is dropped.
pub(crate) fn syntax(file: &'static str, error: &serde_json::Error) -> ModelError {
    ModelError::ConfigSyntax { file, line: error.line(), column: error.column() }
}
