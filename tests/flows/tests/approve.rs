//! Two distinct persons approve, or nothing is activated.

use anyhow::Result;
use cloister_flows::{Scene, assert_refused};

#[test]
fn one_approver_alone_is_refused_and_the_refusal_is_recorded() -> Result<()> {
    let scene = Scene::enrolled()?;
    let import = scene.import(&scene.volume("v1", "1.0.0", 1)?)?;
    assert_refused(&scene.facility.cloister(&["activate", &import])?, "approval.threshold");
    scene.facility.approve_as("ada", &import)?.done()?;
    assert_refused(&scene.facility.cloister(&["activate", &import])?, "approval.threshold");
    let again = scene.facility.approve_as("ada", &import)?;
    assert_ne!(again.exit, 0, "the same person again does not count");
    assert_refused(&scene.facility.cloister(&["activate", &import])?, "approval.threshold");
    assert_eq!(scene.active(), None);
    assert!(scene.events()?.iter().any(|event| event == "act-refused"));
    scene.facility.approve_as("bob", &import)?.done()?;
    scene.facility.cloister(&["activate", &import])?.done()?;
    assert!(scene.active().is_some());
    Ok(())
}

#[test]
fn a_stranger_and_the_publisher_cannot_approve() -> Result<()> {
    let scene = Scene::enrolled()?;
    let import = scene.import(&scene.volume("v1", "1.0.0", 1)?)?;
    for person in ["stranger", "publisher", "importer"] {
        assert_refused(&scene.facility.approve_as(person, &import)?, "approval.unknown-signer");
    }
    Ok(())
}

#[test]
fn a_rejection_outweighs_approvals() -> Result<()> {
    let scene = Scene::enrolled()?;
    let import = scene.import(&scene.volume("v1", "1.0.0", 1)?)?;
    scene.facility.approve_as("ada", &import)?.done()?;
    let key = scene.facility.key("bob");
    scene.facility.cloister(&["approve", &import, "--key", key.to_str().unwrap(), "--reject"])?;
    assert_ne!(scene.facility.cloister(&["activate", &import])?.exit, 0);
    assert_eq!(scene.active(), None);
    Ok(())
}
