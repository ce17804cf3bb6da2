//! All implementations of the operations give what transformers gives.
//!
//! The comparison is the one of `./x parity`.
#![expect(clippy::unwrap_used, reason = "a test helper fails by panicking")]

#[path = "../../../packaging/xtask/src/parity.rs"]
mod parity;

use std::{fs, path::Path};

use cloister_model::Backend;
use serde_json::json;

const CASES: [&str; 6] = ["llama3", "llama-tied", "qwen2", "qwen2-yarn", "bert", "bert-pair"];

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/parity");

fn check(backend: Backend) {
    let mut lines = Vec::new();
    let equal = parity::run_on(FOLDER.as_ref(), &CASES.map(str::to_owned), backend, &mut lines);
    assert!(matches!(equal, Ok(true)), "{}", String::from_utf8_lossy(&lines));
}

#[test]
fn the_usual_implementation_gives_what_transformers_gives() {
    let mut lines = Vec::new();
    let equal = parity::run(FOLDER.as_ref(), &[], &mut lines);
    assert!(matches!(equal, Ok(true)), "{}", String::from_utf8_lossy(&lines));
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), CASES.len());
}

#[test]
fn a_family_without_a_forward_pass_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("other");
    fs::create_dir(&case).unwrap();
    for file in ["expected.safetensors", "weights.json"] {
        fs::copy(format!("{FOLDER}/llama-tied/{file}"), case.join(file)).unwrap();
    }
    fs::write(case.join("config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    let mut lines = Vec::new();
    let equal = parity::run(folder.path(), &[], &mut lines);
    assert!(matches!(equal, Ok(false)));
    let lines = String::from_utf8_lossy(&lines).into_owned();
    assert!(lines.contains("model.architecture.unsupported: the architecture mamba"), "{lines}");
}

/// A tensor's name, shape and bytes.
type Tensor = (&'static str, Vec<usize>, Vec<u8>);

fn ids(name: &'static str, shape: &[usize], ids: &[i64]) -> Tensor {
    (name, shape.to_vec(), ids.iter().flat_map(|id| id.to_le_bytes()).collect())
}

fn floats(name: &'static str, shape: &[usize], floats: &[f32]) -> Tensor {
    (name, shape.to_vec(), floats.iter().flat_map(|x| x.to_le_bytes()).collect())
}

/// A decoder's expectations with two logits a token.
fn continuation(prompt: &[i64], greedy: &[i64], logits: &[f32]) -> Vec<Tensor> {
    vec![
        ids("input_ids", &[prompt.len()], prompt),
        ids("greedy", &[greedy.len()], greedy),
        floats("logits", &[logits.len() / 2, 2], logits),
    ]
}

/// An encoder's expectations of one text, two numbers wide.
fn hidden(tokens: &[i64], mask: &[i64], hidden: &[f32]) -> Vec<Tensor> {
    vec![
        ids("input_ids", &[1, tokens.len()], tokens),
        ids("attention_mask", &[1, mask.len()], mask),
        floats("hidden", &[1, hidden.len() / 2, 2], hidden),
    ]
}

/// Makes a case of a fixture's model that expects `tensors`.
fn expecting(folder: &Path, model: &str, tensors: &[Tensor]) {
    fs::create_dir(folder).unwrap();
    for file in ["config.json", "weights.json"] {
        fs::copy(format!("{FOLDER}/{model}/{file}"), folder.join(file)).unwrap();
    }
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, shape, bytes) in tensors {
        let dtype = if matches!(*name, "logits" | "hidden" | "scores") { "F32" } else { "I64" };
        let offsets = [data.len(), data.len() + bytes.len()];
        let tensor = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert((*name).to_owned(), tensor);
        data.extend(bytes);
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    fs::write(folder.join("expected.safetensors"), file).unwrap();
}

/// The lines of all cases in `folder`, some of which fail.
fn failing(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let equal = parity::run(folder, &[], &mut lines);
    let lines = String::from_utf8(lines).unwrap();
    assert!(matches!(equal, Ok(false)), "{lines}");
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn a_damaged_case_fails_in_a_line_of_its_own_and_the_next_is_run() {
    let typed = |types: &[i64]| {
        let mut tensors = hidden(&[1, 2], &[1, 1], &[0.5; 4]);
        tensors.push(ids("token_type_ids", &[1, types.len()], types));
        tensors
    };
    let huge = vec![
        ("input_ids", vec![usize::MAX, 3], Vec::new()),
        ids("attention_mask", &[0, 0], &[]),
        floats("hidden", &[0, 0, 2], &[]),
    ];
    let none = vec![
        ids("input_ids", &[0, 2], &[]),
        ids("attention_mask", &[0, 2], &[]),
        floats("hidden", &[0, 2, 2], &[]),
    ];
    let damaged = [
        ("nan", continuation(&[1], &[2], &[0.5, f32::NAN]), "a value in logits is not finite"),
        ("infinite", hidden(&[1], &[1], &[f32::INFINITY, 0.5]), "a value in hidden is not finite"),
        (
            "nan-in-padding",
            hidden(&[1, 0], &[1, 0], &[0.5, 0.5, f32::NAN, 0.5]),
            "a value in hidden is not finite",
        ),
        ("no-text", none, "input_ids holds no token"),
        (
            "short-mask",
            hidden(&[1, 2], &[1], &[0.5; 4]),
            "attention_mask has another shape than input_ids",
        ),
        ("short-types", typed(&[0]), "token_type_ids has another shape than input_ids"),
        ("far-type", typed(&[0, 256]), "a token type in token_type_ids is out of range"),
        ("hole", hidden(&[1, 2], &[0, 1], &[0.5; 4]), "attention_mask is not ones and then zeros"),
        ("no-prompt", continuation(&[], &[2], &[]), "input_ids is not a list of tokens"),
        ("no-greedy", continuation(&[1], &[], &[0.5; 2]), "greedy is not a list of tokens"),
        ("negative", continuation(&[1, -1], &[2], &[0.5; 4]), "a token id in input_ids is out of"),
        ("negative-greedy", continuation(&[1], &[-2], &[0.5; 2]), "a token id in greedy is out of"),
        ("short-logits", continuation(&[1, 2], &[2], &[0.5; 2]), "logits does not have one row"),
        ("huge", huge, "the shape of input_ids is too large"),
        ("nothing", Vec::new(), "neither logits nor hidden is there: scores is not there"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, tensors, _) in &damaged {
        let model =
            if tensors.iter().any(|tensor| tensor.0 == "logits") { "qwen2" } else { "bert" };
        expecting(&folder.path().join(name), model, tensors);
    }
    // The last by name is whole.
    let whole = folder.path().join("whole");
    expecting(&whole, "bert", &[]);
    fs::copy(format!("{FOLDER}/bert/expected.safetensors"), whole.join("expected.safetensors"))
        .unwrap();
    let lines = failing(folder.path());
    assert_eq!(lines.len(), damaged.len() + 1, "{lines:?}");
    for (name, _, reason) in damaged {
        let line = lines.iter().find(|line| line.starts_with(&format!("{name} "))).expect(name);
        assert!(line.contains("FAILED expected.safetensors: ") && line.contains(reason), "{line}");
    }
    assert!(lines.last().is_some_and(|line| line.starts_with("whole            ok")), "{lines:?}");
}

#[test]
fn lengths_that_are_not_the_models_and_shapes_beyond_a_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    expecting(&folder.path().join("logits"), "qwen2", &continuation(&[1], &[2], &[0.5; 2]));
    expecting(&folder.path().join("width"), "bert", &hidden(&[1], &[1], &[0.5; 2]));
    for (name, shape) in [("overflow", json!([u64::MAX, 3])), ("vast", json!([1_u64 << 40]))] {
        let case = folder.path().join(name);
        expecting(&case, "qwen2", &continuation(&[1], &[2], &[0.5; 2]));
        let filling = json!({"shape": shape, "centre": 0.0, "amplitude": 1.0});
        let weights = json!({"seed": 1, "sha256": "", "tensors": {"x": filling}});
        fs::write(case.join("weights.json"), weights.to_string()).unwrap();
    }
    let lines = failing(folder.path());
    for (line, reason) in lines.iter().zip([
        "logits           FAILED the model has 384 logits a token, 2 are expected",
        "overflow         FAILED weights.json: the shape of \"x\" is too large",
        "vast             FAILED weights.json: the shape of \"x\" is too large",
        "width            FAILED the model is 256 numbers wide, 2 are expected",
    ]) {
        assert_eq!(line, reason);
    }
    assert_eq!(lines.len(), 4);
}

#[test]
fn a_reranker_of_a_known_model_type_is_named_as_another_family() {
    let folder = tempfile::tempdir().unwrap();
    let case = folder.path().join("reranker");
    expecting(&case, "bert", &[floats("scores", &[1], &[0.5])]);
    let config = fs::File::open(case.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_reader(config).unwrap();
    config["architectures"] = json!(["BertForSequenceClassification"]);
    fs::write(case.join("config.json"), config.to_string()).unwrap();
    let said =
        "model.architecture.unsupported: the architecture BertForSequenceClassification is not";
    let lines = failing(folder.path());
    assert!(lines.len() == 1 && lines[0].contains(said), "{lines:?}");
}

#[test]
fn our_kernels_give_what_transformers_gives() {
    check(Backend::Simd);
}

#[test]
fn burn_gives_what_transformers_gives() {
    check(Backend::Burn);
}

#[test]
fn the_oracle_gives_what_transformers_gives() {
    check(Backend::Scalar);
}
