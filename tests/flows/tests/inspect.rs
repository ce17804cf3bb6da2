//! A signed release whose files are not what they should be is refused after inspection, and nothing
//! of it is left.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Result;
use cloister_flows::{Scene, assert_refused};
use cloister_stage::Options;

/// `pickle.dumps` of an object whose loading runs `id`, protocol 2.
const PICKLE: &[u8] = b"\x80\x02cposix\nsystem\nq\0X\x02\0\0\0idq\x01\x85q\x02Rq\x03.";

/// A GGUF file with one tensor of (INT64_MAX, 2, 1, 1) elements.
fn lying_weights() -> Vec<u8> {
    let mut bytes =
        b"GGUF\x03\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\x04\0\0\0".to_vec();
    for dimension in [i64::MAX.unsigned_abs(), 2, 1, 1, 0] {
        bytes.extend(dimension.to_le_bytes());
    }
    bytes.resize(4096, 0);
    bytes
}

/// Bytes of all files below a folder.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        total += if about.is_dir() { bytes_below(&entry.path())? } else { about.len() };
    }
    Ok(total)
}

#[test]
fn weights_that_are_a_program_or_lie() -> Result<()> {
    let scene = Scene::enrolled()?;
    let paths = &scene.stage().config().paths;
    for (version, counter, name, content, code) in [
        ("1.0.0", 1, "pickle", PICKLE.to_vec(), "inspect.pickle"),
        ("1.0.1", 2, "lying", lying_weights(), "inspect.gguf.shape"),
    ] {
        let tree = scene.path().join(name);
        fs::create_dir_all(tree.join("model"))?;
        fs::write(tree.join("model/model.gguf"), content)?;
        fs::write(tree.join("NOTICE"), "Weights of nobody.\n")?;
        // Whoever signs it is told before.
        assert!(scene.facility.publish(&tree, version, counter).is_err());
        let more = ["--uninspected"];
        let volumes = scene.facility.publish_with(&tree, version, counter, &more)?;
        let [volume] = volumes.as_slice() else { unreachable!("one volume") };
        assert_refused(&scene.facility.import(volume)?, code);
        let inspection = scene.last_record("inspection")?;
        let facts = &inspection["predicate"]["facts"];
        assert_eq!((&facts["accepted"], &facts["refused"]), (&1.into(), &1.into()), "{facts}");
        assert_eq!(facts["files"][0]["code"], code);
        let refusal = scene.last_record("import-refused")?;
        assert_eq!(refusal["predicate"]["facts"]["code"], code, "{refusal}");
        assert_eq!(bytes_below(&paths.quarantine())?, 0, "quarantine is empty");
        assert_eq!(bytes_below(&paths.shelf())?, 0, "the shelf is empty");
    }
    Ok(())
}

#[test]
fn the_facilitys_scanner_looks_at_every_file_that_is_not_too_large_for_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let scanner = folder.path().join("scanner");
    fs::write(&scanner, "#!/bin/sh\nif grep -q EVIL-MARK <&\"$1\"; then exit 1; fi\n")?;
    fs::set_permissions(&scanner, fs::Permissions::from_mode(0o755))?;
    let extra = format!(
        "\n[update]\nevaluation_required = false\nscanner = [{scanner:?}]\nscanner_bytes_max = 1000\n"
    );
    let scene = Scene::with(&Options { extra, ..Options::default() })?;
    let tree = scene.path().join("marked");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("NOTICE"), "This text holds the EVIL-MARK.\n")?;
    fs::write(tree.join("README.md"), "long ".repeat(500))?;
    let volume = scene.facility.publish(&tree, "1.0.0", 1)?;
    assert_refused(&scene.facility.import(&volume)?, "inspect.scan.infected");
    let inspection = scene.last_record("inspection")?;
    let facts = &inspection["predicate"]["facts"];
    assert_eq!((&facts["refused"], &facts["not_scanned"]), (&1.into(), &1.into()), "{facts}");
    let scans: Vec<&str> = facts["files"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|file| file["scan"].as_str())
        .collect();
    assert_eq!(scans, ["infected", "too-large"]);
    Ok(())
}
