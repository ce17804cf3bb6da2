//! From a file of weights to checked tensors: safetensors and GGUF (version 3).
//!
//! Headers are read by `cloister-formats`. A file is mapped read-only and tensors are views of the map,
//! so bytes that were signed are the bytes that are used. Nothing here knows an architecture.

mod file;
mod tensor;

pub use cloister_formats::{
    DType, Entry, Metadata, Name, Q8_0_BLOCK, Q8_0_BLOCK_BYTES, TokenizerMetadata, Value,
    WeightsError, gguf, gguf_write, safetensors,
};
pub use file::File;
pub use tensor::Tensor;
