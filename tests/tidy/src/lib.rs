//! The tree's own rules, as far as a machine can check them. Each finding names file, line and remedy.

mod crates;
mod edits;
mod errors;
mod files;
mod manual;
mod text;

pub use crates::{layers, owners, pure_dependencies};
pub use edits::stale_edits;
pub use errors::error_page;
pub use files::{Source, Tree};
pub use manual::{broken_links, codes_without_a_row, missing_pages, unknown_codes};
pub use text::{expose_sites, forbidden_words, lengths, unit_files, unsafe_sites};

/// Something that breaks a rule, in words that say where and what to do.
pub type Finding = String;
