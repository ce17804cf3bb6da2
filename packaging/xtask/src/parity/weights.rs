//! A case's weights, made from `weights.json` where they are not stored.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use cloister_domain::Hasher;
use serde::Deserialize;

/// Bytes of a bf16.
const ELEMENT_BYTES: u64 = 2;

#[derive(Deserialize)]
struct Weights {
    seed: u64,
    sha256: String,
    tensors: BTreeMap<String, Filling>,
}

#[derive(Deserialize)]
struct Filling {
    shape: Vec<u64>,
    centre: f64,
    amplitude: f64,
}

/// The folder with the weights: the case itself, or `scratch` with weights made from `weights.json`.
///
/// # Errors
///
/// When `weights.json` asks for more than a file may hold, or the made bytes have another digest than
/// it says.
pub(crate) fn filled(case: &Path, scratch: &Path) -> anyhow::Result<PathBuf> {
    if case.join("model.safetensors").is_file() {
        return Ok(case.to_owned());
    }
    let json = super::read(&case.join("weights.json"))?;
    let weights: Weights =
        serde_json::from_slice(&json).context("weights.json cannot be understood")?;
    let mut hasher = Hasher::new();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, filling) in &weights.tensors {
        let start = data.len();
        let elements = elements(filling, start)
            .with_context(|| format!("weights.json: the shape of {name:?} is too large"))?;
        let first = fnv1a(name.as_bytes()).wrapping_add(weights.seed);
        for i in 0..elements {
            let u = unit(mix(first.wrapping_add(i)));
            let value = filling.centre + filling.amplitude * (2.0 * u - 1.0);
            data.extend(bf16(value).to_le_bytes());
        }
        hasher.update(&data[start..]);
        header.insert(
            name.clone(),
            serde_json::json!({
                "dtype": "BF16", "shape": filling.shape, "data_offsets": [start, data.len()],
            }),
        );
    }
    ensure!(hasher.finish().to_string() == weights.sha256, "the made weights have another digest");
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = fs::File::create(scratch.join("model.safetensors"))?;
    file.write_all(&u64::try_from(header.len())?.to_le_bytes())?;
    file.write_all(&header)?;
    file.write_all(&data)?;
    fs::copy(case.join("config.json"), scratch.join("config.json"))
        .context("config.json cannot be copied")?;
    Ok(scratch.to_owned())
}

/// How many numbers a tensor has, if it fits the file behind `bytes` others.
fn elements(filling: &Filling, bytes: usize) -> Option<u64> {
    let elements = filling.shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n))?;
    let end = elements.checked_mul(ELEMENT_BYTES)?.checked_add(u64::try_from(bytes).ok()?)?;
    (end <= super::FILE_BYTES_MAX).then_some(elements)
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}

/// One step of splitmix64.
const fn mix(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The upper 24 bits as a number in [0, 1).
fn unit(x: u64) -> f64 {
    f64::from(u32::try_from(x >> 40).expect("24 bits")) / f64::from(1u32 << 24)
}

/// To f32, then to bf16, each to the nearest even.
fn bf16(x: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "the formula rounds to f32 first")]
    let bits = (x as f32).to_bits();
    let rounded = bits + 0x7FFF + ((bits >> 16) & 1);
    u16::try_from(rounded >> 16).expect("the upper half")
}
