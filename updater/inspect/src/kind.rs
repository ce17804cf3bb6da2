//! What a name promises.

use std::fmt;

use crate::Refusal;

/// What an artefact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Weights in GGUF, version 3.
    Gguf,
    /// Weights in safetensors.
    Safetensors,
    /// A `tokenizer.json` that the appliance's own tokenizer takes.
    Tokenizer,
    /// A message format as data, `template.json`.
    Template,
    /// A JSON document.
    Json,
    /// JSON documents, one a line.
    JsonLines,
    /// Plain text.
    Text,
}

impl Kind {
    /// Its name in records and answers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Json => "json",
            Self::JsonLines => "json-lines",
            Self::Text => "text",
        }
    }

    /// What the last part of a path promises. A name without an ending promises text: licences and
    /// evidence have such names.
    pub(crate) fn of_name(path: &str) -> Result<Self, Refusal> {
        let name = path.rsplit('/').next().unwrap_or(path);
        match name {
            "tokenizer.json" => return Ok(Self::Tokenizer),
            "template.json" => return Ok(Self::Template),
            _ => {}
        }
        match name.rsplit_once('.').map(|(_stem, ending)| ending) {
            Some("gguf") => Ok(Self::Gguf),
            Some("safetensors") => Ok(Self::Safetensors),
            Some("json") => Ok(Self::Json),
            Some("jsonl") => Ok(Self::JsonLines),
            None | Some("txt" | "md" | "markdown" | "rst" | "csv" | "tsv") => Ok(Self::Text),
            Some("jinja" | "jinja2" | "j2") => Err(Refusal::Jinja),
            Some(_) => Err(Refusal::Ending),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
