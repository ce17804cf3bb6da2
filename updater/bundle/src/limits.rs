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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_those_that_the_page_on_the_format_states() {
        assert_eq!(HEAD_BYTES_MAX, 4096);
        assert_eq!(META_BYTES_MAX, 4_194_304);
        assert_eq!(MANIFEST_BYTES_MAX, 1_048_576);
        assert_eq!(ATTESTATION_BYTES_MAX, 8_388_608);
        assert_eq!(ATTESTATIONS_BYTES_MAX, 25_165_824);
        assert_eq!(INDEX_BYTES_MAX, 268_435_456);
        assert_eq!(CHUNK_PLAIN_BYTES_MAX, 4_194_304);
        assert_eq!(CHUNK_STORED_BYTES_MAX, 4_195_328);
        assert_eq!(1u64 << ZSTD_WINDOW_LOG_MAX, CHUNK_PLAIN_BYTES_MAX);
        assert_eq!(MEMBER_BYTES_MAX, (8 << 30) - 1);
        assert_eq!(META_FILES_MAX, 1088);
        assert_eq!(crate::handover::INDEX_PART_BYTES_MAX, 1_048_576);
        assert_eq!(crate::receipt::RECEIPT_BYTES_MAX, 2_147_483_648);
        // A bit for each of 2 581 109 chunks, and one byte more.
        assert_eq!(CARRIED_BYTES_MAX, 322_639);
    }
}
