//! Forward passes: one file per architecture, written once over the coarse trait [`Ops`].
//!
//! [`Decoder`] continues sequences over a paged KV cache, [`Encoder`] turns texts into unit vectors. What a
//! row of a batch gives does not depend on its neighbours, on how a prompt is cut into steps, or on the
//! number of threads. Nothing here tokenizes, samples or schedules.

mod arch;
mod batch;
mod burn_ops;
mod config;
mod decoder;
mod device;
mod encoder;
mod error;
mod folder;
mod host;
mod ops;
mod options;
mod pages;
mod pooling;
mod scalar_ops;
mod simd_ops;

pub use batch::{Angles, Span};
pub use decoder::{Decoder, Facts};
pub use device::{Device, DeviceError, cuda_present};
pub use encoder::{Encoder, EncoderFacts, Text};
pub use error::ModelError;
pub use ops::{CacheShape, Heads, Ops, Pairs};
pub use options::{Backend, Options};
pub use pages::PAGE_TOKENS;
