//! What a name promises.

use cloister_wire::inspect::Kind;

use crate::Refusal;

/// What the last part of a path promises. A name without an ending promises text: licences and
/// evidence have such names.
pub(crate) fn of_name(path: &str) -> Result<Kind, Refusal> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "tokenizer.json" => return Ok(Kind::Tokenizer),
        "template.json" => return Ok(Kind::Template),
        _ => {}
    }
    match name.rsplit_once('.').map(|(_stem, ending)| ending) {
        Some("gguf") => Ok(Kind::Gguf),
        Some("safetensors") => Ok(Kind::Safetensors),
        Some("json") => Ok(Kind::Json),
        Some("jsonl") => Ok(Kind::JsonLines),
        None | Some("txt" | "md" | "markdown" | "rst" | "csv" | "tsv") => Ok(Kind::Text),
        Some("jinja" | "jinja2" | "j2") => Err(Refusal::Jinja),
        Some(_) => Err(Refusal::Ending),
    }
}
