//! From keys to a volume that an appliance's verifier takes, in this process.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use clap::Parser as _;
use cloister_attest::SigningKey;
use cloister_bundle::{BundleError, Codec, container};
use cloister_domain::{Coded as _, Digest, Secret};
use cloister_mint::{
    build::{Package, Spec, VOLUME_BYTES},
    cli,
    importer::{Delegation, Importer},
    inspect::inspect,
    keys::Holder,
    seal,
    trust::{Folder, Roles},
    volume::{Volume, replace_meta, trust_volume},
};
use cloister_sealed::is_sealed;
use cloister_verify::enrol;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new(vec![seed; 32])).unwrap()
}

fn holder(person: &str, seed: u8) -> Holder {
    Holder { person: person.parse().unwrap(), key: key(seed).public().into() }
}

const OFFICERS: [u8; 3] = [1, 2, 3];
const IMPORTER: u8 = 4;
const PUBLISHER: u8 = 5;
const EXPIRES: &str = "2036-01-01T00:00:00Z";

fn roles() -> Roles {
    Roles {
        root: OFFICERS.iter().map(|seed| holder(&format!("officer-{seed}"), *seed)).collect(),
        root_threshold: 2,
        importers: vec![holder("imp", IMPORTER)],
        approvers: vec![holder("eve", 6), holder("flo", 7)],
        approvals: 2,
        publishers: vec![holder("vendor", PUBLISHER)],
        expires: EXPIRES.to_owned(),
        ..Roles::default()
    }
}

fn admit(folder: &Folder, envelope: &[u8]) -> anyhow::Result<()> {
    folder.admit(envelope, &Importer::new(&[key(IMPORTER)], EXPIRES)).map(drop)
}

fn trust(at: &Path) -> Folder {
    let folder = Folder::at(at).unwrap();
    folder.create_root(&roles(), &[key(1), key(2)]).unwrap();
    let delegation = Delegation {
        name: "publisher".to_owned(),
        publishers: vec![holder("vendor", PUBLISHER)],
        threshold: 1,
        paths: vec!["demo/*".to_owned()],
        algorithms: Vec::new(),
    };
    folder.delegate(&delegation, &Importer::new(&[key(IMPORTER)], EXPIRES)).unwrap();
    folder
}

fn spec(counter: u64) -> Spec {
    Spec {
        name: "demo".to_owned(),
        version: format!("{counter}.0.0"),
        counter,
        min_counter: 1,
        licences: vec!["Apache-2.0".to_owned()],
        ram_bytes: 0,
        vram_bytes: 0,
        runtime_min: None,
        features: Vec::new(),
        attestations: vec![("https://slsa.dev/provenance/v1".to_owned(), b"{}".to_vec())],
    }
}

/// Bytes without structure: they do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn tree(at: &Path) -> PathBuf {
    let tree = at.join("tree");
    for (path, bytes) in [
        ("model/model.safetensors", noise(9 << 20)),
        ("documents/handbook/a.md", b"# Valves\n".repeat(40_000)),
        ("documents/empty", Vec::new()),
        ("licences/Apache-2.0.txt", b"Apache License\n".to_vec()),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    tree
}

fn build(tree: &Path, counter: u64, out: &Path, meta: &[u8], volume_bytes: u64) -> Vec<PathBuf> {
    fs::create_dir_all(out).unwrap();
    let mut package = Package::build(tree, &spec(counter), &[key(PUBLISHER)], out).unwrap();
    package.write(out, meta, volume_bytes).unwrap()
}

