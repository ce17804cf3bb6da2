//! Weights: the header by the engine's own reader, then every number, through one buffer.

use cloister_formats::{Entry, Metadata, WeightsError, gguf, safetensors};
use cloister_tokenize::{
    LoadError, Tokenizer,
    template::{Names, Template},
};

use crate::{
    Refusal, Source, Weights,
    content::{self, TAIL_BYTES},
    read,
};

/// How much of a header is read first; that of a small vocabulary fits.
const FIRST_BYTES: u64 = 1 << 20;
/// Bytes of weights that are in memory at a time: few, since a source may do something else between
/// two readings.
const BUFFER_BYTES: usize = 64 << 10;

/// Judges a GGUF file; how many tensors it has.
pub(crate) fn gguf(source: &mut dyn Source) -> Result<u64, Refusal> {
    let refused = |cause| Refusal::weights(Weights::Gguf, cause);
    let most = source.bytes().min(gguf::HEADER_BYTES_MAX);
    let mut length = most.min(FIRST_BYTES);
    let header = loop {
        let front = read(source, 0, length)?;
        match gguf::parse_front(&front, source.bytes()) {
            // A longer front is read; four times, so that all rounds together read a third more.
            Err(WeightsError::Truncated) if length < most => {
                length = length.saturating_mul(4).min(most);
            }
            read => break read.map_err(refused)?,
        }
    };
    carried(&header.metadata)?;
    padded(&header.entries, source)?;
    numbers(header.entries, source)
}

/// Judges a safetensors file; how many tensors of weights it has.
pub(crate) fn safetensors(source: &mut dyn Source) -> Result<u64, Refusal> {
    let mut length = [0; 8];
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length).min(safetensors::HEADER_BYTES_MAX);
    let bytes = source.bytes();
    let front = read(source, 0, length.saturating_add(8).min(bytes))?;
    let header = safetensors::parse_front(&front, bytes);
    drop(front);
    let header = header.map_err(|cause| Refusal::weights(Weights::Safetensors, cause))?;
    numbers(header.entries, source)
}

/// What a GGUF file carries beside weights: a vocabulary that holds together, and a chat template that
/// can be followed to plain data. Nothing on the appliance runs it; a program has no business there.
fn carried(metadata: &Metadata) -> Result<(), Refusal> {
    let refused = |cause| Refusal::weights(Weights::Gguf, cause);
    let templates = metadata.keys().filter(|key| key.starts_with("tokenizer.chat_template"));
    for key in templates {
        let names = Names::default();
        let text = metadata.text(key).map_err(refused)?.unwrap_or_default();
        Template::from_jinja(text, names).map_err(|_quotes_the_program| Refusal::Jinja)?;
    }
    let Some(carried) = metadata.tokenizer().map_err(refused)? else { return Ok(()) };
    match Tokenizer::from_gguf(&carried) {
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
    let bytes = source.bytes();
    let tail = bytes.min(TAIL_BYTES);
    content::no_archive_at_the_end(&read(source, bytes.saturating_sub(tail), tail)?)?;
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
