//! `tiny-llama` and `tiny-qwen2` of `make_synthetic_gguf.py`, made in Rust: the same tensors, bit for bit, and
//! the same configuration. The tokenizer is left out; no forward pass reads it.

mod normal;

use cloister_domain::Hasher;
use cloister_scalar::quantise_q8_0;
use cloister_weights::{
    DType,
    gguf_write::{Source, Writer},
};
use half::f16;

const WIDTH: usize = 256;
const INNER: usize = 512;
const LAYERS: usize = 2;
const VOCABULARY: usize = 2048;
const KEY_WIDTH: usize = 128;
const HEAD_WIDTH: usize = 64;
const SEED: u32 = 1;

/// What a tensor holds.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Weight,
    Bias,
    Gain,
    Factors,
}

/// The file `tiny-llama-f32` and so on as bytes, and the SHA-256 of its tensors.
pub(crate) fn file(name: &str) -> (Vec<u8>, String) {
    let (model, dtype) = name.rsplit_once('-').expect("a name ends with its type");
    let is_llama = model == "tiny-llama";
    let mut writer = Writer::new();
    describe(&mut writer, is_llama);
    let mut hasher = Hasher::new();
    for (name, shape, kind) in tensors(is_llama) {
        let dtype = match (kind, dtype) {
            (Kind::Weight, "f16") => DType::F16,
            (Kind::Weight, "q8_0") => DType::Q8_0,
            _ => DType::F32,
        };
        let bytes = stored(&values(&name, shape.iter().product(), kind), dtype);
        hasher.update(&bytes);
        let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
        writer.tensor(&name, dtype, &shape, Source::Bytes(bytes));
    }
    (writer.to_bytes().expect("memory takes all"), hasher.finish().to_string())
}

fn describe(writer: &mut Writer<'_>, is_llama: bool) {
    let arch = if is_llama { "llama" } else { "qwen2" };
    let key = |name: &str| format!("{arch}.{name}");
    writer.text("general.architecture", arch).text("general.type", "model");
    writer
        .count(&key("context_length"), if is_llama { 8192 } else { 2048 })
        .count(&key("embedding_length"), WIDTH as u32)
        .count(&key("block_count"), LAYERS as u32)
        .count(&key("feed_forward_length"), INNER as u32)
        .count(&key("attention.head_count"), 4)
        .count(&key("attention.head_count_kv"), 2)
        .float(&key("rope.freq_base"), if is_llama { 5e5 } else { 1e6 })
        .float(&key("attention.layer_norm_rms_epsilon"), if is_llama { 1e-5 } else { 1e-6 });
    if is_llama {
        writer
            .count(&key("attention.key_length"), HEAD_WIDTH as u32)
            .count(&key("attention.value_length"), HEAD_WIDTH as u32)
            .count(&key("rope.dimension_count"), HEAD_WIDTH as u32)
            .count(&key("vocab_size"), VOCABULARY as u32);
    }
}

fn tensors(is_llama: bool) -> Vec<(String, Vec<usize>, Kind)> {
    let mut all = vec![("token_embd.weight".to_owned(), vec![VOCABULARY, WIDTH], Kind::Weight)];
    if is_llama {
        all.push(("rope_freqs.weight".to_owned(), vec![HEAD_WIDTH / 2], Kind::Factors));
    }
    for layer in 0..LAYERS {
        let mut add = |part: &str, shape: &[usize], kind| {
            all.push((format!("blk.{layer}.{part}"), shape.to_vec(), kind));
        };
        add("attn_norm.weight", &[WIDTH], Kind::Gain);
        for (part, rows) in [("q", WIDTH), ("k", KEY_WIDTH), ("v", KEY_WIDTH)] {
            add(&format!("attn_{part}.weight"), &[rows, WIDTH], Kind::Weight);
            if !is_llama {
                add(&format!("attn_{part}.bias"), &[rows], Kind::Bias);
            }
        }
        add("attn_output.weight", &[WIDTH, WIDTH], Kind::Weight);
        add("ffn_norm.weight", &[WIDTH], Kind::Gain);
        add("ffn_gate.weight", &[INNER, WIDTH], Kind::Weight);
        add("ffn_up.weight", &[INNER, WIDTH], Kind::Weight);
        add("ffn_down.weight", &[WIDTH, INNER], Kind::Weight);
    }
    all.push(("output_norm.weight".to_owned(), vec![WIDTH], Kind::Gain));
    all
}

fn values(name: &str, count: usize, kind: Kind) -> Vec<f32> {
    if kind == Kind::Factors {
        return factors();
    }
    let mut normal = normal::Normal::new(SEED, crc32(name.as_bytes()));
    (0..count)
        .map(|_| match (kind, normal.next()) {
            (Kind::Weight, x) => x * 0.02,
            (Kind::Bias, x) => x * 0.5,
            (_, x) => 1.0 + 0.1 * x,
        })
        .collect()
}

/// Llama 3's correction of the frequencies (factor 32, low 1, high 4, original context 8192).
fn factors() -> Vec<f32> {
    let factor = |i: usize| {
        let frequency = 5e5f64.powf(-(2.0 * i as f64 / HEAD_WIDTH as f64));
        let wave = std::f64::consts::TAU / frequency;
        let smooth = ((8192.0 / wave - 1.0) / 3.0).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / 32.0 + smooth)) as f32
    };
    (0..HEAD_WIDTH / 2).map(factor).collect()
}

fn stored(values: &[f32], dtype: DType) -> Vec<u8> {
    match dtype {
        DType::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        DType::Q8_0 => quantise_q8_0(values),
        _ => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// CRC-32 (IEEE 802.3), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 }
        })
    })
}
