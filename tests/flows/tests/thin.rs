//! A thin bundle carries what the enclave does not hold; what it counted on in vain is asked for.

use anyhow::{Context as _, Result};
use cloister_domain::Digest;
use cloister_flows::{Scene, assert_refused};
use cloister_stage::release::read_file;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Takes a receipt of what the appliance holds; its path, and the host key.
fn receipt(scene: &Scene, name: &str) -> Result<(PathBuf, String)> {
    let file = scene.path().join(name);
    let said = scene.facility.cloister(&["inventory", path(&file)?])?;
    let said = said.done()?;
    let key = said["host_key"].as_str().context("no key")?.to_owned();
    Ok((file, key))
}

fn bytes(files: &[PathBuf]) -> Result<u64> {
    files.iter().try_fold(0, |sum, file| Ok(sum + fs::metadata(file)?.len()))
}

/// Lays out a release with a file of several chunks, which begins with `first`.
fn tree(scene: &Scene, documents: &str, first: &str) -> Result<PathBuf> {
    let tree = scene.tree(documents)?;
    let mut text = format!("{first}\n");
    let mut line = Digest::of(b"ledger");
    while text.len() < 8 << 20 {
        text.push_str(&line.to_string());
        line = Digest::of(line.as_bytes());
    }
    fs::create_dir_all(tree.join("provenance"))?;
    fs::write(tree.join("provenance/ledger.txt"), text)?;
    Ok(tree)
}

/// What a dry run says of a volume, and of what would be missing.
fn foreseen(scene: &Scene, volume: &Path) -> Result<(Value, Value)> {
    let outcome = scene.facility.cloister(&["import", "--dry-run", path(volume)?])?;
    anyhow::ensure!(outcome.exit == 0, "{:?}", outcome.said);
    let event = |name| outcome.said.iter().find_map(|said| said.get(name)).context("no event");
    Ok((event("forecast")?.clone(), event("checked")?["missing"].clone()))
}

#[test]
fn a_thin_bundle_is_filled_in_from_the_shelf() -> Result<()> {
    let scene = Scene::enrolled()?;
    let first = scene.facility.publish(&tree(&scene, "v1", "one")?, "1.0.0", 1)?;
    let import = scene.facility.import(&first)?;
    assert_eq!(import.done()?["state"], "awaiting-approval");
    let (receipt, key) = receipt(&scene, "receipt")?;
    let tree = tree(&scene, "v2", "one and a word more")?;
    let words = ["--thin", path(&receipt)?, "--host-key", &key];
    let thin = scene.facility.publish_with(&tree, "2.0.0", 2, &words)?;
    assert!(bytes(&thin)? * 2 < bytes(&[first])?, "{} bytes", bytes(&thin)?);
    // A look ahead counts what the volume carries, and what the shelf has in its stead.
    let (forecast, missing) = foreseen(&scene, &thin[0])?;
    assert_eq!(forecast["left_out_chunks"], forecast["filled_chunks"], "{forecast}");
    let carried = forecast["chunks"].as_u64() > forecast["read_chunks"].as_u64();
    assert!(carried && forecast["filled_chunks"].as_u64() > Some(0), "{forecast}");
    assert!(forecast["read_bytes"].as_u64() < Some(bytes(&thin)?), "{forecast}");
    assert_eq!(missing["chunks"], 0, "{missing}");
    let outcome = scene.facility.import(&thin[0])?;
    assert_eq!(outcome.done()?["state"], "awaiting-approval", "{:?}", outcome.said);
    let listed = scene.last_record("inventory")?;
    assert!(listed["predicate"]["facts"]["chunks"].as_u64() > Some(0), "{listed}");
    // Whoever gets it sees what arrived.
    let trust = &listed["predicate"]["facts"]["trust"];
    assert!(trust["targets_version"].as_u64() > Some(0) && trust["root_version"] == 1, "{listed}");
    // Nobody else's receipt is taken, and none that was changed.
    let mut other = read_file(&receipt)?;
    *other.last_mut().context("ids")? ^= 1;
    let changed = scene.path().join("changed");
    fs::write(&changed, other)?;
    let words = ["--thin", path(&changed)?, "--host-key", &key];
    assert!(scene.facility.publish_with(&tree, "2.0.1", 3, &words).is_err());
    Ok(())
}

#[test]
fn what_a_thin_bundle_counted_on_in_vain_is_asked_for() -> Result<()> {
    // The receipt of another appliance, which holds the first release.
    let scene = Scene::enrolled()?;
    let holder = Scene::enrolled()?;
    let first = tree(&holder, "v1", "one")?;
    holder.facility.import(&holder.facility.publish(&first, "1.0.0", 1)?)?.done()?;
    let (receipt, key) = receipt(&holder, "receipt")?;

    let tree = tree(&scene, "v2", "one and a word more")?;
    let words = ["--thin", path(&receipt)?, "--host-key", &key];
    let thin = scene.facility.publish_with(&tree, "2.0.0", 2, &words)?;
    let (forecast, foreseen) = foreseen(&scene, &thin[0])?;
    let outcome = scene.facility.import(&thin[0])?;
    assert_refused(&outcome, "intake.chunks.needed");
    let parted = outcome.said.iter().find_map(|said| said.get("parted")).context("no end")?;
    assert!(parted["missing"]["needs"].as_u64() > Some(0), "{parted}");
    assert_eq!(parted["missing"]["volumes"], Value::Array(Vec::new()), "no volume has them");
    assert_eq!(parted["missing"], foreseen, "as was foreseen");
    assert_eq!(forecast["left_out_chunks"], foreseen["needs"]);
    assert_eq!(forecast["filled_chunks"], 0);
    let import = parted["import"].to_string();
    let request = scene.path().join("request");
    let said = scene.facility.cloister(&["inventory", path(&request)?, "--needs", &import])?;
    assert_eq!(said.done()?["chunks"], parted["missing"]["needs"]);

    // The same release with what was asked for: the import is whole.
    let words = ["--request", path(&request)?];
    let rest = scene.facility.publish_with(&tree, "2.0.0", 2, &words)?;
    let outcome = scene.facility.import(&rest[0])?;
    assert_eq!(outcome.done()?["state"], "awaiting-approval", "{:?}", outcome.said);
    assert_eq!(import, outcome.done()?["import"].to_string());
    Ok(())
}
