//! The tree's own rules, as far as a machine can check them. Each finding names file, line and remedy.

mod crates;
mod files;
mod text;

pub use crates::{layers, owners, pure_dependencies};
pub use files::{Source, Tree};
pub use text::{error_codes, expose_sites, forbidden_words, lengths, unit_files, unsafe_sites};

/// Something that breaks a rule, in words that say where and what to do.
pub type Finding = String;
