//! Others' bugs, one test each: `docs/others-bugs.md` lists them, with a reason for those that have none.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use cloister_bundle::{Chunk, Codec, FileEntry, Index, container, limits};
use cloister_domain::{Digest, Hasher};
use cloister_hostile::{
    Base, Enclave,
    base::{Chain, key, pack, sealed, signed},
    cases,
};
use cloister_quarantine::{Ending, Source};
use cloister_stage::{
    release::{checkout, read_file},
    sample::{IMPORTER, OFFICERS},
};
use serde_json::{Value, json};

/// The code with which a volume is refused.
fn code(base: &Base, volume: &[u8]) -> &'static str {
    Enclave::new(&base.root).unwrap().offer(volume).expect_err("a refusal").code
}

/// The code with which metadata with this second root is refused.
fn code_of_root(change: impl Fn(&mut Value), by: &[&str]) -> &'static str {
    let base = Base::new().unwrap();
    let mut next = base.signed("1.root.json").unwrap();
    next["version"] = json!(2);
    change(&mut next);
    let mut meta = base.meta.clone();
    meta.insert(1, ("2.root.json".to_owned(), signed(&next, by).unwrap()));
    code(&base, &base.with_meta(&meta))
}

/// Every named case whose name holds `part` is refused by the form of a header.
fn refused_by_form(part: &str) {
    let base = Base::new().unwrap();
    let enclave = Enclave::new(&base.root).unwrap();
    let mut count = 0;
    cases::of_members(&base, &mut |case| {
        if case.name.starts_with("members/in-front/") && case.name.ends_with(part) {
            let refusal = enclave.offer(case.bytes).expect_err("a refusal");
            // In front of the end it is something that follows the last member.
            let form = ["bundle.container.header", "bundle.container.end"].contains(&refusal.code);
            assert!(form, "{}: {}", case.name, refusal.code);
            count += 1;
        }
    })
    .unwrap();
    assert!(count > 5, "{part}: {count} places");
}

#[test]
fn cve_2020_15093_one_signature_counted_twice() {
    let [one, ..] = OFFICERS;
    assert_eq!(code_of_root(|_same| {}, &[one, one]), "bundle.trust.field");
}

#[test]
fn cve_2026_6966_one_key_under_two_ids() {
    let [one, ..] = OFFICERS;
    let twin = |root: &mut Value| {
        let mut object = key(one).public().to_object();
        object["x-again"] = json!(true);
        let id = Digest::of(&cloister_attest::json::canonical_tuf(&object).unwrap()).to_string();
        root["keys"][&id] = object;
        root["roles"]["root"]["keyids"].as_array_mut().unwrap().push(json!(id));
    };
    let code = code_of_root(twin, &[one]);
    assert!(code.starts_with("bundle.trust.") || code.starts_with("bundle.signature."), "{code}");
}

#[test]
fn cve_2026_23992_a_threshold_of_zero() {
    for role in ["root", "targets", "snapshot", "timestamp"] {
        let none = |root: &mut Value| root["roles"][role]["threshold"] = json!(0);
        assert_eq!(code_of_root(none, &OFFICERS), "bundle.trust.threshold", "{role}");
    }
}

#[test]
fn cve_2025_2885_a_root_that_is_not_the_next() {
    for version in [1, 3, 1_000_000] {
        let far = |root: &mut Value| root["version"] = json!(version);
        assert_eq!(code_of_root(far, &OFFICERS), "bundle.trust.root-chain", "{version}");
    }
}

#[test]
fn cve_2025_2888_a_refused_timestamp_is_not_kept() {
    let base = Base::new().unwrap();
    let enclave = Enclave::new(&base.root).unwrap();
    let targets = base.signed("targets.json").unwrap();
    let mut chain = Chain::of(targets);
    chain.change_timestamp = Box::new(|part| part["version"] = json!(1_000_000));
    chain.snapshot_by = vec!["stranger"];
    let frozen = pack(&base.chain(&chain).unwrap());
    assert!(enclave.trust().refresh(&frozen).is_err());
    let good = base.member("clb/10-meta").unwrap();
    assert!(enclave.trust().refresh(good).is_ok(), "the next stick is taken");
}

#[test]
fn cve_2026_6968_names_are_never_paths() {
    let base = Base::new().unwrap();
    for name in ["../1.root.json", "/etc/x", "a/b.json", "..", ".x", "%2e%2e%2fx"] {
        let mut meta = base.meta.clone();
        meta[0].0 = name.to_owned();
        assert_eq!(code(&base, &base.with_meta(&meta)), "bundle.meta", "{name}");
    }
}