fn bytes(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The files of a release, unpacked from the chunks of all volumes as an appliance does.
fn unpack(volumes: &[PathBuf]) -> Vec<Vec<u8>> {
    let first = Volume::open(&volumes[0]).unwrap();
    let mut files: Vec<Vec<u8>> = vec![Vec::new(); first.manifest.release().files.len()];
    let mut chunks = first.index.chunks().iter();
    for path in volumes {
        let mut archive = tar::Archive::new(fs::File::open(path).unwrap());
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let Some(digest) = name.strip_prefix("c/") else { continue };
            let chunk = chunks.next().unwrap();
            assert_eq!(digest, chunk.stored.to_string());
            let mut stored = Vec::new();
            entry.read_to_end(&mut stored).unwrap();
            let plain = match chunk.codec {
                Codec::Raw => stored,
                Codec::Zstd => {
                    zstd::bulk::decompress(&stored, usize::try_from(chunk.plain_bytes).unwrap())
                        .unwrap()
                }
            };
            assert_eq!(Digest::of(&plain), chunk.content);
            let file = &mut files[usize::try_from(chunk.file).unwrap()];
            assert_eq!(file.len() as u64, chunk.offset);
            file.extend(plain);
        }
    }
    assert!(chunks.next().is_none());
    files
}

#[test]
fn an_admitted_volume_is_trusted_and_holds_the_tree() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, folder) = (tree(scratch.path()), trust(&scratch.path().join("trust")));
    let empty = container::archive([]).unwrap();
    let volumes = build(&tree, 1, &scratch.path().join("out"), &empty, VOLUME_BYTES);
    assert!(volumes[0].ends_with("demo-1.0.0.v0001.clb"));
    admit(&folder, &Volume::open(&volumes[0]).unwrap().envelope).unwrap();
    replace_meta(&volumes[0], &folder.meta().unwrap()).unwrap();

    let root = bytes(&folder.first_root());
    let volume = Volume::open(&volumes[0]).unwrap();
    let state = enrol(&root, Digest::of(&root)).unwrap().refresh(&volume.meta).unwrap();
    let verified = state.judge(&volume.envelope).unwrap();
    assert_eq!(verified.signers().iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["vendor"]);
    let files = &verified.get().release().files;
    for (file, plain) in files.iter().zip(unpack(&volumes)) {
        assert_eq!(plain, bytes(&tree.join(file.path.as_str())));
        assert_eq!(Digest::of(&plain), file.sha256);
    }
    let raw = volume.index.chunks().iter().filter(|chunk| chunk.codec == Codec::Raw).count();
    assert!(raw > 0 && raw < volume.index.chunks().len(), "noise is raw, text is packed");
    volume.check_chunks().unwrap();
}

#[test]
fn what_a_manifest_may_not_say_is_refused_before_the_tree_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let absent = scratch.path().join("absent");
    let refused = |spec: &Spec| {
        let refusal = Package::build(&absent, spec, &[key(PUBLISHER)], scratch.path());
        refusal.unwrap_err().downcast_ref::<BundleError>().map(|error| error.code())
    };
    assert_eq!(refused(&spec(1)), None, "the tree is what is missing");
    let licences = vec!["MIT OR".to_owned()];
    assert_eq!(refused(&Spec { licences, ..spec(1) }), Some("bundle.manifest.licence"));
    let runtime_min = Some("1.2".to_owned());
    assert_eq!(refused(&Spec { runtime_min, ..spec(1) }), Some("bundle.manifest.runtime"));
    let attestations = vec![("a claim".to_owned(), Vec::new())];
    assert_eq!(refused(&Spec { attestations, ..spec(1) }), Some("bundle.manifest.release"));
}

#[test]
fn a_file_of_another_kind_is_called_what_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("x.clb");
    let told = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        let inspected = inspect(&path, true, &mut Vec::new()).unwrap_err();
        format!("{inspected:#}")
    };
    for (content, words) in [
        (b"".as_slice(), "is empty"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n", "cloister-mint seal"),
        (b"\x7fELF\x02", "a program"),
        (b"hello\n", "a text file"),
    ] {
        let said = told(content);
        assert!(said.contains(words) && said.contains("not a Cloister volume"), "{said}");
    }
    let alone = told(&trust_volume(b"x").unwrap());
    assert!(alone.contains("ends in the middle"), "{alone}");
    let alone = format!("{:#}", Volume::open(&path).unwrap_err());
    assert!(alone.contains("brings trust metadata and no release"), "{alone}");
    assert!(!told(b"\x01\x02").contains("not a Cloister volume"));
}

