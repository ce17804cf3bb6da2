//! The official `openai` client is served by the promoted release.

use anyhow::Result;
use cloister_flows::Scene;
use cloister_stage::{outside, release::Recipe};

#[test]
fn the_official_client_chats_streams_and_lists() -> Result<()> {
    let scene = Scene::serving()?;
    let client = scene.client("ada", &["open"])?;
    let models = client.act(&["models"])?;
    assert_eq!(models["models"][0], "default");
    let question = "What is a system message for?";
    let whole = client.act(&["chat", question, "--max-tokens", "12"])?;
    assert!(whole["tokens"].as_u64() > Some(0), "{whole}");
    let streamed = client.act(&["stream", question, "--max-tokens", "12"])?;
    assert_eq!(streamed["answer"], whole["answer"], "streaming changes nothing");
    assert_eq!(streamed["tokens"], whole["tokens"]);
    Ok(())
}

#[test]
fn a_wrong_key_is_refused() -> Result<()> {
    let scene = Scene::serving()?;
    let key = scene.facility.api_key("ada", &["open"])?;
    std::fs::write(&key, "clk_00000000_0000")?;
    let base = format!("http://{}/v1", scene.facility.address()?);
    let output = std::process::Command::new(outside::python()?)
        .arg(cloister_stage::release::checkout().join("tests/clients/openai_client.py"))
        .args([&base, key.to_str().unwrap(), "models"])
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    assert!(said.contains("\"status\": 401") && said.contains("invalid_api_key"), "{said}");
    Ok(())
}

#[test]
fn embeddings_bring_like_texts_together() -> Result<()> {
    let scene = Scene::enrolled()?;
    let tree =
        Recipe::demo("v1", Some(outside::minilm()?)).lay_out(&scene.facility, "embedding")?;
    scene.facility.promote(&scene.facility.publish(&tree, "1.0.0", 1)?)?;
    let client = scene.client("ada", &["open"])?;
    let said =
        client.act(&["embed", "The cat sleeps.", "A kitten is asleep.", "The pump needs oil."])?;
    assert_eq!((said["vectors"].as_u64(), said["width"].as_u64()), (Some(3), Some(384)));
    let product = |index: usize| said["products"][index].as_f64().unwrap();
    assert!((product(0) - 1.0).abs() < 1e-3, "unit length: {said}");
    assert!(product(1) > product(2) + 0.2, "{said}");
    let found = client.ask("Where do people gather in an emergency?")?;
    assert_eq!(found["citations"][0]["words_only"], false, "{found}");
    Ok(())
}
