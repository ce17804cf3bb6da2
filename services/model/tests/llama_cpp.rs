//! GGUF files give what llama.cpp gives (`tests/fixtures/gguf`, where the command is kept).
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the generator's own arithmetic, on small numbers"
)]

mod synthetic;

use std::path::Path;

use cloister_domain::{SequenceId, TokenCount, TokenId};
use cloister_model::{Backend, Decoder, Options};
use cloister_schedule::{Chunk, Forward, Wanted};
use serde::Deserialize;

const EXPECTED: &str = include_str!("../../../tests/fixtures/gguf/expected.json");

#[derive(Deserialize)]
struct Expected {
    prompt: Vec<u32>,
    cases: std::collections::BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    data_sha256: String,
    greedy: Vec<u32>,
    fresh: Vec<u32>,
    logits_every_32: Vec<f32>,
}

/// The likeliest token again and again; with `fresh`, among those that have not occurred yet.
fn continuation(
    folder: &Path,
    backend: Backend,
    prompt: &[u32],
    fresh: bool,
    count: usize,
) -> (Vec<u32>, Vec<f32>) {
    let options = Options { backend, ..Options::cpu(2) };
    let mut decoder = Decoder::load(folder, &options).unwrap();
    let sequence = SequenceId(7);
    decoder.open(sequence, TokenCount(256)).unwrap();
    let mut tokens: Vec<TokenId> = prompt.iter().copied().map(TokenId).collect();
    let mut seen = prompt.to_vec();
    let mut first = Vec::new();
    while seen.len() < prompt.len() + count {
        let chunk = Chunk { sequence, tokens: &tokens, wanted: Wanted::Last };
        let mut logits = decoder.forward(&[chunk]).unwrap().rows().next().unwrap().to_vec();
        if first.is_empty() {
            first.clone_from(&logits);
        }
        if fresh {
            seen.iter().for_each(|&id| logits[id as usize] = f32::NEG_INFINITY);
        }
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        seen.push(best as u32);
        tokens = vec![TokenId(best as u32)];
    }
    (seen[prompt.len()..].to_vec(), first)
}

fn check(name: &str, error_max: f32, fresh_min: usize) {
    let expected: Expected = serde_json::from_str(EXPECTED).unwrap();
    let case = &expected.cases[name];
    let (bytes, digest) = synthetic::file(name);
    assert_eq!(digest, case.data_sha256, "the tensors are those of the generator");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.gguf"), bytes).unwrap();
    for backend in [Backend::Simd, Backend::Scalar] {
        let run =
            |fresh, count| continuation(folder.path(), backend, &expected.prompt, fresh, count);
        let (greedy, logits) = run(false, case.greedy.len());
        assert_eq!(greedy, case.greedy, "{name} {backend:?}");
        let largest = logits.iter().fold(0f32, |max, x| max.max(x.abs()));
        for (ours, theirs) in logits.iter().step_by(32).zip(&case.logits_every_32) {
            assert!(
                (ours - theirs).abs() <= error_max * largest,
                "{name} {backend:?} {ours} {theirs}"
            );
        }
        // Near ties among random logits fall either way after a while; the gaps stand in expected.json.
        let (fresh, _) = run(true, case.fresh.len());
        assert_eq!(fresh[..fresh_min], case.fresh[..fresh_min], "{name} {backend:?}");
    }
}

// llama.cpp keeps keys and values as f16, and quantises activations with an f16 scale.

#[test]
fn f32_weights_continue_as_llama_cpp_does() {
    check("tiny-llama-f32", 1e-3, 32);
    check("tiny-qwen2-f32", 1e-3, 32);
}

#[test]
fn f16_weights_continue_as_llama_cpp_does() {
    check("tiny-llama-f16", 1e-3, 16);
    check("tiny-qwen2-f16", 1e-3, 16);
}

#[test]
fn q8_0_weights_continue_as_llama_cpp_does() {
    check("tiny-llama-q8_0", 1e-2, 16);
    check("tiny-qwen2-q8_0", 1e-2, 16);
}
