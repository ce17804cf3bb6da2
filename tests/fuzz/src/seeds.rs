//! Good input for each target, made by the code that writes it, so that it never goes stale.

use std::sync::OnceLock;

use anyhow::Result;
use cloister_hostile::{Base, base::key};
use cloister_record::Checkpoint;
use cloister_stage::release::{checkout, read_file};

/// The sample that most seeds are parts of.
pub(crate) fn base() -> Result<Base> {
    static BASE: OnceLock<Base> = OnceLock::new();
    if let Some(base) = BASE.get() {
        return Ok(base.clone());
    }
    let made = Base::new()?;
    Ok(BASE.get_or_init(|| made).clone())
}

pub(crate) fn of(target: &str) -> Result<Vec<Vec<u8>>> {
    let base = base()?;
    let member = |name: &str| base.member(name).map(<[u8]>::to_vec);
    let tree = |path: &str| read_file(&checkout().join(path));
    Ok(match target {
        "container" | "metadata" => {
            let files = base.meta.iter().map(|(_, text)| text.clone());
            [member("clb/10-meta")?].into_iter().chain(files).collect()
        }
        "envelope" | "record" => vec![member("clb/20-manifest")?],
        "head" => vec![member("clb/00-head")?],
        "manifest" | "json" => vec![base.statement.to_string().into_bytes()],
        "index" => {
            let sizes = [7u64, 5].map(u64::to_le_bytes).concat();
            vec![[sizes, member("clb/40-index")?].concat()]
        }
        "checkpoint" => {
            let root = cloister_domain::Digest::of(b"root");
            let checkpoint = Checkpoint { origin: "enclave/one".to_owned(), size: 7, root };
            vec![checkpoint.sign(&key("ada"))?.into_bytes()]
        }
        "gguf" => {
            use cloister_weights::{
                DType,
                gguf_write::{Source, Writer},
            };
            let mut writer = Writer::new();
            writer.text("general.architecture", "llama").count("llama.block_count", 1);
            writer.texts("tokenizer.ggml.tokens", &["a", "b"]).float("x", 0.5).bool("y", true);
            let data = (0..32u8).flat_map(|byte| [byte, 0, 0, 0x3f]).collect();
            writer.tensor("token_embd.weight", DType::F32, &[4, 8], Source::Bytes(data));
            vec![writer.to_bytes()?]
        }
        "tokenizer" => vec![tree("services/tune/model/tokenizer.json")?],
        "document" => vec![tree("README.md")?, b"{\"collections\":[]}".to_vec()],
        _ => Vec::new(),
    })
}
