//! What must not come in is refused with a typed error, and each refusal leaves a record.

use anyhow::Result;
use cloister_flows::{Scene, assert_refused};
use cloister_stage::{facility::Outcome, release::Recipe, tamper};
use std::{path::Path, process::Command};

/// Refused with `code`, and the newest refusal in the log says so.
fn refused_and_recorded(scene: &Scene, outcome: &Outcome, code: &str) -> Result<()> {
    assert_refused(outcome, code);
    let record = scene.last_record("import-refused")?;
    assert!(record["predicate"].to_string().contains(code), "{code} in {record}");
    Ok(())
}

#[test]
fn a_tampered_chunk() -> Result<()> {
    let scene = Scene::enrolled()?;
    let bad = scene.path().join("tampered.clb");
    tamper::flip_a_bit(&scene.volume("v1", "1.0.0", 1)?, &bad, 1 << 20)?;
    refused_and_recorded(&scene, &scene.facility.import(&bad)?, "bundle.digest")?;
    assert_eq!(scene.active(), None);
    Ok(())
}

#[test]
fn a_wrong_signer() -> Result<()> {
    let scene = Scene::serving()?;
    // The importer's own mint would not admit it, so it comes as its signer made it.
    let volume = scene.facility.sign("stranger", &scene.tree("v2")?, "2.0.0", 2)?;
    refused_and_recorded(
        &scene,
        &scene.facility.import(&volume)?,
        "bundle.signature.unknown-signer",
    )
}

#[test]
fn the_first_release_offered_again_as_new() -> Result<()> {
    let scene = Scene::enrolled()?;
    let old = scene.volume("v1", "1.0.0", 1)?;
    scene.facility.promote(&old)?;
    scene.promote("v2", "2.0.0", 2)?;
    refused_and_recorded(&scene, &scene.facility.import(&old)?, "bundle.rollback")
}

#[test]
fn an_archive_with_a_symbolic_link() -> Result<()> {
    let scene = Scene::enrolled()?;
    let bad = scene.path().join("link.clb");
    tamper::symlink_inside(&scene.volume("v1", "1.0.0", 1)?, &bad)?;
    refused_and_recorded(&scene, &scene.facility.import(&bad)?, "bundle.container.header")
}

#[test]
fn a_worse_model() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active();
    let good = Recipe::demo("v2", None);
    let noisy = scene.path().join("noisy");
    noise(&good.model, &noisy)?;
    let tree = Recipe { model: noisy, ..good }.lay_out(&scene.facility, "worse")?;
    let volume = scene.facility.publish(&tree, "2.0.0", 2)?;
    refused_and_recorded(&scene, &scene.facility.import(&volume)?, "evaluation.worse")?;
    assert_eq!(scene.active(), first, "the active release stays");
    let client = scene.client("ada", &["open"])?;
    assert_eq!(client.ask("Where is the assembly point?")?["evidence"], true);
    Ok(())
}

/// The same weights with noise.
fn noise(model: &Path, to: &Path) -> Result<()> {
    let status = Command::new(cloister_stage::programs()?.join("cloister-tune"))
        .args(["noise", "--model"])
        .arg(model)
        .arg("--out")
        .arg(to)
        .args(["--amplitude", "0.3", "--seed", "1"])
        .status()?;
    anyhow::ensure!(status.success(), "cloister-tune failed");
    Ok(())
}
