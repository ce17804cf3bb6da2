//! Exported records convince a second verifier, and a flipped byte is found.

use std::{fs, path::Path};

use anyhow::Result;
use cloister_flows::Scene;

#[test]
fn both_verifiers_accept_the_export_and_find_a_flipped_byte() -> Result<()> {
    let scene = Scene::serving()?;
    let export = scene.path().join("export");
    scene.facility.cloister(&["records", "export", export.to_str().unwrap()])?.done()?;
    let key = scene.log_key()?;
    assert!(scene.first_verifier(&export, &key)?, "the first verifier refuses a good export");
    assert!(scene.second_verifier(&export, &key)?, "the second verifier refuses a good export");
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
            assert!(!scene.first_verifier(&export, &key)?, "{} byte {place}", file.display());
            assert!(!scene.second_verifier(&export, &key)?, "{} byte {place}", file.display());
        }
        fs::write(file, &good)?;
    }
    let other = Scene::enrolled()?;
    let foreign = other.log_key()?;
    assert!(!scene.first_verifier(&export, &foreign)?, "another log's key");
    assert!(!scene.second_verifier(&export, &foreign)?, "another log's key");
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
