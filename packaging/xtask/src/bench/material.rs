//! What the figures are measured on: files of random weights, and a large model of them.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Result;
use cloister_stage::{Dice, facility::Facility, release::Recipe};
use cloister_weights::{
    DType, Q8_0_BLOCK, Q8_0_BLOCK_BYTES,
    gguf_write::{Source, Writer},
};

/// The demo's release, its weights as they are small, laid out without documents of its own.
pub(super) fn small_tree(facility: &Facility, name: &str) -> Result<PathBuf> {
    Recipe::demo("v1", None).lay_out(facility, name)
}

/// Writes weights of about `bytes`, random and in Q8_0: nothing compresses worse.
pub(super) fn random_weights(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    /// One matrix is in memory at a time: 64 MiB.
    const COLUMNS: usize = 4096;
    const ROWS: usize = (64 << 20) / (COLUMNS / Q8_0_BLOCK * Q8_0_BLOCK_BYTES);
    let mut writer = Writer::new();
    for number in 0..bytes.div_ceil(64 << 20) {
        matrix(&mut writer, &format!("{number}.weight"), ROWS, COLUMNS, seed.wrapping_add(number));
    }
    let mut file = BufWriter::new(File::create(path)?);
    writer.write_to(&mut file)?;
    Ok(file.flush()?)
}

/// Writes weights of about `bytes` in BF16, normally distributed as trained ones are: zstd leaves
/// 0.78 of them.
pub(super) fn normal_weights(path: &Path, bytes: u64, seed: u64) -> Result<()> {
    const COLUMNS: usize = 4096;
    const ROWS: usize = (64 << 20) / (COLUMNS * 2);
    let table = normal_table(seed);
    let mut writer = Writer::new();
    for number in 0..bytes.div_ceil(64 << 20) {
        let table = &table;
        let make = move || {
            let mut dice = Dice::new(seed.wrapping_add(number + 1));
            let mut bytes = Vec::with_capacity(ROWS * COLUMNS * 2);
            for _four in 0..ROWS * COLUMNS / 4 {
                let roll = dice.roll().to_le_bytes();
                for pair in roll.chunks_exact(2) {
                    let index = usize::from(u16::from_le_bytes([pair[0], pair[1]]));
                    bytes.extend(table[index]);
                }
            }
            bytes
        };
        let shape = [ROWS as u64, COLUMNS as u64];
        let name = format!("{number}.weight");
        writer.tensor(&name, DType::Bf16, &shape, Source::Made(Box::new(make)));
    }
    let mut file = BufWriter::new(File::create(path)?);
    writer.write_to(&mut file)?;
    Ok(file.flush()?)
}

/// 65536 draws with the deviation 0.02 (Box and Muller 1958), each as BF16: the upper half of the
/// number as f32.
fn normal_table(seed: u64) -> Vec<[u8; 2]> {
    let mut dice = Dice::new(seed);
    // 53 bits, as many as an f64 holds.
    #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
    let mut unit = move || (dice.roll() >> 11) as f64 / (1u64 << 53) as f64;
    let mut draw = move || {
        let (radius, angle) = ((1.0 - unit()).ln() * -2.0, unit() * std::f64::consts::TAU);
        #[expect(clippy::cast_possible_truncation, reason = "rounded")]
        let value = (radius.sqrt() * angle.cos() * 0.02) as f32;
        let [_, _, low, high] = value.to_le_bytes();
        [low, high]
    };
    (0..=u16::MAX).map(|_| draw()).collect()
}

/// Sizes of a Llama of 0.5 GB in Q8_0 with the demo's vocabulary.
const WIDTH: usize = 1536;
const INNER: usize = 4096;
const LAYERS: usize = 19;
const HEADS: u32 = 24;
const KEY_HEADS: u32 = 8;
const HEAD_WIDTH: usize = 64;
const KEY_WIDTH: usize = 512;
const VOCABULARY: usize = 2048;

/// Puts a model of about 0.5 GB with random weights in the place of a small one; tokenizer and
/// message format stay.
pub(super) fn enlarge(tree: &Path, seed: u64) -> Result<u64> {
    let path = tree.join("model/model.gguf");
    let mut writer = Writer::new();
    let key = |name: &str| format!("llama.{name}");
    let size = |size: usize| u32::try_from(size).expect("small sizes");
    writer
        .text("general.architecture", "llama")
        .count(&key("context_length"), 2048)
        .count(&key("embedding_length"), size(WIDTH))
        .count(&key("block_count"), size(LAYERS))
        .count(&key("feed_forward_length"), size(INNER))
        .count(&key("attention.head_count"), HEADS)
        .count(&key("attention.head_count_kv"), KEY_HEADS)
        .count(&key("attention.key_length"), size(HEAD_WIDTH))
        .count(&key("attention.value_length"), size(HEAD_WIDTH))
        .count(&key("rope.dimension_count"), size(HEAD_WIDTH))
        .count(&key("vocab_size"), size(VOCABULARY))
        .float(&key("rope.freq_base"), 10_000.0)
        .float(&key("attention.layer_norm_rms_epsilon"), 1e-5);
    matrix(&mut writer, "token_embd.weight", VOCABULARY, WIDTH, seed);
    for layer in 0..LAYERS {
        let named = |part: &str| format!("blk.{layer}.{part}.weight");
        let mut add = |part: &str, rows: usize, columns: usize, number: u64| {
            let seed = seed.wrapping_add(u64::from(size(layer)) * 16 + number);
            matrix(&mut writer, &named(part), rows, columns, seed);
        };
        add("attn_q", WIDTH, WIDTH, 1);
        add("attn_k", KEY_WIDTH, WIDTH, 2);
        add("attn_v", KEY_WIDTH, WIDTH, 3);
        add("attn_output", WIDTH, WIDTH, 4);
        add("ffn_gate", INNER, WIDTH, 5);
        add("ffn_up", INNER, WIDTH, 6);
        add("ffn_down", WIDTH, INNER, 7);
        gain(&mut writer, &named("attn_norm"));
        gain(&mut writer, &named("ffn_norm"));
    }
    gain(&mut writer, "output_norm.weight");
    let mut file = BufWriter::new(File::create(&path)?);
    writer.write_to(&mut file)?;
    file.flush()?;
    Ok(fs::metadata(&path)?.len())
}

/// `[rows, columns]` in blocks of random bytes with one small scale.
fn matrix(writer: &mut Writer<'_>, name: &str, rows: usize, columns: usize, seed: u64) {
    let make = move || {
        let blocks = rows * columns / Q8_0_BLOCK;
        let mut dice = Dice::new(seed);
        let mut bytes = Vec::with_capacity(blocks * Q8_0_BLOCK_BYTES);
        for _block in 0..blocks {
            // 2^-12 as f16: weights up to 0.03, so that no layer's output grows.
            bytes.extend(0x0c00u16.to_le_bytes());
            bytes.extend(dice.bytes(Q8_0_BLOCK));
        }
        bytes
    };
    let shape = [rows as u64, columns as u64];
    writer.tensor(name, DType::Q8_0, &shape, Source::Made(Box::new(make)));
}

fn gain(writer: &mut Writer<'_>, name: &str) {
    let ones = std::iter::repeat_n(1f32.to_le_bytes(), WIDTH).flatten().collect();
    writer.tensor(name, DType::F32, &[WIDTH as u64], Source::Bytes(ones));
}