#[test]
fn cve_2021_41149_a_role_called_like_a_path() {
    let base = Base::new().unwrap();
    let mut targets = base.signed("targets.json").unwrap();
    targets["delegations"]["roles"][0]["name"] = json!("../../etc/cron.d/x");
    // The name is no more than a name, and its file could not even travel.
    let mut meta = base.chain(&Chain::of(targets)).unwrap();
    meta.insert(0, ("../../etc/cron.d/x.json".to_owned(), b"{}".to_vec()));
    assert_eq!(code(&base, &base.with_meta(&meta)), "bundle.meta");
}

#[test]
fn cve_2021_41150_and_2026_24686_a_target_called_like_a_path() {
    let base = Base::new().unwrap();
    let mut statement = base.statement.clone();
    statement["predicate"]["name"] = json!("../sample");
    let volume = pack(&base.with_statement(&statement).unwrap());
    assert_eq!(code(&base, &volume), "bundle.manifest.release");
}

#[test]
fn rustsec_2018_0002_and_2021_0080_links_that_lead_out() {
    refused_by_form("/symlink-climbing");
    refused_by_form("/hardlink");
}

#[test]
fn rustsec_2026_0067_a_folder_behind_a_link() {
    refused_by_form("/symlink");
    refused_by_form("/folder");
}

#[test]
fn rustsec_2026_0068_a_size_in_an_extension_header() {
    refused_by_form("/pax-size");
    refused_by_form("/pax-size-2^63");
}

#[test]
fn ghsa_3pv8_6f4r_ffg2_two_extension_headers_in_a_row() {
    refused_by_form("/pax-then-longname");
}

#[test]
fn rustsec_2025_0110_and_0111_a_file_hidden_by_an_extension_header() {
    // TARmageddon (CVE-2025-62518): readers that disagree on the size read different members.
    refused_by_form("/pax-size");
    refused_by_form("/pax-sparse");
}

#[test]
fn rustsec_2026_0066_0112_0113_0145_extension_headers_of_every_kind() {
    for part in
        ["/pax-path", "/pax-linkpath", "/pax-nul", "/pax-length-lies", "/pax-global", "/gnu-sparse"]
    {
        refused_by_form(part);
    }
}

#[test]
fn cpython_151497_and_155633_extension_headers_without_end() {
    for part in ["/pax-2-gib", "/gnu-longname-2-gib", "/gnu-longname-8-gib"] {
        refused_by_form(part);
    }
}

#[test]
fn commons_compress_770_a_sparse_file() {
    refused_by_form("/gnu-sparse");
    refused_by_form("/pax-sparse");
}

#[test]
fn cve_2026_34155_nothing_beyond_2_gib_is_left_uncovered() {
    let size = (2u64 << 30) + 5;
    let file = FileEntry { path: "a".parse().unwrap(), size, sha256: Digest::of(b"") };
    let step = limits::CHUNK_PLAIN_BYTES_MAX;
    let mut chunks: Vec<Chunk> = (0..size.div_ceil(step))
        .map(|number| {
            let bytes = step.min(size - number * step);
            let content = Digest::of(&number.to_le_bytes());
            Chunk {
                stored: content,
                stored_bytes: bytes,
                plain_bytes: bytes,
                content,
                codec: Codec::Raw,
                file: 0,
                offset: number * step,
            }
        })
        .collect();
    let files = [file];
    assert!(Index::new(chunks.clone(), &files).is_ok());
    chunks.truncate(512);
    assert!(Index::new(chunks, &files).is_err(), "2 GiB are not all of it");
    // A length that a smaller number would cut is refused before it is cut.
    for bytes in [(1u64 << 31) + 5, (1 << 32) + 5] {
        let block = container::header("clb/40-index", bytes).unwrap();
        assert!(
            container::read_header(&block, "clb/40-index", limits::INDEX_BYTES_MAX, 0).is_err()
        );
    }
}

/// A medium that answers every second reading of a byte with another one.
struct TwoFaced(Cursor<Vec<u8>>, Vec<bool>);

impl Read for TwoFaced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = usize::try_from(self.0.position()).unwrap();
        let count = self.0.read(buffer)?;
        for (byte, seen) in buffer.iter_mut().zip(&mut self.1[at..at + count]) {
            *byte ^= u8::from(std::mem::replace(seen, true));
        }
        Ok(count)
    }
}

