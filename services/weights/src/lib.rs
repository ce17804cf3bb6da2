//! From a file of weights to checked tensors: safetensors and GGUF (version 3).
//!
//! The header parsers are pure, take bytes, and trust none of them: every count, offset and product is
//! checked before it is used or allocated for. A file is mapped read-only and tensors are views of the
//! map, so bytes that were signed are the bytes that are used. Nothing here knows an architecture.

mod error;
mod file;
pub mod gguf;
pub mod gguf_write;
mod header;
mod metadata;
mod name;
pub mod safetensors;
mod tensor;

pub use error::WeightsError;
pub use file::File;
pub use header::{DType, Entry, Q8_0_BLOCK, Q8_0_BLOCK_BYTES};
pub use metadata::{Metadata, TokenizerMetadata, Value};
pub use name::Name;
pub use tensor::Tensor;
