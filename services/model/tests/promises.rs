//! What a model promises beyond its numbers: both spellings of a configuration are one, nothing that
//! changes numbers is passed over, and a row's bits do not depend on its company.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

#[path = "../../../packaging/xtask/src/parity.rs"]
#[expect(dead_code, reason = "only the weights are made here")]
mod parity;

use std::path::Path;

use cloister_domain::{Coded, SequenceId, TokenCount, TokenId};
use cloister_model::{Decoder, Device, Encoder, ModelError, Options};
use cloister_schedule::{Chunk, Forward, Wanted};
use serde_json::{Value, json};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parity");

/// A case's weights in a folder of their own, with its configuration changed.
fn folder(case: &str, change: impl Fn(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    parity::filled(&Path::new(FOLDER).join(case), folder.path()).unwrap();
    let path = folder.path().join("config.json");
    let bytes = std::fs::File::open(&path).unwrap();
    let mut config: Value = serde_json::from_reader(bytes).unwrap();
    change(&mut config);
    std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
    folder
}

fn load(folder: &tempfile::TempDir, threads: usize) -> Result<Decoder, ModelError> {
    Decoder::load(folder.path(), &Options::cpu(threads))
}

fn ids(count: u32) -> Vec<TokenId> {
    (0..count).map(|i| TokenId((i * i * 7 + 31 * i + 3) % 384)).collect()
}

/// The bits of the logits of all rows.
fn logits(decoder: &mut Decoder, tokens: &[TokenId]) -> Vec<u32> {
    let sequence = SequenceId(1);
    decoder.open(sequence, TokenCount(u32::try_from(tokens.len()).unwrap())).unwrap();
    let chunk = Chunk { sequence, tokens, wanted: Wanted::All };
    let logits = decoder.forward(&[chunk]).unwrap();
    decoder.close(sequence);
    bits(logits.rows().flatten())
}

fn bits<'a>(values: impl Iterator<Item = &'a f32>) -> Vec<u32> {
    values.map(|x| x.to_bits()).collect()
}

/// Rewrites a configuration of transformers 5 in the spelling of 4.
fn older(config: &mut Value) {
    let map = config.as_object_mut().unwrap();
    let mut rope = map.remove("rope_parameters").unwrap();
    let theta = rope.as_object_mut().unwrap().remove("rope_theta").unwrap();
    map.insert("rope_theta".into(), theta);
    let scaled = rope["rope_type"] != "default";
    map.insert("rope_scaling".into(), if scaled { rope } else { Value::Null });
    let dtype = map.remove("dtype").unwrap();
    map.insert("torch_dtype".into(), dtype);
    map.insert("transformers_version".into(), json!("4.45.2"));
}

#[test]
fn both_spellings_of_a_configuration_give_equal_logits() {
    for case in ["llama3", "llama-tied", "qwen2", "qwen2-yarn"] {
        let tokens = ids(100);
        let new = logits(&mut load(&folder(case, |_| {}), 1).unwrap(), &tokens);
        let old = logits(&mut load(&folder(case, older), 1).unwrap(), &tokens);
        assert_eq!(new, old, "{case}");
    }
}

#[test]
fn absent_keys_have_the_defaults_of_their_family() {
    let tokens = ids(20);
    let whole = logits(&mut load(&folder("llama-tied", |_| {}), 1).unwrap(), &tokens);
    let bare = folder("llama-tied", |config| {
        let map = config.as_object_mut().unwrap();
        for key in [
            "rope_parameters",
            "rms_norm_eps",
            "hidden_act",
            "attention_bias",
            "mlp_bias",
            "head_dim",
        ] {
            map.remove(key).unwrap();
        }
    });
    assert_eq!(whole, logits(&mut load(&bare, 1).unwrap(), &tokens));
}

