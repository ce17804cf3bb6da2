//! The words that both flows of Cloister share: digests, identifiers, units, labels, principals,
//! content that must never be printed, keys, and the classes of errors.
//!
//! Pure: no files, sockets, clocks, threads or randomness.

mod class;
mod digest;
mod ids;
mod label;
mod printable;
mod secret;
mod sensitive;
mod units;
mod words;

pub use class::{Class, Coded};
pub use digest::{Digest, DigestError, Hasher};
pub use ids::{
    CitationId, CitationIdError, DocumentId, GenerationId, ImportId, LogHead, RecordIndex, Slot,
    SlotError,
};
pub use label::{Label, LabelSet, NameError, Principal};
pub use printable::{in_line, printable, usage_line};
pub use secret::Secret;
pub use sensitive::Sensitive;
pub use units::{ByteCount, Counted, SequenceId, TokenCount, TokenId, counted};
