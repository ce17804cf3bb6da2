//! The headers of weights files, read and checked: GGUF (version 3) and safetensors.
//!
//! One strict reader for the engine, for the connected side and for the inspection of what a stick
//! brought. It takes bytes and trusts none of them: every count, offset and product is checked before
//! it is used or allocated for. Nothing here knows an architecture.
//!
//! Pure: no files, sockets, clocks, threads or randomness.

mod error;
pub mod gguf;
pub mod gguf_write;
mod header;
mod metadata;
mod name;
pub mod safetensors;
mod short;
mod stream;
mod texts;

pub use error::WeightsError;
pub use header::{DType, Entry, Q8_0_BLOCK, Q8_0_BLOCK_BYTES};
pub use metadata::{Metadata, TokenizerMetadata, Value};
pub use name::Name;
pub use short::ShortStrings;
pub use stream::{JsonStream, NotJson, Place};
pub use texts::Texts;
