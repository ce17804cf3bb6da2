//! The release manifest: an in-toto statement `release/v1` in a DSSE envelope.

use std::collections::BTreeSet;

use cloister_attest::{
    AttestError,
    dsse::Envelope,
    statement::{Statement, Subject, predicate_type},
};
use cloister_domain::{Digest, GenerationId};
use serde::{Deserialize, Serialize};

use crate::{
    BundleError, PathRule, ReleasePath, limits, tree_digest,
    words::{is_licence, is_name, is_release_name, is_uri, is_word, normal_version},
};

/// The name of the predicate, for [`predicate_type`].
pub const PREDICATE: &str = "release";

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it lies in the tree.
    pub path: ReleasePath,
    /// Its length, in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// How the files were cut into chunks; a planner of thin bundles cuts the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// `gear-tensors-v1`; a name of 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub algorithm: String,
    /// No chunk but a file's last is smaller, in bytes.
    pub min_bytes: u64,
    /// The aim, in bytes.
    pub avg_bytes: u64,
    /// No chunk is larger, in bytes.
    pub max_bytes: u64,
}

/// The chunk index, by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexEntry {
    /// SHA-256 of the table's bytes.
    pub sha256: Digest,
    /// Length of the table, in bytes.
    pub length: u64,
    /// Chunks in the table.
    pub chunks: u64,
    /// Bytes of all chunks after unpacking.
    pub plain_bytes: u64,
    /// Bytes of all chunks as stored.
    pub stored_bytes: u64,
    /// How the files were cut.
    pub cut: Cut,
}

/// What a machine must have. Zero asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requires {
    /// Free disk, in bytes.
    pub disk_bytes: u64,
    /// Memory for the model and its state, in bytes.
    pub ram_bytes: u64,
    /// Memory of an accelerator, in bytes.
    pub vram_bytes: u64,
    /// Abilities of the engine by name, such as `llama` or `q8_0`; an unknown one is refused there. Names
    /// are 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub features: Vec<String>,
    /// The appliance's versions that it was made for; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

/// A range of the appliance's versions ([`normal_version`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// The least.
    pub min: String,
    /// The greatest; not below the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
}

/// Evidence that travels with the release as `clb/30-attest/<sha256>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attached {
    /// What it claims, a URI of at most 128 bytes.
    pub predicate_type: String,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its length, in bytes.
    pub length: u64,
}

/// The release whose files a thin bundle leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its generation.
    pub bundle: GenerationId,
}

/// The predicate: everything that the publisher signs about a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// What the release is called: 1 to 64 characters of `a-z 0-9 . _ -`.
    pub name: String,
    /// Its version, for people: 1 to 64 characters of `A-Z a-z 0-9 . + -`.
    pub version: String,
    /// Its number; a later release has a greater one.
    pub release_counter: u64,
    /// The least number that may be activated once this release was.
    pub min_release_counter: u64,
    /// The files, ascending by the bytes of their paths.
    pub files: Vec<FileEntry>,
    /// The chunk index.
    pub index: IndexEntry,
    /// What a machine must have.
    pub requires: Requires,
    /// Licences as SPDX expressions of at most 128 bytes; all of them hold together.
    pub licences: Vec<String>,
    /// Evidence, ascending by digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Attached>,
    /// The release that this one builds on, for a thin bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

/// A release whose every rule was checked, with the bytes that name it. Its signatures were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    release: Release,
    tree: Digest,
    payload: Vec<u8>,
}

impl Manifest {
    /// Checks `release` and writes its payload: RFC 8785 text, so the same release has one name.
    ///
    /// # Errors
    /// [`BundleError::Release`], [`BundleError::Path`]; [`BundleError::Manifest`] for numbers beyond
    /// 2^53.
    pub fn new(release: Release) -> Result<Self, BundleError> {
        check(&release)?;
        let tree = tree_digest(&release.files);
        let statement = Statement {
            subject: vec![Subject { name: subject_name(&release), sha256: tree }],
            predicate_type: predicate_type(PREDICATE),
            predicate: serde_json::to_value(&release)
                .map_err(|_cause| BundleError::Release { field: "predicate" })?,
        };
        let payload = statement.to_json().map_err(BundleError::Manifest)?;
        Ok(Self { release, tree, payload })
    }

    /// Reads the payload of an envelope, whoever signed it.
    ///
    /// # Errors
    /// [`BundleError::Manifest`], [`BundleError::Release`], [`BundleError::Path`],
    /// [`BundleError::Tree`].
    pub fn of(envelope: &Envelope) -> Result<Self, BundleError> {
        let statement = Statement::exactly_of(envelope).map_err(BundleError::Manifest)?;
        if statement.predicate_type != predicate_type(PREDICATE) {
            return Err(BundleError::Manifest(AttestError::PredicateType));
        }
        let release: Release = serde_json::from_value(statement.predicate)
            .map_err(|_cause| BundleError::Release { field: "predicate" })?;
        check(&release)?;
        let tree = tree_digest(&release.files);
        let subject = Subject { name: subject_name(&release), sha256: tree };
        if statement.subject != [subject] {
            return Err(BundleError::Tree);
        }
        Ok(Self { release, tree, payload: envelope.payload.clone() })
    }

