//! Models laid out in a release tree: what is taken, what is passed over, what is refused.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use cloister_mint::prepare::{Order, prepare};
use cloister_tokenize::template::Template;
use cloister_weights::{DType, File};
use common::{CHATML, model};

fn order(model: PathBuf) -> Order {
    Order { model, quantise: false, template: None, embedding: None }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn bytes_of(path: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn text(path: &Path) -> String {
    String::from_utf8(bytes_of(path)).unwrap()
}

#[test]
fn a_folder_is_taken_as_it_is_with_its_template_as_data() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let prepared = prepare(&tree, &order(model(scratch.path()))).unwrap();
    assert_eq!(prepared.passed_over, ["generation_config.json"]);
    assert_eq!(prepared.chosen_format, None);
    let model = tree.join("model");
    let expected = ["config.json", "model.safetensors", "template.json", "tokenizer.json"];
    assert_eq!(names(&model), expected);
    let template = Template::from_json(&text(&model.join("template.json"))).unwrap();
    assert_eq!(template, Template::from_jinja(CHATML, Default::default()).unwrap());
    assert!(text(&tree.join("provenance/models.json")).contains(r#""model/model.safetensors""#));
}

#[test]
fn quantised_matrices_are_q8_0_and_close_to_what_they_were() {
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    let folder = model(scratch.path());
    prepare(&tree, &Order { quantise: true, ..order(folder.clone()) }).unwrap();
    assert_eq!(names(&tree.join("model")), ["model.gguf", "template.json", "tokenizer.json"]);
    let (before, after) = (
        File::open(&folder.join("model.safetensors")).unwrap(),
        File::open(&tree.join("model/model.gguf")).unwrap(),
    );
    for (old, new, dtype) in [
        ("model.embed_tokens.weight", "token_embd.weight", DType::Q8_0),
        ("model.layers.0.mlp.down_proj.weight", "blk.0.ffn_down.weight", DType::Q8_0),
        ("model.layers.0.self_attn.v_proj.weight", "blk.0.attn_v.weight", DType::Q8_0),
        ("model.norm.weight", "output_norm.weight", DType::F32),
    ] {
        let (old, new) = (before.tensor(old).unwrap(), after.tensor(new).unwrap());
        assert_eq!((old.shape(), new.dtype()), (new.shape(), dtype));
        // Half a step of 2/127, and the scale's own rounding to f16 (2^-11 of at most 2).
        let bound = 1.0 / 127.0 + 2.0f32.powi(-10);
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= bound;
        assert!(old.to_f32().iter().zip(&new.to_f32()).all(near));
    }
    assert_eq!(after.tensors().count(), before.tensors().count());
    assert_eq!(after.metadata().count("llama.attention.head_count_kv").unwrap(), Some(1));
    // A GGUF file is not quantised again, and needs a tokenizer of its own.
    let gguf = tree.join("model/model.gguf");
    assert!(prepare(&tree, &Order { quantise: true, ..order(gguf.clone()) }).is_err());
    assert!(prepare(&tree, &order(gguf)).is_err());
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = model(scratch.path());
    let tree = scratch.path().join("tree");
    for name in ["pytorch_model.bin", "modeling_llama.py", "model-00001-of-00002.safetensors"] {
        fs::write(folder.join(name), b"").unwrap();
        let refusal = prepare(&tree, &order(folder.clone())).unwrap_err();
        assert!(refusal.to_string().contains(name), "{refusal}");
        fs::remove_file(folder.join(name)).unwrap();
    }
    let template = scratch.path().join("t.jinja");
    fs::write(&template, CHATML).unwrap();
    let given = Order { template: Some(template.clone()), ..order(folder) };
    assert!(prepare(&tree, &given).is_ok());
    fs::write(&template, "{{ messages[0].content | reverse }}").unwrap();
    assert!(prepare(&tree, &given).is_err());
    // A format whose control tokens the tokenizer lacks.
    fs::write(&template, CHATML.replace("im_start", "start")).unwrap();
    assert!(prepare(&tree, &given).is_err());
}

#[test]
fn a_model_without_a_template_gets_the_format_of_its_control_tokens() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = model(scratch.path());
    let tree = scratch.path().join("tree");
    fs::write(folder.join("tokenizer_config.json"), b"{}").unwrap();
    let prepared = prepare(&tree, &order(folder)).unwrap();
    assert_eq!(prepared.chosen_format, Some("ChatML"));
    let template = Template::from_json(&text(&tree.join("model/template.json"))).unwrap();
    assert_eq!(template, Template::from_jinja(CHATML, Default::default()).unwrap());
    assert!(text(&tree.join("provenance/models.json")).contains("ChatML"));
}

#[test]
fn numbers_that_are_none_do_not_enter() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = model(scratch.path());
    let path = folder.join("model.safetensors");
    let mut bytes = bytes_of(&path);
    let end = bytes.len();
    bytes[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    assert!(prepare(&scratch.path().join("tree"), &order(folder)).is_err());
}