#[test]
fn only_an_admitted_volume_is_sealed() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, folder) = (tree(scratch.path()), trust(&scratch.path().join("trust")));
    let empty = container::archive([]).unwrap();
    let volume = &build(&tree, 1, &scratch.path().join("out"), &empty, VOLUME_BYTES)[0];
    let recipient = seal::create_identity(&scratch.path().join("identity")).unwrap();
    let sealed = || seal::volume(volume, std::slice::from_ref(&recipient));
    let refusal = |told: &str| {
        let before = bytes(volume);
        let refusal = format!("{:#}", sealed().unwrap_err());
        assert!(refusal.contains(told), "{refusal}");
        assert!(bytes(volume) == before, "nothing was changed");
    };
    refusal("cloister-mint admit");
    // Metadata that lists another release.
    let other = &build(&tree, 2, &scratch.path().join("other"), &empty, VOLUME_BYTES)[0];
    admit(&folder, &Volume::open(other).unwrap().envelope).unwrap();
    replace_meta(volume, &folder.meta().unwrap()).unwrap();
    refusal("cloister-mint admit");
    admit(&folder, &Volume::open(volume).unwrap().envelope).unwrap();
    replace_meta(volume, &folder.meta().unwrap()).unwrap();
    sealed().unwrap();
    assert!(is_sealed(&bytes(volume)));
    fs::write(volume, b"hello\n").unwrap();
    refusal("a text file");
}

#[test]
fn building_and_admitting_twice_gives_identical_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, folder) = (tree(scratch.path()), trust(&scratch.path().join("trust")));
    let twice = ["one", "two"].map(|out| {
        let meta = folder.meta().unwrap();
        let volumes = build(&tree, 1, &scratch.path().join(out), &meta, VOLUME_BYTES);
        admit(&folder, &Volume::open(&volumes[0]).unwrap().envelope).unwrap();
        replace_meta(&volumes[0], &folder.meta().unwrap()).unwrap();
        bytes(&volumes[0])
    });
    assert!(twice[0] == twice[1]);
}

#[test]
fn a_release_spans_volumes_that_each_stand_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = tree(scratch.path());
    let empty = container::archive([]).unwrap();
    let volumes = build(&tree, 1, &scratch.path().join("out"), &empty, 5 << 20);
    assert!(volumes.len() > 1);
    for (number, path) in volumes.iter().enumerate() {
        assert!(bytes(path).len() <= 5 << 20);
        let volume = Volume::open(path).unwrap();
        assert_eq!(
            (volume.head.volume as usize, volume.head.volumes as usize),
            (number + 1, volumes.len())
        );
        volume.check_chunks().unwrap();
    }
    let whole = build(&tree, 1, &scratch.path().join("whole"), &empty, VOLUME_BYTES);
    assert!(unpack(&volumes) == unpack(&whole));
}

#[test]
fn a_flipped_byte_anywhere_in_a_chunk_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = tree(scratch.path());
    let empty = container::archive([]).unwrap();
    let path = build(&tree, 1, scratch.path(), &empty, VOLUME_BYTES).remove(0);
    let good = bytes(&path);
    for at in [good.len() - 2000, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).unwrap();
        assert!(Volume::open(&path).unwrap().check_chunks().is_err(), "byte {at}");
    }
}

#[test]
fn a_link_or_a_name_outside_the_language_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = tree(scratch.path());
    let build = || Package::build(&tree, &spec(1), &[key(PUBLISHER)], scratch.path());
    let link = tree.join("documents/link");
    std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
    assert!(build().is_err());
    fs::remove_file(&link).unwrap();
    fs::write(tree.join("NUL"), b"").unwrap();
    assert!(build().is_err());
    fs::remove_file(tree.join("NUL")).unwrap();
    assert!(build().is_ok());
}

#[test]
fn an_importer_cannot_admit_what_no_publisher_signed() {
    let scratch = tempfile::tempdir().unwrap();
    let (tree, folder) = (tree(scratch.path()), trust(&scratch.path().join("trust")));
    let package = Package::build(&tree, &spec(1), &[key(IMPORTER)], scratch.path()).unwrap();
    let refusal = admit(&folder, package.envelope()).unwrap_err();
    let cause = refusal.downcast_ref::<cloister_verify::VerifyError>().unwrap();
    assert_eq!(cause.code(), "bundle.signature.unknown-signer");
}

