//! Judges one artefact of a release by its bytes, before anything else opens it.
//!
//! What an artefact is is decided by its content; its name must agree. Only what the appliance uses is
//! accepted: GGUF and safetensors weights, tokenizers and message formats as data, JSON and plain text.
//! Everything that can be run or unpacked is refused by what it begins with, and weights that are not
//! numbers are refused too. Memory is bounded by constants: weights pass through one buffer, documents
//! have a largest size.
//!
//! Pure: no files, sockets, clocks, threads or randomness. Bytes come through [`Source`]; the process
//! that runs this is `cloister-inspectd`.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm
    )
)]

mod beginning;
mod content;
mod document;
mod json;
mod kind;
mod pickle;
mod refusal;
mod stream;
mod text;
mod weights;

pub use cloister_wire::inspect::Kind;
pub use refusal::{Fault, Foreign, Refusal, Weights};

use content::Content;

/// Bytes at the beginning that decide what an artefact is.
const FRONT_BYTES: u64 = 64 << 10;

/// Where an artefact's bytes come from. Its size does not change.
pub trait Source {
    /// Its size, in bytes.
    fn bytes(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`Refusal::Unreadable`] when they are not there or cannot be read.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refusal>;
}

/// An artefact in memory.
impl Source for &[u8] {
    fn bytes(&self) -> u64 {
        u64::try_from(self.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Refusal> {
        let from = usize::try_from(offset).map_err(|_too_large| Refusal::Unreadable)?;
        let to = from.checked_add(buffer.len()).ok_or(Refusal::Unreadable)?;
        buffer.copy_from_slice(self.get(from..to).ok_or(Refusal::Unreadable)?);
        Ok(())
    }
}

/// An artefact that nothing was found against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What it is.
    pub kind: Kind,
    /// Tensors that hold weights.
    pub tensors: u64,
}

/// Judges the artefact that a release calls `name`.
///
/// # Errors
/// [`Refusal`], the first reason that was found.
pub fn inspect(name: &str, source: &mut dyn Source) -> Result<Accepted, Refusal> {
    let bytes = source.bytes();
    let front = read(source, 0, bytes.min(FRONT_BYTES))?;
    let content = content::of(&front, bytes)?;
    let kind = kind::of_name(name)?;
    if !content.fits(kind) {
        return Err(Refusal::Name { content: content.name(), kind });
    }
    let tensors = match content {
        Content::Gguf | Content::Safetensors => {
            drop(front);
            if matches!(content, Content::Gguf) {
                weights::gguf(source)?
            } else {
                weights::safetensors(source)?
            }
        }
        Content::Other => {
            document::check(kind, front, source)?;
            0
        }
    };
    Ok(Accepted { kind, tensors })
}

/// Part of an artefact; the caller bounds its length by a constant.
fn read(source: &mut dyn Source, offset: u64, length: u64) -> Result<Vec<u8>, Refusal> {
    let length = usize::try_from(length).map_err(|_too_large| Refusal::Unreadable)?;
    let mut bytes = vec![0; length];
    source.read_at(offset, &mut bytes)?;
    Ok(bytes)
}