    /// The manifest in an envelope that nobody signed yet.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        Envelope::unsigned(cloister_attest::dsse::PAYLOAD_TYPE, self.payload.clone())
    }

    /// What the publisher says.
    #[must_use]
    pub const fn release(&self) -> &Release {
        &self.release
    }

    /// The release's name everywhere else: SHA-256 of the payload.
    #[must_use]
    pub fn generation(&self) -> GenerationId {
        GenerationId(Digest::of(&self.payload))
    }

    /// The digest over all files ([`tree_digest`]).
    #[must_use]
    pub const fn tree(&self) -> Digest {
        self.tree
    }
}

fn subject_name(release: &Release) -> String {
    format!("{}@{}", release.name, release.version)
}

fn check(release: &Release) -> Result<(), BundleError> {
    let wrong = |field| Err(BundleError::Release { field });
    if !is_release_name(&release.name) {
        return wrong("name");
    }
    if !is_word(&release.version, |c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'+' | b'-'))
    {
        return wrong("version");
    }
    if release.release_counter == 0 {
        return wrong("release_counter");
    }
    if release.min_release_counter > release.release_counter {
        return wrong("min_release_counter");
    }
    check_words(release)?;
    check_attestations(&release.attestations)?;
    check_files(&release.files)?;
    check_index(release)
}

/// What a machine must have, in words, and the licences.
fn check_words(release: &Release) -> Result<(), BundleError> {
    let needs = &release.requires;
    if needs.features.len() > limits::LIST_MAX || !needs.features.iter().all(|one| is_name(one)) {
        return Err(BundleError::Release { field: "requires" });
    }
    if let Some(Runtime { min, max }) = &needs.runtime {
        let least = normal_version(min).ok_or(BundleError::Runtime)?;
        let most = max.as_ref().map(|max| normal_version(max).ok_or(BundleError::Runtime));
        if most.transpose()?.is_some_and(|most| most < least) {
            return Err(BundleError::Runtime);
        }
    }
    if release.licences.len() > limits::LIST_MAX {
        return Err(BundleError::Release { field: "licences" });
    }
    match (1u64..).zip(&release.licences).find(|(_, licence)| !is_licence(licence)) {
        Some((licence, _)) => Err(BundleError::Licence { licence }),
        None => Ok(()),
    }
}

fn check_attestations(attestations: &[Attached]) -> Result<(), BundleError> {
    let wrong = BundleError::Release { field: "attestations" };
    if attestations.len() > limits::LIST_MAX {
        return Err(wrong);
    }
    let mut total = 0u64;
    let mut last = None;
    for attached in attestations {
        let ascending = last.is_none_or(|last| last < attached.sha256);
        let sized = attached.length <= limits::ATTESTATION_BYTES_MAX;
        if !ascending || !sized || !is_uri(&attached.predicate_type) {
            return Err(wrong);
        }
        total = total.checked_add(attached.length).ok_or(wrong)?;
        last = Some(attached.sha256);
    }
    if total > limits::ATTESTATIONS_BYTES_MAX { Err(wrong) } else { Ok(()) }
}

/// Order, and clashes on file systems that ignore case: of files with files, and with folders.
fn check_files(files: &[FileEntry]) -> Result<(), BundleError> {
    if files.is_empty() || files.len() > limits::FILES_MAX {
        return Err(BundleError::Release { field: "files" });
    }
    let mut folders: BTreeSet<String> = BTreeSet::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    let mut last: Option<&ReleasePath> = None;
    for (number, file) in (0u64..).zip(files) {
        let wrong = |rule| BundleError::Path { file: number, rule };
        if last.is_some_and(|last| last >= &file.path) {
            return Err(wrong(PathRule::Order));
        }
        last = Some(&file.path);
        let folded = file.path.folded();
        for (slash, _) in folded.match_indices('/') {
            let folder = folded.get(..slash).unwrap_or(&folded);
            if names.contains(folder) {
                return Err(wrong(PathRule::Clash));
            }
            folders.insert(folder.to_owned());
        }
        if folders.contains(&folded) || !names.insert(folded) {
            return Err(wrong(PathRule::Clash));
        }
    }
    Ok(())
}

