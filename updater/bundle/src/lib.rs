//! The bundle format: names, container, manifest, chunk index, limits, and the messages by which a
//! bundle passes from intake to verification.
//!
//! It decides whether bytes are in the accepted language and what they say. It never checks who
//! signed them (`cloister-verify` does), never decompresses, and opens no
//! file; of one that is handed to it, it reads the index.
//! `docs/formats/bundle.md` shows the format on one page.

#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::wildcard_enum_match_arm
    )
)]

mod carried;
pub mod container;
mod error;
mod foreign;
pub mod handover;
mod index;
pub mod limits;
mod manifest;
mod path;
pub mod receipt;
mod table;
mod tree;
mod volume;
mod words;

pub use carried::Carried;
pub use error::BundleError;
pub use foreign::{Foreign, START_BYTES};
pub use index::{Chunk, Codec, Index};
pub use manifest::{
    Attached, Base, Cut, FileEntry, IndexEntry, Manifest, PREDICATE, Release, Requires, Runtime,
};
pub use path::{PathRule, ReleasePath};
pub use table::{Chunks, Table, TableError};
pub use tree::tree_digest;
pub use volume::{VolumeHead, volume_file_name};
pub use words::{is_release_name, normal_version};
