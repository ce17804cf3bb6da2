//! `./x parity`: our forward passes beside reference outputs of transformers.
//!
//! A case is a folder with `config.json`, `expected.safetensors` and either `model.safetensors` or
//! `weights.json`, from which the weights follow (`tests/fixtures/parity/README.md` has the formula).

// The places are given because tests of other packages take this file in.
#[path = "parity/expected.rs"]
mod expected;
#[path = "parity/weights.rs"]
mod weights;

use std::{fs, io::Write, path::Path};

use anyhow::{Context, bail, ensure};
use cloister_domain::{SequenceId, TokenCount, TokenId};
use cloister_model::{Backend, Decoder, Encoder, Options, Text};
use cloister_schedule::{Chunk, Forward, Wanted};
use expected::{Continuation, Expected, Hidden};
pub(crate) use weights::filled;

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
    match expected {
        Expected::Continuation(expected) => decoder(&model, &options, &expected),
        Expected::Hidden(expected) => encoder(&model, &options, &expected),
        Expected::Scores => {
            // A family that is not supported is named first.
            Encoder::load(&model, &options).map_err(named)?;
            bail!("only embeddings and decoders are compared")
        }
    }
}

fn decoder(model: &Path, options: &Options, expected: &Continuation) -> anyhow::Result<Outcome> {
    let mut decoder = Decoder::load(model, options).map_err(named)?;
    let vocabulary = usize::try_from(decoder.facts().vocabulary)?;
    ensure!(
        vocabulary == expected.vocabulary,
        "the model has {vocabulary} logits a token, {} are expected",
        expected.vocabulary
    );
    let (prompt, greedy) = (&expected.prompt, &expected.greedy);
    let sequence = SequenceId(1);
    let tokens = u32::try_from(prompt.len() + greedy.len()).context("there are too many tokens")?;
    decoder.open(sequence, TokenCount(tokens)).map_err(named)?;
    // In two uneven pieces, so that the cache is read as well as written; the first is empty when the
    // prompt has only one or two tokens.
    let (first, second) = prompt.split_at(prompt.len() / 3);
    let mut logits = Vec::new();
    for tokens in [first, second].into_iter().filter(|tokens| !tokens.is_empty()) {
        let chunk = Chunk { sequence, tokens, wanted: Wanted::All };
        logits.extend(decoder.forward(&[chunk]).map_err(named)?.rows().flatten());
    }
    let error = relative_error(&logits, &expected.logits)?;
    let last = logits.chunks_exact(vocabulary).last().context("no logits")?;
    let mut continuation = vec![likeliest(last)?];
    while continuation.len() < greedy.len() {
        let tokens = &continuation[continuation.len() - 1..];
        let chunk = Chunk { sequence, tokens, wanted: Wanted::Last };
        let logits = decoder.forward(&[chunk]).map_err(named)?;
        continuation.push(likeliest(logits.rows().next().context("no logits")?)?);
    }
    Ok(Outcome { error, greedy: Some(continuation == *greedy) })
}

fn encoder(model: &Path, options: &Options, expected: &Hidden) -> anyhow::Result<Outcome> {
    let encoder = Encoder::load(model, options).map_err(named)?;
    let width = usize::try_from(encoder.facts().width)?;
    ensure!(
        width == expected.width,
        "the model is {width} numbers wide, {} are expected",
        expected.width
    );
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for text in &expected.texts {
        theirs.extend(&text.hidden);
        let text = Text { tokens: &text.tokens, segments: &text.segments };
        ours.extend(encoder.hidden(&[text]).map_err(named)?.concat());
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
    ensure!(largest > 0.0, "every expected value is zero");
    // NaN must not pass as small: f64::max ignores it. What is expected was checked when it was read.
    ensure!(ours.iter().all(|x| x.is_finite()), "a value is not finite");
    Ok(difference.fold(0.0, f64::max) / largest)
}

fn likeliest(logits: &[f32]) -> anyhow::Result<TokenId> {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).context("no logits")?;
    Ok(TokenId(u32::try_from(best.0)?))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file =
        fs::File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    ensure!(file.metadata()?.len() <= FILE_BYTES_MAX, "{} is too large", path.display());
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_BYTES_MAX), &mut bytes)?;
    Ok(bytes)
}
