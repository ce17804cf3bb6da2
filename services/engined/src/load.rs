//! From a generation's folder on the shelf to models that can run.

use std::{fs::File, io::Read as _, path::Path};

use cloister_attest::dsse::Envelope;
use cloister_bundle::Manifest;
use cloister_daemon::files::read_limited;
use cloister_domain::{Digest, GenerationId, Hasher, TokenCount};
use cloister_model::{Decoder, Encoder};
use cloister_tokenize::{Tokenizer, template::Template};

use crate::{
    EngineError,
    shared::{EmbeddingFront, Front, Shared},
};

/// The largest manifest, as the bundle format allows.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// The largest `tokenizer.json`: Llama 3.2's has 17 MB, the largest known 35 MB.
const TOKENIZER_BYTES_MAX: u64 = 128 << 20;
/// The largest `template.json`.
const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// A generation whose models are loaded, not yet answering.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) front: Front,
    pub(crate) decoder: Decoder,
    pub(crate) encoder: Option<Encoder>,
}

/// Loads `generation` from its folder. The manifest must be the one that names it; the files it
/// lists must be there with their lengths, and with `full_check` with their bytes.
pub(crate) fn load(
    shared: &Shared,
    generation: GenerationId,
    directory: &Path,
    full_check: bool,
) -> Result<Loaded, EngineError> {
    let manifest = manifest(generation, directory)?;
    let tree = directory.join("tree");
    check_files(&manifest, &tree, full_check)?;
    let files = Files { manifest: &manifest, tree: &tree };
    let decoder =
        Decoder::load(&tree.join("model"), &shared.options).map_err(EngineError::Model)?;
    let tokenizer = match files.text("model/tokenizer.json", TOKENIZER_BYTES_MAX)? {
        Some(text) => Tokenizer::from_json(&text).map_err(EngineError::Tokenizer)?,
        None => carried(&decoder)?,
    };
    let rows = decoder.facts().vocabulary;
    let tokens = tokenizer.vocabulary_size();
    if u32::try_from(tokens).map_or(true, |tokens| tokens > rows) {
        return Err(EngineError::Vocabulary { tokens, rows });
    }
    let template = files.text("model/template.json", TEMPLATE_BYTES_MAX)?;
    let template =
        template.ok_or(EngineError::File { file: "model/template.json", source: None })?;
    let template = Template::from_json(&template).map_err(EngineError::Template)?;
    let mut ends = template.ends(&tokenizer).map_err(EngineError::Template)?;
    ends.extend(decoder.facts().ends.iter().chain(&tokenizer.end()));
    let (encoder, embedding) = embedding(shared, &files)?;
    let front = Front {
        generation,
        name: manifest.release().name.clone(),
        context: decoder.facts().context,
        device: decoder.facts().device,
        tokenizer,
        template,
        ends,
        embedding,
    };
    Ok(Loaded { front, decoder, encoder })
}

fn manifest(generation: GenerationId, directory: &Path) -> Result<Manifest, EngineError> {
    const FILE: &str = "manifest.json";
    let text = read_limited(&directory.join(FILE), MANIFEST_BYTES_MAX)
        .map_err(|source| EngineError::File { file: FILE, source: Some(source) })?;
    let envelope = Envelope::parse(&text).map_err(|cause| {
        EngineError::Manifest(Some(cloister_bundle::BundleError::Manifest(cause)))
    })?;
    let manifest = Manifest::of(&envelope).map_err(|cause| EngineError::Manifest(Some(cause)))?;
    if manifest.generation() == generation {
        Ok(manifest)
    } else {
        Err(EngineError::Manifest(None))
    }
}

/// Whether a file is one that an engine reads.
fn is_ours(path: &str) -> bool {
    path.starts_with("model/") || path.starts_with("embed/")
}

