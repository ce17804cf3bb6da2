//! A release of one file, and keys to sign it with.

use cloister_attest::SigningKey;
use cloister_bundle::{Cut, FileEntry, IndexEntry, Manifest, Release, ReleasePath, Requires};
use cloister_domain::{Digest, Secret};

/// The key whose secret is `seed`, 32 times.
///
/// # Panics
/// Never: the secret has the right length.
#[must_use]
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).expect("32 bytes")
}

/// The release `demo` of version `counter.0.0`; each has another file. There is no such index.
///
/// # Panics
/// Never: it keeps the format's rules.
#[must_use]
pub fn manifest(counter: u64) -> Manifest {
    let path: ReleasePath = "a".parse().expect("a name");
    let sha256 = Digest::of(&counter.to_le_bytes());
    Manifest::new(Release {
        name: "demo".to_owned(),
        version: format!("{counter}.0.0"),
        release_counter: counter,
        min_release_counter: 1,
        files: vec![FileEntry { path, size: counter, sha256 }],
        index: IndexEntry {
            sha256: Digest::of(b"index"),
            length: 136,
            chunks: 1,
            plain_bytes: counter,
            stored_bytes: counter,
            cut: Cut { algorithm: "x".to_owned(), min_bytes: 1, avg_bytes: 1, max_bytes: 1 },
        },
        requires: Requires::default(),
        licences: Vec::new(),
        attestations: Vec::new(),
        base: None,
    })
    .expect("a good manifest")
}

/// [`manifest`] in an envelope that the key of `signer` signed, as text.
#[must_use]
pub fn signed(counter: u64, signer: u8) -> Vec<u8> {
    manifest(counter).envelope().sign_with(&key(signer)).to_json()
}
