//! A language model as somebody brings it, small.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// The format that the model brings.
pub(crate) const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + \
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

/// Lays a model of one layer below `at`; its folder.
pub(crate) fn model(at: &Path) -> PathBuf {
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
