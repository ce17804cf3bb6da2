//! Where the larger tensors of a weights file begin and end.

use std::{fs::File, io, os::unix::fs::FileExt as _};

use cloister_weights::{Entry, gguf, safetensors};

use crate::cut::MIN_BYTES;

/// Bytes of a safetensors file before its header: the header's length.
const LENGTH_BYTES: u64 = 8;

/// Offsets within `file`, ascending: the start and the end of each tensor of at least [`MIN_BYTES`].
/// None for what is no weights file, or one whose header is not understood.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn of(file: &File) -> io::Result<Vec<u64>> {
    let file_bytes = file.metadata()?.len();
    let first = front(file, LENGTH_BYTES.min(file_bytes))?;
    let entries = if first.starts_with(&gguf::MAGIC) {
        let front = front(file, gguf::HEADER_BYTES_MAX.min(file_bytes))?;
        gguf::parse_front(&front, file_bytes).map(|header| header.entries)
    } else {
        let Some(length) = first.first_chunk() else { return Ok(Vec::new()) };
        let header_bytes = u64::from_le_bytes(*length);
        if header_bytes > safetensors::HEADER_BYTES_MAX.min(file_bytes) {
            return Ok(Vec::new());
        }
        let front = front(file, (LENGTH_BYTES + header_bytes).min(file_bytes))?;
        safetensors::parse_front(&front, file_bytes).map(|header| header.entries)
    };
    // The gate of every import refuses what is wrong with a header; here it is cut like any other file.
    Ok(entries.map_or_else(|_not_understood| Vec::new(), |entries| ends(&entries)))
}

fn ends(entries: &[Entry]) -> Vec<u64> {
    let large = entries.iter().map(|entry| &entry.range);
    let large = large.filter(|range| range.end - range.start >= MIN_BYTES as u64);
    let mut ends: Vec<u64> = large.flat_map(|range| [range.start, range.end]).collect();
    ends.sort_unstable();
    ends.dedup();
    ends
}

fn front(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(bytes).map_err(io::Error::other)?;
    let mut front = vec![0; length];
    file.read_exact_at(&mut front, 0)?;
    Ok(front)
}
