//! Trains the small language model that the demonstration mints, evaluates and serves.
//!
//! Everything is seeded: the same text, recipe and binary give the same weights. The model is a
//! Llama-architecture decoder ([`network`]) over a byte-level BPE ([`bpe`]), trained on public-domain
//! prose ([`prose`]) and on generated conversations about numbered passages ([`conversation`]), whose
//! form is fixed in `PROMPT.md`. What comes out is a folder as Hugging Face tools write it ([`folder`]).
//!
//! Nothing of an evaluation set enters training: the held-out prose is cut away before the tokenizer
//! sees the text, and the golden questions are about documents that training never reads.

pub mod bpe;
pub mod conversation;
pub mod dice;
pub mod facts;
pub mod folder;
pub mod fused;
pub mod network;
pub mod plant;
pub mod prose;
pub mod recipe;
pub mod score;
pub mod train;
mod words;
