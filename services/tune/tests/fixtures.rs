//! The demonstration's evaluation set fits its documents, the prompt format and the held-out text.

#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the tree's own small files are read whole")]

use std::fs;
use std::path::{Path, PathBuf};

use cloister_tune::conversation;
use cloister_tune::prose;
use serde_json::Value;

fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/demo").join(name)
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&fs::read(demo(name)).unwrap()).unwrap()
}

/// All documents of a version: path in the bundle, and text with white space collapsed.
fn documents(version: &str) -> Vec<(String, String)> {
    let collections = json(&format!("documents/{version}/collections.json"));
    let mut out = Vec::new();
    for collection in collections["collections"].as_array().unwrap() {
        for document in collection["documents"].as_array().unwrap() {
            let path = document["path"].as_str().unwrap();
            let inside = path.strip_prefix("documents/").unwrap();
            let text = fs::read_to_string(demo(&format!("documents/{version}/{inside}"))).unwrap();
            out.push((path.to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    out
}

#[test]
fn golden_questions_are_written_as_the_prompt_format_says_and_can_be_answered() {
    let documents = documents("v1");
    for golden in json("evaluation/evaluation.json")["golden"].as_array().unwrap() {
        if golden["messages"][0]["role"] != "system" {
            continue;
        }
        let system = golden["messages"][0]["content"].as_str().unwrap();
        let mut passages = Vec::new();
        for block in system.split("\n\n").skip(1) {
            passages.push(block.split_once("] ").unwrap().1);
        }
        assert_eq!(conversation::system(&passages), system);
        for passage in &passages {
            assert!(documents.iter().any(|(_, text)| text.contains(passage)), "{passage}");
        }
        let expected = golden["expect_any"].as_array().unwrap();
        for one in expected {
            let holding = passages.iter().filter(|p| p.contains(one.as_str().unwrap())).count();
            assert_eq!(holding, 1, "{one} is in one passage");
        }
        assert_eq!(golden["messages"][1]["role"], "user");
    }
}

#[test]
fn retrieval_expects_documents_that_both_versions_hold() {
    let (v1, v2) = (documents("v1"), documents("v2"));
    for query in json("evaluation/evaluation.json")["retrieval"].as_array().unwrap() {
        let expected = query["expect_document"].as_str().unwrap();
        assert!(v1.iter().any(|(path, _)| path == expected), "{expected}");
        assert!(v2.iter().any(|(path, _)| path == expected), "{expected}");
    }
    let changed: Vec<_> = v1.iter().zip(&v2).filter(|(a, b)| a != b).map(|(a, _)| &a.0).collect();
    assert_eq!(changed, ["documents/handbook/emergencies.md"]);
}

#[test]
fn the_held_out_text_is_what_training_leaves_out() {
    let kept = fs::read_to_string(demo("evaluation/heldout.txt")).unwrap();
    assert_eq!(kept, prose::read().unwrap().held_out);
}
