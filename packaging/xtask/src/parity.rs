//! `./x parity`: our forward passes beside reference outputs of transformers.
//!
//! A case is a folder with `config.json`, `expected.safetensors` and either `model.safetensors` or
//! `weights.json`, from which the weights follow (`tests/fixtures/parity/README.md` has the formula).

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use cloister_domain::{Hasher, SequenceId, TokenCount, TokenId};
use cloister_model::{Backend, Decoder, Encoder, Options, Text};
use cloister_schedule::{Chunk, Forward, Wanted};
use serde::Deserialize;

/// Largest error that counts as equal; the reference's own noise is below 2e-5.
const ERROR_MAX: f64 = 1e-4;
/// Largest file that a case may hold.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Runs the cases called `names` under `folder`, all of them when no name is given, one line each, and says
/// whether every one is equal.
///
/// # Errors
///
/// When `folder` cannot be listed or `out` not be written; what is wrong with a case is in its line.
pub(crate) fn run(folder: &Path, names: &[String], out: &mut dyn Write) -> anyhow::Result<bool> {
    run_on(folder, names, Backend::Auto, out)
}

/// The same on a given implementation of the operations.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_on(
    folder: &Path,
    names: &[String],
    backend: Backend,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let names = if names.is_empty() { cases(folder)? } else { names.to_vec() };
    ensure!(!names.is_empty(), "the folder holds no case");
    let mut all_equal = true;
    for name in &names {
        match case(&folder.join(name), backend) {
            Ok(result) => {
                let greedy = match result.greedy {
                    Some(true) => ", greedy equal",
                    Some(false) => ", greedy DIFFERS",
                    None => "",
                };
                let equal = result.error <= ERROR_MAX && result.greedy != Some(false);
                let verdict = if equal { "ok" } else { "FAILED" };
                writeln!(out, "{name:16} {verdict:6} error {:.1e}{greedy}", result.error)?;
                all_equal &= equal;
            }
            Err(error) => {
                writeln!(out, "{name:16} FAILED {error:#}")?;
                all_equal = false;
            }
        }
    }
    Ok(all_equal)
}

/// What came out of a case.
struct Outcome {
    /// `max|ours − expected| / max|expected|`.
    error: f64,
    /// Whether the greedy continuation is the same; `None` for encoders.
    greedy: Option<bool>,
}

