//! All implementations of the operations give what transformers gives.
//!
//! The comparison is the one of `./x parity`.

#[path = "../../../packaging/xtask/src/parity.rs"]
mod parity;

use cloister_model::Backend;

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
    std::fs::create_dir(&case).unwrap();
    for file in ["expected.safetensors", "weights.json"] {
        std::fs::copy(format!("{FOLDER}/llama-tied/{file}"), case.join(file)).unwrap();
    }
    std::fs::write(case.join("config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    let mut lines = Vec::new();
    let equal = parity::run(folder.path(), &[], &mut lines);
    assert!(matches!(equal, Ok(false)));
    let lines = String::from_utf8_lossy(&lines).into_owned();
    assert!(lines.contains("model.architecture.unsupported: the architecture mamba"), "{lines}");
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