fn check_index(release: &Release) -> Result<(), BundleError> {
    let wrong = BundleError::Release { field: "index" };
    let index = &release.index;
    let plain = release
        .files
        .iter()
        .try_fold(0u64, |total, file| total.checked_add(file.size))
        .ok_or(wrong)?;
    let length = index.chunks.checked_mul(104).and_then(|bytes| bytes.checked_add(32));
    let fits = index.length <= limits::INDEX_BYTES_MAX && length == Some(index.length);
    let summed = index.plain_bytes == plain && index.stored_bytes <= plain;
    let cut = &index.cut;
    let ordered = 0 < cut.min_bytes
        && cut.min_bytes <= cut.avg_bytes
        && cut.avg_bytes <= cut.max_bytes
        && cut.max_bytes <= limits::CHUNK_PLAIN_BYTES_MAX;
    if fits && summed && ordered && is_name(&cut.algorithm) { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(paths: &[&str]) -> Release {
        let files = paths.iter().map(|path| FileEntry {
            path: path.parse().expect("a good path"),
            size: 1,
            sha256: Digest::of(b"x"),
        });
        let count = paths.len() as u64;
        Release {
            name: "cloister-demo".to_owned(),
            version: "1.0.0".to_owned(),
            release_counter: 7,
            min_release_counter: 3,
            files: files.collect(),
            index: IndexEntry {
                sha256: Digest::of(b"index"),
                length: 32 + 104 * count,
                chunks: count,
                plain_bytes: count,
                stored_bytes: count,
                cut: Cut {
                    algorithm: "gear-tensors-v1".to_owned(),
                    min_bytes: 1 << 18,
                    avg_bytes: 1 << 20,
                    max_bytes: 1 << 22,
                },
            },
            requires: Requires::default(),
            licences: vec!["Apache-2.0 OR MIT".to_owned()],
            attestations: Vec::new(),
            base: None,
        }
    }

    #[test]
    fn a_manifest_returns_from_its_envelope_under_the_same_name() {
        let manifest = Manifest::new(release(&["a", "b/c"])).expect("good");
        let envelope = manifest.envelope();
        let back = Manifest::of(&envelope).expect("our own");
        assert_eq!(back, manifest);
        assert_eq!(back.generation().0, envelope.payload_digest());
        let statement = Statement::of(&envelope).expect("our own");
        assert_eq!(statement.subject[0].name, "cloister-demo@1.0.0");
        assert_eq!(statement.subject[0].sha256, back.tree());
        assert_eq!(back.tree(), tree_digest(&back.release().files));
    }

    #[test]
    fn fields_at_their_bounds_are_good() {
        let licence = format!("LicenseRef-{}", "x".repeat(117));
        let attached = |number: u64, length: u64| Attached {
            predicate_type: "p:x".to_owned(),
            sha256: Digest::from_bytes(
                *[[0; 24].as_slice(), &number.to_be_bytes()]
                    .concat()
                    .first_chunk()
                    .expect("32 bytes"),
            ),
            length,
        };
        let change = |change: &dyn Fn(&mut Release)| {
            let mut good = release(&["a"]);
            change(&mut good);
            assert!(Manifest::new(good).is_ok());
        };
        change(&|r| r.name = "a-b.c_9".repeat(9) + "z");
        change(&|r| r.version = "9.A+b-".repeat(10) + "9999");
        change(&|r| r.min_release_counter = 7);
        change(&|r| r.licences = vec![licence.clone(); 256]);
        change(&|r| r.requires.features = vec!["x".repeat(64); 256]);
        for max in [None, Some("1.0.0".to_owned()), Some("1.0.1".to_owned())] {
            change(&|r| {
                r.requires.runtime = Some(Runtime { min: "1.0.0".into(), max: max.clone() })
            });
        }
        change(&|r| r.attestations = (0..3).map(|n| attached(n, 8 << 20)).collect());
        change(&|r| r.attestations = (0..256).map(|n| attached(n, 1)).collect());
        let mut bad = release(&["a"]);
        for attestations in [
            (0..4).map(|n| attached(n, if n < 3 { 8 << 20 } else { 1 })).collect::<Vec<_>>(),
            (0..257).map(|n| attached(n, 1)).collect(),
            vec![attached(0, (8 << 20) + 1)],
            vec![attached(2, 1), attached(1, 1)],
            vec![Attached { predicate_type: String::new(), ..attached(0, 1) }],
            vec![Attached { predicate_type: "a claim".to_owned(), ..attached(0, 1) }],
        ] {
            bad.attestations = attestations;
            let refusal = Err(BundleError::Release { field: "attestations" });
            assert_eq!(Manifest::new(bad.clone()), refusal);
        }
    }

    #[test]
    fn a_release_has_at_most_a_hundred_thousand_files() {
        let files = |count: u32| -> Vec<FileEntry> {
            let path = |number| format!("{number:06}").parse().expect("a good path");
            let file = |number| FileEntry { path: path(number), size: 1, sha256: Digest::of(b"") };
            (0..count).map(file).collect()
        };
        assert_eq!(check_files(&files(100_000)), Ok(()));
        let refusal = Err(BundleError::Release { field: "files" });
        assert_eq!(check_files(&files(100_001)), refusal);
    }

    #[test]
    fn paths_are_ordered_and_never_clash() {
        for (paths, rule) in [
            (vec!["b", "a"], PathRule::Order),
            (vec!["a", "a"], PathRule::Order),
            (vec!["A", "a"], PathRule::Clash),
            (vec!["strasse", "straße"], PathRule::Clash),
            (vec!["a", "a/b"], PathRule::Clash),
            (vec!["A/b", "a"], PathRule::Clash),
            (vec!["A", "a/b"], PathRule::Clash),
        ] {
            let refusal = Manifest::new(release(&paths)).expect_err("refused");
            assert_eq!(refusal, BundleError::Path { file: 1, rule }, "{paths:?}");
        }
        assert!(Manifest::new(release(&["A/b", "a/c"])).is_ok());
    }

    #[test]
    fn fields_out_of_range_are_named() {
        let change = |field: &'static str, change: fn(&mut Release)| {
            let mut bad = release(&["a"]);
            change(&mut bad);
            assert_eq!(Manifest::new(bad), Err(BundleError::Release { field }), "{field}");
        };
        change("name", |r| r.name = "../x".to_owned());
        change("name", |r| r.name = String::new());
        change("name", |r| r.name = "x".repeat(65));
        change("name", |r| r.name = "x/y".to_owned());
        change("name", |r| r.name = ".x".to_owned());
        change("version", |r| r.version = "1 0".to_owned());
        change("release_counter", |r| r.release_counter = 0);
        change("min_release_counter", |r| r.min_release_counter = 8);
        change("licences", |r| r.licences = vec!["MIT".to_owned(); 257]);
        change("requires", |r| r.requires.features = vec!["x".to_owned(); 257]);
        change("requires", |r| r.requires.features = vec![String::new()]);
        change("requires", |r| r.requires.features = vec!["a b".to_owned()]);
        change("requires", |r| r.requires.features = vec!["x".repeat(65)]);
        change("files", |r| r.files.clear());
        change("index", |r| r.index.plain_bytes = 2);
        change("index", |r| r.index.length = 0);
        change("index", |r| r.index.stored_bytes = 2);
        change("index", |r| r.index.cut.max_bytes = 1 << 23);
        change("index", |r| r.index.cut.max_bytes = 1 << 19);
        change("index", |r| r.index.cut.avg_bytes = 1 << 17);
        change("index", |r| r.index.cut.min_bytes = 0);
        change("index", |r| r.index.cut.algorithm = String::new());
        change("index", |r| r.index.cut.algorithm = "a b".to_owned());
        change("index", |r| (r.index.chunks, r.index.length) = (1 << 22, 32 + (104 << 22)));
        change("index", |r| r.files[0].size = u64::MAX);
        change("attestations", |r| {
            let attached =
                Attached { predicate_type: "p:x".to_owned(), sha256: Digest::of(b""), length: 1 };
            r.attestations = vec![attached.clone(), attached];
        });
    }

    #[test]
    fn licences_and_versions_have_the_form_that_others_read() {
        let mut bad = release(&["a"]);
        bad.licences = vec!["MIT".to_owned(), "MIT OR".to_owned()];
        assert_eq!(Manifest::new(bad), Err(BundleError::Licence { licence: 2 }));
        for (min, max) in [
            ("1.2", None),
            ("1.2.3", Some("1.2.x")),
            ("1.2.3", Some("1.2.2")),
            ("1.10.0", Some("1.9.9")),
        ] {
            let mut bad = release(&["a"]);
            let max = max.map(str::to_owned);
            bad.requires.runtime = Some(Runtime { min: min.to_owned(), max });
            assert_eq!(Manifest::new(bad), Err(BundleError::Runtime), "{min}");
        }
    }

    #[test]
    fn another_kind_another_subject_or_an_unknown_field_is_refused() {
        let manifest = Manifest::new(release(&["a"])).expect("good");
        let statement = Statement::of(&manifest.envelope()).expect("our own");
        let refused = |statement: &Statement| {
            Manifest::of(&statement.envelope().expect("integers")).expect_err("refused")
        };
        let other = Statement { predicate_type: predicate_type("approval"), ..statement.clone() };
        assert_eq!(refused(&other), BundleError::Manifest(AttestError::PredicateType));
        let mut moved = statement.clone();
        moved.subject[0].sha256 = Digest::of(b"other");
        assert_eq!(refused(&moved), BundleError::Tree);
        let mut more = statement;
        more.predicate["surprise"] = true.into();
        assert_eq!(refused(&more), BundleError::Release { field: "predicate" });
    }
}