/// The sub-folders with a configuration, by name.
fn cases(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).context("the folder of cases cannot be listed")? {
        let entry = entry?;
        if entry.path().join("config.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn case(folder: &Path, backend: Backend) -> anyhow::Result<Outcome> {
    let expected = Expected::read(&folder.join("expected.safetensors"))?;
    let scratch = tempfile::tempdir()?;
    let model = filled(folder, scratch.path())?;
    let options = Options { backend, ..Options::cpu(2) };
    if expected.tensors.contains_key("logits") {
        decoder(&model, &options, &expected)
    } else {
        encoder(&model, &options, &expected)
    }
}

fn decoder(model: &Path, options: &Options, expected: &Expected) -> anyhow::Result<Outcome> {
    let mut decoder = Decoder::load(model, options).map_err(named)?;
    let prompt = expected.ids("input_ids")?;
    let greedy = expected.ids("greedy")?;
    let sequence = SequenceId(1);
    let tokens = u32::try_from(prompt.len() + greedy.len())?;
    decoder.open(sequence, TokenCount(tokens)).map_err(named)?;
    // In two uneven pieces, so that the cache is read as well as written.
    let (first, second) = prompt.split_at(prompt.len() / 3);
    let mut logits = Vec::new();
    for tokens in [first, second] {
        let chunk = Chunk { sequence, tokens, wanted: Wanted::All };
        logits.extend(decoder.forward(&[chunk]).map_err(named)?.rows().flatten());
    }
    let error = relative_error(&logits, &expected.floats("logits")?)?;
    let vocabulary = usize::try_from(decoder.facts().vocabulary)?;
    let last = logits.chunks_exact(vocabulary).last().context("no logits")?;
    let mut continuation = vec![likeliest(last)?];
    while continuation.len() < greedy.len() {
        let tokens = &continuation[continuation.len() - 1..];
        let chunk = Chunk { sequence, tokens, wanted: Wanted::Last };
        let logits = decoder.forward(&[chunk]).map_err(named)?;
        continuation.push(likeliest(logits.rows().next().context("no logits")?)?);
    }
    Ok(Outcome { error, greedy: Some(continuation == greedy) })
}

fn encoder(model: &Path, options: &Options, expected: &Expected) -> anyhow::Result<Outcome> {
    let encoder = Encoder::load(model, options).map_err(named)?;
    let hidden = expected.floats("hidden").context("only embeddings and decoders are compared")?;
    let (ids, mask) = (expected.ids("input_ids")?, expected.ids("attention_mask")?);
    let segments = match expected.tensors.contains_key("token_type_ids") {
        true => expected.ids("token_type_ids")?,
        false => vec![TokenId(0); ids.len()],
    };
    let width = usize::try_from(encoder.facts().width)?;
    let texts = expected.tensors["input_ids"].shape.first().copied().context("no texts")?;
    let length = ids.len() / texts;
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for text in 0..texts {
        let at = text * length;
        // Padding stands at the end and is not run at all.
        let real = mask[at..at + length].iter().filter(|mask| mask.0 == 1).count();
        let segments: Vec<u8> = segments[at..at + real]
            .iter()
            .map(|segment| u8::try_from(segment.0))
            .collect::<Result<_, _>>()?;
        let text = Text { tokens: &ids[at..at + real], segments: &segments };
        ours.extend(encoder.hidden(&[text]).map_err(named)?.concat());
        theirs.extend(&hidden[at * width..(at + real) * width]);
    }
    Ok(Outcome { error: relative_error(&ours, &theirs)?, greedy: None })
}

/// An error of the model with its code, which names an unsupported family.
fn named(error: cloister_model::ModelError) -> anyhow::Error {
    let code = cloister_domain::Coded::code(&error);
    anyhow::Error::new(error).context(code)
}

fn relative_error(ours: &[f32], theirs: &[f32]) -> anyhow::Result<f64> {
    ensure!(ours.len() == theirs.len(), "{} values, {} expected", ours.len(), theirs.len());
    let difference = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    let largest = theirs.iter().map(|x| f64::from(*x).abs()).fold(0.0, f64::max);
    // NaN must not pass as small: f64::max ignores it.
    ensure!(ours.iter().all(|x| x.is_finite()), "a value is not finite");
    Ok(difference.fold(0.0, f64::max) / largest)
}

fn likeliest(logits: &[f32]) -> anyhow::Result<TokenId> {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).context("no logits")?;
    Ok(TokenId(u32::try_from(best.0)?))
}

/// The tensors of `expected.safetensors`, integers among them.
struct Expected {
    tensors: BTreeMap<String, Described>,
    data: Vec<u8>,
}

#[derive(Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl Expected {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = read(path)?;
        let (length, rest) = bytes.split_first_chunk::<8>().context("no header")?;
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let (header, data) = rest.split_at_checked(length).context("the header is cut short")?;
        Ok(Self { tensors: serde_json::from_slice(header)?, data: data.to_vec() })
    }

    fn bytes(&self, name: &str, dtype: &str) -> anyhow::Result<&[u8]> {
        let tensor = self.tensors.get(name).with_context(|| format!("{name} is not expected"))?;
        ensure!(tensor.dtype == dtype, "{name} is not {dtype}");
        let (start, end) = tensor.data_offsets;
        self.data.get(start..end).context("a tensor lies outside the file")
    }

    fn ids(&self, name: &str) -> anyhow::Result<Vec<TokenId>> {
        let words = self.bytes(name, "I64")?.as_chunks::<8>().0;
        words.iter().map(|&id| Ok(TokenId(u32::try_from(i64::from_le_bytes(id))?))).collect()
    }

    fn floats(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        Ok(self
            .bytes(name, "F32")?
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&x| f32::from_le_bytes(x))
            .collect())
    }
}

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
/// When the made bytes have another digest than `weights.json` says.
pub(crate) fn filled(case: &Path, scratch: &Path) -> anyhow::Result<PathBuf> {
    if case.join("model.safetensors").is_file() {
        return Ok(case.to_owned());
    }
    let weights: Weights = serde_json::from_slice(&read(&case.join("weights.json"))?)?;
    let mut hasher = Hasher::new();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, filling) in &weights.tensors {
        let start = data.len();
        let elements: u64 = filling.shape.iter().product();
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
    fs::copy(case.join("config.json"), scratch.join("config.json"))?;
    Ok(scratch.to_owned())
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

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file =
        fs::File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    ensure!(file.metadata()?.len() <= FILE_BYTES_MAX, "{} is too large", path.display());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut bytes)?;
    Ok(bytes)
}