#[test]
fn a_root_rotates_with_old_and_new_officers() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = trust(scratch.path());
    let mut next = roles();
    next.root[2] = holder("new-officer", 8);
    assert!(folder.rotate_root(&next, &[key(2), key(8)]).is_err());
    folder.rotate_root(&next, &[key(1), key(2)]).unwrap();
    let root = bytes(&folder.first_root());
    let state = enrol(&root, Digest::of(&root)).unwrap();
    assert_eq!(state.refresh(&folder.meta().unwrap()).unwrap().root_version(), 2);
}

#[test]
fn the_command_line_goes_the_same_way() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = tree(scratch.path());
    let base = scratch.path().display().to_string();
    let said = |line: &str| {
        let words = std::iter::once("cloister-mint").chain(line.split(' '));
        let words = words.map(|word| word.replace("BASE", &base));
        let mut out = Vec::new();
        cli::run(cli::Arguments::try_parse_from(words).unwrap(), &mut out).unwrap();
        String::from_utf8(out).unwrap().trim().to_owned()
    };
    let mut public = std::collections::BTreeMap::new();
    for person in ["ada", "bob", "cyd", "imp", "eve", "flo", "vendor"] {
        let holder = said(&format!("key create --person {person} --out BASE/{person}.key"));
        assert_eq!(said(&format!("key show BASE/{person}.key")), holder);
        let mode =
            fs::metadata(scratch.path().join(format!("{person}.key"))).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        public.insert(person, holder);
    }
    let [ada, bob, cyd, imp, eve, flo, vendor] =
        ["ada", "bob", "cyd", "imp", "eve", "flo", "vendor"].map(|person| &public[person]);
    let root = said(&format!(
        "root create --trust BASE/trust --root {ada} --root {bob} --root {cyd} --importer {imp} \
         --approver {eve} --approver {flo} --publisher {vendor} --sign BASE/ada.key --sign BASE/cyd.key"
    ));
    assert!(root.starts_with("root "));
    said(&format!(
        "delegate --trust BASE/trust --key BASE/imp.key --publisher {vendor} --path demo/*"
    ));
    said(
        "build BASE/tree --name demo --version 1.0.0 --counter 1 --licence MIT \
         --key BASE/vendor.key --out BASE/stick --uninspected",
    );
    said("admit --trust BASE/trust --key BASE/imp.key BASE/stick/demo-1.0.0.v0001.clb");
    let shown = said("inspect BASE/stick/demo-1.0.0.v0001.clb --chunks");
    assert!(shown.contains("release     demo 1.0.0, number 1"), "{shown}");
    assert!(shown.contains("timestamp.json") && shown.contains("every chunk"), "{shown}");
    assert!(tree.exists());
}

/// Every line of `hexdump -C` in `docs/formats/bundle.md` is what mint writes.
#[test]
fn the_page_about_the_format_shows_a_real_volume() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("hello.txt"), "hello, enclave\n").unwrap();
    let folder = trust(&scratch.path().join("trust"));
    let spec = Spec { attestations: Vec::new(), ..spec(1) };
    let mut package = Package::build(&tree, &spec, &[key(PUBLISHER)], scratch.path()).unwrap();
    admit(&folder, package.envelope()).unwrap();
    let meta = folder.meta().unwrap();
    let path = package.write(scratch.path(), &meta, VOLUME_BYTES).unwrap().remove(0);
    let volume = bytes(&path);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/bundle.md");
    let page = String::from_utf8(bytes(&page)).unwrap();
    assert!(page.contains(&Digest::of(&volume).to_string()), "{}", path.display());
    let mut shown = 0;
    for line in page.lines().filter_map(|line| line.split_once("  ")) {
        let Ok(offset) = usize::from_str_radix(line.0, 16) else { continue };
        let hex = line.1.split('|').next().unwrap().split_whitespace();
        let expected: Vec<u8> = hex.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(volume[offset..offset + expected.len()], expected, "offset {offset:08x}");
        shown += expected.len();
    }
    assert!(shown >= 20 * 16);
}
