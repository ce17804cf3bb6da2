//! A language model of the smallest size that every check accepts: one layer of random weights, and
//! a tokenizer of single bytes.

use std::{fs, path::Path};

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::Dice;

const WIDTH: usize = 32;
const INNER: usize = 32;
const VOCABULARY: usize = 258;
const TEMPLATE: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + \
    '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Writes the files of a Hugging Face folder into `folder`.
pub(super) fn write(folder: &Path, dice: &mut Dice) -> Result<()> {
    fs::create_dir_all(folder)?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "max_position_embeddings": 128, "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "tie_word_embeddings": true,
        "eos_token_id": 257,
    });
    fs::write(folder.join("config.json"), config.to_string())?;
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string())?;
    let settings = json!({ "chat_template": TEMPLATE });
    fs::write(folder.join("tokenizer_config.json"), settings.to_string())?;
    fs::write(folder.join("model.safetensors"), weights(dice))?;
    Ok(())
}

/// GPT-2's alphabet, every byte as one visible character, and two words of control.
fn tokenizer() -> Value {
    let visible = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut hidden = 256u32..;
    let letter = |byte: u32| if visible(byte) { Some(byte) } else { hidden.next() };
    let vocabulary: Map<String, Value> = (0..256u32)
        .map(letter)
        .enumerate()
        .filter_map(|(id, code)| Some((char::from_u32(code?)?.to_string(), json!(id))))
        .collect();
    let control = |id: u32, text: &str| {
        json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [control(256, "<|im_start|>"), control(257, "<|im_end|>")],
        "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                  "vocab": vocabulary, "merges": []},
    })
}

/// A safetensors file of bf16 numbers between -2 and 2.
fn weights(dice: &mut Dice) -> Vec<u8> {
    let layer = |part: &str| format!("model.layers.0.{part}.weight");
    let (square, inner) = (vec![WIDTH, WIDTH], vec![INNER, WIDTH]);
    let tensors = [
        ("model.embed_tokens.weight".to_owned(), vec![VOCABULARY, WIDTH]),
        ("model.norm.weight".to_owned(), vec![WIDTH]),
        (layer("input_layernorm"), vec![WIDTH]),
        (layer("post_attention_layernorm"), vec![WIDTH]),
        (layer("self_attn.q_proj"), square.clone()),
        (layer("self_attn.k_proj"), square.clone()),
        (layer("self_attn.v_proj"), square.clone()),
        (layer("self_attn.o_proj"), square),
        (layer("mlp.gate_proj"), inner.clone()),
        (layer("mlp.up_proj"), inner),
        (layer("mlp.down_proj"), vec![WIDTH, INNER]),
    ];
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape) in tensors {
        let start = data.len();
        for _number in 0..shape.iter().product::<usize>() {
            // ±1 to ±2 in steps of 1/128: an exponent of zero, seven bits of fraction, a sign.
            let chance = dice.roll();
            let bits = 0x3f80 | (chance & 0x7f) | ((chance >> 7 & 1) << 15);
            data.extend(u16::try_from(bits).expect("16 bits").to_le_bytes());
        }
        let entry = json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()]});
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}
