//! A byte-level tokenizer as the Python package `tokenizers` writes it.

use serde_json::{Map, Value, json};

/// The content of a `tokenizer.json`: 256 bytes, whose ids are the bytes; behind them what each of
/// `merges` makes of two tokens, and then the control tokens, in their order.
///
/// # Panics
/// Never: each byte has a letter.
#[must_use]
pub fn byte_level(merges: &[(&str, &str)], controls: &[&str]) -> Value {
    // GPT-2's alphabet: what can be seen stands for itself, the rest for letters from U+0100 on.
    let visible = |byte: u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut hidden = 0x100..;
    let letters = (0..=0xFF).map(|byte| if visible(byte) { Some(byte) } else { hidden.next() });
    let letter = |code: Option<u32>| code.and_then(char::from_u32).expect("a letter").to_string();
    let made = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let pieces: Vec<String> = letters.map(letter).chain(made).collect();
    let added: Vec<Value> = controls
        .iter()
        .enumerate()
        .map(|(index, content)| {
            json!({
                "id": pieces.len() + index, "content": content, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let merges: Vec<String> =
        merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
    let vocabulary: Map<String, Value> =
        pieces.into_iter().enumerate().map(|(id, piece)| (piece, json!(id))).collect();
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
                       "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": null, "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                  "merges": merges},
    })
}
