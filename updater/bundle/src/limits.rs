//! Every bound of the format, each with its reason. Policy may lower them, nothing raises them.

/// `clb/00-head`, in bytes: a few numbers.
pub const HEAD_BYTES_MAX: u64 = 4 << 10;
/// `clb/10-meta`, in bytes: with the manifest, what is read before the first signature is checked.
pub const META_BYTES_MAX: u64 = 4 << 20;
/// `clb/20-manifest`, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// One member under `clb/30-attest/`, in bytes.
pub const ATTESTATION_BYTES_MAX: u64 = 8 << 20;
/// All members under `clb/30-attest/` together, in bytes.
pub const ATTESTATIONS_BYTES_MAX: u64 = 24 << 20;
/// `clb/40-index`, in bytes: about 2.5 million chunks.
pub const INDEX_BYTES_MAX: u64 = 256 << 20;
/// `clb/41-carried`, in bytes: a bit for each chunk of the largest index.
pub const CARRIED_BYTES_MAX: u64 = INDEX_BYTES_MAX / 104 / 8 + 1;
/// A chunk's plain bytes: what the cutter never exceeds.
pub const CHUNK_PLAIN_BYTES_MAX: u64 = 4 << 20;
/// A chunk's stored bytes: a raw chunk, or a frame that is smaller.
pub const CHUNK_STORED_BYTES_MAX: u64 = (4 << 20) + (1 << 10);
/// `log2` of the largest zstd window that a chunk may ask for: one chunk.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 22;
/// Files of one release.
pub const FILES_MAX: usize = 100_000;
/// Bytes of one component of a path: the limit of the usual file systems.
pub const PATH_COMPONENT_BYTES_MAX: usize = 255;
/// Bytes of a whole path.
pub const PATH_BYTES_MAX: usize = 1024;
/// Components of a path.
pub const PATH_COMPONENTS_MAX: usize = 64;
/// Volumes of one release.
pub const VOLUMES_MAX: u32 = 9999;
/// A size that a ustar header can hold: eleven octal digits.
pub const MEMBER_BYTES_MAX: u64 = 0o777_7777_7777;
/// Files inside `clb/10-meta`: 1024 steps of the root, as TUF clients allow, and the other roles.
pub const META_FILES_MAX: usize = 1024 + 64;
/// Licence expressions, features and attestations that a manifest may list.
pub const LIST_MAX: usize = 256;
/// Bytes of a name, version, licence expression or feature.
pub const WORD_BYTES_MAX: usize = 128;
