//! The trust root is enrolled once, from a file off the stick, and is record 0.

use anyhow::Result;
use cloister_flows::{Scene, assert_refused};
use cloister_stage::Options;

#[test]
fn the_enrolled_root_is_record_0_and_is_enrolled_once() -> Result<()> {
    let scene = Scene::enrolled()?;
    let records = scene.records()?;
    assert_eq!(scene.events()?, ["anchor-enrolment", "policy-change", "configuration"]);
    let root = records[0]["subject"][0]["digest"]["sha256"].as_str().unwrap_or_default();
    let shown =
        scene.facility.cloister(&["enrol", scene.facility.root_file().to_str().unwrap()])?;
    let shown = shown.done()?;
    assert_eq!(shown["root"], root, "the record names the file that was confirmed");
    assert_eq!(shown["words"].as_str().unwrap().split(' ').count(), 16);
    let file = scene.facility.root_file();
    let again = scene.facility.cloister(&["enrol", file.to_str().unwrap(), "--confirm", root])?;
    assert_refused(&again, "trust.already-enrolled");
    Ok(())
}

#[test]
fn another_digest_than_the_confirmed_one_is_refused() -> Result<()> {
    let scene = Scene::new(&Options::default())?;
    let file = scene.facility.root_file();
    let wrong = "0".repeat(64);
    let refused =
        scene.facility.cloister(&["enrol", file.to_str().unwrap(), "--confirm", &wrong])?;
    assert_refused(&refused, "bundle.trust.confirmed");
    assert!(!scene.events()?.contains(&"anchor-enrolment".to_owned()));
    scene.facility.enrol()?;
    assert!(scene.events()?.contains(&"anchor-enrolment".to_owned()));
    Ok(())
}
