//! Models laid out in a release tree: what is taken, what is passed over, what is refused.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use cloister_mint::prepare::{Order, prepare};
use cloister_tokenize::template::Template;
use cloister_weights::{DType, File};
use serde_json::{Value, json};

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + \
    '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

fn tokenizer() -> Value {
    cloister_samples::tokenizer::byte_level(&[], &["<|im_start|>", "<|im_end|>"])
}

/// A safetensors file of bf16 numbers that differ.
fn safetensors(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let start = data.len();
        for number in 0..shape.iter().product::<usize>() {
            // ±1 to ±2 in steps of 1/128.
            let fraction = u16::try_from(number * 37 % 128).unwrap();
            let bits = 0x3f80 + fraction + u16::from(number % 3 == 0) * 0x8000;
            data.extend(bits.to_le_bytes());
        }
        header.insert(
            name.clone(),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn model(at: &Path) -> PathBuf {
    let folder = at.join("model-in");
    fs::create_dir_all(&folder).unwrap();
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![258, 64]),
        ("model.norm.weight".to_owned(), vec![64]),
    ];
    for (part, shape) in [
        ("input_layernorm", vec![64]),
        ("post_attention_layernorm", vec![64]),
        ("self_attn.q_proj", vec![64, 64]),
        ("self_attn.k_proj", vec![32, 64]),
        ("self_attn.v_proj", vec![32, 64]),
        ("self_attn.o_proj", vec![64, 64]),
        ("mlp.gate_proj", vec![96, 64]),
        ("mlp.up_proj", vec![96, 64]),
        ("mlp.down_proj", vec![64, 96]),
    ] {
        tensors.push((format!("model.layers.0.{part}.weight"), shape));
    }
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
        "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 128, "vocab_size": 258,
        "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "tie_word_embeddings": true,
        "eos_token_id": 257,
    });
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
    write("config.json", config.to_string().as_bytes());
    write("tokenizer.json", tokenizer().to_string().as_bytes());
    write("tokenizer_config.json", json!({"chat_template": CHATML}).to_string().as_bytes());
    write("generation_config.json", b"{}");
    write("model.safetensors", &safetensors(&tensors));
    folder
}

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
