//! What a thin bundle carries after small changes.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{fs, path::Path};

use cloister_attest::SigningKey;
use cloister_bundle::{container, receipt::ContentIds};
use cloister_domain::Secret;
use cloister_mint::{
    build::{Package, Part, Spec, VOLUME_BYTES, plan},
    volume::{Volume, replace_meta},
};

const MODEL: usize = 24 << 20;

/// Bytes without structure, from a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn write(tree: &Path, path: &str, bytes: &[u8]) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn package(tree: &Path) -> Package {
    let spec = Spec {
        name: "demo".to_owned(),
        version: "1".to_owned(),
        counter: 1,
        min_counter: 1,
        licences: vec!["Apache-2.0".to_owned()],
        ram_bytes: 0,
        vram_bytes: 0,
        runtime_min: None,
        features: Vec::new(),
        attestations: Vec::new(),
    };
    let key = SigningKey::from_seed(&Secret::new(vec![5; 32])).unwrap();
    Package::build(tree, &spec, &[key], tree.parent().unwrap()).unwrap()
}

fn write_volume(package: &mut Package, out: &Path, part: &Part) -> std::path::PathBuf {
    fs::create_dir_all(out).unwrap();
    let empty = container::archive([]).unwrap();
    package.write_part(out, &empty, VOLUME_BYTES, part).unwrap().remove(0)
}

/// The content ids of a tree, as an appliance that holds it would list them.
fn held(tree: &Path, out: &Path) -> ContentIds {
    let path = write_volume(&mut package(tree), out, &Part::Whole);
    let volume = Volume::open(&path).unwrap();
    ContentIds::new(volume.index.chunks().iter().map(|chunk| chunk.content).collect())
}

#[test]
fn a_small_change_carries_little() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let model = noise(1, MODEL);
    write(&tree, "model/model.gguf", &model);
    let part = Part::NotHeld(held(&tree, &scratch.path().join("one")));
    assert_eq!(plan(&tree, &part).unwrap().carried_chunks, 0, "nothing changed");

    // Metadata at the front grows: everything behind it moves.
    let edited = [b"a longer name of the model".as_slice(), &model[9..]].concat();
    write(&tree, "model/model.gguf", &edited);
    let outlook = plan(&tree, &part).unwrap();
    assert!(outlook.bytes > 20 << 20);
    assert!((1..=2).contains(&outlook.carried_chunks), "{outlook:?}");
    assert!(outlook.carried_bytes <= 8 << 20, "{outlook:?}");

    // One tensor of 1 MiB in the middle.
    let mut changed = model.clone();
    changed[10 << 20..11 << 20].copy_from_slice(&noise(2, 1 << 20));
    write(&tree, "model/model.gguf", &changed);
    let outlook = plan(&tree, &part).unwrap();
    assert!(outlook.carried_bytes >= 1 << 20 && outlook.carried_bytes <= 9 << 20, "{outlook:?}");

    // An adapter beside the model.
    write(&tree, "model/model.gguf", &model);
    write(&tree, "model/adapter.safetensors", &noise(3, 2 << 20));
    let outlook = plan(&tree, &part).unwrap();
    assert_eq!(outlook.carried_bytes, 2 << 20);
}

#[test]
fn a_thin_volume_is_of_the_same_release_and_says_what_it_carries() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let model = noise(1, MODEL);
    write(&tree, "model/model.gguf", &model);
    let held = held(&tree, &scratch.path().join("one"));
    write(&tree, "model/model.gguf", &[b"more", &model[..]].concat());
    let whole = write_volume(&mut package(&tree), &scratch.path().join("whole"), &Part::Whole);
    let thin = Part::NotHeld(held.clone());
    let thin = write_volume(&mut package(&tree), &scratch.path().join("thin"), &thin);
    let (first, second) = (Volume::open(&whole).unwrap(), Volume::open(&thin).unwrap());
    assert_eq!(first.manifest.generation(), second.manifest.generation());
    assert!(first.carried.is_none());
    let carried = second.carried.clone().unwrap();
    for (near, chunk) in second.index.chunks().iter().enumerate() {
        assert_eq!(carried.has(near), !held.contains(chunk.content));
    }
    // What a request asks for is carried, and nothing else.
    let wanted = first.index.chunks().iter().map(|chunk| chunk.content);
    let wanted = wanted.filter(|content| held.contains(*content)).take(3).collect();
    let part = Part::Requested(ContentIds::new(wanted));
    let rest = write_volume(&mut package(&tree), &scratch.path().join("rest"), &part);
    let rest = Volume::open(&rest).unwrap();
    let bits = rest.carried.clone().unwrap();
    assert_eq!((0..rest.index.chunks().len()).filter(|near| bits.has(*near)).count(), 3);
    for volume in [first, second, rest] {
        volume.check_chunks().unwrap();
    }
    // New metadata leaves the rest as it is.
    replace_meta(&thin, b"new metadata").unwrap();
    let again = Volume::open(&thin).unwrap();
    assert_eq!(
        (again.meta.as_slice(), again.carried.as_ref()),
        (&b"new metadata"[..], Some(&carried))
    );
    again.check_chunks().unwrap();
}
