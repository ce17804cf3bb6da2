//! Exported records convince a second verifier, and a flipped byte is found.

use anyhow::{Context as _, Result};
use cloister_flows::Scene;
use cloister_stage::{Unit, ask, outside};
use cloister_wire::{
    Reply,
    record::{Answer, Request},
};
use std::{fs, path::Path, process::Command};

fn log_key(scene: &Scene) -> Result<String> {
    let reply: Reply<Answer> = ask(&scene.stage().socket(Unit::Recordd), &Request::Head)?;
    match reply? {
        Answer::Head { log_key, .. } => Ok(log_key),
        other => anyhow::bail!("recordd said {other:?}"),
    }
}

fn second_verifier(scene: &Scene, export: &Path, key: &str) -> Result<bool> {
    let output = Command::new(outside::python()?)
        .arg(cloister_stage::release::checkout().join("appliance/record/audit.py"))
        .arg(export)
        .args(["--log-key", key, "--root"])
        .arg(scene.facility.root_file())
        .output()?;
    Ok(output.status.success())
}

fn first_verifier(scene: &Scene, export: &Path, key: &str) -> Result<bool> {
    let root = scene.facility.root_file();
    let words = [
        "records",
        "verify",
        export.to_str().context("UTF-8")?,
        "--log-key",
        key,
        "--root",
        root.to_str().context("UTF-8")?,
    ];
    Ok(scene.facility.cloister(&words)?.exit == 0)
}

#[test]
fn both_verifiers_accept_the_export_and_find_a_flipped_byte() -> Result<()> {
    let scene = Scene::serving()?;
    let export = scene.path().join("export");
    scene.facility.cloister(&["records", "export", export.to_str().unwrap()])?.done()?;
    let key = log_key(&scene)?;
    assert!(first_verifier(&scene, &export, &key)?, "the first verifier refuses a good export");
    assert!(second_verifier(&scene, &export, &key)?, "the second verifier refuses a good export");
    let mut files = Vec::new();
    collect(&export, &mut files)?;
    let logged: Vec<_> = files
        .iter()
        .filter(|path| path.ends_with("checkpoint") || path.to_string_lossy().contains("/tile/"))
        .collect();
    assert!(logged.len() >= 3, "{files:?}");
    for file in logged {
        let good = cloister_stage::release::read_file(file)?;
        // The last tens of bytes of a checkpoint are in its signature.
        for place in [0, good.len() / 3, good.len() - 20, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 4;
            fs::write(file, &bad)?;
            assert!(!first_verifier(&scene, &export, &key)?, "{} byte {place}", file.display());
            assert!(!second_verifier(&scene, &export, &key)?, "{} byte {place}", file.display());
        }
        fs::write(file, &good)?;
    }
    let other = Scene::enrolled()?;
    let foreign = log_key(&other)?;
    assert!(!first_verifier(&scene, &export, &foreign)?, "another log's key");
    assert!(!second_verifier(&scene, &export, &foreign)?, "another log's key");
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