#[test]
fn a_key_that_changes_numbers_and_is_not_understood_is_refused_by_name() {
    let set = |key: &'static str, value: Value| {
        move |config: &mut Value| {
            config.as_object_mut().unwrap().insert(key.into(), value.clone());
        }
    };
    for (key, value, code) in [
        ("logits_scaling", json!(8.0), "model.config.key-unknown"),
        ("quantization_config", json!({"bits": 4}), "model.config.key-unknown"),
        ("hidden_act", json!("gelu"), "model.config.key-value"),
        ("pretraining_tp", json!(2), "model.config.key-value"),
        (
            "architectures",
            json!(["LlamaForSequenceClassification"]),
            "model.architecture.unsupported",
        ),
        ("num_key_value_heads", json!(3), "model.config.key-value"),
        ("hidden_size", json!(-1), "model.config.key-value"),
        ("num_hidden_layers", json!(4_000_000_000u32), "model.config.key-value"),
        ("rope_parameters", json!({"rope_type": "longrope"}), "model.config.key-value"),
        ("rope_parameters", json!({"rope_type": "default", "x": 1}), "model.config.key-unknown"),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0}), "model.config.key-value"),
        ("model_type", json!("gemma2"), "model.architecture.unsupported"),
        ("hidden_size", json!(128), "model.tensor.shape"),
        ("num_hidden_layers", json!(3), "model.tensor.missing"),
        ("num_hidden_layers", json!(1), "model.tensor.unknown"),
        ("attention_bias", json!(true), "model.tensor.missing"),
    ] {
        let error = load(&folder("llama3", set(key, value)), 1).expect_err("refused");
        assert_eq!(error.code(), code, "{key}");
        if code.contains("key") && !error.to_string().contains("rope") {
            assert!(
                error.to_string().contains(key) || error.to_string().contains(" x "),
                "{error}"
            );
        }
    }
    for (key, value) in
        [("use_sliding_window", json!(true)), ("layer_types", json!(["sliding_attention"]))]
    {
        let error = load(&folder("qwen2", set(key, value)), 1).expect_err("refused");
        assert!(error.to_string().contains(key), "{error}");
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch_cut_and_number_of_threads() {
    let folder = folder("qwen2-yarn", |_| {});
    let tokens = ids(300);
    let whole = logits(&mut load(&folder, 1).unwrap(), &tokens);
    let mut decoder = load(&folder, 3).unwrap();
    let (one, other) = (SequenceId(5), SequenceId(9));
    decoder.open(one, TokenCount(300)).unwrap();
    decoder.open(other, TokenCount(200)).unwrap();
    let others = ids(200);
    let mut ours = Vec::new();
    let (mut rest, mut noise) = (tokens.as_slice(), others.as_slice());
    for size in [1, 2, 70, 5, 64, 1, 1, 100, 56] {
        let (now, later) = rest.split_at(size);
        let (beside, after) = noise.split_at(size.min(20));
        let chunks = [
            Chunk { sequence: other, tokens: beside, wanted: Wanted::Last },
            Chunk { sequence: one, tokens: now, wanted: Wanted::All },
        ];
        let logits = decoder.forward(&chunks).unwrap();
        ours.extend(bits(logits.rows().skip(1).flatten()));
        (rest, noise) = (later, after);
    }
    assert!(ours == whole, "the bits differ");
}

#[test]
fn a_batch_is_checked_before_any_of_it_runs() {
    let mut decoder = load(&folder("llama-tied", |_| {}), 1).unwrap();
    let context = decoder.shape().context;
    let (a, b) = (SequenceId(1), SequenceId(2));
    decoder.open(a, TokenCount(4)).unwrap();
    let tokens = ids(5);
    let chunk = |sequence, tokens| Chunk { sequence, tokens, wanted: Wanted::Last };
    for (chunks, code) in [
        (vec![chunk(a, &tokens[..5])], "model.sequence"),
        (vec![chunk(b, &tokens[..1])], "model.sequence"),
        (vec![chunk(a, &tokens[..1]), chunk(a, &tokens[..1])], "model.sequence"),
        (vec![chunk(a, &tokens[..0])], "model.empty"),
        (vec![chunk(a, &[TokenId(384)])], "model.token.range"),
    ] {
        assert_eq!(decoder.forward(&chunks).expect_err("refused").code(), code);
    }
    decoder.forward(&[chunk(a, &tokens[..4])]).unwrap();
    assert_eq!(decoder.open(a, TokenCount(1)).expect_err("open").code(), "model.sequence");
    let long = TokenCount(context.0 + 1);
    assert_eq!(decoder.open(b, long).expect_err("long").code(), "model.context.exceeded");
}

#[test]
fn a_closed_sequence_leaves_nothing_for_the_next() {
    let mut decoder = load(&folder("llama3", |_| {}), 1).unwrap();
    let fresh = logits(&mut decoder, &ids(90));
    logits(&mut decoder, &ids(400));
    assert!(fresh == logits(&mut decoder, &ids(90)), "the bits differ");
}

#[test]
fn vectors_have_length_one_and_do_not_depend_on_their_batch() {
    let folder = folder("bert", |_| {});
    let encoder = Encoder::load(folder.path(), &Options::cpu(2)).unwrap();
    let texts: Vec<Vec<TokenId>> = [3, 40, 17, 2].map(ids).to_vec();
    let texts: Vec<&[TokenId]> = texts.iter().map(Vec::as_slice).collect();
    let together = encoder.embed(&texts).unwrap();
    for (text, vector) in texts.iter().zip(&together) {
        let norm: f32 = vector.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-5);
        let alone = encoder.embed(&[text]).unwrap().concat();
        assert!(bits(alone.iter()) == bits(vector.iter()), "the bits differ");
    }
    let long = ids(257);
    assert_eq!(encoder.embed(&[&long]).expect_err("long").code(), "model.context.exceeded");
    assert_eq!(encoder.embed(&[&[]]).expect_err("empty").code(), "model.empty");
}

#[test]
fn a_missing_device_is_one_clear_error_unless_the_fallback_is_allowed() {
    let folder = folder("llama-tied", |_| {});
    let mut options = Options { device: Device::Cuda(60_000), ..Options::cpu(1) };
    let error = Decoder::load(folder.path(), &options).expect_err("absent");
    assert!(error.code().starts_with("model.device."), "{error}");
    options.cpu_fallback = true;
    let decoder = Decoder::load(folder.path(), &options).unwrap();
    assert_eq!(decoder.facts().device, Device::Cpu);
}
