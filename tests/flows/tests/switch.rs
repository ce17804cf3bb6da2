//! A second release is promoted while the first serves, and both ways back are one command.

use anyhow::Result;
use cloister_flows::{Client, Scene};
use std::collections::BTreeSet;

const QUESTION: &str = "Where is the assembly point?";
const FIRST: &str = "north car park";
const SECOND: &str = "orchard";

#[test]
fn no_request_fails_and_none_mixes_two_releases() -> Result<()> {
    let scene = Scene::serving()?;
    let first = scene.active().unwrap();
    let client = scene.client("ada", &["open"])?;
    let first_document = top_document(&client, FIRST)?;
    let asking = client.keep_asking(QUESTION)?;
    scene.promote("v2", "2.0.0", 2)?;
    let second = scene.active().unwrap();
    assert_ne!(first, second);
    let second_document = top_document(&client, SECOND)?;
    scene.facility.cloister(&["rollback"])?.done()?;
    assert_eq!(scene.active().unwrap(), first);
    scene.facility.cloister(&["rollback", "--to", &second])?.done()?;
    let answers = asking.answers()?;
    let mut seen = BTreeSet::new();
    for said in &answers {
        let generation = said["generation"].as_str().unwrap();
        let (own, other) = if generation == first {
            (&first_document, &second_document)
        } else {
            (&second_document, &first_document)
        };
        let cited = said["documents"].as_array().unwrap();
        assert!(cited.contains(own) && !cited.contains(other), "{said}");
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
    top_document(&client, SECOND)?;
    let back = scene.facility.cloister(&["rollback"])?;
    let switched = &back.done()?["switched"];
    assert!(switched["microseconds"].as_u64() < Some(1_000_000), "{switched}");
    top_document(&client, FIRST)?;
    let said = client.ask(QUESTION)?;
    for citation in said["citations"].as_array().unwrap() {
        let text = client.act(&["cite", citation["id"].as_str().unwrap()])?;
        assert!(!text["text"].as_str().unwrap().contains(SECOND), "{text}");
    }
    scene.facility.cloister(&["rollback"])?.done()?;
    top_document(&client, SECOND)?;
    Ok(())
}

/// The best document for the question; the passage that is cited holds `fact`.
fn top_document(client: &Client, fact: &str) -> Result<serde_json::Value> {
    let said = client.ask(QUESTION)?;
    let citation = &said["citations"][0];
    let passage = client.act(&["cite", citation["id"].as_str().unwrap_or_default()])?;
    assert!(passage["text"].as_str().unwrap_or_default().contains(fact), "{fact} in {passage}");
    Ok(citation["document"].clone())
}
