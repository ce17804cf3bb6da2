//! A second release is promoted while the first serves, and both ways back are one command.

use anyhow::Result;
use cloister_flows::Scene;
use std::collections::BTreeSet;

const QUESTION: &str = "Where is the assembly point?";
const FIRST: &str = "north car park";
const SECOND: &str = "orchard";

#[test]
fn no_request_fails_and_none_mixes_two_releases() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let client = scene.client("ada", &["open"])?;
    let asking = client.keep_asking(QUESTION)?;
    scene.promote("v2", "2.0.0", 2)?;
    let second = scene.active().unwrap();
    assert_ne!(first, second);
    scene.facility.cloister(&["rollback"])?.done()?;
    assert_eq!(scene.active().unwrap(), first);
    scene.facility.cloister(&["rollback", "--to", &second])?.done()?;
    let answers = asking.answers()?;
    let mut seen = BTreeSet::new();
    for said in &answers {
        let generation = said["generation"].as_str().unwrap();
        let answer = said["answer"].as_str().unwrap();
        let (own, other) = if generation == first { (FIRST, SECOND) } else { (SECOND, FIRST) };
        assert!(answer.contains(own) && !answer.contains(other), "{said}");
        seen.insert(generation.to_owned());
    }
    assert!(seen.contains(&first), "{} answers", answers.len());
    Ok(())
}

#[test]
fn after_a_rollback_search_finds_the_first_releases_document_only() -> Result<()> {
    let scene = Scene::serving()?;
    scene.promote("v2", "2.0.0", 2)?;
    let client = scene.client("ada", &["open"])?;
    assert!(client.ask(QUESTION)?["answer"].as_str().unwrap().contains(SECOND));
    let back = scene.facility.cloister(&["rollback"])?;
    let switched = &back.done()?["switched"];
    assert!(switched["microseconds"].as_u64() < Some(1_000_000), "{switched}");
    let said = client.ask(QUESTION)?;
    assert!(said["answer"].as_str().unwrap().contains(FIRST), "{said}");
    for citation in said["citations"].as_array().unwrap() {
        let text = client.act(&["cite", citation["id"].as_str().unwrap()])?;
        assert!(!text["text"].as_str().unwrap().contains(SECOND), "{text}");
    }
    scene.facility.cloister(&["rollback"])?.done()?;
    assert!(client.ask(QUESTION)?["answer"].as_str().unwrap().contains(SECOND));
    Ok(())
}
