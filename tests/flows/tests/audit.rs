//! Exported records convince a second verifier, and a flipped byte is found.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
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
    receipts_and_questions(&scene, &export, &key)?;
    let other = Scene::enrolled()?;
    let foreign = other.log_key()?;
    assert!(!scene.first_verifier(&export, &foreign)?, "another log's key");
    assert!(!scene.second_verifier(&export, &foreign)?, "another log's key");
    Ok(())
}

/// A receipt convinces alone, and the records say what serves and on whose word.
fn receipts_and_questions(scene: &Scene, export: &Path, key: &str) -> Result<()> {
    let utf8 = |path: &Path| path.to_str().map(str::to_owned).context("UTF-8");
    let mut found = Vec::new();
    collect(&export.join("receipts"), &mut found)?;
    let names =
        |end: &str| found.iter().filter(|path| path.to_string_lossy().ends_with(end)).count();
    assert_eq!((names(".receipt"), names(".vsa.json")), (1, 1), "{found:?}");
    let receipt = found.iter().find(|path| path.to_string_lossy().ends_with(".receipt"));
    let receipt = receipt.context("a receipt")?;
    let policy = scene.path().join("policy");
    fs::write(&policy, format!("log {key}\nquorum none\n"))?;
    let check = |path: &Path| {
        let words = ["records", "verify-receipt", &utf8(path)?, "--policy", &utf8(&policy)?]
            .map(str::to_owned);
        scene.facility.cloister(&words.each_ref().map(String::as_str))
    };
    let said = check(receipt)?;
    let outcome = said.done()?["receipts"][0].clone();
    assert_eq!(outcome["event"], "activation-outcome");
    assert_eq!(outcome["facts"]["outcome"], "promoted");
    let text = String::from_utf8(cloister_stage::release::read_file(receipt)?)?;
    let index = outcome["index"].as_u64().context("a position")?;
    let forged = scene.path().join("forged.receipt");
    let other = format!("index {}\n", index - 1);
    fs::write(&forged, text.replacen(&format!("index {index}\n"), &other, 1))?;
    cloister_flows::assert_refused(&check(&forged)?, "record.verification");

    let generation = scene.active().context("a release is active")?;
    let folder = utf8(export)?;
    let about =
        ["records", "about", generation.get(..16).context("a digest")?, "--export", &folder];
    let said = scene.facility.cloister(&about)?;
    let events: Vec<String> = said.done()?["records"]
        .as_array()
        .context("records")?
        .iter()
        .filter_map(|record| Some(record["event"].as_str()?.to_owned()))
        .collect();
    for (event, count) in [("import-accepted", 1), ("approval", 2), ("verification-summary", 1)] {
        let found = events.iter().filter(|found| *found == event).count();
        assert_eq!(found, count, "{event}: {events:?}");
    }
    // The log itself answers as its export does.
    let live = scene.facility.cloister(&about[..3])?;
    assert_eq!(live.done()?, said.done()?);
    let since = scene.facility.cloister(&["records", "changes", "--since", &index.to_string()])?;
    let first = since.done()?["records"][0]["seq"].as_u64();
    assert_eq!(first, Some(index));
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