impl Seek for TwoFaced {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn cve_2020_25860_a_medium_that_answers_two_readings_differently() {
    let base = Base::new().unwrap();
    let seen = vec![false; base.bytes.len()];
    let mut source = Source::new(TwoFaced(Cursor::new(base.bytes.clone()), seen), Ending::File);
    let place = source.place().unwrap();
    let head = source.head(place).unwrap();
    assert_eq!(
        head.manifest,
        base.member("clb/20-manifest").unwrap(),
        "read once, as it was checked"
    );
}

#[test]
fn cve_2026_29064_a_link_to_a_file_of_the_system() {
    refused_by_form("/symlink");
}

#[test]
fn cve_2026_7020_a_digest_that_is_a_path() {
    let base = Base::new().unwrap();
    for digest in ["../../../../etc/cron.d/x", "..", "/etc/passwd", "sha256:../x"] {
        let mut statement = base.statement.clone();
        statement["predicate"]["files"][0]["sha256"] = json!(digest);
        let volume = pack(&base.with_statement(&statement).unwrap());
        assert_eq!(code(&base, &volume), "bundle.manifest.release", "{digest}");
    }
}

#[test]
fn cve_2026_7482_a_tensor_that_ends_behind_the_file() {
    let mut writer = cloister_weights::gguf_write::Writer::new();
    writer.text("general.architecture", "llama");
    let bytes = vec![0; 4 * 64];
    let data = cloister_weights::gguf_write::Source::Bytes(bytes);
    writer.tensor("token_embd.weight", cloister_weights::DType::F32, &[8, 8], data);
    let whole = writer.to_bytes().unwrap();
    assert!(cloister_weights::File::from_bytes(whole.clone().into()).is_ok());
    for cut in 1..=256 {
        let short = whole[..whole.len() - cut].to_vec();
        assert!(cloister_weights::File::from_bytes(short.into()).is_err(), "{cut} bytes less");
    }
}

#[test]
fn cve_2025_0509_another_payload_beside_a_good_signature() {
    // Sparkle: an archive that was exchanged after its signature was checked.
    let base = Base::new().unwrap();
    let chunk = base.members.iter().position(|(name, _)| name.starts_with("c/")).unwrap();
    let mut members = base.members.clone();
    let other = b"another payload".to_vec();
    members[chunk] = (format!("c/{}", Digest::of(&other)), other);
    assert_eq!(code(&base, &pack(&members)), "bundle.container.header");
    members[chunk] = (base.members[chunk].0.clone(), vec![0; base.members[chunk].1.len()]);
    assert_eq!(code(&base, &pack(&members)), "bundle.digest");
    // And a manifest that the importer did not list, by the right publisher.
    let mut statement = base.statement.clone();
    statement["predicate"]["requires"]["ram_bytes"] = json!(1);
    let volume = base.with("clb/20-manifest", sealed(statement.to_string().into_bytes()));
    assert_eq!(code(&base, &volume), "bundle.trust.not-listed");
    assert_ne!(IMPORTER, "publisher");
}

#[test]
fn rustsec_2024_0344_the_curve_is_computed_in_constant_time() {
    let lock = String::from_utf8(read_file(&checkout().join("Cargo.lock")).unwrap()).unwrap();
    let versions = lock.split("[[package]]").filter(|part| part.contains("\"curve25519-dalek\"\n"));
    let mut count = 0;
    for part in versions {
        let line = part.lines().find_map(|line| line.strip_prefix("version = ")).unwrap();
        let numbers: Vec<u32> =
            line.trim_matches('"').split(['.', '-']).filter_map(|part| part.parse().ok()).collect();
        assert!(numbers >= vec![4, 1, 3], "{line}");
        count += 1;
    }
    assert!(count > 0, "the lock file names curve25519-dalek");
}

#[test]
fn rustsec_2021_0100_digests_of_long_and_of_split_input_are_right() {
    // FIPS 180-4's example of a million letters, in pieces of every length up to three blocks.
    let expected = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    let million = vec![b'a'; 1_000_000];
    assert_eq!(Digest::of(&million).to_string(), expected);
    for piece in [1, 3, 55, 56, 63, 64, 65, 127, 128, 129, 191, 192, 193, 4096] {
        let mut hasher = Hasher::new();
        million.chunks(piece).for_each(|part| hasher.update(part));
        assert_eq!(hasher.finish().to_string(), expected, "pieces of {piece}");
    }
}

/// Each row of the page names a test that is there, or says in a sentence why there is none.
#[test]
fn the_page_of_others_bugs_names_tests_that_exist() {
    let text = |path: &str| String::from_utf8(read_file(&checkout().join(path)).unwrap()).unwrap();
    let page = text("docs/others-bugs.md");
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| advisory"))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [_, advisory, _, answer, _] = cells.as_slice() else { panic!("a row of three: {row}") };
        rows += 1;
        match answer.split('`').collect::<Vec<_>>().as_slice() {
            [_, test, " in ", file, _] => {
                assert!(
                    text(file).contains(&format!("fn {test}(")),
                    "{advisory}: {file} has no {test}"
                );
            }
            _ => assert!(
                answer.starts_with("none: ") && answer.ends_with('.'),
                "{advisory}: {answer}"
            ),
        }
    }
    assert!(rows >= 30, "{rows} rows");
}
