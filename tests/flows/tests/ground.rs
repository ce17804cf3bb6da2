//! Answers come with their sources, and only with those that the reader may see.

use anyhow::Result;
use cloister_flows::Scene;

#[test]
fn an_answer_cites_the_passage_it_stands_on() -> Result<()> {
    let scene = Scene::serving()?;
    let client = scene.client("ada", &["open"])?;
    let said = client.ask("Where is the assembly point?")?;
    assert!(!said["answer"].as_str().unwrap().is_empty(), "{said}");
    let citation = &said["citations"][0];
    assert_eq!(citation["label"], "open");
    let id = citation["id"].as_str().unwrap();
    let opened = client.act(&["cite", id])?;
    assert!(opened["text"].as_str().unwrap().contains("north car park"));
    let (start, end) = (citation["range"][0].as_u64(), citation["range"][1].as_u64());
    assert!(start < end);
    let digest = cloister_domain::Digest::of(opened["text"].as_str().unwrap().as_bytes());
    assert_eq!(citation["chunk"], digest.to_string());
    let streamed = client.act(&["ask", "Where is the assembly point?", "--stream"])?;
    assert_eq!(streamed["answer"], said["answer"]);
    assert_eq!(streamed["citations"], said["citations"]);
    Ok(())
}

#[test]
fn nothing_found_is_said_and_not_guessed() -> Result<()> {
    let scene = Scene::serving()?;
    let client = scene.client("ada", &["open"])?;
    let said = client.ask("Which wine goes with zebra pralines?")?;
    assert_eq!(said["evidence"], false, "{said}");
    assert_eq!(said["citations"], serde_json::json!([]));
    assert!(said["answer"].as_str().unwrap().starts_with("No evidence"));
    Ok(())
}

#[test]
fn a_reader_without_the_label_gets_no_hit_and_opens_no_citation() -> Result<()> {
    let scene = Scene::serving()?;
    let question = "How much does the hall crane lift?";
    let chief = scene.client("chief", &["open", "restricted"])?;
    let seen = chief.ask(question)?;
    assert_eq!(seen["citations"][0]["label"], "restricted", "{seen}");
    let guest = scene.client("guest", &["open"])?;
    let hidden = guest.ask(question)?;
    let labels = hidden["citations"].as_array().unwrap();
    assert!(labels.iter().all(|citation| citation["label"] == "open"), "{hidden}");
    let id = seen["citations"][0]["id"].as_str().unwrap();
    let refused = guest.act(&["cite", id])?;
    assert_eq!(
        (refused["status"].as_u64(), refused["code"].as_str()),
        (Some(404), Some("citation_not_found"))
    );
    let absent =
        guest.act(&["cite", &id.replace(char::is_numeric, "0").replace(":0-0", ":0-1")])?;
    assert_eq!(refused["message"], absent["message"], "hidden and absent look the same");
    Ok(())
}

#[test]
fn the_facilitys_own_documents_are_added_and_deleted_with_a_receipt() -> Result<()> {
    let scene = Scene::serving()?;
    let folder = cloister_stage::release::checkout().join("tests/fixtures/demo/facility");
    let added =
        scene.facility.cloister(&["corpus", "add", folder.to_str().unwrap(), "--label", "open"])?;
    added.done()?;
    assert_eq!(added.said.len(), 3);
    let client = scene.client("ada", &["open"])?;
    let question = "Who is the keeper of the tool crib?";
    let said = client.ask(question)?;
    let document = said["citations"][0]["document"].as_str().unwrap().to_owned();
    assert_eq!(said["citations"][0]["collection"], "facility", "{said}");
    let deleted = scene.facility.cloister(&["corpus", "delete", &document])?;
    let receipt = deleted.done()?;
    assert_eq!(receipt["document"], document);
    assert!(receipt["chunks"].as_u64() > Some(0));
    let after = client.ask(question)?;
    let cited = after["citations"].as_array().unwrap();
    assert!(cited.iter().all(|citation| citation["document"] != document), "{after}");
    assert!(!holds(&scene.stage().config().paths.corpus(), b"Aldrake")?, "a byte of it is left");
    let record = scene.last_record("document-deleted")?;
    assert!(record.to_string().contains(&document));
    Ok(())
}

/// Whether any file below `folder` holds these bytes.
fn holds(folder: &std::path::Path, needle: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            holds(&path, needle)?
        } else {
            cloister_stage::release::read_file(&path)?
                .windows(needle.len())
                .any(|window| window == needle)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}