fn check_files(manifest: &Manifest, tree: &Path, full_check: bool) -> Result<(), EngineError> {
    for (index, entry) in manifest.release().files.iter().enumerate() {
        if !is_ours(entry.path.as_str()) {
            continue;
        }
        let path = tree.join(entry.path.as_str());
        let length = std::fs::symlink_metadata(&path).ok().filter(|m| m.is_file()).map(|m| m.len());
        let good = length == Some(entry.size)
            && (!full_check || digest(&path).is_some_and(|digest| digest == entry.sha256));
        if !good {
            return Err(EngineError::Bytes { index });
        }
    }
    Ok(())
}

/// The digest of a file, read piece by piece; `None` when it cannot be read.
fn digest(path: &Path) -> Option<Digest> {
    let mut file = File::open(path).ok()?;
    let mut hasher = Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(hasher.finish()),
            count => hasher.update(piece.get(..count)?),
        }
    }
}

/// The text files of a generation; what is read is what the manifest says.
struct Files<'a> {
    manifest: &'a Manifest,
    tree: &'a Path,
}

impl Files<'_> {
    /// The text of a file, if the release has it. Its digest is always checked: it is small.
    fn text(&self, file: &'static str, bytes_max: u64) -> Result<Option<String>, EngineError> {
        let entries = self.manifest.release().files.iter().enumerate();
        let Some((index, entry)) = entries.into_iter().find(|(_, e)| e.path.as_str() == file)
        else {
            return Ok(None);
        };
        let bytes = read_limited(&self.tree.join(file), bytes_max)
            .map_err(|source| EngineError::File { file, source: Some(source) })?;
        if Digest::of(&bytes) != entry.sha256 {
            return Err(EngineError::Bytes { index });
        }
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_quotes_the_file| EngineError::Encoding { file })
    }

    fn digest(&self, file: &str) -> Option<Digest> {
        let mut files = self.manifest.release().files.iter();
        files.find(|entry| entry.path.as_str() == file).map(|entry| entry.sha256)
    }
}

/// The tokenizer inside a GGUF file.
fn carried(decoder: &Decoder) -> Result<Tokenizer, EngineError> {
    let weights = |cause| EngineError::Model(cloister_model::ModelError::Weights(cause));
    let carried = decoder.metadata().tokenizer().map_err(weights)?;
    let carried = carried.ok_or(EngineError::TokenizerAbsent)?;
    Tokenizer::from_gguf(carried).map_err(EngineError::Tokenizer)
}

type Embedding = (Option<Encoder>, Option<EmbeddingFront>);

/// The embedding model, if the release has one.
fn embedding(shared: &Shared, files: &Files<'_>) -> Result<Embedding, EngineError> {
    let Some(weights) = files.digest("embed/model.safetensors") else { return Ok((None, None)) };
    let text = files.text("embed/tokenizer.json", TOKENIZER_BYTES_MAX)?;
    let text = text.ok_or(EngineError::File { file: "embed/tokenizer.json", source: None })?;
    let tokenizer = Tokenizer::from_json(&text).map_err(EngineError::Tokenizer)?;
    let encoder =
        Encoder::load(&files.tree.join("embed"), &shared.options).map_err(EngineError::Model)?;
    let facts = encoder.facts();
    let (tokens, rows) = (tokenizer.vocabulary_size(), facts.vocabulary);
    if u32::try_from(tokens).map_or(true, |tokens| tokens > rows) {
        return Err(EngineError::Vocabulary { tokens, rows });
    }
    let (before, after) = tokenizer.frame();
    let frame = u32::try_from(before.len() + after.len()).unwrap_or(u32::MAX);
    // A text may be shorter than the model could take: its maker cuts it there.
    let longest = tokenizer.longest().and_then(|tokens| u32::try_from(tokens).ok());
    let context = TokenCount(facts.context.0.min(longest.unwrap_or(u32::MAX)));
    let width = facts.width;
    if frame >= context.0 {
        return Err(EngineError::Room(context));
    }
    let front = EmbeddingFront { tokenizer, width, context, weights };
    Ok((Some(encoder), Some(front)))
}
