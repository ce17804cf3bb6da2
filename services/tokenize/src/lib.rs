//! Text ↔ tokens: byte-level BPE and WordPiece, from `tokenizer.json` or GGUF metadata, and the
//! message formats of chat models as data.
//!
//! A construct that is not understood is refused by name, never guessed. Text of people never turns
//! into a control token: only [`Tokenizer::control`] names those.
//!
//! Pure: no files, sockets, clocks, threads or randomness.

mod alphabet;
mod bpe;
mod build;
mod decode;
mod error;
mod gguf;
mod json;
mod slots;
mod split;
pub mod template;
mod tokenizer;
mod unicode;
mod vocabulary;
mod wordpiece;

pub use decode::Decoder;
pub use error::LoadError;
pub use tokenizer::Tokenizer;
