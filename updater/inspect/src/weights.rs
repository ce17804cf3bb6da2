//! Weights: the header by the engine's own reader, then every number, through one buffer.

use std::io::{BufReader, Read};

use cloister_formats::{
    Entry, Metadata, Value,
    gguf::{self, Header},
    safetensors,
};
use cloister_tokenize::{
    LoadError, Tokenizer,
    template::{Names, Template},
};

use crate::{
    Refusal, Source, Weights, content, json, read,
    stream::{self, Artefact},
    text::Judge,
};

/// Bytes of weights that are in memory at a time: few, since a source may do something else between
/// two readings.
const BUFFER_BYTES: usize = 64 << 10;
/// Most chat templates of a GGUF file; known ones have three (answers, tools, quoting documents).
const TEMPLATES_MAX: usize = 8;

/// Judges a GGUF file; how many tensors it has.
pub(crate) fn gguf(source: &mut dyn Source) -> Result<u64, Refusal> {
    let refused = |cause| Refusal::weights(Weights::Gguf, cause);
    let bytes = source.bytes();
    let artefact = Artefact::of(source);
    let header = gguf::parse_stream(buffered(&artefact), bytes);
    let Header { metadata, entries } = artefact.read(header, refused)?;
    drop(artefact);
    said(&metadata)?;
    padded(&entries, source)?;
    let tensors = numbers(entries, source)?;
    // Last, and with nothing else in memory: a vocabulary takes most.
    carried(metadata)?;
    Ok(tensors)
}

/// Judges a safetensors file; how many tensors of weights it has.
pub(crate) fn safetensors(source: &mut dyn Source) -> Result<u64, Refusal> {
    let bytes = source.bytes();
    let artefact = Artefact::of(source);
    let header = safetensors::parse_stream(buffered(&artefact), bytes);
    let refused = |cause| Refusal::weights(Weights::Safetensors, cause);
    let header = artefact.read(header, refused)?;
    drop(artefact);
    for (key, text) in &header.metadata {
        // Nobody looks for one here, so it is none that a release needs.
        if json::names_template(key) {
            return Err(Refusal::Jinja);
        }
        shown(text, Weights::Safetensors)?;
    }
    numbers(header.entries, source)
}

fn buffered<'a>(artefact: &'a Artefact<'_>) -> impl Read + 'a {
    BufReader::with_capacity(stream::BUFFER_BYTES, artefact.open())
}

/// Refuses a text of a header that a text of a release may not be: people read it.
fn shown(text: &str, format: Weights) -> Result<(), Refusal> {
    let mut judge = Judge::new();
    if text.chars().all(|c| judge.takes(c)) && judge.ends() {
        Ok(())
    } else {
        Err(Refusal::HeaderText { format })
    }
}

/// What a GGUF file says in single texts: a chat template that can be followed to plain data, under one
/// of the keys that engines look for; nothing on the appliance runs it, and a program has no business
/// there. Tokens, which stand in arrays, may be any text.
fn said(metadata: &Metadata) -> Result<(), Refusal> {
    const TEMPLATE: &str = "tokenizer.chat_template";
    let mut templates = 0usize;
    for key in metadata.keys() {
        match metadata.get(key) {
            Some(Value::Text(text)) => {
                shown(text, Weights::Gguf)?;
                if !json::names_template(key) {
                    continue;
                }
                let known = key.strip_prefix(TEMPLATE);
                templates = templates.saturating_add(1);
                let strange = known.is_none_or(|name| !name.is_empty() && !name.starts_with('.'));
                if strange || templates > TEMPLATES_MAX {
                    return Err(Refusal::Jinja);
                }
                let template = Template::from_jinja(text, Names::default());
                template.map_err(|_quotes_the_program| Refusal::Jinja)?;
            }
            // The names of the templates beside the first one.
            Some(Value::Texts(names)) if key == "tokenizer.chat_templates" => {
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                if !names.iter().all(|name| name.chars().all(plain)) {
                    return Err(Refusal::Jinja);
                }
            }
            Some(_) if json::names_template(key) => return Err(Refusal::Jinja),
            _ => {}
        }
    }
    Ok(())
}

/// The vocabulary that a GGUF file carries beside weights holds together.
fn carried(metadata: Metadata) -> Result<(), Refusal> {
    let refused = |cause| Refusal::weights(Weights::Gguf, cause);
    let Some(carried) = metadata.into_tokenizer().map_err(refused)? else { return Ok(()) };
    match Tokenizer::from_gguf(carried) {
        // What is not built here is not used here; a release brings its own `tokenizer.json` then.
        Ok(_) | Err(LoadError::Unsupported { .. }) => Ok(()),
        Err(cause) => Err(Refusal::Tokenizer(cause)),
    }
}

/// Refuses anything but zeros between tensors and behind the last: nobody would miss what hides there.
fn padded(entries: &[Entry], source: &mut dyn Source) -> Result<(), Refusal> {
    let mut ranges: Vec<_> = entries.iter().map(|entry| entry.range.clone()).collect();
    ranges.sort_by_key(|range| range.start);
    let starts = ranges.iter().skip(1).map(|range| range.start);
    for (end, start) in ranges.iter().map(|range| range.end).zip(starts.chain([source.bytes()])) {
        // Each gap is shorter than the alignment, by the reader of the header.
        let gap = read(source, end, start.saturating_sub(end))?;
        if gap.iter().any(|byte| *byte != 0) {
            return Err(Refusal::Padding);
        }
    }
    Ok(())
}

/// Reads every tensor in the order of the file and refuses what is not a number. The end of the file
/// must not be that of an archive, which readers of archives look for there.
fn numbers(mut entries: Vec<Entry>, source: &mut dyn Source) -> Result<u64, Refusal> {
    content::no_archive_at_the_end(source)?;
    entries.sort_by_key(|entry| entry.range.start);
    let mut buffer = vec![0; BUFFER_BYTES];
    for entry in &entries {
        let unit = entry.dtype.unit_bytes();
        let whole = BUFFER_BYTES.checked_div(unit).unwrap_or(0).saturating_mul(unit);
        let mut at = entry.range.start;
        while at < entry.range.end {
            let left = entry.range.end.saturating_sub(at);
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(whole);
            let piece = buffer.get_mut(..count).ok_or(Refusal::Unreadable)?;
            source.read_at(at, piece)?;
            if !entry.dtype.all_finite(piece) {
                return Err(Refusal::NotFinite);
            }
            at = at.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
    Ok(u64::try_from(entries.len()).unwrap_or(u64::MAX))
}
